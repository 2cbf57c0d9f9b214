"""The gateway's own settings."""

from typing import ClassVar

from pydantic import Field

from libs.common.settings import Port, Settings


class GatewaySettings(Settings):
    service: ClassVar[str] = "gateway"

    gateway_http_port: Port = Field(8082, description="/livez, /readyz, /metrics")
