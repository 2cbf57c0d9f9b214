"""The liquidity provider: what all its sessions share, and the way to one client."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol

from services.simulator.ledger import Ledger
from services.simulator.market.quote import Quote

Fix = Literal["FIX.4.2", "FIX.4.4", "FIX.5.0SP2"]
Resend = Literal["full", "gapfill"]
StreamKind = Literal["market_data", "quote", "mass_quote"]
DepthBy = Literal["id", "position", "price"]

APPL_VER_ID = b"9"  # FIX.5.0SP2


class Line(Protocol):
    """The way to the client. Writing never waits; who writes much awaits `drained` before the next batch."""

    @property
    def unsent_bytes(self) -> int: ...

    def write(self, data: bytes) -> None: ...

    def close(self) -> None:
        """What was written still goes out."""

    def abort(self) -> None: ...

    async def drained(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Provider:
    """`snapshot`: the current quote of a symbol, None where there is none yet; clocks are parameters.

    depth above 1: quotes are updates of a book. trades: quotes are updates, some with a trade. listing: symbols are told.
    """

    name: str
    symbols: tuple[bytes, ...]
    snapshot: Callable[[bytes], Quote | None]
    ledger: Ledger
    now_ns: Callable[[], int]
    monotonic_s: Callable[[], float]
    fix: Fix = "FIX.4.4"
    stream: StreamKind = "market_data"
    symbols_per_message: int = 1
    depth: int = 1
    depth_by: DepthBy = "id"
    trades: bool = False
    resend: Resend = "full"
    listing: bool = True
    refused: frozenset[bytes] = frozenset()

    @property
    def begin_string(self) -> bytes:
        return b"FIXT.1.1" if self.fix == "FIX.5.0SP2" else self.fix.encode()
