"""What is due when, for which day; and that one day's failure is its own."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from libs.common.domain.moment import NS_PER_DAY, NS_PER_S
from libs.common.store import Batch, DayFile
from libs.common.store.columnar import read_manifest
from libs.common.store.tiers import Done, TierDay, state_of, verify_all
from services.lifecycle.schedule import STEPS, Failed, Order, Schedule
from services.lifecycle.settings import LifecycleSettings
from tests.unit.lifecycle.days import DAY, EUR, batch, closed_day, flip, late_ticks, ticks_of


@pytest.fixture
def settings(data: Path, tmp_path: Path) -> LifecycleSettings:
    return made(data, tmp_path)


def made(data: Path, tmp_path: Path, **own: Any) -> LifecycleSettings:
    return LifecycleSettings(data_dir=data, cold_url=(tmp_path / "cold storage").as_uri(), lifecycle_disk_reserve_bytes=0, **own)


class Clock:
    """Time as the files have it, moved on."""

    def __init__(self) -> None:
        self.ahead_s = 0.0

    def __call__(self) -> int:
        return time.time_ns() + int(self.ahead_s * NS_PER_S)


def done(schedule: Schedule, today: int, **order: Any) -> list[tuple[str, int]]:
    """(step, day) of everything that was done; nothing failed."""
    found = list(schedule.run(Order(order.pop("steps", STEPS), today, **order)))
    assert [one for one in found if isinstance(one, Failed)] == []
    return [(one.step, one.day.day) for one in found if one.day is not None]


@pytest.fixture
def schedule(settings: LifecycleSettings) -> Schedule:
    return Schedule(settings)


def test_a_day_takes_each_step_at_its_age(schedule: Schedule, data: Path) -> None:
    closed_day(data, DAY)
    closed_day(data, DAY + 300, rows=Batch(ticks=[]))  # the newest file is the one persistence goes on from
    assert done(schedule, DAY + 6) == [("seal", DAY)]
    assert done(schedule, DAY + 7) == [("compress", DAY)]
    assert done(schedule, DAY + 30) == []
    assert done(schedule, DAY + 31) == [("archive", DAY)]
    assert done(schedule, DAY + 185) == [], "it was closed a day later"
    assert done(schedule, DAY + 186) == [("retain", DAY)]
    assert state_of(data, DAY) is None


def test_an_open_day_is_not_touched(schedule: Schedule, data: Path) -> None:
    file = DayFile(TierDay(DAY, "", data).db)
    file.write(batch())
    before = {path: path.stat().st_mtime_ns for path in data.rglob("*") if path.is_file()}
    assert done(schedule, DAY + 400) == []
    assert {
        path: path.stat().st_mtime_ns for path in data.rglob("*") if path.is_file() and "lifecycle" not in path.name
    } == before
    file.close()


def test_late_ticks_are_made_part_of_their_day_when_they_are_quiet(settings: LifecycleSettings, data: Path) -> None:
    clock = Clock()
    schedule = Schedule(settings, clock=clock)
    day = closed_day(data)
    assert done(schedule, DAY + 1) == [("seal", DAY)]
    late_ticks(day)
    assert done(schedule, DAY + 1) == []
    clock.ahead_s = settings.amend_quiet_s + 60
    assert done(schedule, DAY + 1) == [("amend", DAY)]
    assert read_manifest(day.manifest).generation == 2
    assert not day.late.exists()


def test_late_ticks_need_not_be_quiet_where_somebody_asks(schedule: Schedule, data: Path) -> None:
    day = closed_day(data)
    late_ticks(day)
    assert done(schedule, DAY + 1, steps=("seal",), asked=True) == [("seal", DAY), ("amend", DAY)]
    assert len(ticks_of(data)) == 110


def test_a_late_file_that_its_writer_has_open_is_sealed_once_and_keeps_the_day_from_being_compressed(
    settings: LifecycleSettings, data: Path
) -> None:
    clock = Clock()
    schedule = Schedule(settings, clock=clock)
    day = closed_day(data)
    closed_day(data, DAY + 300)
    done(schedule, DAY + 1)
    writer = DayFile(day.late, closed=day.db)
    writer.write(batch(5, first=1_000))
    clock.ahead_s = settings.amend_quiet_s + 60
    assert done(schedule, DAY + 8) == [("amend", DAY)]
    stamp = day.manifest.stat().st_mtime_ns
    assert done(schedule, DAY + 8) == []
    assert day.manifest.stat().st_mtime_ns == stamp
    writer.close()
    assert done(schedule, DAY + 8) == [("compress", DAY)]
    assert not day.late.exists()
    assert verify_all(data, None).problems == []


def test_a_damaged_day_is_set_aside_once_and_the_others_go_on(schedule: Schedule, data: Path) -> None:
    damaged, sound = closed_day(data, DAY), closed_day(data, DAY + 1)
    content = damaged.db.read_bytes()
    damaged.db.write_bytes(content[:4096] + b"\xff" * 4096 + content[8192:])
    found = list(schedule.run(Order(STEPS, DAY + 2)))
    assert [(one.step, one.day, isinstance(one, Failed)) for one in found] == [("seal", damaged, True), ("seal", sound, False)]
    assert set(schedule.damaged) == {damaged}
    assert list(schedule.run(Order(STEPS, DAY + 2))) == [], "it is not read again until its files change"
    assert set(schedule.damaged) == {damaged}
    damaged.db.write_bytes(content)
    assert done(schedule, DAY + 2) == [("seal", DAY)]
    assert schedule.damaged == {}


def test_a_day_that_rots_after_sealing_is_not_compressed(schedule: Schedule, data: Path) -> None:
    day = closed_day(data)
    closed_day(data, DAY + 300)
    done(schedule, DAY + 1)
    flip(day.db)
    (failed,) = schedule.run(Order(STEPS, DAY + 8))
    assert isinstance(failed, Failed)
    assert failed.damaged
    assert day.db.exists()


def test_a_disk_at_its_reserve_is_not_filled_and_days_still_leave_it(data: Path, tmp_path: Path) -> None:
    day = closed_day(data)
    closed_day(data, DAY + 300)
    schedule = Schedule(made(data, tmp_path))
    done(schedule, DAY + 8)
    late = closed_day(data, DAY + 1)
    full = Schedule(made(data, tmp_path).model_copy(update={"lifecycle_disk_reserve_bytes": 10**18}))
    found = list(full.run(Order(STEPS, DAY + 31)))
    assert [(one.step, one.day, isinstance(one, Failed)) for one in found] == [("seal", late, True), ("archive", day, False)]
    assert "stay in reserve for capture" in getattr(found[0], "error", "")
    assert full.damaged == {}


def test_a_retention_file_that_is_wrong_stops_retention_alone(data: Path, tmp_path: Path) -> None:
    closed_day(data)
    wrong = tmp_path / "retention.toml"
    wrong.write_text("[hold]")
    schedule = Schedule(made(data, tmp_path, lifecycle_retention_file=wrong))
    found = list(schedule.run(Order(STEPS, DAY + 400)))
    assert [(one.step, isinstance(one, Failed)) for one in found] == [("seal", False), ("retain", True)]
    assert schedule.damaged == {}


def test_a_day_that_loses_symbols_goes_back_to_where_it_was(data: Path, tmp_path: Path) -> None:
    rules = tmp_path / "retention.toml"
    rules.write_text('[symbols]\n"EUR/USD" = 2557\n')
    schedule = Schedule(made(data, tmp_path, lifecycle_retention_file=rules))
    closed_day(data)
    closed_day(data, DAY + 300, rows=Batch(ticks=[]))
    done(schedule, DAY + 31)
    steps = done(schedule, DAY + 186)
    assert [step for step, _ in steps] == ["retain", "compress", "archive", "retain"]
    assert state_of(data, DAY) == "archived"
    assert {row[0] for row in ticks_of(data)} == {EUR}
    assert all(".g2." in name for name in (path.name for path in (tmp_path / "cold storage").rglob("*.*")))
    assert done(schedule, DAY + 187) == []


def test_a_dry_run_changes_no_file(schedule: Schedule, data: Path) -> None:
    for day in (DAY, DAY + 1, DAY + 2):
        closed_day(data, day)
    done(schedule, DAY + 8, steps=("seal", "compress"), day=DAY)
    done(schedule, DAY + 2)
    before = {path: path.stat().st_mtime_ns for path in data.rglob("*") if path.is_file()}
    assert done(schedule, DAY + 50, steps=("compress",), dry_run=True) == [("compress", DAY + 1)]
    assert done(schedule, DAY + 50, steps=("archive",), dry_run=True) == [("archive", DAY)]
    assert [day for _, day in done(schedule, DAY + 400, steps=("retain",), dry_run=True)] == [DAY, DAY + 1, DAY + 2]
    assert {path: path.stat().st_mtime_ns for path in data.rglob("*") if path.is_file()} == before


def test_what_asks_for_one_day_gets_that_day_whatever_its_age(schedule: Schedule, data: Path) -> None:
    for day in (DAY, DAY + 1, DAY + 2):
        closed_day(data, day)
    done(schedule, DAY + 3)
    assert done(schedule, DAY + 3, steps=("compress",), day=DAY + 1) == [("compress", DAY + 1)]


def test_history_that_was_imported_is_not_deleted_by_the_calendar_of_its_ticks(schedule: Schedule, data: Path) -> None:
    day = TierDay(DAY, "", data)
    file = DayFile(day.db)
    file.write(Batch(ticks=batch().ticks))
    file.close_day((DAY + 3_000) * NS_PER_DAY)
    assert "retain" not in [step for step, _ in done(schedule, DAY + 3_001)]
    assert done(schedule, DAY + 3_184) == []
    assert done(schedule, DAY + 3_185) == [("retain", DAY)]


def test_retention_that_is_asked_for_goes_by_the_date_alone(schedule: Schedule, data: Path) -> None:
    day = TierDay(DAY, "", data)
    file = DayFile(day.db)
    file.write(Batch(ticks=batch().ticks))
    file.close_day((DAY + 3_000) * NS_PER_DAY)
    done(schedule, DAY + 1)
    assert done(schedule, DAY + 185, steps=("retain",), asked=True) == [("retain", DAY)]


def test_a_stop_ends_it_between_two_days(schedule: Schedule, data: Path) -> None:
    for day in (DAY, DAY + 1, DAY + 2):
        closed_day(data, day)
    asked: Iterator[bool] = iter([False, True])
    found = [one for one in schedule.run(Order(STEPS, DAY + 3), lambda: next(asked, True)) if isinstance(one, Done)]
    assert [one.day.day for one in found] == [DAY]


def test_files_of_today_are_left_to_their_writer(schedule: Schedule, data: Path) -> None:
    closed_day(data, DAY + 1)
    assert done(schedule, DAY) == []
    assert [path.name for path in (data / "ticks").iterdir()] == ["db"]
