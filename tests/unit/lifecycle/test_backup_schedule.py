"""Backups are made when they are due, what was missed is made up, and failures can be seen."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from libs.common.domain.moment import parse_moment
from libs.common.runtime import Health
from libs.common.store.backup import BackupName, back_up
from libs.common.store.backup.snapshot import only_one
from services.lifecycle.backups import RETRY_S, Backups, due
from services.lifecycle.message import Event
from services.lifecycle.settings import LifecycleSettings
from tests.unit.lifecycle.backups import place
from tests.unit.lifecycle.days import closed_day

SATURDAY = parse_moment("2026-11-21T12:00:00Z")


def names(*kinds_at: tuple[str, str]) -> list[BackupName]:
    return [BackupName(parse_moment(at), kind) for kind, at in kinds_at]  # type: ignore[arg-type]


ALL = names(("incremental", "2026-11-21T00:30Z"), ("weekly", "2026-11-16T00:31Z"), ("quarterly", "2026-10-01T00:32Z"))


@pytest.mark.parametrize(
    ("found", "now", "expected"),
    [
        ([], "2026-11-21T12:00Z", ["incremental", "weekly", "quarterly"]),
        (ALL, "2026-11-21T23:59Z", []),
        (ALL, "2026-11-22T00:29:59Z", []),
        (ALL, "2026-11-22T00:30Z", ["incremental"]),
        (ALL, "2026-11-23T00:30Z", ["incremental", "weekly"]),
        (ALL, "2027-01-01T00:30Z", ["incremental", "weekly", "quarterly"]),
        (names(("incremental", "2026-11-22T00:10Z")), "2026-11-22T00:40Z", ["incremental", "weekly", "quarterly"]),
        (names(("quarterly", "2026-12-31"), ("weekly", "2026-12-31")), "2027-01-03T12:00Z", ["incremental", "quarterly"]),
    ],
)  # fmt: skip
def test_a_backup_is_due_once_a_period_after_the_rotation(found: list[BackupName], now: str, expected: list[str]) -> None:
    assert due(found, parse_moment(now)) == expected


class Clock:
    def __init__(self) -> None:
        self.now = SATURDAY

    def __call__(self) -> int:
        return self.now


Made = Callable[..., tuple[Backups, list[Event]]]


@pytest.fixture
def made(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Made:
    def make(clock: Clock | None = None) -> tuple[Backups, list[Event]]:
        events: list[Event] = []
        settings = LifecycleSettings(data_dir=data, backup_url=(tmp_path / "backups").as_uri())
        return Backups(settings, events.append, Health(), clock=clock or Clock()), events

    return make


def run_once(backups: Backups) -> float:
    return asyncio.run(backups.run_once(asyncio.Event()))


def test_what_is_due_is_made_in_a_process_of_its_own_said_and_not_made_again(made: Made, data: Path, tmp_path: Path) -> None:
    closed_day(data)
    storage = place(tmp_path)
    for kind in ("weekly", "quarterly"):
        back_up(data, storage, kind)  # type: ignore[arg-type]
    backups, events = made(clock := Clock())
    clock.now = storage.backups()[-1].at
    run_once(backups)
    (event,) = events
    assert (event.event, event.failures) == ("backed_up", 0)
    assert event.written == (str(storage.newest()),)
    assert event.bytes_after > 0
    assert backups.sent_bytes == event.bytes_after
    assert set(backups.age_s) == {"incremental", "weekly", "quarterly"}
    run_once(backups)
    assert len(events) == 1
    assert backups.obstacle is None


def test_a_backup_that_fails_is_said_once_and_tried_again(made: Made, data: Path, tmp_path: Path) -> None:
    backups, events = made()
    closed_day(data)
    with only_one(data):
        assert run_once(backups) == RETRY_S
        assert run_once(backups) == RETRY_S
    assert [event.event for event in events] == ["failed"]
    assert "another process is making a backup" in (backups.obstacle or "")
    assert backups.failures == 2


def test_a_damaged_file_is_an_obstacle_and_the_others_are_backed_up(made: Made, data: Path, tmp_path: Path) -> None:
    day = closed_day(data)
    day.db.write_bytes(day.db.read_bytes()[:9_000])
    closed_day(data, day.day + 1)
    backups, events = made()
    run_once(backups)
    assert [(event.event, event.failures) for event in events] == [("backed_up", 1)] * 3
    assert day.db.name in events[0].error
    assert day.db.name in (backups.obstacle or "")
    assert len(place(tmp_path).backups()) == 3


def test_storage_that_cannot_be_listed_is_an_obstacle(made: Made, tmp_path: Path) -> None:
    (tmp_path / "backups").mkdir()
    (tmp_path / "backups" / "manifests").write_bytes(b"no folder")
    backups, events = made()
    backups._settings = backups._settings.model_copy(update={"backup_url": "/srv"})
    assert run_once(backups) == RETRY_S
    assert "'/srv' is no place for backup storage" in (backups.obstacle or "")
    assert [event.event for event in events] == ["failed"]


def test_a_backup_under_way_is_given_up_when_the_service_stops(made: Made, data: Path) -> None:
    closed_day(data)
    backups, events = made()

    async def stop_at_once() -> None:
        stopping = asyncio.Event()
        running = asyncio.create_task(backups.run(stopping))
        await asyncio.sleep(0.2)
        stopping.set()
        await asyncio.wait_for(running, 10)

    asyncio.run(stop_at_once())
    assert events == []
    assert backups.obstacle is None
