"""M1 bars of bid and of ask, folded from ticks in order of (ts, seq), one series at a time.

A minute starts at a whole UTC minute and includes it. A tick counts for each side that it has: one that is one-sided, for one
side only. Crossed, locked, late and spike ticks count like any other: odd is not wrong, and vendors' own bars hold them too.
A minute without ticks has no bar; a side without ticks in a minute has null prices and 0 ticks.
"""

from typing import NamedTuple

import numpy as np
import pyarrow as pa

from libs.common.domain.moment import NS_PER_S
from libs.common.store.columnar.arrays import Int64s, int64s, is_valid, wrapped

NS_PER_MINUTE = 60 * NS_PER_S
OHLC_TICKS = ("open", "high", "low", "close", "ticks")


class _Side(NamedTuple):
    """Bars of one side, oldest first; all arrays of one length. Prices in 1e-9, minutes since the epoch."""

    minute: Int64s
    open: Int64s
    high: Int64s
    low: Int64s
    close: Int64s
    ticks: Int64s


class Bars:
    """The bars of one series: fed with its ticks in chunks of any length, which give the same bars."""

    def __init__(self) -> None:
        self._sides: dict[str, list[_Side]] = {"bid": [], "ask": []}

    def update(self, ts: pa.Array, bid: pa.Array, ask: pa.Array) -> None:
        """Append ticks: ts int64 ns, prices int64 in 1e-9; nulls are absent sides."""
        minute = int64s(ts) // NS_PER_MINUTE
        for side, prices in (("bid", bid), ("ask", ask)):
            valid = is_valid(prices)
            price = int64s(prices)[valid]
            self._sides[side].append(_fold(_Side(minute[valid], price, price, price, price, np.ones(len(price), np.int64))))

    def columns(self) -> dict[str, pa.Array]:
        """`ts` (int64 ns) and, of each side, open, high, low, close (int64 in 1e-9) and ticks."""
        sides = {side: _fold(_Side(*map(np.concatenate, zip(*parts, strict=True)))) for side, parts in self._sides.items()}
        minutes = np.union1d(sides["bid"].minute, sides["ask"].minute)
        columns = {"ts": wrapped(minutes * NS_PER_MINUTE, pa.int64())}
        for side, bars in sides.items():
            at = np.searchsorted(minutes, bars.minute)
            valid = np.zeros(len(minutes), np.bool_)
            valid[at] = True
            for name in OHLC_TICKS:
                column = np.zeros(len(minutes), np.int64)
                column[at] = getattr(bars, name)
                columns[f"{side}_{name}"] = wrapped(column, pa.int64(), None if name == "ticks" else valid)
        return columns


def _fold(parts: _Side) -> _Side:
    """Bars or ticks in order of time to one bar a minute."""
    if not len(parts.minute):
        return parts
    starts = np.flatnonzero(np.diff(parts.minute, prepend=parts.minute[0] - 1))
    ends = np.append(starts[1:], len(parts.minute)) - 1
    return _Side(
        parts.minute[starts],
        parts.open[starts],
        np.maximum.reduceat(parts.high, starts),
        np.minimum.reduceat(parts.low, starts),
        parts.close[ends],
        np.add.reduceat(parts.ticks, starts),
    )
