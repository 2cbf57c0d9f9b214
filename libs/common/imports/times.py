"""How a column of times is written, found out from a sample, and the function that reads it.

    epoch      1549267200 · 1549267200071 · …: s, ms, µs, ns, told apart by their size (1973 to 2286 do not overlap)
    ISO 8601   2019-02-04T08:00:00.123Z, 2019-02-04 08:00:00+00:00
    MT4/MT5    2019.02.04 08:00:00.123
    compact    20190204 08:00:00.123 (TrueFX)   20190204 080000123 (HistData)
    D.M.Y      04.02.2019 08:00:00.123 and with / or -: day-first or month-first by a number above 12, or by --dates

A time is cut in two: as far as the minute, and from there on. Both halves repeat from line to line, so both are remembered,
and a change of a zone's clocks never falls within a minute.
"""

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

from libs.common.domain.errors import Rejected
from libs.common.domain.moment import NS_PER_MS, NS_PER_S, NS_PER_US
from libs.common.imports.option import Ambiguous, DateOrder, Options
from libs.common.imports.zone import UTC_ZONE, Zone, parse_zone

Moment = Callable[[str], int]  # text to ns; Rejected where it is none

MEMO_MAX = 100_000
YEARS = range(1970, 2262)  # int64 ns end in 2262


@dataclass(frozen=True, slots=True)
class Shape:
    name: str
    head: re.Pattern[str]
    tail: re.Pattern[str]
    cut: int | None = None  # where the tail begins; None: behind the minute, two digits after the first colon


def _shape(name: str, head: str, tail: str | None = None, cut: int | None = None) -> Shape:
    zone = r"(?: ?(?P<zone>Z|UTC|GMT|(?:UTC|GMT)?[+-]\d\d(?::?\d\d)?))?"
    tail = tail or r"(?::(?P<second>\d\d)(?:[.,:](?P<fraction>\d{1,9}))?)?" + zone
    return Shape(name, re.compile(head, re.ASCII), re.compile(tail, re.ASCII), cut)


_YMD = r"(?P<year>\d{4})%s(?P<month>\d\d)%s(?P<day>\d\d)[ T-](?P<hour>\d\d):(?P<minute>\d\d)"
TRUEFX = _shape("compact (20190204 08:00:00.123)", _YMD % ("", ""))
HISTDATA = _shape(
    "HistData (20190204 080000123)",
    r"(?P<year>\d{4})(?P<month>\d\d)(?P<day>\d\d) (?P<hour>\d\d)(?P<minute>\d\d)",
    r"(?P<second>\d\d)(?P<fraction>\d{3})?(?P<zone>(?!))?",
    cut=13,
)
YEAR_LAST = _shape(
    "D.M.Y",
    r"(?P<one>\d{1,2})(?P<mark>[./-])(?P<two>\d{1,2})(?P=mark)(?P<year>\d{4})[ T](?P<hour>\d{1,2}):(?P<minute>\d\d)",
)
_SHAPES = (
    _shape("ISO 8601", _YMD % ("-", "-")),
    _shape("MT4/MT5 (2019.02.04 08:00:00.123)", _YMD % (r"\.", r"\.")),
    _shape("2019/02/04 08:00:00.123", _YMD % ("/", "/")),
    TRUEFX,
    HISTDATA,
    YEAR_LAST,
)
DATE_ONLY = re.compile(r"\d{4}([-./])\d\d\1\d\d|(?:19|20)\d{6}|\d{1,2}([./-])\d{1,2}\2\d{4}", re.ASCII)
CLOCK_ONLY = re.compile(r"\d{1,2}:\d\d(?::\d\d(?:[.,:]\d{1,9})?)?", re.ASCII)

_EPOCH = re.compile(r"(\d{9,19})(?:\.(\d{1,9}))?", re.ASCII)
_UNITS = {  # ns, and the numbers that are times of the years 1973 to 2286
    "s": (NS_PER_S, range(10**8, 10**10)),
    "ms": (NS_PER_MS, range(10**11, 10**13)),
    "µs": (NS_PER_US, range(10**14, 10**16)),
    "ns": (1, range(10**17, 2**63)),
}


@dataclass(frozen=True, slots=True)
class Times:
    text: str  # for a person
    moment: Moment


def shape_of(sample: Sequence[str]) -> Shape | str | None:
    """The shape that most of the sample has; for epoch numbers the name of their unit; None where there is none."""
    found: Counter[Shape | str] = Counter()
    for text in sample:
        shape = _unit(text) or next((shape for shape in _SHAPES if _parts(shape, text)), None)
        if shape is not None:
            found[shape] += 1
    best = found.most_common(1)
    return best[0][0] if best and best[0][1] * 2 > len(sample) else None


def read_times(
    sample: Sequence[str], options: Options, *, zone: Zone | None = None, because: str = "", day_first: bool = False
) -> Times:
    """The reading of a column of which this is a sample. `zone`, `because`, `day_first`: what the file's layout states.

    Rejected where these are no times; Ambiguous where their zone, or the order of day and month, is left open.
    """
    sample = [text for text in sample if text.strip()]
    shape = shape_of(sample)
    if shape is None:
        raise Rejected(f"{next(iter(sample), '')[:40]!r} is no time in ISO 8601, MT4/MT5, TrueFX, HistData or epoch numbers")
    if isinstance(shape, str):
        return Times(f"times epoch {shape}", _read_epoch(shape))
    parts = [found for text in sample if (found := _parts(shape, text))]
    text = f"times {shape.name}"
    order = None
    if shape is YEAR_LAST:
        order = _date_order([head for head, _ in parts], options.dates, day_first=day_first)
        text += f" {order}"
    if sum(tail["zone"] is not None for _, tail in parts) * 2 > len(parts):
        return Times(f"{text} with their zone", _read_local(shape, order, None, options))
    if options.timezone is not None:
        zone, because = parse_zone(options.timezone), "--timezone"
    if zone is None:
        raise Ambiguous(f"{text} without zone", "--timezone")
    return Times(f"{text} without zone, in {zone.name} ({because})", _read_local(shape, order, zone, options))


def _unit(text: str) -> str | None:
    match = _EPOCH.fullmatch(text)
    return next((name for name, (_, numbers) in _UNITS.items() if int(match[1]) in numbers), None) if match else None


def _parts(shape: Shape, text: str) -> tuple[re.Match[str], re.Match[str]] | None:
    cut = shape.cut or text.find(":") + 3
    head, tail = shape.head.fullmatch(text[:cut]), shape.tail.fullmatch(text[cut:])
    return (head, tail) if head and tail else None


def _date_order(heads: list[re.Match[str]], wanted: DateOrder | None, *, day_first: bool) -> DateOrder:
    days = sum(int(head["one"]) > 12 for head in heads)
    months = sum(int(head["two"]) > 12 for head in heads)
    stated: DateOrder | None = wanted or ("day-first" if day_first else None)
    if days > months and stated != "month-first":
        return "day-first"
    if months > days and stated != "day-first":
        return "month-first"
    if stated is None or days != months:
        raise Ambiguous(
            f"the dates, such as {heads[0][0]!r}, may begin with the day or the month", "--dates day-first or month-first"
        )
    return stated


def _read_epoch(unit: str) -> Moment:
    factor, numbers = _UNITS[unit]

    def moment(text: str) -> int:
        if text.isdigit() and text.isascii() and len(text) < 20:
            ts = int(text)
        else:
            match = _EPOCH.fullmatch(text)
            if match is None or unit == "ns":
                raise Rejected(f"the time is not a number of {unit}")
            below, beyond = divmod(int((match[2] or "0").ljust(9, "0")) * factor, NS_PER_S)
            if beyond:
                raise Rejected("the time has parts of a nanosecond")
            return int(match[1]) * factor + below if int(match[1]) in numbers else _outside(unit)
        return ts * factor if ts in numbers else _outside(unit)

    return moment


def _outside(unit: str) -> int:
    raise Rejected(f"the time is not in epoch {unit} as the others are")


def _read_local(shape: Shape, order: DateOrder | None, zone: Zone | None, options: Options) -> Moment:
    """`zone` None: every time names its own."""
    heads: dict[str, int] = {}
    tails: dict[str, int] = {}

    def head_ns(text: str) -> int:
        match = shape.head.fullmatch(text)
        if match is None:
            raise Rejected(f"the time is not written as {shape.name}")
        day_and_month = [match["one"], match["two"]] if order else [match["day"], match["month"]]
        day, month = reversed(day_and_month) if order == "month-first" else day_and_month
        try:
            local = datetime(int(match["year"]), int(month), int(day), int(match["hour"]), int(match["minute"]))  # noqa: DTZ001 - a local time
        except ValueError as error:
            raise Rejected(f"the time does not exist: {error}") from error
        if local.year not in YEARS:
            raise Rejected(f"the time is not of the years {YEARS[0]} to {YEARS[-1]}")
        if len(heads) >= MEMO_MAX:
            heads.clear()
        ns = heads[text] = (zone or UTC_ZONE).utc_ns(local, options.fold)
        return ns

    def tail_ns(text: str) -> int:
        match = shape.tail.fullmatch(text)
        if match is None or int(match["second"] or 0) > 59:
            raise Rejected(f"the time is not written as {shape.name}")
        if (match["zone"] is None) != (zone is not None):
            raise Rejected(
                "the time names a zone, and the others do not" if zone else "the time names no zone, and the others do"
            )
        fraction = match["fraction"] or ""
        ns = int(match["second"] or 0) * NS_PER_S + int(fraction.ljust(9, "0")) - _offset_ns(match["zone"] or "")
        if len(fraction) <= 3:  # there are 60,000 of them; those of µs do not come again
            if len(tails) >= MEMO_MAX:
                tails.clear()
            tails[text] = ns
        return ns

    def moment(text: str) -> int:
        cut = shape.cut or text.find(":") + 3
        head, tail = text[:cut], text[cut:]
        first, second = heads.get(head), tails.get(tail)
        return (head_ns(head) if first is None else first) + (tail_ns(tail) if second is None else second)

    return moment


def _offset_ns(zone: str) -> int:
    digits = zone.lstrip("UTCGMZ").replace(":", "")
    if not digits:
        return 0
    minutes = int(digits[1:3]) * 60 + int(digits[3:5] or 0)
    if minutes >= 24 * 60:
        raise Rejected("the time's zone does not exist")
    return (-minutes if digits[0] == "-" else minutes) * 60 * NS_PER_S
