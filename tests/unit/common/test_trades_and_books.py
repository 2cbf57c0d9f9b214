"""Trades and books in a day file: as exactly once as ticks, and readable in plain SQL."""

import contextlib
import json
import sqlite3
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from libs.common.domain.moment import NS_PER_DAY
from libs.common.domain.record import Book, Level, Trade
from libs.common.store import Batch, DayFile, Written
from libs.common.store.day import CONFLICT_REASON, durable_positions

T0 = 20_000 * NS_PER_DAY
BIDS: list[Level] = [(1_085_120_000, 1e6), (1_085_110_000, None)]
ASKS: list[Level] = [(1_085_140_000, 0.5)]


def trade(seq: int, *, symbol: str = "EUR/USD", price: int = 1_085_120_000, size: float | None = 1e6) -> Trade:
    return Trade(symbol, "LP1", T0 + seq, seq, T0 + 1000, price, size, "buy", f"T{seq}")


def book(seq: int, *, bids: list[Level] = BIDS, asks: list[Level] = ASKS) -> Book:
    return Book("EUR/USD", "LP1", T0 + seq, seq, T0 + 1000, bids, asks)


def tick(seq: int, bid: int) -> tuple:
    return ("EUR/USD", "LP1", T0 + seq, seq, T0 + 1000, bid, 1_085_200_000, 1e6, None, 0)


def rows(path: Path, sql: str) -> list[tuple]:
    with contextlib.closing(sqlite3.connect(path)) as connection:
        return connection.execute(sql).fetchall()


def write(path: Path, *batches: Batch) -> list[Written]:
    file = DayFile(path)
    written = [file.write(batch) for batch in batches]
    file.close()
    return written


def test_trades_are_stored_field_by_field(tmp_path: Path) -> None:
    path = tmp_path / "day.db"
    bare = Trade("XAU/USD", "LP2", T0, 0, T0, -5, None, None, None)
    assert write(path, Batch(trades=[trade(0), bare])) == [Written(trades=2)]
    assert rows(
        path,
        "SELECT symbol, provider, ts, seq, recv_ts, price, size, side, trade_id FROM trades"
        " JOIN symbols USING (symbol_id) JOIN providers USING (provider_id) ORDER BY symbol",
    ) == [
        ("EUR/USD", "LP1", T0, 0, T0 + 1000, 1_085_120_000, 1e6, "buy", "T0"),
        ("XAU/USD", "LP2", T0, 0, T0, -5, None, None, None),
    ]


@pytest.mark.parametrize("price", [1, 10**18 - 1, -(10**18)])
def test_the_levels_of_a_book_are_read_exactly_by_json_each(tmp_path: Path, price: int) -> None:
    path = tmp_path / "day.db"
    assert write(path, Batch(books=[book(0, bids=[(price, 2.5), (price - 1, None)])])) == [Written(books=1)]
    levels = "SELECT key, json_extract(value, '$[0]'), json_extract(value, '$[1]') FROM books, json_each(bids)"
    assert rows(path, levels) == [(0, price, 2.5), (1, price - 1, None)]


def test_trades_and_books_are_committed_with_the_ticks_and_the_watermark(tmp_path: Path) -> None:
    path = tmp_path / "day.db"
    file = DayFile(path)
    with pytest.raises(AttributeError):
        file.write(Batch(ticks=[tick(0, 1)], trades=[trade(0)], books=[None], watermarks={"LP1": 9}))  # type: ignore[list-item]
    assert [rows(path, f"SELECT count(*) FROM {table}") for table in ("ticks", "trades", "symbols")] == [[(0,)]] * 3
    assert file.write(Batch(ticks=[tick(0, 1)], trades=[trade(0)], books=[book(0)], watermarks={"LP1": 9})) == Written(
        stored=1, trades=1, books=1
    )
    file.close()
    assert durable_positions([path]) == {"LP1": 9}


def test_the_account_counts_ticks_alone(tmp_path: Path) -> None:
    path = tmp_path / "day.db"
    write(path, Batch(ticks=[tick(0, 1)], trades=[trade(0), trade(1)], books=[book(0)]), Batch(trades=[trade(1)]))
    assert rows(path, "SELECT numbered, stored, duplicates, quarantined FROM account") == [(1, 1, 0, 0)]


def test_what_arrives_again_is_stored_once_and_what_is_new_beside_it_too(tmp_path: Path) -> None:
    path = tmp_path / "day.db"
    first, again = write(
        path,
        Batch(trades=[trade(0), trade(1, size=None)], books=[book(0)]),
        Batch(trades=[trade(1, size=None), trade(2)], books=[book(0), book(1, bids=[])]),
    )
    assert (first, again) == (Written(trades=2, books=1), Written(trades=1, books=1))
    assert rows(path, "SELECT seq FROM trades ORDER BY seq") == [(0,), (1,), (2,)]
    assert rows(path, "SELECT seq, bids FROM books ORDER BY seq") == [
        (0, "[[1085120000,1000000.0],[1085110000,null]]"),
        (1, "[]"),
    ]


def test_the_same_key_with_other_content_is_quarantined_and_the_first_stays(tmp_path: Path) -> None:
    path = tmp_path / "day.db"
    other = Batch(trades=[trade(0, price=7)], books=[book(0, asks=[])])
    assert write(path, Batch(trades=[trade(0)], books=[book(0)]), other, other) == [
        Written(trades=1, books=1),
        Written(quarantined=2),
        Written(),
    ]
    assert rows(path, "SELECT price FROM trades") == [(1_085_120_000,)]
    assert rows(path, "SELECT asks FROM books") == [("[[1085140000,0.5]]",)]
    assert rows(path, "SELECT reason FROM quarantine") == [(CONFLICT_REASON,)] * 2


def test_conflicts_of_one_instant_are_all_kept(tmp_path: Path) -> None:
    """A tick, a trade and a book of one message, and trades of two symbols, share recv_ts and often their number."""
    path = tmp_path / "day.db"
    good = Batch(ticks=[tick(0, 1)], trades=[trade(0), trade(0, symbol="GBP/USD")], books=[book(0)])
    bad = Batch(ticks=[tick(0, 2)], trades=[trade(0, price=7), trade(0, symbol="GBP/USD", price=7)], books=[book(0, bids=[])])
    assert write(path, good, bad)[1] == Written(quarantined=4)
    kept = [raw.split()[0] for (raw,) in rows(path, "SELECT raw FROM quarantine")]
    assert sorted(kept) == [b"books", b"ticks", b"trades", b"trades"]


def test_what_a_closed_day_has_is_not_stored_beside_it(tmp_path: Path) -> None:
    path, late = tmp_path / "day.db", tmp_path / "day.late.db"
    file = DayFile(path)
    file.write(Batch(trades=[trade(0), trade(1)], books=[book(0), book(1)]))
    file.close_day(T0)
    before = path.read_bytes()
    beside = DayFile(late, closed=path)
    arriving = Batch(trades=[trade(0), trade(1, price=7), trade(2)], books=[book(0), book(1, asks=[]), book(2)])
    assert beside.write(arriving) == Written(trades=1, books=1, quarantined=2)
    assert beside.write(arriving) == Written()
    beside.close()
    assert rows(late, "SELECT seq FROM trades") == rows(late, "SELECT seq FROM books") == [(2,)]
    assert path.read_bytes() == before


def test_the_views_read_in_plain_sql(tmp_path: Path) -> None:
    path = tmp_path / "day.db"
    write(path, Batch(trades=[trade(123_456_789)], books=[book(1), book(2, bids=[], asks=[])]))
    assert rows(path, "SELECT * FROM deals") == [
        ("2024-10-04T00:00:00.123456789Z", "EUR/USD", "LP1", 1.08512, 1e6, "buy", "T123456789")
    ]
    assert rows(path, "SELECT * FROM depth ORDER BY level") == [
        ("2024-10-04T00:00:00.000000001Z", "EUR/USD", "LP1", 1, 1, 1e6, 1.08512, 1.08514, 0.5),
        ("2024-10-04T00:00:00.000000001Z", "EUR/USD", "LP1", 1, 2, None, 1.08511, None, None),
    ]


prices = st.integers(-(10**18) + 1, 10**18 - 1)
sizes = st.none() | st.floats(allow_nan=False, allow_infinity=False)
levels = st.lists(st.tuples(prices, sizes), max_size=5)


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(levels, levels)
def test_any_book_is_read_back_as_it_was_and_known_again(tmp_path: Path, bids: list[Level], asks: list[Level]) -> None:
    path = tmp_path / "day.db"
    path.unlink(missing_ok=True)
    given_book = Batch(books=[book(0, bids=bids, asks=asks)])
    assert write(path, given_book, given_book) == [Written(books=1), Written()]
    ((stored_bids, stored_asks),) = rows(path, "SELECT bids, asks FROM books")
    assert (json.loads(stored_bids), json.loads(stored_asks)) == ([*map(list, bids)], [*map(list, asks)])
    read_bids = rows(path, "SELECT json_extract(value, '$[0]') FROM books, json_each(bids) ORDER BY key")
    assert read_bids == [(price,) for price, _ in bids]
