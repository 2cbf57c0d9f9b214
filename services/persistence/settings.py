"""Persistence's own settings."""

from typing import ClassVar

from pydantic import Field

from libs.common.settings import Port, Settings


class PersistenceSettings(Settings):
    service: ClassVar[str] = "persistence"

    persistence_http_port: Port = Field(8083, description="/livez, /readyz, /metrics")
    persistence_partition: int = Field(0, ge=0, description="the stream this process writes")
