"""Persistence writes day files and legacy JSON, and is killed between the two."""

import asyncio
import json
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from libs.common.bus import Entry, RedisBus, encode_payload, persisted_key
from libs.common.domain.moment import NS_PER_DAY
from libs.common.store import Layout
from libs.common.testing.stack import Stack
from tests.unit.lifecycle.days import rows_of

DAY = time.time_ns() // NS_PER_DAY
ENTRIES, TICKS = 6, 50


@pytest.fixture
def stack(tmp_path: Path, redis_url: str) -> Iterator[Stack]:
    found = Stack(tmp_path, redis_url=redis_url)
    yield found
    found.stop()


def tick(seq: int) -> tuple:
    day = DAY - seq % 2  # every entry has ticks of two days
    ts = day * NS_PER_DAY + seq * 1_000_000
    return ("EUR/USD", "LP1", ts, seq // 2, ts, 1_085_120_000 + seq * 1000, 1_095_200_000, None, None, 0)


def publish(redis_url: str) -> None:
    async def inside() -> None:
        bus = RedisBus(redis_url)
        for number in range(ENTRIES):
            ticks = [tick(seq) for seq in range(number * TICKS, (number + 1) * TICKS)]
            entry = Entry("ticks", "LP1", number * 10, number * 10 + 10, TICKS, encode_payload(ticks))
            await bus.publish([(0, entry)])
        await bus.close()

    asyncio.run(inside())


def wait_until_durable(redis_url: str) -> None:
    import redis

    with redis.Redis.from_url(redis_url) as client:
        deadline = time.monotonic() + 30
        while client.hget(persisted_key(0), "LP1") != str(ENTRIES * 10).encode():
            assert time.monotonic() < deadline
            time.sleep(0.02)


@pytest.mark.parametrize("backend", ["dual", "json"])
@pytest.mark.parametrize(
    "point",
    ["", "stored_not_in_legacy", "stored_not_in_legacy:2", "legacy_not_renamed", "between_days", "committed_not_acknowledged"],
)
def test_killed_between_the_two_writes_both_have_every_tick_once(stack: Stack, redis_url: str, backend: str, point: str) -> None:
    publish(redis_url)
    if point:
        process = stack.spawn("killed", "persistence", TICKVAULT_STORAGE_BACKEND=backend, CHAOS_POINT=point)
        assert process.popen is not None
        assert process.popen.wait(30) == -signal.SIGKILL, process.log.read_text()
    stack.spawn("persistence", "persistence", TICKVAULT_STORAGE_BACKEND=backend)
    wait_until_durable(redis_url)
    assert stack.stop()["persistence"] == 0
    layout = Layout(stack.data_dir)
    for day in (DAY - 1, DAY):
        expected = sorted(
            (row[2] // 1_000_000, row[5], row[6]) for row in map(tick, range(ENTRIES * TICKS)) if row[2] // NS_PER_DAY == day
        )
        rows = rows_of(layout.day(day))["ticks"]
        assert sorted((row[2] // 1_000_000, row[5], row[6]) for row in rows) == expected
        found = json.loads(layout.legacy_json(day).read_text())
        assert sorted((one["timestamp"], round(one["bid"] * 1e9), round(one["ask"] * 1e9)) for one in found) == expected
