"""The gateway put together: one link a feed, one bus for all."""

import asyncio

from libs.common.bus import BusRefused, RedisBus
from libs.common.domain.errors import Retryable
from libs.common.runtime import Backoff, Health, Loop, StartError, run
from services.gateway import metrics
from services.gateway.build import build_link
from services.gateway.feeds import load_feeds
from services.gateway.monitor import Monitor
from services.gateway.settings import GatewaySettings
from services.gateway.web.sink import SinkApp, SinkLink


async def main(settings: GatewaySettings) -> int:
    feeds = load_feeds(settings.feeds_file)
    bus = RedisBus(settings.redis_url.get_secret_value())
    health = Health()
    links = [build_link(feed, bus, settings, health) for feed in feeds.all]
    refused = await _check_bus(bus, settings.partitions)
    health.check("bus", lambda: refused[0] if refused else None)
    for link in links:
        health.check(f"session {link.feed.name}", link.why_not_ready)
    metrics.register(links)
    loops: dict[str, Loop] = {f"session {link.feed.name}": link.run for link in links}
    loops |= {"bus": _bus_checker(bus, settings.partitions, refused, health), "monitor": Monitor(bus, links, health).run}
    sinks = [link for link in links if isinstance(link, SinkLink)]
    app = SinkApp(sinks) if sinks else None
    try:
        return await run(loops, health=health, host=settings.http_host, port=settings.gateway_http_port, app=app)
    finally:
        await bus.close()


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
