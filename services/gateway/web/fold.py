"""A JSON feed as a fold over its journal: a message in; ticks, gaps, quarantine out.

    IN       one message as it was received: a WebSocket message, the body of an HTTP answer, a batch of the sink
    OPENED   the feed is connected: what stood before is unknown
    CLOSED   it is not: a gap, until the next quote
    CLOCK    groups of symbols that went stale, as msgpack; none: only time has passed
    SNAPSHOT the state

No socket, no clock: time is the record's.
"""

from collections.abc import Iterable
from hashlib import blake2b
from typing import Any

import msgspec

from libs.common.bus.entry import TickRow
from libs.common.domain.errors import Rejected
from libs.common.domain.record import Gap, GapCause, Quarantined
from services.gateway.feeds import REST_OF_SYMBOLS, QuoteFields, WebFeed
from services.gateway.fix.decoder import MarketData
from services.gateway.fix.gaps import freshened, market_time, open_gap, resolved
from services.gateway.fix.wire import Clock
from services.gateway.fold import Outcome
from services.gateway.journal import Direction, Record
from services.gateway.market.top import SYMBOLS_MAX, Market, Refused
from services.gateway.web.mapping import Paths, Quote, decode, find, fix_time, moment, raw_items

RAW_BYTES_MAX = 65_536  # of a message or an item, in quarantine; the journal has it whole
DIGEST_BYTES = 16

Receipt = tuple[bytes, int, int]  # of a batch: digest of its bytes, ticks accepted, ticks quarantined


class State(msgspec.Struct):
    """All that outlives a record: a journal segment begins with it."""

    connected: bool = False
    closed_at: int = 0  # ns, when the last connection ended; 0 before the first
    last_ts: int = 0  # the newest event time
    last_recv: int = 0  # when the last quote came
    open_gaps: list[Gap] = []  # ends with the next quote
    stale: dict[str, Gap] = {}  # by group of symbols: ends with its next tick
    quarantine_number: int = 0
    durable: int = 0  # journal position known to be stored when the segment began
    market: list[Any] = []
    quotes: dict[bytes, bytes] = {}  # of a polled feed: digest of the symbol -> of its last quote
    batches: dict[bytes, Receipt] = {}  # of a sink, oldest first: digest of the key -> what the batch came to


class JsonFold:
    """Of one feed. `items` is the path to the quotes of a message, `fields` the paths inside each."""

    def __init__(self, feed: WebFeed, items: str, fields: QuoteFields) -> None:
        self.feed = feed
        self.state = State()
        self.messages = 0  # these four are for metrics and no part of the state
        self.garbled = 0
        self.repeated = 0  # quotes of a poll, batches of a sink
        self.ignored_entries = 0
        self._listed: frozenset[str] | None = None
        if feed.symbols is not None:
            upper = {alias.upper(): symbol for alias, symbol in feed.aliases.items()}
            self._listed = frozenset(upper.get(symbol.upper(), symbol.upper()) for symbol in feed.symbols)
        self.market = Market(feed.name, feed.aliases, self._listed, Clock())
        self._paths = Paths(items, fields)
        self._time_unit = fields.time_unit
        self._outcome = Outcome()
        self._groups: dict[str, str] = {}

    @property
    def durable(self) -> int:
        return self.state.durable

    @property
    def at_rest(self) -> bool:
        return True

    def apply(self, record: Record, *, live: bool = False) -> None:
        del live  # a JSON feed answers nothing
        if record.direction is Direction.IN:
            self._received(record.data, record.recv_ts)
        elif record.direction is Direction.OPENED:
            self._opened(record.recv_ts)
        elif record.direction is Direction.CLOSED:
            if self.state.connected:
                self._disconnected("disconnect", record.recv_ts)
        elif record.direction is Direction.CLOCK:
            self._went_stale(msgspec.msgpack.decode(record.data, type=list[str]), record.recv_ts)
        elif record.direction is Direction.SNAPSHOT:
            self.state = msgspec.msgpack.decode(record.data, type=State)
            self.market.restore(self.state.market)

    def take(self) -> Outcome:
        """What came out since the last call."""
        taken, self._outcome = self._outcome, Outcome()
        return taken

    def snapshot(self, durable: int) -> bytes:
        self.state.durable = durable
        self.state.market = self.market.snapshot()
        return msgspec.msgpack.encode(self.state)

    def group_of(self, symbol: str) -> str:
        """The market hours of a canonical symbol."""
        group = self._groups.get(symbol)
        if group is None:
            group = self._groups[symbol] = self.feed.group_of(symbol)
        return group

    # ---- one message

    def _received(self, data: bytes, recv_ts: int) -> None:
        self.messages += 1
        try:
            message = decode(data)
        except Rejected as error:
            self.garbled += 1
            self._quarantine(recv_ts, "", str(error), data)
            return
        self._take_quotes(message, data, recv_ts)

    def _take_quotes(self, message: Any, data: bytes, recv_ts: int) -> None:
        found = find(message, self._paths.items)
        before = len(self._outcome.ticks)
        raws: list[bytes] | None = None
        for number, item in enumerate(found if type(found) is list else (found,)):
            refused = self._take_quote(item, recv_ts)
            if not refused:
                continue
            if raws is None:
                raws = raw_items(data, self._paths.items) if type(found) is list else [data]
            for one in refused:
                self._quarantine(recv_ts, one.symbol, one.reason, raws[number])
        self._go_on(self._outcome.ticks[before:], recv_ts)

    def _take_quote(self, item: Any, recv_ts: int) -> list[Refused]:
        """A tick, or why not; neither where the item is no quote, or none that is new."""
        refused: list[Refused] = []
        symbol = None
        try:
            quote = self._paths.quote(item)
            if quote is None:
                self.ignored_entries += 1
                return refused
            symbol = quote.symbol
            if symbol is None:
                raise Rejected("a price without a symbol")
            if self._is_new(quote):
                time = None if quote.time is None else fix_time(moment(quote.time, self._time_unit))
                sides = ((b"0", quote.bid, quote.bid_size), (b"1", quote.ask, quote.ask_size))
                entries = [(None, side, None, None, price, size, None, None) for side, price, size in sides if price is not None]
                self.market.apply(
                    MarketData(0, b"", time, symbol, snapshot=True, entries=entries),
                    recv_ts, recv_ts, 0, self._outcome.ticks, refused,
                )  # fmt: skip
        except Rejected as error:
            refused.append(Refused((symbol and self.market.canonical(symbol)) or "", str(error)))
        return refused

    def _is_new(self, quote: Quote) -> bool:
        """Of a stream every message is a fact of its own."""
        del quote
        return True

    def _go_on(self, ticks: Iterable[TickRow], recv_ts: int) -> None:
        """What the first ticks after a gap end."""
        state = self.state
        newest = max((tick[2] for tick in ticks), default=None)
        if newest is None:
            return
        state.last_ts, state.last_recv = max(newest, state.last_ts), recv_ts
        if state.open_gaps:
            until = market_time(max, recv_ts, state.last_ts, recv_ts)
            self._outcome.gaps += [resolved(gap, until, "snapshot") for gap in state.open_gaps]
            state.open_gaps = []
        if state.stale:
            self._outcome.gaps += freshened(state.stale, ticks, self.group_of)

    def _quarantine(self, recv_ts: int, symbol: str, reason: str, raw: bytes) -> None:
        self.state.quarantine_number += 1
        name, number = self.feed.name, self.state.quarantine_number
        self._outcome.quarantined.append(Quarantined(recv_ts, name, name, symbol, reason, raw[:RAW_BYTES_MAX], number))

    # ---- gaps

    def _opened(self, now: int) -> None:
        state = self.state
        if state.connected:
            self._disconnected("restart", now)
        elif state.closed_at and not state.open_gaps and self._is_open(now):
            # it ended while the market was closed, which is no gap; but the market has opened since
            self._open_gap("disconnect", max(state.closed_at, self.feed.opened(self._own_groups(), now)))
        state.connected = True
        state.quotes = {}  # the first answer says how things stand

    def _disconnected(self, cause: GapCause, now: int) -> None:
        state = self.state
        if not state.open_gaps and self._is_open(now):
            self._open_gap(cause, market_time(min, state.last_recv, state.last_ts, now))
        self._outcome.gaps += [resolved(gap, now, "none") for gap in state.stale.values()]
        state.stale = {}
        self.market.withdraw_all()
        state.connected = False
        state.closed_at = now

    def _open_gap(self, cause: GapCause, from_ts: int) -> None:
        gap = open_gap(self.feed.name, cause, from_ts)
        self.state.open_gaps.append(gap)
        self._outcome.gaps.append(gap)

    def _is_open(self, now: int) -> bool:
        """Closed is not missing: while no market of its symbols is open."""
        return any(self.feed.is_open(group, now) for group in self._own_groups())

    def _own_groups(self) -> set[str]:
        """The market hours of the symbols that were, or are to be, quoted."""
        return {self.group_of(symbol) for symbol in self.market.books or self._listed or ()} or {REST_OF_SYMBOLS}

    def _went_stale(self, groups: list[str], now: int) -> None:
        """Nothing came for these groups although they are open; or only time has passed."""
        state = self.state
        for group in [group for group in state.stale if not self.feed.is_open(group, now)]:
            self._outcome.gaps.append(resolved(state.stale.pop(group), now, "none"))
        for group in groups:
            if group not in state.stale:
                last = max((top.last_ts for top in self.market.books.values() if self.group_of(top.symbol) == group), default=0)
                state.stale[group] = gap = open_gap(self.feed.name, "stale", last if last > 0 else now)
                self._outcome.gaps.append(gap)


class PolledFold(JsonFold):
    """Of a feed that is asked for how things stand: what stands as before is no new fact."""

    def _is_new(self, quote: Quote) -> bool:
        quotes = self.state.quotes
        symbol, content = digest(quote.symbol or b""), digest(repr(quote).encode())
        if quotes.get(symbol) == content:
            self.repeated += 1
            return False
        if symbol not in quotes and len(quotes) >= SYMBOLS_MAX:
            del quotes[next(iter(quotes))]
        quotes[symbol] = content
        return True


def digest(data: bytes) -> bytes:
    return blake2b(data, digest_size=DIGEST_BYTES).digest()
