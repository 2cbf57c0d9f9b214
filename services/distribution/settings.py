"""What can be set for distribution beyond what all services share."""

from typing import ClassVar

from pydantic import Field

from libs.common.settings import Port, Settings


class DistributionSettings(Settings):
    service: ClassVar[str] = "distribution"

    distribution_http_port: Port = Field(8080, description="REST for clients; also /livez, /readyz, /metrics")
