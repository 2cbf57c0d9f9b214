"""Market data messages (W, X) to their entries, at the speed of one regular expression a message.

    frame ─▶ a shape seen before? ─▶ yes: one match gives every field (1–2 µs for two entries)
                                  └▶ no:  parse field by field, check, and learn the shape for the next one

A shape is the exact sequence of tags. An LP sends few of them, in whatever order its engine likes; a message that differs in
one tag, an empty value, another CompID or a PossDupFlag does not match and is parsed. Both ways give equal results: the
expression of a shape captures the same fields that the parser would have picked (tests/unit/gateway: property-tested).
"""

import re
from collections.abc import Callable, Sequence
from operator import itemgetter
from typing import Any, NamedTuple

from services.gateway.wire import SOH, FieldError, Message

# MDUpdateAction(279), MDEntryType(269), Symbol(55), MDEntryID(278), price(270), size(271), date(272), time(273)
Entry = tuple[bytes | None, bytes | None, bytes | None, bytes | None, bytes | None, bytes | None, bytes | None, bytes | None]
ENTRY_TAGS = (279, 269, 55, 278, 270, 271, 272, 273)
GROUP_COUNT = 268
TRANSACT_TIME = 60

SHAPES_MAX = 512  # an LP that never repeats a shape must not fill the memory: past this, all are forgotten
SHAPES_PER_SIZE_MAX = 4  # tried in turn for frames of the same number of fields
SHAPE_FIELDS_MAX = 400


class MarketData(NamedTuple):
    """A W or X as its engine wrote it: texts, not yet prices."""

    seq: int
    sending_time: bytes
    transact_time: bytes | None
    symbol: bytes | None  # the Symbol(55) of a whole W
    snapshot: bool
    entries: Sequence[Entry]


Matcher = Callable[[bytes], MarketData | None]


class Decoder:
    """For one direction of one session: `begin_string`, the LP's CompID and ours are part of every shape."""

    def __init__(self, begin_string: str, sender: str, target: str) -> None:
        self._identity = {8: begin_string.encode(), 49: sender.encode(), 56: target.encode()}
        self._shapes: dict[int, list[Matcher]] = {}
        self._learnt: set[tuple[int, ...]] = set()

    def match(self, frame: bytes) -> MarketData | None:
        """The message where its shape is known; None means: parse it."""
        for matcher in self._shapes.get(frame.count(SOH), ()):
            found = matcher(frame)
            if found is not None:
                return found
        return None

    def learn(self, message: Message) -> None:
        """Remember the shape of a parsed W or X whose header was accepted, so that the next one matches."""
        tags = tuple(tag for tag, _ in message.fields)
        plain = {8, 9, 35, 34, 49, 52, 56, GROUP_COUNT} <= set(tags) and not {43, 97, 122} & set(tags)
        if (
            not plain
            or tags in self._learnt
            or len(tags) > SHAPE_FIELDS_MAX
            or any(len(value) > 1000 for _, value in message.fields)
        ):
            return
        if len(self._learnt) >= SHAPES_MAX:
            self._learnt.clear()
            self._shapes.clear()
        self._learnt.add(tags)
        matchers = self._shapes.setdefault(len(tags), [])
        matchers.insert(0, self._compile(message))
        del matchers[SHAPES_PER_SIZE_MAX:]

    def _compile(self, message: Message) -> Matcher:
        fields = message.fields
        header, entries = _layout(message)
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
        absent = len(groups)  # the index of a None put behind the captured values

        def picks(indexes: list[int | None]) -> Callable[[tuple[bytes | None, ...]], Any]:
            return itemgetter(*(absent if index is None else groups[index] for index in indexes))

        pick_single = picks(single)
        pick_entries = [picks(entry) for entry in entries]
        snapshot = message.get(35) == b"W"
        match = re.compile(pattern).fullmatch
        nothing = (None,)

        def matcher(frame: bytes) -> MarketData | None:
            found = match(frame)
            if found is None:
                return None
            values = found.groups() + nothing
            seq, sending_time, transact_time, symbol = pick_single(values)
            entries = [pick(values) for pick in pick_entries]
            return _new(MarketData, (int(seq), sending_time, transact_time, symbol, snapshot, entries))

        return matcher


_new = tuple.__new__  # a NamedTuple's own constructor costs three times as much


def decode(message: Message) -> MarketData:
    """A parsed W or X; FieldError where its group is not what its count says or a field is repeated."""
    header, entries = _layout(message)
    fields = message.fields
    transact = header.get(TRANSACT_TIME)
    return MarketData(
        message.required_number(34),
        message.get(52) or b"",
        None if transact is None else fields[transact][1],
        message.get(55) if 55 in header else None,
        message.get(35) == b"W",
        [tuple(None if index is None else fields[index][1] for index in entry) for entry in entries],  # type: ignore[misc]
    )


def _layout(message: Message) -> tuple[dict[int, int], list[list[int | None]]]:
    """Where things stand: tag → field index before the group, and per entry the index of each of ENTRY_TAGS, or None.

    The first tag behind NoMDEntries(268) begins every entry. A Symbol before the group (W) is that of all its entries.
    """
    fields = message.fields
    count = message.required_number(GROUP_COUNT)
    start = next(index for index, (tag, _) in enumerate(fields) if tag == GROUP_COUNT)
    header: dict[int, int] = {}
    for index, (tag, _) in enumerate(fields[:start]):
        if tag in header:
            raise FieldError(f"field {tag} appears twice", tag, 13)
        header[tag] = index
    for tag in (34, 52):
        if tag not in header:
            raise FieldError(f"field {tag} must stand before the group", tag, 14)
    common = header.get(55)
    columns = {tag: column for column, tag in enumerate(ENTRY_TAGS)}
    delimiter = fields[start + 1][0] if start + 1 < len(fields) else None
    entries: list[list[int | None]] = []
    for index in range(start + 1, len(fields)):
        tag = fields[index][0]
        if tag == 10:
            break
        if tag == delimiter and len(entries) < count:
            entries.append([None] * len(ENTRY_TAGS))
        column = columns.get(tag)
        if column is None:
            if tag == TRANSACT_TIME and TRANSACT_TIME not in header:
                header[TRANSACT_TIME] = index
            continue
        if not entries:
            if tag == 55 and common is None:  # a W without entries may carry its symbol behind the count
                header[55] = common = index
                continue
            raise FieldError(f"field {tag} stands in a group of no entries", GROUP_COUNT, 16)
        if entries[-1][column] is not None:
            raise FieldError(f"field {tag} appears twice in one entry", tag, 13)
        entries[-1][column] = index
    if len(entries) != count:
        raise FieldError(f"NoMDEntries(268) says {count}, there are {len(entries)}", GROUP_COUNT, 16)
    for entry in entries:
        if entry[2] is None:
            entry[2] = common
    return header, entries
