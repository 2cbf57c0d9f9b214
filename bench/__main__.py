"""make bench: prints the table of figures, writes bench/results/latest.json, says what was not reached.

python -m bench [decoder persist end_to_end latency burst memory] runs some of them; memory (10 M ticks) takes minutes.
"""

import json
import os
import platform
import shutil
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import decoder
import persist
import pipeline

RESULTS = Path(__file__).parent / "results" / "latest.json"
TARGETS = {  # name: (bound, whether more is better)
    "end_to_end_ticks_per_s": (150_000, True),
    "decoder_to_simplefix": (8, True),
    "persist_ticks_per_s": (300_000, True),
    "latency_p99_ms": (25, False),
    "burst_others_read_p99_ms": (50, False),
    "burst_others_durable_p99_ms": (50, False),
    "gateway_mb_after_10m": (200, False),
    "persistence_mb_after_10m": (200, False),
    "gateway_mb_redis_away": (200, False),
    "persistence_mb_redis_away": (200, False),
}
METHOD = (
    "one run, all processes on this machine; end to end: 1 M ticks in two-entry X messages by sendfile, one session, journal and "
    "synchronous=FULL on, until the last row is durable; decoder: best of 5 rounds over a fixed mix, against simplefix's parser"
)


def main(names: list[str]) -> int:
    folder = Path(tempfile.mkdtemp(prefix="bench-", dir=os.environ.get("BENCH_DIR")))
    parts = {
        "decoder": decoder.measure,
        "persist": lambda: persist.measure(folder / "persist"),
        "end_to_end": lambda: pipeline.end_to_end(folder / "end_to_end"),
        "latency": lambda: pipeline.latency(folder / "latency"),
        "burst": lambda: pipeline.burst(folder / "burst"),
        "memory": lambda: pipeline.memory(folder / "memory"),
    }
    results = json.loads(RESULTS.read_text("utf-8")) if names and RESULTS.exists() else {}
    try:
        for name in names or parts:
            print(f"… {name}", file=sys.stderr, flush=True)
            results |= parts[name]()
            results |= {"machine": _machine(), "method": METHOD, "measured_at": f"{datetime.now(UTC):%Y-%m-%d}"}
            RESULTS.parent.mkdir(exist_ok=True)
            RESULTS.write_text(json.dumps(results, indent=2) + "\n", "utf-8")
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    missed = [name for name, (bound, more) in TARGETS.items() if (results.get(name, bound) - bound) * (1 if more else -1) < 0]
    for name, value in results.items():
        target = f"   target {'≥' if TARGETS[name][1] else '≤'} {TARGETS[name][0]:,}" if name in TARGETS else ""
        reached = "   NOT REACHED" if name in missed else ""
        print(f"{name:28} {value if isinstance(value, str) else format(value, ','):>12}{target}{reached}")
    print("not reached: " + (", ".join(missed) or "nothing"))
    return 0


def _machine() -> str:
    model = next((line.split(":", 1)[1].strip() for line in _cpuinfo() if line.startswith("model name")), platform.machine())
    return f"{model}, {os.cpu_count()} cores, Python {platform.python_version()}, {platform.system()} {platform.release()}"


def _cpuinfo() -> list[str]:
    path = Path("/proc/cpuinfo")
    return path.read_text("utf-8").splitlines() if path.exists() else []


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
