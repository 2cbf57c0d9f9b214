"""Days as their writer leaves them, and what their sealed form has to say about them."""

import contextlib
import sqlite3
from pathlib import Path

from hypothesis import strategies as st

from libs.common.domain.moment import NS_PER_DAY, NS_PER_US
from libs.common.store import Batch, DayFile, Layout

DAY = 20_000
MIDNIGHT = DAY * NS_PER_DAY
NOW = MIDNIGHT + 2 * NS_PER_DAY
EVER = (-(2**62), 2**62)
TICK = ("symbol", "provider", "ts", "seq", "recv_ts", "bid", "ask", "bid_size", "ask_size", "flags")

_instants = st.one_of(
    st.sampled_from([0, 1, 999_999, 1_000_000, 60_000_000_000, NS_PER_DAY - 1]),
    st.integers(0, 50).map(lambda ms: ms * 1_000_000),
    st.integers(0, NS_PER_DAY - 1),
)
_prices = st.one_of(st.none(), st.sampled_from([1_085_120_000, 1, 10**18 - 1, -37_630_000_000]), st.integers(1, 10**18 - 1))
_sizes = st.one_of(st.none(), st.just(0.0), st.floats(allow_nan=False))
_delays_us = st.one_of(st.none(), st.integers(-3_600_000_000, 10**10))
SYMBOLS = ("EUR/USD", "EURUSD", "XAU/USD")
PROVIDERS = ("LP1", "LP2", "lp", "É")


@st.composite
def ticks(draw, day=DAY, rows_max=60):
    """Rows of a day, no two of one key: crossed, one-sided, without sizes, of one instant, to the ns, imported, known early."""
    keys = draw(
        st.lists(
            st.tuples(st.sampled_from(SYMBOLS), st.sampled_from(PROVIDERS), _instants, st.integers(0, 2**40)),
            min_size=1, max_size=rows_max, unique=True,
        )
    )  # fmt: skip
    rows = []
    for symbol, provider, offset, seq in keys:
        ts = day * NS_PER_DAY + offset
        delay = draw(_delays_us)
        recv_ts = None if delay is None else (ts // NS_PER_US + delay) * NS_PER_US
        fields = (draw(_prices), draw(_prices), draw(_sizes), draw(_sizes), draw(st.integers(0, 255)))
        rows.append((symbol, provider, ts, seq, recv_ts, *fields))
    return rows


def tick(seq=0, *, ts=MIDNIGHT, symbol="EUR/USD", provider="LP1", bid=1_085_120_000, ask=1_085_130_000, flags=0, recv_ts=None):
    return (symbol, provider, ts, seq, ts // 1000 * 1000 + 1000 if recv_ts is None else recv_ts, bid, ask, 1e6, None, flags)


def closed_day(folder: Path, *rows, day=DAY, **batch) -> Path:
    path = Layout(folder).day(day)
    file = DayFile(path)
    file.write(Batch(ticks=list(rows), watermarks={"LP1": 7}, **batch))
    file.close_day(NOW)
    return path


def late_file(folder: Path, *rows, day=DAY, closed=None, **batch) -> Path:
    path = Layout(folder).late(day)
    file = DayFile(path, closed=closed)
    file.write(Batch(ticks=list(rows), watermarks={"LP1": 9}, **batch))
    file.close_day(NOW)
    return path


def fetch(path: Path, sql: str) -> list[tuple]:
    with contextlib.closing(sqlite3.connect(path)) as connection:
        return connection.execute(sql).fetchall()


def stored_ticks(path: Path) -> list[tuple]:
    """What the SQLite file holds, in the order of its readers."""
    return in_order(
        fetch(
            path,
            "SELECT symbol, provider, ts, seq, recv_ts, bid, ask, bid_size, ask_size, flags FROM ticks"
            " JOIN symbols USING (symbol_id) JOIN providers USING (provider_id)",
        )
    )


def in_order(rows, symbols=SYMBOLS):
    return sorted(rows, key=lambda row: (row[2], row[1], row[3], symbols.index(row[0])))


def plain(batches) -> list[tuple]:
    """Arrow batches or a table as rows of plain values, times in ns."""
    tables = batches.to_batches() if hasattr(batches, "to_batches") else batches
    return [row for table in tables for row in zip(*(_values(column) for column in table.columns), strict=True)]


def _values(column):
    return (column.cast("int64") if str(column.type).startswith("timestamp") else column).to_pylist()
