"""Reading day files: beside their writer, in bounds, and without a trace."""

import contextlib
import hashlib
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from libs.common.domain.errors import Retryable
from libs.common.domain.moment import NS_PER_DAY, day_of, parse_moment
from libs.common.store import Batch, DayFile, Layout
from libs.common.store.columnar import Damaged
from libs.common.store.columnar.order import Order
from libs.common.store.history import HistoryReader, Query
from libs.common.store.history.dayfile import DayFileSource, _statement
from libs.common.testing.day_writer import DayWriter

MIDNIGHT = parse_moment("2026-11-20")
DAY = day_of(MIDNIGHT)
EVER = Query(("EUR/USD",), 0, 2**62)


def tick(ts=MIDNIGHT, seq=0, provider="LP1", symbol="EUR/USD", flags=0):
    return (symbol, provider, ts, seq, ts // 1000 * 1000, 1_085_000_000, 1_085_010_000, None, None, flags)


def write(path, *ticks, closed=False):
    file = DayFile(path)
    file.write(Batch(ticks=list(ticks)))
    (file.close_day if closed else lambda _: file.close())(MIDNIGHT)


def numbers(reader, query=EVER, left_out=None, **how):
    return [seq for batch in reader.read(query, left_out=left_out, **how) for seq in batch.column("seq").to_pylist()]


@pytest.fixture
def layout(tmp_path):
    return Layout(tmp_path)


@pytest.fixture
def reader(tmp_path):
    with HistoryReader(tmp_path, busy_timeout_s=0.05) as reader:
        yield reader


@pytest.mark.parametrize(
    "query", [EVER, replace(EVER, descending=True), replace(EVER, providers=("LP1",), known_at=5, exclude=1)]
)
def test_the_plan_is_a_range_of_the_primary_key_and_sorts_nothing(layout, query):
    write(layout.day(DAY), tick(), closed=True)
    with contextlib.closing(sqlite3.connect(layout.day(DAY))) as connection:
        parameters = {str(number): 1 for number in range(1, 11)}
        plan = [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {_statement(query)}", list(parameters.values()))]
    assert plan[0] == "SEARCH ticks USING PRIMARY KEY (symbol_id=? AND ts>? AND ts<?)"
    assert not [step for step in plan if step.startswith("SCAN ticks") or "TEMP B-TREE" in step]


def test_committed_ticks_are_read_while_the_writer_goes_on(layout, reader):
    with DayWriter(layout.day(DAY)) as writer:
        writer.write([tick()])
        assert numbers(reader) == [0]
        writer.write([tick(MIDNIGHT + 1, 1)])
        assert numbers(reader) == [0, 1]


def test_a_day_can_be_closed_between_two_pieces_of_a_query(layout, tmp_path, monkeypatch):
    monkeypatch.setattr("libs.common.store.history.dayfile.PIECE_ROWS", 4)
    monkeypatch.setattr("libs.common.store.history.reader.SHARE_ROWS_MIN", 4)
    with HistoryReader(tmp_path) as reader, DayWriter(layout.day(DAY)) as writer:
        writer.write([tick(MIDNIGHT + seq, seq) for seq in range(20)])
        batches = reader.read(EVER, batch_rows=2)
        first = next(batches).column("seq").to_pylist()
        reader.overview()
        assert writer.close_day(MIDNIGHT)
        assert first + [seq for batch in batches for seq in batch.column("seq").to_pylist()] == list(range(20))


def test_reading_leaves_files_as_they_are(layout, reader):
    write(layout.day(DAY), tick(), closed=True)
    path = layout.day(DAY)
    before = hashlib.sha256(path.read_bytes()).digest()
    assert numbers(reader) == [0]
    reader.overview()
    assert hashlib.sha256(path.read_bytes()).digest() == before
    assert list(path.parent.iterdir()) == [path]


def test_no_connection_is_open_when_nobody_reads(layout, reader):
    open_files = Path("/proc/self/fd")
    if not open_files.exists():
        pytest.skip("only Linux says which files a process has open")
    write(layout.day(DAY - 1), tick(MIDNIGHT - 1), closed=True)
    with DayWriter(layout.day(DAY)) as writer:
        writer.write([tick()])
        assert numbers(reader) == [0, 0]
        reader.overview()
        names = [str(found.resolve()) for found in open_files.iterdir()]
    assert not [name for name in names if ".db" in name]


def test_a_writer_that_was_killed_leaves_a_file_that_can_be_read(layout, reader):
    with DayWriter(layout.day(DAY)) as writer:
        writer.write([tick()])
        writer.kill()
    assert layout.day(DAY).with_name(layout.day(DAY).name + "-wal").exists()
    assert numbers(reader) == [0]


def test_any_number_of_threads_read_at_once(layout, reader):
    for day in range(DAY - 9, DAY + 1):
        write(layout.day(day), tick(day * NS_PER_DAY), closed=day < DAY)
    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(lambda _: len(numbers(reader)), range(40))) == {10}


def test_a_file_that_was_deleted_is_let_go(layout, reader):
    write(layout.day(DAY), tick(), closed=True)
    assert numbers(reader) == [0]
    assert reader.overview().files
    layout.day(DAY).unlink()
    assert numbers(reader) == []
    assert (reader.overview().files, reader.overview().left_out) == ([], set())


def test_a_file_that_goes_while_it_is_asked_for_is_looked_for_again(layout, reader, monkeypatch):
    write(layout.day(DAY), tick(), closed=True)
    files = reader._days.files(DAY, DAY)
    monkeypatch.setattr(reader._days, "files", lambda *_: monkeypatch.undo() or files)
    layout.day(DAY).unlink()
    assert numbers(reader) == []


def test_a_damaged_file_costs_its_day_until_it_is_replaced(layout, reader):
    write(layout.day(DAY - 1), tick(MIDNIGHT - 1), closed=True)
    write(layout.day(DAY), *(tick(MIDNIGHT + n, n) for n in range(2_000)), closed=True)
    whole = layout.day(DAY).read_bytes()
    layout.day(DAY).write_bytes(whole[:4096] + b"\xff" * (len(whole) - 4096))
    left_out: set[int] = set()
    assert (numbers(reader, left_out=left_out), left_out) == ([0], {DAY})
    assert reader.overview().left_out == reader.gaps(0, MIDNIGHT)[1] == {DAY}
    with pytest.raises(Damaged, match="2026-11-20"):
        numbers(reader)
    layout.day(DAY).write_bytes(whole)
    left_out.clear()
    assert (len(numbers(reader, left_out=left_out)), left_out) == (2_001, set())


def test_a_file_of_a_newer_schema_is_left_out(layout, reader):
    write(layout.day(DAY), tick())
    with contextlib.closing(sqlite3.connect(layout.day(DAY))) as connection:
        connection.execute("PRAGMA user_version = 999")
    with pytest.raises(Damaged, match="upgrade this service"):
        numbers(reader)


def test_a_value_that_is_no_number_is_damage(layout, reader):
    write(layout.day(DAY), tick(), closed=True)
    with contextlib.closing(sqlite3.connect(layout.day(DAY), isolation_level=None)) as connection:
        connection.execute("UPDATE ticks SET bid = 'dear'")
    with pytest.raises(Damaged, match="bid"):
        numbers(reader)


def test_a_file_that_is_just_being_made_is_empty_and_not_damaged(layout, reader):
    layout.day(DAY).parent.mkdir(parents=True)
    layout.day(DAY).touch()
    assert numbers(reader) == []
    assert reader.overview().left_out == set()


def test_a_locked_file_is_retryable(layout, reader):
    with DayWriter(layout.day(DAY)) as writer:
        writer.write([tick()])
        writer.lock()
        with pytest.raises(Retryable, match="locked"):
            numbers(reader)
    assert numbers(reader) == [0]


def test_ticks_of_one_instant_are_in_order_however_few_are_read_at_once(layout, reader):
    rows = [tick(MIDNIGHT + at, seq, provider) for at in range(3) for provider in ("LP3", "LP1", "LP2") for seq in range(3)]
    write(layout.day(DAY), *rows, closed=True)
    right = sorted((row[2], row[1], row[3]) for row in rows)
    for piece_rows in range(1, 12):
        for descending in (False, True):
            query = replace(EVER, descending=descending)
            order = Order(query)
            tables = DayFileSource(layout.day(DAY), 1).tables(query, "EUR/USD", order, piece_rows)
            found = [key for table in tables for key in keys(order.finished(table))]
            assert found == (right[::-1] if descending else right)


def keys(table):
    columns = table["ts"].cast("int64"), table["provider"], table["seq"]
    return list(zip(*(column.to_pylist() for column in columns), strict=True))
