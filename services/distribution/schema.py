"""The shapes of questions and answers as /openapi.json shows them; formats.py writes them, tests hold it to these."""

from typing import Annotated, Any, Literal

from fastapi import Path
from pydantic import BaseModel, ConfigDict, Field

from libs.common.domain.feed import FeedKind, FeedState
from libs.common.store.tiers.day import State
from services.distribution.formats import Format, TsFormat

LIMIT_DEFAULT = 1_000  # of a page; arrow and parquet are streams, which need none
LIMIT_MAX = 50_000  # about 7 MB of JSON
ALERTS_DEFAULT = 100
ALERTS_MAX = 10_000  # about as many as are kept

Order = Literal["asc", "desc"]
Moment = Annotated[
    str | int | float, Field(description="by `ts_format`: RFC 3339 text; ms as a number; epoch ns as text, to stay exact")
]
Price = Annotated[float | None, Field(description="exact decimals, at most nine; null where the side was withdrawn")]
Size = Annotated[float | None, Field(description="null where the source sent none, which is not 0")]
Flags = Annotated[
    int,
    Field(description="sum of crossed 1, locked 2, spike 4, late 8, out_of_order 16, resent 32, one_sided 64, imported 128"),
]
SymbolPath = Annotated[
    str,
    Path(
        description="as the source spells it, `/` plain or as %2F; EURUSD finds EUR/USD where only one fits",
        examples=["EUR/USD", "EURUSD"],
    ),
]

_MOMENT_IN = "RFC 3339 (no zone = UTC; a bare date = its midnight) or an integer of epoch ns"


class TsFormatQuery(BaseModel):
    ts_format: TsFormat = Field("iso", description="how times are shown")


class TickQuery(TsFormatQuery):
    start: str | None = Field(
        None, description=f"inclusive; {_MOMENT_IN}; absent = today's midnight, UTC", examples=["2026-11-20"]
    )
    end: str | None = Field(
        None,
        description=f"exclusive; {_MOMENT_IN}; absent = the midnight after a start that is a bare date, else now",
        examples=["2026-11-20T10:00:00Z"],
    )
    known_at: str | None = Field(
        None,
        description=f"only what had been received by then; {_MOMENT_IN}; an import counts as received at its ts",
        examples=["2026-11-20T10:00:00Z"],
    )
    limit: int | None = Field(
        None, ge=1, le=LIMIT_MAX, description=f"ticks a page; absent = {LIMIT_DEFAULT}, of arrow and parquet the whole range"
    )
    cursor: str | None = Field(None, description="`next_cursor` of the page before, all other parameters unchanged")
    provider: str | None = Field(None, description="absent = all, merged")
    order: Order = "asc"
    format: Format | None = Field(None, description="overrides the Accept header")
    exclude: str | None = Field(
        None, description="leave out ticks that carry any of these flags, by name", examples=["spike,crossed"]
    )


class AvailableQuery(TsFormatQuery):
    symbol: str | None = Field(None, description="absent = all")
    start: str | None = Field(None, description=f"inclusive; {_MOMENT_IN}")
    end: str | None = Field(None, description=f"exclusive; {_MOMENT_IN}")


class LatestQuery(TsFormatQuery):
    provider: str | None = Field(None, description="absent = all")


class StatsQuery(BaseModel):
    date: str | None = Field(None, description="YYYY-MM-DD, a UTC day; absent = all days on disk", examples=["2026-11-20"])


class AlertsQuery(BaseModel):
    limit: int = Field(ALERTS_DEFAULT, ge=1, le=ALERTS_MAX, description="the newest so many")


class Tick(BaseModel):
    ts: Moment
    provider: str
    seq: int = Field(description="numbers the ticks of a symbol, provider and UTC day from 0")
    bid: Price
    ask: Price
    bid_size: Size
    ask_size: Size
    flags: Flags


class Gap(BaseModel):
    """What a session with a provider may have missed."""

    model_config = ConfigDict(populate_by_name=True)

    session: str
    first_seq: int | None = Field(description="the first message that is missing, where it is known")
    last_seq: int | None
    from_: Moment = Field(alias="from")
    to: Moment | None = Field(description="null: still open")
    cause: Literal["gap_fill", "reset", "disconnect", "restart", "stale", "garbled"]
    resolved_by: str | None = Field(description="resend: everything arrived later; snapshot: quotes go on from one; else null")


class TickPage(BaseModel):
    symbol: str = Field(description="the canonical spelling")
    start: Moment
    end: Moment
    count: int
    next_cursor: str | None
    complete: bool = Field(description="the last page of a range that is over and misses nothing")
    gaps: list[Gap] = Field(description="of the whole range, not of this page alone")
    warnings: list[str] = Field([], description="present where something was left out: which day, and why")
    data: list[Tick]


class Symbol(BaseModel):
    symbol: str
    providers: list[str]
    first: Moment
    last: Moment
    ticks: int


class Available(BaseModel):
    symbol: str
    date: str
    ticks: int
    first: Moment
    last: Moment
    gaps: int
    state: State = Field(description="open: being written; archived: in cold storage too, and only its Parquet here")
    generation: int = Field(description="0: not sealed; 1, and one more with every amendment: cursors into earlier ones are void")


class Quote(BaseModel):
    provider: str
    ts: Moment = Field(description="when it happened, by the source")
    recv_ts: Moment = Field(description="when it reached us")
    age_ms: int = Field(description="since recv_ts")
    seq: int
    bid: Price
    ask: Price
    bid_size: Size
    ask_size: Size
    flags: Flags


class LatestQuotes(BaseModel):
    symbol: str
    quotes: list[Quote] = Field(description="one a provider, newest ts first")


class AsOfQuery(TsFormatQuery):
    at: str | None = Field(
        None, description=f"the last ticks with ts <= this; {_MOMENT_IN}; absent = now", examples=["2026-11-20T10:00:00Z"]
    )
    known_at: str | None = Field(
        None,
        description=f"of those that had been received by then: what was known, before late ticks and corrections; {_MOMENT_IN}",
    )
    provider: str | None = Field(None, description="absent = all")


class QuoteAsOf(BaseModel):
    provider: str
    ts: Moment = Field(description="when it happened, by the source")
    recv_ts: Moment | None = Field(description="when it reached us; null for imports")
    age_ms: int = Field(description="of `at` since ts")
    seq: int
    bid: Price
    ask: Price
    bid_size: Size
    ask_size: Size
    flags: Flags


class QuotesAsOf(BaseModel):
    symbol: str
    at: Moment
    known_at: Moment | None
    quotes: list[QuoteAsOf] = Field(description="one a provider that sent any in the 31 days before, newest ts first")
    warnings: list[str] = Field([], description="present where a day could not be read: what was then may be missing")


class SymbolQuote(Quote):
    symbol: str


class Account(BaseModel):
    """In ticks; received = stored + duplicates + quarantined + lost."""

    received: int
    stored: int
    duplicates: int
    quarantined: int
    lost: int


class DayAccount(Account):
    date: str


class PartitionLag(BaseModel):
    partition: int
    entries: int
    oldest_age_s: float


class Lag(BaseModel):
    """How far persistence is behind the stream."""

    entries: int
    oldest_age_s: float
    partitions: list[PartitionLag]


class Latency(BaseModel):
    """From the gateway's reading of a message to its arrival here, over the last 10 s; null without ticks."""

    samples: int
    p50: float | None
    p99: float | None


class PipelineStats(BaseModel):
    account: Account
    per_provider: dict[str, Account]
    days: list[DayAccount] = Field(description="the last seven, newest first")
    symbols: int
    gaps: int
    lag: Lag | None = Field(description="null while Redis does not answer")
    ticks_per_s: float = Field(description="over the last 10 s, on arrival")
    latency_s: Latency
    warnings: list[str]


class FeedSession(BaseModel):
    """A session with a provider, as the gateway reported it last."""

    session: str
    kind: FeedKind
    state: FeedState | Literal["unknown"] = Field(description="unknown: the gateway has not reported for 10 s")
    up: bool = Field(description="false where the gateway does not report")
    reporting: bool = Field(description="false: the gateway has not reported for 10 s, and the rest is what it said last")
    at: str = Field(description="when the gateway reported, RFC 3339")
    since: str = Field(description="since when it is in this state")
    alarm: str | None = Field(description="what a person has to look at")
    stale: list[str] = Field(description="groups of symbols whose market is open and that are quiet")
    last_quote_at: str | None
    next_in: int | None = Field(description="MsgSeqNum expected next")
    next_out: int | None = Field(description="MsgSeqNum sent next")
    messages: int
    garbled: int
    rejects_received: int
    resend_requests: int
    duplicates_dropped: int
    heartbeat_rtt_s: float | None
    symbols: int
    refused_symbols: dict[str, str] = Field(description="symbol and the provider's words")
    open_gaps: int
    retry_at: str | None = Field(description="when the gateway tries to connect next")
    alerts: dict[str, str] = Field(description="those raised and not cleared: kind and text")


class FeedHealth(BaseModel):
    status: Literal["ok", "degraded", "down"] = Field(
        description="ok: every session is up, or out of its schedule, and nothing is wrong with it; "
        "down: none of those that should be up is, or no gateway has ever reported; degraded: anything between"
    )
    sessions: list[FeedSession]


class ActiveAlert(BaseModel):
    session: str
    kind: str
    text: str
    reporting: bool = Field(description="false: it was active when the gateway reported last, more than 10 s ago")


class Alert(BaseModel):
    at: str = Field(description="RFC 3339")
    source: str = Field(description="the service")
    session: str
    kind: str = Field(examples=["stale", "disconnected", "logon_rejected"])
    state: Literal["raised", "cleared"]
    text: str


class Alerts(BaseModel):
    active: list[ActiveAlert] = Field(description="raised and not cleared")
    alerts: list[Alert] = Field(description="the log, newest first")


class FieldError(BaseModel):
    parameter: str
    detail: str


class ProblemBody(BaseModel):
    """RFC 9457."""

    model_config = ConfigDict(title="Problem", extra="allow")

    type: str
    title: str
    status: int
    detail: str
    instance: str
    code: str = Field(description="stable; detail may change")
    request_id: str
    errors: list[FieldError] | None = None


_EXAMPLE_TICK = {
    "ts": "2026-11-20T10:00:00.123Z", "provider": "LP1", "seq": 4711, "bid": 1.08512, "ask": 1.08514,
    "bid_size": 1000000, "ask_size": 2500000, "flags": 0,
}  # fmt: skip
TICKS: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "A page of ticks",
        "headers": {
            "Link": {"description": 'the next page, rel="next"', "schema": {"type": "string"}},
            "TickVault-Complete": {"description": "as `complete`", "schema": {"type": "string"}},
            "TickVault-Warning": {"description": "as `warnings`", "schema": {"type": "string"}},
        },
        "content": {
            "application/json": {
                "example": {
                    "symbol": "EUR/USD", "start": "2026-11-20T00:00:00.000Z", "end": "2026-11-21T00:00:00.000Z",
                    "count": 1, "next_cursor": None, "complete": True, "gaps": [], "data": [_EXAMPLE_TICK],
                }
            },
            "text/csv": {
                "schema": {"type": "string"},
                "example": "ts,provider,seq,bid,ask,bid_size,ask_size,flags\n"
                "2026-11-20T10:00:00.123Z,LP1,4711,1.08512,1.08514,1000000,2500000,0\n",
            },
            "application/x-ndjson": {"schema": {"type": "string", "description": "one Tick a line"}},
            "application/vnd.apache.arrow.stream": {
                "schema": {
                    "type": "string", "format": "binary",
                    "description": "symbol and provider as dictionaries, ts and recv_ts timestamp[ns, UTC], seq, bid and ask "
                    "decimal128(18, 9), bid_size, ask_size, flags; metadata of the last batch: tickvault.complete and .warnings",
                }
            },
            "application/vnd.apache.parquet": {
                "schema": {
                    "type": "string", "format": "binary",
                    "description": "the schema of sealed days (docs/formats.md), so that both can be read together: ts in ms and "
                    "ts_sub_ms, DECIMAL(18,9), recv_delay_us; metadata of the file: tickvault.complete and .warnings",
                }
            },
        },
    }
}  # fmt: skip
