"""Market data messages (W, X; quotes S, i, Z) to their entries, at the speed of one regular expression a message for W and X.

    frame ─▶ a shape seen before? ─▶ yes: one match gives every field (1–2 µs for two entries)
                                  └▶ no:  parse field by field, check, and learn the shape for the next one

A shape is the exact sequence of tags. An LP sends few of them, in whatever order its engine likes; a message that differs in
one tag, an empty value, another CompID, a PossDupFlag or a data field does not match and is parsed. Both ways give equal
results: the expression of a shape captures the same fields that the parser would have picked (tests/unit/gateway:
property-tested).
"""

import re
from collections.abc import Callable, Sequence
from itertools import pairwise
from operator import itemgetter
from typing import NamedTuple

from services.gateway.fix.wire import DATA_FIELDS, SOH, FieldError, Message

# MDUpdateAction(279), MDEntryType(269), Symbol(55), MDEntryID(278), price(270), size(271), date(272), time(273)
ENTRY_TAGS = (279, 269, 55, 278, 270, 271, 272, 273)
# for books and trades besides: MDEntryRefID(280), MDEntryPositionNo(290), TradeID(1003), AggressorSide(2446), Side(54)
DEPTH_TAGS = (*ENTRY_TAGS, 280, 290, 1003, 2446, 54)
Entry = tuple[bytes | None, ...]  # one value for each tag of ENTRY_TAGS or DEPTH_TAGS
GROUP_COUNT = 268
TRANSACT_TIME = 60

SHAPES_MAX = 512  # an LP that never repeats a shape must not fill the memory
SHAPES_PER_SIZE_MAX = 8  # tried in turn for frames of the same number of fields
FORGET_AFTER = 1_000  # messages whose shape found no room: then all are forgotten, and the frequent ones are learnt first
SHAPE_FIELDS_MAX = 400


class MarketData(NamedTuple):
    """A W or X, or one symbol of an S, i or Z, as its engine wrote it: texts, not yet prices."""

    seq: int
    sending_time: bytes
    transact_time: bytes | None
    symbol: bytes | None  # the Symbol(55) of a whole W
    snapshot: bool
    entries: Sequence[Entry]


Matcher = Callable[[bytes], MarketData | None]

NEEDED = {8, 9, 35, 34, 49, 52, 56, GROUP_COUNT}
UNFIT = {43, 97, 122, *DATA_FIELDS, *DATA_FIELDS.values()}  # the session has to look at it, or its value may hold the separator


class Decoder:
    """For one direction of one session: `begin_string`, the LP's CompID and ours are part of every shape."""

    def __init__(self, begin_string: str, sender: str, target: str, tags: tuple[int, ...] = ENTRY_TAGS) -> None:
        self._tags = tags
        self._identity = {8: begin_string.encode(), 49: sender.encode(), 56: target.encode()}
        self._shapes: dict[int, list[Matcher]] = {}
        self._last: Matcher = lambda _frame: None  # most messages look like the one before
        self._learnt: set[tuple[bytes | None, bytes | None, tuple[int, ...]]] = set()
        self._without_room = 0

    def match(self, frame: bytes) -> MarketData | None:
        """The message where its shape is known; None means: parse it."""
        found = self._last(frame)
        if found is not None:
            return found
        for matcher in self._shapes.get(frame.count(SOH), ()):
            found = matcher(frame)
            if found is not None:
                self._last = matcher
                return found
        return None

    def learn(self, message: Message) -> None:
        """Remember the shape of a parsed W or X whose header was accepted, so that the next one matches."""
        tags = tuple(tag for tag, _ in message.fields)
        shape = (message.get(35), message.get(GROUP_COUNT), tags)
        if shape in self._learnt or not set(tags) >= NEEDED or not UNFIT.isdisjoint(tags) or len(tags) > SHAPE_FIELDS_MAX:
            return
        if len(self._shapes.get(len(tags), ())) >= SHAPES_PER_SIZE_MAX or len(self._learnt) >= SHAPES_MAX:
            self._without_room += 1
            if self._without_room < FORGET_AFTER:
                return
            self._without_room = 0
            self._learnt.clear()
            self._shapes.clear()
        self._learnt.add(shape)
        self._shapes.setdefault(len(tags), []).append(self._compile(message))

    def _compile(self, message: Message) -> Matcher:
        fields = message.fields
        header, entries = layout(message, self._tags)
        single = [header[34], header[52], header.get(TRANSACT_TIME), header.get(55)]
        wanted = {index for indexes in (single, *entries) for index in indexes if index is not None}
        literal = {8, 35, 49, 56, GROUP_COUNT}
        pattern = b""
        groups: dict[int, int] = {}
        for index, (tag, value) in enumerate(fields):
            if tag in literal:
                text = self._identity.get(tag, value)
                pattern += b"%d=%s\x01" % (tag, re.escape(text))
            elif index in wanted:
                groups[index] = len(groups)
                pattern += b"%d=(%s)\x01" % (tag, b"[0-9]{1,18}+" if tag == 34 else b"[^\x01]++")
            else:
                pattern += b"%d=[^\x01]++\x01" % tag
        absent = len(groups)
        pattern += b"(\x00)?"  # never there: the None of every field the shape has not got
        indexes = [*single, *(index for entry in entries for index in entry)]
        pick = itemgetter(*(absent if index is None else groups[index] for index in indexes))
        starts = range(len(single), len(indexes), len(self._tags))
        snapshot = message.get(35) == b"W"
        match, new, width = re.compile(pattern).fullmatch, tuple.__new__, len(self._tags)

        def matcher(frame: bytes) -> MarketData | None:
            found = match(frame)
            if found is None:
                return None
            values = pick(found.groups())
            picked = [values[at : at + width] for at in starts]
            # a NamedTuple's own constructor costs three times as much
            return new(MarketData, (int(values[0]), values[1], values[2], values[3], snapshot, picked))

        return matcher


def decode(message: Message, tags: tuple[int, ...] = ENTRY_TAGS) -> MarketData:
    """A parsed W or X; FieldError where its group is not what its count says or a field is repeated."""
    header, entries = layout(message, tags)
    fields = message.fields
    transact = header.get(TRANSACT_TIME)
    return MarketData(
        message.required_number(34),
        message.get(52) or b"",
        None if transact is None else fields[transact][1],
        message.get(55) if 55 in header else None,
        message.get(35) == b"W",
        [tuple(None if index is None else fields[index][1] for index in entry) for entry in entries],
    )


def layout(message: Message, tags: tuple[int, ...] = ENTRY_TAGS) -> tuple[dict[int, int], list[list[int | None]]]:
    """Where things stand: tag → field index before the group, and per entry the index of each of `tags`, or None.

    The first tag behind NoMDEntries(268) begins every entry. The first Symbol of a W, wherever it stands, is that of all its
    entries: it is no field of the group there.
    """
    fields = message.fields
    count = message.required_number(GROUP_COUNT)
    if [tag for tag, _ in fields].count(10) > 1:
        raise FieldError("field 10 appears twice", 10, 13)
    start = next(index for index, (tag, _) in enumerate(fields) if tag == GROUP_COUNT)
    header: dict[int, int] = {}
    for index, (tag, _) in enumerate(fields[:start]):
        if tag in header:
            raise FieldError(f"field {tag} appears twice", tag, 13)
        header[tag] = index
    for tag in (34, 52):
        if tag not in header:
            raise FieldError(f"field {tag} must stand before the group", tag, 14)
    snapshot = message.get(35) == b"W"
    columns = {tag: column for column, tag in enumerate(tags)}
    delimiter = fields[start + 1][0] if start + 1 < len(fields) else None
    entries: list[list[int | None]] = []
    for index in range(start + 1, len(fields)):
        tag = fields[index][0]
        if tag not in header and (tag == TRANSACT_TIME or (tag == 55 and snapshot)):
            header[tag] = index
            continue
        if tag == delimiter and len(entries) < count:
            entries.append([None] * len(tags))
        column = columns.get(tag)
        if column is None:
            continue
        if not entries:
            raise FieldError(f"field {tag} stands in a group of no entries", GROUP_COUNT, 16)
        if entries[-1][column] is not None:
            raise FieldError(f"field {tag} appears twice in one entry", tag, 13)
        entries[-1][column] = index
    if len(entries) != count:
        raise FieldError(f"NoMDEntries(268) says {count}, there are {len(entries)}", GROUP_COUNT, 16)
    for entry in entries:
        if entry[2] is None:
            entry[2] = header.get(55)
    return header, entries


# ---- quotes

_NO_QUOTE_SETS, _NO_QUOTE_ENTRIES, _SYMBOL, _UNDERLYING_SYMBOL = 296, 295, 55, 311
_CANCEL_TYPE, _CANCELS_ALL = 298, b"4"
# of a bid and of an offer: MDEntryType, price (all-in, else spot rate), size, and the size that holds for a whole mass quote
_QUOTE_SIDES = ((b"0", 132, 188, 134, 293), (b"1", 133, 190, 135, 294))
_QUOTE_TAGS = {_SYMBOL, _UNDERLYING_SYMBOL, TRANSACT_TIME, *(tag for side in _QUOTE_SIDES for tag in side[1:])}


def decode_quotes(message: Message, asked_for: str | None) -> list[MarketData]:
    """A parsed Quote(S), MassQuote(i) or QuoteCancel(Z): one MarketData a symbol, as of a W, with the sides it has now.

    Entries are those of ENTRY_TAGS; a symbol that is quoted several times (tiers) has several. `asked_for` is the symbol that our
    request stands for, where the message names none. A Z of all quotes (298=4) that names no symbol gives an empty list: all are
    withdrawn. FieldError where a group is not what its count says, a field is repeated or a symbol is missing.
    """
    seq, kind = message.required_number(34), message.get(35)
    whole, quotes = _quotes_of(message)
    if kind == b"Z" and not quotes:
        if whole.get(_CANCEL_TYPE) == _CANCELS_ALL and _SYMBOL not in whole and asked_for is None:
            return []
        quotes = [{}]
    entries: dict[bytes, list[Entry]] = {}
    times: dict[bytes, bytes] = {}
    for quote in quotes:
        symbol = quote.get(_SYMBOL) or quote.get(_UNDERLYING_SYMBOL) or whole.get(_SYMBOL) or (asked_for or "").encode()
        if not symbol:
            raise FieldError("quote names no symbol", _SYMBOL, 1)
        stated = entries.setdefault(symbol, [])
        time = quote.get(TRANSACT_TIME) or whole.get(TRANSACT_TIME)
        if time is not None:
            times[symbol] = max(time, times.get(symbol, time))
        for side, price_tag, spot_tag, size_tag, default_size_tag in _QUOTE_SIDES:
            price = quote.get(price_tag) or quote.get(spot_tag)
            if price is not None and kind != b"Z":
                size = quote.get(size_tag) or whole.get(default_size_tag)
                stated.append((None, side, symbol, None, price, size, None, None))
    sending_time = message.get(52) or b""
    return [
        MarketData(seq, sending_time, times.get(symbol), symbol, snapshot=True, entries=stated)
        for symbol, stated in entries.items()
    ]


def _quotes_of(message: Message) -> tuple[dict[int, bytes], list[dict[int, bytes]]]:
    """Fields of the message as a whole, and those of each quote in it, with what its set says of all of the set."""
    fields, kind = message.fields, message.get(35)
    if kind == b"S":
        whole = _once(fields)
        return whole, [whole]
    if kind == b"Z":
        head, pieces = _split(fields, _NO_QUOTE_ENTRIES) if message.get(_NO_QUOTE_ENTRIES) else (fields, [])
        return _once(head), [_once(piece) for piece in pieces]
    head, sets = _split(fields, _NO_QUOTE_SETS)
    quotes = []
    for of_set in sets:
        common, pieces = _split(of_set, _NO_QUOTE_ENTRIES)
        quotes += [_once(common) | _once(piece) for piece in pieces]
    return _once(head), quotes


def _split(fields: list[tuple[int, bytes]], count_tag: int) -> tuple[list[tuple[int, bytes]], list[list[tuple[int, bytes]]]]:
    """What stands before a group, and its entries; the first tag behind the count begins every entry, as in `layout`."""
    message = Message(fields)
    count = message.required_number(count_tag)
    start = next(index for index, (tag, _) in enumerate(fields) if tag == count_tag) + 1
    delimiter = fields[start][0] if count > 0 and start < len(fields) else None
    begins = [index for index in range(start, len(fields)) if fields[index][0] == delimiter]
    if len(begins) != count:
        raise FieldError(f"field {count_tag} says {count}, there are {len(begins)}", count_tag, 16)
    return fields[:start], [fields[begin:end] for begin, end in pairwise([*begins, len(fields)])]


def _once(fields: list[tuple[int, bytes]]) -> dict[int, bytes]:
    found = dict(fields)
    if len(found) < len(fields):
        seen = set[int]()
        for tag, _ in fields:
            if tag in seen and tag in _QUOTE_TAGS:
                raise FieldError(f"field {tag} appears twice", tag, 13)
            seen.add(tag)
    return found
