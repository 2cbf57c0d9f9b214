"""Recorded ticks out of files, as the vendor wrote them, in one order of time.

    Lean   SYMBOL/YYYYMMDD_quote.zip: one csv of `ms_since_midnight,bid,ask`, no sizes; the day and its midnight are local
    CSV    a header with ts, ts_ns or time; bid, ask; bid_size, ask_size, symbol where there are any
           times are epoch ns, or RFC 3339: local where they name no zone; without a symbol column the file is named after it

Times without a zone are in the zone given, and become UTC. A folder's days are read one after the other.
"""

import csv
import heapq
import re
import zipfile
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from functools import lru_cache
from itertools import chain
from operator import attrgetter
from pathlib import Path
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from libs.common.domain.errors import Rejected
from libs.common.domain.moment import NS_PER_DAY, NS_PER_MS, NS_PER_S, day_number, parse_moment
from libs.common.domain.symbol import normalise_symbol
from services.simulator.market.quote import Quote

_LEAN_NAME = re.compile(r"(\d{4})(\d{2})(\d{2})_quote\.zip")
_FIXED_OFFSET = re.compile(r"UTC(?:([+-])(\d{1,2})(?::?(\d{2}))?)?")
_NAMES_ITS_ZONE = re.compile(r"-?\d+|.*(?:[Zz]|[+-]\d{2}:\d{2})")
_NS_PER_HOUR = 3600 * NS_PER_S
_TIME_COLUMNS = ("ts", "ts_ns", "time")

ToUtc = Callable[[int], int]


def parse_zone(name: str) -> tzinfo:
    """`UTC`, `UTC-5`, `UTC+05:30` or a name of the IANA database; Rejected for anything else."""
    if match := _FIXED_OFFSET.fullmatch(name):
        sign, hours, minutes = match.groups()
        offset = timedelta(hours=int(hours or 0), minutes=int(minutes or 0))
        if offset < timedelta(days=1):
            return timezone(-offset if sign == "-" else offset)
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise Rejected(f"{name!r} is not a time zone: write UTC, UTC-5 or a name like America/New_York") from None


def files(paths: Sequence[Path]) -> list[Path]:
    """The tick files named, and those in the folders named; Rejected where there is none."""
    found: list[Path] = []
    for path in paths:
        inside = sorted(child for child in path.iterdir() if _is_tick_file(child)) if path.is_dir() else [path]
        if not inside or not all(_is_tick_file(file) and file.is_file() for file in inside):
            raise Rejected(f"{path}: no tick file; there must be YYYYMMDD_quote.zip of Lean or .csv")
        found += inside
    return found


def symbols(paths: Sequence[Path]) -> tuple[bytes, ...]:
    """All symbols that occur in the files; a CSV with a symbol column is read through for it."""
    names: dict[bytes, None] = {}
    for path in paths:
        if path.suffix == ".zip":
            names[_symbol(path.resolve().parent.name, path)] = None
        else:
            names |= dict.fromkeys(_csv_symbols(path))
    return tuple(names)


def quotes(paths: Sequence[Path], zone: tzinfo) -> Iterator[Quote]:
    """The quotes of all files by time; equal times keep the order of the files. Rejected where a line is no quote."""
    to_utc = _to_utc(zone)
    sources: dict[Path, list[Path]] = defaultdict(list)  # the Lean days of a folder follow each other; a CSV stands alone
    for path in paths:
        sources[path.parent if path.suffix == ".zip" else path].append(path)
    in_time = [chain.from_iterable(_day_by_day(source, to_utc)) for source in sources.values()]
    return heapq.merge(*in_time, key=attrgetter("ts"))


def _day_by_day(paths: list[Path], to_utc: ToUtc) -> Iterator[list[Quote]]:
    for path in sorted(paths, key=lambda path: path.name):
        read = _read_lean if path.suffix == ".zip" else _read_csv
        yield sorted(read(path, to_utc), key=attrgetter("ts"))


def _is_tick_file(path: Path) -> bool:
    return path.suffix == ".csv" or _LEAN_NAME.fullmatch(path.name) is not None


def _to_utc(zone: tzinfo) -> ToUtc:
    """Local ns to UTC ns. Zones change on the hour, so one answer an hour is enough; the hour that comes twice is the first."""

    @lru_cache(maxsize=64)
    def offset_ns(hour: int) -> int:
        local = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(hours=hour)
        offset = local.replace(tzinfo=zone).utcoffset()
        assert offset is not None, "every zone of ours knows its offset"
        return int(offset.total_seconds()) * NS_PER_S

    return lambda local_ns: local_ns - offset_ns(local_ns // _NS_PER_HOUR)


def _read_lean(path: Path, to_utc: ToUtc) -> Iterator[Quote]:
    match = _LEAN_NAME.fullmatch(path.name)
    assert match is not None, "files() lets no other name through"
    midnight = day_number(int(match[1]), int(match[2]), int(match[3])) * NS_PER_DAY
    symbol = _symbol(path.resolve().parent.name, path)
    with zipfile.ZipFile(path) as archive:
        lines = archive.read(archive.namelist()[0]).splitlines()
    for number, line in enumerate(lines, 1):
        fields = line.split(b",")
        if len(fields) != 3 or not fields[0].isdigit() or not _is_price(fields[1]) or not _is_price(fields[2]):
            raise Rejected(f"{path}, line {number}: {line[:80]!r} is not ms,bid,ask")
        yield Quote(symbol, to_utc(midnight + int(fields[0]) * NS_PER_MS), fields[1], fields[2], b"", b"")


def _read_csv(path: Path, to_utc: ToUtc) -> Iterator[Quote]:
    with path.open(newline="", encoding="utf-8-sig") as file:
        rows = csv.DictReader(file)
        columns = rows.fieldnames or []
        time_column = next((column for column in _TIME_COLUMNS if column in columns), None)
        if time_column is None or "bid" not in columns or "ask" not in columns:
            raise Rejected(f"{path}: the header must name a time ({', '.join(_TIME_COLUMNS)}), bid and ask, not {columns}")
        file_symbol = None if "symbol" in columns else _symbol(path.stem, path)
        for row in rows:
            texts = [(row.get(name) or "").encode() for name in ("bid", "ask", "bid_size", "ask_size")]
            if not (_is_price(texts[0]) and _is_price(texts[1]) and all(_is_price(size) for size in texts[2:] if size)):
                raise Rejected(f"{path}, line {rows.line_num}: bid and ask must be decimal numbers, sizes too or empty")
            try:
                ts = parse_moment(row[time_column])
            except Rejected as error:
                raise Rejected(f"{path}, line {rows.line_num}: {error}") from error
            if not _NAMES_ITS_ZONE.fullmatch(row[time_column]):
                ts = to_utc(ts)
            yield Quote(file_symbol or _symbol(row["symbol"], path), ts, *texts)


def _csv_symbols(path: Path) -> Iterator[bytes]:
    with path.open(newline="", encoding="utf-8-sig") as file:
        rows = csv.DictReader(file)
        if "symbol" not in (rows.fieldnames or []):
            yield _symbol(path.stem, path)
        else:
            for name in dict.fromkeys(row["symbol"] for row in rows):
                yield _symbol(name, path)


def _symbol(name: str, path: Path) -> bytes:
    symbol = normalise_symbol(name or "")
    if symbol is None:
        raise Rejected(f"{path}: {name!r} is not a symbol")
    return symbol.encode()


def _is_price(text: bytes) -> bool:
    return text.replace(b".", b"", 1).isdigit()
