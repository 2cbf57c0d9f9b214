"""The consumer loop: read, write, publish the watermark, acknowledge, in this order.

lock ─▶ watermark from SQLite to Redis ─▶ own pending entries ─▶ new entries ─▶ …
                   ▲                                                  │ Redis or disk refuses
                   └──────────────────────────────────────────────────┘
"""

import asyncio
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar, TypeVarTuple

from libs.common.bus import Bus, BusRefused, Delivery
from libs.common.domain.errors import Retryable
from libs.common.domain.moment import day_name
from libs.common.runtime import Backoff, Health
from libs.common.store import Written
from libs.common.telemetry import histogram, logger
from libs.common.telemetry.chaos import point
from services.persistence.days import Days
from services.persistence.sorting import Positions, sort

READ_ENTRIES = 128  # at most 40 MB of payload
COMMIT_TICKS_MAX = 20_000  # decoded at a time, about 10 MB
COMMIT_BYTES_MAX = 4_000_000  # of payload, for books: 40 levels are 640 bytes, and 4 kB decoded
BUSY_TICKS_PER_S = 30_000  # from this rate on, commits wait for each other: a page of a symbol is then written for many ticks
BUSY_WINDOW_S = 0.2
BUSY_PAUSE_S = 0.02
BLOCK_MS = 1_000
TRIM_INTERVAL_S = 10.0
ROTATE_INTERVAL_S = 1.0

_LOOP = "writer"

A = TypeVarTuple("A")
R = TypeVar("R")


class Writer:
    """Writes one partition. `run_once` is the loop's body."""

    def __init__(
        self, bus: Bus, days: Days, *, partition: int, partitions: int, replay_hours: float, bytes_max: int, health: Health
    ) -> None:
        self._bus = bus
        self._days = days
        self._partition = partition
        self._partitions = partitions
        self._replay_hours = replay_hours
        self._bytes_max = bytes_max
        self._health = health
        self._thread = ThreadPoolExecutor(1, "sqlite")  # SQLite waits for the disk; the loop must go on answering
        self._positions = Positions()
        self._trimmed_at = self._rotated_at = 0.0
        self._window_at, self._stored_before, self._busy = time.monotonic(), 0, False
        self.obstacle: str | None = "starting"
        self.written = Written()
        self.commits = self.poisoned = self.lost = 0
        self._latency = histogram("ticks_end_to_end_latency", "read from the socket to durable, of the oldest tick of an entry")

    async def run(self, stopping: asyncio.Event) -> None:
        """Write until stopping; whatever is refused is tried again, from the last acknowledged entry on."""
        backoff = Backoff(cap_s=5.0)
        recovered = False
        while not stopping.is_set():
            try:
                if not recovered:
                    await self._bus.check(self._partitions)  # the store follows the streams in their number of partitions
                    await self._in_thread(self._recover)
                    recovered = True
                await self.take_up()
                self.obstacle = None
                backoff.reset()
                while not stopping.is_set():
                    await self.run_once()
            except (Retryable, BusRefused) as error:
                self.obstacle = str(error)
                logger().warning("cannot write; nothing is acknowledged until it works", error=str(error))
                self._health.beat(_LOOP)
                await backoff.wait(stopping)
        await self._in_thread(self._days.close)
        self._health.end(_LOOP)

    def _recover(self) -> None:
        durable = self._days.recover()
        self._positions = Positions(durable, dict(durable), self._days.begin)

    async def take_up(self) -> None:
        """What a start and a return of Redis have in common: it may be empty, or hold what was never acknowledged."""
        await self._bus.check(self._partitions)
        await self._bus.join(self._partition)
        await self._bus.set_watermarks(self._partition, self._positions.durable)
        after = "0"
        while pending := await self._bus.read_pending(self._partition, after, READ_ENTRIES):
            self._health.beat(_LOOP)
            for some in in_commits(pending):
                await self._handle(some, again=True)
            after = pending[-1].entry_id

    async def run_once(self) -> None:
        """One batch, or one wait for it; then what is due: rotation, trim."""
        self._health.beat(_LOOP)
        deliveries = await self._bus.read_new(self._partition, READ_ENTRIES, BLOCK_MS)
        for some in in_commits(deliveries):
            await self._handle(some)
        now = time.monotonic()
        if (elapsed_s := now - self._window_at) > BUSY_WINDOW_S:
            self._busy = self.written.stored - self._stored_before > BUSY_TICKS_PER_S * elapsed_s
            self._stored_before, self._window_at = self.written.stored, now
        if self._busy and len(deliveries) < READ_ENTRIES:
            await asyncio.sleep(BUSY_PAUSE_S)
        if now - self._rotated_at > ROTATE_INTERVAL_S:
            self._rotated_at = now
            for day in await self._in_thread(self._close_due):
                logger().info("day closed", day=day_name(day))
        if now - self._trimmed_at > TRIM_INTERVAL_S:
            self._trimmed_at = now
            await self._bus.trim(self._partition, self._replay_hours, self._bytes_max)

    def _close_due(self) -> list[int]:
        return self._days.close_due(time.time_ns())

    async def _handle(self, deliveries: list[Delivery], *, again: bool = False) -> None:
        point("read_not_written")
        work = sort(deliveries, self._positions, again=again)
        self.written += await self._in_thread(self._days.write, work.batches, work.positions.durable)
        point("committed_not_acknowledged")
        self._positions = work.positions
        self.commits += 1
        self.poisoned += work.poisoned
        self.lost += work.lost
        if work.lost:
            logger().error("entries were trimmed before they were read; the gateway publishes them again", entries=work.lost)
        now = time.time_ns()
        for session, recv_ts in work.oldest_recv:
            self._latency.record(max(0.0, (now - recv_ts) / 1e9), {"session": session})
        await self._bus.commit(self._partition, work.positions.durable, work.entry_ids)
        point("acknowledged")

    async def _in_thread(self, function: Callable[[*A], R], *arguments: *A) -> R:
        return await asyncio.get_running_loop().run_in_executor(self._thread, function, *arguments)


def in_commits(deliveries: list[Delivery]) -> Iterator[list[Delivery]]:
    """The deliveries in order, in parts of as many ticks and bytes as one commit takes."""
    part: list[Delivery] = []
    ticks = size = 0
    for delivery in deliveries:
        fields = delivery.fields or {}
        count = fields.get(b"n", b"")
        entry_ticks = int(count) if count.isdigit() and len(count) < 9 else 0
        entry_size = len(fields.get(b"d", b""))
        if part and (ticks + entry_ticks > COMMIT_TICKS_MAX or size + entry_size > COMMIT_BYTES_MAX):
            yield part
            part, ticks, size = [], 0, 0
        part.append(delivery)
        ticks += entry_ticks
        size += entry_size
    if part:
        yield part
