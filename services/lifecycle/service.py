"""Lifecycle put together: its schedule, its streams, its metrics."""

from collections import Counter
from collections.abc import Iterable

from libs.common.bus import BusRefused, RedisBus
from libs.common.domain.errors import Rejected, Retryable
from libs.common.platform import lower_priority
from libs.common.runtime import Health, Loop, StartError, run
from libs.common.store.backup import BackupStorage
from libs.common.telemetry import gauge, logger, total
from libs.common.telemetry.metrics import Reading
from services.lifecycle.backups import Backups
from services.lifecycle.keeper import Keeper
from services.lifecycle.schedule import Schedule
from services.lifecycle.settings import LifecycleSettings

DRAIN_TIMEOUT_S = 120.0  # a step of a large day; one that is killed is done again


async def main(settings: LifecycleSettings) -> int:
    lower_priority()
    bus = RedisBus(settings.redis_url.get_secret_value())
    health = Health()
    schedule = Schedule(settings)
    keeper = Keeper(bus, schedule, settings, health)
    health.check("keeper", lambda: keeper.obstacle)
    health.check("bus", lambda: keeper.bus_obstacle)
    health.check("store", lambda: _named(keeper.damaged))
    health.check("disk", lambda: keeper.disk_obstacle)
    backups = Backups(settings, keeper.tell, health)
    health.check("backup", lambda: backups.obstacle)
    _register_metrics(keeper, backups)
    try:
        _check(schedule, settings)
        await _check_bus(bus, settings.partitions)
        loops: dict[str, Loop] = {"keeper": keeper.run}
        if settings.backup_url:
            loops["backups"] = backups.run
        return await run(
            loops, health=health, host=settings.http_host, port=settings.lifecycle_http_port, drain_timeout_s=DRAIN_TIMEOUT_S
        )
    finally:
        await bus.close()


def _check(schedule: Schedule, settings: LifecycleSettings) -> None:
    """Refuse to start with a URL that is none; storage that is away is awaited."""
    try:
        schedule.check()
        if settings.backup_url:
            BackupStorage(settings.backup_url)
    except Rejected as error:
        raise StartError(str(error)) from error
    except Retryable as error:
        logger().warning("storage is away; waiting for it", error=str(error))


async def _check_bus(bus: RedisBus, partitions: int) -> None:
    """Refuse to start on a Redis that must not be used; days are kept without one."""
    try:
        await bus.check(partitions, read_only=True)
    except BusRefused as error:
        raise StartError(str(error)) from error
    except Retryable as error:
        logger().warning("Redis is away; days are kept, nobody is told", error=str(error))


def _named(damaged: dict[str, str]) -> str | None:
    return f"set aside: {'; '.join(f'{day}: {error}' for day, error in sorted(damaged.items()))}" if damaged else None


def _register_metrics(keeper: Keeper, backups: Backups) -> None:
    def counted(name: str, counts: Counter[str]) -> Iterable[Reading]:
        return [(count, {name: key}) for key, count in list(counts.items())]

    def ages(backups: Backups) -> Iterable[Reading]:
        return [(age_s, {"kind": kind}) for kind, age_s in backups.age_s.items()]

    total("lifecycle_steps", "steps that days have taken", lambda: counted("step", keeper.steps))
    total("lifecycle_failures", "steps that days did not take", lambda: counted("step", keeper.failures))
    gauge("lifecycle_days", "days of each partition by state", lambda: counted("state", keeper.states))
    gauge("lifecycle_damaged_days", "days set aside until somebody has looked at them", lambda: [(len(keeper.damaged), {})])
    gauge("lifecycle_unannounced_events", "events that the bus has not taken yet", lambda: [(keeper.unannounced, {})])
    gauge("lifecycle_pass_age", "since the schedule was last through", lambda: [(keeper.pass_age_s, {})], "s")
    gauge("lifecycle_disk_free", "free on the disk of the store", lambda: _disk(keeper, "free_bytes"), "By")
    gauge("lifecycle_disk_growth", "what a closed day brings, mean of a week", lambda: _disk(keeper, "bytes_per_day"), "By")
    gauge("lifecycle_disk_days_left", "until the disk is full but for the reserve", lambda: _disk(keeper, "days_left"), "d")
    gauge("lifecycle_backup_age", "since the newest backup of a kind", lambda: ages(backups), "s")
    gauge("lifecycle_backup_sent", "what the last backup sent", lambda: _known(backups.sent_bytes), "By")
    total("lifecycle_backup_failures", "backups that were not made, or not of everything", lambda: [(backups.failures, {})])


def _known(value: float | None) -> Iterable[Reading]:
    return [(value, {})] if value is not None else []


def _disk(keeper: Keeper, name: str) -> Iterable[Reading]:
    return _known(getattr(keeper.disk, name, None))
