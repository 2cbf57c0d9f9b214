"""Reading sealed days equals filtering and sorting their rows, whatever their files look like."""

import tempfile
from pathlib import Path

import pyarrow as pa
import pytest
from columnar_days import DAY, EVER, MIDNIGHT, NOW, PROVIDERS, SYMBOLS, TICK, closed_day, in_order, late_file, plain, tick, ticks
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from libs.common.domain.errors import Rejected, Retryable
from libs.common.domain.moment import NS_PER_DAY
from libs.common.store import Batch, DayFile, Layout
from libs.common.store.columnar import COLUMNS, Damaged, Query, SealedReader, read_manifest, seal, sealed_days

many = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
subsets = st.lists(st.sampled_from(PROVIDERS), min_size=1, unique=True).map(tuple)
moments = st.integers(MIDNIGHT - 10, MIDNIGHT + 3 * NS_PER_DAY)


@st.composite
def queries(draw):
    return Query(
        tuple(draw(st.lists(st.sampled_from(SYMBOLS), min_size=1, unique=True))),
        draw(st.one_of(st.just(EVER[0]), moments)),
        draw(st.one_of(st.just(EVER[1]), moments)),
        draw(st.one_of(st.none(), subsets)),
        exclude=draw(st.sampled_from([0, 1, 64, 3])),
        known_at=draw(st.one_of(st.none(), moments)),
        descending=draw(st.booleans()),
    )


def known(row, at):
    return at is None or (row[2] if row[4] is None else row[4]) <= at


def expected(rows, query):
    found = [
        row for row in rows
        if row[0] in query.symbols and query.start <= row[2] < query.end and not row[9] & query.exclude
        and (query.providers is None or row[1] in query.providers) and known(row, query.known_at)
    ]  # fmt: skip
    ordered = in_order(found, query.symbols)
    return ordered[::-1] if query.descending else ordered


@many
@given(data=st.data(), query=queries(), row_group_rows=st.sampled_from([2, 5, 64]), piece_rows=st.sampled_from([1, 8, 1000]))
def test_a_range_is_what_was_asked_for_in_order(data, query, row_group_rows, piece_rows) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder, rows = Path(name), []
        for day in (DAY, DAY + 2):
            of_day = data.draw(ticks(day=day))
            seal(folder, closed_day(folder, *of_day, day=day), now=NOW, row_group_rows=row_group_rows)
            rows += of_day
        with SealedReader(folder, piece_rows=piece_rows) as reader:
            batches = list(reader.read(query, batch_rows=7))
            assert plain(batches) == expected(rows, query)
            assert all(0 < batch.num_rows <= 7 for batch in batches)
            newest = expected(rows, query)[: 5 if query.descending else None][-5:]
            assert plain(reader.last(query, 5)) == (newest[::-1] if query.descending else newest)


@many
@given(rows=ticks(), at=moments, known_at=st.one_of(st.none(), moments), row_group_rows=st.sampled_from([2, 64]))
def test_what_stood_at_a_time_is_the_last_tick_of_each_provider(rows, at, known_at, row_group_rows) -> None:
    with tempfile.TemporaryDirectory() as name:
        seal(Path(name), closed_day(Path(name), *rows), now=NOW, row_group_rows=row_group_rows)
        with SealedReader(Path(name)) as reader:
            found = plain(reader.as_of("EUR/USD", at, known_at=known_at))
    last = {row[1]: row for row in in_order(rows) if row[0] == "EUR/USD" and row[2] <= at and known(row, known_at)}
    assert found == in_order(last.values())


def test_what_two_partitions_of_a_day_both_hold_comes_once(tmp_path: Path) -> None:
    rows = [tick(seq, ts=MIDNIGHT + seq // 3) for seq in range(20)]
    for layout, of_file in ((Layout(tmp_path), rows[:15]), (Layout(tmp_path, 0, 2), rows[5:])):
        file = DayFile(layout.day(DAY))
        file.write(Batch(ticks=of_file))
        file.close_day(NOW)
        seal(tmp_path, layout.day(DAY), now=NOW, row_group_rows=4)
    with SealedReader(tmp_path) as reader:
        assert plain(reader.read(Query(("EUR/USD",), *EVER))) == rows


def test_columns_come_as_asked_for_and_prices_as_decimals(tmp_path: Path) -> None:
    seal(tmp_path, closed_day(tmp_path, tick(bid=None, ask=1)), now=NOW)
    with SealedReader(tmp_path) as reader:
        (batch,) = reader.read(Query(("EUR/USD",), *EVER, columns=("ask", "bid", "ts"), prices="decimal"))
        assert batch.schema.types == [pa.decimal128(18, 9), pa.decimal128(18, 9), pa.timestamp("ns", tz="UTC")]
        assert (str(batch[0][0]), batch[1][0].as_py()) == ("1E-9", None)
        with pytest.raises(Rejected, match="no column spread"):
            reader.read(Query(("EUR/USD",), *EVER, columns=("spread",)))
    assert COLUMNS == TICK


def test_batches_make_one_table(tmp_path: Path) -> None:
    for day, provider in ((DAY, "LP2"), (DAY + 1, "LP1")):
        rows = (tick(ts=day * NS_PER_DAY, provider=provider),)
        seal(tmp_path, closed_day(tmp_path, *rows, day=day), now=NOW)
    with SealedReader(tmp_path) as reader:
        query = Query(("EUR/USD",), *EVER)
        table = pa.Table.from_batches(reader.read(query), query.schema)
    assert table["provider"].to_pylist() == ["LP2", "LP1"]
    assert table.unify_dictionaries()["symbol"].to_pylist() == ["EUR/USD"] * 2


def test_an_unknown_symbol_and_an_empty_store_are_answered_with_nothing(tmp_path: Path) -> None:
    with SealedReader(tmp_path) as reader:
        assert list(reader.read(Query(("EUR/USD",), *EVER))) == []
        assert len(reader.last(Query(("EUR/USD",), *EVER), 100)) == 0
        seal(tmp_path, closed_day(tmp_path, tick()), now=NOW)
        assert list(reader.read(Query(("GBP/USD",), *EVER))) == []
        assert len(reader.as_of("GBP/USD", NOW)) == 0
        assert list(reader.read(Query(("EUR/USD",), 5, 5))) == []


def test_a_swap_is_seen_by_the_next_call_and_not_by_one_under_way(tmp_path: Path) -> None:
    rows = [tick(seq, ts=MIDNIGHT + seq) for seq in range(100)]
    path = closed_day(tmp_path, *rows)
    seal(tmp_path, path, now=NOW, row_group_rows=4)
    query = Query(("EUR/USD",), *EVER)
    with SealedReader(tmp_path, piece_rows=4) as reader:
        under_way = reader.read(query)
        first = next(under_way)
        seal(tmp_path, path, late=late_file(tmp_path, tick(100)), now=NOW)
        assert plain([first, *under_way]) == rows
        assert len(plain(reader.read(query))) == 101


def test_a_generation_that_went_while_it_was_read_says_ask_again(tmp_path: Path) -> None:
    path = closed_day(tmp_path, *(tick(seq, ts=MIDNIGHT + seq) for seq in range(100)))
    old = seal(tmp_path, path, now=NOW, row_group_rows=4).manifest
    with SealedReader(tmp_path, piece_rows=4) as reader:
        under_way = reader.read(Query(("EUR/USD",), *EVER))
        next(under_way)
        seal(tmp_path, path, late=late_file(tmp_path, tick(100)), now=NOW)
        (sealed_days(tmp_path)[0].folder / old.files["ticks"].name).unlink()
        with pytest.raises(Retryable, match="ask again"):
            list(under_way)


def test_a_damaged_day_is_left_out_and_others_are_served(tmp_path: Path) -> None:
    for day in (DAY, DAY + 1, DAY + 2):
        seal(tmp_path, closed_day(tmp_path, tick(ts=day * NS_PER_DAY), day=day), now=NOW)
    first, second, _ = sealed_days(tmp_path)
    ticks_file = first.parquet("ticks", 1)
    ticks_file.write_bytes(bytes(ticks_file.stat().st_size))
    second.manifest.write_bytes(second.manifest.read_bytes()[:-1])
    query = Query(("EUR/USD",), *EVER)
    with SealedReader(tmp_path) as reader:
        left_out: set[int] = set()
        assert [row[2] for row in plain(reader.read(query, left_out=left_out))] == [(DAY + 2) * NS_PER_DAY]
        assert left_out == {DAY, DAY + 1}
        assert len(reader.last(query, 10, left_out=left_out)) == 1
        assert len(reader.as_of("EUR/USD", NOW, left_out=left_out)) == 1
        with pytest.raises(Damaged, match=r"ticks_2024-10-0[45]"):
            list(reader.read(query))


def test_a_manifest_says_which_row_groups_a_reader_needs(tmp_path: Path) -> None:
    seal(tmp_path, closed_day(tmp_path, tick(), tick(symbol="XAU/USD")), now=NOW)
    manifest = read_manifest(sealed_days(tmp_path)[0].manifest)
    assert [group.index for series in manifest.series.values() for one in series for group in one.row_groups] == [0, 1]
