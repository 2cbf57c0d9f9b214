"""The distribution service as a process, with a real Redis and day files as persistence writes them."""

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import redis

from libs.common.bus import Entry, RedisBus, encode_payload, partition_of
from libs.common.domain.feed import Alert, FeedHealth
from libs.common.domain.moment import NS_PER_DAY, NS_PER_S, day_of
from libs.common.store import Batch, DayFile, Layout
from libs.common.testing.stack import READY_TIMEOUT_S, Stack

NOW = time.time_ns()
TODAY = day_of(NOW)


def tick(seq=0, symbol="EUR/USD", provider="LP1", ts=NOW):
    return (symbol, provider, ts + seq, seq, ts + seq, 1_085_120_000, 1_085_140_000, 1e6, None, 0)


@pytest.fixture
def stack(tmp_path):
    found = Stack(tmp_path)
    found.start_redis()
    yield found
    found.stop()


def publish(stack, *ticks, partition=0):
    async def main():
        bus = RedisBus(stack.redis_url)
        entry = Entry("ticks", "LP1", 0, 1, len(ticks), encode_payload(ticks))
        await bus.publish([(partition, entry)])
        await bus.close()

    asyncio.run(main())


def start(stack, **settings):
    process = stack.spawn("distribution", "distribution", **settings)
    stack.wait_ready("distribution")
    return process


def wait_until(read, reached):
    """What `read` gives once it is as wanted."""
    deadline = time.monotonic() + READY_TIMEOUT_S
    while not reached(found := read()):
        assert time.monotonic() < deadline, found
    return found


def test_the_stream_s_tail_and_all_that_follows_are_the_latest_quotes(stack):
    publish(stack, tick(0), tick(0, symbol="GBP/USD"))
    service = start(stack)
    assert [line["symbol"] for line in service.get("/api/quotes/latest")] == ["EUR/USD", "GBP/USD"]
    publish(stack, tick(1))
    quotes = wait_until(lambda: service.get("/api/quotes/latest/EURUSD")["quotes"], lambda quotes: quotes[0]["seq"] == 1)
    assert (quotes[0]["bid"], quotes[0]["ask_size"]) == (1.08512, None)


def test_all_partitions_are_followed(stack):
    symbols = ["EUR/USD", "GBP/USD", "USD/JPY", "XAU/USD", "AUD/USD"]
    for symbol in symbols:
        publish(stack, tick(symbol=symbol), partition=partition_of(symbol, 3))
    service = start(stack, TICKVAULT_PARTITIONS="3")
    assert [line["symbol"] for line in service.get("/api/quotes/latest")] == sorted(symbols)
    assert [line["partition"] for line in service.get("/api/pipeline/stats")["lag"]["partitions"]] == [0, 1, 2]


def test_a_redis_that_restarts_is_followed_on(stack):
    if stack.redis is None:
        pytest.skip("the Redis of TICKVAULT_REDIS_URL is not ours to kill")
    publish(stack, tick(0))
    service = start(stack)
    stack.redis.stop()
    stats = wait_until(lambda: service.get("/api/pipeline/stats"), lambda found: found["lag"] is None)
    assert "Redis" in stats["warnings"][0]
    assert service.get("/api/quotes/latest/EURUSD")["quotes"][0]["seq"] == 0
    stack.redis.start()
    publish(stack, tick(1))
    wait_until(lambda: service.get("/api/quotes/latest/EURUSD")["quotes"][0]["seq"], lambda seq: seq == 1)
    assert service.running


def report(stack, *sessions, alerts=()):
    async def main():
        bus = RedisBus(stack.redis_url)
        await bus.set_feed_health(sessions)
        await bus.add_alerts(alerts)
        await bus.close()

    asyncio.run(main())


def test_feeds_are_as_the_gateway_says_until_it_says_nothing_or_redis_is_away(stack):
    service = start(stack)
    assert service.get("/api/pipeline/feed-health") == {"status": "down", "sessions": []}
    now = time.time_ns()
    report(
        stack,
        FeedHealth("LP1", "fix", "established", up=True, at=now, since=now, alerts={"stale": "FX is quiet"}),
        FeedHealth("LP2", "fix", "established", up=True, at=now - 60 * NS_PER_S, since=now),
        alerts=[Alert(now, "gateway", "LP1", "stale", "raised", "FX is quiet")],
    )
    health = service.get("/api/pipeline/feed-health")
    assert health["status"] == "degraded"
    assert [(line["session"], line["state"], line["reporting"]) for line in health["sessions"]] == [
        ("LP1", "established", True),
        ("LP2", "unknown", False),
    ]
    alerts = service.get("/api/pipeline/alerts")
    assert [alert["text"] for alert in alerts["active"]] == [alert["text"] for alert in alerts["alerts"]] == ["FX is quiet"]
    if stack.redis is not None:  # else it is not ours to stop
        stack.redis.stop()
        for path in ("feed-health", "alerts"):
            assert service.get(f"/api/pipeline/{path}")["status"] == 503


def test_a_reader_leaves_the_number_of_partitions_to_who_writes(stack):
    service = start(stack, TICKVAULT_PARTITIONS="3")
    with redis.Redis.from_url(stack.redis_url) as client:
        assert client.get("tickvault_partitions") is None
        client.set("tickvault_partitions", 1)
    publish(stack, tick())
    ready = wait_until(lambda: service.get("/readyz"), lambda found: not found["ready"])
    assert "filled with 1 partitions, TICKVAULT_PARTITIONS is 3" in ready["obstacles"]["stream"]
    assert service.get("/api/quotes/latest")["status"] == 503


def test_without_redis_history_is_served_and_the_service_is_not_ready(stack, tmp_path):
    file = DayFile(Layout(stack.data_dir).day(TODAY))
    file.write(Batch(ticks=[tick()]))
    service = stack.spawn("distribution", "distribution", TICKVAULT_REDIS_URL="redis://127.0.0.1:1/0")
    ready = wait_until(lambda: service.get("/readyz"), lambda found: found and "Redis" in found["obstacles"].get("stream", ""))
    assert not ready["ready"]
    assert service.get(f"/api/history/ticks/EURUSD?start={NOW}&end={NOW + 1}")["count"] == 1
    assert service.get("/api/quotes/latest/EURUSD")["status"] == 503
    file.close()


def test_pages_stay_whole_while_the_writer_writes_and_closes_the_day(stack):
    service = start(stack)
    yesterday = (TODAY - 1) * NS_PER_DAY
    ticks = [tick(seq, ts=yesterday, provider=("LP2", "LP1")[seq % 2]) for seq in range(4_000)]
    path = Layout(stack.data_dir).day(TODAY - 1)
    DayFile(path).close()

    def write():
        file = DayFile(path)
        for at in range(0, len(ticks), 100):
            file.write(Batch(ticks=ticks[at : at + 100]))
        file.close()

    def read():
        url = f"/api/history/ticks/EURUSD?start={yesterday}&end={yesterday + NS_PER_DAY}&limit=100&ts_format=ns"
        rows, page = [], {"next_cursor": ""}
        while page["next_cursor"] is not None:
            page = service.get(url + (f"&cursor={page['next_cursor']}" if page["next_cursor"] else ""))
            if page.get("status") == 404:  # nothing is committed yet
                page = {"next_cursor": ""}
                continue
            assert "warnings" not in page, page
            rows += [(int(row["ts"]), row["provider"], row["seq"]) for row in page["data"]]
        return rows

    with ThreadPoolExecutor(2) as pool:
        writing, reading = pool.submit(write), pool.submit(read)
        writing.result()
        rows = reading.result()
    expected = [(row[2], row[1], row[3]) for row in ticks]
    assert rows == expected[: len(rows)]
    DayFile(path).close_day(NOW)
    assert read() == expected
    (day,) = service.get("/api/history/available")
    assert (day["state"], day["ticks"]) == ("closed", 4_000)


def test_sigterm_ends_it_with_0_and_leaves_the_store_untouched(stack):
    path = Layout(stack.data_dir).day(TODAY - 1)
    file = DayFile(path)
    file.write(Batch(ticks=[tick(ts=NOW - NS_PER_DAY)]))
    file.close_day(NOW)
    before = path.read_bytes()
    service = start(stack)
    assert service.get("/api/history/symbols")[0]["ticks"] == 1
    assert service.stop() == 0
    assert path.read_bytes() == before
    assert [found.name for found in path.parent.iterdir()] == [path.name]


def test_a_misspelt_setting_is_refused_with_2(stack):
    service = stack.spawn("distribution", "distribution", TICKVAULT_DISTRIBUTION_HTTP_PROT="1")
    assert service.popen.wait(READY_TIMEOUT_S) == 2
    assert "TICKVAULT_DISTRIBUTION_HTTP_PROT" in service.log.read_text()
