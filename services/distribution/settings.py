"""What can be set for distribution beyond what all services share."""

from typing import ClassVar

from pydantic import Field

from libs.common.settings import Port, Settings
from libs.common.store.history import CACHE_BYTES_MAX


class DistributionSettings(Settings):
    service: ClassVar[str] = "distribution"

    distribution_http_port: Port = Field(8080, description="REST for clients; also /livez, /readyz, /metrics")
    distribution_cold_cache_bytes_max: int = Field(
        CACHE_BYTES_MAX, ge=0, description="files brought back from cold storage are kept up to this size, in data/cache"
    )
