"""Reading day files: beside their writer, in bounds, and without a trace."""

import asyncio
import contextlib
import hashlib
import sqlite3

import pytest

from libs.common.domain.errors import Retryable
from libs.common.domain.moment import NS_PER_DAY, day_of, parse_moment
from libs.common.store import Batch, DayFile, Layout, StoreReader
from libs.common.store.reader import TICKS_ASCENDING, TICKS_DESCENDING, Selection, merge

MIDNIGHT = parse_moment("2026-11-20")
DAY = day_of(MIDNIGHT)


def tick(ts=MIDNIGHT, seq=0, provider="LP1", symbol="EUR/USD", flags=0):
    return (symbol, provider, ts, seq, ts, 1_085_000_000, 1_085_010_000, None, None, flags)


def write(path, *ticks, closed=False):
    file = DayFile(path)
    file.write(Batch(ticks=list(ticks)))
    if closed:
        file.close_day(MIDNIGHT)
    return file


def reading(folder, scenario, **limits):
    async def main():
        reader = StoreReader(folder, **limits)
        try:
            return await scenario(reader)
        finally:
            await reader.close()

    return asyncio.run(main())


def everything(symbol="EUR/USD", **more):
    return Selection(symbol, 0, 2**63 - 1, **more)


@pytest.fixture
def layout(tmp_path):
    return Layout(tmp_path)


@pytest.mark.parametrize("statement", [TICKS_ASCENDING, TICKS_DESCENDING])
def test_the_plan_is_a_range_of_the_primary_key_and_sorts_only_within_an_instant(layout, statement):
    write(layout.day(DAY), tick(), closed=True)
    parameters = dict.fromkeys(
        ("symbol", "first", "last", "provider", "exclude", "after_ts", "after_provider", "after_seq", "limit"), 1
    )
    with contextlib.closing(sqlite3.connect(layout.day(DAY))) as connection:
        plan = [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {statement}", parameters)]
    assert plan[0] == "SEARCH t USING PRIMARY KEY (symbol_id=? AND ts>? AND ts<?)"
    assert not [step for step in plan if step.startswith("SCAN")]
    assert [step for step in plan if "TEMP B-TREE" in step] == ["USE TEMP B-TREE FOR RIGHT PART OF ORDER BY"]


def test_committed_ticks_are_read_while_the_writer_goes_on(layout, tmp_path):
    file = write(layout.day(DAY), tick())

    async def scenario(reader):
        before = await reader.ticks(everything(), None, 10)
        file.write(Batch(ticks=[tick(MIDNIGHT + 1, 1)]))
        return len(before.rows), len((await reader.ticks(everything(), None, 10)).rows)

    assert reading(tmp_path, scenario) == (1, 2)
    file.close()


def test_a_day_can_be_closed_between_two_pages(layout, tmp_path):
    file = write(layout.day(DAY), tick())

    async def scenario(reader):
        await reader.ticks(everything(), None, 10)
        await reader.overview()
        await reader.gaps(0, MIDNIGHT)
        assert reader.open_connections == 0
        file.close_day(MIDNIGHT)
        page = await reader.ticks(everything(), None, 10)
        assert reader.open_connections == 1
        return page.rows

    assert len(reading(tmp_path, scenario)) == 1


def test_reading_leaves_files_as_they_are(layout, tmp_path):
    write(layout.day(DAY), tick(), closed=True)
    path = layout.day(DAY)
    before = hashlib.sha256(path.read_bytes()).digest()

    async def scenario(reader):
        await reader.ticks(everything(), None, 10)
        await reader.overview()

    reading(tmp_path, scenario)
    assert hashlib.sha256(path.read_bytes()).digest() == before
    assert list(path.parent.iterdir()) == [path]


def test_a_writer_that_was_killed_leaves_a_file_that_can_be_read(layout, tmp_path):
    path = layout.day(DAY)
    file = write(path, tick())
    copies = {found: found.read_bytes() for found in path.parent.iterdir() if not found.name.endswith("-shm")}
    file.close()
    for found, content in copies.items():
        found.write_bytes(content)
    assert {found.name for found in copies} == {path.name, f"{path.name}-wal"}

    async def scenario(reader):
        return await reader.ticks(everything(), None, 10)

    assert len(reading(tmp_path, scenario).rows) == 1


def test_connections_are_bounded_and_closed_days_keep_theirs(layout, tmp_path):
    for day in range(DAY - 9, DAY + 1):
        write(layout.day(day), tick(day * NS_PER_DAY), closed=True)

    async def scenario(reader):
        pages = await asyncio.gather(*(reader.ticks(everything(), None, 100) for _ in range(8)))
        assert {len(page.rows) for page in pages} == {10}
        return reader.open_connections

    assert reading(tmp_path, scenario, connections_max=3) == 3


def test_a_file_that_was_deleted_is_let_go(layout, tmp_path):
    write(layout.day(DAY), tick(), closed=True)

    async def scenario(reader):
        await reader.ticks(everything(), None, 1)
        await reader.overview()
        layout.day(DAY).unlink()
        page = await reader.ticks(everything(), None, 1)
        return page.rows, page.left_out, reader.open_connections, (await reader.overview()).files

    assert reading(tmp_path, scenario) == ([], set(), 0, [])


def test_a_file_that_goes_while_it_is_asked_for_costs_its_day(layout, tmp_path):
    write(layout.day(DAY), tick(), closed=True)

    async def scenario(reader):
        (file,) = await reader._files()
        layout.day(DAY).unlink()
        left_out = set()
        assert await reader._page(file, everything(), (0, MIDNIGHT), None, 1, left_out) == []
        return [str(found) for found in left_out]

    (warning,) = reading(tmp_path, scenario)
    assert "2026-11-20" in warning


def test_a_damaged_file_costs_its_day_until_it_is_replaced(layout, tmp_path):
    write(layout.day(DAY - 1), tick(MIDNIGHT - 1), closed=True)
    write(layout.day(DAY), *(tick(MIDNIGHT + n, n) for n in range(2_000)), closed=True)
    whole = layout.day(DAY).read_bytes()

    async def scenario(reader):
        layout.day(DAY).write_bytes(whole[:4096] + b"\xff" * (len(whole) - 4096))
        damaged = await reader.ticks(everything(), None, 5_000)
        assert [found.day for found in (await reader.overview()).left_out] == [DAY]
        assert (await reader.gaps(0, MIDNIGHT))[1]
        layout.day(DAY).write_bytes(whole + b"")
        layout.day(DAY).touch()
        return damaged, await reader.ticks(everything(), None, 5_000)

    damaged, repaired = reading(tmp_path, scenario)
    assert (len(damaged.rows), {found.day for found in damaged.left_out}) == (1, {DAY})
    assert (len(repaired.rows), repaired.left_out) == (2_001, set())


def test_a_file_of_a_newer_schema_is_left_out(layout, tmp_path):
    write(layout.day(DAY), tick()).close()
    with contextlib.closing(sqlite3.connect(layout.day(DAY))) as connection:
        connection.execute("PRAGMA user_version = 999")

    async def scenario(reader):
        return await reader.ticks(everything(), None, 1)

    assert reading(tmp_path, scenario).left_out


def test_a_file_that_is_just_being_made_is_empty_and_not_damaged(layout, tmp_path):
    layout.day(DAY).parent.mkdir(parents=True)
    layout.day(DAY).touch()

    async def scenario(reader):
        return await reader.ticks(everything(), None, 1), await reader.overview()

    page, overview = reading(tmp_path, scenario)
    assert (page.rows, page.left_out, overview.left_out) == ([], set(), set())


def test_a_locked_file_is_retryable(layout, tmp_path):
    write(layout.day(DAY), tick(), closed=True)

    async def scenario(reader):
        with contextlib.closing(sqlite3.connect(layout.day(DAY), isolation_level=None)) as connection:
            connection.execute("BEGIN EXCLUSIVE")
            with pytest.raises(Retryable):
                await reader.ticks(everything(), None, 1)
        return (await reader.ticks(everything(), None, 1)).rows

    assert len(reading(tmp_path, scenario, busy_timeout_s=0.01)) == 1


def test_merging_keeps_the_order_and_one_of_each():
    day, late = [(1, "B", 0), (3, "A", 1)], [(1, "A", 0), (1, "B", 0), (2, "A", 2)]
    assert merge([day, late], 3, descending=False) == [(1, "A", 0), (1, "B", 0), (2, "A", 2)]
    assert merge([day[::-1], late[::-1]], 2, descending=True) == [(3, "A", 1), (2, "A", 2)]
    assert merge([[], day], 5, descending=False) == day
