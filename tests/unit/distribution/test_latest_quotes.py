"""The newest quotes: a fold of the stream that neither disorder, poison nor an absent Redis can upset."""

import asyncio

import pytest

from libs.common.bus import Delivery
from libs.common.runtime import Backoff, Health
from services.distribution.latest import RATE_WINDOW_S, Follower, Latest

LATEST = "/api/quotes/latest"


def ask(vault, stream, path, until, ready=True):
    async def scenario():
        async with vault.serving(stream) as client:
            if ready:
                await until(lambda: "stream" not in client.health.obstacles())
            return await client.get(path)

    return asyncio.run(scenario())


def test_each_provider_s_newest_quote_is_told_newest_first(vault, stream, tick, until):
    stream.add(tick(ts=vault.now - 3), tick(ts=vault.now - 2, seq=1, bid=1_085_000_000))
    stream.add(tick(provider="LP2", ts=vault.now - 1, ask_size=0.0))
    answer = ask(vault, stream, f"{LATEST}/eurusd?ts_format=ns", until)
    assert '"bid":1.085,' in answer.text
    body = answer.json()
    assert body["symbol"] == "EUR/USD"
    assert [(quote["provider"], quote["ts"]) for quote in body["quotes"]] == [
        ("LP2", str(vault.now - 1)),
        ("LP1", str(vault.now - 2)),
    ]
    assert body["quotes"][0]["ask_size"] == 0
    assert body["quotes"][1]["ask_size"] is None
    assert set(body["quotes"][0]) >= {"recv_ts", "age_ms", "bid", "ask", "bid_size", "flags", "seq"}


def test_one_provider_can_be_asked_for(vault, stream, tick, until):
    stream.add(tick(), tick(provider="LP2"))
    quotes = ask(vault, stream, f"{LATEST}/EUR/USD?provider=LP2", until).json()["quotes"]
    assert [quote["provider"] for quote in quotes] == ["LP2"]


def test_all_symbols_can_be_asked_for_at_once(vault, stream, tick, until):
    stream.add(tick(symbol="GBP/USD"), tick(), tick(provider="LP2"))
    lines = ask(vault, stream, LATEST, until).json()
    assert [(line["symbol"], line["provider"]) for line in lines] == [
        ("EUR/USD", "LP1"),
        ("EUR/USD", "LP2"),
        ("GBP/USD", "LP1"),
    ]


def test_an_unknown_symbol_is_a_404_with_the_nearest(vault, stream, tick, until):
    stream.add(tick())
    answer = ask(vault, stream, f"{LATEST}/EURUSX", until)
    assert (answer.status_code, answer.json()["nearest"]) == (404, ["EUR/USD"])


def test_until_the_stream_has_been_read_the_answer_is_503(vault, stream, tick, until):
    stream.fail()
    answer = ask(vault, stream, f"{LATEST}/EURUSD", until, ready=False)
    assert answer.status_code == 503
    assert "retry-after" in answer.headers


def test_what_arrives_later_is_followed(vault, stream, tick, until):
    stream.add(tick(ts=vault.now))

    async def scenario():
        async with vault.serving(stream) as client:
            await until(lambda: "stream" not in client.health.obstacles())
            stream.add(tick(ts=vault.now + 1, seq=1))
            quote = {}
            while quote.get("seq") != 1:
                await asyncio.sleep(0)  # an ASGI call in this process lets no other task run
                quote = (await client.get(f"{LATEST}/EURUSD")).json()["quotes"][0]
            return (await client.get("/api/pipeline/stats")).json()["latency_s"]["samples"]

    assert asyncio.run(scenario()) == 1


def test_a_tick_out_of_order_or_resent_does_not_replace_a_newer_one(tick, entry):
    latest = Latest()
    latest.take(entry(1, [tick(ts=10, seq=5), tick(ts=9, seq=6)]), live=True)
    latest.take(entry(2, [tick(ts=10, seq=4)]), live=True)
    latest.take(entry(3, [tick(ts=8, seq=7)]), live=False)
    assert [(quote.ts, quote.seq) for quote in latest.quotes("EUR/USD")] == [(10, 5)]


def test_of_two_ticks_in_one_instant_the_higher_number_is_newer(tick, entry):
    latest = Latest()
    latest.take(entry(1, [tick(ts=10, seq=5), tick(ts=10, seq=6)]), live=True)
    assert latest.quotes("EUR/USD")[0].seq == 6


@pytest.mark.parametrize(
    "fields", [None, {}, {b"v": b"1", b"k": b"ticks", b"n": b"1", b"src": b"s", b"from": b"0", b"to": b"1", b"d": b"?"}]
)
def test_what_cannot_be_read_is_passed_over(tick, fields):
    latest = Latest()
    assert latest.take(Delivery("1-0", fields), live=True) == 0
    assert latest.symbols() == []


def test_entries_of_other_kinds_are_passed_over(entry):
    latest = Latest()
    assert latest.take(entry(1, [], kind="gaps"), live=True) == 0
    assert latest.unreadable == 0


def test_the_rate_is_counted_on_arrival_and_forgets(tick, entry):
    clock = [100.0]
    latest = Latest(monotonic=lambda: clock[0])
    latest.take(entry(1, [tick(seq=0)]), live=False)
    for seq in range(20):
        latest.take(entry(seq, [tick(seq=seq)]), live=True)
    clock[0] = 101.0
    assert latest.ticks_per_s() == 20 / RATE_WINDOW_S
    assert len(latest.latencies_s()) == 20
    clock[0] = 101.0 + RATE_WINDOW_S
    assert latest.ticks_per_s() == 0
    assert latest.latencies_s() == []


def test_a_failing_redis_is_waited_for_and_followed_on_from_the_last_entry(stream, tick, until):
    async def scenario():
        health, latest, stopping = Health(), Latest(), asyncio.Event()
        follower = Follower(stream, 1, latest, health, backoff=Backoff(first_s=0.0001, cap_s=0.0001))
        health.started = True
        stream.add(tick(ts=1))
        stream.fail()
        running = asyncio.create_task(follower.run(stopping))
        await until(lambda: "gone" in health.obstacles().get("stream", ""))
        stream.failing = False
        await until(follower.tail_read.is_set)
        assert health.obstacles() == {}
        stream.fail()
        await until(lambda: "gone" in (follower.obstacle or "") and stream.failing)
        stream.failing = False
        stream.add(tick(ts=2, seq=1))
        await until(lambda: latest.followed == 1)
        assert stream.tails == 1
        assert health.silent_loops() == []
        stopping.set()
        await running

    asyncio.run(scenario())


def test_streams_filled_with_another_number_of_partitions_later_are_refused_and_latest_is_not_served(stream, tick, until):
    async def scenario():
        health, stopping = Health(), asyncio.Event()
        follower = Follower(stream, 1, Latest(), health, backoff=Backoff(first_s=0.0001, cap_s=0.0001))
        health.started = True
        running = asyncio.create_task(follower.run(stopping))
        await until(follower.tail_read.is_set)
        stream.partitions = 4
        stream.add(tick())
        await until(lambda: "filled with 4" in health.obstacles().get("stream", ""))
        assert not follower.tail_read.is_set()
        stopping.set()
        await running

    asyncio.run(scenario())


def test_the_loop_ends_also_where_the_client_loses_a_cancellation(stream, until):
    class Deaf(type(stream)):
        deaf = False

        async def check(self, partitions, *, read_only=False):
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                self.deaf = True

    async def scenario():
        deaf, stopping = Deaf(), asyncio.Event()
        running = asyncio.create_task(Follower(deaf, 1, Latest(), Health()).run(stopping))
        await asyncio.sleep(0.01)
        stopping.set()
        await running
        assert deaf.deaf

    asyncio.run(scenario())


def test_a_bug_ends_the_loop(stream):
    class Broken(type(stream)):
        async def tail(self, partition, count):
            raise ZeroDivisionError

    async def scenario():
        follower = Follower(Broken(), 1, Latest(), Health())
        with pytest.raises(ZeroDivisionError):
            await follower.run(asyncio.Event())

    asyncio.run(scenario())
