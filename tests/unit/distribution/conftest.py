"""A store on disk, a stream in memory, and the service's HTTP side between them."""

import asyncio
import contextlib
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest

from libs.common.bus import Backlog, BusRefused, Delivery, Entry, encode_payload
from libs.common.domain.errors import Retryable
from libs.common.domain.feed import Alert, FeedHealth
from libs.common.domain.moment import day_of, parse_moment
from libs.common.domain.record import Gap
from libs.common.runtime import Health
from libs.common.store import Batch, DayFile, Layout
from libs.common.store.history import HistoryReader
from services.distribution.service import Distribution, build
from services.distribution.settings import DistributionSettings

NOW = parse_moment("2026-11-20T12:00:00Z")


def make_tick(
    symbol="EUR/USD",
    provider="LP1",
    ts=NOW,
    seq=0,
    *,
    bid=1_085_120_000,
    ask=1_085_140_000,
    bid_size=1e6,
    ask_size=None,
    flags=0,
):
    return (symbol, provider, ts, seq, ts // 1_000 * 1_000 + 1_000_000, bid, ask, bid_size, ask_size, flags)


def delivery(number, ticks, kind="ticks"):
    fields = Entry(kind, "LP1", number, number + 1, len(ticks), encode_payload(ticks)).fields()
    encoded = {name.encode(): value if isinstance(value, bytes) else str(value).encode() for name, value in fields.items()}
    return Delivery(f"{number}-0", encoded)


@dataclass
class FakeStream:
    """Entries by partition; `failing` makes every call Retryable until it is cleared."""

    entries: dict[int, list[Delivery]] = field(default_factory=lambda: defaultdict(list))
    failing: bool = False
    waiting: Backlog = field(default_factory=lambda: Backlog(0, 0.0))
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    tails: int = 0
    partitions: int | None = None  # settled by who writes
    sessions: list[FeedHealth] = field(default_factory=list)
    log: list[Alert] = field(default_factory=list)

    def add(self, *ticks, partition=0):
        self.entries[partition].append(delivery(len(self.entries[partition]) + 1, list(ticks)))
        self.changed.set()

    def fail(self):
        self.failing = True
        self.changed.set()

    def _refuse(self):
        if self.failing:
            raise Retryable("Redis: ConnectionError: gone")

    async def check(self, partitions, *, read_only=False):
        self._refuse()
        assert read_only
        if self.partitions not in (None, partitions):
            raise BusRefused(f"filled with {self.partitions} partitions")

    async def tail(self, partition, count):
        self._refuse()
        self.tails += 1
        return self.entries[partition][::-1][:count]

    async def follow(self, partitions, block_ms, after):
        seen = {partition: int(after.get(partition, "0").split("-")[0]) for partition in range(partitions)}
        while True:
            self._refuse()
            self.changed.clear()
            for partition in range(partitions):
                for item in self.entries[partition][seen[partition] :]:
                    seen[partition] += 1
                    yield partition, item
            await self.changed.wait()

    async def backlog(self, partition):
        self._refuse()
        return self.waiting

    async def feed_health(self):
        self._refuse()
        return self.sessions

    async def alerts(self, count):
        self._refuse()
        return self.log[::-1][:count]


@dataclass
class Vault:
    """What persistence would have written, and the service that reads it."""

    folder: Path
    now: int = NOW

    def layout(self, partition: int | None = None) -> Layout:
        return Layout(self.folder, partition or 0, 1 if partition is None else 64)

    def write(self, *ticks, late=False, partition=None, gaps=(), closed=False):
        """Each tick goes to the file of its day."""
        days = defaultdict(list)
        for tick in ticks:
            days[day_of(tick[2])].append(tick)
        for gap in gaps:
            days[day_of(gap.from_ts)] += []
        for day, of_day in days.items():
            layout = self.layout(partition)
            file = DayFile(layout.late(day) if late else layout.day(day))
            file.write(Batch(ticks=of_day, gaps=[gap for gap in gaps if day_of(gap.from_ts) == day]))
            if closed:
                file.close_day(self.now)
            else:
                file.close()

    def day_path(self, moment: str, *, late=False) -> Path:
        day = day_of(parse_moment(moment))
        return self.layout().late(day) if late else self.layout().day(day)

    @contextlib.asynccontextmanager
    async def serving(self, stream: FakeStream | None = None) -> AsyncIterator[httpx.AsyncClient]:
        """The client, while the follower's loop runs."""
        reader = HistoryReader(self.folder, busy_timeout_s=0.05)
        stopping = asyncio.Event()
        health = Health()
        service: Distribution = build(
            DistributionSettings(data_dir=self.folder),
            health=health,
            stream=stream or FakeStream(),
            reader=reader,
            now=lambda: self.now,
        )
        tasks = [asyncio.create_task(loop(stopping)) for loop in service.loops.values()]
        transport = httpx.ASGITransport(service.app)
        async with httpx.AsyncClient(transport=transport, base_url="http://vault") as client:
            client.health = health
            try:
                yield client
            finally:
                stopping.set()
                await asyncio.gather(*tasks)
                reader.close()

    def get(self, url: str, **more) -> httpx.Response:
        """One request."""

        async def ask():
            async with self.serving() as client:
                return await client.get(url, **more)

        return asyncio.run(ask())

    def run(self, scenario: Callable[[httpx.AsyncClient], Awaitable[object]]):
        """Several requests to one process."""

        async def ask():
            async with self.serving() as client:
                return await scenario(client)

        return asyncio.run(ask())


@pytest.fixture
def vault(tmp_path):
    return Vault(tmp_path)


@pytest.fixture(scope="session")
def new_vault():
    return Vault


@pytest.fixture(scope="session")
def tick():
    return make_tick


@pytest.fixture(scope="session")
def entry():
    return delivery


@pytest.fixture
def stream():
    return FakeStream()


@pytest.fixture
def gap():
    def make(start, end, *, session="LP1", resolved_by=None, first_seq=5, last_seq=9):
        to_ts = None if end is None else parse_moment(end)
        return Gap(session, first_seq, last_seq, parse_moment(start), to_ts, "disconnect", resolved_by)

    return make


async def reached(condition: Callable[[], bool]) -> None:
    """Let the loops run until it is so; the test's own timeout ends a condition that never comes."""
    while not condition():  # noqa: ASYNC110 - the condition is plain state of the code under test
        await asyncio.sleep(0)


@pytest.fixture(scope="session")
def until():
    return reached
