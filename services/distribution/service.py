"""What distribution consists of: the only place that names concrete classes."""

import time
from collections.abc import Callable
from dataclasses import dataclass

from libs.common.bus import RedisBus
from libs.common.runtime import Health, Loop, run
from libs.common.runtime.health import Application
from libs.common.store.history import HistoryReader
from libs.common.store.tiers import ColdStorage
from libs.common.telemetry import gauge, total
from services.distribution.app import create_app
from services.distribution.feed import Feeds
from services.distribution.history import History
from services.distribution.latest import LOOP, Follower, Latest, Stream
from services.distribution.name import Names
from services.distribution.pipeline import Pipeline
from services.distribution.quotes import Quotes
from services.distribution.settings import DistributionSettings

GAUGED_SYMBOLS_MAX = 500  # a label a symbol is affordable up to a few hundred


@dataclass(frozen=True, slots=True)
class Distribution:
    app: Application
    loops: dict[str, Loop]


def build(
    settings: DistributionSettings,
    *,
    health: Health,
    stream: Stream,
    reader: HistoryReader,
    now: Callable[[], int] = time.time_ns,
) -> Distribution:
    latest = Latest(now=now)
    follower = Follower(stream, settings.partitions, latest, health)
    names = Names(reader, latest)
    total("ticks.followed", "Ticks read from the stream", lambda: [(latest.followed, {})])
    total("ticks.stream.unreadable", "Entries that could not be decoded", lambda: [(latest.unreadable, {})])
    gauge("ticks.last_tick.timestamp.seconds", "recv_ts of a symbol's newest quote", lambda: _last_ticks(latest))
    app = create_app(
        [
            History(reader, names, now=now).router(),
            Quotes(latest, follower, reader, names, now=now).router(),
            Pipeline(reader, stream, latest, partitions=settings.partitions).router(),
            Feeds(stream, now=now).router(),
        ]
    )
    return Distribution(app, {LOOP: follower.run})


def _last_ticks(latest: Latest) -> list[tuple[float, dict[str, str]]]:
    return [
        (max(tick.recv_ts for tick in latest.quotes(symbol)) / 1e9, {"symbol": symbol})
        for symbol in sorted(latest.symbols())[:GAUGED_SYMBOLS_MAX]
    ]


async def main(settings: DistributionSettings) -> int:
    health = Health()
    bus = RedisBus(settings.redis_url.get_secret_value())
    cold = ColdStorage(settings.cold_url) if settings.cold_url else None
    reader = HistoryReader(settings.data_dir, cold=cold, cache_bytes_max=settings.distribution_cold_cache_bytes_max)
    try:
        service = build(settings, health=health, stream=bus, reader=reader)
        return await run(
            service.loops,
            health=health,
            host=settings.http_host,
            port=settings.distribution_http_port,
            app=service.app,
        )
    finally:
        reader.close()
        await bus.close()
