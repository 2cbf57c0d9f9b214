"""Ticks a second of persistence alone: entries that already lie in Redis become durable rows, synchronous=FULL."""

import asyncio
import random
import time
from pathlib import Path

from wire import SYMBOLS, symbol_name

from libs.common.bus import Entry, RedisBus, encode_payload
from libs.common.domain.moment import NS_PER_DAY
from libs.common.runtime import Health
from libs.common.store import Layout
from libs.common.testing.redis_server import start_redis
from services.persistence.days import Days
from services.persistence.writer import Writer

TICKS = 600_000
ENTRY_TICKS = 2_000  # what the gateway makes of one 128 KiB read
DAY = 20_000


def entries(seed: int = 3) -> list[tuple[int, Entry]]:
    rng = random.Random(seed)
    numbers = [0] * SYMBOLS
    made: list[tuple[int, Entry]] = []
    for start in range(0, TICKS, ENTRY_TICKS):
        ticks = []
        for number in range(start, start + ENTRY_TICKS):
            at = rng.randrange(SYMBOLS)
            ts = DAY * NS_PER_DAY + number * 6_000
            bid = 1_000_000_000 + rng.randrange(10**6) * 1000
            ticks.append((symbol_name(at), "LP1", ts, numbers[at], ts + 1_000, bid, bid + 20_000, 1e6, 1.5e6, 0))
            numbers[at] += 1
        made.append((0, Entry("ticks", "LP1", start, start + ENTRY_TICKS, ENTRY_TICKS, encode_payload(ticks))))
    return made


def measure(folder: Path) -> dict[str, float]:
    """persist_ticks_per_s, and the bytes of WAL written for a tick before checkpoints fold them."""
    server = start_redis(folder / "redis", "--appendonly", "no")
    try:
        return asyncio.run(_measure(folder, server.url))
    finally:
        server.stop()


async def _measure(folder: Path, url: str) -> dict[str, float]:
    bus = RedisBus(url)
    made = entries()
    for at in range(0, len(made), 50):
        await bus.publish(made[at : at + 50])
    days = Days(Layout(folder), grace_s=1e9)
    writer = Writer(bus, days, partition=0, partitions=1, replay_hours=0, bytes_max=10**9, health=Health())
    await writer.take_up()
    wal = Layout(folder).day(DAY)
    wal = wal.with_name(wal.name + "-wal")
    started = time.perf_counter()
    while writer.written.stored < TICKS // 10:  # before the first checkpoint the WAL only grows
        await writer.run_once()
    wal_bytes_per_tick = wal.stat().st_size / writer.written.stored
    while writer.written.stored < TICKS:
        await writer.run_once()
    rate = TICKS / (time.perf_counter() - started)
    days.close()
    await bus.close()
    return {"persist_ticks_per_s": round(rate), "wal_bytes_per_tick": round(wal_bytes_per_tick)}
