"""From a source of quotes to all sessions, at the pace of the source and of the slowest client.

    wait for a settled subscriber ─▶ take what is due ─▶ publish to each session ─▶ wait until all sockets took it ─▶ again

Nothing is generated while nobody listens, while a line stalls or while a socket is full, so nothing has to be dropped or kept.
That is why this loop shows no heartbeat to the health check: being held back is its normal state.
"""

import asyncio
import math
import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from typing import Protocol

from libs.common.domain.moment import NS_PER_MS, NS_PER_S
from libs.common.runtime import pause
from libs.common.telemetry import logger
from services.simulator.market.quote import Quote
from services.simulator.session import Session

SLICE_S = 0.005
SLICE_QUOTES_MAX = 1_000  # some 10 ms of work, then others have a turn
ARREARS_MAX_S = 1.0  # a market that was held back for longer does not make up for it


class Source(Protocol):
    """Where quotes come from. `now_s` is monotonic."""

    exhausted: bool

    def take(self, now_s: float, count_max: int) -> list[Quote]:
        """What is due, at most `count_max`."""

    def hold(self) -> None:
        """Time passes without counting, until the next take."""

    def snapshot(self, symbol: bytes) -> Quote | None:
        """The current quote; None where there is none yet."""


class Market(Protocol):
    """A synthetic one, in runs of `run` symbols that share a message. ts in ns, never falling."""

    run: int

    def quotes(self, ts: int, count: int) -> list[Quote]:
        """The next `count`, all as of `ts`."""

    def quote(self, symbol: bytes, ts: int) -> Quote:
        """One symbol, as for a snapshot."""


class LiveMarket:
    """A synthetic market in real time: `rate` quotes a second, event times in whole ms."""

    exhausted = False

    def __init__(self, market: Market, rate: float, now_ns: Callable[[], int] = time.time_ns) -> None:
        self._market = market
        self._rate = rate
        self._now_ns = now_ns
        self._last_ts = 0
        self._taken_at: float | None = None
        self._due = 0.0

    def take(self, now_s: float, count_max: int) -> list[Quote]:
        if self._taken_at is not None:
            due = self._due + (now_s - self._taken_at) * self._rate
            self._due = min(due, max(self._market.run, self._rate * ARREARS_MAX_S))
        self._taken_at = now_s
        count = min(int(self._due), count_max)
        count -= count % min(self._market.run, count_max)  # whole runs, but for the last one of a limited count
        self._due -= count
        return self._market.quotes(self._now(), count) if count else []

    def hold(self) -> None:
        self._taken_at = None

    def snapshot(self, symbol: bytes) -> Quote | None:
        return self._market.quote(symbol, self._now())

    def _now(self) -> int:
        """A clock that is set back does not take the market with it."""
        self._last_ts = max(self._last_ts, self._now_ns() // NS_PER_MS * NS_PER_MS)
        return self._last_ts


class Recording:
    """Recorded quotes, in their order, `speed` times as fast as they came; math.inf is as fast as the sockets take them."""

    def __init__(self, quotes: Iterator[Quote], speed: float) -> None:
        self.exhausted = False
        self._quotes = quotes
        self._speed = speed
        self._next = next(quotes, None)
        self._latest: dict[bytes, Quote] = {}
        self._began: tuple[float, int] | None = None  # at this time (s) the event time was this (ns)

    def take(self, now_s: float, count_max: int) -> list[Quote]:
        quote, latest = self._next, self._latest
        taken: list[Quote] = []
        until = self._event_time(now_s)
        while quote is not None and quote.ts <= until and len(taken) < count_max:
            taken.append(quote)
            latest[quote.symbol] = quote
            quote = next(self._quotes, None)
        self._next = quote
        self.exhausted = quote is None
        return taken

    def _event_time(self, now_s: float) -> float:
        if self._next is None or self._speed == math.inf:
            return math.inf
        if self._began is None:
            self._began = (now_s, self._next.ts)
        began_s, began_ts = self._began
        return began_ts + (now_s - began_s) * self._speed * NS_PER_S

    def hold(self) -> None:
        self._began = None

    def snapshot(self, symbol: bytes) -> Quote | None:
        return self._latest.get(symbol)


@dataclass(frozen=True, slots=True)
class Limits:
    """When to end: after so many quotes that reached a client, so many seconds of quoting, or with the source."""

    count: int | None = None
    duration_s: float | None = None
    exit_when_done: bool = False


class Feed:
    def __init__(self, name: str, source: Source, sessions: Collection[Session], limits: Limits) -> None:
        self.sent = 0
        self._name = name  # what is complete in the end
        self._source = source
        self._sessions = sessions
        self._limits = limits
        self._began_s: float | None = None

    async def run(self, stopping: asyncio.Event) -> None:
        while not stopping.is_set() and not self._done(time.monotonic()):
            busy = await self.run_once(stopping, time.monotonic())
            if busy:
                await asyncio.sleep(0)
            else:
                await pause(stopping, SLICE_S)
        if not stopping.is_set():
            logger().info(f"{self._name} complete", count=self.sent)
            if self._limits.exit_when_done:
                while any(session.line.unsent_bytes for session in self._sessions) and not stopping.is_set():
                    await pause(stopping, SLICE_S)
            else:
                await stopping.wait()

    async def run_once(self, stopping: asyncio.Event, now_s: float) -> bool:
        """One slice; whether more is due already."""
        if not any(session.settled for session in self._sessions):
            self._source.hold()
            return False
        if stalled_s := max(session.stalled_s for session in self._sessions):
            self._source.hold()
            await pause(stopping, min(stalled_s, 1.0))
            return False
        if self._began_s is None:
            self._began_s = now_s
        left = SLICE_QUOTES_MAX if self._limits.count is None else min(SLICE_QUOTES_MAX, self._limits.count - self.sent)
        quotes = self._source.take(now_s, left)
        if quotes:
            self.sent += max(session.publish(quotes) for session in self._sessions)
            for session in list(self._sessions):
                await session.line.drained()
        return len(quotes) == left

    def _done(self, now_s: float) -> bool:
        count, duration_s = self._limits.count, self._limits.duration_s
        return (
            self._source.exhausted
            or (count is not None and self.sent >= count)
            or (duration_s is not None and self._began_s is not None and now_s - self._began_s >= duration_s)
        )
