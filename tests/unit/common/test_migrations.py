"""Day files that earlier versions left behind: opened for writing they are brought up to date, closed ones stay as they are."""

import contextlib
import sqlite3
import time
from pathlib import Path

import pytest

from libs.common.domain.moment import NS_PER_DAY
from libs.common.domain.record import Book, Trade
from libs.common.store import Batch, DayFile, Layout, Written
from libs.common.store.day import durable_positions, is_closed
from libs.common.store.history import HistoryReader, Query
from libs.common.store.schema import MIGRATIONS, SCHEMA_VERSION
from services.persistence.days import Days

DAY = 20_000
T0 = DAY * NS_PER_DAY
TICKS = [("EUR/USD", "LP1", T0 + seq, seq, T0 + 1000, 1_085_120_000, 1_085_200_000, 1e6, None, 0) for seq in range(3)]
TRADE = Trade("EUR/USD", "LP1", T0, 0, T0 + 1000, 1_085_120_000, 1e6, "sell", "T0")
BOOK = Book("EUR/USD", "LP1", T0, 0, T0 + 1000, [(1_085_120_000, 1e6)], [])


def version_1(path: Path, *, closed: bool = False) -> None:
    """A file as version 1 wrote it: two ticks, their account, a watermark; in WAL mode unless its day was closed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute(f"PRAGMA journal_mode = {'DELETE' if closed else 'WAL'}")
        connection.executescript(f"BEGIN; {MIGRATIONS[0]} PRAGMA user_version = 1; COMMIT;")
        connection.execute("INSERT INTO symbols VALUES (1, 'EUR/USD')")
        connection.execute("INSERT INTO providers VALUES (1, 'LP1')")
        rows = [(1, ts, 1, seq, *rest) for _, _, ts, seq, *rest in TICKS[:2]]
        connection.executemany("INSERT INTO ticks VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", rows)
        connection.execute("INSERT INTO account VALUES ('LP1', 'EUR/USD', 2, 2, 0, 0)")
        connection.execute("INSERT INTO watermark VALUES ('LP1', 100)")
        if closed:
            connection.execute("INSERT INTO meta VALUES ('closed_at', ?)", (T0 + NS_PER_DAY,))


def rows(path: Path, sql: str) -> list[tuple]:
    with contextlib.closing(sqlite3.connect(path)) as connection:
        return connection.execute(sql).fetchall()


def read(data_dir: Path) -> list[int]:
    """The numbers of all ticks, as a reader gets them."""
    with HistoryReader(data_dir) as reader:
        query = Query(("EUR/USD",), T0, T0 + NS_PER_DAY)
        return [seq for batch in reader.read(query) for seq in batch.column("seq").to_pylist()]


def test_an_open_file_of_version_1_is_brought_up_to_date_with_all_it_has(tmp_path: Path) -> None:
    path = Layout(tmp_path).day(DAY)
    version_1(path)
    file = DayFile(path)
    assert file.write(Batch(ticks=list(TICKS), trades=[TRADE], books=[BOOK])) == Written(
        stored=1, duplicates=2, trades=1, books=1
    )
    file.close()
    assert rows(path, "PRAGMA user_version") == [(SCHEMA_VERSION,)]
    assert rows(path, "SELECT count(*) FROM quotes") == [(3,)]
    assert rows(path, "SELECT side FROM deals") == [("sell",)]
    assert rows(path, "SELECT bid FROM depth") == [(1.08512,)]
    assert durable_positions([path]) == {"LP1": 100}


def test_a_migration_that_a_crash_cuts_short_is_done_at_the_next_start(tmp_path: Path) -> None:
    path = tmp_path / "day.db"
    version_1(path)
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.executescript(f"BEGIN IMMEDIATE; {MIGRATIONS[1]} PRAGMA user_version = 2;")
        assert connection.in_transaction  # and the process dies
    assert rows(path, "PRAGMA user_version") == [(1,)]
    file = DayFile(path)
    assert file.write(Batch(books=[BOOK])) == Written(books=1)
    file.close()


def test_a_day_that_version_1_left_open_is_closed(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    version_1(layout.day(DAY))
    days = Days(layout, grace_s=0)
    assert days.recover() == {"LP1": 100}
    assert days.close_due(time.time_ns()) == [DAY]
    assert is_closed(layout.day(DAY))
    assert read(tmp_path) == [0, 1]


def test_a_closed_file_of_version_1_is_read_and_never_changed(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    version_1(layout.day(DAY), closed=True)
    before = layout.day(DAY).read_bytes()
    days = Days(layout, grace_s=300)
    assert days.recover() == {"LP1": 100}
    batch = Batch(ticks=list(TICKS), trades=[TRADE], books=[BOOK])
    assert days.write({DAY: batch}, {"LP1": 200}) == Written(stored=1, duplicates=2, trades=1, books=1)
    again = Batch(redelivered=list(TICKS), trades=[TRADE], books=[BOOK])
    assert days.write({DAY: again}, {"LP1": 200}) == Written()
    days.close()
    assert read(tmp_path) == [0, 1, 2]
    assert layout.day(DAY).read_bytes() == before
    assert rows(layout.late(DAY), "SELECT side FROM deals") == [("sell",)]
    assert Days(layout, grace_s=0).recover() == {"LP1": 200}


def test_a_late_file_of_version_1_takes_trades_too(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    version_1(layout.day(DAY), closed=True)
    version_1(layout.late(DAY))
    days = Days(layout, grace_s=300)
    days.recover()
    assert days.write({DAY: Batch(trades=[TRADE])}, {}) == Written(trades=1)
    days.close()
    assert read(tmp_path) == [0, 1]


@pytest.mark.parametrize("closed", [False, True])
def test_a_file_of_version_1_that_nobody_has_opened_since_is_read(tmp_path: Path, closed: bool) -> None:
    version_1(Layout(tmp_path).day(DAY), closed=closed)
    assert read(tmp_path) == [0, 1]
