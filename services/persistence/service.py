"""Persistence put together: the partition's lock, its day files, its stream."""

import asyncio
import os
from collections.abc import Iterable

from libs.common.bus import BusRefused, RedisBus
from libs.common.domain.errors import Rejected, Retryable
from libs.common.platform import try_lock
from libs.common.runtime import Health, Loop, StartError, pause, run
from libs.common.settings import SettingsError
from libs.common.store import Layout
from libs.common.telemetry import gauge, logger, total
from libs.common.telemetry.metrics import Reading
from services.persistence.days import Days
from services.persistence.legacy import LegacyJson
from services.persistence.settings import PersistenceSettings
from services.persistence.writer import Writer

LOCK_RETRY_S = 0.2


async def main(settings: PersistenceSettings) -> int:
    if settings.persistence_partition >= settings.partitions:
        raise SettingsError(
            f"TICKVAULT_PERSISTENCE_PARTITION is {settings.persistence_partition}, there are {settings.partitions} partitions"
        )
    bus = RedisBus(settings.redis_url.get_secret_value())
    layout = Layout(settings.data_dir, settings.persistence_partition, settings.partitions)
    health = Health()
    legacy = LegacyJson(layout, lambda: health.beat("writer")) if settings.storage_backend != "sqlite" else None
    if settings.storage_backend == "json":
        logger().warning("day files are written too: legacy JSON cannot say what is stored already (docs/decisions/0013)")
    days = Days(layout, settings.rotate_grace_s, legacy=legacy)
    writer = Writer(
        bus, days,
        partition=settings.persistence_partition, partitions=settings.partitions,
        replay_hours=settings.stream_replay_hours, bytes_max=settings.stream_bytes_max, health=health,
    )  # fmt: skip
    health.check("writer", lambda: writer.obstacle)
    health.check("store", lambda: f"damaged: {', '.join(days.damaged)}" if days.damaged else None)
    _register_metrics(writer, days)
    try:
        await _check_bus(bus, settings.partitions)
        loops: dict[str, Loop] = {"writer": _alone(layout, writer, health)}
        return await run(loops, health=health, host=settings.http_host, port=settings.persistence_http_port)
    finally:
        await bus.close()


async def _check_bus(bus: RedisBus, partitions: int) -> None:
    """Refuse to start on a Redis that must not be used; one that is away is awaited by the writer."""
    try:
        await bus.check(partitions)
    except BusRefused as error:
        raise StartError(str(error)) from error
    except Retryable as error:
        logger().warning("Redis is away; waiting for it", error=str(error))


def _alone(layout: Layout, writer: Writer, health: Health) -> Loop:
    """The writer's loop, once no other process holds the partition."""

    async def write(stopping: asyncio.Event) -> None:
        path = layout.lock()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o640)
        except OSError as error:
            raise StartError(f"{path}: {error}: persistence must be able to write its store") from error
        try:
            while not try_lock(descriptor):
                if writer.obstacle != WAITING:
                    writer.obstacle = WAITING
                    logger().info("waiting for the lock", lock=str(path))
                health.beat("writer")
                await pause(stopping, LOCK_RETRY_S)
                if stopping.is_set():
                    return
            await writer.run(stopping)
        except (Retryable, Rejected) as error:
            raise StartError(str(error)) from error
        finally:
            os.close(descriptor)

    return write


WAITING = "another process writes this partition; this one takes over when it ends"


def _register_metrics(writer: Writer, days: Days) -> None:
    def one(value: float) -> Iterable[Reading]:
        return [(value, {})]

    total("ticks_written", "ticks stored", lambda: one(writer.written.stored))
    total("ticks_duplicates", "ticks that were stored already", lambda: one(writer.written.duplicates))
    total("ticks_quarantined", "items put into quarantine", lambda: one(writer.written.quarantined))
    total("trades_written", "trades stored", lambda: one(writer.written.trades))
    total("books_written", "books stored", lambda: one(writer.written.books))
    total("ticks_commits", "transactions made durable", lambda: one(writer.commits))
    total("ticks_poisoned_entries", "stream entries that could not be decoded", lambda: one(writer.poisoned))
    total("ticks_lost_entries", "stream entries trimmed before they were read", lambda: one(writer.lost))
    gauge("ticks_open_days", "day files that are not closed", lambda: one(days.open_days))
