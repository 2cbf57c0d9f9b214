"""Reading the open day while it is written at 50,000 ticks/s. Adds to bench/results/storage.json.

    python bench/open_day.py [--quick] [--folder FOLDER]

A process of its own writes as persistence does, through `DayFile`, ticks of 28 symbols in batches of 2,500, each durable before
the next. The day of the busiest has 290,000 ticks of two providers by then, an hour of it 12,000; all columns are asked for, in
order of (ts, provider, seq), as Arrow. Best and median of several rounds; the rate is what the writer reached meanwhile.
"""

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from libs.common.domain.moment import NS_PER_DAY, NS_PER_S
from libs.common.store import Batch, DayFile, Layout
from libs.common.store.history import HistoryReader, Query

RESULTS = ROOT / "bench/results/storage.json"
SYMBOL = "EUR/USD"
DAY = 20_600
MIDNIGHT = DAY * NS_PER_DAY
HOUR_NS = 3_600 * NS_PER_S
RATE = 50_000  # ticks/s
BATCH = 2_500
SYMBOLS = 28
SHARES = {"FXCM": 0.68, "OANDA": 0.32}  # of the ticks
BUSY = ((0, 12, 139_000), (12, 13, 12_000), (13, 23, 139_000))  # from hour, to hour, ticks; the 24th is written meanwhile
TARGETS = {"open_hour_ms": 12, "open_day_ms": 150, "open_last_100_ms": 1, "open_as_of_ms": 2}


def tick(symbol: str, provider: str, ts: int, seq: int) -> tuple:
    bid = 1_085_000_000 + seq * 7 % 997 * 10_000
    return (symbol, provider, ts, seq, ts + 3_000_000, bid, bid + seq % 4 * 10_000, 1e6 * (1 + seq % 5), 5e5, 0)


def write(folder: Path) -> None:
    """The day so far, then on at the rate until killed; says `ready`, and then each second how many ticks it has written."""
    file = DayFile(Layout(folder).day(DAY))
    rows = []
    for start, end, ticks in BUSY:
        for provider, share in SHARES.items():
            count = round(ticks * share)
            step = (end - start) * HOUR_NS // count // 1_000_000 * 1_000_000
            rows += [tick(SYMBOL, provider, MIDNIGHT + start * HOUR_NS + at * step, start * 10**6 + at) for at in range(count)]
    rows.sort(key=lambda row: row[2])  # as they would have come
    for at in range(0, len(rows), 5_000):
        file.write(Batch(ticks=rows[at : at + 5_000]))
    print("ready", flush=True)
    names = [SYMBOL, *(f"SYM{number:03d}" for number in range(1, SYMBOLS))]
    began, written = time.perf_counter(), 0
    while True:
        numbers = range(written, written + BATCH)
        at = MIDNIGHT + 23 * HOUR_NS
        ticks = [tick(names[number % SYMBOLS], "FXCM", at + number * 1_000, 10**8 + number) for number in numbers]
        file.write(Batch(ticks=ticks))
        written += BATCH
        if not written % RATE:
            print(written, time.perf_counter() - began, flush=True)
        time.sleep(max(0.0, began + written / RATE - time.perf_counter()))


def times_ms(work: Callable[[], int], rounds: int, rows: int) -> list[float]:
    times = []
    for _ in range(rounds):
        started = time.perf_counter()
        found = work()
        times.append((time.perf_counter() - started) * 1e3)
        assert found == rows, f"{found} rows where {rows} were asked for"
    return sorted(times)


def measure(folder: Path, rounds: int) -> dict[str, float]:
    command = [sys.executable, __file__, "--write", str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as writer, HistoryReader(folder) as reader:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "ready\n"
        time.sleep(2)

        def read(start: int, end: int) -> int:
            query = Query((SYMBOL,), MIDNIGHT + start * HOUR_NS, MIDNIGHT + end * HOUR_NS)
            return sum(batch.num_rows for batch in reader.read(query))

        whole = Query((SYMBOL,), MIDNIGHT, MIDNIGHT + NS_PER_DAY)
        found = {
            "open_hour_ms": times_ms(lambda: read(12, 13), 3 * rounds, 12_000),
            "open_day_ms": times_ms(lambda: read(0, 23), rounds, 290_000),
            "open_last_100_ms": times_ms(lambda: len(reader.last(whole, 100)), 10 * rounds, 100),
            "open_as_of_ms": times_ms(lambda: len(reader.as_of(SYMBOL, MIDNIGHT + 15 * HOUR_NS)), 10 * rounds, len(SHARES)),
        }
        writer.kill()
        *_, last = writer.stdout.read().splitlines()
    written, seconds = last.split()
    results = {name: round(times[0], 2) for name, times in found.items()}
    results |= {name.replace("_ms", "_median_ms"): round(times[len(times) // 2], 2) for name, times in found.items()}
    return results | {"open_ticks_per_s": round(int(written) / float(seconds))}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="few rounds; results are printed, not kept")
    parser.add_argument("--folder", type=Path, help="where to write the day; emptied first")
    parser.add_argument("--write", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.write:
        write(options.write)
    folder = options.folder or Path(tempfile.mkdtemp(prefix="bench-open-day-"))
    shutil.rmtree(folder, ignore_errors=True)
    try:
        results = measure(folder, 3 if options.quick else 15)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print(json.dumps(results, indent=2))
    if not options.quick:
        others = json.loads(RESULTS.read_text("utf-8")) if RESULTS.exists() else {}
        RESULTS.write_text(json.dumps(others | results, indent=2) + "\n", "utf-8")
    missed = [name for name, bound in TARGETS.items() if results[name] > bound]
    print(f"not reached: {', '.join(missed)}" if missed else "all reached", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
