"""FIX messages as fields: parsing any valid frame, and encoding what we send.

simplefix encodes; parsing is ours because a field's value may hold the separator (data fields) and every fault needs a name.
"""

import re
from collections.abc import Sequence
from datetime import UTC, datetime

import simplefix

from libs.common.domain.errors import Rejected
from libs.common.domain.moment import NS_PER_DAY, NS_PER_S, day_number

SOH = b"\x01"
SECRET = re.compile(rb"(?<=\x01)(553|554|925)=[^\x01]*")

# length field -> its data field, whose value may contain SOH (FIX 4.4 and FIXT.1.1, volume 1, "data" datatype)
DATA_FIELDS = {90: 91, 93: 89, 95: 96, 212: 213, 348: 349, 350: 351, 352: 353, 354: 355, 356: 357, 358: 359, 360: 361,
               362: 363, 364: 365, 445: 446, 618: 619, 621: 622, 1401: 1402, 1403: 1404}  # fmt: skip
_LENGTH_FIELD = re.compile(rb"\x01(?:" + b"|".join(b"%d" % tag for tag in DATA_FIELDS) + rb")=")

ROUTING = frozenset({115, 116, 128, 129, 144, 145})  # OnBehalfOf…, DeliverTo…: the header of who asked by way of another
_NOT_A_TAG = re.compile(rb"0|-[0-9]{1,8}")  # a number all the same: a Reject can name it
_MOMENT_TEXT_MAX = 30
_MEMO_MAX = 20_000
_SECONDS_MAX = 2**63 // NS_PER_S - 1  # on either side of 1970, so that a ts fits an int64 of ns

Fields = Sequence[tuple[int, str | int | bytes]]


class FieldError(Rejected):
    """A field breaks the rules: what a session-level Reject(3) says in 371 and 373."""

    def __init__(self, text: str, tag: int | None, reason: int) -> None:
        super().__init__(text)
        self.tag = tag
        self.reason = reason


class Message:
    """A parsed frame: its fields in order, and the first value of each tag."""

    __slots__ = ("_first", "fields")

    def __init__(self, fields: list[tuple[int, bytes]]) -> None:
        self.fields = fields
        self._first = dict(reversed(fields))

    def get(self, tag: int) -> bytes | None:
        return self._first.get(tag)

    def text(self, tag: int) -> str:
        """For people: what a counterparty wrote, empty where it wrote nothing."""
        return self._first.get(tag, b"").decode("utf-8", "replace")

    def number(self, tag: int) -> int | None:
        """An integer field; None where absent, FieldError where it is no number."""
        value = self._first.get(tag)
        if value is None:
            return None
        if not value.removeprefix(b"-").isdigit() or len(value) > 18:
            raise FieldError(f"field {tag} is not a number", tag, 6)
        return int(value)

    def required_number(self, tag: int) -> int:
        value = self.number(tag)
        if value is None:
            raise FieldError(f"field {tag} is missing", tag, 1)
        return value

    def flag(self, tag: int) -> bool:
        return self._first.get(tag) == b"Y"


def parse(frame: bytes) -> Message:
    """The fields of a frame; FieldError where a tag is no number (373=0) or a value is empty (373=4)."""
    parts = frame[:-1].split(SOH) if _LENGTH_FIELD.search(frame) is None else _split_with_data(frame)
    fields = []
    for part in parts:
        tag, separator, value = part.partition(b"=")
        if not separator or not tag.isdigit() or tag.startswith(b"0") or len(tag) > 9:
            number = int(tag) if separator and _NOT_A_TAG.fullmatch(tag) else None
            raise FieldError("Invalid tag number", number, 0)
        if not value:
            raise FieldError("Tag specified without a value", int(tag), 4)
        fields.append((int(tag), value))
    return Message(fields)


def parse_roughly(frame: bytes) -> Message:
    """What can be read of a frame that `parse` refuses: enough to say who it was from and what it wanted to be."""
    pairs = (part.partition(b"=") for part in frame.split(SOH))
    return Message([(int(tag), value) for tag, _, value in pairs if value and tag.isdigit() and len(tag) <= 9])


def _split_with_data(frame: bytes) -> list[bytes]:
    parts = []
    position = 0
    data_tag, data_bytes = None, 0
    while position < len(frame):
        separator = frame.find(SOH, position)
        if data_tag is not None:
            prefix = b"%d=" % data_tag
            end = position + len(prefix) + data_bytes
            if frame.startswith(prefix, position) and frame[end : end + 1] == SOH:
                separator = end
        part = frame[position:separator]
        parts.append(part)
        tag, _, value = part.partition(b"=")
        data_tag = DATA_FIELDS.get(int(tag)) if tag.isdigit() and len(tag) < 9 else None
        data_bytes = int(value) if data_tag and value.isdigit() and len(value) < 8 else 0
        position = separator + 1
    return parts


def encode(
    begin_string: str, sender: str, target: str, seq: int, msg_type: str, fields: Fields, *, now_ns: int, poss_dup: bool = False
) -> bytes:
    """One message to send, its header in QuickFIX's order.

    Values are checked: nothing a counterparty sent can smuggle a separator into our stream.
    """
    stamp = format_sending_time(now_ns)
    header: list[tuple[int, str | int | bytes]] = [(8, begin_string), (35, msg_type), (34, seq)]
    header += [(43, "Y")] if poss_dup else []
    header += [(49, sender), (52, stamp), (56, target)]
    header += [(tag, value) for tag, value in fields if tag in ROUTING]
    header += [(122, stamp)] if poss_dup else []
    body = [(tag, value) for tag, value in fields if tag not in ROUTING]
    message = simplefix.FixMessage()
    for tag, value in [*header, *body]:
        text = value if isinstance(value, bytes) else str(value).encode()
        if SOH in text or not text:
            raise ValueError(f"field {tag} cannot be sent: {value!r}")
        message.append_pair(tag, text)
    encoded: bytes = message.encode()
    return encoded


def mask_secrets(frame: bytes) -> bytes:
    """Username, password and new password become ***: what the journal keeps of a message we sent."""
    return SECRET.sub(rb"\1=***", frame)


def format_sending_time(now_ns: int) -> str:
    """UTCTimestamp with ms, as every 4.x engine takes it."""
    at = datetime.fromtimestamp(now_ns // NS_PER_S, UTC)
    return f"{at:%Y%m%d-%H:%M:%S}.{now_ns % NS_PER_S // 1_000_000:03d}"


class Clock:
    """FIX times to ns, exact, for 0 to 9 decimals. Texts repeat within a burst, so they are remembered."""

    def __init__(self) -> None:
        self.moments: dict[bytes, int] = {}  # the memory of `moment`, for callers to whom a call is too much
        self._seconds: dict[bytes, int] = {}

    def moment(self, text: bytes) -> int:
        """`YYYYMMDD-HH:MM:SS[.sss[sss[sss]]]`, UTC; Rejected where it is none."""
        known = self.moments.get(text)
        if known is not None:
            return known
        second, fraction = text[:17], text[18:]
        base = self._seconds.get(second)
        if base is None:
            base = self._remember_second(second)
        if len(text) == 17:
            ts = base
        elif text[17:18] == b"." and fraction.isdigit() and len(fraction) <= 12:
            ts = base + int(fraction[:9].ljust(9, b"0"))
        else:
            raise Rejected(f"{text[:_MOMENT_TEXT_MAX]!r} is not a UTC time (YYYYMMDD-HH:MM:SS.sss)")
        if len(self.moments) >= _MEMO_MAX:
            self.moments.clear()
        self.moments[text] = ts
        return ts

    def _remember_second(self, second: bytes) -> int:
        try:
            if not (second[:8] + second[9:11] + second[12:14] + second[15:17]).isdigit() or len(second) != 17:
                raise ValueError
            if second[8:9] != b"-" or second[11:12] != b":" or second[14:15] != b":":
                raise ValueError
            hour, minute, sec = int(second[9:11]), int(second[12:14]), int(second[15:17])
            if hour > 23 or minute > 59 or sec > 60:  # 60 is a leap second
                raise ValueError
            day = day_number(int(second[:4]), int(second[4:6]), int(second[6:8]))
        except ValueError:
            raise Rejected(f"{second!r} is not a UTC time (YYYYMMDD-HH:MM:SS.sss)") from None
        base = day * NS_PER_DAY + ((hour * 60 + minute) * 60 + sec) * NS_PER_S
        if abs(base) > _SECONDS_MAX * NS_PER_S:
            raise Rejected(f"{second!r} is outside the range of epoch nanoseconds (1677 to 2262)")
        if len(self._seconds) >= _MEMO_MAX:
            self._seconds.clear()
        self._seconds[second] = base
        return base

    def time_near(self, time: bytes, near_ns: int) -> int:
        """A time of day (273 without 272) on the date that brings it nearest to `near_ns`."""
        of_day = self.moment(b"19700101-" + time)
        day = near_ns // NS_PER_DAY
        return min((of_day + (day + shift) * NS_PER_DAY for shift in (-1, 0, 1)), key=lambda ts: abs(ts - near_ns))
