"""FIX bytes: whole frames out of what clients send, and frames for what we send.

simplefix encodes administrative messages and reads the clients'. It checks neither BodyLength nor CheckSum and is too slow for
market data, so framing in and market data out are ours.
"""

import re
import zlib
from collections.abc import Sequence
from functools import lru_cache
from time import gmtime, strftime
from typing import Any

import simplefix

from libs.common.domain.moment import NS_PER_MS, NS_PER_S, NS_PER_US

SOH = b"\x01"
BODY_BYTES_MAX = 100_000  # a client's longest message is a list of symbols

_HEAD = re.compile(rb"8=FIX[^\x01]{1,8}\x019=([0-9]{1,7})\x01")
_HEAD_BYTES_MAX = 32
_TRAILER_BYTES = 7
_EXACT_BYTES = 256  # adler32 keeps its byte sum modulo 65,521: exact for this many bytes of any value, …
_EXACT_ASCII_BYTES = 512  # … and for this many of 7 bits
_SENDING_TIME = re.compile(rb"\x0152=([^\x01]*)\x01")

Fields = Sequence[tuple[int, str | int | bytes]]


class Framer:
    """Feed it what was read; frames with a wrong length or checksum are left out, as the standard wants."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> list[bytes]:
        buffer = self._rest + data
        frames = []
        position = 0
        while (start := buffer.find(b"8=FIX", position)) >= 0:
            position = start
            head = _HEAD.match(buffer, start)
            if head is None:
                if len(buffer) - start < _HEAD_BYTES_MAX:
                    break
            else:
                end = head.end() + int(head[1]) + _TRAILER_BYTES
                if end > len(buffer) and end - start <= BODY_BYTES_MAX:
                    break
                frame = buffer[start:end]
                if frame.endswith(b"\x0110=%03d\x01" % byte_sum(frame[:-_TRAILER_BYTES])):
                    frames.append(frame)
                    position = end
                    continue
            position += 1
        else:
            position = max(position, len(buffer) - 4)  # the last bytes may begin the next `8=FIX`
        self._rest = buffer[position:]
        return frames


def parse(frame: bytes) -> Any | None:
    """The frame as a simplefix message; None where its fields are none."""
    parser = simplefix.FixParser(allow_empty_values=True)
    parser.append_buffer(frame)
    try:
        return parser.get_message()
    except simplefix.errors.ParsingError:
        return None


def values(message: Any, tag: int) -> list[bytes]:
    """All values of a tag, in order: those of a repeating group."""
    wanted = b"%d" % tag
    return [value for name, value in message.pairs if name == wanted]


def text(message: Any, tag: int) -> str:
    """A field for people and for echoing; empty where it is absent."""
    value: bytes = message.get(tag) or b""
    return value.decode("latin-1")


def number(message: Any, tag: int) -> int | None:
    """A field as a whole number ≥ 0; None where it is absent or something else."""
    value: bytes = message.get(tag) or b""
    return int(value) if value.isdigit() and len(value) <= 18 else None


def encode(begin_string: bytes, msg_type: str, header: Fields, fields: Fields) -> bytes:
    """A message by way of simplefix, for everything but market data."""
    message = simplefix.FixMessage()
    for tag, value in ((8, begin_string), (35, msg_type), *header, *fields):
        message.append_pair(tag, value.encode("latin-1") if isinstance(value, str) else value)
    frame: bytes = message.encode()
    return frame


def seal(begin_string: bytes, body: bytes) -> bytes:
    """A frame around `body`, which begins with 35= and ends with SOH."""
    frame = b"8=%b\x019=%d\x01%b" % (begin_string, len(body), body)
    return b"%b10=%03d\x01" % (frame, byte_sum(frame))


def byte_sum(data: bytes) -> int:
    """The sum of all bytes modulo 256: adler32's low half is one plus the sum, and ten times faster than sum()."""
    if len(data) <= _EXACT_BYTES or (len(data) <= _EXACT_ASCII_BYTES and data.isascii()):
        return (zlib.adler32(data) - 1) & 0xFF
    pieces = (data[at : at + _EXACT_BYTES] for at in range(0, len(data), _EXACT_BYTES))
    return sum((zlib.adler32(piece) & 0xFFFF) - 1 for piece in pieces) & 0xFF


def unseal(frame: bytes) -> tuple[bytes, bytes]:
    """BeginString and body of a frame of ours."""
    head = _HEAD.match(frame)
    assert head is not None, "a frame of ours begins with its length"
    return frame[2 : frame.index(SOH)], frame[head.end() : -_TRAILER_BYTES]


def resent(frame: bytes, sending_time: bytes) -> bytes:
    """A frame of ours again, as a possible duplicate: 43=Y, and 122 says when it was first sent."""
    begin_string, body = unseal(frame)
    original = _SENDING_TIME.search(body)
    assert original is not None, "a frame of ours has its sending time"
    mark = b"\x0152=%b\x0143=Y\x01122=%b\x01" % (sending_time, original[1])
    return seal(begin_string, body[: original.start()] + mark + body[original.end() :])


def sending_time(ts: int) -> bytes:
    """UTCTimestamp with ms, as every 4.x engine takes it; ts in ns."""
    seconds, rest = divmod(ts, NS_PER_S)
    date, time = _second(seconds)
    return b"%b-%b.%03d" % (date, time, rest // NS_PER_MS)


@lru_cache(maxsize=64)
def entry_time(ts: int) -> bytes:
    """MDEntryDate(272) and MDEntryTime(273)."""
    return b"272=%b\x01273=%b\x01" % _exact(ts)


@lru_cache(maxsize=64)
def transact_time(ts: int) -> bytes:
    """TransactTime(60)."""
    return b"60=%b-%b\x01" % _exact(ts)


def _exact(ts: int) -> tuple[bytes, bytes]:
    """Date and time with as few of 3, 6 or 9 decimals as are exact."""
    seconds, rest = divmod(ts, NS_PER_S)
    date, time = _second(seconds)
    if rest % NS_PER_MS == 0:
        return date, b"%b.%03d" % (time, rest // NS_PER_MS)
    if rest % NS_PER_US == 0:
        return date, b"%b.%06d" % (time, rest // NS_PER_US)
    return date, b"%b.%09d" % (time, rest)


@lru_cache(maxsize=64)
def _second(seconds: int) -> tuple[bytes, bytes]:
    date, _, time = strftime("%Y%m%d-%H:%M:%S", gmtime(seconds)).encode().partition(b"-")
    return date, time
