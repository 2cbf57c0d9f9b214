"""The gateway put together: one link a session, one bus for all."""

import asyncio
import os
from collections.abc import Callable, Iterable

from libs.common.bus import BusRefused, RedisBus
from libs.common.domain.errors import Retryable
from libs.common.runtime import Backoff, Health, Loop, StartError, run
from libs.common.settings import SettingsError
from libs.common.store.layout import journal_dir
from libs.common.telemetry import gauge, logger, total
from libs.common.telemetry.metrics import Reading
from services.gateway.feeds import FixFeed, load_feeds
from services.gateway.fix.connection import Link
from services.gateway.fix.session import Session
from services.gateway.journal import Journal
from services.gateway.publisher import Publisher
from services.gateway.replay import recover
from services.gateway.settings import GatewaySettings


async def main(settings: GatewaySettings) -> int:
    feeds = load_feeds(settings.feeds_file)
    bus = RedisBus(settings.redis_url.get_secret_value())
    health = Health()
    links = [build_link(feed, bus, settings, health) for feed in feeds.fix]
    refused = await _check_bus(bus, settings.partitions)
    health.check("bus", lambda: refused[0] if refused else None)
    for link in links:
        health.check(f"session {link.feed.name}", lambda link=link: _why_not_ready(link))  # type: ignore[misc]
    _register_metrics(links)
    loops: dict[str, Loop] = {f"session {link.feed.name}": link.run for link in links}
    loops |= {"bus": _bus_checker(bus, settings.partitions, refused, health)}
    try:
        return await run(loops, health=health, host=settings.http_host, port=settings.gateway_http_port)
    finally:
        await bus.close()


def build_link(feed: FixFeed, bus: RedisBus, settings: GatewaySettings, health: Health) -> Link:
    """A session brought to where its journal left it, ready to connect."""
    password = None
    if feed.password_env is not None:
        password = os.environ.get(feed.password_env)
        if password is None:
            raise SettingsError(f"session {feed.name}: password_env names {feed.password_env}, which is not set")
    journal = Journal(journal_dir(settings.data_dir) / feed.name, settings.gateway_segment_bytes)
    session = Session(feed)
    try:
        recover(journal, session)
        if journal.damaged_bytes:
            logger().warning("the journal's tail was damaged and is set aside", session=feed.name, bytes=journal.damaged_bytes)
        journal.begin_segment(session.snapshot(), leap=True)
    except Retryable as error:
        raise StartError(f"session {feed.name}: {error}: the gateway must be able to write its journal") from error
    publisher = Publisher(
        bus, journal, feed.name, lambda: Session(feed),
        partitions=settings.partitions, durable=session.state.durable, health=health,
    )  # fmt: skip
    return Link(
        feed, session, journal, publisher,
        health=health, password=password, fsync_ms=settings.journal_fsync_ms, keep_days=settings.journal_keep_days,
    )  # fmt: skip


async def _check_bus(bus: RedisBus, partitions: int) -> list[str]:
    """Refuse to start on a Redis that must not be used; one that is away is awaited while the journal fills."""
    try:
        await bus.check(partitions)
    except BusRefused as error:
        raise StartError(str(error)) from error
    except Retryable as error:
        return [str(error)]
    return []


def _bus_checker(bus: RedisBus, partitions: int, refused: list[str], health: Health) -> Loop:
    """A Redis that was away at the start is checked when it comes."""

    async def check(stopping: asyncio.Event) -> None:
        backoff = Backoff(cap_s=5.0)
        while refused and not stopping.is_set():
            health.beat("bus")
            await backoff.wait(stopping)
            refused[:] = await _check_bus(bus, partitions)
        health.end("bus")
        await stopping.wait()

    return check


def _why_not_ready(link: Link) -> str | None:
    if link.connection is not None and link.connection.blocked:
        return "the journal cannot be written"
    status = link.session.state.status
    return None if status == "established" else (link.session.alarm or link.session.disconnect_reason or status)


def _register_metrics(links: list[Link]) -> None:
    def of_each(value: str) -> Iterable[Reading]:
        readers: dict[str, Callable[[Link], float]] = {
            "up": lambda link: link.session.state.status == "established",
            "next_in": lambda link: link.session.state.next_in,
            "next_out": lambda link: link.session.state.next_out,
            "messages": lambda link: link.session.counts.messages,
            "garbled": lambda link: link.session.counts.garbled,
            "rejects": lambda link: link.session.counts.rejects_received,
            "resend_requests": lambda link: link.session.counts.resend_requests,
            "dropped": lambda link: link.session.counts.dropped_duplicates,
            "ignored": lambda link: link.session.market.ignored_entries,
            "published": lambda link: link.publisher.published_ticks,
            "behind": lambda link: link.publisher.behind,
            "undurable": lambda link: max(0, link.journal.end - max(link.publisher.durable, 0)),
            "rtt": lambda link: (link.connection and link.connection.heartbeat_rtt_s) or 0.0,
        }
        return [(readers[value](link), {"session": link.feed.name}) for link in links]

    gauge("fix_session_up", "1 while the session is established", lambda: of_each("up"))
    gauge("fix_session_next_in_seqnum", "the MsgSeqNum expected next", lambda: of_each("next_in"))
    gauge("fix_session_next_out_seqnum", "the MsgSeqNum sent next", lambda: of_each("next_out"))
    gauge("fix_session_heartbeat_rtt", "round trip of the last answered TestRequest", lambda: of_each("rtt"), unit="s")
    gauge("journal_behind", "1 while the journal, not memory, holds what is to be published", lambda: of_each("behind"))
    gauge("journal_not_durable", "journal positions not yet durable downstream", lambda: of_each("undurable"), unit="By")
    total("fix_messages", "frames received", lambda: of_each("messages"))
    total("fix_garbled", "pieces that were no FIX frame", lambda: of_each("garbled"))
    total("fix_rejects_received", "Reject and BusinessMessageReject received", lambda: of_each("rejects"))
    total("fix_resend_requests", "gaps asked for", lambda: of_each("resend_requests"))
    total("fix_duplicates_dropped", "possible duplicates already seen", lambda: of_each("dropped"))
    total("fix_entries_ignored", "market data entries other than bid and offer", lambda: of_each("ignored"))
    total("ticks_published", "ticks published, those published again included", lambda: of_each("published"))
