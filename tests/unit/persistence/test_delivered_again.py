"""What comes again after a crash, or after its day was closed, is stored once; and what was told to be durable is."""

import time
from pathlib import Path

from libs.common.bus import Delivery, Entry, encode_payload
from libs.common.domain.moment import NS_PER_DAY
from libs.common.store import Layout, Written
from libs.common.testing.reckoning import numbering_errors
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


def test_what_a_closed_day_has_already_is_not_stored_again_beside_it(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    days = Days(layout, grace_s=0)
    days.write(sort([delivery(10)], Positions()).batches, {})
    assert days.close_due(time.time_ns()) == [20_000, 20_001]
    later = [*TICKS, (*TICKS[0][:3], 1, *TICKS[0][4:]), (*TICKS[1][:5], 1_090_000_000, *TICKS[1][6:])]
    entry = Entry("ticks", "LP1", 0, 20, len(later), encode_payload(later))
    again = Delivery("2-0", {_bytes(name): _bytes(value) for name, value in entry.fields().items()})
    work = sort([again], Positions(), again=True)
    assert days.write(work.batches, work.positions.durable) == Written(stored=1, quarantined=1)
    days.close()
    assert numbering_errors(tmp_path) == []
    assert layout.late(20_000).exists()
    assert Days(layout, grace_s=0).recover() == {"LP1": 20}


def test_a_position_without_rows_is_durable_before_it_is_told(tmp_path: Path) -> None:
    days = Days(Layout(tmp_path), grace_s=300)
    days.write({}, {"LP1": 10})
    days.close()
    assert Days(Layout(tmp_path), grace_s=300).recover() == {"LP1": 10}


def test_heartbeats_do_not_keep_a_day_open(tmp_path: Path) -> None:
    days = Days(Layout(tmp_path), grace_s=300)
    days.write(sort([delivery(10)], Positions()).batches, {"LP1": 10})
    before = dict(days._idle_since)
    days.write({}, {"LP1": 20})
    assert days._idle_since == before
    days.close()
