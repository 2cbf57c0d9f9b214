"""A crash between two days of one batch leaves the first committed: when the batch comes again, that is no duplicate."""

from pathlib import Path

from libs.common.bus import Delivery, Entry, encode_payload
from libs.common.domain.moment import NS_PER_DAY
from libs.common.store import Layout, Written
from services.persistence.days import Days
from services.persistence.sorting import Positions, sort

TICKS = [
    ("EUR/USD", "LP1", day * NS_PER_DAY, 0, NS_PER_DAY, 1_085_120_000, 1_086_000_000, None, None, 0) for day in (20_000, 20_001)
]


def delivery(session_end: int) -> Delivery:
    entry = Entry("ticks", "LP1", 0, session_end, len(TICKS), encode_payload(TICKS))
    return Delivery("1-0", {_bytes(name): _bytes(value) for name, value in entry.fields().items()})


def _bytes(value: str | bytes | int) -> bytes:
    return value if isinstance(value, bytes) else str(value).encode()


def test_what_a_crash_left_committed_is_stored_once_and_counted_once(tmp_path: Path) -> None:
    days = Days(Layout(tmp_path), grace_s=300)
    first_day_only = sort([delivery(10)], Positions()).batches
    first_day_only.pop(20_001)
    days.write(first_day_only, {})
    days.close()

    days = Days(Layout(tmp_path), grace_s=300)
    work = sort([delivery(10)], Positions(days.recover()), again=True)
    assert days.write(work.batches, work.positions.durable) == Written(stored=1)
    assert days.recover() == {"LP1": 10}
    days.close()
