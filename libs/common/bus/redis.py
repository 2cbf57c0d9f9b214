"""The bus on Redis 6.2 or newer. Every Redis failure becomes Retryable: the caller keeps its input and tries again."""

import contextlib
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import msgspec
from redis import asyncio as aioredis
from redis import exceptions
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from libs.common.bus.entry import Entry
from libs.common.bus.keys import (
    ALERTS_KEY,
    COMMANDS_CONSUMER,
    COMMANDS_KEY,
    FEED_HEALTH_KEY,
    LIFECYCLE_EVENTS_KEY,
    PARTITIONS_KEY,
    PERSISTENCE_CONSUMER,
    PERSISTENCE_GROUP,
    WATERMARKS_SPOKEN,
    persisted_key,
    ticks_key,
)
from libs.common.domain.errors import Retryable
from libs.common.domain.feed import Alert, FeedHealth

SOCKET_TIMEOUT_S = 10.0  # an answer that takes longer is a failure; a blocking read waits less than half of it
BACKLOG_COUNTED_MAX = 100  # entries; more is reported as this many
ALERTS_KEPT = 10_000  # about 3 MB
EVENTS_KEPT_MS = 90 * 86_400_000  # of lifecycle, some a day: the files say the same
_COUNT_FROM = """local found = redis.call('XRANGE', KEYS[1], ARGV[1], '+', 'COUNT', ARGV[2])
return {#found, found[1] and found[1][1] or ''}"""
REDIS_OLDEST = (6, 2)
_FEED_HEALTH = msgspec.json.Decoder(FeedHealth)
_ALERT = msgspec.json.Decoder(Alert)


R = TypeVar("R")


class BusRefused(Exception):  # noqa: N818
    """This Redis must not be used as the bus; the text says what to change."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """One entry as the stream holds it. `fields` is None where the entry was trimmed before it was read: a loss."""

    entry_id: str
    fields: dict[bytes, bytes] | None


@dataclass(frozen=True, slots=True)
class Backlog:
    """How far the persistence group is behind: entries not yet delivered or not yet acknowledged, and their age."""

    entries: int
    oldest_age_s: float


class Bus(Protocol):
    """What the services need of the bus; RedisBus is it, and testing has one in memory."""

    async def check(self, partitions: int, *, read_only: bool = False) -> None: ...
    async def backlog(self, partition: int) -> Backlog: ...
    async def publish(self, entries: Sequence[tuple[int, Entry]]) -> None: ...
    async def watermarks(self, partition: int) -> dict[str, int] | None: ...
    async def set_watermarks(self, partition: int, positions: dict[str, int]) -> None: ...
    async def join(self, partition: int) -> None: ...
    async def read_pending(self, partition: int, after: str, count: int) -> list[Delivery]: ...
    async def read_new(self, partition: int, count: int, block_ms: int) -> list[Delivery]: ...
    async def commit(self, partition: int, positions: dict[str, int], entry_ids: Sequence[str]) -> None: ...
    async def trim(self, partition: int, replay_hours: float, bytes_max: int) -> int: ...
    async def set_feed_health(self, sessions: Sequence[FeedHealth]) -> None: ...
    async def feed_health(self) -> list[FeedHealth]: ...
    async def add_alerts(self, alerts: Sequence[Alert]) -> None: ...
    async def alerts(self, count: int) -> list[Alert]: ...
    async def announce(self, events: Sequence[bytes]) -> None: ...
    async def announced(self, after: str, count: int, block_ms: int | None) -> list[Delivery]: ...
    async def command(self, command: bytes) -> str: ...
    async def join_commands(self, group: str) -> None: ...
    async def read_commands(self, group: str, after: str, count: int, block_ms: int | None) -> list[Delivery]: ...
    async def commands_done(self, group: str, entry_ids: Sequence[str]) -> None: ...


class RedisBus:
    def __init__(self, url: str) -> None:
        # no retries of the client's own: after a failure the caller must know that entries may be lost or doubled
        self._redis: Any = aioredis.Redis.from_url(
            url,
            retry=Retry(NoBackoff(), 0),
            socket_timeout=SOCKET_TIMEOUT_S,
            socket_connect_timeout=5.0,
            protocol=2,
            health_check_interval=0,
        )

    async def close(self) -> None:
        await self._redis.aclose()

    async def check(self, partitions: int, *, read_only: bool = False) -> None:
        """BusRefused where this Redis may evict, is too old, or was filled with another number of partitions.

        Who writes to the streams settles their number; a reader (`read_only`) only compares.
        """
        with _retryable():
            server = await self._redis.info("server")
            memory = await self._redis.info("memory")
        version = str(server["redis_version"])
        if tuple(int(part) for part in version.split(".")[:2]) < REDIS_OLDEST:
            raise BusRefused(f"Redis {version} is too old: TickVault needs 6.2 or newer")
        policy = memory.get("maxmemory_policy", "noeviction")
        if policy != "noeviction":
            raise BusRefused(
                f"Redis has maxmemory-policy {policy} and may delete ticks that are not yet stored: "
                "set `maxmemory-policy noeviction` in redis.conf (or CONFIG SET) and start again"
            )
        with _retryable():
            if not read_only:
                await self._redis.set(PARTITIONS_KEY, partitions, nx=True)
            stored = int(await self._redis.get(PARTITIONS_KEY) or partitions)
        if stored != partitions:
            raise BusRefused(
                f"the streams in this Redis were filled with {stored} partitions, TICKVAULT_PARTITIONS is {partitions}: "
                f"set it back, or drain the streams, delete the key {PARTITIONS_KEY} and start again"
            )

    async def publish(self, entries: Sequence[tuple[int, Entry]]) -> None:
        """Append (partition, entry) pairs in order, in one round trip. On Retryable any of them may have arrived."""
        with _retryable():
            pipeline = self._redis.pipeline(transaction=False)
            for partition, entry in entries:
                pipeline.xadd(ticks_key(partition), entry.fields())
            await pipeline.execute()

    async def watermarks(self, partition: int) -> dict[str, int] | None:
        """Session → watermark; None while persistence has not said what it knows, as in a Redis that came back empty."""
        with _retryable():
            found = await self._redis.hgetall(persisted_key(partition))
        positions = {session.decode(): int(position) for session, position in found.items()}
        return positions if positions.pop(WATERMARKS_SPOKEN, None) is not None else None

    async def set_watermarks(self, partition: int, positions: dict[str, int]) -> None:
        """All that persistence knows: the hash may say more, but what is not in the store is not durable."""
        with _retryable():
            pipeline = self._redis.pipeline(transaction=True)
            pipeline.delete(persisted_key(partition))
            pipeline.hset(persisted_key(partition), mapping={WATERMARKS_SPOKEN: 0, **positions})
            await pipeline.execute()

    async def join(self, partition: int) -> None:
        """Create the persistence group from the stream's beginning where it is missing: `$` would skip what is already there."""
        await self._join(ticks_key(partition), PERSISTENCE_GROUP)

    async def _join(self, key: str, group: str) -> None:
        with _retryable():
            try:
                await self._redis.xgroup_create(key, group, id="0", mkstream=True)
            except exceptions.ResponseError as error:
                if not str(error).startswith("BUSYGROUP"):
                    raise

    async def read_pending(self, partition: int, after: str, count: int) -> list[Delivery]:
        """What was delivered to the writer and never acknowledged, after the given id."""
        return await self._read(partition, after, count, None)

    async def read_new(self, partition: int, count: int, block_ms: int) -> list[Delivery]:
        """What no writer has had yet; waits up to block_ms for the first."""
        return await self._read(partition, ">", count, block_ms)

    async def _read(self, partition: int, after: str, count: int, block_ms: int | None) -> list[Delivery]:
        with _retryable():
            answer: Any = await self._redis.xreadgroup(
                PERSISTENCE_GROUP, PERSISTENCE_CONSUMER, {ticks_key(partition): after}, count=count, block=block_ms
            )
        return _deliveries(answer)

    async def commit(self, partition: int, positions: dict[str, int], entry_ids: Sequence[str]) -> None:
        """Publish the watermark, then acknowledge: called only after the rows are durable."""
        with _retryable():
            pipeline = self._redis.pipeline(transaction=False)
            if positions:
                pipeline.hset(persisted_key(partition), mapping=positions)
            pipeline.xack(ticks_key(partition), PERSISTENCE_GROUP, *entry_ids)
            await pipeline.execute()

    async def backlog(self, partition: int) -> Backlog:
        """Counted from ids: `lag` is absent before Redis 7 and wrong after a trim. Without the group, all there is."""
        key = ticks_key(partition)
        with _retryable():
            floor = await self._floor(key) or "-"
            # counted inside Redis, so that no payload travels
            count, oldest = await self._redis.eval(_COUNT_FROM, 1, key, floor, BACKLOG_COUNTED_MAX)
            now_s, now_us = await self._redis.time()
        age_s = now_s + now_us / 1e6 - int(oldest.split(b"-")[0]) / 1000 if count else 0.0
        return Backlog(count, max(0.0, age_s))

    async def tail(self, partition: int, count: int) -> list[Delivery]:
        """The newest entries, newest first."""
        with _retryable():
            found = await self._redis.xrevrange(ticks_key(partition), count=count)
        return [Delivery(entry_id.decode(), fields) for entry_id, fields in found]

    async def follow(self, partitions: int, block_ms: int, after: dict[int, str]) -> AsyncIterator[tuple[int, Delivery]]:
        """Every entry after the given ids, for ever, of all partitions: a reader outside the groups."""
        positions = {ticks_key(partition): after.get(partition, "0") for partition in range(partitions)}
        numbers = {key.encode(): number for number, key in enumerate(positions)}
        while True:
            with _retryable():
                answer: Any = await self._redis.xread(dict(positions), count=100, block=block_ms)
            for key, found in answer or ():
                for entry_id, fields in found:
                    positions[key.decode()] = entry_id.decode()
                    yield numbers[key], Delivery(entry_id.decode(), fields)

    async def trim(self, partition: int, replay_hours: float, bytes_max: int) -> int:
        """Delete what is both durable and older than the replay window; over bytes_max, all that is durable. Entries deleted."""
        key = ticks_key(partition)
        with _retryable():
            floor = await self._floor(key)
            if floor is None:
                return 0
            size = await self._redis.memory_usage(key) or 0
            if size <= bytes_max:
                now_s, now_us = await self._redis.time()
                window = (now_s * 1000 + now_us // 1000 - int(replay_hours * 3_600_000), 0)
                floor = _text(min(_pair(floor), window))
            return int(await self._redis.xtrim(key, minid=floor, approximate=False))

    async def set_feed_health(self, sessions: Sequence[FeedHealth]) -> None:
        """Replace what is said of these sessions; others stay as they are."""
        if sessions:
            with _retryable():
                mapping = {health.session: msgspec.json.encode(health) for health in sessions}
                await self._redis.hset(FEED_HEALTH_KEY, mapping=mapping)

    async def feed_health(self) -> list[FeedHealth]:
        """Of every session, by name; what cannot be decoded is left out."""
        with _retryable():
            found = await self._redis.hgetall(FEED_HEALTH_KEY)
        return [health for _, text in sorted(found.items()) if (health := _decoded(_FEED_HEALTH, text)) is not None]

    async def add_alerts(self, alerts: Sequence[Alert]) -> None:
        """Append, in order; the oldest go when there are more than about ALERTS_KEPT."""
        if alerts:
            with _retryable():
                pipeline = self._redis.pipeline(transaction=False)
                for alert in alerts:
                    pipeline.xadd(ALERTS_KEY, {"d": msgspec.json.encode(alert)}, maxlen=ALERTS_KEPT, approximate=True)
                await pipeline.execute()

    async def alerts(self, count: int) -> list[Alert]:
        """The last `count` entries, newest first; what cannot be decoded is left out."""
        with _retryable():
            found = await self._redis.xrevrange(ALERTS_KEY, count=count)
        return [alert for _, fields in found if (alert := _decoded(_ALERT, fields.get(b"d", b""))) is not None]

    async def announce(self, events: Sequence[bytes]) -> None:
        """Append what became of closed days, JSON in `d`, in order; those of more than 90 days ago go."""
        if events:
            with _retryable():
                now_s, _ = await self._redis.time()
                pipeline = self._redis.pipeline(transaction=False)
                for event in events:
                    pipeline.xadd(LIFECYCLE_EVENTS_KEY, {"d": event}, minid=max(0, now_s * 1000 - EVENTS_KEPT_MS))
                await pipeline.execute()

    async def announced(self, after: str, count: int, block_ms: int | None) -> list[Delivery]:
        """The events after an id, "0" for all, oldest first: a reader outside the groups."""
        with _retryable():
            return _deliveries(await self._redis.xread({LIFECYCLE_EVENTS_KEY: after}, count=count, block=block_ms))

    async def command(self, command: bytes) -> str:
        """Append a command, JSON in `d`; its id."""
        with _retryable():
            return str((await self._redis.xadd(COMMANDS_KEY, {"d": command})).decode())

    async def join_commands(self, group: str) -> None:
        """Create a service's group from the stream's beginning where it is missing."""
        await self._join(COMMANDS_KEY, group)

    async def read_commands(self, group: str, after: str, count: int, block_ms: int | None) -> list[Delivery]:
        """The group's new commands (`after` is ">"), or those after an id that were delivered and are not done."""
        with _retryable():
            return _deliveries(
                await self._redis.xreadgroup(group, COMMANDS_CONSUMER, {COMMANDS_KEY: after}, count=count, block=block_ms)
            )

    async def commands_done(self, group: str, entry_ids: Sequence[str]) -> None:
        if entry_ids:
            with _retryable():
                await self._redis.xack(COMMANDS_KEY, group, *entry_ids)

    async def _floor(self, key: str) -> str | None:
        """The first id that persistence has not acknowledged; None where its group is missing (then nothing may be trimmed)."""
        try:
            groups = await self._redis.xinfo_groups(key)
        except exceptions.ResponseError:  # the stream does not exist
            return None
        for group in groups:
            if group["name"] == PERSISTENCE_GROUP.encode():
                pending = await self._redis.xpending(key, PERSISTENCE_GROUP)
                if pending["min"]:
                    return str(pending["min"].decode())
                milliseconds, number = _pair(group["last-delivered-id"].decode())
                return _text((milliseconds, number + 1))
        return None


def _deliveries(answer: Any) -> list[Delivery]:
    """Of XREAD and XREADGROUP."""
    return [Delivery(entry_id.decode(), fields or None) for _, found in answer or () for entry_id, fields in found]


def _decoded(decoder: "msgspec.json.Decoder[R]", text: bytes) -> R | None:
    try:
        return decoder.decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


def _pair(entry_id: str) -> tuple[int, int]:
    milliseconds, _, number = entry_id.partition("-")
    return int(milliseconds), int(number or 0)


def _text(pair: tuple[int, int]) -> str:
    return f"{max(pair[0], 0)}-{pair[1]}"


@contextlib.contextmanager
def _retryable() -> Iterator[None]:
    try:
        yield
    except (exceptions.RedisError, OSError) as error:
        raise Retryable(f"Redis: {type(error).__name__}: {error}") from error
