"""Sealing beside ingestion: what a day of 10 M ticks does to the lag of 50,000 ticks/s that come meanwhile."""

import os
import re
import time
from pathlib import Path

from pipeline import _pace, running, wait_written, written
from wire import Acceptor

from libs.common.store import Layout
from libs.common.store.tiers import TierDay

TICKS_PER_S = 50_000
TICKS_PER_MESSAGE = 10
STEADY_S = 15
TIMEOUT_S = 300


def measure(large: Path, folder: Path) -> dict[str, float]:
    """`large`: the store of one closed day, which is left as it is. Lag: what was sent and is not durable, in seconds of it."""
    folder.mkdir(parents=True)
    ((number, source),) = Layout(large).day_files()
    with running(folder) as (stack, acceptor):
        day = TierDay(number, "", stack.data_dir)
        seq = Acceptor.FIRST_SEQ

        def lag_s() -> float:
            """After a second of ingestion."""
            nonlocal seq
            seq = _pace(acceptor, TICKS_PER_S, 1, seq, TICKS_PER_MESSAGE)
            return ((seq - Acceptor.FIRST_SEQ) * TICKS_PER_MESSAGE - written(stack)) / TICKS_PER_S

        before = [lag_s() for _ in range(STEADY_S)]
        day.db.parent.mkdir(parents=True)
        os.link(source, day.db)
        started = time.time()
        lifecycle = stack.spawn("lifecycle", "lifecycle", TICKVAULT_LIFECYCLE_DISK_RESERVE_BYTES="0")
        beside = []
        while not day.receipt.exists():
            beside.append(lag_s())
            assert time.time() - started < TIMEOUT_S, lifecycle.log.read_text("utf-8")[-2000:]
        seconds = day.receipt.stat().st_mtime - started
        assert lifecycle.popen is not None
        (peak_kb,) = re.findall(r"VmHWM:\s*(\d+) kB", Path(f"/proc/{lifecycle.popen.pid}/status").read_text("ascii"))
        wait_written(stack, (seq - Acceptor.FIRST_SEQ) * TICKS_PER_MESSAGE)
    half = len(beside) // 2
    return {
        "seal_beside_s": round(seconds, 1),
        "seal_beside_mb": int(peak_kb) // 1024,
        "seal_beside_lag_before_s": _mean(before),
        "seal_beside_lag_first_half_s": _mean(beside[:half]),
        "seal_beside_lag_second_half_s": _mean(beside[half:]),
        "seal_beside_lag_max_s": round(max(beside), 3),
    }


def _mean(values: list[float]) -> float:
    return round(sum(values) / len(values), 3)
