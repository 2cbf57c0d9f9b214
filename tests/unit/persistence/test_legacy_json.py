"""Legacy JSON beside the day files: what is stored stands in it once, in the layout it always had."""

import json
from collections import Counter
from pathlib import Path

import pytest

from libs.common.domain.errors import Retryable
from libs.common.domain.moment import NS_PER_DAY
from libs.common.store import Batch, Layout
from services.persistence.days import Days
from services.persistence.legacy import LegacyJson

DAY = 20_000
AT = DAY * NS_PER_DAY


def tick(seq: int, *, day: int = DAY, bid: int | None = 1_085_120_000) -> tuple:
    ts = day * NS_PER_DAY + seq * 1_000_123
    return ("EUR/USD", "LP1", ts, seq, ts, bid, 1_085_200_000, None, None, 0)


def read(layout: Layout, day: int = DAY) -> list[dict]:
    return json.loads(layout.legacy_json(day).read_text())


def expected(ticks: list[tuple]) -> list[dict]:
    return [
        {"symbol": row[0], "timestamp": row[2] // 1_000_000, "bid": row[5] and row[5] / 1e9, "ask": row[6] / 1e9} for row in ticks
    ]


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return Layout(tmp_path)


def days_of(layout: Layout, grace_s: float = 300) -> Days:
    days = Days(layout, grace_s, legacy=LegacyJson(layout))
    days.recover()
    return days


def test_every_batch_is_appended_in_the_layout_of_legacy_files(layout: Layout) -> None:
    days = days_of(layout)
    for first in range(0, 9, 3):
        days.write({DAY: Batch(ticks=[tick(seq) for seq in range(first, first + 3)])}, {"LP1": first})
        assert read(layout) == expected([tick(seq) for seq in range(first + 3)])
    text = layout.legacy_json(DAY).read_text()
    assert text.startswith('[{"symbol": "EUR/USD", "timestamp": 1728000000000, "bid": 1.08512, "ask": 1.0852}, {"symbol": ')
    assert text == json.dumps(json.loads(text)), "byte for byte as json.dumps writes it"


def test_a_side_that_is_absent_is_null(layout: Layout) -> None:
    days_of(layout).write({DAY: Batch(ticks=[tick(0, bid=None)])}, {})
    assert read(layout)[0]["bid"] is None


def test_what_is_delivered_again_is_in_it_once(layout: Layout) -> None:
    days = days_of(layout)
    days.write({DAY: Batch(ticks=[tick(0), tick(1)])}, {})
    days.write({DAY: Batch(ticks=[tick(1), tick(2)])}, {})
    days.write({DAY: Batch(redelivered=[tick(2), tick(3)])}, {})
    assert read(layout) == expected([tick(seq) for seq in range(4)])


def test_what_a_kill_between_the_two_writes_left_out_is_there_after_the_next_start(layout: Layout) -> None:
    days_of(layout).write({DAY: Batch(ticks=[tick(0)])}, {})
    Days(layout, 300).write({DAY: Batch(ticks=[tick(1)])}, {})  # stored, and not in the legacy file
    assert len(read(layout)) == 1
    days = days_of(layout)
    days.write({DAY: Batch(redelivered=[tick(1)])}, {})
    days.write({DAY: Batch(ticks=[tick(2)])}, {})
    assert read(layout) == expected([tick(seq) for seq in range(3)])


def test_a_file_that_a_power_cut_tore_is_whole_after_the_next_start(layout: Layout) -> None:
    days_of(layout).write({DAY: Batch(ticks=[tick(0), tick(1)])}, {})
    path = layout.legacy_json(DAY)
    path.write_bytes(path.read_bytes()[:-20])
    days_of(layout)
    assert read(layout) == expected([tick(0), tick(1)])


def test_where_the_disk_refuses_nothing_is_durable_and_the_same_again_mends_it(layout: Layout) -> None:
    days = days_of(layout)
    days.write({DAY: Batch(ticks=[tick(0)])}, {})
    path = layout.legacy_json(DAY)
    away = path.rename(path.with_name("away"))
    path.mkdir()
    with pytest.raises(Retryable):
        days.write({DAY: Batch(ticks=[tick(1)])}, {})
    path.rmdir()
    away.rename(path)
    days.write({DAY: Batch(redelivered=[tick(1)])}, {})
    assert read(layout) == expected([tick(0), tick(1)])


def test_ticks_for_a_closed_day_are_appended_to_it(layout: Layout) -> None:
    days = days_of(layout, grace_s=0)
    days.write({DAY: Batch(ticks=[tick(0)])}, {})
    assert days.close_due((DAY + 2) * NS_PER_DAY) == [DAY]
    days.write({DAY: Batch(ticks=[tick(1)])}, {})
    assert layout.late(DAY).exists()
    assert read(layout) == expected([tick(0), tick(1)])
    days.close()
    days_of(layout)
    assert Counter(map(str, read(layout))) == Counter(map(str, expected([tick(0), tick(1)])))


def test_without_it_there_is_no_such_file(layout: Layout) -> None:
    days = Days(layout, 300)
    days.recover()
    days.write({DAY: Batch(ticks=[tick(0)])}, {})
    assert not layout.legacy_json(DAY).exists()
