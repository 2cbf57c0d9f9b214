"""Lifecycle's own settings, and those of the tiers."""

from pathlib import Path
from typing import ClassVar, Self

from pydantic import Field, model_validator

from libs.common.settings import Port, Settings
from libs.common.store.tiers import RESERVE_BYTES, RETAIN_DAYS


class LifecycleSettings(Settings):
    service: ClassVar[str] = "lifecycle"

    cold_url: str = Field("", description="cold storage: file:///folder or s3://bucket/prefix; empty: nothing is archived")
    backup_url: str = Field("", description="backups: file:///folder or s3://bucket/prefix; empty: none are made")
    compress_after_days: int = Field(7, ge=1, description="a sealed day is compressed at this age")
    archive_after_days: int = Field(31, ge=1, description="a compressed day goes to cold storage at this age")
    retain_days: int = Field(RETAIN_DAYS, ge=1, le=2_557, description="a day older than this is deleted from every tier")
    amend_quiet_s: float = Field(900, ge=0, description="late ticks are made part of their day after none has come for this long")
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
