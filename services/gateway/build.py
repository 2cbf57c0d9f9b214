"""From a feed of the feeds file to its fold, journal, publisher and link."""

import os

from libs.common.bus import Bus
from libs.common.domain.errors import Retryable
from libs.common.runtime import Health, StartError
from libs.common.settings import SettingsError
from libs.common.store.layout import journal_dir
from libs.common.telemetry import logger
from services.gateway.feeds import Feed, FixFeed, RestFeed, SinkFeed, SourceFeed, WebSocketFeed
from services.gateway.fix.connection import Link as FixLink
from services.gateway.fix.session import Session
from services.gateway.fold import Fold
from services.gateway.journal import Journal
from services.gateway.monitor import Link
from services.gateway.publisher import Publisher
from services.gateway.recorder import Recorder
from services.gateway.replay import recover
from services.gateway.settings import GatewaySettings
from services.gateway.web.batch import SinkFold
from services.gateway.web.fold import JsonFold, PolledFold
from services.gateway.web.rest import RestLink
from services.gateway.web.sink import SinkLink
from services.gateway.web.websocket import WebSocketLink


def new_fold(feed: Feed) -> Fold:
    """A feed's fold before the first record of its journal."""
    match feed:
        case FixFeed():
            return Session(feed)
        case WebSocketFeed():
            return JsonFold(feed, feed.items, feed.fields)
        case RestFeed():
            return PolledFold(feed, feed.items, feed.fields)
        case SinkFeed():
            return SinkFold(feed)
    raise AssertionError(f"a feed of no kind: {feed!r}")


def build_link(feed: Feed, bus: Bus, settings: GatewaySettings, health: Health) -> Link:
    """A feed brought to where its journal left it, ready to connect. SettingsError: a secret it names is not set."""

    def recorder(fold: Fold) -> Recorder:
        return _recorder(feed, fold, bus, settings, health)

    fold = new_fold(feed)
    match feed, fold:
        case FixFeed(), Session():
            password = None if feed.password_env is None else _secret(feed, "password_env", feed.password_env)
            return FixLink(fold, recorder(fold), health=health, password=password)
        case WebSocketFeed(), JsonFold():
            return WebSocketLink(feed, fold, recorder(fold), health=health, headers=_headers(feed))
        case RestFeed(), PolledFold():
            return RestLink(feed, fold, recorder(fold), health=health, headers=_headers(feed))
        case SinkFeed(), SinkFold():
            return SinkLink(feed, fold, recorder(fold), health=health, token=_secret(feed, "token_env", feed.token_env))
    raise AssertionError(f"a feed of no kind: {feed!r}")


def _recorder(feed: Feed, fold: Fold, bus: Bus, settings: GatewaySettings, health: Health) -> Recorder:
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
        bus, journal, feed.name, lambda: new_fold(feed), partitions=settings.partitions, durable=fold.durable, health=health
    )
    return Recorder(
        feed.name, fold, journal, publisher,
        health=health, fsync_ms=settings.journal_fsync_ms, keep_days=settings.journal_keep_days,
    )  # fmt: skip


def _headers(feed: SourceFeed) -> dict[str, str]:
    found = {header: _secret(feed, f"headers_env.{header}", variable) for header, variable in feed.headers_env.items()}
    for header, value in found.items():
        if not (value.isascii() and value.isprintable()):
            raise SettingsError(f"session {feed.name}: {feed.headers_env[header]} holds what cannot be sent in a header")
    return found


def _secret(feed: Feed, key: str, variable: str) -> str:
    """From the environment, by the name that the feed gives for it."""
    value = os.environ.get(variable)
    if not value:
        raise SettingsError(f"session {feed.name}: {key} names {variable}, which is not set")
    return value
