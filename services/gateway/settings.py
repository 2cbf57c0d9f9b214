"""The gateway's own settings."""

from typing import ClassVar

from pydantic import Field

from libs.common.settings import Port, Settings
from services.gateway.journal import SEGMENT_BYTES


class GatewaySettings(Settings):
    service: ClassVar[str] = "gateway"

    gateway_http_port: Port = Field(8082, description="/livez, /readyz, /metrics, POST /v1/pipeline/sink/tick")
    gateway_segment_bytes: int = Field(
        SEGMENT_BYTES, ge=65_536, description="a journal segment of this size is followed by a new one; a start replays one"
    )
