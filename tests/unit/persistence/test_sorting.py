"""What is on the bus finds its day, kind by kind, and what cannot be decoded never stands in the way."""

from pathlib import Path

from libs.common.bus import Delivery, Entry, encode_payload
from libs.common.domain.moment import NS_PER_DAY
from libs.common.domain.record import Book, Trade
from libs.common.store import Layout, Written
from services.persistence.days import Days
from services.persistence.sorting import Positions, sort
from services.persistence.writer import COMMIT_BYTES_MAX, COMMIT_TICKS_MAX, in_commits

DAY = 20_000
TRADES = [Trade("EUR/USD", "LP1", day * NS_PER_DAY, 0, NS_PER_DAY, 1_085_120_000, 1e6, "buy", None) for day in (DAY, DAY + 1)]
BOOKS = [Book("EUR/USD", "LP1", day * NS_PER_DAY, 0, NS_PER_DAY, [(1_085_120_000, 1e6)], []) for day in (DAY, DAY + 1)]


def delivery(kind: str, records: list, start: int, end: int, payload: bytes | None = None) -> Delivery:
    entry = Entry(kind, "LP1", start, end, len(records), encode_payload(records) if payload is None else payload)
    fields = {name: value if isinstance(value, bytes) else str(value).encode() for name, value in entry.fields().items()}
    return Delivery(f"{DAY * 86_400_000}-{end}", {str(name).encode(): value for name, value in fields.items()})


def test_trades_and_books_go_to_the_day_of_their_ts_and_move_the_watermark(tmp_path: Path) -> None:
    work = sort([delivery("trades", TRADES, 0, 10), delivery("books", BOOKS, 10, 20)], Positions())
    assert {day: (batch.trades, batch.books) for day, batch in work.batches.items()} == {
        DAY: (TRADES[:1], BOOKS[:1]),
        DAY + 1: (TRADES[1:], BOOKS[1:]),
    }
    days = Days(Layout(tmp_path), grace_s=300)
    assert days.write(work.batches, work.positions.durable) == Written(trades=2, books=2)
    assert days.recover() == {"LP1": 20}
    again = sort([delivery("trades", TRADES, 0, 10), delivery("books", BOOKS, 5, 30)], Positions({"LP1": 5}), again=True)
    assert days.write(again.batches, again.positions.durable) == Written()
    days.close()


def test_poison_among_trades_and_books_is_kept_and_passed(tmp_path: Path) -> None:
    too_large = ("EUR/USD", "LP1", 2**63, 0, 0, 1, None, None, None)
    arriving = [
        delivery("trades", TRADES, 0, 10),
        delivery("trades", TRADES, 10, 20, payload=b"\x93\xc1"),
        delivery("trades", [too_large], 20, 30),
        delivery("books", BOOKS, 30, 40, payload=encode_payload(TRADES)),
        delivery("books", BOOKS, 40, 50),
    ]
    work = sort(arriving, Positions())
    assert (work.poisoned, work.positions.durable) == (3, {"LP1": 50})
    days = Days(Layout(tmp_path), grace_s=300)
    assert days.write(work.batches, work.positions.durable) == Written(trades=2, books=2, quarantined=3)
    days.close()


def test_a_commit_takes_no_more_ticks_and_no_more_bytes_than_it_may() -> None:
    large = b"x" * (COMMIT_BYTES_MAX // 2)
    ticks = [delivery("ticks", [()] * (COMMIT_TICKS_MAX // 2), at, at + 1, payload=b"") for at in range(3)]
    books = [delivery("books", [()], at, at + 1, payload=large) for at in range(3, 6)]
    assert [len(part) for part in in_commits([*ticks, *books])] == [2, 3, 1]
    assert [len(part) for part in in_commits([delivery("books", [()], 0, 1, payload=large * 3)])] == [1]


def test_an_entry_across_a_change_of_the_number_of_partitions_is_left_to_be_published_again() -> None:
    positions = Positions({"LP1": 100}, {"LP1": 100}, {"LP1": 100})
    across, after = delivery("trades", TRADES, 90, 110), delivery("trades", TRADES, 110, 120)
    work = sort([across, after], positions)
    assert work.entry_ids == [across.entry_id, after.entry_id]
    assert work.positions.durable == {"LP1": 100}
    assert sum(len(batch.trades) for batch in work.batches.values()) == len(TRADES)
    again = sort([delivery("trades", TRADES, 100, 120)], work.positions)
    assert again.positions.durable == {"LP1": 120}
