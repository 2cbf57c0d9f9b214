"""Size and speed of sealed days, with peers on the same rows in the same run. Writes bench/results/storage.json.

    python bench/storage.py [--quick] [--folder FOLDER] [--only ours polars duckdb clickhouse arcticdb]
    python bench/storage.py --part sizes|beside       one of the figures that need no peers, into what was measured before

Each contender runs in a process of its own, one after the other, and reports the best of several rounds; compare figures of one
run only. All are asked for the same rows, all columns, in order of (ts, provider, seq), as Arrow. Polars and DuckDB read our
files; ClickHouse (chdb) and ArcticDB (LMDB) hold the rows in their own. Figures of peers have the names of ours:
`parquet_bytes_per_tick` is that of their own files, `seal_s` the time to write the 10 M ticks from our Parquet into them, where
ours begins at SQLite and reads back. Without the real data at ../shared/data, and with --quick, the ticks are a random walk, and
sizes mean nothing.
"""

import argparse
import contextlib
import csv
import io
import json
import os
import platform
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from itertools import product
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "bench")]

import beside

from libs.common.domain.moment import NS_PER_DAY, NS_PER_S, parse_day
from libs.common.store import Layout
from libs.common.store.columnar import Query, SealedReader, read_manifest, seal, sealed_days
from libs.common.store.history import HistoryReader
from libs.common.store.schema import migrate
from libs.common.store.tiers import compress_day, seal_day, tier_days

RESULTS = ROOT / "bench/results/storage.json"
DATA = Path(os.environ.get("TICKVAULT_TEST_DATA") or ROOT.parent / "shared/data") / "lean"
VENDORS = {"FXCM": ("fxcm", 5), "OANDA": ("oanda", 0)}  # provider → folder, hours to UTC
SYMBOL = "EUR/USD"
FIRST_DAY = parse_day("2026-01-05")
EVER = (0, 2**62)
SIZES = np.array([1e5, 2.5e5, 5e5, 1e6, 1.5e6, 2e6, 3e6, 5e6])
HOUR = (12 * 3600 * NS_PER_S, 13 * 3600 * NS_PER_S)  # of the busy day: 12,000 of its 290,000 ticks
TARGETS = {  # name: upper bound
    "parquet_bytes_per_tick": 3.0,
    "db_zst_bytes_per_tick": 10,
    "half_year_s": 0.7,
    "half_year_to_polars": 0.5,
    "half_year_mb": 300,
    "first_batch_ms": 50,
    "hour_ms": 5,
    "day_ms": 15,
    "last_100_ms": 1,
    "as_of_ms": 2,
    "seal_s": 45,
    "seal_mb": 1000,
    "seal_beside_s": 45,
    "seal_beside_mb": 1000,
    "seal_beside_lag_second_half_s": 1,
}
LARGE_TICKS = 10_000_000
TURNS = 4
CONTENDERS = ("ours", "polars", "duckdb", "clickhouse", "arcticdb")

Quotes = tuple[np.ndarray, np.ndarray, np.ndarray]  # ts in ns, bid and ask in 1e-9


# The data


def vendor_quotes(provider: str) -> Quotes:
    """The real ticks of a vendor, oldest first; a random walk where they are not here."""
    folder, hours = VENDORS[provider]
    paths = sorted((DATA / folder / "tick/eurusd").glob("201405*_quote.zip"))
    if not paths:
        return random_walk(600_000, seed=len(provider))
    parts = [np.array(list(quotes_of(path, hours)), np.int64) for path in paths]
    ts, bid, ask = np.concatenate(parts).T
    return np.ascontiguousarray(ts), bid, ask


def quotes_of(path: Path, hours: int) -> Iterator[tuple[int, int, int]]:
    start = datetime.strptime(path.name[:8], "%Y%m%d").replace(tzinfo=UTC)
    start_ms = int(start.timestamp() * 1000) + hours * 3_600_000
    with zipfile.ZipFile(path) as archive:
        text = archive.read(archive.namelist()[0]).decode()
    for ms, bid, ask in csv.reader(io.StringIO(text)):
        yield (start_ms + int(ms)) * 1_000_000, round(float(bid) * 1e5) * 10_000, round(float(ask) * 1e5) * 10_000


def random_walk(ticks: int, seed: int) -> Quotes:
    rng = np.random.default_rng(seed)
    ts = np.cumsum(rng.integers(1, 2_000, ticks)) * 1_000_000 + parse_day("2014-05-01") * NS_PER_DAY
    bid = (130_000 + np.cumsum(rng.integers(-1, 2, ticks))) * 10_000
    return ts, bid, bid + rng.integers(0, 4, ticks) * 10_000


class Maker:
    """Closed day files of quotes that are real in their prices and gaps, on days of our own."""

    def __init__(self) -> None:
        self.quotes = {provider: vendor_quotes(provider) for provider in VENDORS}
        self._rng = np.random.default_rng(7)

    def real_days(self, data_dir: Path) -> None:
        """The vendors' own days, as they were: without sizes and times of receipt, as an import leaves them."""
        days = sorted({int(day) for ts, _, _ in self.quotes.values() for day in np.unique(ts // NS_PER_DAY)})[:13]
        for day in days:
            with closed_day(data_dir, day) as connection:
                rows = []
                for number, (ts, bid, ask) in enumerate(self.quotes.values(), 1):
                    of_day = ts // NS_PER_DAY == day
                    nothing = [None] * int(of_day.sum())
                    rows += tick_rows(1, number, ts[of_day], bid[of_day], ask[of_day], nothing, nothing, nothing)
                insert(connection, sorted(rows, key=itemgetter(0, 1, 2, 3)))  # as they would have come

    def days(self, data_dir: Path, days: int, ticks: int, symbols: int = 1, span: tuple[int, int] = (0, NS_PER_DAY)) -> None:
        """`ticks` a day of live trading, from Monday to Friday."""
        day = FIRST_DAY
        for number in range(days):
            while (day + 3) % 7 > 4:
                day += 1
            with closed_day(data_dir, day, symbols) as connection:
                for symbol in range(symbols):
                    self._live(connection, symbol + 1, day, ticks // symbols, number + symbol, span)
            day += 1

    def busy_day(self, data_dir: Path, ticks: int, ticks_of_hour: int) -> None:
        with closed_day(data_dir, FIRST_DAY) as connection:
            self._live(connection, 1, FIRST_DAY, (ticks - ticks_of_hour) // 2, 0, (0, HOUR[0]))
            self._live(connection, 1, FIRST_DAY, ticks_of_hour, 1, HOUR, seq=ticks)
            self._live(connection, 1, FIRST_DAY, (ticks - ticks_of_hour) // 2, 2, (HOUR[1], NS_PER_DAY), seq=2 * ticks)

    def _live(
        self, connection: sqlite3.Connection, symbol: int, day: int, ticks: int, offset: int, span: tuple[int, int], seq: int = 0
    ) -> None:
        for number, (quoted, bid, ask) in enumerate(self.quotes.values(), 1):
            count = round(ticks * (0.68, 0.32)[number - 1])
            chosen = (np.arange(count) + offset * count) % len(quoted)
            gaps = np.diff(quoted[chosen], prepend=quoted[chosen[0]]).clip(0)
            ts = np.cumsum(gaps)
            ts = (ts * ((span[1] - span[0]) * 0.999 / max(ts[-1], 1))).astype(np.int64) + span[0]
            ts = ts // 1_000_000 * 1_000_000 + day * NS_PER_DAY
            received = (ts // 1000 + self._rng.integers(200, 5_000, count)) * 1000
            sizes = [self._rng.choice(SIZES, count).tolist() for _ in range(2)]
            insert(connection, tick_rows(symbol, number, ts, bid[chosen], ask[chosen], received.tolist(), *sizes, seq=seq))


@contextlib.contextmanager
def closed_day(data_dir: Path, day: int, symbols: int = 1) -> Iterator[sqlite3.Connection]:
    path = Layout(data_dir).day(day)
    path.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA synchronous = OFF")
        migrate(connection)
        connection.execute("BEGIN")
        connection.executemany("INSERT INTO providers VALUES (?, ?)", enumerate(VENDORS, 1))
        names = [SYMBOL, *(f"SYM{number:03d}" for number in range(1, symbols))]
        connection.executemany("INSERT INTO symbols VALUES (?, ?)", enumerate(names, 1))
        yield connection
        connection.execute("INSERT INTO meta VALUES ('closed_at', 0)")
        connection.execute("COMMIT")


def tick_rows(symbol, provider, ts, bid, ask, received, bid_size, ask_size, seq=0) -> list[tuple]:
    count = len(ts)
    flags = ((bid > ask) * 1 + (bid == ask) * 2).tolist()
    numbers = range(seq, seq + count)
    fields = (ts.tolist(), [provider] * count, numbers, received, bid.tolist(), ask.tolist(), bid_size, ask_size, flags)
    return list(zip([symbol] * count, *fields, strict=True))


def insert(connection: sqlite3.Connection, rows: list[tuple]) -> None:
    connection.executemany("INSERT INTO ticks VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", rows)


def seal_all(data_dir: Path) -> None:
    for _, path in Layout(data_dir).day_files():
        seal(data_dir, path, now=time.time_ns())


def parquet_files(data_dir: Path) -> list[str]:
    return [str(paths.parquet("ticks", 1)) for paths in sealed_days(data_dir)]


def rows_in(data_dir: Path) -> int:
    return sum(read_manifest(paths.manifest).files["ticks"].rows for paths in sealed_days(data_dir))


# Measuring


def best_s(work: Callable[[], int], rounds: int, rows: int | None = None) -> float:
    """Seconds of the quickest of several rounds; each must give the rows."""
    times = []
    for _ in range(rounds):
        started = time.perf_counter()
        found = work()
        times.append(time.perf_counter() - started)
        assert rows in (None, found), f"{found} rows where {rows} were asked for"
    return min(times)


def read_three(read: Callable[[str, int, int], int], folder: Path, rounds: int) -> dict[str, float]:
    """`read(store, start, end)` is asked for half a year, a day and an hour."""
    start = FIRST_DAY * NS_PER_DAY
    return {
        "half_year_s": round(best_s(lambda: read("half", *EVER), rounds, rows_in(folder / "half")), 3),
        "day_ms": round(best_s(lambda: read("busy", start, start + NS_PER_DAY), 3 * rounds, rows_in(folder / "busy")) * 1e3, 2),
        "hour_ms": round(best_s(lambda: read("busy", start + HOUR[0], start + HOUR[1]), 5 * rounds) * 1e3, 2),
    }


def peak_mb() -> float:
    """The most memory this process has held; getrusage counts that of the parent it was forked from, too."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/status").read_text("utf-8").splitlines():
            if line.startswith("VmHWM:"):
                return round(int(line.split()[1]) / 1024)
    return float("nan")


def ours(folder: Path, rounds: int) -> dict[str, Any]:
    with contextlib.ExitStack() as stack:
        readers = {store: stack.enter_context(HistoryReader(folder / store)) for store in ("half", "busy")}

        def read(store: str, start: int, end: int) -> int:
            return sum(batch.num_rows for batch in readers[store].read(Query((SYMBOL,), start, end)))

        def first_batch() -> int:
            with HistoryReader(folder / "half") as reader:
                return next(reader.read(Query((SYMBOL,), *EVER))).num_rows

        rng = np.random.default_rng(1)
        days = [paths.day for paths in sealed_days(folder / "half")]
        moments = [int(rng.choice(days)) * NS_PER_DAY + int(rng.integers(1, 24)) * 3600 * NS_PER_S for _ in range(40)]
        reader = readers["half"]
        one_by_one = [best_s(lambda at=at: len(reader.as_of(SYMBOL, at)), 3) for at in moments]
        figures = read_three(read, folder, rounds)
        figures["half_year_mb"] = peak_mb()
        whole = Query((SYMBOL,), *EVER)
        decimals = Query((SYMBOL,), *EVER, prices="decimal")
        return figures | {
            "half_year_decimal_s": round(best_s(lambda: sum(b.num_rows for b in reader.read(decimals)), rounds), 3),
            "half_year_table_s": round(best_s(lambda: len(pa.Table.from_batches(reader.read(whole))), rounds), 3),
            "first_batch_ms": round(best_s(first_batch, 5) * 1e3, 1),
            "last_100_ms": round(best_s(lambda: len(reader.last(whole, 100)), 30, 100) * 1e3, 2),
            "as_of_ms": round(float(np.median(one_by_one)) * 1e3, 2),
            "as_of_max_ms": round(max(one_by_one) * 1e3, 2),
        }


def sealing(folder: Path, _rounds: int) -> dict[str, Any]:
    """Into a folder of its own, once: 10 M ticks of 28 symbols are what the issue asks for."""
    started = time.perf_counter()
    seal_all(folder / "large")
    return {"seal_s": round(time.perf_counter() - started, 1), "seal_mb": peak_mb(), "seal_ticks": rows_in(folder / "large")}


def polars(folder: Path, rounds: int) -> dict[str, Any]:
    import polars as pl  # noqa: PLC0415

    def read(store: str, start: int, end: int, engine: str = "streaming") -> int:
        between = (pl.col("ts") >= pl.lit(start).cast(pl.Datetime("ns", "UTC"))) & (
            pl.col("ts") < pl.lit(end).cast(pl.Datetime("ns", "UTC"))
        )
        lazy = pl.scan_parquet(parquet_files(folder / store)).filter(pl.col("symbol") == SYMBOL)
        lazy = lazy if (start, end) == EVER else lazy.filter(between)
        return lazy.sort("ts", "ts_sub_ms", "provider", "seq").collect(engine=engine).to_arrow().num_rows

    figures = [
        read_three(lambda store, start, end, engine=engine: read(store, start, end, engine), folder, rounds)
        for engine in ("streaming", "in-memory")
    ]
    return {name: min(one[name] for one in figures) for name in figures[0]} | {"version": pl.__version__}


def polars_files(folder: Path, _rounds: int) -> dict[str, Any]:
    """Parquet as Polars itself writes it."""
    import polars as pl  # noqa: PLC0415

    def write(store: str, columns: tuple[str, ...]) -> int:
        rows = pl.scan_parquet(parquet_files(folder / store)).select(columns).sort("symbol", "provider", "ts", "ts_sub_ms", "seq")
        rows.sink_parquet(path, compression="zstd")
        return path.stat().st_size

    path = folder / "polars.parquet"
    size = {"parquet_bytes_per_tick": round(write("real", ("symbol", "provider", *COUNTED)) / rows_in(folder / "real"), 2)}
    started = time.perf_counter()
    write("large", ("symbol", "provider", *CLICKHOUSE_TYPES))
    return size | {"seal_s": round(time.perf_counter() - started, 1)}


def duckdb(folder: Path, rounds: int) -> dict[str, Any]:
    import duckdb as db  # noqa: PLC0415

    connection = db.connect()

    def read(store: str, start: int, end: int) -> int:
        between, parameters = "", [parquet_files(folder / store), SYMBOL]
        if (start, end) != EVER:
            between = "AND ts >= make_timestamptz(?) AND ts < make_timestamptz(?)"
            parameters += [start // 1000, end // 1000]
        query = f"SELECT * FROM read_parquet(?) WHERE symbol = ? {between} ORDER BY ts, ts_sub_ms, provider, seq"
        return connection.execute(query, parameters).to_arrow_table().num_rows

    def write(store: str, columns: str) -> int:
        path = folder / f"duckdb_{store}.db"
        path.unlink(missing_ok=True)
        with db.connect(str(path)) as stored:
            rows = f"SELECT {columns} FROM read_parquet(?) ORDER BY symbol, provider, ts, ts_sub_ms, seq"
            stored.execute(f"CREATE TABLE ticks AS {rows}", [parquet_files(folder / store)])
            stored.execute("CHECKPOINT")
        return path.stat().st_size

    counted = ", ".join(("symbol", "provider", *COUNTED))
    figures = {"parquet_bytes_per_tick": round(write("real", counted) / rows_in(folder / "real"), 2)}
    started = time.perf_counter()
    write("large", "*")
    figures["seal_s"] = round(time.perf_counter() - started, 1)
    return figures | read_three(read, folder, rounds) | {"version": db.__version__}


CLICKHOUSE = {
    "default": dict.fromkeys(("ts", "ts_sub_ms", "seq", "bid", "ask", "bid_size", "ask_size", "recv_delay_us", "flags"), ""),
    "tuned": {
        "ts": "CODEC(Delta, ZSTD(9))", "ts_sub_ms": "CODEC(Delta, ZSTD(9))", "seq": "CODEC(DoubleDelta, ZSTD(9))",
        "bid": "CODEC(Delta, ZSTD(9))", "ask": "CODEC(Delta, ZSTD(9))", "bid_size": "CODEC(ZSTD(9))",
        "ask_size": "CODEC(ZSTD(9))", "recv_delay_us": "CODEC(Delta, ZSTD(9))", "flags": "CODEC(ZSTD(9))",
    },
}  # fmt: skip
CLICKHOUSE_TYPES = {
    "ts": "DateTime64(3, 'UTC')", "ts_sub_ms": "Int32", "seq": "Int64", "bid": "Nullable(Decimal(18, 9))",
    "ask": "Nullable(Decimal(18, 9))", "bid_size": "Nullable(Float64)", "ask_size": "Nullable(Float64)",
    "recv_delay_us": "Nullable(Int64)", "flags": "Int32",
}  # fmt: skip
COUNTED = ("ts", "ts_sub_ms", "seq", "bid", "ask", "flags")  # of the figure for size, with symbol and provider


def clickhouse(folder: Path, rounds: int) -> dict[str, Any]:
    import chdb  # noqa: PLC0415
    from chdb.session import Session  # noqa: PLC0415

    path = folder / "clickhouse"
    shutil.rmtree(path, ignore_errors=True)
    session = Session(str(path))
    session.query("CREATE DATABASE bench ENGINE = Atomic")
    figures: dict[str, Any] = {}
    for codecs, of_column in CLICKHOUSE.items():
        create(session, f"real_{codecs}", {name: of_column[name] for name in COUNTED}, folder / "real")
        size = session.query(f"SELECT sum(bytes_on_disk) FROM system.parts WHERE active AND table = 'real_{codecs}'", "TSV")
        name = "parquet_bytes_per_tick" + ("_default" if codecs == "default" else "")
        figures[name] = round(int(str(size)) / rows_in(folder / "real"), 2)
    started = time.perf_counter()
    create(session, "large", CLICKHOUSE["tuned"], folder / "large")
    figures["seal_s"] = round(time.perf_counter() - started, 1)
    for store in ("half", "busy"):
        create(session, store, CLICKHOUSE["tuned"], folder / store)

    def read(store: str, start: int, end: int) -> int:
        between = "" if (start, end) == EVER else (
            f"AND ts >= fromUnixTimestamp64Milli({start // 10**6}) AND ts < fromUnixTimestamp64Milli({end // 10**6})"
        )  # fmt: skip
        order = "ORDER BY ts, ts_sub_ms, provider, seq"
        found = session.query(f"SELECT * FROM bench.{store} WHERE symbol = '{SYMBOL}' {between} {order}", "ArrowStream")
        return pa.ipc.open_stream(pa.py_buffer(found.bytes())).read_all().num_rows

    return figures | read_three(read, folder, rounds) | {"version": chdb.__version__}


def create(session: Any, table: str, codecs: dict[str, str], data_dir: Path) -> None:
    columns = ", ".join(f"{name} {CLICKHOUSE_TYPES[name]} {codec}" for name, codec in codecs.items())
    session.query(
        f"""CREATE TABLE bench.{table} (symbol LowCardinality(String), provider LowCardinality(String), {columns})
        ENGINE = MergeTree ORDER BY (symbol, provider, ts, seq)"""
    )
    names = ", ".join(("symbol", "provider", *codecs))
    files = data_dir / "ticks/columnar/*/*/ticks_*.parquet"
    session.query(f"INSERT INTO bench.{table} SELECT {names} FROM file('{files}')")
    session.query(f"OPTIMIZE TABLE bench.{table} FINAL")


def arcticdb(folder: Path, rounds: int) -> dict[str, Any]:
    import arcticdb as adb  # noqa: PLC0415
    import pandas as pd  # noqa: PLC0415

    def filled(store: str, columns: tuple[str, ...], symbols: tuple[str, ...] = (SYMBOL,)) -> tuple[Any, float]:
        """The library, and the seconds that it took to write."""
        path = folder / f"arctic_{store}"
        shutil.rmtree(path, ignore_errors=True)
        library = adb.Arctic(f"lmdb://{path}?map_size=20GB").get_library("ticks", create_if_missing=True)
        spent = 0.0
        with SealedReader(folder / store) as reader:
            for paths, symbol in product(sealed_days(folder / store), symbols):
                day = Query((symbol,), paths.day * NS_PER_DAY, (paths.day + 1) * NS_PER_DAY, columns=columns)
                table = pa.Table.from_batches(reader.read(day), day.schema)
                frame = table.to_pandas().astype({"provider": "str"}).set_index("ts")
                frame = frame.assign(recv_ts=frame["recv_ts"].dt.tz_localize(None)) if "recv_ts" in frame else frame
                started = time.perf_counter()
                library.append(symbol.replace("/", ""), frame.tz_localize(None), validate_index=False)
                spent += time.perf_counter() - started
        return library, spent

    size_columns = ("provider", "ts", "seq", "bid", "ask", "flags")
    filled("real", size_columns)
    used = sum(path.stat().st_blocks * 512 for path in (folder / "arctic_real").rglob("*") if path.is_file())
    every = ("provider", "ts", "seq", "recv_ts", "bid", "ask", "bid_size", "ask_size", "flags")
    libraries = {store: filled(store, every)[0] for store in ("half", "busy")}
    (large,) = sealed_days(folder / "large")
    _, seal_s = filled("large", every, tuple(read_manifest(large.manifest).series))

    def read(store: str, start: int, end: int) -> int:
        between = None if (start, end) == EVER else (pd.Timestamp(start), pd.Timestamp(end - 1))
        return pa.Table.from_pandas(libraries[store].read("EURUSD", date_range=between).data).num_rows

    figures = {"parquet_bytes_per_tick": round(used / rows_in(folder / "real"), 2), "seal_s": round(seal_s, 1)}
    return figures | read_three(read, folder, rounds) | {"version": adb.__version__}


def sizes(folder: Path) -> dict[str, float]:
    """Bytes a tick of the real days: of the whole file of the ticks, three columns more than the figure asks for."""
    ticks = rows_in(folder / "real")
    tiers = Path(shutil.copytree(folder / "real", folder / "tiers"))
    days = tier_days(tiers)
    plain = sum(day.db.stat().st_size for day in days)
    for day in days:
        seal_day(day, time.time_ns())
        compress_day(day)
    packed = sum(day.zst.stat().st_size for day in days)
    shutil.rmtree(tiers)
    columns: dict[str, int] = {}
    for path in parquet_files(folder / "real"):
        footer = pq.read_metadata(path)
        for group in range(footer.num_row_groups):
            for at in range(footer.num_columns):
                chunk = footer.row_group(group).column(at)
                columns[chunk.path_in_schema] = columns.get(chunk.path_in_schema, 0) + chunk.total_compressed_size
    return {
        "ticks": ticks,
        "parquet_bytes_per_tick": round(sum(Path(path).stat().st_size for path in parquet_files(folder / "real")) / ticks, 3),
        "parquet_bytes_per_tick_by_column": {name: round(size / ticks, 3) for name, size in columns.items()},
        "db_bytes_per_tick": round(plain / ticks, 2),
        "db_zst_bytes_per_tick": round(packed / ticks, 2),
    }


def in_a_process(contender: str, folder: Path, rounds: int) -> dict[str, Any]:
    """What the contender reports; or why it does not, where its library is not installed."""
    command = [sys.executable, __file__, "--folder", str(folder), "--rounds", str(rounds), "--contender", contender]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        return {"not_measured": done.stderr.strip().rsplit("\n", 1)[-1][:200]}
    found: dict[str, Any] = json.loads(done.stdout.strip().rsplit("\n", 1)[-1])
    return found


def build(folder: Path, *, quick: bool) -> None:
    maker = Maker()
    days, ticks, busy, large = (10, 8_000, 29_000, 200_000) if quick else (130, 77_000, 290_000, LARGE_TICKS)
    maker.real_days(folder / "real")
    maker.days(folder / "half", days, ticks)
    maker.busy_day(folder / "busy", busy, busy * 12 // 290)
    maker.days(folder / "large", 1, large, symbols=28)
    for store in ("real", "half", "busy"):
        print(f"… sealing {store}", file=sys.stderr, flush=True)
        seal_all(folder / store)
    shutil.rmtree(folder / "half/ticks/db")


def part(name: str, folder: Path) -> dict[str, float]:
    if name == "sizes":
        Maker().real_days(folder / "real")
        seal_all(folder / "real")
        return sizes(folder)
    Maker().days(folder / "large", 1, LARGE_TICKS, symbols=28)
    return beside.measure(folder / "large", folder / "beside")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="small stores, to try it out; results are printed, not kept")
    parser.add_argument("--folder", type=Path, help="keep the stores here, and use them where they are already")
    parser.add_argument("--only", nargs="*", choices=CONTENDERS, default=CONTENDERS)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--part", choices=("sizes", "beside"))
    parser.add_argument("--contender", choices=(*CONTENDERS, "polars_files", "sealing"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.contender:
        print(json.dumps(globals()[options.contender](options.folder, options.rounds)))
        return 0
    folder = options.folder or Path(tempfile.mkdtemp(prefix="bench-storage-", dir=os.environ.get("BENCH_DIR")))
    try:
        if options.part:
            results = json.loads(RESULTS.read_text("utf-8")) | part(options.part, folder)
        else:
            if not (folder / "busy").exists():
                build(folder, quick=options.quick)
            results = measure(folder, options.only, options.rounds)
    finally:
        if options.folder is None:
            shutil.rmtree(folder, ignore_errors=True)
    print(json.dumps(results, indent=2))
    if not options.quick:
        before = json.loads(RESULTS.read_text("utf-8"))
        results = {name: value for name, value in before.items() if name.startswith("open_")} | results
        RESULTS.write_text(json.dumps(results, indent=2) + "\n", "utf-8")
    missed = [name for name, bound in TARGETS.items() if results.get(name, bound) > bound]
    print(f"not reached: {', '.join(missed)}" if missed else "all reached", file=sys.stderr)
    return 0


def measure(folder: Path, only: tuple[str, ...], rounds: int) -> dict[str, Any]:
    """Ours and Polars take turns: a ratio of theirs is worth more than what another process did to either of them."""
    found: dict[str, dict[str, Any]] = {}
    turns = [name for name in ("ours", "polars") if name in only]
    for contender in ["sealing", *TURNS * turns, *(name for name in CONTENDERS if name in only and name not in turns)]:
        print(f"… {contender}", file=sys.stderr, flush=True)
        found[contender] = better(found.get(contender, {}), in_a_process(contender, folder, rounds))
    if "polars" in found:
        found["polars"] |= in_a_process("polars_files", folder, rounds)
    results = sizes(folder) | found.pop("ours", {}) | found.pop("sealing")
    results |= beside.measure(folder / "large", folder / "beside")
    if "half_year_s" in results and "half_year_s" in found.get("polars", {}):
        results["half_year_to_polars"] = round(results["half_year_s"] / found["polars"]["half_year_s"], 3)
    machine = {"processor": processor(), "cores": os.cpu_count(), "python": platform.python_version(), "pyarrow": pa.__version__}
    return results | {"peers": found, "machine": machine, "measured_at": f"{datetime.now(UTC):%Y-%m-%d}"}


def better(one: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    """The lower time of each; of memory the higher."""
    pick = {name: max if name.endswith("_mb") else min for name in other if name in one and isinstance(other[name], float | int)}
    return {name: pick[name](one[name], other[name]) if name in pick else other[name] for name in other}


def processor() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text("utf-8").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor()


if __name__ == "__main__":
    sys.exit(main())
