"""A cursor says after which tick of which question the next page begins: opaque to clients, checked when it comes back.

    urlsafe base64, unpadded, of: msgpack array [version, generation, ts, provider, seq, order, start, end, digest] + its crc32

It carries the range as it was resolved for the first page, so that "until now" stays the same instant on all pages, and a digest
of the parameters that choose the ticks. `limit`, `format` and `ts_format` may change from page to page.
"""

import base64
import binascii
import hashlib
import zlib
from collections.abc import Iterable
from typing import Annotated, Literal

import msgspec

from libs.common.domain.moment import day_name, day_of
from libs.common.domain.problem import Problem
from libs.common.store.history import Position
from services.distribution.problem import bad_parameter

CURSOR_VERSION = 1
DIGEST_BYTES = 8

Ns = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]


class Cursor(msgspec.Struct, array_like=True, frozen=True, forbid_unknown_fields=True):
    version: int
    generation: int  # of the day it stands in; 0: not sealed then
    ts: Ns
    provider: str
    seq: Ns
    order: Literal["asc", "desc"]
    start: Ns
    end: Ns
    digest: bytes

    @property
    def position(self) -> Position:
        return self.ts, self.provider, self.seq


_DECODER = msgspec.msgpack.Decoder(Cursor)


def digest_of(question: Iterable[str | None]) -> bytes:
    """The parameters that choose the ticks, as the client wrote them."""
    return hashlib.blake2b(msgspec.msgpack.encode(list(question)), digest_size=DIGEST_BYTES).digest()


def write_cursor(cursor: Cursor) -> str:
    payload = msgspec.msgpack.encode(cursor)
    return base64.urlsafe_b64encode(payload + zlib.crc32(payload).to_bytes(4, "big")).rstrip(b"=").decode()


def read_cursor(text: str, digest: bytes) -> Cursor:
    """Problem where the text is no cursor of ours, or one of another question."""
    try:
        raw = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
        payload, check = raw[:-4], int.from_bytes(raw[-4:], "big")
        if zlib.crc32(payload) != check:
            raise _unreadable()
        cursor = _DECODER.decode(payload)
    except (binascii.Error, ValueError, msgspec.MsgspecError):
        raise _unreadable() from None
    if cursor.version != CURSOR_VERSION or not cursor.start <= cursor.ts < cursor.end or write_cursor(cursor) != text:
        raise _unreadable()
    if cursor.digest != digest:
        raise bad_parameter(
            "cursor",
            "it belongs to a question with other parameters: repeat symbol, start, end, provider, order, exclude and known_at "
            "as they were on the first page, or leave the cursor out",
            code="cursor-mismatch",
        )
    return cursor


def amended(cursor: Cursor) -> Problem:
    day = day_name(day_of(cursor.ts))
    return Problem(
        410,
        "day-amended",
        "The day was amended",
        f"Ticks of {day} came or were corrected since the cursor was given, so the pages before it may lack some: start again "
        f"without cursor, or at {day} with start={day}{' and order=desc' if cursor.order == 'desc' else ''}.",
        date=day,
    )


def _unreadable() -> Problem:
    return bad_parameter("cursor", "it cannot be read: pass next_cursor on as it was given", code="invalid-cursor")
