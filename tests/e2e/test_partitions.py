"""Four streams, four writers, one answer: symbols spread over partitions, kill -9 of one writer, its stand-by takes over."""

import contextlib
import random
import socket
import sqlite3
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from libs.common.bus import partition_of
from libs.common.domain.moment import day_of
from libs.common.store import Batch, DayFile, Layout
from libs.common.store.day import durable_positions, is_closed
from libs.common.testing.reckoning import LedgerTail, Line, numbering_errors, read_ledger, reckon
from libs.common.testing.stack import READY_TIMEOUT_S, STOP_TIMEOUT_S, Process, Stack
from tests.chaos.pipeline import journal_ends, wait_until

PARTITIONS = 4
SYMBOLS = 128
TICKS = 24_000
KILLED_AFTER = 8_000
KILLED = 2
DAYS = [day_of(time.time_ns()) + ahead for ahead in (0, 1)]
WRITERS = [f"persistence-{partition}" for partition in range(PARTITIONS)]

_IN_ORDER = "SELECT symbol, ts, recv_ts FROM ticks JOIN symbols USING (symbol_id) ORDER BY symbol, seq"


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[Stack]:
    found = Stack(tmp_path)
    found.start_redis()
    yield found
    for process in found.processes.values():
        if process.running:
            process.kill()
    found.stop()


def port() -> int:
    """Below the range that connections take theirs from: of a dozen processes that start at once, one would find it taken."""
    while True:
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", random.randrange(20_000, 32_000))) as probe:
            return int(probe.getsockname()[1])


def spawn(stack: Stack, name: str, service: str, *arguments: str, **settings: str) -> Process:
    return stack.spawn(name, service, *arguments, **{f"TICKVAULT_{service.upper()}_HTTP_PORT": str(port())}, **settings)


def start_provider(stack: Stack, name: str, ticks: int, *, rate: int = 4_000) -> Path:
    """An LP that quotes so many ticks, logs out and ends; its ledger."""
    fix_port, ledger = port(), stack.folder / f"ledger-{name}.csv"
    stack.feeds.clear()
    stack.add_feed("LP1", fix_port, heartbeat_s=2)
    market = ("--symbols", str(SYMBOLS), "--rate", str(rate), "--count", str(ticks), "--exit-when-done")
    spawn(stack, name, "simulator", "--port", str(fix_port), "--provider", "LP1", "--ledger", str(ledger), *market)
    stack.wait_ready(name)
    return ledger


def start_writers(stack: Stack, partitions: int) -> list[str]:
    names = [f"persistence-{partition}" for partition in range(partitions)]
    for partition, name in enumerate(names):
        spawn(stack, name, "persistence", **partitioned(partitions, partition))
    return names


def partitioned(partitions: int, partition: int | None = None) -> dict[str, str]:
    settings = {"TICKVAULT_PARTITIONS": str(partitions)}
    return settings if partition is None else settings | {"TICKVAULT_PERSISTENCE_PARTITION": str(partition)}


def ended(process: Process) -> None:
    assert process.popen is not None
    assert process.popen.wait(STOP_TIMEOUT_S) == 0


def rows(path: Path, sql: str) -> list[tuple]:
    with contextlib.closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True, timeout=10)) as connection:
        return connection.execute(sql).fetchall()


def wait_durable(stack: Stack, partitions: int) -> None:
    """Return when every partition's watermark has reached the end of the journal; the gateway must have ended."""
    (end,) = journal_ends(stack.data_dir).values()
    layouts = [Layout(stack.data_dir, partition, partitions) for partition in range(partitions)]

    def reached() -> list[int]:
        return [durable_positions(layout.own_files()).get("LP1", 0) for layout in layouts]

    wait_until(lambda: min(reached()) >= end, lambda: f"{reached()} of {end}")


def refusal(process: Process) -> str:
    """What a process says that ends with 2."""
    assert process.popen is not None
    assert process.popen.wait(READY_TIMEOUT_S) == 2
    return process.log.read_text("utf-8")


def history(service: Process, symbol: str, lines: list[Line]) -> list[tuple[int, float, float]]:
    start, end = int(lines[0].ts_ns), int(lines[-1].ts_ns) + 1
    page = service.get(f"/api/history/ticks/{symbol}?start={start}&end={end}&limit=50000&ts_format=ns")
    return [(int(row["ts"]), row["bid"], row["ask"]) for row in page["data"]]


def test_a_stand_by_takes_over_a_killed_partition_and_every_tick_is_stored_once_in_its_partition(stack: Stack) -> None:
    stack.settings |= partitioned(PARTITIONS)
    ledger = start_provider(stack, "LP1", TICKS)
    start_writers(stack, PARTITIONS)
    stack.wait_ready(*WRITERS)
    standby = spawn(stack, "standby", "persistence", **partitioned(PARTITIONS, KILLED))
    wait_until(lambda: "another process writes" in str(standby.get("/readyz")), lambda: str(standby.get("/readyz")))
    service = spawn(stack, "distribution", "distribution")
    gateway = spawn(stack, "gateway", "gateway")
    stack.wait_ready("gateway", "distribution")

    sent = LedgerTail(ledger)
    wait_until(lambda: sent.read() or sent.lines >= KILLED_AFTER, lambda: f"{sent.lines} sent")
    stack.processes[WRITERS[KILLED]].kill()
    stack.wait_ready("standby")
    ended(stack.processes["LP1"])
    assert gateway.stop() == 0
    wait_durable(stack, PARTITIONS)
    assert standby.metrics()["ticks_written_total"] > 0

    result = reckon([ledger], stack.data_dir)
    assert result.received >= TICKS
    assert (result.stored, result.in_gaps) == (result.received, 0), result.examples
    assert result.sound, result.examples
    assert numbering_errors(stack.data_dir) == []
    by_symbol = defaultdict(list)
    for line in read_ledger(ledger):
        by_symbol[line.symbol].append(line)
    assert check_partitions(stack) == {symbol: len(lines) for symbol, lines in by_symbol.items()}
    check_answers(service, by_symbol)


def check_partitions(stack: Stack) -> Counter[str]:
    """Each symbol lies in its own partition and is numbered as it was received; symbol → ticks."""
    found: Counter[str] = Counter()
    for partition in range(PARTITIONS):
        for path in Layout(stack.data_dir, partition, PARTITIONS).own_files():
            last: dict[str, tuple[int, int]] = {}
            for symbol, ts, recv_ts in rows(path, _IN_ORDER):
                assert partition_of(symbol, PARTITIONS) == partition
                assert last.get(symbol, (0, 0)) <= (recv_ts, ts)
                last[symbol] = (recv_ts, ts)
                found[symbol] += 1
    return found


def check_answers(service: Process, by_symbol: dict[str, list[Line]]) -> None:
    """Distribution answers over all partitions as if they were one."""
    available = Counter()
    for line in service.get("/api/history/available"):
        available[line["symbol"]] += line["ticks"]
    assert available == {symbol: len(lines) for symbol, lines in by_symbol.items()}
    assert {partition_of(symbol, PARTITIONS) for symbol in by_symbol} == {*range(PARTITIONS)}
    for partition in range(PARTITIONS):
        own = [symbol for symbol in by_symbol if partition_of(symbol, PARTITIONS) == partition]
        symbol = max(own, key=lambda name: len(by_symbol[name]))
        expected = [(int(line.ts_ns), float(line.bid), float(line.ask)) for line in by_symbol[symbol]]
        assert history(service, symbol, by_symbol[symbol]) == expected
    stats = service.get("/api/pipeline/stats")
    assert stats["account"] == whole(sum(map(len, by_symbol.values())))
    assert stats["symbols"] == len(by_symbol)
    assert [line["entries"] for line in stats["lag"]["partitions"]] == [0] * PARTITIONS


@pytest.mark.parametrize("service", ["gateway", "persistence"])
def test_a_service_with_another_number_of_partitions_ends_with_2_and_says_what_to_do(stack: Stack, service: str) -> None:
    start_writers(stack, PARTITIONS)
    stack.wait_ready(*WRITERS)
    said = refusal(spawn(stack, service, service, **partitioned(2)))
    assert "the streams in this Redis were filled with 4 partitions, TICKVAULT_PARTITIONS is 2" in said
    assert "set it back, or drain the streams, delete the key tickvault_partitions and start again" in said


def test_a_number_changed_before_the_streams_were_drained_ends_persistence_and_it_says_what_to_do(stack: Stack) -> None:
    for partition, position in enumerate((100, 90)):
        file = DayFile(Layout(stack.data_dir, partition, 2).day(DAYS[0]))
        file.write(Batch(watermarks={"LP1": position}))
        file.close()
    process = spawn(stack, "persistence", "persistence", **partitioned(1))
    assert process.popen is not None
    assert process.popen.wait(READY_TIMEOUT_S) != 0
    said = process.log.read_text("utf-8")
    assert "the store was written in 2 partitions, and in session LP1 number 1 is behind" in said
    assert "start everything with TICKVAULT_PARTITIONS=2" in said


@pytest.mark.parametrize(("before", "after"), [(1, 4), (4, 1), (2, 3)])
def test_the_number_of_partitions_is_changed_on_drained_streams_and_nothing_is_stored_twice(
    stack: Stack, before: int, after: int
) -> None:
    """What the gateway publishes before the new writers have spoken begins before the change, and reaches beyond it."""
    ledgers = []
    for partitions in (before, after):
        provider = f"LP-{partitions}"
        ledgers.append(start_provider(stack, provider, 2_000))
        gateway = spawn(stack, "gateway", "gateway", **partitioned(partitions))
        ended(stack.processes[provider])
        writers = start_writers(stack, partitions)
        service = spawn(stack, "distribution", "distribution", **partitioned(partitions))
        stack.wait_ready(*writers)
        wait_until(lambda: is_whole(service, ledgers), lambda: str(service.get("/api/pipeline/stats")))  # noqa: B023
        assert [process.stop() for process in (gateway, service)] == [0, 0]
        wait_durable(stack, partitions)
        assert [stack.processes[name].stop() for name in writers] == [0] * partitions
        with redis.Redis.from_url(stack.redis_url) as client:
            client.delete("tickvault_partitions")
    result = reckon(ledgers, stack.data_dir)
    assert result.stored == result.received >= 4_000, result.examples
    assert result.sound, result.examples
    assert numbering_errors(stack.data_dir) == []
    open_files = {path.name for _, path in Layout(stack.data_dir).day_files() if not is_closed(path)}
    assert open_files <= {Layout(stack.data_dir, number, after).day(day).name for number in range(after) for day in DAYS}


def is_whole(service: Process, ledgers: list[Path]) -> bool:
    stats = service.get("/api/pipeline/stats") or {}
    return stats.get("account") == whole(sum(len(list(read_ledger(ledger))) for ledger in ledgers))


def whole(ticks: int) -> dict[str, int]:
    return {"received": ticks, "stored": ticks, "duplicates": 0, "quarantined": 0, "lost": 0}
