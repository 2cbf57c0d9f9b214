"""What travels on the bus and rests in the store: array-like msgpack structs, so a tuple of the same fields is the same bytes.

Fields are only ever appended, with a default: an entry written by an earlier version must decode (tests/contract).
"""

from enum import IntFlag
from typing import Annotated, Literal

import msgspec

Int64 = Annotated[int, msgspec.Meta(le=2**63 - 1)]  # what SQLite stores; msgpack has larger ones, and such bytes are none of ours


class Flag(IntFlag):
    """Odd is not wrong: an odd tick is kept and marked, and readers may leave marked ticks out."""

    CROSSED = 1  # bid > ask
    LOCKED = 2  # bid = ask
    SPIKE = 4  # a side moved more than 10 % from the last tick
    LATE = 8  # ts more than 60 s behind SendingTime
    OUT_OF_ORDER = 16  # ts before that of the last tick
    RESENT = 32  # PossDupFlag(43)=Y or PossResend(97)=Y
    ONE_SIDED = 64  # a side is absent
    IMPORTED = 128


class Tick(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """Top of book after one message. ts in ns, recv_ts in ns (whole µs), prices in 1e-9; None is an absent side or size."""

    symbol: str
    provider: str
    ts: Int64
    seq: Int64
    recv_ts: Int64
    bid: Int64 | None
    ask: Int64 | None
    bid_size: float | None
    ask_size: float | None
    flags: Int64


class Trade(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """What was dealt (269=2). `side` is the aggressor's, buy or sell; numbered apart from ticks: 0, 1, 2 … per symbol and day."""

    symbol: str
    provider: str
    ts: Int64
    seq: Int64
    recv_ts: Int64
    price: Int64
    size: float | None
    side: str | None
    trade_id: str | None


Level = tuple[Int64, float | None]  # price in 1e-9, size


class Book(msgspec.Struct, array_like=True, frozen=True):
    """Depth after one message: bids from the highest, asks from the lowest; numbered apart from ticks, as trades are."""

    symbol: str
    provider: str
    ts: Int64
    seq: Int64
    recv_ts: Int64
    bids: list[Level]
    asks: list[Level]


GapCause = Literal["gap_fill", "reset", "disconnect", "restart", "stale", "garbled"]


class Gap(msgspec.Struct, array_like=True, frozen=True):
    """A range a session may have missed; both sequence numbers may be absent. Identity: (session, cause, from_ts, first_seq).

    `to_ts` None: still open. `resolved_by`: resend (every number arrived later), snapshot (quotes go on from a W), none.
    """

    session: str
    first_seq: Int64 | None
    last_seq: Int64 | None
    from_ts: Int64
    to_ts: Int64 | None
    cause: GapCause
    resolved_by: str | None


class Quarantined(msgspec.Struct, array_like=True, frozen=True):
    """What cannot be a tick, with its reason and its bytes; it counts as one tick. Identity: (session, recv_ts, number).

    `symbol` is empty where none could be read. `number` counts the session's quarantined items, so that two alike stay two.
    """

    recv_ts: Int64
    session: str
    provider: str
    symbol: str
    reason: str
    raw: bytes
    number: Int64
