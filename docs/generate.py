"""python -m docs.generate: the README's tables of services, settings and figures, from the code and bench/results.

`--check` writes nothing and exits with 1 where the tables of services or settings are stale; figures carry their date.
"""

import importlib
import json
import re
import sys
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from libs.common.settings import PREFIX, Settings

ROOT = Path(__file__).resolve().parents[1]
README = ROOT / "README.md"
RESULTS = ROOT / "bench" / "results" / "latest.json"
STORAGE = ROOT / "bench" / "results" / "storage.json"

FIGURES = {  # name in latest.json: what it is, unit
    "end_to_end_ticks_per_s": ("FIX bytes on a socket to durable rows", "ticks/s"),
    "latency_p50_ms": ("socket to durable at 10,000 ticks/s, p50", "ms"),
    "latency_p99_ms": ("socket to durable at 10,000 ticks/s, p99", "ms"),
    "burst_others_read_p99_ms": (
        "two quiet sessions beside bursts of 10,000 messages/s on a third: engine to our reading, p99",
        "ms",
    ),
    "burst_others_durable_p99_ms": ("the same, socket to durable, p99", "ms"),
    "persist_ticks_per_s": ("persistence alone: stream to durable rows", "ticks/s"),
    "decoder_messages_per_s": ("framing and decoding of a mix of W and X", "messages/s"),
    "simplefix_messages_per_s": ("the same mix, simplefix's parser alone", "messages/s"),
    "decoder_to_simplefix": ("ratio of the two", "×"),
    "wal_bytes_per_tick": ("write-ahead log of a day file", "bytes/tick"),
    "gateway_mb_after_10m": ("gateway's memory after 10 M ticks", "MB"),
    "persistence_mb_after_10m": ("persistence's memory after 10 M ticks", "MB"),
    "gateway_mb_redis_away": ("gateway's memory, Redis away for 60 s at 50,000 ticks/s", "MB"),
    "persistence_mb_redis_away": ("persistence's memory, the same", "MB"),
}
STORAGE_FIGURES = {  # name in storage.json: what it is, unit; peers have those of the same name
    "parquet_bytes_per_tick": ("13 real days of EUR/USD from two providers, sealed", "bytes/tick"),
    "db_zst_bytes_per_tick": ("the same as .db.zst", "bytes/tick"),
    "half_year_s": ("half a year of a symbol: 10 M ticks of two providers, 130 days, all columns, in order", "s"),
    "first_batch_ms": ("its first batch", "ms"),
    "half_year_mb": ("memory meanwhile", "MB"),
    "day_ms": ("a sealed day, 290 k ticks", "ms"),
    "hour_ms": ("an hour of it, 12 k ticks", "ms"),
    "open_day_ms": ("the same day while it is open and written to at 50,000 ticks/s", "ms"),
    "open_hour_ms": ("an hour of that", "ms"),
    "last_100_ms": ("last 100 ticks", "ms"),
    "as_of_ms": ("what stood at a time, median over the half year", "ms"),
    "seal_s": ("sealing 10 M ticks", "s"),
    "seal_mb": ("memory meanwhile", "MB"),
}
PEERS = {"polars": "Polars on our files", "duckdb": "DuckDB", "clickhouse": "ClickHouse", "arcticdb": "ArcticDB"}


def services() -> str:
    """A row a service: the port its settings name, and the contract in its docstring."""
    lines = ["| service | port | consumes | produces |", "|---|---|---|---|"]
    for name, settings in _services().items():
        contract = importlib.import_module(f"services.{name}").__doc__ or ""
        port = settings.model_fields[f"{name}_http_port"].default
        lines.append(f"| `{name}` | {port} | {_clause(contract, 'Consumes')} | {_clause(contract, 'Produces')} |")
    return "\n".join(lines)


def settings() -> str:
    """A row a setting: first what all services share, then each service's own."""
    lines = ["| variable | default | meaning |", "|---|---|---|"]
    shared = Settings.model_fields
    lines += [_row(name, field) for name, field in shared.items()]
    for kind in _services().values():
        lines += [_row(name, field) for name, field in kind.model_fields.items() if name not in shared]
    return "\n".join(lines)


def figures() -> str:
    """What `make bench` measured last."""
    if not RESULTS.exists():
        return "Not measured yet on this machine: `make bench`, then `python -m docs.generate`."
    results: dict[str, Any] = json.loads(RESULTS.read_text("utf-8"))
    lines = ["| figure | value | |", "|---|--:|---|"]
    lines += [f"| {label} | {results[name]:,} | {unit} |" for name, (label, unit) in FIGURES.items() if name in results]
    return "\n".join([*lines, "", f"Measured {results['measured_at']} on {results['machine']}. Method: {results['method']}."])


def storage() -> str:
    """What `make bench` measured of the store last, beside its peers on the same rows in the same run."""
    results: dict[str, Any] = json.loads(STORAGE.read_text("utf-8"))
    peers = {name: found for name, found in results["peers"].items() if "not_measured" not in found}
    titles = [f"{PEERS[name]} {found['version']}" for name, found in peers.items()]
    lines = [f"| {' | '.join(('figure', 'TickVault', *titles, ''))} |", f"|---{'|--:' * (1 + len(peers))}|---|"]
    for name, (label, unit) in STORAGE_FIGURES.items():
        if name in results:
            theirs = [f"{found[name]:,}" if name in found else "" for found in peers.values()]
            lines.append(f"| {' | '.join((label, f'{results[name]:,}', *theirs, unit))} |")
    machine = results["machine"]
    where = f"{machine['processor']}, {machine['cores']} cores, Python {machine['python']}, pyarrow {machine['pyarrow']}"
    how = "one run, all to Arrow, the best of several rounds each (`python bench/storage.py`)"
    notes = "ClickHouse with its tuned codecs; peers write the 10 M ticks from Parquet and read nothing back"
    return "\n".join([*lines, "", f"Measured {results['measured_at']} on {where}; {how}. {notes}."])


TABLES = {"services": services, "settings": settings, "figures": figures, "storage": storage}
CHECKED = ("services", "settings")


def fill(text: str, names: tuple[str, ...] = tuple(TABLES)) -> str:
    """The text with what stands between `<!-- name -->` and `<!-- /name -->` made anew; ValueError where a mark is missing."""
    for name in names:
        begin, end = f"<!-- {name} -->\n", f"\n<!-- /{name} -->"
        before, found, rest = text.partition(begin)
        _, closed, after = rest.partition(end)
        if not found or not closed:
            raise ValueError(f"{README.name} has no {begin.strip()} … {end.strip()}")
        text = before + begin + TABLES[name]() + end + after
    return text


def _services() -> dict[str, type[Settings]]:
    found = {}
    for path in sorted((ROOT / "services").glob("*/settings.py")):
        module = importlib.import_module(f"services.{path.parent.name}.settings")
        kinds = [kind for kind in vars(module).values() if isinstance(kind, type) and issubclass(kind, Settings) and kind.service]
        found[path.parent.name] = kinds[0]
    return dict(sorted(found.items(), key=lambda item: item[1].model_fields[f"{item[0]}_http_port"].default))


def _clause(contract: str, word: str) -> str:
    match = re.search(rf"^{word}\s+(.*(?:\n\s{{8,}}.*)*)", contract, re.MULTILINE)
    return re.sub(r"\s+", " ", match[1]).strip() if match else ""


def _row(name: str, field: Any) -> str:
    default = field.default.get_secret_value() if isinstance(field.default, SecretStr) else field.default
    return f"| `{PREFIX}{name.upper()}` | `{default}` | {field.description} |"


def main() -> int:
    before = README.read_text("utf-8")
    if "--check" in sys.argv[1:]:
        stale = fill(before, CHECKED) != before
        if stale:
            print("README.md is stale: run python -m docs.generate", file=sys.stderr)
        return int(stale)
    README.write_text(fill(before), "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
