"""The newest quote of every symbol and provider, held in memory: a fold of the stream's tail and of all that follows.

tail of each partition ─▶ ready ─▶ follow ─▶ …    on Retryable: back off, follow on from the last entry seen
"""

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable
from typing import Any, Protocol

from libs.common.bus import Backlog, BusRefused, Delivery, Poison, decode_payload, read_entry
from libs.common.domain.errors import Rejected, Retryable
from libs.common.domain.feed import Alert, FeedHealth
from libs.common.domain.record import Tick
from libs.common.runtime import Backoff, Health, pause
from libs.common.telemetry import logger

TAIL_ENTRIES_MAX = 500  # at 5,000 ticks an entry the largest answer Redis gives at start, about 150 MB
TAIL_TICKS_MAX = 500_000  # read at start at most: about half a second
BLOCK_MS = 1_000  # how long Redis holds a read that finds nothing; well below the bus's socket timeout
BEAT_S = 1.0
CANCEL_AGAIN_S = 0.1
BREATH_TICKS = 2_000  # after an entry this large the HTTP side gets its turn
RATE_WINDOW_S = 10
LATENCY_SAMPLES_MAX = 1_000  # one an entry

LOOP = "follower"


class Stream(Protocol):
    """What is needed of the bus."""

    async def check(self, partitions: int, *, read_only: bool = False) -> None: ...
    async def tail(self, partition: int, count: int) -> list[Delivery]: ...
    def follow(self, partitions: int, block_ms: int, after: dict[int, str]) -> AsyncIterator[tuple[int, Delivery]]: ...
    async def backlog(self, partition: int) -> Backlog: ...
    async def feed_health(self) -> list[FeedHealth]: ...
    async def alerts(self, count: int) -> list[Alert]: ...


class Latest:
    """Quotes by symbol and provider. Newest is the highest (ts, seq): what arrives out of order or again changes nothing."""

    def __init__(self, *, monotonic: Callable[[], float] = time.monotonic, now: Callable[[], int] = time.time_ns) -> None:
        self._quotes: dict[str, dict[str, Tick]] = {}
        self._monotonic = monotonic
        self._now = now
        self._arrivals: deque[tuple[int, int]] = deque()  # second, ticks that arrived in it
        self._latencies: deque[tuple[float, float]] = deque(maxlen=LATENCY_SAMPLES_MAX)  # arrival, seconds since recv_ts
        self.followed = 0
        self.unreadable = 0

    def take(self, delivery: Delivery, *, live: bool) -> int:
        """Fold one entry in; how many ticks it held. `live` is False for the tail, which arrived long ago."""
        if delivery.fields is None:  # trimmed before it was read
            return 0
        entry = read_entry(delivery.fields)
        if isinstance(entry, Poison):
            self.unreadable += 1  # persistence puts it into quarantine
            return 0
        if entry.kind != "ticks":
            return 0
        try:
            rows = decode_payload(entry)
        except Rejected:
            self.unreadable += 1
            return 0
        self._fold(rows)
        if live and rows:
            self._arrived(len(rows), recv_ts=rows[-1][4])
        return len(rows)

    def _fold(self, rows: Iterable[Any]) -> None:
        quotes = self._quotes
        newest: dict[tuple[str, str], Any] = {}
        for row in rows:
            key = row[0], row[1]
            known = newest.get(key)
            if known is None or (row[2], row[3]) >= (known[2], known[3]):
                newest[key] = row
        for (symbol, provider), row in newest.items():
            held = quotes.setdefault(symbol, {}).get(provider)
            if held is None or (row[2], row[3]) >= (held.ts, held.seq):
                quotes[symbol][provider] = Tick(*row)

    def _arrived(self, ticks: int, *, recv_ts: int) -> None:
        at = self._monotonic()
        self.followed += ticks
        self._latencies.append((at, max(0, self._now() - recv_ts) / 1e9))
        if self._arrivals and self._arrivals[-1][0] == int(at):
            self._arrivals[-1] = (int(at), self._arrivals[-1][1] + ticks)
        else:
            self._arrivals.append((int(at), ticks))
            while self._arrivals[0][0] < int(at) - RATE_WINDOW_S:
                self._arrivals.popleft()

    def symbols(self) -> list[str]:
        return list(self._quotes)

    def quotes(self, symbol: str) -> list[Tick]:
        """One a provider, newest first; empty where the stream has none."""
        return sorted(self._quotes.get(symbol, {}).values(), key=lambda tick: (-tick.ts, tick.provider))

    def ticks_per_s(self) -> float:
        """On arrival, over the last whole seconds of the window."""
        second = int(self._monotonic())
        return sum(ticks for at, ticks in self._arrivals if second - RATE_WINDOW_S <= at < second) / RATE_WINDOW_S

    def latencies_s(self) -> list[float]:
        """From the gateway's reading of a message to its arrival here, one sample an entry of the window, ascending."""
        since = self._monotonic() - RATE_WINDOW_S
        return sorted(seconds for at, seconds in self._latencies if at >= since)


class Follower:
    """The loop that keeps `latest` up to date."""

    def __init__(
        self, stream: Stream, partitions: int, latest: Latest, health: Health, *, backoff: Backoff | None = None
    ) -> None:
        self._stream = stream
        self._partitions = partitions
        self._latest = latest
        self._health = health
        self._backoff = backoff or Backoff(cap_s=5.0)
        self._seen: dict[int, str] = {}
        self.tail_read = asyncio.Event()
        self.obstacle: str | None = "the stream has not been read yet"
        health.check("stream", lambda: None if self.tail_read.is_set() else self.obstacle)

    async def run(self, stopping: asyncio.Event) -> None:
        """Until stopping. A failing Redis is waited for; anything else is a bug and ends the loop."""
        reading = asyncio.create_task(self._read_until(stopping))
        try:
            while not stopping.is_set() and not reading.done():
                self._health.beat(LOOP)
                stop = asyncio.create_task(pause(stopping, BEAT_S))
                await asyncio.wait({stop, reading}, return_when=asyncio.FIRST_COMPLETED)
                stop.cancel()
        finally:
            while not reading.done():  # redis-py loses a cancellation that falls into its connecting
                reading.cancel()
                await asyncio.wait({reading}, timeout=CANCEL_AGAIN_S)
            with contextlib.suppress(asyncio.CancelledError):
                await reading
            self._health.end(LOOP)

    async def _read_until(self, stopping: asyncio.Event) -> None:
        while not stopping.is_set():
            try:
                await self._read()
            except (Retryable, BusRefused) as error:
                if isinstance(error, BusRefused):
                    self.tail_read.clear()  # what was read is not all there is
                self.obstacle = str(error)
                logger().warning("stream cannot be read", reason=str(error), failures=self._backoff.failures)
                await self._backoff.wait(stopping)

    async def _read(self) -> None:
        if not self.tail_read.is_set():
            await self.read_tail()
        stream = self._stream.follow(self._partitions, BLOCK_MS, dict(self._seen))
        checked = False
        async for partition, delivery in stream:
            if not checked:  # an empty Redis has no number of partitions; whoever fills it settles one
                await self._stream.check(self._partitions, read_only=True)
                checked = True
            self._backoff.reset()
            self._seen[partition] = delivery.entry_id
            if self._latest.take(delivery, live=True) >= BREATH_TICKS:
                await asyncio.sleep(0)

    async def read_tail(self) -> None:
        """The newest entries of every partition, newest first, up to a bound of ticks."""
        await self._stream.check(self._partitions, read_only=True)
        for partition in range(self._partitions):
            ticks = 0
            deliveries = await self._stream.tail(partition, TAIL_ENTRIES_MAX)
            self._seen[partition] = deliveries[0].entry_id if deliveries else "0"
            for delivery in deliveries:
                ticks += self._latest.take(delivery, live=False)
                if ticks >= TAIL_TICKS_MAX:
                    break
                await asyncio.sleep(0)
        self.tail_read.set()
        logger().info("stream read", symbols=len(self._latest.symbols()), partitions=self._partitions)
