"""Lifecycle's own settings."""

from pathlib import Path
from typing import ClassVar, Self

from pydantic import Field, model_validator

from libs.common.settings import Port, Settings
from libs.common.store.tiers import RESERVE_BYTES


class LifecycleSettings(Settings):
    service: ClassVar[str] = "lifecycle"

    lifecycle_http_port: Port = Field(8084, description="/livez, /readyz, /metrics")
    lifecycle_interval_s: float = Field(60, gt=0, description="how often the schedule looks for what is due")
    lifecycle_retention_file: Path | None = Field(
        None, description="TOML or JSON: symbols that are kept longer or shorter, and legal holds"
    )
    lifecycle_disk_reserve_bytes: int = Field(
        RESERVE_BYTES, ge=0, description="sealing and compressing leave this much of the disk to capture"
    )
    lifecycle_linger_s: float = Field(3_600, ge=0, description="how long the files of an earlier generation stay readable")

    @model_validator(mode="after")
    def _ages_rise(self) -> Self:
        if self.archive_after_days < self.compress_after_days:
            raise ValueError("TICKVAULT_ARCHIVE_AFTER_DAYS is less than TICKVAULT_COMPRESS_AFTER_DAYS: raise it")
        return self
