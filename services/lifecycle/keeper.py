"""The loop: commands first, then what is due by the calendar, in a thread of its own; and what is said about it.

commands ─┐
          ├─▶ the data folder's lock ─▶ steps ─▶ events ─▶ commands done
calendar ─┘
"""

import asyncio
import contextlib
import time
from collections import Counter, deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import msgspec

from libs.common.bus import Bus, Delivery
from libs.common.bus.keys import LIFECYCLE_GROUP
from libs.common.domain.errors import Rejected, Retryable
from libs.common.domain.feed import Alert
from libs.common.domain.moment import day_of
from libs.common.runtime import Health, pause
from libs.common.store.tiers import STATES, Disk, alone, tier_days, watch
from libs.common.telemetry import logger
from services.lifecycle.message import Command, Event, event_of, order_of, read_command
from services.lifecycle.schedule import STEPS, Order, Schedule
from services.lifecycle.settings import LifecycleSettings

COMMANDS_READ = 16
BLOCK_MS = 1_000
BUS_RETRY_S = 1.0
EVENTS_KEPT = 10_000  # while the bus is away; the files say the same
DAYS_LEFT_MIN = 7.0  # an operator needs a week to bring a disk
WAITING = "another process is at work in this data folder; this one waits for its turn"

_LOOP = "keeper"
R = TypeVar("R")


class Keeper:
    """`run_once` is the loop's body."""

    def __init__(self, bus: Bus, schedule: Schedule, settings: LifecycleSettings, health: Health) -> None:
        self._bus = bus
        self._schedule = schedule
        self._settings = settings
        self._health = health
        self._thread = ThreadPoolExecutor(1, "tiers")
        self._events: deque[Event] = deque(maxlen=EVENTS_KEPT)
        self._said: dict[tuple[str, str, int | None], str] = {}  # failures: said once, until they change
        self._passed_at: float | None = None
        self._retained_on: int | None = None
        self._stopping = False
        self._alerted = False
        self._after = "0"  # where pending commands begin; ">" once there are none
        self.obstacle: str | None = "starting"
        self.bus_obstacle: str | None = None
        self.disk: Disk | None = None
        self.damaged: dict[str, str] = {}
        self.states: Counter[str] = Counter()
        self.steps: Counter[str] = Counter()
        self.failures: Counter[str] = Counter()

    @property
    def unannounced(self) -> int:
        return len(self._events)

    @property
    def pass_age_s(self) -> float:
        return time.monotonic() - self._passed_at if self._passed_at is not None else 0.0

    @property
    def disk_obstacle(self) -> str | None:
        disk = self.disk
        if disk is None or disk.free_bytes >= disk.reserve_bytes:
            return None
        return f"{disk.free_bytes} bytes are free, {disk.reserve_bytes} stay in reserve: nothing is sealed or compressed"

    def tell(self, event: Event) -> None:
        """To be announced."""
        self._events.append(event)

    async def run(self, stopping: asyncio.Event) -> None:
        """Keep days until stopping; a step that is begun is ended."""
        watcher = asyncio.create_task(self._note_stop(stopping))
        try:
            while not stopping.is_set():
                await self.run_once(stopping)
        finally:
            watcher.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await watcher
            self._thread.shutdown()
            self._health.end(_LOOP)

    async def _note_stop(self, stopping: asyncio.Event) -> None:
        await stopping.wait()
        self._stopping = True

    async def run_once(self, stopping: asyncio.Event) -> None:
        """A few commands or one wait for them, then a pass of the schedule if it is time."""
        self._health.beat(_LOOP)
        for delivery in await self._read_commands(stopping):
            await self._obey(delivery)
        if self._passed_at is None or self.pass_age_s >= self._settings.lifecycle_interval_s:
            await self._pass()

    async def _read_commands(self, stopping: asyncio.Event) -> list[Delivery]:
        """What was delivered and never done comes first. Without a bus, a wait."""
        first = self._passed_at is None
        try:
            if self._after != ">":
                await self._bus.join_commands(LIFECYCLE_GROUP)
            found = await self._bus.read_commands(LIFECYCLE_GROUP, self._after, COMMANDS_READ, None if first else BLOCK_MS)
            await self._announce()
        except Retryable as error:
            self._after = "0"
            if self.bus_obstacle is None:
                logger().warning("Redis is away; days are kept, nobody is told", error=str(error))
            self.bus_obstacle = str(error)
            await pause(stopping, 0 if first else BUS_RETRY_S)
            return []
        self.bus_obstacle = None
        if self._after != ">":
            self._after = found[-1].entry_id if found else ">"
        return found

    async def _obey(self, delivery: Delivery) -> None:
        """Do a command and say that it is done. One that cannot be read is nobody's: it is logged and done with."""
        content = (delivery.fields or {}).get(b"d", b"")
        try:
            command = read_command(content)
            if command is not None:
                order = order_of(command, self._today())
                await self._do(order, command)
        except Rejected as error:
            logger().warning("a command is refused", error=str(error), entry=delivery.entry_id)
            self._events.append(Event(at=time.time_ns(), event="failed", step="command", error=str(error), command=_id(content)))
        try:
            await self._announce()
            await self._bus.commands_done(LIFECYCLE_GROUP, [delivery.entry_id])
        except Retryable as error:
            self.bus_obstacle = str(error)  # it comes again, and every step knows what it has done
            self._after = "0"

    async def _pass(self) -> None:
        """What is due by the calendar. Retention has its turn once a day, since it looks into every old day."""
        today = self._today()
        due = STEPS if self._retained_on != today else STEPS[:-1]
        if await self._do(Order(due, today)):
            self._retained_on = today
        self._passed_at = time.monotonic()
        await self._watch()

    async def _do(self, order: Order, command: Command | None = None) -> bool:
        """Whether it was done to its end."""
        dry_run = order.dry_run
        name = command.id if command is not None else ""
        days = failures = 0
        loop = asyncio.get_running_loop()

        def note(event: Event) -> None:
            nonlocal days, failures
            days += event.event != "failed"
            failures += event.event == "failed"
            self._note(event)

        def work() -> None:
            with alone(self._settings.data_dir, give_up=lambda: self._stopping, on_wait=self._wait):
                self.obstacle = None
                for outcome in self._schedule.run(order, lambda: self._stopping):
                    event = event_of(outcome, time.time_ns(), dry_run=dry_run, command=name)
                    loop.call_soon_threadsafe(note, event)

        try:
            await self._in_thread(work)
        except Retryable as error:
            self.obstacle = str(error)
            return False
        if self._stopping:
            return False
        if command is not None:
            done = Event(
                at=time.time_ns(), event="done", step=command.command, command=name, dry_run=dry_run, days=days, failures=failures
            )
            self._events.append(done)
        return True

    def _wait(self) -> None:
        self.obstacle = WAITING
        logger().info("waiting for the lock", data_dir=str(self._settings.data_dir))

    def _note(self, event: Event) -> None:
        key = (event.step, event.day, event.partition)
        if event.dry_run:
            pass  # nothing happened
        elif event.event != "failed":
            self._said.pop(key, None)
            self.steps[event.step] += 1
            logger().info(f"day {event.event}", date=event.day, partition=event.partition, generation=event.generation)
        else:
            self.failures[event.step] += 1
            if self._said.get(key) == event.error and not event.command:
                return
            self._said[key] = event.error
            logger().error("a step failed; the day is left as it is", step=event.step, date=event.day, error=event.error)
        self._events.append(event)

    async def _announce(self) -> None:
        while self._events:
            some = list(self._events)[:100]
            await self._bus.announce([msgspec.json.encode(event) for event in some])
            for _ in some:
                self._events.popleft()

    async def _watch(self) -> None:
        """Look at the disk and at the days; an alert where the disk will not last."""
        try:
            disk, self.states = await self._in_thread(self._look)
        except OSError as error:
            self.obstacle = str(error)
            return
        self.disk = disk
        self.damaged = {day.name: error for day, error in self._schedule.damaged.items()}
        left = disk.days_left
        if short := left is not None and left < DAYS_LEFT_MIN:
            text = f"the disk lasts {left:.1f} days at the present growth: add one, or keep fewer days"
        else:
            text = ""
        if short != self._alerted:
            alert = Alert(time.time_ns(), "lifecycle", "", "disk", "raised" if short else "cleared", text)
            with contextlib.suppress(Retryable):  # the next pass says it
                await self._bus.add_alerts([alert])
                self._alerted = short

    def _look(self) -> tuple[Disk, Counter[str]]:
        states: Counter[str] = Counter(dict.fromkeys(STATES, 0))
        for day in tier_days(self._settings.data_dir):
            with contextlib.suppress(Rejected, Retryable, OSError):
                states[day.state() or ""] += 1
        return watch(self._settings.data_dir, self._settings.lifecycle_disk_reserve_bytes), states

    def _today(self) -> int:
        return day_of(time.time_ns())

    async def _in_thread(self, function: Callable[[], R]) -> R:
        """A step may take a minute: the loop goes on moving, and events go out meanwhile."""
        future = asyncio.get_running_loop().run_in_executor(self._thread, function)
        while not future.done():
            self._health.beat(_LOOP)
            await asyncio.wait({future}, timeout=1.0)
            with contextlib.suppress(Retryable):
                await self._announce()
        return await future


def _id(content: bytes) -> str:
    """Of a command that is refused, where it has one."""
    with contextlib.suppress(msgspec.DecodeError, UnicodeDecodeError):
        return msgspec.json.decode(content, type=Command).id
    return ""
