"""Delimited text: its first lines tell separator, header, columns, times and decimal sign. Lean's is told by its name:

    MARKET/tick/SYMBOL/YYYYMMDD_quote.zip, in it YYYYMMDD_SYMBOL_tick_quote.csv: ms since the market's midnight, bid, ask

A line that is not laid out as the others are is rejected with its number; only the header is not.
"""

import csv
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from itertools import chain

from libs.common.domain.errors import Rejected
from libs.common.domain.moment import NS_PER_MS
from libs.common.imports.column import Layout, by_content, by_names, by_role
from libs.common.imports.detection import Detection, Head
from libs.common.imports.option import Ambiguous, Options
from libs.common.imports.table import LINE_CHARS_MAX, Block, Table
from libs.common.imports.tabular import tabulate
from libs.common.imports.text import lines, texts
from libs.common.imports.times import Moment, Times
from libs.common.imports.zone import Zone, parse_zone

_DELIMITERS = "\t;|,"  # in this order: a comma may also be the decimal sign
_SHOWN = {"\t": "tab"}
SAMPLE_LINES = 2_000
_SYMBOL_IN_NAME = re.compile(
    r"(?i:DAT_ASCII)_(?P<histdata>[A-Za-z0-9]+)_T_?\d{6}.*|(?P<mt5>[A-Za-z0-9._#-]+)_\d{12}_\d{12}\..*"
    r"|(?P<dukascopy>[A-Za-z0-9.]+)_Ticks_\d.*"
)

_LEAN_FOLDER = re.compile(r"(?:(?P<market>[^/]+)/tick/)?(?P<symbol>[^/]+)/(?P<day>\d{8})_quote\.(?:zip|csv)(?:/[^/]*)?")
_LEAN_MEMBER = re.compile(r"(?P<day>\d{8})_(?P<symbol>.+)_(?P<resolution>[a-z]+)_(?P<kind>quote|trade)\.csv")
_LEAN_ZONES = {"oanda": "UTC", "fxcm": "UTC-5"}  # Lean's market hours database
_MINUTE_MS = 60_000
_DAY_MS = 86_400_000
_LEAN_LAYOUT = Layout({"time": 0, "bid": 1, "ask": 2}, "ms, bid, ask")


@dataclass(slots=True)
class CsvReading:
    """`header`: the number of its line; 0 where there is none. What stands before it is rejected line by line."""

    detection: Detection
    table: Table
    delimiter: str
    header: int

    def read(self, blocks: Iterator[bytes]) -> Iterator[Block]:
        for first, found in lines(texts(blocks)):
            numbers: Sequence[int] = range(first, first + len(found))
            raws = found
            if self.header in numbers:
                raws = [raw for number, raw in zip(numbers, found, strict=True) if number != self.header]
                numbers = [number for number in numbers if number != self.header]
            rows = split_all(raws, self.delimiter)
            quotes = self.table.at_once(rows) if rows and max(map(len, raws)) <= LINE_CHARS_MAX else None
            yield self.table.one_by_one(zip(numbers, raws, rows, strict=True)) if quotes is None else Block(quotes, [])


def split_all(raws: Sequence[str], delimiter: str) -> list[list[str]]:
    """The fields of each line, without the quotes around them."""
    if '"' in "".join(raws):
        with suppress(csv.Error):
            rows = list(csv.reader(raws, delimiter=delimiter, strict=True))
            if len(rows) == len(raws):  # no quotes were left open over the end of a line
                return rows
        return [split(raw, delimiter) for raw in raws]
    return [raw.split(delimiter) for raw in raws]


def split(line: str, delimiter: str) -> list[str]:
    """The fields, without the quotes around them."""
    if '"' not in line:
        return line.split(delimiter)
    try:
        return next(csv.reader((line,), delimiter=delimiter, strict=True), [])
    except csv.Error:
        return line.split(delimiter)


def detect_csv(head: Head, options: Options) -> CsvReading:
    """Rejected where it is no text, or no table; Ambiguous where a question is left open."""
    raws = _sample(head)
    delimiter, width = _dialect(raws)
    numbered = [(number, fields) for number, raw in enumerate(raws, 1) if len(fields := split(raw, delimiter)) == width]
    first, names = numbered[0]
    has_header = not any(_is_value(name) for name in names) and any(names)
    rows = [fields for _, fields in numbered[has_header:]]
    if not rows:
        raise Rejected("a header, and no line behind it")
    if options.columns is not None:
        if len(options.columns) != width:
            raise Rejected(f"--columns names {len(options.columns)} columns, and there are {width}")
        layout = by_role(options.columns)
        if has_header:  # for what it says of the zone, the sizes and blank sides
            layout = _informed(layout, names, delimiter)
    else:
        layout = by_names(names, "header", delimiter) if has_header else by_content(rows)
    lead = f"csv, `{_SHOWN.get(delimiter, delimiter)}`"
    named = _symbol_in_name(head.name)
    detection, table = tabulate(head, "csv", lead, rows, layout, options, may_have_comma=delimiter != ",", named=named)
    return CsvReading(detection, table, delimiter, first if has_header else 0)


def detect_lean(head: Head, options: Options) -> CsvReading | None:
    """By the names that Lean gives its files, or where --format says so."""
    member, folder = _LEAN_MEMBER.fullmatch(head.name), _LEAN_FOLDER.search(head.path)
    if member is None and folder is None:
        if options.format == "lean":
            raise Rejected("Lean keeps symbol and day in the name: SYMBOL/YYYYMMDD_quote.zip or YYYYMMDD_SYMBOL_tick_quote.csv")
        return None
    if member and (member["kind"], member["resolution"]) != ("quote", "tick"):
        raise Rejected(f"Lean's {member['resolution']} {member['kind']}s; tick quotes are imported")
    found = member or folder
    assert found is not None
    layout = by_role(options.columns) if options.columns else _LEAN_LAYOUT
    width = len(options.columns) if options.columns else 3
    rows = [raw.split(",") for raw in _sample(head)]
    widths = Counter(map(len, rows)).most_common(1)
    if widths and widths[0][0] == 11:
        raise Rejected("Lean's bars (11 columns); tick quotes are imported")
    if widths and widths[0][0] != width:
        raise Ambiguous(f"{widths[0][0]} columns where Lean's forex ticks have ms, bid, ask", "--columns")
    zone, because = _lean_zone(folder["market"] if folder else None, options)
    try:
        midnight = datetime.strptime(found["day"], "%Y%m%d")  # noqa: DTZ007 - a local day
    except ValueError as error:
        raise Rejected(f"{found['day']} is not a day") from error
    lead = f"lean, {midnight:%Y-%m-%d} by its name"
    times = Times(f"ms since midnight in {zone.name} ({because})", _since_midnight(midnight, zone, options))
    sample = [row for row in rows if len(row) == width]
    detection, table = tabulate(
        head, "lean", lead, sample, layout, options, times=times, named=(found["symbol"], "by its name"), width=width
    )
    return CsvReading(detection, table, ",", 0)


def _lean_zone(market: str | None, options: Options) -> tuple[Zone, str]:
    if options.timezone:
        return parse_zone(options.timezone), "--timezone"
    if market not in _LEAN_ZONES:
        raise Ambiguous(f"the zone of Lean's market {market or '(not in the path)'} is not known", "--timezone")
    return parse_zone(_LEAN_ZONES[market]), f"Lean's market {market}"


def _since_midnight(midnight: datetime, zone: Zone, options: Options) -> Moment:
    minutes: dict[int, int] = {}

    def moment(text: str) -> int:
        if not (text.isdigit() and text.isascii() and len(text) < 9) or (ms := int(text)) >= _DAY_MS:
            raise Rejected("the time is not a number of ms since midnight")
        minute, below = divmod(ms, _MINUTE_MS)
        ns = minutes.get(minute)
        if ns is None:
            ns = minutes[minute] = zone.utc_ns(midnight + timedelta(minutes=minute), options.fold)
        return ns + below * NS_PER_MS

    return moment


def _sample(head: Head) -> list[str]:
    """The first lines, without one that is cut off. Rejected where it is no text."""
    begin = head.data[:4096]
    if begin.count(0) * 10 > len(begin) and not begin.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise Rejected("binary, or UTF-16 without a byte order mark; text is read as UTF-8, or UTF-16 with one")
    found = list(chain.from_iterable(part for _, part in lines(texts([head.data]))))
    if not head.whole and len(found) > 1:
        found.pop()
    return found[:SAMPLE_LINES]


def _dialect(raws: Sequence[str]) -> tuple[str, int]:
    filled = [raw for raw in raws if raw.strip()]
    if not filled:
        raise Rejected("empty")
    for delimiter in _DELIMITERS:
        width, count = Counter(len(split(raw, delimiter)) for raw in filled).most_common(1)[0]
        if width > 1 and count * 2 >= len(filled):
            return delimiter, width
    raise Rejected("no table: its lines are not divided by tabs, `;`, `|` or `,`")


def _symbol_in_name(name: str) -> tuple[str, str] | None:
    match = _SYMBOL_IN_NAME.fullmatch(name)
    return (match[match.lastgroup], "by the file's name") if match and match.lastgroup else None


def _is_value(text: str) -> bool:
    return text.strip().lstrip("+-.")[:1].isdigit()


def _informed(layout: Layout, names: Sequence[str], delimiter: str) -> Layout:
    try:
        said = by_names(names, "header", delimiter)
    except Rejected:
        return layout
    return replace(said, at=layout.at, text=layout.text)
