"""Settings come from `TICKVAULT_…` environment variables; each service extends `Settings` with its own.

A name without a service in it is shared and stands here. A name with one (`TICKVAULT_GATEWAY_…`) stands in that service's
settings.py. A name nobody knows stops the service that reads it: a misspelt retention must not pass unnoticed.
"""

import os
from pathlib import Path
from typing import Annotated, ClassVar, Literal, Self, TypeVar

from pydantic import Field, SecretStr, ValidationError, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

PREFIX = "TICKVAULT_"
SERVICES = ("gateway", "persistence", "lifecycle", "distribution", "admin", "simulator")

Port = Annotated[int, Field(ge=0, le=65535)]


S = TypeVar("S", bound="Settings")


class SettingsError(Exception):
    """The environment cannot be used as it is; the text names the variable and what to do."""


class Settings(BaseSettings):
    """What every service shares."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, extra="forbid", validate_default=True)
    service: ClassVar[str] = ""

    redis_url: SecretStr = Field(SecretStr("redis://127.0.0.1:6379/0"), description="the bus; it must not evict keys")
    data_dir: Path = Field(Path("data"), description="journals and the store")
    feeds_file: Path = Field(Path("feeds.toml"), description="the sessions with liquidity providers")
    partitions: int = Field(1, ge=1, le=64, description="streams the symbols are spread over; changed only on drained streams")
    stream_replay_hours: float = Field(26, ge=0, description="how long durable entries stay in the stream")
    stream_bytes_max: int = Field(
        2_000_000_000, ge=1_000_000, description="a stream larger than this is trimmed to what is not yet durable"
    )
    journal_fsync_ms: int = Field(200, ge=1, description="a power loss may take the journal's last this many ms")
    journal_keep_days: float = Field(7, ge=0, description="how long durable journal segments are kept, compressed")
    rotate_grace_s: float = Field(300, ge=0, description="a day closes this long after midnight UTC and after its last tick")
    storage_backend: Literal["sqlite", "json", "dual"] = Field(
        "sqlite", description="json and dual: persistence writes legacy JSON too, for the time of a migration"
    )
    amend_quiet_s: float = Field(900, ge=0, description="late ticks are made part of their day after none has come for this long")
    compress_after_days: int = Field(7, ge=1, description="a sealed day is compressed at this age")
    archive_after_days: int = Field(31, ge=1, description="a compressed day goes to cold storage at this age")
    retain_days: int = Field(184, ge=1, le=2_557, description="a day older than this is deleted from every tier")
    cold_url: str = Field("", description="cold storage: file:///folder or s3://bucket/prefix; empty: nothing is archived")
    backup_url: str = Field("", description="backups: file:///folder or s3://bucket/prefix; empty: none are made")
    http_host: str = Field("127.0.0.1", description="the address every service's HTTP port listens on")

    @model_validator(mode="after")
    def _refuse_unknown_names(self) -> Self:
        own = {f"{PREFIX}{field}".upper() for field in type(self).model_fields}
        for name in os.environ:
            if not name.startswith(PREFIX) or name in own:
                continue
            other = name.removeprefix(PREFIX).split("_", 1)[0].lower()
            if other not in SERVICES or other == self.service:
                raise ValueError(f"{name} is not a setting of TickVault: correct or unset it (README lists the names)")
        return self


def load(kind: type[S]) -> S:
    """The settings of one service, or a SettingsError an operator can act on."""
    try:
        return kind()
    except ValidationError as error:
        lines = [
            f"{PREFIX}{'_'.join(map(str, item['loc'])).upper()}: {item['msg']}" if item["loc"] else item["msg"]
            for item in error.errors(include_url=False, include_input=False)
        ]
        raise SettingsError("\n".join(lines)) from None
