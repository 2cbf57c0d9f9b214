"""Gateway, Redis and persistence as processes: FIX bytes on a socket to durable rows."""

import re
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from wire import Acceptor, increment, symbol_name, utc_stamp, write_messages

from libs.common.store import Layout
from libs.common.testing.stack import Stack

END_TO_END_TICKS = 1_000_000
LATENCY_TICKS_PER_S = 10_000
LATENCY_S = 20
MEMORY_TICKS = 10_000_000
QUIET_TICKS_PER_S = 200
BURST_MESSAGES_PER_S = 10_000
BURST_S, BURSTS = 1.0, 10
AWAY_S = 60
AWAY_TICKS_PER_S = 50_000
TIMEOUT_S = 600


@contextmanager
def running(folder: Path) -> Iterator[tuple[Stack, Acceptor]]:
    """A stack whose one LP is ours, subscribed and quiet."""
    with running_many(folder, "LP1") as (stack, acceptors):
        yield stack, acceptors[0]


@contextmanager
def running_many(folder: Path, *providers: str) -> Iterator[tuple[Stack, list[Acceptor]]]:
    stack, acceptors = Stack(folder), [Acceptor(provider) for provider in providers]
    stack.start_redis("--appendonly", "no")  # losing Redis loses nothing: the journal is the outbox
    for acceptor in acceptors:
        stack.add_feed(acceptor.provider, acceptor.port)
    try:
        stack.spawn("gateway", "gateway")
        stack.spawn("persistence", "persistence")
        stack.wait_ready("gateway", "persistence")
        assert all(acceptor.subscribed.wait(30) for acceptor in acceptors), "the gateway did not subscribe"
        yield stack, acceptors
    finally:
        stack.stop()


def written(stack: Stack) -> int:
    return int(stack.processes["persistence"].metrics().get("ticks_written_total", 0))


def wait_written(stack: Stack, ticks: int) -> None:
    deadline = time.monotonic() + TIMEOUT_S
    while written(stack) < ticks:
        assert time.monotonic() < deadline, f"only {written(stack)} of {ticks} ticks became durable"
        time.sleep(0.05)


def send(acceptor: Acceptor, path: Path) -> None:
    threading.Thread(target=acceptor.send_file, args=(path,), daemon=True).start()


def end_to_end(folder: Path) -> dict[str, float]:
    """1 M ticks in two-entry X messages, as fast as the socket takes them."""
    folder.mkdir(parents=True)
    with running(folder) as (stack, acceptor):
        messages = folder / "messages"
        write_messages(messages, END_TO_END_TICKS, 1, Acceptor.FIRST_SEQ)
        started = time.perf_counter()
        send(acceptor, messages)
        wait_written(stack, END_TO_END_TICKS)
        seconds = time.perf_counter() - started
        messages.unlink()
        return {
            "end_to_end_ticks_per_s": round(END_TO_END_TICKS / seconds),
            "gateway_mb": stack.processes["gateway"].memory_bytes() // 2**20,
            "persistence_mb": stack.processes["persistence"].memory_bytes() // 2**20,
        }


def latency(folder: Path) -> dict[str, float]:
    """Read from the socket → durable, at 10,000 ticks/s in slices of 1 ms; the oldest tick of each entry."""
    folder.mkdir(parents=True)
    with running(folder) as (stack, acceptor):
        _pace(acceptor, LATENCY_TICKS_PER_S, LATENCY_S, Acceptor.FIRST_SEQ)
        wait_written(stack, LATENCY_TICKS_PER_S * LATENCY_S)
        buckets = _latency(stack, "LP1")
        return {"latency_p50_ms": _quantile(buckets, 0.5), "latency_p99_ms": _quantile(buckets, 0.99)}


def burst(folder: Path) -> dict[str, float]:
    """Three sessions, two at 200 ticks/s; the third sends 10,000 messages/s every other second. What the quiet ones feel.

    read: from their engine's clock to our reading (1 ms is the clock's own grain); durable: from there to the disk.
    """
    folder.mkdir(parents=True)
    with running_many(folder, "LP1", "LP2", "LP3") as (stack, acceptors):
        loud, *quiet = acceptors
        seconds = 2 * BURST_S * BURSTS
        paces = [
            threading.Thread(target=_pace, args=(acceptor, QUIET_TICKS_PER_S, seconds, Acceptor.FIRST_SEQ)) for acceptor in quiet
        ]
        for pace in paces:
            pace.start()
        seq = Acceptor.FIRST_SEQ
        for _ in range(BURSTS):
            seq = _pace(loud, BURST_MESSAGES_PER_S, BURST_S, seq)
            time.sleep(BURST_S)
        for pace in paces:
            pace.join()
        wait_written(stack, seq - Acceptor.FIRST_SEQ + int(2 * QUIET_TICKS_PER_S * seconds))
        durable = max(_quantile(_latency(stack, acceptor.provider), 0.99) for acceptor in quiet)
        return {"burst_others_read_p99_ms": _read_delay_p99_ms(stack, "LP1"), "burst_others_durable_p99_ms": durable}


def _read_delay_p99_ms(stack: Stack, loud: str) -> float:
    delays = []
    for _, path in Layout(stack.data_dir).day_files():
        with sqlite3.connect(path) as connection:
            rows = connection.execute(
                "SELECT recv_ts - ts FROM ticks JOIN providers USING (provider_id) WHERE provider <> ?", (loud,)
            )
            delays += [delay for (delay,) in rows]
    return round(sorted(delays)[int(len(delays) * 0.99)] / 1e6, 2)


def _latency(stack: Stack, session: str) -> list[tuple[float, float]]:
    """Buckets of a session: upper bound in seconds, ticks up to it."""
    pattern = re.compile(r"ticks_end_to_end_latency_seconds_bucket\{(.*)\}")
    buckets = []
    for name, count in stack.processes["persistence"].metrics().items():
        if found := pattern.match(name):
            labels = dict(re.findall(r'(\w+)="([^"]*)"', found[1]))
            if labels["session"] == session:
                buckets.append((float(labels["le"]), count))
    return buckets


def _pace(acceptor: Acceptor, ticks_per_s: int, seconds: float, first_seq: int, ticks_per_message: int = 1) -> int:
    """Send at a pace; the next sequence number."""
    assert acceptor.connection is not None
    seq = first_seq
    started = time.perf_counter()
    while (elapsed := time.perf_counter() - started) < seconds or (seq - first_seq) * ticks_per_message < ticks_per_s * seconds:
        due = min(int(elapsed * ticks_per_s), int(ticks_per_s * seconds)) // ticks_per_message - (seq - first_seq)
        stamp = utc_stamp(time.time())
        slice_ = []
        for _ in range(due):
            at = seq * ticks_per_message
            quotes = [
                (symbol_name((at + k) % 128), f"1.{at % 9000 + 1000}", f"1.{at % 9000 + 1002}") for k in range(ticks_per_message)
            ]
            slice_.append(increment(seq, quotes, stamp, acceptor.provider))
            seq += 1
        if slice_:
            acceptor.connection.sendall(b"".join(slice_))
        time.sleep(0.001)
    return seq


def _quantile(buckets: list[tuple[float, float]], share: float) -> float:
    """In ms, interpolated within its bucket."""
    buckets = sorted(buckets)
    target = buckets[-1][1] * share
    below, count_below = 0.0, 0.0
    for bound, count in buckets:
        if count >= target:
            return round(1000 * (below + (bound - below) * (target - count_below) / max(count - count_below, 1)), 2)
        below, count_below = bound, count
    return float("inf")


def memory(folder: Path) -> dict[str, float]:
    """Resident MB of each service after 10 M ticks, then at its highest while Redis is away for a minute at 50,000 ticks/s."""
    folder.mkdir(parents=True)
    with running(folder) as (stack, acceptor):
        seq, sent = Acceptor.FIRST_SEQ, 0
        part = folder / "messages"
        while sent < MEMORY_TICKS:
            seq += write_messages(part, 500_000, 10, seq)
            acceptor.send_file(part)
            sent += 500_000
        wait_written(stack, sent)
        after = {f"{name}_mb_after_10m": process.memory_bytes() // 2**20 for name, process in stack.processes.items()}
        assert stack.redis is not None
        stack.redis.kill()
        highest = dict.fromkeys(stack.processes, 0)
        for _ in range(AWAY_S):
            next_seq = _pace(acceptor, AWAY_TICKS_PER_S, 1, seq, 10)
            sent += (next_seq - seq) * 10
            seq = next_seq
            for name, process in stack.processes.items():
                highest[name] = max(highest[name], process.memory_bytes())
        stack.redis.start()
        wait_written(stack, sent)
        return after | {f"{name}_mb_redis_away": size // 2**20 for name, size in highest.items()}
