"""What travels on the bus and rests in the store: array-like msgpack structs, so a tuple of the same fields is the same bytes.

Fields are only ever appended, with a default: an entry written by an earlier version must decode (tests/contract).
"""

from enum import IntFlag
from typing import Literal

import msgspec


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
    ts: int
    seq: int
    recv_ts: int
    bid: int | None
    ask: int | None
    bid_size: float | None
    ask_size: float | None
    flags: int


GapCause = Literal["gap_fill", "reset", "disconnect", "restart", "stale", "garbled"]


class Gap(msgspec.Struct, array_like=True, frozen=True):
    """A range a session may have missed; both sequence numbers may be absent. Identity: (session, cause, from_ts, first_seq).

    `to_ts` None: still open. `resolved_by`: resend (every number arrived later), snapshot (quotes go on from a W), none.
    """

    session: str
    first_seq: int | None
    last_seq: int | None
    from_ts: int
    to_ts: int | None
    cause: GapCause
    resolved_by: str | None


class Quarantined(msgspec.Struct, array_like=True, frozen=True):
    """What cannot be a tick, with its reason and its bytes; it counts as one tick. Identity: (session, recv_ts, number).

    `symbol` is empty where none could be read. `number` counts the session's quarantined items, so that two alike stay two.
    """

    recv_ts: int
    session: str
    provider: str
    symbol: str
    reason: str
    raw: bytes
    number: int
