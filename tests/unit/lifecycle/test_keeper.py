"""The loop: commands in, events out, with a bus and without one."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from libs.common.bus import Bus, RedisBus
from libs.common.bus.keys import LIFECYCLE_GROUP
from libs.common.domain.moment import day_name
from libs.common.runtime import Health
from libs.common.store import Batch
from libs.common.store.tiers import alone, state_of
from libs.common.testing.fake_bus import FakeBus
from services.lifecycle.keeper import WAITING, Keeper
from services.lifecycle.message import Command, read_command
from services.lifecycle.schedule import Schedule
from services.lifecycle.settings import LifecycleSettings
from tests.unit.lifecycle.days import DAY, closed_day, late_ticks


def keeper(data: Path, bus: Bus, **own: Any) -> Keeper:
    own = {
        "lifecycle_disk_reserve_bytes": 0,
        "retain_days": 2_557,
        "compress_after_days": 2_000,
        "archive_after_days": 2_000,
        **own,
    }
    settings = LifecycleSettings(data_dir=data, **own)
    return Keeper(bus, Schedule(settings), settings, Health())


def events(bus: Bus) -> list[dict[str, Any]]:
    """All that was announced."""
    return [msgspec.json.decode((found.fields or {})[b"d"]) for found in asyncio.run(bus.announced("0", 1_000, None))]


def run_once(found: Keeper, times: int = 1) -> None:
    async def inside() -> None:
        for _ in range(times):
            await found.run_once(asyncio.Event())

    asyncio.run(inside())


def ask(bus: Bus, **command: Any) -> None:
    asyncio.run(bus.command(msgspec.json.encode(command)))


def short(found: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
    return [(one["event"], one.get("day", ""), one.get("command", "")) for one in found]


def test_what_happened_to_a_day_is_said(data: Path) -> None:
    bus = FakeBus()
    day = closed_day(data)
    found = keeper(data, bus, amend_quiet_s=0)
    run_once(found, 2)
    late_ticks(day)
    found._passed_at = None
    run_once(found, 2)
    sealed, amended = events(bus)
    assert sealed["event"] == "sealed"
    assert sealed["generation"] == 1
    assert sealed["ticks"] == 100
    assert "ticks_2024-10-04.parquet" in sealed["written"]
    assert amended["generation"] == 2
    assert amended["changed"][0] == {"symbol": "EUR/USD", "provider": "LP1", "before": 50, "after": 55}
    assert found.states["sealed"] == 1
    assert found.steps == {"seal": 1, "amend": 1}
    assert found.obstacle is None


def test_a_command_is_done_answered_and_done_once(data: Path) -> None:
    bus = FakeBus()
    closed_day(data)
    closed_day(data, DAY + 300, rows=Batch())
    found = keeper(data, bus)
    run_once(found)
    ask(bus, command="compress", day=day_name(DAY), id="c1")
    ask(bus, command="retain", as_of=day_name(DAY + 3_000), dry_run=True, id="c2")
    ask(bus, command="restart_feed", id="not ours")
    run_once(found, 3)
    told = events(bus)
    assert short(told)[2:] == [
        ("compressed", "2024-10-04", "c1"),
        ("done", "", "c1"),
        ("retained", "2024-10-04", "c2"),
        ("retained", "2025-07-31", "c2"),
        ("done", "", "c2"),
    ]
    assert told[-1]["dry_run"]
    assert told[-1]["days"] == 2
    assert state_of(data, DAY) == "compressed"
    assert asyncio.run(bus.read_commands(LIFECYCLE_GROUP, "0", 10, None)) == []


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b'{"command": 1}', b'{"command": "seal", "day": "yesterday", "id": "x"}', b"\xff"]
)
def test_a_command_that_cannot_be_read_is_refused_and_blocks_nothing(data: Path, content: bytes) -> None:
    bus = FakeBus()
    found = keeper(data, bus)
    run_once(found)
    asyncio.run(bus.command(content))
    ask(bus, command="seal", id="after")
    run_once(found, 2)
    told = events(bus)
    assert [one["event"] for one in told] == ["failed", "done"]
    assert told[1]["command"] == "after"


def test_a_command_that_was_being_done_when_its_process_was_killed_is_done(data: Path) -> None:
    bus = FakeBus()
    closed_day(data)
    asyncio.run(bus.join_commands(LIFECYCLE_GROUP))
    ask(bus, command="seal", id="c1")
    asyncio.run(bus.read_commands(LIFECYCLE_GROUP, ">", 10, None))
    run_once(keeper(data, bus), 2)
    assert ("done", "", "c1") in short(events(bus))


def test_without_a_bus_days_are_kept_and_it_is_said_later(data: Path) -> None:
    bus = FakeBus()
    bus.refusing = True
    closed_day(data)
    found = keeper(data, bus)
    run_once(found)
    assert state_of(data, DAY) == "sealed"
    assert found.bus_obstacle is not None
    assert found.unannounced == 1
    bus.refusing = False
    run_once(found, 2)
    assert short(events(bus)) == [("sealed", "2024-10-04", "")]
    assert found.bus_obstacle is None


def test_a_failure_is_said_once(data: Path) -> None:
    bus = FakeBus()
    closed_day(data)
    found = keeper(data, bus, lifecycle_disk_reserve_bytes=10**18)
    for _ in range(3):
        found._passed_at = None
        run_once(found)
    run_once(found)
    assert [one["event"] for one in events(bus)] == ["failed"]
    assert found.failures["seal"] == 3
    assert "stay in reserve" in str(found.disk_obstacle)


def test_a_second_one_waits_for_its_turn_and_gives_up_when_it_is_stopped(data: Path) -> None:
    async def scenario() -> None:
        stopping = asyncio.Event()
        found = keeper(data, FakeBus())
        with alone(data):
            task = asyncio.create_task(found.run(stopping))
            while found.obstacle != WAITING:  # noqa: ASYNC110 - it is said by another thread
                await asyncio.sleep(0.01)
            stopping.set()
            await task

    asyncio.run(asyncio.wait_for(scenario(), 60))


def test_a_disk_that_will_not_last_is_an_alert_until_it_does(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from dataclasses import replace

    from services.lifecycle import keeper as module

    bus = FakeBus()
    closed_day(data)
    found = keeper(data, bus)
    run_once(found)
    assert found.disk is not None
    for left in (2.0, 3.0, 100.0):
        monkeypatch.setattr(module, "watch", lambda *_, left=left: replace(found.disk, days_left=left))
        found._passed_at = None
        run_once(found)
    assert [alert.state for alert in asyncio.run(bus.alerts(10))] == ["cleared", "raised"]


def test_fields_a_later_version_adds_to_a_command_are_no_error() -> None:
    assert read_command(b'{"command": "seal", "id": "1", "asked_by": "me"}') == Command(command="seal", id="1")


@pytest.fixture(params=["memory", "redis"])
def play(request: pytest.FixtureRequest) -> Callable[[Callable[[Bus], Awaitable[None]]], None]:
    """Runs a scenario against one implementation of the bus."""

    def run(scenario: Callable[[Bus], Awaitable[None]]) -> None:
        async def inside() -> None:
            if request.param == "memory":
                await scenario(FakeBus())
                return
            bus = RedisBus(request.getfixturevalue("redis_url"))
            try:
                await scenario(bus)
            finally:
                await bus.close()

        asyncio.run(inside())

    return run


def test_events_are_read_in_order_by_anyone_after_any_id(play) -> None:
    async def scenario(bus: Bus) -> None:
        assert await bus.announced("0", 10, None) == []
        await bus.announce([b"1", b"2"])
        await bus.announce([b"3"])
        found = await bus.announced("0", 10, None)
        assert [(one.fields or {})[b"d"] for one in found] == [b"1", b"2", b"3"]
        (last,) = await bus.announced(found[1].entry_id, 10, None)
        assert last == found[2]

    play(scenario)


def test_a_command_is_delivered_once_to_each_group_and_again_until_it_is_done(play) -> None:
    async def scenario(bus: Bus) -> None:
        first = await bus.command(b"1")
        await bus.join_commands("a")
        await bus.join_commands("a")
        await bus.join_commands("b")
        await bus.command(b"2")
        delivered = await bus.read_commands("a", ">", 10, 1)
        assert [(one.entry_id, (one.fields or {})[b"d"]) for one in delivered] == [(first, b"1"), (delivered[1].entry_id, b"2")]
        assert await bus.read_commands("a", ">", 10, 1) == []
        await bus.commands_done("a", [first])
        assert await bus.read_commands("a", "0", 10, None) == delivered[1:]
        assert len(await bus.read_commands("b", ">", 10, 1)) == 2

    play(scenario)
