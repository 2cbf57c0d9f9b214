"""Dukascopy's own two: hours of .bi5, and the delta-columnar JSON that followed it in 2026.

    .bi5     SYMBOL/YYYY/MM/DD/HHh_ticks.bi5, the month counted from 0: LZMA of 20-byte records, big-endian: ms since the
             hour, ask, bid in points, ask and bid volume in millions as float32; 0 bytes where there is no tick
    JSON v1  t = timestamp + Σ times, ask = ask + multiplier × Σ asks, …; volumes in units

Both layouts were checked against each other on an hour that exists in both.
"""

import lzma
import re
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import accumulate
from typing import Any

from libs.common.domain.errors import Rejected
from libs.common.domain.moment import NS_PER_DAY, NS_PER_MS, day_number
from libs.common.domain.price import PRICE_DIGITS, PRICE_MAX
from libs.common.imports.detection import Detection, Head
from libs.common.imports.number import Sizes, exact_price
from libs.common.imports.option import Ambiguous, Options
from libs.common.imports.table import Block, Quote, RejectedLine, check_quote, latest_ts
from libs.common.imports.tabular import one_symbol

V1_KEYS = frozenset({"timestamp", "multiplier", "times"})
HOUR_BYTES_MAX = 2**26  # three million ticks; the busiest hours hold a hundred thousand
_LZMA_MEMORY_MAX = 2**26  # theirs asks for 4 MiB
_HOUR_FILE = re.compile(
    r"(?P<symbol>[^/]+)/(?P<year>\d{4})/(?P<month>\d\d)/(?P<day>\d\d)/(?P<hour>\d\d)h_ticks\.bi5(?:\.gz|\.zst)?"
)
_RECORD = struct.Struct(">IIIff")
_NS_PER_HOUR = 3_600_000 * NS_PER_MS
_BLOCK_TICKS = 5_000
_FIVE_DECIMALS = frozenset({"EUR", "USD", "GBP", "AUD", "NZD", "CAD", "CHF"})


@dataclass(slots=True)
class Bi5Reading:
    detection: Detection
    symbol: str
    hour_ns: int
    point: int  # in 1e-9
    sizes: Sizes
    file: str
    latest: int | None

    def read(self, blocks: Iterator[bytes]) -> Iterator[Block]:
        data = _unpack(blocks)
        if len(data) % _RECORD.size:
            raise Rejected(f"{len(data)} bytes are not records of {_RECORD.size}")
        if any(ms * NS_PER_MS >= _NS_PER_HOUR for ms, *_ in _RECORD.iter_unpack(data)):
            raise Rejected("not an hour of ticks: a record lies outside its hour")
        block = Block([], [])
        point, sizes = self.point, self.sizes
        for number, (ms, ask, bid, ask_size, bid_size) in enumerate(_RECORD.iter_unpack(data), 1):
            try:
                ts = self.hour_ns + ms * NS_PER_MS
                quote = self.symbol, ts, bid * point, ask * point, sizes[f"{bid_size:.7g}"], sizes[f"{ask_size:.7g}"]
                _check(quote, self.latest)
                block.quotes.append(quote)
            except Rejected as error:
                raw = data[(number - 1) * _RECORD.size : number * _RECORD.size]
                block.rejected.append(RejectedLine(self.file, number, str(error), raw, self.symbol))
            if number % _BLOCK_TICKS == 0:
                yield block
                block = Block([], [])
        yield block


def detect_bi5(head: Head, options: Options) -> Bi5Reading | None:
    if not re.search(r"\.bi5(\.gz|\.zst)?$", head.name) and options.format != "bi5":
        return None
    if "_candles_" in head.name:
        raise Rejected("these are bars; ticks are imported, and bars are made of them")
    match = _HOUR_FILE.search(head.path)
    if match is None:
        raise Rejected("a .bi5 counts from its hour, which its path tells: SYMBOL/YYYY/MM/DD/HHh_ticks.bi5, the month from 00")
    symbol, said = one_symbol(options, (match["symbol"], "by its path"))
    try:
        day = day_number(int(match["year"]), int(match["month"]) + 1, int(match["day"]))
    except ValueError as error:
        raise Rejected(f"its path is not a day: {error}; the month counts from 00") from error
    decimals, because = _decimals(match["symbol"].upper(), options)
    unit = options.size_unit or "millions"
    hour_ns = day * NS_PER_DAY + int(match["hour"]) * _NS_PER_HOUR
    hour = datetime.fromtimestamp(hour_ns // 10**9, UTC)
    text = f"bi5, {hour:%Y-%m-%d %H}h UTC by its path, {decimals} decimals ({because}), {said}, sizes in {unit}"
    detection = Detection("bi5", text, (match["symbol"].upper(),))
    point = 10 ** (PRICE_DIGITS - decimals)
    return Bi5Reading(detection, symbol, hour_ns, point, Sizes(unit), head.source.name, latest_ts(options))


def _decimals(symbol: str, options: Options) -> tuple[int, str]:
    if options.decimals is not None:
        if not 0 <= options.decimals <= PRICE_DIGITS:
            raise Rejected(f"--decimals: {options.decimals} is not between 0 and {PRICE_DIGITS}")
        return options.decimals, "--decimals"
    base, quote = symbol[:3], symbol[3:]
    if base in _FIVE_DECIMALS and quote in _FIVE_DECIMALS:
        return 5, "a pair of main currencies"
    if base in _FIVE_DECIMALS and quote == "JPY":
        return 3, "a pair with the yen"
    raise Ambiguous(
        f"{symbol}: the prices are whole points, and how many decimals these stand for is not in the file", "--decimals"
    )


def _unpack(blocks: Iterator[bytes]) -> bytes:
    unpacker = lzma.LZMADecompressor(format=lzma.FORMAT_ALONE, memlimit=_LZMA_MEMORY_MAX)
    data, packed = bytearray(), 0
    try:
        for block in blocks:
            packed += len(block)
            data += unpacker.decompress(block, max_length=HOUR_BYTES_MAX + 1 - len(data))
            if len(data) > HOUR_BYTES_MAX:
                raise Rejected(f"unpacks to more than {HOUR_BYTES_MAX} bytes; an hour of ticks never does")
    except (lzma.LZMAError, EOFError) as error:
        raise Rejected(f"not the LZMA of a .bi5: {error}") from error
    if packed and not unpacker.eof:
        raise Rejected("cut off: the packed data ends in the middle")
    return bytes(data)


@dataclass(slots=True)
class V1Reading:
    detection: Detection
    symbol: str
    load: Callable[[Iterator[bytes]], Any]
    sizes: Sizes
    file: str
    latest: int | None

    def read(self, blocks: Iterator[bytes]) -> Iterator[Block]:
        quotes: list[Quote] = []
        rejected: list[RejectedLine] = []
        for number, (ts, bid, ask, bid_size, ask_size) in enumerate(_v1_rows(self.load(blocks)), 1):
            try:
                quote = self.symbol, ts, bid, ask, self.sizes[bid_size], self.sizes[ask_size]
                _check(quote, self.latest)
                quotes.append(quote)
            except Rejected as error:
                raw = f"{ts},{bid},{ask},{bid_size},{ask_size}"[:200].encode()
                rejected.append(RejectedLine(self.file, number, str(error), raw, self.symbol))
        yield Block(quotes, rejected)


def detect_v1(head: Head, document: dict[str, Any], options: Options, load: Callable[[Iterator[bytes]], Any]) -> V1Reading:
    if "opens" in document or "asks" not in document:
        raise Rejected("Dukascopy's JSON of bars; ticks are imported, and bars are made of them")
    symbol, said = one_symbol(options, None)
    unit = options.size_unit or "units"
    text = f"json, Dukascopy's v1 (differences in columns), times epoch ms, {said}, sizes in {unit}"
    return V1Reading(Detection("json", text, (symbol,)), symbol, load, Sizes(unit), head.source.name, latest_ts(options))


def _v1_rows(document: dict[str, Any]) -> Iterator[tuple[int, int, int, Any, Any]]:
    try:
        columns = [document[key] for key in ("times", "bids", "asks")]
        volumes = [document[key] for key in ("bidVolumes", "askVolumes")]
        if len({len(column) for column in (*columns, *volumes)}) != 1:
            raise Rejected("its columns are not of one length")
        if not columns[0]:
            return
        start, point = int(document["timestamp"]), exact_price(document["multiplier"])
        times, bids, asks = (accumulate(map(int, column)) for column in columns)
        bid, ask = (_points(exact_price(document[key]), point) for key in ("bid", "ask"))
        for ms, bid_points, ask_points, bid_size, ask_size in zip(times, bids, asks, *volumes, strict=True):
            yield (start + ms) * NS_PER_MS, (bid + bid_points) * point, (ask + ask_points) * point, bid_size, ask_size
    except (KeyError, TypeError, ValueError, ZeroDivisionError) as error:
        raise Rejected(f"not Dukascopy's v1 as it is known here: {error!r}") from error


def _points(price: int, point: int) -> int:
    return (2 * price + point) // (2 * point)


def _check(quote: Quote, latest: int | None) -> None:
    _, ts, bid, ask, _, _ = quote
    if not (bid and ask and 0 < bid < PRICE_MAX and 0 < ask < PRICE_MAX):
        raise Rejected("a price is not above 0 and below 1e9")
    if not 0 <= ts < 2**63:
        raise Rejected("the time is out of range")
    check_quote(ts, bid, ask, latest)
