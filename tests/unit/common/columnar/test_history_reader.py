"""Ticks of any day at any age: however they are spread over tiers, the answer is that of a plain sort."""

import contextlib
import shutil
import tempfile
from pathlib import Path

import pytest
from columnar_days import DAY, EVER, MIDNIGHT, NOW, SYMBOLS, in_order, plain, tick, ticks
from hypothesis import given, settings
from hypothesis import strategies as st

from libs.common.domain.moment import NS_PER_DAY, day_name
from libs.common.store import Batch, DayFile, Layout
from libs.common.store.columnar import Damaged
from libs.common.store.history import HistoryReader, Query
from libs.common.store.tiers import ColdStorage, TierDay, amend_day, archive_day, compress_day, extras, seal_day

STAGES = ("open", "closed", "sealed", "amended", "compressed", "archived", "cold")


def write(path, rows, *, close, closed=None):
    file = DayFile(path, closed=closed)
    file.write(Batch(ticks=rows, watermarks={"LP1": 7}))
    (file.close_day if close else lambda _: file.close())(NOW)


def put(folder: Path, day: int, own, late, stage: str, partition: int | None = None) -> None:
    """A day in its stage. `late` is amended in from that stage on; before, and of a sealed day, it is still beside."""
    layout = Layout.of(folder, partition)
    one = TierDay(day, "" if partition is None else f".p{partition:02d}", folder)
    write(layout.day(day), own, close=stage != "open")
    if stage == "open":
        return
    if late:
        write(layout.late(day), late, close=False, closed=layout.day(day))
    reached = STAGES.index(stage)
    cold = ColdStorage((folder / "cold").as_uri())
    if reached >= STAGES.index("sealed"):
        seal_day(one, NOW)
    if reached >= STAGES.index("amended"):
        for extra in extras(one):
            amend_day(one, extra, NOW, cold)
    if reached >= STAGES.index("compressed"):
        compress_day(one)
    if reached >= STAGES.index("archived"):
        archive_day(one, cold)
    if stage == "cold":
        for path in one.parquet():
            path.unlink()


@st.composite
def stores(draw):
    """Days of ticks, some of them in two numbers of partitions, each file with its stage; of each tick whether it came late."""
    files = []
    for number in range(draw(st.integers(1, 3))):
        rows = draw(ticks(DAY + number, rows_max=30))
        moved = [draw(st.booleans()) for _ in rows] if draw(st.booleans()) else [False] * len(rows)
        for partition in (None, 1):
            own = [row for row, is_moved in zip(rows, moved, strict=True) if is_moved == (partition is not None)]
            stage = draw(st.sampled_from(STAGES))
            late = [stage != "open" and draw(st.booleans()) for _ in own]
            if own:
                files.append((DAY + number, partition, own, late, stage))
    return files


questions = st.builds(
    Query,
    st.sampled_from([("EUR/USD",), ("EUR/USD", "XAU/USD"), SYMBOLS]),
    st.sampled_from([EVER[0], MIDNIGHT, MIDNIGHT + 20_000_000, MIDNIGHT + NS_PER_DAY + 1]),
    st.sampled_from([EVER[1], MIDNIGHT + NS_PER_DAY, MIDNIGHT + 2 * NS_PER_DAY - 1, MIDNIGHT + 1]),
    st.sampled_from([None, ("LP1",), ("lp", "LP2", "nobody")]),
    exclude=st.sampled_from([0, 0, 4, 255]),
    known_at=st.sampled_from([None, None, MIDNIGHT + 1_000_000_000, MIDNIGHT + NS_PER_DAY]),
    descending=st.booleans(),
)


def known(row, known_at):
    return known_at is None or (row[2] if row[4] is None else row[4]) <= known_at


def expected(rows, query):
    found = [
        row
        for row in rows
        if row[0] in query.symbols
        and query.start <= row[2] < query.end
        and (query.providers is None or row[1] in query.providers)
        and not row[9] & query.exclude
        and known(row, query.known_at)
    ]
    found = in_order(found, query.symbols)
    return found[::-1] if query.descending else found


@contextlib.contextmanager
def filled(days):
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for day, partition, rows, late, stage in days:
            own = [row for row, is_late in zip(rows, late, strict=True) if not is_late]
            put(folder, day, own, [row for row, is_late in zip(rows, late, strict=True) if is_late], stage, partition)
        yield folder


@given(days=stores(), query=questions, batch_rows=st.integers(1, 9), data=st.data())
@settings(max_examples=30, deadline=None)
def test_any_split_over_tiers_gives_the_answer_of_a_plain_sort(days, query, batch_rows, data):
    everything = [row for _, _, rows, _, _ in days for row in rows]
    right = expected(everything, query)
    with filled(days) as folder, HistoryReader(folder, cold=ColdStorage((folder / "cold").as_uri()), piece_rows=8) as reader:
        batches = list(reader.read(query, batch_rows=batch_rows))
        assert plain(batches) == right
        assert all(0 < batch.num_rows <= batch_rows and batch.schema == query.schema for batch in batches)
        rows = data.draw(st.integers(0, 12))
        oldest_first = right[::-1] if query.descending else right
        assert plain(reader.last(query, rows)) == (oldest_first[-rows:] if rows else [])
        if len(query.symbols) == 1:
            page = reader.page(query, rows + 1)
            assert (plain(page.ticks), page.more) == (right[: rows + 1], len(right) > rows + 1)
            if right:
                at = data.draw(st.integers(0, len(right) - 1))
                _, provider, ts, seq, *_ = right[at]
                page = reader.page(query, rows + 1, after=(ts, provider, seq))
                assert plain(page.ticks) == right[at + 1 : at + rows + 2]


@given(days=stores(), symbol=st.sampled_from(SYMBOLS), data=st.data())
@settings(max_examples=20, deadline=None)
def test_what_stood_at_a_time_is_the_last_tick_of_each_provider(days, symbol, data):
    everything = [row for _, _, rows, _, _ in days for row in rows]
    at = data.draw(st.sampled_from([row[2] for row in everything]).flatmap(lambda ts: st.integers(ts - 1, ts + 1)))
    known_at = data.draw(st.one_of(st.none(), st.sampled_from([MIDNIGHT + 1_000_000, at, at + NS_PER_DAY])))
    of_each = {}
    for row in in_order([row for row in everything if row[0] == symbol]):
        if row[2] <= at and known(row, known_at) and (known_at is None or row[2] <= known_at + 3_600 * 10**9):
            of_each[row[1]] = row
    right = sorted(of_each.values(), key=lambda row: (row[2], row[1]))
    with filled(days) as folder, HistoryReader(folder, cold=ColdStorage((folder / "cold").as_uri())) as reader:
        assert plain(reader.as_of(symbol, at, known_at=known_at)) == right


@given(days=stores())
@settings(max_examples=30, deadline=None)
def test_the_overview_counts_each_tick_once_and_names_the_state(days):
    with filled(days) as folder, HistoryReader(folder, cold=ColdStorage((folder / "cold").as_uri())) as reader:
        overview = reader.overview()
        again = reader.overview()
    assert (overview.left_out, again) == (set(), overview)
    for day in {day for day, *_ in days}:
        of_day = [file for file in overview.files if file.day == day]
        rows = [row for other, _, rows, _, _ in days if other == day for row in rows]
        assert sum(line.stored for file in of_day for line in file.account) == len(rows)
        stages = [(STAGES.index(stage), any(late)) for other, _, _, late, stage in days if other == day]
        shown = {{"amended": "sealed", "cold": "archived"}.get(STAGES[stage], STAGES[stage]) for stage, _ in stages}
        assert {file.state for file in of_day} == shown
        amended = any(stage >= STAGES.index("amended") and late for stage, late in stages)
        sealed = any(stage >= STAGES.index("sealed") for stage, _ in stages)
        assert max(file.generation for file in of_day) == (2 if amended else 1 if sealed else 0)
        for symbol in SYMBOLS:
            of_symbol = [row[2] for row in rows if row[0] == symbol]
            spans = [file.spans[symbol] for file in of_day if symbol in file.spans]
            assert bool(spans) == bool(of_symbol)
            if spans:
                assert (min(first for first, _ in spans), max(last for _, last in spans)) == (min(of_symbol), max(of_symbol))


def test_a_day_file_begun_anew_for_a_compressed_day_is_read_with_it(tmp_path):
    rows = [tick(seq, ts=MIDNIGHT + seq) for seq in range(6)]
    put(tmp_path, DAY, rows[:4], [], "compressed")
    write(Layout(tmp_path).day(DAY), rows[4:], close=False)
    with HistoryReader(tmp_path) as reader:
        assert plain(reader.read(Query(("EUR/USD",), *EVER))) == rows
        assert sum(line.stored for file in reader.overview().files for line in file.account) == 6


def test_what_is_fetched_from_cold_storage_is_bounded_and_fetched_again_when_it_has_gone(tmp_path):
    rows = [tick(seq, ts=MIDNIGHT + seq * NS_PER_DAY) for seq in range(4)]
    for seq, row in enumerate(rows):
        put(tmp_path, DAY + seq, [row], [], "cold")
    cache = tmp_path / "cache" / "cold"
    query = Query(("EUR/USD",), *EVER)
    with HistoryReader(tmp_path, cold=ColdStorage((tmp_path / "cold").as_uri()), cache_bytes_max=10_000) as reader:
        for _ in range(2):
            assert plain(reader.read(query)) == rows
            assert sum(path.stat().st_size for path in cache.iterdir()) <= 10_000
        shutil.rmtree(cache)
        assert plain(reader.read(query)) == rows
    with HistoryReader(tmp_path) as reader, pytest.raises(Damaged):
        plain(reader.read(query))


def test_what_cold_storage_gives_back_with_another_bit_costs_its_day(tmp_path):
    rows = [tick(seq, ts=MIDNIGHT + seq * NS_PER_DAY) for seq in range(2)]
    for seq, row in enumerate(rows):
        put(tmp_path, DAY + seq, [row], [], "cold")
    (path,) = (tmp_path / "cold").rglob(f"ticks_{day_name(DAY)}.parquet")
    content = bytearray(path.read_bytes())
    content[20] ^= 1
    path.write_bytes(content)
    left_out: set[int] = set()
    with HistoryReader(tmp_path, cold=ColdStorage((tmp_path / "cold").as_uri())) as reader:
        assert plain(reader.read(Query(("EUR/USD",), *EVER), left_out=left_out)) == rows[1:]
        assert left_out == {DAY}
    assert not list((tmp_path / "cache").rglob("*.partial"))
