"""Ticks as JSON, CSV and NDJSON: exact decimals, one f-string a row. Arrow and Parquet are written in stream.py.

Prices and sizes repeat within a page, and so do the minutes of its times: each distinct one is made into text once.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal

import msgspec
import numpy as np
import pyarrow as pa
from typing_extensions import TypeIs

from libs.common.domain.moment import NS_PER_MS, NS_PER_S, NS_PER_US, day_name, format_moment
from libs.common.domain.price import format_price
from libs.common.domain.problem import Problem
from libs.common.domain.record import Gap
from libs.common.store.columnar.arrays import int64s, is_valid, one_chunk

TickRow = tuple[int, str, int, int | None, int | None, float | None, float | None, int]
"""ts, provider, seq, bid, ask, bid_size, ask_size, flags"""

Text = Literal["json", "csv", "ndjson"]
Columnar = Literal["arrow", "parquet"]
Format = Literal[Text, Columnar]
TsFormat = Literal["iso", "ms", "ns"]

MEDIA_TYPES: dict[Format, str] = {
    "json": "application/json",
    "csv": "text/csv; charset=utf-8; header=present",
    "ndjson": "application/x-ndjson",
    "arrow": "application/vnd.apache.arrow.stream",
    "parquet": "application/vnd.apache.parquet",
}
COLUMNS = ("ts", "provider", "seq", "bid", "ask", "bid_size", "ask_size", "flags")
_SIZE_EXACT = 2.0**53


class _Texts(dict[Any, str]):
    """Value → text, made once; None is `absent`."""

    def __init__(self, make: Callable[[Any], str], absent: str) -> None:
        super().__init__({None: absent})
        self._make = make

    def __missing__(self, value: Any) -> str:
        text = self[value] = self._make(value)
        return text


def negotiate(accept: str, wanted: Format | None) -> Format:
    """`format` wins over Accept, and Accept's own order of preference over ours; a 406 Problem where nothing fits."""
    if wanted is not None:
        return wanted
    preferences: list[tuple[float, str]] = []
    for item in accept.split(","):
        name, *parameters = (part.strip().lower() for part in item.split(";"))
        quality = next((_quality(text[2:]) for text in parameters if text.startswith("q=")), 1.0)
        if name and quality > 0:
            preferences.append((quality, name))
    for _, name in sorted(preferences, key=lambda preference: -preference[0]):
        for candidate, media_type in MEDIA_TYPES.items():
            plain = media_type.partition(";")[0]
            if name in (plain, "*/*", f"{plain.partition('/')[0]}/*"):
                return candidate
    raise Problem(
        406,
        "not-acceptable",
        "Not acceptable",
        f"None of {accept[:200]!r} can be had: ask for one of `available`, or write format=json, csv, ndjson, arrow or parquet.",
        available=[media_type.partition(";")[0] for media_type in MEDIA_TYPES.values()],
    )


def left_out_warnings(days: Iterable[int]) -> list[str]:
    return [f"{day_name(day)} is left out in full or in part: one of its files is damaged or gone" for day in sorted(days)]


def rows_of(ticks: pa.Table, columns: Sequence[str] = COLUMNS) -> list[Any]:
    """A tuple a tick; times in ns, prices in 1e-9."""
    return list(zip(*(_values(one_chunk(ticks, name)) for name in columns), strict=True))


def _values(column: pa.Array) -> list[Any]:
    if pa.types.is_dictionary(column.type):
        names = column.dictionary.to_pylist()
        return [names[code] for code in int64s(column.indices).tolist()]
    words = int64s(column)
    values: list[Any] = (words.view(np.float64) if column.type == pa.float64() else words).tolist()
    if column.null_count:
        for row in np.flatnonzero(~is_valid(column)).tolist():
            values[row] = None
    return values


def is_columnar(format_: Format) -> TypeIs[Columnar]:
    return format_ in ("arrow", "parquet")


def ts_text(ts: int, ts_format: TsFormat) -> str:
    """A time as csv shows it: RFC 3339, ms with the part below as decimals only where there is one, or ns."""
    if ts_format == "iso":
        return format_moment(ts)
    if ts_format == "ns":
        return str(ts)
    sign, (ms, below) = "-" if ts < 0 else "", divmod(abs(ts), NS_PER_MS)
    return f"{sign}{ms}.{below:06d}".rstrip("0") if below else f"{sign}{ms}"


def ts_json(ts: int, ts_format: TsFormat) -> msgspec.Raw:
    """A time as JSON shows it: ns as a string, since numbers above 2^53 lose their last digits in most readers."""
    text = ts_text(ts, ts_format)
    return msgspec.Raw((text if ts_format == "ms" else f'"{text}"').encode())


def price_json(price: int | None) -> msgspec.Raw:
    return msgspec.Raw(b"null" if price is None else format_price(price).encode())


def size_json(size: float | None) -> msgspec.Raw:
    return msgspec.Raw(b"null" if size is None else _size(size, "null").encode())


def gap_json(gap: Gap, ts_format: TsFormat) -> dict[str, Any]:
    return {
        "session": gap.session,
        "first_seq": gap.first_seq,
        "last_seq": gap.last_seq,
        "from": ts_json(gap.from_ts, ts_format),
        "to": None if gap.to_ts is None else ts_json(gap.to_ts, ts_format),
        "cause": gap.cause,
        "resolved_by": gap.resolved_by,
    }


def tick_objects(rows: Iterable[TickRow], ts_format: TsFormat) -> list[str]:
    """One JSON object a tick."""
    price, size = _Texts(format_price, "null"), _Texts(lambda value: _size(value, "null"), "null")
    provider = _Texts(lambda name: msgspec.json.encode(name).decode(), "null")
    quote = "" if ts_format == "ms" else '"'
    return [
        f'{{"ts":{quote}{ts}{quote},"provider":{provider[name]},"seq":{seq},"bid":{price[bid]},"ask":{price[ask]},'
        f'"bid_size":{size[bid_size]},"ask_size":{size[ask_size]},"flags":{flags}}}'
        for ts, (_, name, seq, bid, ask, bid_size, ask_size, flags) in _timed(rows, ts_format)
    ]


def tick_lines(rows: Iterable[TickRow], ts_format: TsFormat) -> list[str]:
    """One csv line a tick, RFC 4180 but for the line end, without the header."""
    price, size = _Texts(format_price, ""), _Texts(lambda value: _size(value, ""), "")
    provider = _Texts(_quoted, "")
    return [
        f"{ts},{provider[name]},{seq},{price[bid]},{price[ask]},{size[bid_size]},{size[ask_size]},{flags}"
        for ts, (_, name, seq, bid, ask, bid_size, ask_size, flags) in _timed(rows, ts_format)
    ]


def page_body(rows: list[TickRow], format_: Text, ts_format: TsFormat, envelope: dict[str, Any]) -> bytes:
    """A whole page; only JSON has room for the envelope."""
    if format_ == "csv":
        return "\n".join([",".join(COLUMNS), *tick_lines(rows, ts_format), ""]).encode()
    objects = tick_objects(rows, ts_format)
    if format_ == "ndjson":
        return "\n".join([*objects, ""]).encode() if objects else b""
    head = msgspec.json.encode(envelope)[:-1].decode()
    return f'{head},"data":[{",".join(objects)}]}}'.encode()


def _timed(rows: Iterable[TickRow], ts_format: TsFormat) -> Iterable[tuple[str, TickRow]]:
    """Each row with its time as text; RFC 3339 exactly as format_moment writes it."""
    if ts_format != "iso":
        yield from ((ts_text(row[0], ts_format), row) for row in rows)
        return
    minute_text = _Texts(lambda minute: format_moment(minute * 60 * NS_PER_S)[: len("2026-11-20T10:00:")], "")
    for row in rows:
        seconds, ns = divmod(row[0], NS_PER_S)
        minute, second = divmod(seconds, 60)
        ms, below = divmod(ns, NS_PER_MS)
        if not below:
            yield f"{minute_text[minute]}{second:02d}.{ms:03d}Z", row
        else:
            fraction = f"{ns:09d}" if below % NS_PER_US else f"{ns // NS_PER_US:06d}"
            yield f"{minute_text[minute]}{second:02d}.{fraction}Z", row


def _size(size: float, absent: str) -> str:
    """The shortest text that is the same float; a size that is no number is shown as absent, as JSON has no word for it."""
    if not math.isfinite(size):
        return absent
    return str(int(size)) if size.is_integer() and abs(size) < _SIZE_EXACT else repr(size)


def _quoted(text: str) -> str:
    return '"' + text.replace('"', '""') + '"' if any(sign in text for sign in ',"\r\n') else text


def _quality(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return 0.0
