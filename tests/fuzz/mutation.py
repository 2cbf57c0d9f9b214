"""Damage: bytes, fields, lengths, order, chunks, clocks. Half of what is damaged gets a right length and checksum again."""

import re
from collections.abc import Callable
from random import Random

from libs.common.domain.moment import NS_PER_S
from tests.fuzz.conversation import Event
from tests.unit.gateway.gateway_lp import frame_of

Field = tuple[bytes, bytes]

LONG_BYTES = 100_000  # a message that is not made longer still

VALUES = (
    b"", b"0", b"-1", b"1", b"2", b"Y", b"N", b"NaN", b"1e5", b"+1", b" 1", b"1 ", b".", b"1.1.1", b"0x10", b"inf", b"*", b"=",
    b"99999999999999999999", b"0" * 400 + b"1", b"9" * 5000, b"1." + b"0" * 300, b"1.0000000001", b"999999999.999999999",
    b"1000000000", b"-0.5", b"0.000000001", b"00000101-00:00:00", b"20261120", b"20261120-10:00:00", b"99991231-23:59:60",
    b"20269999-99:99:99", b"23:59:60.999999999999", b"10:00:00", "größer".encode(), b"\xff\xfe", b"\x00", b"\x80", b"a\x01b",
    b"EUR/USD", b"eur/usd", b"../etc", b"A" * 33, b"8=FIX.4.4", b"8=FIX.4.4\x019=5\x0135=0\x0110=000\x01", b"55=EUR/USD",
    "\N{ARABIC-INDIC DIGIT ONE}".encode(),
)  # fmt: skip
TAGS = (
    b"8", b"9", b"10", b"35", b"34", b"49", b"56", b"52", b"43", b"97", b"122", b"141", b"123", b"36", b"7", b"16", b"112",
    b"108", b"55", b"262", b"268", b"269", b"270", b"271", b"272", b"273", b"278", b"279", b"280", b"290", b"60", b"132", b"133",
    b"131", b"295", b"296", b"299", b"789", b"1137", b"95", b"96", b"354", b"355", b"89", b"93", b"0", b"-5", b"x", b"00", b"",
    b"999999999", b"5001", b"010", b"55 ", b"1003", b"2446", b"54", b"146", b"301", b"302", b"304",
)  # fmt: skip
TOLD = frozenset({b"270", b"271", b"272", b"273", b"55", b"279", b"278", b"269", b"60", b"132", b"133", b"134", b"135", b"290"})
TYPES = (
    b"W", b"X", b"S", b"i", b"Z", b"0", b"1", b"2", b"3", b"4", b"5", b"A", b"j", b"y", b"d", b"Y", b"b", b"B", b"*", b"AG", b"8",
)  # fmt: skip
NOISE = (
    b"8=FIX", b"8=FIX.4.4\x019=", b"8=FIX.4.4\x019=999999\x0135=X\x01", b"8=FIX.4.4\x019=0900000\x0135=", b"10=000\x01", b"\x01",
    b"8=", b"GET / HTTP/1.1\r\n\r\n", b"\x00" * 64, b"8=FIX" * 30,
)  # fmt: skip


def fields_of(frame: bytes) -> list[Field]:
    return [(tag, value) for tag, _, value in (piece.partition(b"=") for piece in frame[:-1].split(b"\x01"))]


def joined(fields: list[Field]) -> bytes:
    return b"".join(tag + b"=" + value + b"\x01" for tag, value in fields)


def fixed_up(frame: bytes) -> bytes:
    """With the length and checksum that its bytes have, where it has the places for them."""
    found = re.match(rb"8=([^\x01]{1,12})\x019=[^\x01]*\x01(35=.*\x01)10=[^\x01]*\x01\Z", frame, re.DOTALL)
    return frame_of(found[2], found[1]) if found else frame


class Mutator:
    def __init__(self, random: Random) -> None:
        self._random = random
        self._of_frame: list[Callable[[bytes], bytes]] = [
            self._byte, self._byte, self._digit, self._digit, self._value, self._told, self._told, self._tag, self._drop,
            self._repeat, self._swap,
            self._insert, self._count, self._many, self._type, self._length, self._checksum, self._embed, self._cut,
        ]  # fmt: skip

    def events(self, events: list[Event]) -> list[Event]:
        """Another conversation made of this one; cut into other chunks."""
        random, found = self._random, list(events)
        received = [at for at, event in enumerate(found) if event.kind == "in"]
        if random.random() < 0.25:  # the least there is: one digit or bit, in the middle of what is familiar
            at = random.choice(received)
            found[at] = Event("in", found[at].at, random.choice((self._digit, self._byte, self._length))(found[at].data))
            return chunked(random, found)
        for _ in range(random.choice((0, 1, 1, 2, 4, 10))):
            self._order(found)
        received = [at for at, event in enumerate(found) if event.kind == "in"]
        for at in random.choices(received, k=random.choice((1, 1, 2, 5, 20))) if received else []:
            found[at] = Event("in", found[at].at, self._damaged(found[at].data))
        return chunked(random, found)

    def _damaged(self, frame: bytes) -> bytes:
        for _ in range(self._random.choice((1, 1, 1, 2, 4))):
            if len(frame) > LONG_BYTES:
                break
            frame = self._random.choice(self._of_frame)(frame) or b"\x01"
        return fixed_up(frame) if self._random.random() < 0.5 else frame

    # ---- messages and time

    def _order(self, events: list[Event]) -> None:
        random = self._random
        received = [at for at, event in enumerate(events) if event.kind == "in"]
        if not received:
            return
        at = random.choice(received)
        match random.choice(("swap", "repeat", "drop", "drop", "noise", "jump", "late", "deep", "event")):
            case "swap":
                other = random.choice(received)
                one, two = events[at], events[other]
                events[at], events[other] = Event("in", one.at, two.data), Event("in", two.at, one.data)
            case "repeat":
                events[at:at] = [events[at]] * random.choice((1, 1, 3, 50))
            case "drop":
                del events[at]
            case "noise":
                events.insert(at, Event("in", events[at].at, random.choice(NOISE)))
            case "jump":
                jump = random.choice((-86_400, -1, 1, 6, 31, 3600, 86_400)) * NS_PER_S
                events[at:] = [Event(event.kind, event.at + jump, event.data) for event in events[at:]]
            case "late":
                events.append(events.pop(at))
            case "deep":  # a number far ahead: all that follows is held
                ahead = re.sub(
                    rb"\x0134=[0-9]+\x01", b"\x0134=%d\x01" % random.choice((50, 10**6, 10**17)), events[at].data, count=1
                )
                events.insert(at, Event("in", events[at].at, fixed_up(ahead)))
            case _:
                kind = random.choice(("opened", "closed", "clock"))
                events.insert(at, Event(kind, events[at].at, b"\x91\xa3all" if kind == "clock" else b""))

    # ---- one message

    def _byte(self, frame: bytes) -> bytes:
        random, damaged = self._random, bytearray(frame)
        for _ in range(random.choice((1, 1, 2, 8))):
            at = random.randrange(len(damaged) + 1)
            match random.randrange(4):
                case 0 if at < len(damaged):
                    damaged[at] ^= 1 << random.randrange(8)
                case 1:
                    damaged.insert(at, random.choice((0x01, 0x3D, 0x30, random.randrange(256))))
                case 2:
                    del damaged[at : at + random.choice((1, 1, 5))]
                case _:
                    damaged[at:at] = damaged[at : at + random.choice((1, 4, 30))]
        return bytes(damaged)

    def _changed(self, frame: bytes, change: Callable[[list[Field], int], None]) -> bytes:
        fields = fields_of(frame)
        change(fields, self._random.randrange(len(fields)))
        return joined(fields)

    def _value(self, frame: bytes) -> bytes:
        def change(fields: list[Field], at: int) -> None:
            other = self._random.choice(fields)[1]
            fields[at] = fields[at][0], self._random.choice((*VALUES, other, other, fields[at][1] * 2, fields[at][1][:-1]))

        return self._changed(frame, change)

    def _told(self, frame: bytes) -> bytes:
        """A price, size, time, symbol, action or id that is another one."""

        def change(fields: list[Field], _at: int) -> None:
            told = [at for at, (tag, _) in enumerate(fields) if tag in TOLD]
            for at in self._random.sample(told, min(len(told), self._random.choice((1, 1, 3)))):
                fields[at] = fields[at][0], self._random.choice((*VALUES, self._random.choice(fields)[1]))

        return self._changed(frame, change)

    def _digit(self, frame: bytes) -> bytes:
        """What looks right and is not: its sum, if nothing else, gives it away."""
        at = self._random.choice([at for at, byte in enumerate(frame) if 0x30 <= byte <= 0x39] or [0])
        return frame[:at] + b"%d" % self._random.randrange(10) + frame[at + 1 :]

    def _tag(self, frame: bytes) -> bytes:
        def change(fields: list[Field], at: int) -> None:
            fields[at] = self._random.choice(TAGS), fields[at][1]

        return self._changed(frame, change)

    def _drop(self, frame: bytes) -> bytes:
        def change(fields: list[Field], at: int) -> None:
            del fields[at : at + self._random.choice((1, 1, 1, 4))]

        return self._changed(frame, change) if frame.count(b"\x01") > 5 else frame

    def _repeat(self, frame: bytes) -> bytes:
        def change(fields: list[Field], at: int) -> None:
            to = self._random.choice((at, at, self._random.randrange(len(fields))))
            fields[to:to] = fields[at : at + self._random.choice((1, 1, 5))] * self._random.choice((1, 1, 3))

        return self._changed(frame, change)

    def _swap(self, frame: bytes) -> bytes:
        def change(fields: list[Field], at: int) -> None:
            other = self._random.randrange(len(fields))
            fields[at], fields[other] = fields[other], fields[at]

        return self._changed(frame, change)

    def _insert(self, frame: bytes) -> bytes:
        def change(fields: list[Field], at: int) -> None:
            fields.insert(at, (self._random.choice(TAGS), self._random.choice(VALUES)))

        return self._changed(frame, change)

    def _count(self, frame: bytes) -> bytes:
        number = self._random.choice((b"0", b"1", b"3", b"-1", b"999999", b"99999999999999999999", b"x", b""))
        return re.sub(rb"\x01(268|295|296|146|33)=[0-9]+", b"\x01\\g<1>=" + number, frame, count=1)

    def _many(self, frame: bytes) -> bytes:
        """Many entries, and with some luck the count to them."""
        found = re.search(rb"\x01268=([0-9]{1,5})\x01(.*)(10=...\x01)\Z", frame, re.DOTALL)
        if not found:
            return frame
        times = self._random.choice((2, 20, 300))
        count = int(found[1]) * times if self._random.random() < 0.8 else int(found[1]) + 1
        return frame[: found.start(1)] + b"%d\x01" % count + found[2] * times + found[3]

    def _type(self, frame: bytes) -> bytes:
        return re.sub(rb"\x0135=[^\x01]*\x01", b"\x0135=" + self._random.choice(TYPES) + b"\x01", frame, count=1)

    def _length(self, frame: bytes) -> bytes:
        wrong = self._random.choice(
            (b"0", b"1", b"5000", b"999999", b"9999999", b"99999999", b"-1", b"x", b"", b"000", b"%d" % len(frame))
        )
        longer = re.sub(rb"\x019=[^\x01]*\x01", b"\x019=" + wrong + b"\x01", frame, count=1)
        return longer if self._random.random() < 0.5 else longer[:-7] + b"10=%03d\x01" % (sum(longer[:-7]) % 256)

    def _checksum(self, frame: bytes) -> bytes:
        return frame[:-7] + self._random.choice((b"10=000\x01", b"10=1\x01", b"10=1000\x01", b"10=abc\x01", b"10=", b"10=000 "))

    def _embed(self, frame: bytes) -> bytes:
        """A message inside a text or a data field."""
        tag, length = self._random.choice(
            ((b"58", b""), (b"96", b"95=%d\x01" % len(frame)), (b"355", b"354=%d\x01" % (len(frame) // 2)))
        )
        return frame[:-7] + length + tag + b"=" + frame + b"\x01" + frame[-7:]

    def _cut(self, frame: bytes) -> bytes:
        at = self._random.randrange(len(frame))
        return self._random.choice((frame[:at], frame[at:], frame[:at] + frame))


def chunked(random: Random, events: list[Event]) -> list[Event]:
    """The same bytes as a socket might give them: what was sent together may come apart, and the other way round."""
    found: list[Event] = []
    waiting, since = b"", 0
    style = random.choice(("frames", "merged", "merged", "pieces", "bytes"))

    def flush() -> None:
        nonlocal waiting
        pieces = [waiting]
        if style in {"pieces", "bytes"}:
            count = len(waiting) // 7 if style == "bytes" else random.choice((1, 3, 20))
            cuts = sorted(random.randrange(len(waiting) + 1) for _ in range(min(count, 400)))
            pieces = [waiting[start:end] for start, end in zip([0, *cuts], [*cuts, len(waiting)], strict=True)]
        found.extend(Event("in", since, piece) for piece in pieces if piece)
        waiting = b""

    for event in events:
        if event.kind != "in" or style == "frames" or event.at - since > NS_PER_S or event.at < since or random.random() < 0.05:
            if waiting:
                flush()
            since = event.at
        if event.kind == "in":
            since = since if waiting else event.at
            waiting += event.data
        else:
            found.append(event)
    if waiting:
        flush()
    return found
