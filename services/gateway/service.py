"""The gateway put together: one link a session, one bus for all."""

import asyncio
import os
from collections.abc import Callable, Iterable, Sequence

from libs.common.bus import BusRefused, RedisBus
from libs.common.domain.errors import Retryable
from libs.common.domain.feed import FeedHealth
from libs.common.runtime import Backoff, Health, Loop, StartError, run
from libs.common.settings import SettingsError
from libs.common.store.layout import journal_dir
from libs.common.telemetry import gauge, logger, total
from libs.common.telemetry.metrics import Reading
from services.gateway.feeds import Feed, FixFeed, load_feeds
from services.gateway.fix.connection import Link as FixLink
from services.gateway.fix.session import Session
from services.gateway.fold import Fold
from services.gateway.journal import Journal
from services.gateway.monitor import Link, Monitor
from services.gateway.publisher import Publisher
from services.gateway.recorder import Recorder, now_ns
from services.gateway.replay import recover
from services.gateway.settings import GatewaySettings


async def main(settings: GatewaySettings) -> int:
    feeds = load_feeds(settings.feeds_file)
    bus = RedisBus(settings.redis_url.get_secret_value())
    health = Health()
    links: list[Link] = [build_link(feed, bus, settings, health) for feed in feeds.fix]
    refused = await _check_bus(bus, settings.partitions)
    health.check("bus", lambda: refused[0] if refused else None)
    for link in links:
        health.check(f"session {link.feed.name}", link.why_not_ready)
    _register_metrics(links)
    loops: dict[str, Loop] = {f"session {link.feed.name}": link.run for link in links}
    loops |= {"bus": _bus_checker(bus, settings.partitions, refused, health), "monitor": Monitor(bus, links, health).run}
    try:
        return await run(loops, health=health, host=settings.http_host, port=settings.gateway_http_port)
    finally:
        await bus.close()


def new_fold(feed: Feed) -> Fold:
    """A feed's fold before the first record of its journal."""
    assert isinstance(feed, FixFeed)
    return Session(feed)


def build_link(feed: FixFeed, bus: RedisBus, settings: GatewaySettings, health: Health) -> FixLink:
    """A session brought to where its journal left it, ready to connect."""
    password = None
    if feed.password_env is not None:
        password = os.environ.get(feed.password_env)
        if password is None:
            raise SettingsError(f"session {feed.name}: password_env names {feed.password_env}, which is not set")
    session = Session(feed)
    recorder = build_recorder(feed, session, lambda: Session(feed), bus, settings, health)
    return FixLink(session, recorder, health=health, password=password)


def build_recorder(
    feed: Feed, fold: Fold, new_fold: Callable[[], Fold], bus: RedisBus, settings: GatewaySettings, health: Health
) -> Recorder:
    """The feed's journal, replayed into `fold`, and the publisher behind it."""
    journal = Journal(journal_dir(settings.data_dir) / feed.name, settings.gateway_segment_bytes)
    try:
        recover(journal, fold)
        if journal.damaged_bytes:
            logger().warning("the journal's tail was damaged and is set aside", session=feed.name, bytes=journal.damaged_bytes)
        journal.begin_segment(fold.snapshot(fold.durable), leap=True)
    except Retryable as error:
        raise StartError(f"session {feed.name}: {error}: the gateway must be able to write its journal") from error
    publisher = Publisher(
        bus, journal, feed.name, new_fold, partitions=settings.partitions, durable=fold.durable, health=health
    )  # fmt: skip
    return Recorder(
        feed.name,
        fold,
        journal,
        publisher,
        health=health,
        fsync_ms=settings.journal_fsync_ms,
        keep_days=settings.journal_keep_days,
    )


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


def _register_metrics(links: Sequence[Link]) -> None:
    def of_each(read: Callable[[FeedHealth], float | None]) -> Callable[[], Iterable[Reading]]:
        def readings() -> Iterable[Reading]:
            reports = [link.health(now_ns()) for link in links]
            return [(value, {"session": report.session}) for report in reports if (value := read(report)) is not None]

        return readings

    def of_recorders(read: Callable[[Recorder], float]) -> Callable[[], Iterable[Reading]]:
        return lambda: [(read(link.recorder), {"session": link.feed.name}) for link in links]

    gauge("fix_session_up", "1 while the session is established", of_each(lambda report: report.up))
    gauge("fix_session_next_in_seqnum", "the MsgSeqNum expected next", of_each(lambda report: report.next_in))
    gauge("fix_session_next_out_seqnum", "the MsgSeqNum sent next", of_each(lambda report: report.next_out))
    gauge(
        "fix_session_heartbeat_rtt",
        "round trip of the last TestRequest",
        of_each(lambda report: report.heartbeat_rtt_s),
        unit="s",
    )
    gauge("feed_stale_groups", "market-hours groups that are open and quiet", of_each(lambda report: len(report.stale)))
    gauge("feed_symbols", "symbols subscribed to", of_each(lambda report: report.symbols))
    gauge("feed_symbols_refused", "symbols the provider refused", of_each(lambda report: len(report.refused_symbols)))
    gauge("feed_open_gaps", "gaps that have not ended", of_each(lambda report: report.open_gaps))
    gauge(
        "journal_behind", "1 while the journal, not memory, holds what is to be published",
        of_recorders(lambda recorder: recorder.publisher.behind),
    )  # fmt: skip
    gauge(
        "journal_not_durable", "journal positions not yet durable downstream",
        of_recorders(lambda recorder: max(0, recorder.journal.end - max(recorder.publisher.durable, 0))), unit="By",
    )  # fmt: skip
    total("fix_messages", "messages received", of_each(lambda report: report.messages))
    total("fix_garbled", "pieces that were no FIX frame", of_each(lambda report: report.garbled))
    total("fix_rejects_received", "Reject and BusinessMessageReject received", of_each(lambda report: report.rejects_received))
    total("fix_resend_requests", "ResendRequests sent", of_each(lambda report: report.resend_requests))
    total("fix_duplicates_dropped", "possible duplicates already seen", of_each(lambda report: report.duplicates_dropped))
    total(
        "fix_entries_ignored", "market data entries of other types than asked for",
        lambda: [(link.ignored_entries, {"session": link.feed.name}) for link in links],
    )  # fmt: skip
    total(
        "ticks_published", "ticks published, those published again included",
        of_recorders(lambda recorder: recorder.publisher.published_ticks),
    )  # fmt: skip
