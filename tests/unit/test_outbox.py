"""The journal as outbox: whatever fails between the socket and the disk, the store ends up with every tick once.

A simulation without processes: one session, one journal, one bus in memory, one writer, and every failure in any order.
"""

import asyncio
import sqlite3
from pathlib import Path

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from libs.common.bus import Entry, encode_payload
from libs.common.domain.errors import Retryable
from libs.common.domain.moment import NS_PER_DAY
from libs.common.runtime import Health
from libs.common.store import Layout
from libs.common.testing.fake_bus import FakeBus
from services.gateway.feeds import FixFeed
from services.gateway.fix.session import Session
from services.gateway.fold import Outcome
from services.gateway.journal import Direction, Journal, Record
from services.gateway.publisher import Publisher
from services.gateway.replay import recover
from services.persistence.days import Days
from services.persistence.writer import Writer

FEED = FixFeed(name="LP1", host="127.0.0.1", port=1, sender_comp_id="US", target_comp_id="LP1")
START = 20_000 * NS_PER_DAY + NS_PER_DAY - 20_000_000_000  # 20 s before a midnight, so that days change on the way


def frame(seq: int, kind: str, fields: str, at: int) -> bytes:
    second = (at - 20_000 * NS_PER_DAY) // 1_000_000_000
    day, of_day = divmod(second, 86_400)
    stamp = f"2024100{4 + day}-{of_day // 3600:02d}:{of_day // 60 % 60:02d}:{of_day % 60:02d}.000"
    body = f"35={kind}|34={seq}|49=LP1|52={stamp}|56=US|{fields}".replace("|", "\x01")
    message = f"8=FIX.4.4\x019={len(body)}\x01{body}".encode()
    return message + b"10=%03d\x01" % (sum(message) % 256)


class Pipeline:
    """Gateway and persistence taken apart, driven step by step."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.bus = FakeBus()
        self.now = START
        self.sent: list[int] = []  # bids, each one unique
        self.start_gateway()
        self.start_persistence()

    def start_gateway(self) -> None:
        self.journal = Journal(self.folder / "journal", segment_bytes=2000)
        self.session = Session(FEED)
        recover(self.journal, self.session)
        self.journal.begin_segment(self.session.snapshot(self.session.durable), leap=True)
        self.publisher = Publisher(
            self.bus, self.journal, "LP1", lambda: Session(FEED),
            partitions=1, durable=self.session.state.durable, health=Health(),
        )  # fmt: skip
        self.record(Direction.OPENED, b"")
        self.record(Direction.OUT, frame(1, "A", "98=0|108=30|141=Y|", self.now).replace(b"49=LP1\x01", b"49=US\x01"))
        self.record(Direction.IN, frame(1, "A", "98=0|108=30|141=Y|", self.now))

    def record(self, direction: Direction, data: bytes) -> None:
        if self.journal.segment_is_full:
            self.journal.begin_segment(self.session.snapshot(self.publisher.durable))
        self.journal.append(self.now, direction, data)
        self.session.apply(Record(self.journal.end, self.now, direction, data))
        self.publisher.offer(self.journal.end, self.session.take())

    def quote(self) -> None:
        """One message that is cut in two records."""
        self.now += 1_000_000_000
        bid = 100_000 + len(self.sent)
        self.sent.append(bid)
        message = frame(self.session.state.next_in, "X", f"262=1|268=1|279=0|269=0|55=EUR/USD|270={bid}|", self.now)
        self.record(Direction.IN, message[:40])
        self.record(Direction.IN, message[40:])

    async def publish(self) -> None:
        try:
            if self.publisher.behind:
                await self.publisher._catch_up()
            if self.publisher._waiting:
                await self.publisher._publish(self.publisher._next_round())
            elif min(self.publisher._chain.values()) < self.journal.end and not self.publisher.behind:
                await self.publisher._publish([(self.journal.end, Outcome())], everywhere=True)
            if await self.publisher._something_is_lost():
                self.publisher._fall_behind()
        except Retryable:
            self.publisher._fall_behind()

    def start_persistence(self) -> None:
        self.days = Days(Layout(self.folder), grace_s=1e9)
        self.writer = Writer(
            self.bus, self.days, partition=0, partitions=1, replay_hours=0, bytes_max=10**9, health=Health()
        )  # fmt: skip
        self.writer._recover()
        self.taken_up = False

    async def persist(self, *, acknowledge: bool = True) -> None:
        """One turn of the writer; without `acknowledge` it dies between its commit and the watermark."""
        try:
            if not self.taken_up:
                await self.writer.take_up()
                self.taken_up = True
            deliveries = await self.bus.read_new(0, 3, 1)
            if deliveries and acknowledge:
                await self.writer._handle(deliveries)
            elif deliveries:
                from services.persistence.sorting import sort

                work = sort(deliveries, self.writer._positions)
                self.days.write(work.batches, work.positions.durable)
                self.restart_persistence()
            await self.bus.trim(0, 0, 0)
        except Retryable:
            self.taken_up = False

    def restart_persistence(self) -> None:
        self.days.close()
        self.start_persistence()

    async def settle(self) -> None:
        self.bus.refusing = False
        for _ in range(60):
            await self.publish()
            await self.persist()
            if self.publisher.level and self.publisher.durable >= self.journal.end:
                return
        raise AssertionError("the pipeline does not settle")

    def account(self) -> tuple[int, int]:
        """numbered, stored of all days."""
        total = [0, 0]
        for _, path in Layout(self.folder).day_files():
            with sqlite3.connect(path) as connection:
                for line in connection.execute("SELECT numbered, stored FROM account WHERE symbol <> ''"):
                    total = [sum(pair) for pair in zip(total, line, strict=True)]
            connection.close()
        return total[0], total[1]

    def stored(self) -> list[tuple[int, int]]:
        found = []
        for _, path in Layout(self.folder).day_files():
            with sqlite3.connect(path) as connection:
                found += connection.execute("SELECT bid / 1000000000, ts FROM ticks").fetchall()
            connection.close()
        return sorted(found)


actions = st.lists(
    st.sampled_from(
        ["quote", "quote", "quote", "publish", "publish", "persist", "persist", "persist, die before the watermark",
         "redis refuses",
         "redis is back", "redis is back empty", "gateway dies", "persistence dies", "poison", "overflow"]
    ),
    max_size=40,
)  # fmt: skip


@example(["quote", "publish", "quote", "redis is back empty"])
@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(actions)
def test_whatever_fails_in_any_order_every_tick_is_stored_once(tmp_path_factory, steps: list[str]) -> None:
    pipeline = Pipeline(tmp_path_factory.mktemp("outbox"))

    async def play() -> None:
        for step in steps:
            match step:
                case "quote":
                    pipeline.quote()
                case "publish":
                    await pipeline.publish()
                case "persist":
                    await pipeline.persist()
                case "persist, die before the watermark":
                    await pipeline.persist(acknowledge=False)
                case "redis refuses":
                    pipeline.bus.refusing = True
                case "redis is back":
                    pipeline.bus.refusing = False
                case "redis is back empty":
                    pipeline.bus.empty()
                    pipeline.bus.refusing = False
                case "gateway dies":
                    pipeline.start_gateway()
                case "persistence dies":
                    pipeline.restart_persistence()
                case "poison" if not pipeline.bus.refusing:
                    pipeline.bus.add_raw(0, {b"garbage": b"\xff"})
                    position = pipeline.journal.end + 10
                    pipeline.bus.add_raw(
                        0, {b"v": b"9", b"k": b"ticks", b"n": b"1", b"src": b"X", b"from": b"0", b"to": b"%d" % position}
                    )
                case "overflow":
                    pipeline.publisher._fall_behind()
        await pipeline.settle()

    asyncio.run(play())
    pipeline.days.close()
    bids = [bid for bid, _ in pipeline.stored()]
    assert bids == sorted(pipeline.sent)
    assert pipeline.account() == (len(bids), len(bids))


def test_an_entry_behind_a_hole_is_stored_but_the_watermark_waits_for_the_hole_to_be_filled(tmp_path: Path) -> None:
    async def play() -> None:
        bus = FakeBus()
        days = Days(Layout(tmp_path), grace_s=1e9)
        writer = Writer(bus, days, partition=0, partitions=1, replay_hours=0, bytes_max=10**9, health=Health())
        await writer.take_up()

        def entry(start: int, end: int) -> tuple[int, Entry]:
            tick = ("EUR/USD", "LP1", START + end, end, START, 10**9, None, None, None, 64)
            return 0, Entry("ticks", "LP1", start, end, 1, encode_payload([tick]))

        for pair, watermark in ((entry(0, 10), 10), (entry(20, 30), 10), (entry(10, 20), 20), (entry(20, 30), 30)):
            await bus.publish([pair])
            await writer._handle(await bus.read_new(0, 10, 1))
            assert await bus.watermarks(0) == {"LP1": watermark}
        assert (writer.written.stored, writer.written.duplicates) == (3, 0)
        days.close()

    asyncio.run(play())
