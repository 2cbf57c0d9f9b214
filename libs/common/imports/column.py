"""Which column is what: by the names of a header or of JSON's keys, by the roles given, or by what stands in the columns.

By content a column is taken for what nothing else could be: times by their shape, a symbol by being text, the bid as the one of
two prices that is never above the other. Where that leaves a choice, --columns is asked for.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from libs.common.domain.errors import Rejected
from libs.common.domain.symbol import normalise_symbol
from libs.common.imports.number import is_number
from libs.common.imports.option import Ambiguous, Options, Role, SizeUnit
from libs.common.imports.times import CLOCK_ONLY, DATE_ONLY, HISTDATA, TRUEFX, Times, read_times, shape_of
from libs.common.imports.zone import UTC_ZONE, Zone, parse_zone

_OPTION = "--columns, the role of each from the left, such as time,bid,ask,-"
ORDERED_ROWS_MIN = 10  # as many quotes must show which price is the higher one
_NAMES: dict[Role, str] = {
    "time": "time timestamp datetime ts tsns tsus tsms tss t epoch gmttime utctime localtime timeutc timegmt tickts eventtime",
    "date": "date day",
    "bid": "bid bidprice bidpx b",
    "ask": "ask askprice askpx a offer offerprice",
    "bid_size": "bidsize bidvolume bidvol bidqty bidsz bidsizemio bidvolumemio",
    "ask_size": "asksize askvolume askvol askqty asksz asksizemio askvolumemio",
    "symbol": "symbol pair instrument ticker currencypair s",
}
_ROLE_OF: dict[str, Role] = {name: role for role, names in _NAMES.items() for name in names.split()}
_BARS = {"open", "high", "low", "close"}
_ZONE_IN_NAME = re.compile(r"\(([^()]+)\)")


@dataclass(frozen=True, slots=True)
class Layout:
    """Where each role stands, and what is known of the file because it is laid out so; `text` names it for a person."""

    at: Mapping[Role, int]
    text: str
    zone: Zone | None = None
    because: str = ""  # where the zone comes from
    day_first: bool = False
    blank_is_unchanged: bool = False
    size_unit: SizeUnit = "units"
    size_text: str = "as they stand"
    certain: bool = True

    def times(self, rows: Sequence[Sequence[str]], options: Options) -> Times:
        """The reading of the time column, or of the date and the clock column."""
        where = [self.at[role] for role in ("time", "date", "clock") if role in self.at]
        sample = [" ".join(row[at].strip() for at in where) for row in rows]
        return read_times(sample, options, zone=self.zone, because=self.because, day_first=self.day_first)


def by_role(columns: Sequence[Role]) -> Layout:
    at: dict[Role, int] = {role: index for index, role in enumerate(columns) if role != "-"}
    return _checked(Layout(at, "columns as given with --columns"))


def by_names(names: Sequence[str], what: str, between: str) -> Layout:
    """`what` the names are, and what stands `between` them, for a person.

    Rejected where they name bars; Ambiguous where they name no time, no side, or one thing twice.
    """
    plain = [re.sub(r"[^a-z0-9]", "", _ZONE_IN_NAME.sub("", name).lower()) for name in names]
    shown = f"{what} `{between.join(name.strip() for name in names)[:160]}`"
    at: dict[Role, int] = {}
    for index, name in enumerate(plain):
        role = _ROLE_OF.get(name)
        if role is None:
            continue
        if role in at:
            raise Ambiguous(f"{shown} names {role} twice", _OPTION)
        at[role] = index
    if len(_BARS & set(plain)) >= 3 and not {"bid", "ask"} & set(at):
        raise Rejected(f"{shown}: these are bars; ticks are imported, and bars are made of them")
    if "date" in at and "time" in at:
        at["clock"] = at.pop("time")
    elif "date" in at:
        at["time"] = at.pop("date")
    time_at = at.get("clock", at.get("time"))
    if time_at is None or not {"bid", "ask"} & set(at):
        raise Ambiguous(f"{shown} does not name a time and a bid or an ask", _OPTION)
    zone, because = _named_zone(names[time_at], plain[time_at])
    layout = Layout(at, shown, zone=zone, because=because, day_first=plain[time_at] in {"gmttime", "localtime"})
    return _by_vendor(layout, names, plain)


def _by_vendor(layout: Layout, names: Sequence[str], plain: Sequence[str]) -> Layout:
    """What the headers of known programs say besides."""
    at, first, zone, because = layout.at, names[0].strip(), layout.zone, layout.because
    if first.startswith("<") and "clock" in at:
        return Layout(at, f"{layout.text} (MT5: a blank side is unchanged)", zone=zone, because=because, blank_is_unchanged=True)
    dukascopy = plain[:5] in (
        [plain[0], "ask", "bid", "askvolume", "bidvolume"],
        ["timestamp", "askprice", "bidprice", "askvolume", "bidvolume"],
    )
    unit: SizeUnit = "millions" if dukascopy or "bidsizemio" in plain or "bidvolumemio" in plain else "units"
    text = "Dukascopy's millions" if dukascopy else "millions by the header" if unit == "millions" else "as they stand"
    return Layout(at, layout.text, zone, because, layout.day_first, size_unit=unit, size_text=text)


def _named_zone(name: str, plain: str) -> tuple[Zone | None, str]:
    because = f"by the header `{name.strip()}`"
    if match := _ZONE_IN_NAME.search(name):
        try:
            return parse_zone(match[1].strip()), because
        except Rejected:
            return None, ""
    return (UTC_ZONE, because) if re.match(r"(gmt|utc)|.*(gmt|utc)$", plain) else (None, "")


def by_content(rows: Sequence[Sequence[str]]) -> Layout:
    """Columns without a header. Ambiguous where what stands in them could be read in more than one way."""
    columns = [[value.strip() for value in column] for column in zip(*rows, strict=True)]
    kinds = [_kind(column) for column in columns]
    at: dict[Role, int] = {}
    where = {kind: [index for index, found in enumerate(kinds) if found == kind] for kind in set(kinds)}
    if len(where.get("time", ())) == 1:
        at["time"] = where["time"][0]
    elif len(where.get("date", ())) == 1 and len(where.get("clock", ())) == 1:
        at["date"], at["clock"] = where["date"][0], where["clock"][0]
    else:
        raise Ambiguous("there is no header, and not one column of times", _OPTION)
    if len(texts := where.get("text", ())) > 1:
        raise Ambiguous("there is no header, and more than one column of text", _OPTION)
    if texts and all(normalise_symbol(text) for text in set(columns[texts[0]])):
        at["symbol"] = texts[0]
    numbers = where.get("number", [])
    if len(numbers) != 2:
        raise Ambiguous(f"there is no header, and {len(numbers)} columns could be prices", _OPTION)
    shape = shape_of(columns[at["time"]]) if "time" in at else None
    at["bid"], at["ask"] = numbers
    if kinds == ["text", "time", "number", "number"] and shape is TRUEFX:
        return Layout(at, "no header, columns of TrueFX (pair, time, bid, ask)", zone=UTC_ZONE, because="TrueFX's times are GMT")
    if kinds == ["time", "number", "number", "zero"] and shape is HISTDATA:
        return Layout(
            at,
            "no header, columns of HistData (time, bid, ask, 0)",
            zone=parse_zone("UTC-5"),
            because="HistData's EST has no DST",
        )
    at["bid"], at["ask"] = _ordered(columns, *numbers)
    shown = ",".join(next((role for role, index in at.items() if index == number), "-") for number in range(len(columns)))
    return Layout(at, f"no header, columns {shown} (the bid is never above the ask)", certain=False)


def _kind(column: Sequence[str]) -> str:
    values = [value for value in column if value]
    if not values:
        return "blank"
    if shape_of(values) is not None:
        return "time"
    for kind, fits in (("clock", CLOCK_ONLY.fullmatch), ("date", DATE_ONLY.fullmatch), ("number", _is_number)):
        if sum(bool(fits(value)) for value in values) * 2 > len(values):
            return "zero" if kind == "number" and not any(value.strip("0.,") for value in values) else kind
    return "text"


def _is_number(text: str) -> bool:
    return is_number(text.replace(",", "."))


def _ordered(columns: Sequence[Sequence[str]], one: int, two: int) -> tuple[int, int]:
    pairs = [
        (float(first.replace(",", ".")), float(second.replace(",", ".")))
        for first, second in zip(columns[one], columns[two], strict=True)
        if _is_number(first) and _is_number(second)
    ]
    below, above = sum(first < second for first, second in pairs), sum(first > second for first, second in pairs)
    if min(below, above) or max(below, above) < ORDERED_ROWS_MIN:
        raise Ambiguous(f"there is no header, and columns {one + 1} and {two + 1} could each be the bid", _OPTION)
    return (one, two) if below else (two, one)


def _checked(layout: Layout) -> Layout:
    at = set(layout.at)
    if not ({"time"} <= at or {"date", "clock"} <= at) or not at & {"bid", "ask"}:
        raise Rejected("--columns must name a time, or a date and a clock, and a bid or an ask")
    return layout
