"""How the feeds are, told once a second: `feed_health` for whoever asks now, `alerts` for what came and went."""

import asyncio
from collections import deque
from collections.abc import Sequence
from typing import Protocol

import msgspec

from libs.common.bus import Bus
from libs.common.domain.errors import Retryable
from libs.common.domain.feed import Alert, FeedHealth, FeedState
from libs.common.domain.moment import NS_PER_S
from libs.common.runtime import Health, pause
from libs.common.telemetry import logger
from services.gateway.feeds import Feed
from services.gateway.recorder import Recorder, now_ns

INTERVAL_S = 1.0
DOWN_TOO_LONG_NS = 10 * NS_PER_S  # a reconnect within this is not worth an alert
WAITING_ALERTS_MAX = 1_000  # while Redis is away; the log has them all


class Link(Protocol):
    """A feed of any kind, for the service around it."""

    recorder: Recorder

    @property
    def feed(self) -> Feed: ...

    async def run(self, stopping: asyncio.Event) -> None: ...

    def health(self, at: int) -> FeedHealth:
        """`since` and the alerts that time decides are the monitor's; `alerts` holds the feed's own."""

    def why_not_ready(self) -> str | None: ...

    @property
    def ignored_entries(self) -> int:
        """Market data that is of no kind we asked for."""


class Monitor:
    def __init__(self, bus: Bus, links: Sequence[Link], health: Health) -> None:
        self._bus = bus
        self._links = links
        self._health = health
        self._states: dict[str, tuple[FeedState, int]] = {}
        self._down_since: dict[str, int] = {}
        self._raised: dict[str, dict[str, str]] | None = None  # session -> kind -> text; None: what a former process raised
        self._waiting: deque[Alert] = deque(maxlen=WAITING_ALERTS_MAX)

    async def run(self, stopping: asyncio.Event) -> None:
        while not stopping.is_set():
            self._health.beat("monitor")
            try:
                await self.run_once(now_ns())
            except Retryable as error:  # the publishers say so in the log
                logger().debug("feed health cannot be written", error=str(error))
            await pause(stopping, INTERVAL_S)
        self._health.end("monitor")

    async def run_once(self, now: int) -> None:
        if self._raised is None:
            self._raised = {known.session: dict(known.alerts) for known in await self._bus.feed_health()}
        reports = [self._report(link, now) for link in self._links]
        for report in reports:
            self._note(report, self._raised.get(report.session, {}), now)
            self._raised[report.session] = report.alerts
        await self._bus.set_feed_health(reports)
        if self._waiting:
            await self._bus.add_alerts(list(self._waiting))
            self._waiting.clear()

    def _report(self, link: Link, now: int) -> FeedHealth:
        report = link.health(now)
        state, since = self._states.get(report.session, (None, now))
        if state != report.state:
            since = now
        self._states[report.session] = report.state, since
        alerts = dict(report.alerts)
        if report.up or report.state == "out_of_schedule":
            self._down_since.pop(report.session, None)
        elif now - self._down_since.setdefault(report.session, now) > DOWN_TOO_LONG_NS:
            alerts.setdefault("disconnected", report.alarm or report.state)
        if report.stale:
            alerts["stale"] = f"no quotes although the market is open: {', '.join(report.stale)}"
        if link.recorder.refuses:
            alerts["disk"] = link.recorder.refuses
        return msgspec.structs.replace(report, since=since, alerts=alerts)

    def _note(self, report: FeedHealth, before: dict[str, str], now: int) -> None:
        for kind, text in report.alerts.items():
            if kind not in before:
                self._waiting.append(Alert(now, "gateway", report.session, kind, "raised", text))
                logger().warning("alert raised", session=report.session, kind=kind, text=text)
        for kind, text in before.items():
            if kind not in report.alerts:
                self._waiting.append(Alert(now, "gateway", report.session, kind, "cleared", text))
                logger().info("alert cleared", session=report.session, kind=kind)
