"""Whatever persistence can write comes back from every tier, field by field, however late it came."""

import shutil
import tempfile
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from libs.common.domain.moment import NS_PER_DAY
from libs.common.store import Batch, DayFile
from libs.common.store.tiers import (
    ColdStorage,
    TierDay,
    amend_day,
    archive_day,
    compress_day,
    plain_day,
    seal_day,
    verify_all,
)
from tests.unit.lifecycle.days import DAY, NOW, late_ticks, rows_of, ticks_of

SYMBOLS, PROVIDERS = ("A", "EUR/USD", "XAU/USD"), ("LP1", "LP2")
PRICE = st.one_of(st.none(), st.integers(1, 10**18 - 1), st.just(1_085_120_000))
SIZE = st.one_of(st.none(), st.floats(0, 1e12), st.just(1e6))
INSTANT = st.one_of(st.integers(0, NS_PER_DAY - 1), st.sampled_from([0, NS_PER_DAY - 1, 999_999, 1_000_000]))
QUOTE = st.tuples(st.sampled_from(SYMBOLS), st.sampled_from(PROVIDERS), INSTANT, PRICE, PRICE, SIZE, SIZE, st.integers(0, 255))


def numbered(quotes: list[tuple], first: int) -> list[tuple]:
    """Each symbol and provider 0, 1, 2 … ; from `first` on for what comes late."""
    next_seq: dict[tuple[str, str], int] = {}
    ticks = []
    for symbol, provider, instant, *rest in quotes:
        seq = next_seq.get((symbol, provider), first)
        next_seq[symbol, provider] = seq + 1
        ts = DAY * NS_PER_DAY + instant
        ticks.append((symbol, provider, ts, seq, ts // 1000 * 1000 + 3_000, *rest))
    return ticks


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.lists(QUOTE, max_size=60), st.lists(QUOTE, max_size=20), st.lists(QUOTE, max_size=20),
    st.sampled_from(["sealed", "compressed", "archived"]),
)  # fmt: skip
def test_what_was_written_comes_back(on_time: list, late: list, later: list, tier: str) -> None:
    folder = Path(tempfile.mkdtemp(prefix="tiers"))
    try:
        parts = [numbered(quotes, first) for first, quotes in enumerate((on_time, late, later))]
        parts = [[(*tick[:3], tick[3] * 3 + at, *tick[4:]) for tick in part] for at, part in enumerate(parts)]
        day, cold = TierDay(DAY, "", folder / "data"), ColdStorage((folder / "cold").as_uri())
        written(day.db, parts[0])
        seal_day(day, NOW)
        late_ticks(day, Batch(ticks=parts[1]))
        amend_day(day, day.late, NOW, None)
        if tier != "sealed":
            compress_day(day)
        if tier == "archived":
            archive_day(day, cold)
        late_ticks(day, Batch(ticks=parts[2]))
        amend_day(day, day.late, NOW, cold)
        if day.state() == "sealed":
            compress_day(day)
        if day.state() == "compressed":
            archive_day(day, cold)
        written(folder / "all.db", [tick for part in parts for tick in part])
        assert rows_of(plain_day(day, cold))["ticks"] == rows_of(folder / "all.db")["ticks"]
        assert len(ticks_of(day.data_dir, symbols=SYMBOLS)) == sum(map(len, parts))
        assert verify_all(day.data_dir, cold).problems == []
    finally:
        shutil.rmtree(folder)


def written(path: Path, ticks: list[tuple]) -> None:
    file = DayFile(path)
    file.write(Batch(ticks=ticks))
    file.close_day(DAY * NS_PER_DAY + NS_PER_DAY)
