"""The publisher with several partitions and several kinds of records."""

import asyncio

import pytest
from gateway_lp import T0, Lp, both_sides, entry, snapshot

from libs.common.bus import decode_payload, partition_of, read_entry
from libs.common.domain.errors import Retryable
from libs.common.runtime import Health
from libs.common.testing.fake_bus import FakeBus
from services.gateway.fix.session import Session
from services.gateway.fold import Outcome
from services.gateway.journal import Journal
from services.gateway.publisher import Publisher

P = 4
SYMBOLS = ["EUR/USD", "GBP/USD", "USD/JPY", "XAU/USD", "AUD/USD", "US500"]


class Gateway:
    """A conversation written to a journal, and published."""

    def __init__(self, folder, **settings):
        self.lp = Lp(symbols="all", **settings)
        self.bus = FakeBus()
        self.journal = Journal(folder)
        self.session = Session(self.lp.session.feed)
        self.journal.begin_segment(self.session.snapshot(0))
        self.publisher = self.new_publisher()
        self.publisher._behind = False
        self.written = 0
        self.lp.connect().logon()

    def new_publisher(self):
        return Publisher(
            self.bus, self.journal, "LP1", lambda: Session(self.lp.session.feed), partitions=P, durable=0, health=Health()
        )

    def write(self):
        """The records of the conversation so far, offered as the recorder does."""
        for record in self.lp.records[self.written :]:
            end = self.journal.append(record.recv_ts, record.direction, record.data)
            self.session.apply(record)
            self.publisher.offer(end, self.session.take())
        self.written = len(self.lp.records)

    def publish(self, *, everywhere=False):
        async def go():
            while self.publisher._waiting:
                await self.publisher._publish(self.publisher._next_round())
            if everywhere:
                await self.publisher._publish([(self.journal.end, Outcome())], everywhere=True)

        asyncio.run(go())

    def entries(self, partition):
        """Of one partition, after checking that each continues the one before."""
        entries = [read_entry(fields) for fields in self.bus._stream(partition).entries.values()]
        reached = 0
        for found in entries:
            assert found.start <= reached < found.end, "a hole, or nothing new"
            reached = found.end
        return entries

    def rows(self, kind, partitions=range(P)):
        return [row for at in partitions for found in self.entries(at) if found.kind == kind for row in decode_payload(found)]


def test_each_symbol_has_one_partition_and_idle_ones_get_no_entries(tmp_path):
    gateway = Gateway(tmp_path)
    for number in range(1, 4):
        for symbol in SYMBOLS:
            gateway.lp.wait(ms=1).send("W", both_sides(symbol, f"1.{number}", "1.9"))
        gateway.write()
        gateway.publish()
    for partition in range(P):
        symbols = {row[0] for row in gateway.rows("ticks", [partition])}
        assert symbols == {symbol for symbol in SYMBOLS if partition_of(symbol, P) == partition}
        assert all(found.count for found in gateway.entries(partition))
    assert sorted(row[:4] for row in gateway.rows("ticks")) == sorted(
        (t.symbol, t.provider, t.ts, t.seq) for t in gateway.lp.ticks
    )
    idle = gateway.publisher._chain
    gateway.publish(everywhere=True)
    assert set(gateway.publisher._chain.values()) == {gateway.journal.end} != set(idle)


def test_books_trades_gaps_and_quarantine_go_with_the_ticks_of_their_record(tmp_path):
    gateway = Gateway(tmp_path, market_depth=0, trades=True)
    for symbol in SYMBOLS:
        gateway.lp.send("W", snapshot(symbol, entry("0", "1.1"), entry("0", "1.0"), entry("1", "1.2"), entry("2", "1.15")))
    gateway.lp.send("W", snapshot("EUR/USD", entry("0", "NaN"))).drop()
    gateway.write()
    gateway.publish()
    assert {row.symbol for row in gateway.rows("books")} == {row.symbol for row in gateway.rows("trades")} == set(SYMBOLS)
    for row in gateway.rows("books", [2]):
        assert partition_of(row.symbol, P) == 2
    assert [gap.cause for gap in gateway.rows("gaps", [0])] == ["disconnect"] == [gap.cause for gap in gateway.rows("gaps")]
    assert len(gateway.rows("quarantine")) == len(gateway.lp.quarantined) > 0


@pytest.mark.parametrize("durable", [[0, 0, 0, 0], [1, 0, 1, 1]])
def test_catching_up_ends_and_repeats_nothing_but_what_is_not_durable(tmp_path, durable):
    """Partitions that have no ticks, or are durable already, must not keep it waiting."""
    gateway = Gateway(tmp_path)
    for _ in range(3):
        gateway.lp.wait(ms=1).send("W", both_sides("EUR/USD", "1.1", "1.9"))
    gateway.write()
    gateway.bus = FakeBus()
    behind = gateway.new_publisher()
    for partition, whole in enumerate(durable):
        asyncio.run(gateway.bus.set_watermarks(partition, {"LP1": gateway.journal.end if whole else 0}))
    asyncio.run(asyncio.wait_for(behind._catch_up(), 30))
    assert (behind.behind, set(behind._chain.values())) == (False, {gateway.journal.end})
    home = partition_of("EUR/USD", P)
    streams = [gateway.bus._stream(partition).entries for partition in range(P)]
    assert [bool(entries) for entries in streams] == [not whole for whole in durable]
    ticks = [row for fields in streams[home].values() for row in decode_payload(read_entry(fields))]
    assert len(ticks) == (0 if durable[home] else 3)


def test_a_round_that_redis_refuses_is_published_again_from_the_journal(tmp_path):
    gateway = Gateway(tmp_path)
    gateway.lp.send("W", both_sides("EUR/USD", "1.1", "1.9"))
    gateway.write()
    gateway.bus.refusing = True
    with pytest.raises(Retryable):
        gateway.publish()
    gateway.publisher._fall_behind()
    gateway.bus.refusing = False
    asyncio.run(gateway.publisher._catch_up())
    assert [row[:3] for row in gateway.rows("ticks")] == [("EUR/USD", "LP1", T0)]
