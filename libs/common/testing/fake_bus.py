"""The bus in memory, for unit tests. The contract suite holds it and RedisBus to the same behaviour."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from libs.common.bus import Backlog, Delivery, Entry
from libs.common.domain.errors import Retryable
from libs.common.domain.feed import Alert, FeedHealth


@dataclass(slots=True)
class _Stream:
    entries: dict[int, dict[bytes, bytes] | None] = field(default_factory=dict)
    last: int = 0
    delivered: int | None = None  # None: the group does not exist
    pending: list[int] = field(default_factory=list)


class FakeBus:
    """Ids are `N-0`. `refusing` makes every call fail as an absent Redis does; `empty` is a Redis that lost everything."""

    def __init__(self) -> None:
        self.refusing = False
        self._streams: dict[int, _Stream] = {}
        self._watermarks: dict[int, dict[str, int]] = {}
        self._feed_health: dict[str, FeedHealth] = {}
        self._alerts: list[Alert] = []
        self._events: list[bytes] = []
        self._commands: list[bytes] = []
        self._groups: dict[str, tuple[int, list[int]]] = {}  # of commands: the last delivered, and those not done

    def empty(self) -> None:
        self._streams.clear()
        self._watermarks.clear()
        self._feed_health.clear()
        self._alerts.clear()
        self._events.clear()
        self._commands.clear()
        self._groups.clear()

    def _refuse(self) -> None:
        if self.refusing:
            raise Retryable("the fake bus refuses")

    def _stream(self, partition: int) -> _Stream:
        self._refuse()
        return self._streams.setdefault(partition, _Stream())

    def add_raw(self, partition: int, fields: dict[bytes, bytes]) -> None:
        """An entry as anyone could XADD it."""
        stream = self._stream(partition)
        stream.last += 1
        stream.entries[stream.last] = fields

    async def check(self, partitions: int, *, read_only: bool = False) -> None:
        del read_only
        self._stream(partitions - 1)

    async def publish(self, entries: Sequence[tuple[int, Entry]]) -> None:
        for partition, entry in entries:
            self.add_raw(partition, {_bytes(name): _bytes(value) for name, value in entry.fields().items()})

    async def watermarks(self, partition: int) -> dict[str, int] | None:
        self._stream(partition)
        known = self._watermarks.get(partition)
        return None if known is None else dict(known)

    async def set_watermarks(self, partition: int, positions: dict[str, int]) -> None:
        self._stream(partition)
        self._watermarks[partition] = dict(positions)

    async def join(self, partition: int) -> None:
        stream = self._stream(partition)
        stream.delivered = stream.delivered or 0

    async def read_pending(self, partition: int, after: str, count: int) -> list[Delivery]:
        stream = self._joined(partition)
        found = [number for number in stream.pending if number > _number(after)][:count]
        return [Delivery(f"{number}-0", stream.entries.get(number)) for number in found]

    async def read_new(self, partition: int, count: int, block_ms: int) -> list[Delivery]:
        del block_ms
        stream = self._joined(partition)
        assert stream.delivered is not None
        found = [number for number in stream.entries if number > stream.delivered][:count]
        if found:
            stream.delivered = found[-1]
            stream.pending += found
        return [Delivery(f"{number}-0", stream.entries[number]) for number in found]

    async def commit(self, partition: int, positions: dict[str, int], entry_ids: Sequence[str]) -> None:
        stream = self._stream(partition)
        if partition in self._watermarks:
            self._watermarks[partition].update(positions)
        done = {_number(entry_id) for entry_id in entry_ids}
        stream.pending = [number for number in stream.pending if number not in done]

    async def backlog(self, partition: int) -> Backlog:
        stream = self._stream(partition)
        waiting = [number for number in stream.entries if number in stream.pending or number > (stream.delivered or 0)]
        return Backlog(len(waiting), 0.0)

    async def trim(self, partition: int, replay_hours: float, bytes_max: int) -> int:
        del bytes_max
        stream = self._stream(partition)
        if stream.delivered is None or replay_hours > 0:
            return 0
        floor = min(stream.pending, default=stream.delivered + 1)
        old = [number for number in stream.entries if number < floor]
        for number in old:
            del stream.entries[number]
        return len(old)

    async def set_feed_health(self, sessions: Sequence[FeedHealth]) -> None:
        self._refuse()
        self._feed_health |= {health.session: health for health in sessions}

    async def feed_health(self) -> list[FeedHealth]:
        self._refuse()
        return [health for _, health in sorted(self._feed_health.items())]

    async def add_alerts(self, alerts: Sequence[Alert]) -> None:
        self._refuse()
        self._alerts += alerts

    async def alerts(self, count: int) -> list[Alert]:
        self._refuse()
        return self._alerts[::-1][:count]

    async def announce(self, events: Sequence[bytes]) -> None:
        self._refuse()
        self._events += events

    async def announced(self, after: str, count: int, block_ms: int | None) -> list[Delivery]:
        del block_ms
        self._refuse()
        first = _number(after)
        return [Delivery(f"{first + at}-0", {b"d": event}) for at, event in enumerate(self._events[first:][:count], 1)]

    async def command(self, command: bytes) -> str:
        self._refuse()
        self._commands.append(command)
        return f"{len(self._commands)}-0"

    async def join_commands(self, group: str) -> None:
        self._refuse()
        self._groups.setdefault(group, (0, []))

    async def read_commands(self, group: str, after: str, count: int, block_ms: int | None) -> list[Delivery]:
        del block_ms
        self._refuse()
        if group not in self._groups:
            raise Retryable("NOGROUP")
        delivered, pending = self._groups[group]
        if after == ">":
            found = list(range(delivered + 1, len(self._commands) + 1))[:count]
            self._groups[group] = (found[-1] if found else delivered, pending + found)
        else:
            found = [number for number in pending if number > _number(after)][:count]
        return [Delivery(f"{number}-0", {b"d": self._commands[number - 1]}) for number in found]

    async def commands_done(self, group: str, entry_ids: Sequence[str]) -> None:
        self._refuse()
        delivered, pending = self._groups[group]
        done = {_number(entry_id) for entry_id in entry_ids}
        self._groups[group] = (delivered, [number for number in pending if number not in done])

    def _joined(self, partition: int) -> _Stream:
        stream = self._stream(partition)
        if stream.delivered is None:
            raise Retryable("NOGROUP")
        return stream


def _bytes(value: str | bytes | int) -> bytes:
    return value if isinstance(value, bytes) else str(value).encode()


def _number(entry_id: str) -> int:
    return int(entry_id.partition("-")[0])
