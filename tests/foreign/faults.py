"""Kinds of faults on the wire from an LP, and what has to come of each.

A fault takes market data messages of real numbers and says what arrives instead. Where it keeps the framing, length and checksum
are right again, so that what it is called after is all that is wrong.
"""

import random
import re
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, auto
from functools import partial
from typing import Literal

SOH = b"\x01"
HTTP = b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/html\r\nConnection: close\r\n\r\n<html><body>400</body></html>\r\n"
GARBAGE = b"\xff\xfe\x00garbage\x01\x01==8=9=35=10=\x0110=000\x01 8=FI"

Change = Callable[[bytes], bytes]


class Outcome(Enum):
    PASSED = auto()  # nothing is missing, nothing is asked for
    ASKED = auto()  # the number is asked for, and comes again
    KEPT = auto()  # the message has used its number: it is in quarantine, and the session goes on
    ENDED = auto()  # the connection ends; the next logon goes on with kept numbers, or at 1 with a gap


@dataclass(frozen=True)
class Fault:
    name: str
    outcome: Outcome
    spoil: Callable[[list[bytes]], bytes]  # messages -> what arrives instead
    takes: int = 1  # messages
    piece_bytes: int = 0  # 0: in one piece
    then: Literal["", "pause", "silence", "close", "reset"] = ""  # a pause is behind the first piece

    def __str__(self) -> str:
        return self.name


# ---- one message


def fields(frame: bytes) -> list[bytes]:
    return frame[:-1].split(SOH)


def summed(text: bytes) -> bytes:
    return text + b"10=%03d\x01" % (sum(text) % 256)


def framed(parts: list[bytes]) -> bytes:
    """Fields from 8 to 10 with the right length and checksum; what stands in 9 and 10 does not matter."""
    body = b"".join(part + SOH for part in parts[2:-1])
    return summed(b"%b\x019=%d\x01%b" % (parts[0], len(body), body))


def _with(tags: tuple[int, ...], change: Callable[[bytes], bytes | None], frame: bytes) -> bytes:
    """Every field of one of the tags with another value; None takes it away."""
    parts = []
    for part in fields(frame):
        tag, _, value = part.partition(b"=")
        new = change(value) if int(tag) in tags else value
        parts += [] if new is None else [tag + b"=" + new]
    return framed(parts)


def _below_zero(frame: bytes) -> bytes:
    """Its first price."""
    return framed(fields(re.sub(rb"\x01(270|132)=", rb"\g<0>-", frame, count=1)))


def value_of(frame: bytes, tag: int) -> bytes:
    found = re.search(rb"\x01%d=([^\x01]*)" % tag, frame)
    assert found is not None
    return found[1]


def _with_length(change: Callable[[int], bytes], frame: bytes) -> bytes:
    length = change(int(value_of(frame, 9)))
    head, _, body = frame.split(SOH, 2)
    return summed(head + SOH + length + body[: body.rindex(b"10=")])


def _with_checksum(change: Callable[[int], bytes], frame: bytes) -> bytes:
    return frame[:-7] + change(int(frame[-4:-1]))


def _swapped(one: int, other: int, frame: bytes) -> bytes:
    """Two fields in each other's place; 9 as it was, if it is one of them."""
    parts = fields(frame)
    parts[one], parts[other] = parts[other], parts[one]
    return framed(parts) if min(one, other) > 1 else summed(b"".join(part + SOH for part in parts[:-1]))


def _without_separator(frame: bytes) -> bytes:
    at = random.choice([at for at, byte in enumerate(frame[:-1]) if byte == SOH[0]])
    return frame[:at] + frame[at + 1 :]


def _flipped(frame: bytes) -> bytes:
    at = random.randrange(len(frame))
    return frame[:at] + bytes([frame[at] ^ 1 << random.randrange(8)]) + frame[at + 1 :]


def _half(frame: bytes) -> bytes:
    return frame[: len(frame) // 2]


def _again(original: bytes | None, frame: bytes) -> bytes:
    """As a possible duplicate."""
    parts = fields(frame)
    marks = [b"43=Y"] if original is None else [b"43=Y", b"122=" + original]
    return framed(parts[:3] + marks + parts[3:])


# ---- the kinds


def _change(name: str, outcome: Outcome, change: Change) -> Fault:
    return Fault(name, outcome, lambda frames: change(frames[0]))


def _value(name: str, outcome: Outcome, change: Callable[[bytes], bytes | None], *tags: int) -> Fault:
    return _change(name, outcome, partial(_with, tags, change))


def _length(name: str, change: Callable[[int], bytes]) -> Fault:
    return _change(name, Outcome.ASKED, partial(_with_length, change))


def _checksum(name: str, change: Callable[[int], bytes]) -> Fault:
    return _change(name, Outcome.ASKED, partial(_with_checksum, change))


def _same(frames: list[bytes]) -> bytes:
    return b"".join(frames)


def _nothing(_frames: list[bytes]) -> bytes:
    return b""


LOST = Fault("lost", Outcome.ASKED, _nothing)
FLIPPED = _change("a bit flipped", Outcome.ASKED, _flipped)

_SIZES = 271, 134, 135  # of W and X, of S

FAULTS = (
    # no frame any more: the number is asked for when the next one comes
    _checksum("checksum wrong", lambda right: b"10=%03d\x01" % ((right + 1) % 256)),
    _checksum("checksum of two digits", lambda right: b"10=%02d\x01" % (right % 100)),
    _checksum("checksum no number", lambda _: b"10=abc\x01"),
    _checksum("checksum missing", lambda _: b""),
    _checksum("last separator missing", lambda right: b"10=%03d" % right),
    _length("length too short", lambda right: b"9=%d\x01" % (right - 1)),
    _length("length too long", lambda right: b"9=%d\x01" % (right + 1)),
    _length("length far too long", lambda right: b"9=%d\x01" % (right + 900_000)),
    _length("length huge", lambda _: b"9=99999999999\x01"),
    _length("length no number", lambda _: b"9=abc\x01"),
    _length("length negative", lambda right: b"9=-%d\x01" % right),
    _length("length missing", lambda _: b""),
    _change("9 before 8", Outcome.ASKED, partial(_swapped, 0, 1)),
    _change("35 before 9", Outcome.ASKED, partial(_swapped, 1, 2)),
    _change("34 before 35", Outcome.ASKED, partial(_swapped, 2, 3)),
    _change("a separator lost", Outcome.ASKED, _without_separator),
    _change("NULs inside", Outcome.ASKED, lambda frame: _half(frame) + bytes(3) + frame[len(frame) // 2 :]),
    _change("only its first half", Outcome.ASKED, _half),
    FLIPPED,
    # lost, or in another order
    LOST,
    Fault("twenty lost", Outcome.ASKED, _nothing, takes=20),
    Fault("two in each other's place", Outcome.ASKED, lambda frames: frames[1] + frames[0], takes=2),
    # a number that cannot be: its own is asked for
    _value("MsgSeqNum far too high", Outcome.ASKED, lambda _: b"999999999", 34),
    # something else between messages
    _change("garbage before it", Outcome.PASSED, lambda frame: GARBAGE + frame),
    _change("an HTTP answer before it", Outcome.PASSED, lambda frame: HTTP + frame),
    _change("NULs before it", Outcome.PASSED, lambda frame: bytes(100) + frame),
    _change("its first half before it", Outcome.PASSED, lambda frame: _half(frame) + frame),
    _change("again, as a possible duplicate", Outcome.PASSED, lambda frame: frame + _again(value_of(frame, 52), frame)),
    _change("again, without OrigSendingTime", Outcome.PASSED, lambda frame: frame + _again(None, frame)),
    # slow
    Fault("byte by byte", Outcome.PASSED, _same, piece_bytes=1),
    Fault("three bytes at a time", Outcome.PASSED, _same, takes=3, piece_bytes=3),
    Fault("a pause in the middle", Outcome.PASSED, _same, piece_bytes=120, then="pause"),
    # a good frame with content that is none: resending would bring the same
    _value("an empty value", Outcome.KEPT, lambda _: b"", *_SIZES),
    _value("sizes that are no numbers", Outcome.KEPT, lambda _: b"NaN", *_SIZES),
    _change("a price below zero", Outcome.KEPT, _below_zero),
    _value("a NUL in symbols", Outcome.KEPT, lambda symbol: symbol[:2] + b"\0" + symbol[2:], 55),
    _change("a tag that is no number", Outcome.KEPT, lambda frame: framed([*fields(frame)[:-1], b"x=1", b"10="])),
    # what ends a session by the rules
    _change("again, as it was", Outcome.ENDED, lambda frame: frame + frame),
    _change("again, first sent after it was sent", Outcome.ENDED, lambda frame: frame + _again(b"20991231-23:59:59", frame)),
    _value("BeginString wrong", Outcome.ENDED, lambda _: b"FIX.4.0", 8),
    _value("SenderCompID wrong", Outcome.ENDED, lambda _: b"SOMEBODY", 49),
    _value("TargetCompID wrong", Outcome.ENDED, lambda _: b"SOMEBODY", 56),
    _value("SendingTime old", Outcome.ENDED, lambda _: b"20200101-00:00:00.000", 52),
    _value("SendingTime no time", Outcome.ENDED, lambda _: b"yesterday", 52),
    _value("SendingTime missing", Outcome.ENDED, lambda _: None, 52),
    _value("MsgSeqNum low", Outcome.ENDED, lambda _: b"1", 34),
    _value("MsgSeqNum no number", Outcome.ENDED, lambda _: b"abc", 34),
    _value("MsgSeqNum missing", Outcome.ENDED, lambda _: None, 34),
    # the connection
    Fault("silence", Outcome.ENDED, _same, then="silence"),
    Fault("closed", Outcome.ENDED, _same, then="close"),
    Fault("closed in mid-message", Outcome.ENDED, lambda frames: _half(frames[0]), then="close"),
    Fault("reset", Outcome.ENDED, _same, then="reset"),
    Fault("reset in mid-message", Outcome.ENDED, lambda frames: _half(frames[0]), then="reset"),
)
