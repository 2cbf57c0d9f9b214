"""The simulator's own settings; what describes the market and the session are command line options."""

from typing import ClassVar

from pydantic import Field

from libs.common.settings import Port, Settings


class SimulatorSettings(Settings):
    service: ClassVar[str] = "simulator"

    simulator_http_port: Port = Field(8085, description="/livez, /readyz, /metrics and POST /faults/{kind}")
