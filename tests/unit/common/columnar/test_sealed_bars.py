"""M1 bars of bid and of ask: any split of the ticks gives the same, and real ticks give the vendors' own."""

import csv
import io
import os
import zipfile
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from columnar_days import MIDNIGHT, ticks
from hypothesis import given, settings
from hypothesis import strategies as st

from libs.common.domain.price import parse_price
from libs.common.store.columnar.bars import NS_PER_MINUTE, Bars

DATA = Path(os.environ.get("TICKVAULT_TEST_DATA") or Path(__file__).resolve().parents[5] / "shared" / "data") / "lean"
OFFSET_H = {"oanda": 0, "fxcm": 5}  # FXCM's days begin at 05:00 UTC


def folded(*chunks) -> list[dict]:
    bars = Bars()
    for rows in chunks:
        bars.update(*(pa.array([row[at] for row in rows], pa.int64()) for at in (2, 5, 6)))
    return pa.table(bars.columns()).to_pylist()


@settings(deadline=None)
@given(rows=ticks(), cuts=st.lists(st.integers(0, 60), max_size=4))
def test_any_split_of_the_ticks_gives_the_bars_of_their_minutes(rows, cuts) -> None:
    rows = sorted((row for row in rows), key=lambda row: (row[2], row[3]))
    edges = [0, *sorted(cuts), len(rows)]
    found = folded(*(rows[start:end] for start, end in pairwise(edges)))
    expected = []
    for minute in sorted({row[2] // NS_PER_MINUTE for row in rows}):
        of_minute = [row for row in rows if row[2] // NS_PER_MINUTE == minute]
        bar = {"ts": minute * NS_PER_MINUTE}
        for side, at in (("bid", 5), ("ask", 6)):
            prices = [row[at] for row in of_minute if row[at] is not None]
            ohlc = (prices[0], max(prices), min(prices), prices[-1]) if prices else (None,) * 4
            names = ("open", "high", "low", "close", "ticks")
            bar |= {f"{side}_{name}": value for name, value in zip(names, (*ohlc, len(prices)), strict=True)}
        expected.append(bar)
    assert found == [bar for bar in expected if bar["bid_ticks"] or bar["ask_ticks"]]


def test_a_minute_without_a_side_has_no_prices_of_it() -> None:
    (bar,) = folded([("", "", MIDNIGHT, 0, None, None, 7)])
    assert (bar["bid_open"], bar["bid_ticks"], bar["ask_open"], bar["ask_ticks"]) == (None, 0, 7, 1)


@pytest.mark.skipif(not DATA.exists(), reason=f"the real market data is not here ({DATA}); set TICKVAULT_TEST_DATA to its folder")
@pytest.mark.parametrize("vendor", OFFSET_H)
def test_bars_of_real_ticks_are_the_vendors_own(vendor: str) -> None:
    for day in ("20140501", "20140508"):
        path = DATA / vendor / "tick/eurusd" / f"{day}_quote.zip"
        minutes = {row[0]: (row[1:5], row[6:10]) for row in rows_of(DATA / vendor / "minute/eurusd" / path.name, vendor)}
        rows = rows_of(path, vendor)
        bars = Bars()
        bars.update(*(pa.array(np.array([row[at] for row in rows], np.int64)) for at in range(3)))
        found = pa.table(bars.columns()).to_pylist()
        assert {
            bar["ts"]: tuple(tuple(bar[f"{side}_{name}"] for name in ("open", "high", "low", "close")) for side in ("bid", "ask"))
            for bar in found
        } == minutes


def rows_of(path: Path, vendor: str) -> list[tuple[int, ...]]:
    """Time in ns, then prices in 1e-9."""
    day = datetime.strptime(path.name[:8], "%Y%m%d").replace(tzinfo=UTC)
    start_ms = int(day.timestamp()) * 1000 + OFFSET_H[vendor] * 3_600_000
    with zipfile.ZipFile(path) as archive:
        text = archive.read(archive.namelist()[0]).decode()
    return [
        ((start_ms + int(ms)) * 1_000_000, *(parse_price(price.encode()) for price in prices))
        for ms, *prices in csv.reader(io.StringIO(text))
    ]
