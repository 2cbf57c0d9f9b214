"""What the live ends of all JSON feeds have in common: health, the clock, the pause before another attempt."""

import asyncio
import ssl
import time
from dataclasses import dataclass
from typing import ClassVar

import msgspec

from libs.common.domain.feed import FeedHealth, FeedKind
from libs.common.domain.moment import NS_PER_S
from libs.common.runtime import Backoff, Health, pause
from libs.common.settings import SettingsError
from libs.common.telemetry import logger
from services.gateway.feeds import SourceFeed, WebFeed
from services.gateway.journal import Direction
from services.gateway.recorder import Recorder, now_ns
from services.gateway.staleness import Staleness
from services.gateway.web.fold import JsonFold

MESSAGE_BYTES_MAX = 1_000_000  # of a message, an answer or a batch: some thousand quotes; a larger one is refused unread
TURN_S = 1.0  # between two looks at the clock


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a feed waits, in seconds. A stop takes connect, then close: together less than DRAIN_TIMEOUT_S."""

    connect_s: float = 10.0  # TCP, TLS and the opening handshake
    close_s: float = 5.0
    reconnect_first_s: float = 0.2
    reconnect_cap_s: float = 30.0
    stable_s: float = 10.0  # a connection that stood for this long starts its backoff anew


PATIENCE = Patience()


class WebLink:
    """`up`: quotes can come. `alarm`: why they cannot."""

    kind: ClassVar[FeedKind]

    def __init__(self, feed: WebFeed, fold: JsonFold, recorder: Recorder, *, health: Health, patience: Patience) -> None:
        self.feed = feed
        self.fold = fold
        self.recorder = recorder
        self.up = False
        self.alarm: str | None = None
        self.retry_at: int | None = None  # ns, of the next attempt
        self._health = health
        self._loop_name = f"session {feed.name}"
        self._backoff = Backoff(patience.reconnect_first_s, patience.reconnect_cap_s)
        self._staleness = Staleness(feed, fold)
        self._newly_stale: list[str] = []
        self._log = logger().bind(session=feed.name)

    @property
    def ignored_entries(self) -> int:
        return self.fold.ignored_entries

    @property
    def heartbeat_rtt_s(self) -> float | None:
        return None

    def why_not_ready(self) -> str | None:
        if self.recorder.refuses:
            return "the journal cannot be written"
        return None if self.up else self.alarm or "not connected yet"

    def health(self, at: int) -> FeedHealth:
        fold, state = self.fold, self.fold.state
        return FeedHealth(
            session=self.feed.name, kind=self.kind, state="established" if self.up else "disconnected", up=self.up,
            at=at, since=at, alarm=self.alarm, stale=list(state.stale), last_quote_at=state.last_ts or None,
            messages=fold.messages, garbled=fold.garbled, duplicates_dropped=fold.repeated, heartbeat_rtt_s=self.heartbeat_rtt_s,
            symbols=len(fold.market.books), open_gaps=len(state.open_gaps) + len(state.stale), retry_at=self.retry_at,
        )  # fmt: skip

    async def opened(self) -> None:
        await self.recorder.keep(now_ns(), Direction.OPENED, b"")
        self.up, self.alarm = True, None
        self._staleness.begin()
        self._log.info("connected", kind=self.kind)

    async def closed(self, reason: str) -> None:
        """As the feed says; the first reason of a series is the one that `up` ends with."""
        self.alarm = reason
        if self.up:
            self.up = False
            await self.recorder.keep(now_ns(), Direction.CLOSED, b"")

    def look_at_the_clock(self) -> None:
        """Called once a second while the feed is up. What the disk refuses is said the next time."""
        self._health.beat(self._loop_name)
        at = now_ns()
        self._newly_stale += self._staleness.newly_stale(at)
        over = any(not self.feed.is_open(group, at) for group in self.fold.state.stale)
        if (self._newly_stale or over) and self.recorder.write(at, Direction.CLOCK, msgspec.msgpack.encode(self._newly_stale)):
            self._newly_stale = []

    async def rest(self, reason: str, stopping: asyncio.Event, at_least_s: float = 0.0) -> None:
        """The pause before the next attempt, longer each time."""
        delay_s = max(self._backoff.next_s(), at_least_s)
        self._log.warning("disconnected", reason=reason, retry_in_s=round(delay_s, 3))
        self.retry_at = now_ns() + int(delay_s * NS_PER_S)
        await self.idle(time.monotonic() + delay_s, stopping)
        self.retry_at = None

    async def idle(self, until: float, stopping: asyncio.Event) -> None:
        """Until the monotonic time, or a stop."""
        while not stopping.is_set() and (left_s := until - time.monotonic()) > 0:
            if self.up:
                self.look_at_the_clock()
            self._health.beat(self._loop_name)
            await pause(stopping, min(left_s, TURN_S))


def tls_context(feed: SourceFeed) -> ssl.SSLContext:
    """Verification is always on; a private CA is named in the feed, never switched off."""
    try:
        context = ssl.create_default_context(cafile=str(feed.tls_ca) if feed.tls_ca else None)
    except (OSError, ssl.SSLError) as error:
        raise SettingsError(f"session {feed.name}: TLS file {feed.tls_ca} cannot be used: {error}") from error
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context
