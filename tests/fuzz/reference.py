"""A slow reading of the same bytes by other means: no shapes, no memory, decimals by `decimal`. It only says what was stated.

A tick, trade or level is derivable where some message that is intact states its price, size and time for its symbol and side.
What a session does with order, numbers and books is not repeated here.
"""

import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal, InvalidOperation

FRAME_BYTES_MAX = 1_000_000
ANY = "?"  # a symbol or side that a message leaves to an earlier one

_PLAIN = re.compile(rb"[+-]?(\d+\.?\d*|\.\d+)")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def frames(stream: bytes) -> Iterator[bytes]:
    """The intact messages of a connection, in order: length and checksum right, none inside of another."""
    position = 0
    while (position := stream.find(b"8=FIX", position)) >= 0:
        end = _end(stream, position)
        if end:
            yield stream[position:end]
        position = end or position + 1


def _end(stream: bytes, position: int) -> int:
    """Where the intact message at `position` ends; 0 where there is none."""
    head = stream[position : position + 40].split(b"\x01")
    if len(head) < 3 or not 6 <= len(head[0]) <= 13 or not head[1].startswith(b"9=") or not head[2].startswith(b"35="):
        return 0
    digits = head[1][2:]
    if not re.fullmatch(rb"[0-9]{1,7}", digits):
        return 0
    body = position + len(head[0]) + len(head[1]) + 2
    end = body + int(digits) + 7
    trailer = stream[end - 8 : end]
    if end - position > FRAME_BYTES_MAX or end - 8 < body or not re.fullmatch(rb"\x0110=[0-9]{3}\x01", trailer):
        return 0
    return end if sum(stream[position : end - 7]) % 256 == int(trailer[4:7]) else 0


@dataclass
class Stated:
    """Of a symbol."""

    prices: dict[str, set[int]] = field(default_factory=lambda: defaultdict(set))  # by side: 0, 1, 2
    sizes: dict[str, set[float]] = field(default_factory=lambda: defaultdict(set))
    times: set[int] = field(default_factory=set)


class Reference:
    """All that the intact messages of a conversation state. `aliases`: spelling -> symbol."""

    def __init__(self, aliases: dict[str, str]) -> None:
        self._aliases = {spelt.upper(): symbol for spelt, symbol in aliases.items()}
        self._stated: dict[str, Stated] = defaultdict(Stated)
        self.frames = self.bytes = 0
        self.plain: list[tuple[bytes, str, int]] = []  # (frame, symbol, bid) of quotes that are nothing but a bid and an offer

    def read(self, stream: bytes) -> None:
        """What came on one connection."""
        for frame in frames(stream):
            self.frames += 1
            self.bytes += len(frame)
            fields = [(tag, value) for tag, _, value in (piece.partition(b"=") for piece in frame[:-1].split(b"\x01"))]
            kind = dict(reversed(fields)).get(b"35")
            if kind in {b"W", b"X"}:
                self._read_entries(frame, kind, fields)
            elif kind in {b"S", b"i", b"Z"}:  # what a Z withdraws has a time, too
                self._read_quotes(fields)

    def may_be(self, symbol: str, side: str, price: int, size: float | None) -> bool:
        known = self._about(symbol)
        prices = [one.prices[key] for one in known for key in (side, ANY)]
        sizes = [one.sizes[key] for one in known for key in (side, ANY)]
        return any(price in some for some in prices) and (size is None or any(size in some for some in sizes))

    def may_be_at(self, symbol: str, ts: int) -> bool:
        return any(ts in one.times for one in self._about(symbol))

    def _about(self, symbol: str) -> list[Stated]:
        return [self._stated[key] for key in (symbol, ANY)]

    def _symbol(self, text: bytes) -> str:
        spelt = text.decode("utf-8", "replace").upper()
        return self._aliases.get(spelt, spelt)

    # ---- W and X

    def _read_entries(self, frame: bytes, kind: bytes, fields: list[tuple[bytes, bytes]]) -> None:
        """Grouped by the first tag behind 268; without such a group by every 279 and 269."""
        tags = [tag for tag, _ in fields]
        if b"268" not in tags:
            return
        start = tags.index(b"268") + 1
        begins = tags[start] if start < len(tags) else b""
        whole = dict(reversed(fields[:start] + ([] if kind == b"X" else fields[start:])))
        entries: list[list[tuple[bytes, bytes]]] = []
        for tag, value in fields[start:]:
            if tag == begins:
                entries.append([])
            if entries:
                entries[-1].append((tag, value))
        symbols = {self._symbol(value) for tag, value in fields if tag == b"55"}
        for entry in entries:
            own = {self._symbol(value) for tag, value in entry if tag == b"55"} if kind == b"X" else set()
            named = own or symbols or {ANY}
            if kind == b"X" and not own:
                named = named | {ANY}  # it may be of an earlier entry's symbol
            sides = [value.decode("latin-1") for tag, value in entry if tag == b"269"] or [ANY]
            for symbol in named:
                for side in sides:
                    self._state(symbol, side, entry, b"270", b"271")
        for symbol in symbols | {ANY}:
            self._stated[symbol].times |= self._times(fields)
        self._note_if_plain(frame, kind, whole, entries)

    def _note_if_plain(
        self, frame: bytes, kind: bytes, whole: dict[bytes, bytes], entries: list[list[tuple[bytes, bytes]]]
    ) -> None:
        """Whether it must become a tick of just this: one bid, one offer, of one symbol, all of it readable."""
        if whole.get(b"268") != b"2" or len(entries) != 2:
            return
        rows = [dict(entry) for entry in entries]
        if any(len(row) < len([tag for tag, _ in entry if tag != b"10"]) for row, entry in zip(rows, entries, strict=True)):
            return
        if [row.get(b"269") for row in rows] != [b"0", b"1"]:
            return
        if kind == b"W":
            named = {whole.get(b"55")}
        else:
            named = {row.get(b"55") for row in rows}
        actions = {row.get(b"279") for row in rows}
        prices = [_price(row.get(b"270", b"")) for row in rows]
        if len(named) == 1 and None not in named and actions == ({None} if kind == b"W" else {b"0"}) and None not in prices:
            self.plain.append((frame, self._symbol(next(iter(named)) or b""), prices[0] or 0))

    def _state(self, symbol: str, side: str, entry: list[tuple[bytes, bytes]], price_tag: bytes, size_tag: bytes) -> None:
        stated = self._stated[symbol]
        stated.prices[side] |= {price for tag, value in entry if tag == price_tag and (price := _price(value)) is not None}
        stated.sizes[side] |= {size for tag, value in entry if tag == size_tag and (size := _size(value)) is not None}

    # ---- S and i

    def _read_quotes(self, fields: list[tuple[bytes, bytes]]) -> None:
        """Quote by quote: a symbol holds until the next one. Sizes may be stated for all of a set."""
        names = {self._symbol(value) for tag, value in fields if tag in {b"55", b"311"}} | {ANY}
        for symbol in names:
            stated = self._stated[symbol]
            for side, tags, sizes in (("0", (b"132", b"188"), (b"134", b"293")), ("1", (b"133", b"190"), (b"135", b"294"))):
                stated.prices[side] |= {price for tag, value in fields if tag in tags and (price := _price(value)) is not None}
                stated.sizes[side] |= {size for tag, value in fields if tag in sizes and (size := _size(value)) is not None}
            stated.times |= self._times(fields)

    # ---- times

    def _times(self, fields: list[tuple[bytes, bytes]]) -> set[int]:
        """Every moment that any field of the message may stand for."""
        sent = [ts for tag, value in fields if tag in {b"52", b"60"} and (ts := _moment(value)) is not None]
        dates = {value for tag, value in fields if tag == b"272"}
        found = set(sent)
        for time in {value for tag, value in fields if tag == b"273"}:
            found |= {ts for date in dates if (ts := _moment(date + b"-" + time)) is not None}
            of_day = _moment(b"19700101-" + time)
            if of_day is not None:
                day_ns = 86_400 * 10**9
                found |= {of_day + (ts // day_ns + shift) * day_ns for ts in sent for shift in (-1, 0, 1)}
        return found


def _price(text: bytes) -> int | None:
    """In units of 1e-9."""
    if not _PLAIN.fullmatch(text):
        return None
    try:
        scaled = Decimal(text.decode()) * 10**9
    except InvalidOperation:
        return None
    return int(scaled) if scaled == scaled.to_integral_value() and 0 < scaled < 10**18 else None


def _size(text: bytes) -> float | None:
    return float(text) if re.fullmatch(rb"\d*\.?\d*", text) and re.search(rb"\d", text) else None


def _moment(text: bytes) -> int | None:
    found = re.fullmatch(rb"(\d{4})(\d\d)(\d\d)-(\d\d):(\d\d):(\d\d)(?:\.(\d{1,12}))?", text)
    if not found:
        return None
    try:
        day = datetime(*(int(found[part]) for part in (1, 2, 3)), tzinfo=UTC)
    except ValueError:
        return None
    at = day + timedelta(hours=int(found[4]), minutes=int(found[5]))
    return int((at - _EPOCH).total_seconds() + int(found[6])) * 10**9 + int((found[7] or b"")[:9].ljust(9, b"0"))
