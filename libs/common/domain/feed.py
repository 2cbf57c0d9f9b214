"""How the sessions with providers are, as the gateway reports it once a second, and the alerts that come of it.

JSON objects: fields are only ever added, with a default. Times are int64 ns since the epoch, UTC.
"""

from typing import Annotated, Literal

import msgspec

Ns = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
FeedKind = Literal["fix", "websocket", "rest", "sink"]
FeedState = Literal[
    "disconnected", "logon_sent", "established", "logging_out", "logon_rejected", "rejected", "out_of_schedule"
]  # fmt: skip


class FeedHealth(msgspec.Struct, frozen=True):
    """One session. `at` is when this was written: a gateway that has died says nothing more, and `at` grows old."""

    session: str
    kind: FeedKind
    state: FeedState
    up: bool
    at: Ns
    since: Ns  # of this state
    alarm: str | None = None  # what a person has to look at
    stale: list[str] = []  # market-hours groups that are open and quiet
    last_quote_at: Ns | None = None
    next_in: int | None = None  # MsgSeqNum expected next
    next_out: int | None = None
    messages: int = 0
    garbled: int = 0
    rejects_received: int = 0
    resend_requests: int = 0
    duplicates_dropped: int = 0
    heartbeat_rtt_s: float | None = None
    symbols: int = 0
    refused_symbols: dict[str, str] = {}  # symbol → the provider's words
    open_gaps: int = 0
    retry_at: Ns | None = None  # next attempt to connect
    alerts: dict[str, str] = {}  # those raised and not cleared: kind → text


class Alert(msgspec.Struct, frozen=True):
    """One line of the log of alerts. `kind`: stale, disconnected, logon_rejected, sequence, disk, symbols_refused …"""

    at: Ns
    source: str  # the service
    session: str
    kind: str
    state: Literal["raised", "cleared"]
    text: str
