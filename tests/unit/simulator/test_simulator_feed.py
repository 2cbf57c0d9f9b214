"""The pace of quotes: a source's, and no faster than the slowest client."""

import asyncio
import math

from simulator_desk import NOW_NS, make_quote

from libs.common.domain.moment import NS_PER_S
from services.simulator.feed import Feed, Limits, LiveMarket, Recording
from services.simulator.market.synthetic import Market


class FakeSession:
    def __init__(self):
        self.settled = True
        self.stalled_s = 0.0
        self.received = []
        self.line = self
        self.unsent_bytes = 0
        self.reached = asyncio.Event()  # something was published
        self.room = asyncio.Event()
        self.room.set()

    def publish(self, quotes):
        self.received += quotes
        self.reached.set()
        return len(quotes)

    async def drained(self):
        await self.room.wait()


def recording(*seconds, speed=math.inf):
    return Recording(iter([make_quote(ts=NOW_NS + second * NS_PER_S) for second in seconds]), speed)


def live(rate, run=1):
    return LiveMarket(Market(1, 20, run), rate, now_ns=lambda: NOW_NS + 999_999)


def slices(source, moments):
    return [len(source.take(now_s, 1000)) for now_s in moments]


def test_a_live_market_quotes_at_its_rate():
    assert slices(live(100), [0.0, 0.005, 0.01, 0.5, 1.0]) == [0, 0, 1, 49, 50]


def test_a_live_market_does_not_make_up_for_more_than_a_second():
    assert slices(live(100), [0.0, 60.0, 60.011]) == [0, 100, 1]


def test_a_live_market_that_is_held_owes_nothing():
    source = live(100)
    source.take(0.0, 1000)
    source.hold()
    assert slices(source, [60.0, 60.1]) == [0, 10]


def test_a_live_market_without_a_rate_only_has_snapshots():
    source = live(0)
    assert slices(source, [0.0, 60.0]) == [0, 0]
    assert source.snapshot(b"EUR/USD").symbol == b"EUR/USD"


def test_event_times_are_whole_milliseconds():
    source = live(100)
    source.take(0.0, 1000)
    assert {quote.ts for quote in source.take(1.0, 1000)} == {NOW_NS}


def test_a_live_market_waits_for_whole_runs_but_for_the_last():
    source = live(100, run=10)
    assert slices(source, [0.0, 0.055, 0.125]) == [0, 0, 10]
    assert len(source.take(0.3, 3)) == 3


def test_a_recording_at_full_speed_takes_what_fits():
    source = recording(0, 100, 200)
    assert [len(source.take(0.0, 2)), source.exhausted, len(source.take(0.0, 2)), source.exhausted] == [2, False, 1, True]


def test_a_recording_keeps_its_pace():
    assert slices(recording(0, 1, 2, 4, speed=1.0), [10.0, 10.5, 11.0, 13.0, 14.0]) == [1, 0, 1, 1, 1]
    assert slices(recording(0, 1, 2, 4, speed=2.0), [10.0, 10.5, 11.0, 12.0]) == [1, 1, 1, 1]


def test_a_recording_that_is_held_goes_on_where_it_was():
    source = recording(0, 1, 2, speed=1.0)
    source.take(0.0, 10)
    source.hold()
    assert slices(source, [100.0, 100.5, 101.0]) == [1, 0, 1]


def test_a_recording_shows_its_latest_quote():
    source = recording(0, 1)
    assert source.snapshot(b"EUR/USD") is None
    source.take(0.0, 2)
    assert source.snapshot(b"EUR/USD").ts == NOW_NS + NS_PER_S


def run(feed, until=None, timeout_s=5.0):
    async def main():
        stopping = asyncio.Event()
        if until is not None:
            stopping.set()
        await asyncio.wait_for(feed.run(stopping), timeout_s)

    asyncio.run(main())


def test_every_session_gets_every_quote_and_the_feed_ends_with_its_source():
    sessions = {FakeSession(), FakeSession()}
    run(Feed("replay", recording(*range(2500)), sessions, Limits(exit_when_done=True)))
    assert [len(session.received) for session in sessions] == [2500, 2500]


def test_a_limited_feed_sends_exactly_that_many():
    session = FakeSession()
    run(Feed("generation", live(100_000, run=7), {session}, Limits(count=25, exit_when_done=True)))
    assert len(session.received) == 25


def test_nothing_is_taken_while_nobody_is_settled_or_a_line_stalls():
    async def main():
        stopping = asyncio.Event()
        session = FakeSession()
        feed = Feed("replay", recording(0, 1), {session}, Limits())
        session.settled = False
        assert not await feed.run_once(stopping, 0.0)
        session.settled, session.stalled_s = True, 0.001
        assert not await feed.run_once(stopping, 0.0)
        assert session.received == []
        session.stalled_s = 0.0
        await feed.run_once(stopping, 0.0)
        assert len(session.received) == 2

    asyncio.run(main())


def test_a_client_whose_socket_is_full_holds_the_feed_back():
    async def main():
        slow, quick = FakeSession(), FakeSession()
        slow.room.clear()
        feed = Feed("replay", recording(*range(5000)), [slow, quick], Limits(exit_when_done=True))
        running = asyncio.create_task(feed.run(asyncio.Event()))
        await quick.reached.wait()
        assert not running.done()
        assert len(quick.received) == 1000
        slow.room.set()
        await running
        assert len(quick.received) == 5000

    asyncio.run(main())


def test_a_feed_ends_after_its_time():
    session = FakeSession()
    run(Feed("generation", live(100_000), {session}, Limits(duration_s=0.02, exit_when_done=True)))
    assert session.received


def test_a_feed_that_is_stopped_leaves_the_rest():
    session = FakeSession()
    run(Feed("replay", recording(0), {session}, Limits()), until="stopped")
    assert session.received == []
