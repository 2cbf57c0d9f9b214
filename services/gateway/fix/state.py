"""What a FIX session remembers, and what it wants to send."""

from dataclasses import dataclass
from typing import Any, Literal

import msgspec

from libs.common.domain.record import Gap

Status = Literal["closed", "logon_sent", "established", "logging_out", "rejected"]
Fields = list[tuple[int, str | int | bytes]]


@dataclass(frozen=True, slots=True)
class Send:
    """A message to send. `seq` None: the next number; a gap fill names its own and is a possible duplicate."""

    msg_type: str
    fields: Fields
    seq: int | None = None


class Asked(msgspec.Struct):
    """What we asked the LP for on this connection: a quote may name its symbol by our request alone."""

    connection: str = ""  # begins every request id
    number: int = 0  # of the last request
    requests: dict[str, str] = {}  # request id -> symbol
    symbols: dict[str, None] = {}  # in order
    refused: dict[str, str] = {}
    unanswered: int | None = None  # MsgSeqNum of our first request, until the LP answers one


class State(msgspec.Struct):
    """All that outlives a record: a journal segment begins with it."""

    status: Status = "closed"
    logged_on: bool = False  # whether this connection ever was established
    closed_at: int = 0  # ns, when a connection ended while everything was closed; 0 where its end is a gap
    session_began: int = 0  # ns, by the schedule: another stretch begins with number 1
    next_in: int = 1
    next_out: int = 1
    heartbeat_s: int = 30
    reset_sent: bool = False
    held: dict[int, tuple[int, bytes]] = {}  # messages beyond a hole: number -> recv_ts, frame; none is below next_in
    held_bytes: int = 0
    resend_deadline: int = 0  # ns; 0 where nothing is asked for
    asked_to: int = 0  # the last number known to be missing when we asked
    chunk_to: int = 0  # the last number of the ResendRequest under way; 0: it asked for all
    gap_from: int = 0  # market time when we asked
    unseen: list[tuple[int, int]] = []  # numbers below next_in that never came; a late resend of them is still taken
    garbled_until: int = 0  # a missing number up to this one may be something garbled
    last_sending: int = 0
    last_ts: int = 0
    open_gaps: list[Gap] = []  # ends with the next market data
    stale: dict[str, Gap] = {}  # by group of symbols: ends with its next tick
    wants_snapshots: bool = False  # books were withdrawn: fresh ones are to be asked for
    resubscribed_at: int = 0  # ns, because of an entry that we could not place
    quarantine_number: int = 0
    durable: int = 0  # journal position known to be stored when the segment began
    rest: bytes = b""
    waiting_since: int = 0
    books: list[Any] = []
    asked: Asked = msgspec.field(default_factory=Asked)


@dataclass(slots=True)
class Counts:
    """For metrics; not part of the state."""

    messages: int = 0
    garbled: int = 0
    rejects_received: int = 0
    resend_requests: int = 0
    dropped_duplicates: int = 0
    faults: int = 0  # messages that a fault of ours left undone
