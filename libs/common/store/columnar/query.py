"""What can be asked of sealed days, and what the answer's columns are."""

from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import pyarrow as pa

from libs.common.domain.errors import Rejected
from libs.common.store.columnar.schema import PRICE, TIME

Prices = Literal["int64", "decimal"]

COLUMNS = ("symbol", "provider", "ts", "seq", "recv_ts", "bid", "ask", "bid_size", "ask_size", "flags")
_NAME = pa.dictionary(pa.int32(), pa.string())
_TYPES = {
    "symbol": _NAME, "provider": _NAME, "ts": TIME, "seq": pa.int64(), "recv_ts": TIME, "bid": pa.int64(), "ask": pa.int64(),
    "bid_size": pa.float64(), "ask_size": pa.float64(), "flags": pa.int32(),
}  # fmt: skip
_REQUIRED = ("symbol", "provider", "ts", "seq", "flags")


@dataclass(frozen=True, slots=True)
class Query:
    """Ticks of `symbols` with start <= ts < end (ns), of `providers` or of all.

    `exclude`: flags that a tick must not carry. `known_at` (ns): only what had been received by then; a tick without recv_ts, an
    import, counts as received at its ts. `prices`: int64 in 1e-9, or decimal128(18, 9). Each symbol and provider that is asked
    for at once costs the memory of a row group or two, 5 MB at most.
    """

    symbols: tuple[str, ...]
    start: int
    end: int
    providers: tuple[str, ...] | None = None
    columns: tuple[str, ...] = COLUMNS
    prices: Prices = "int64"
    exclude: int = 0
    known_at: int | None = None
    descending: bool = False

    @property
    def schema(self) -> pa.Schema:
        """Of the batches. Rejected: there is no such column."""
        return _schema(self.columns, self.prices)

    @property
    def stored_columns(self) -> list[str]:
        """The columns of the file that the answer is made of."""
        wanted: list[str] = [name for name in ("bid", "ask", "bid_size", "ask_size") if name in self.columns]
        if "recv_ts" in self.columns or self.known_at is not None:
            wanted.append("recv_delay_us")
        if "flags" in self.columns or self.exclude:
            wanted.append("flags")
        return ["ts", "ts_sub_ms", "seq", *wanted]


@lru_cache(64)
def _schema(columns: tuple[str, ...], prices: Prices) -> pa.Schema:
    if unknown := [name for name in columns if name not in _TYPES]:
        raise Rejected(f"no column {', '.join(unknown)}: there are {', '.join(COLUMNS)}")
    return pa.schema([_field(name, prices) for name in columns])


def _field(name: str, prices: Prices) -> pa.Field:
    if name not in ("bid", "ask"):
        return pa.field(name, _TYPES[name], nullable=name not in _REQUIRED)
    if prices == "decimal":
        return pa.field(name, PRICE)
    return pa.field(name, pa.int64(), metadata={"unit": "1e-9"})
