"""Bytes to FIX frames. What is not a frame is garbled: kept, counted, and never a reason to touch a sequence number.

    8=FIX…<SOH>9=<1..7 digits><SOH>35= … body … 10=ddd<SOH>     BodyLength must lead exactly to the trailer,
                                                                CheckSum must be the sum of all before it, modulo 256

Our own, since simplefix checks neither field and can be made to wait for ever (fix-session.md).
"""

import re
import zlib

FRAME_BYTES_MAX = 1_000_000
FRAME_TIMEOUT_NS = 5_000_000_000  # a frame still incomplete after this long is garbled

_HEAD = re.compile(rb"8=FIX[^\x01]{1,8}+\x019=([0-9]{1,7}+)\x0135=")
_HEAD_BYTES_MAX = 5 + 8 + 1 + 2 + 7 + 1 + 3
_HEAD_BEGIN = re.compile(rb"8=FIX[^\x01]{0,8}(?:\x01(?:9(?:=[0-9]{0,7}(?:\x01(?:35?)?)?)?)?)?\Z")
_START = b"8=FIX"
_REST_BYTES = 7 - 3  # the body begins at 35=, which the head has; behind it comes 10=ddd<SOH>
# the last 8 bytes of a frame -> what the sum of the whole frame, modulo 256, must be
_SUM_WITH_TRAILER = {(trailer := b"\x0110=%03d\x01" % checksum): (checksum + sum(trailer[1:])) % 256 for checksum in range(256)}
EXACT_BYTES = 512  # adler32 keeps its byte sum modulo 65,521: exact for this many 7-bit bytes


def byte_sum(data: bytes) -> int:
    """The sum of all bytes modulo 256: adler32's low half is one plus the sum, and ten times faster than sum()."""
    if len(data) <= EXACT_BYTES and data.isascii():
        return (zlib.adler32(data) - 1) & 0xFF
    # 256 bytes of any value also stay below 65,521
    return sum((zlib.adler32(data[at : at + 256]) & 0xFFFF) - 1 for at in range(0, len(data), 256)) & 0xFF


class Framer:
    """Feed it what was read, in order; it keeps the incomplete rest. A function of its input alone: replay gives the same."""

    def __init__(self, rest: bytes = b"", waiting_since: int = 0) -> None:
        self.rest = rest
        self.waiting_since = waiting_since
        self.frames_before: list[int] = []  # of the last feed: how many frames stood before each garbled piece

    def feed(self, data: bytes, recv_ts: int, *, last: bool = False) -> tuple[list[bytes], list[bytes]]:
        """(frames, garbled pieces) that `data` completes, each in order. recv_ts in ns; last: nothing will follow."""
        rest = self.rest
        buffer = rest + data if rest else data
        expired = last or (bool(rest) and recv_ts - self.waiting_since > FRAME_TIMEOUT_NS)
        frames: list[bytes] = []
        garbled: list[bytes] = []
        if self.frames_before:
            self.frames_before = []
        position, size = 0, len(buffer)
        match_head, sums, adler32 = _HEAD.match, _SUM_WITH_TRAILER, zlib.adler32
        while position < size:
            if head := match_head(buffer, position):
                end = head.end() + int(head[1]) + _REST_BYTES
                if end <= size:
                    expected = sums.get(buffer[end - 8 : end])  # first, so that a lying length costs nothing
                    if expected is not None and end - position <= FRAME_BYTES_MAX:
                        frame = buffer[position:end]
                        if end - position <= EXACT_BYTES and frame.isascii():
                            total = (adler32(frame) - 1) & 0xFF
                        else:
                            total = byte_sum(frame)
                    else:
                        total = -1
                    if expected == total:
                        frames.append(frame)
                        position = end
                        expired = last
                        continue
                elif not expired and end - position <= FRAME_BYTES_MAX:
                    break
            elif not expired and size - position < _HEAD_BYTES_MAX and _may_begin(buffer[position:]):
                break
            expired = last
            following = _next_start(buffer, position + 1, last)
            garbled.append(buffer[position:following])
            self.frames_before.append(len(frames))
            position = following
        if position or not rest:
            self.waiting_since = recv_ts
        self.rest = buffer[position:]
        return frames, garbled


def _may_begin(piece: bytes) -> bool:
    return _START.startswith(piece) or _HEAD_BEGIN.match(piece) is not None


def _next_start(buffer: bytes, position: int, last: bool) -> int:
    """Where the next frame may begin: at the next `8=FIX`, or at a beginning of it that ends the buffer with more to come."""
    found = buffer.find(_START, position)
    if found >= 0:
        return found
    if last:
        return len(buffer)
    for length in range(min(len(_START) - 1, len(buffer) - position), 0, -1):
        if buffer.endswith(_START[:length]):
            return len(buffer) - length
    return len(buffer)
