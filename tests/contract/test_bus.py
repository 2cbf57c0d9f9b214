"""One suite for every implementation of the bus: the one in memory and the one on a real Redis."""

import asyncio
from collections.abc import Awaitable, Callable

import msgspec
import pytest

from libs.common.bus import Bus, BusRefused, Entry, RedisBus, decode_payload, encode_payload, read_entry
from libs.common.domain.errors import Retryable
from libs.common.domain.feed import Alert, FeedHealth
from libs.common.testing.fake_bus import FakeBus

TICK = ("EUR/USD", "LP1", 1_700_000_000_000_000_000, 0, 1_700_000_000_000_001_000, 1_085_120_000, None, 1e6, None, 64)


def entry(start: int, end: int, count: int = 1) -> Entry:
    return Entry("ticks", "LP1", start, end, count, encode_payload([TICK] * count))


@pytest.fixture(params=["memory", "redis"])
def play(request: pytest.FixtureRequest) -> Callable[[Callable[[Bus], Awaitable[None]]], None]:
    """Runs a scenario against one implementation."""

    def run(scenario: Callable[[Bus], Awaitable[None]]) -> None:
        async def inside() -> None:
            if request.param == "memory":
                await scenario(FakeBus())
                return
            bus = RedisBus(request.getfixturevalue("redis_url"))
            try:
                await scenario(bus)
            finally:
                await bus.close()

        asyncio.run(inside())

    return run


def test_what_is_published_is_delivered_in_order_and_decodes_to_the_same_records(play) -> None:
    async def scenario(bus: Bus) -> None:
        await bus.join(0)
        await bus.publish([(0, entry(0, 10)), (0, entry(10, 20, 3))])
        deliveries = await bus.read_new(0, 10, 1)
        entries = [read_entry(delivery.fields or {}) for delivery in deliveries]
        assert entries == [entry(0, 10), entry(10, 20, 3)]
        assert decode_payload(entries[1]) == [TICK] * 3

    play(scenario)


def test_a_group_made_after_the_first_entry_still_gets_that_entry(play) -> None:
    async def scenario(bus: Bus) -> None:
        await bus.publish([(0, entry(0, 10))])
        await bus.join(0)
        await bus.join(0)
        assert len(await bus.read_new(0, 10, 1)) == 1

    play(scenario)


def test_what_was_not_acknowledged_is_pending_for_the_next_writer_and_counts_as_backlog(play) -> None:
    async def scenario(bus: Bus) -> None:
        await bus.join(0)
        await bus.set_watermarks(0, {})
        await bus.publish([(0, entry(0, 10)), (0, entry(10, 20))])
        first, second = await bus.read_new(0, 10, 1)
        await bus.commit(0, {"LP1": 10}, [first.entry_id])
        assert await bus.read_pending(0, "0", 10) == [second]
        assert (await bus.backlog(0)).entries == 1
        await bus.commit(0, {"LP1": 20}, [second.entry_id])
        assert await bus.read_pending(0, "0", 10) == []
        assert (await bus.backlog(0)).entries == 0
        assert await bus.watermarks(0) == {"LP1": 20}

    play(scenario)


def test_watermarks_count_only_once_persistence_has_said_all_it_knows(play) -> None:
    async def scenario(bus: Bus) -> None:
        await bus.join(0)
        await bus.publish([(0, entry(0, 10))])
        (delivery,) = await bus.read_new(0, 1, 1)
        await bus.commit(0, {"LP1": 10}, [delivery.entry_id])
        assert await bus.watermarks(0) is None
        await bus.set_watermarks(0, {})
        assert await bus.watermarks(0) is not None
        await bus.set_watermarks(0, {"LP2": 5})
        assert await bus.watermarks(0) == {"LP2": 5}

    play(scenario)


def test_without_the_group_everything_is_backlog_and_nothing_is_trimmed(play) -> None:
    async def scenario(bus: Bus) -> None:
        await bus.publish([(0, entry(0, 10)), (0, entry(10, 20))])
        assert (await bus.backlog(0)).entries == 2
        assert await bus.trim(0, 0, 1_000_000_000) == 0

    play(scenario)


def test_reading_without_the_group_is_retryable(play) -> None:
    async def scenario(bus: Bus) -> None:
        with pytest.raises(Retryable):
            await bus.read_new(0, 10, 1)

    play(scenario)


def test_trimming_takes_only_what_is_acknowledged_and_older_than_the_replay_window(play) -> None:
    async def scenario(bus: Bus) -> None:
        await bus.join(0)
        await bus.publish([(0, entry(at, at + 1)) for at in range(10)])
        deliveries = await bus.read_new(0, 10, 1)
        await bus.commit(0, {"LP1": 5}, [delivery.entry_id for delivery in deliveries[:5]])
        assert await bus.trim(0, 1, 1_000_000_000) == 0
        await asyncio.sleep(0.002)  # the window ends at Redis's clock, in ms: let it pass the entries
        assert await bus.trim(0, 0, 1_000_000_000) == 5
        assert len(await bus.read_pending(0, "0", 10)) == 5

    play(scenario)


def test_a_stream_over_its_size_is_trimmed_to_what_is_not_durable(redis_url: str) -> None:
    async def scenario() -> None:
        bus = RedisBus(redis_url)
        await bus.join(0)
        await bus.publish([(0, entry(at, at + 1)) for at in range(10)])
        deliveries = await bus.read_new(0, 10, 1)
        await bus.commit(0, {}, [delivery.entry_id for delivery in deliveries[:7]])
        assert await bus.trim(0, 26, bytes_max=1) == 7
        await bus.close()

    asyncio.run(scenario())


def test_an_entry_trimmed_under_a_pending_delivery_is_delivered_as_a_loss(redis_url: str) -> None:
    import redis

    async def scenario() -> None:
        bus = RedisBus(redis_url)
        await bus.join(0)
        await bus.publish([(0, entry(0, 1))])
        await bus.read_new(0, 1, 1)
        with redis.Redis.from_url(redis_url) as client:
            client.xtrim("ticks:{0}", maxlen=0)
        assert [delivery.fields for delivery in await bus.read_pending(0, "0", 10)] == [None]
        await bus.close()

    asyncio.run(scenario())


@pytest.mark.parametrize("policy", ["allkeys-lru", "volatile-ttl"])
def test_a_redis_that_may_evict_is_refused_with_what_to_change(redis_url: str, policy: str) -> None:
    import redis

    with redis.Redis.from_url(redis_url) as client:
        client.config_set("maxmemory-policy", policy)

    async def scenario() -> None:
        bus = RedisBus(redis_url)
        with pytest.raises(BusRefused, match="set `maxmemory-policy noeviction`"):
            await bus.check(1)
        await bus.close()

    asyncio.run(scenario())


def test_another_number_of_partitions_than_the_streams_were_filled_with_is_refused(redis_url: str) -> None:
    async def scenario() -> None:
        bus = RedisBus(redis_url)
        await bus.check(1)
        await bus.check(1)
        with pytest.raises(BusRefused, match="TICKVAULT_PARTITIONS is 4"):
            await bus.check(4)
        await bus.close()

    asyncio.run(scenario())


def test_a_reader_is_refused_too_but_never_settles_the_number_of_partitions(redis_url: str) -> None:
    async def scenario() -> None:
        bus = RedisBus(redis_url)
        await bus.check(4, read_only=True)
        await bus.check(1)
        with pytest.raises(BusRefused, match="TICKVAULT_PARTITIONS is 4"):
            await bus.check(4, read_only=True)
        await bus.close()

    asyncio.run(scenario())


HEALTH = FeedHealth(
    session="LP1", kind="fix", state="established", up=True, at=20, since=10, alarm="look", stale=["FX"], last_quote_at=19,
    next_in=7, next_out=8, messages=6, garbled=1, rejects_received=2, resend_requests=3, duplicates_dropped=4,
    heartbeat_rtt_s=0.25, symbols=128, refused_symbols={"ABC": "unknown"}, open_gaps=1, retry_at=30, alerts={"stale": "FX"},
)  # fmt: skip


def alert(number: int) -> Alert:
    return Alert(at=number, source="gateway", session="LP1", kind="stale", state="raised", text=f"no quotes ({number})")


def test_the_health_of_sessions_is_replaced_one_by_one_and_told_by_name(play) -> None:
    async def scenario(bus: Bus) -> None:
        assert await bus.feed_health() == []
        other = FeedHealth(session="A", kind="rest", state="disconnected", up=False, at=20, since=10)
        await bus.set_feed_health([HEALTH, other])
        later = FeedHealth(session="LP1", kind="fix", state="logon_sent", up=False, at=21, since=21)
        assert await bus.feed_health() == [other, HEALTH]
        await bus.set_feed_health([later])
        await bus.set_feed_health([])
        assert await bus.feed_health() == [other, later]

    play(scenario)


def test_alerts_are_told_newest_first_as_many_as_asked_for(play) -> None:
    async def scenario(bus: Bus) -> None:
        assert await bus.alerts(10) == []
        await bus.add_alerts([])
        await bus.add_alerts([alert(1), alert(2)])
        await bus.add_alerts([alert(3)])
        assert await bus.alerts(2) == [alert(3), alert(2)]
        assert await bus.alerts(10) == [alert(3), alert(2), alert(1)]

    play(scenario)


def test_what_says_nothing_of_a_session_or_an_alert_is_left_out(redis_url: str) -> None:
    import redis

    async def scenario() -> None:
        bus = RedisBus(redis_url)
        await bus.set_feed_health([HEALTH])
        await bus.add_alerts([alert(1)])
        with redis.Redis.from_url(redis_url) as client:
            client.hset("feed_health", mapping={"A": b"{", "B": b'{"session": "B"}', "C": b'{"session": "\xff"}', "D": b""})
            client.hset("feed_health", "E", msgspec.json.encode(HEALTH).replace(b'"at":20', b'"at":9223372036854775808'))
            client.xadd("alerts", {"d": b"[]"})
            client.xadd("alerts", {"x": b"1"})
        assert await bus.feed_health() == [HEALTH]
        assert await bus.alerts(10) == [alert(1)]
        await bus.close()

    asyncio.run(scenario())


def test_fields_a_later_gateway_adds_are_ignored_and_missing_ones_have_defaults(redis_url: str) -> None:
    import redis

    async def scenario() -> None:
        bus = RedisBus(redis_url)
        text = b'{"session":"LP1","kind":"fix","state":"established","up":true,"at":2,"since":1,"weather":"fine"}'
        with redis.Redis.from_url(redis_url) as client:
            client.hset("feed_health", "LP1", text)
        (found,) = await bus.feed_health()
        assert (found.session, found.stale, found.next_in) == ("LP1", [], None)
        await bus.close()

    asyncio.run(scenario())


def test_the_log_of_alerts_does_not_grow_for_ever(redis_url: str) -> None:
    import redis

    async def scenario() -> None:
        bus = RedisBus(redis_url)
        for start in range(0, 12_000, 1_000):
            await bus.add_alerts([alert(number) for number in range(start, start + 1_000)])
        with redis.Redis.from_url(redis_url) as client:
            assert client.xlen("alerts") < 10_500
        assert (await bus.alerts(1))[0].at == 11_999
        await bus.close()

    asyncio.run(scenario())


def test_an_absent_redis_is_retryable() -> None:
    async def scenario() -> None:
        bus = RedisBus("redis://127.0.0.1:1/0")
        with pytest.raises(Retryable):
            await bus.publish([(0, entry(0, 1))])
        with pytest.raises(Retryable):
            await bus.check(1)
        with pytest.raises(Retryable):
            await bus.feed_health()
        with pytest.raises(Retryable):
            await bus.alerts(1)
        with pytest.raises(Retryable):
            await bus.set_feed_health([HEALTH])
        with pytest.raises(Retryable):
            await bus.add_alerts([alert(1)])
        await bus.close()

    asyncio.run(scenario())
