"""What a FIX version says of tags and messages, and whether a message keeps to it.

One data file a version, made by `generate.py`, which says where its content comes from. Reasons and texts are those of QuickFIX,
whose acceptance definitions 14a to 14i, 15 and 21 the check meets. It is for session and unusual messages: market data has a path
of its own.
"""

import re
from collections.abc import Collection
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Literal

from services.gateway.fix.dictionary.source import FieldSource, Group, Members, Source, load
from services.gateway.fix.wire import FieldError, Message

BeginString = Literal["FIX.4.2", "FIX.4.4", "FIXT.1.1"]

USER_DEFINED_MIN = 5000

# SessionRejectReason(373); FIX 4.2 has 0 to 11 only, so there the field is left out for the others
REASONS = {
    0: "Invalid tag number",
    1: "Required tag missing",
    2: "Tag not defined for this message type",
    4: "Tag specified without a value",
    5: "Value is incorrect (out of range) for this tag",
    6: "Incorrect data format for value",
    11: "Invalid MsgType",
    13: "Tag appears more than once",
    14: "Tag specified out of required order",
    15: "Repeating group fields out of order",
    16: "Incorrect NumInGroup count for repeating group",
}

_WHOLE = re.compile(rb"-?\d{1,18}")
_DECIMAL = re.compile(rb"-?(\d+\.?\d*|\.\d+)")
_DATE = rb"\d{4}(0[1-9]|1[0-2])(0[1-9]|[12]\d|3[01])"
_TIME = rb"([01]\d|2[0-3]):[0-5]\d:([0-5]\d|60)(\.\d{1,12})?"
_DAY = re.compile(_DATE)

# a type that is not here may hold any text
FORMATS = dict.fromkeys(("INT", "NUMINGROUP", "SEQNUM", "TAGNUM", "LENGTH", "DAYOFMONTH"), _WHOLE) | {
    **dict.fromkeys(("PRICE", "PRICEOFFSET", "QTY", "AMT", "FLOAT", "PERCENTAGE"), _DECIMAL),
    **dict.fromkeys(("UTCDATE", "UTCDATEONLY", "LOCALMKTDATE"), _DAY),
    "UTCTIMESTAMP": re.compile(_DATE + rb"-" + _TIME),
    "UTCTIMEONLY": re.compile(_TIME),
    "MONTHYEAR": re.compile(rb"\d{4}(0[1-9]|1[0-2])(0[1-9]|[12]\d|3[01]|w[1-5])?"),
    "BOOLEAN": re.compile(rb"[YN]"),
    "CHAR": re.compile(rb"[^\x01]"),
}
_SEVERAL_VALUES = frozenset({"MULTIPLEVALUESTRING", "MULTIPLESTRINGVALUE", "MULTIPLECHARVALUE"})  # separated by spaces


@dataclass(frozen=True, slots=True)
class Part:
    """A header, body, trailer or group entry. `first` begins each entry of a group; a group stands under its count tag."""

    first: int
    tags: frozenset[int]
    required: tuple[int, ...]
    groups: dict[int, "Part"]


@dataclass(frozen=True, slots=True)
class Field:
    """`format` None: any text. `values` empty: any value of that format."""

    name: str
    format: re.Pattern[bytes] | None
    values: frozenset[bytes]
    has_several: bool

    def check(self, tag: int, value: bytes) -> None:
        if self.format is not None and self.format.fullmatch(value) is None:
            raise _fault(6, tag)
        if self.values and not self.values.issuperset(value.split(b" ") if self.has_several else [value]):
            raise _fault(5, tag)


class Version:
    """A data file, ready to look things up in."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._bodies: dict[bytes, Part] = {}  # made when the first message of a type comes
        self.fields = {tag: _field(field) for tag, field in source.fields.items()}
        self.header = self._part(source.header)
        self.trailer = self._part(source.trailer)
        self.messages = {msg_type.encode(): message.name for msg_type, message in source.messages.items()}

    def body(self, msg_type: bytes) -> Part:
        if msg_type not in self._bodies:
            self._bodies[msg_type] = self._part(self._source.messages[msg_type.decode()].body)
        return self._bodies[msg_type]

    def _part(self, members: Members) -> Part:
        """Components unfolded: what an optional one requires is not required."""
        tags: list[int] = []
        required: list[int] = []
        groups: dict[int, Part] = {}
        for member in members.all:
            if isinstance(member, str):
                component = self._source.components[member]
                part = self._part(component)
                tags += [part.first, *part.tags]
                groups |= part.groups
                if member in members.required:
                    required += part.required
                continue
            tag = member.count_tag if isinstance(member, Group) else member
            if isinstance(member, Group):
                groups[tag] = self._part(member.entry)
            tags.append(tag)
            if tag in members.required:
                required.append(tag)
        return Part(tags[0] if tags else 0, frozenset(tags), tuple(required), groups)


class Dictionary:
    """A session version and its application version: FIXT.1.1 and FIX.5.0SP2; both are one before FIXT."""

    def __init__(self, session: Version, application: Version) -> None:
        self._session = session
        self._application = application
        self._names = application.messages | session.messages
        self.message_types = frozenset(self._names)

    def tag_name(self, tag: int) -> str:
        """`MsgSeqNum`; the number itself where the version does not know it."""
        field = self._session.fields.get(tag) or self._application.fields.get(tag)
        return field.name if field else str(tag)

    def message_name(self, msg_type: bytes) -> str:
        """`Heartbeat`; the type itself where the version does not know it."""
        return self._names.get(msg_type) or msg_type.decode("utf-8", "replace")

    def check(self, message: Message, *, accept_user_defined: bool = False) -> None:
        """FieldError with the first fault of a message: order, repetition, tags, formats, values, groups; then what is missing.

        QuickFIX refuses user-defined tags (5000 and up) that its dictionary lacks (14a); `accept_user_defined` passes them over.
        """
        msg_type = message.get(35) or b""
        if msg_type not in self.message_types:
            raise FieldError(REASONS[11], None, 11)
        session = self._session
        version = session if msg_type in session.messages else self._application
        sections = ((session.header, session.fields), (version.body(msg_type), version.fields), (session.trailer, session.fields))
        fields = message.fields
        if accept_user_defined:
            fields = [field for field in fields if field[0] < USER_DEFINED_MIN or field[0] in version.fields]
        seen: set[int] = set()
        at = place = 0
        while at < len(fields):
            tag, value = fields[at]
            found = 0 if tag in session.header.tags else 2 if tag in session.trailer.tags else 1
            if found < place:
                raise _fault(14, tag)
            if tag in seen:
                raise _fault(13, tag)
            place = found
            seen.add(tag)
            part, known = sections[place]
            _check_field(tag, value, part, known)
            at += 1
            if tag in part.groups:
                at = _check_group(part.groups[tag], fields, at, known)
        for part, _ in sections:
            _check_required(part, seen)


@cache
def dictionary(begin_string: BeginString) -> Dictionary:
    """The dictionary of a version, read when it is first asked for."""
    session = _version(begin_string)
    return Dictionary(session, _version("FIX.5.0SP2") if begin_string == "FIXT.1.1" else session)


def _version(name: str) -> Version:
    return Version(load(files(__package__).joinpath(f"{name}.json").read_bytes()))


def _field(source: FieldSource) -> Field:
    values = frozenset(value.encode() for value in source.values)
    return Field(source.name, FORMATS.get(source.type), values, source.type in _SEVERAL_VALUES)


def _check_field(tag: int, value: bytes, part: Part, known: dict[int, Field]) -> None:
    if tag not in known:
        raise _fault(0, tag)
    known[tag].check(tag, value)
    if tag not in part.tags:
        raise _fault(2, tag)


def _check_group(part: Part, fields: list[tuple[int, bytes]], at: int, known: dict[int, Field]) -> int:
    """The entries behind a count field, in any order behind the first tag of each; where the group ends.

    QuickFIX counts them before it looks at values (14i of 5.0SP2).
    """
    count_tag, count = fields[at - 1]
    entries: list[dict[int, bytes]] = []
    while at < len(fields) and fields[at][0] in part.tags:
        tag, value = fields[at]
        if tag == part.first:
            entries.append({})
        elif not entries or tag in entries[-1]:
            raise _fault(15, tag)
        entries[-1][tag] = value
        at += 1
        if tag in part.groups:
            at = _check_group(part.groups[tag], fields, at, known)
    if len(entries) != int(count):
        raise _fault(16, count_tag)
    for entry in entries:
        for tag, value in entry.items():
            _check_field(tag, value, part, known)
        _check_required(part, entry)
    return at


def _check_required(part: Part, seen: Collection[int]) -> None:
    for tag in part.required:
        if tag not in seen:
            raise _fault(1, tag)


def _fault(reason: int, tag: int) -> FieldError:
    return FieldError(REASONS[reason], tag, reason)
