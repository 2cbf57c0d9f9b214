"""What a session keeps: ticks, trades and books; gaps where some may be missing; quarantine for what cannot be used."""

from collections.abc import Callable

from libs.common.domain.moment import NS_PER_S
from libs.common.domain.record import Flag, GapCause, Quarantined
from services.gateway.feeds import REST_OF_SYMBOLS, FixFeed
from services.gateway.fix.decoder import DEPTH_TAGS, ENTRY_TAGS, Decoder, decode, decode_quotes
from services.gateway.fix.gaps import freshened, market_time, open_gap, resolved
from services.gateway.fix.quotes import QuoteMatcher
from services.gateway.fix.state import State
from services.gateway.fix.wire import Clock, Message
from services.gateway.fold import Outcome
from services.gateway.market.depth import DepthMarket
from services.gateway.market.top import Market, Refused

RESUBSCRIBE_PAUSE_NS = 60 * NS_PER_S  # between two resubscriptions because of entries we cannot place

LATE_TO_OPEN_NS = 10 * NS_PER_S  # a logon within this of the opening has missed nothing that its first snapshots do not say

MARKET_DATA = frozenset({b"W", b"X", b"S", b"i", b"Z"})  # Z withdraws
_MARKET_DATA_ENDED = frozenset(kind + b"\x01" for kind in MARKET_DATA)
_RESENT, _ONE_SIDED = int(Flag.RESENT), int(Flag.ONE_SIDED)


class Capture:
    """Of one session; `state` is the session's."""

    def __init__(self, feed: FixFeed, state: State, clock: Clock) -> None:
        self.feed = feed
        self.state = state
        self.outcome = Outcome()
        self.refused: list[Refused] = []
        listed = None
        if feed.symbols != "all":
            upper = {alias.upper(): symbol for alias, symbol in feed.aliases.items()}
            listed = frozenset(upper.get(symbol.upper(), symbol.upper()) for symbol in feed.symbols)
        self.market = Market(feed.name, feed.aliases, listed, clock)
        self.depth: DepthMarket | None = None
        if feed.market_depth != 1 or feed.trades:
            self.market = self.depth = DepthMarket(
                feed.name, feed.aliases, listed, clock,
                depth=feed.market_depth, book_interval_ns=int(feed.book_interval_s * NS_PER_S), trades=feed.trades,
            )  # fmt: skip
        self._tags = ENTRY_TAGS if self.depth is None else DEPTH_TAGS
        self.decoder = Decoder(feed.begin_string, feed.target_comp_id, feed.sender_comp_id, self._tags)
        self.quotes = QuoteMatcher(feed.begin_string, feed.target_comp_id, feed.sender_comp_id)  # learns of top of book only
        self._clock = clock
        self._groups: dict[str, str] = {}

    def take(self) -> Outcome:
        """What came out since the last call."""
        taken, self.outcome = self.outcome, Outcome()
        if taken.ticks:
            self.state.last_ts = taken.ticks[-1][2]
        if self.depth is not None:
            taken.trades, taken.books = self.depth.take()
        return taken

    # ---- market data

    def keep(self, message: Message, frame: bytes, recv_ts: int, asked_for: str | None) -> None:
        """A W, X, S, i or Z whose header was accepted. FieldError where it is not what its type says."""
        state, ticks = self.state, self.outcome.ticks
        kind = message.get(35)
        if kind in {b"W", b"X"}:
            found = [decode(message, self._tags)]
            self.decoder.learn(message)
            if self.depth is None:
                self.quotes.learn(message)
        else:
            found = decode_quotes(message, asked_for)
            if not found:  # a QuoteCancel of everything
                self.market.withdraw_all()
        sending = self._clock.moment(message.get(52) or b"")
        marks = _RESENT if message.flag(43) or message.flag(97) else 0
        before = len(ticks)
        for one in found:
            self.market.apply(one, sending, recv_ts, marks, ticks, self.refused)
        if self.refused:
            self.quarantine_refused(frame, recv_ts)
        state.last_sending = sending
        if state.open_gaps and not marks and any(kind == b"W" or not tick[9] & _ONE_SIDED for tick in ticks[before:]):
            until = self.market_time(max, recv_ts)
            self.outcome.gaps += [resolved(gap, until, "snapshot") for gap in state.open_gaps]
            state.open_gaps = []

    def piece_ended(self, recv_ts: int) -> None:
        """All of what the socket gave at `recv_ts` has been applied."""
        if self.state.stale and self.outcome.ticks:
            self.outcome.gaps += freshened(self.state.stale, self.outcome.ticks, self.group_of)
        if self.depth is not None:
            self.depth.emit_due(recv_ts)

    def withdraw(self) -> None:
        """(51) What stands in the books may be old: it is no price any more, and fresh ones are to be asked for."""
        self.market.withdraw_all()
        self.state.wants_snapshots = True

    # ---- gaps

    def open_gap(self, cause: GapCause, from_ts: int, first: int | None = None, last: int | None = None) -> None:
        gap = open_gap(self.feed.name, cause, from_ts, first, last)
        self.state.open_gaps.append(gap)
        self.outcome.gaps.append(gap)

    def disconnected(self, cause: GapCause, now: int) -> None:
        """From now on nothing is known; several connections that fail one after another are one gap."""
        state = self.state
        recorded = any(gap.cause in {"disconnect", "restart"} and gap.last_seq is None for gap in state.open_gaps)
        if state.logged_on and not recorded:
            if self._open_at(now):
                self.open_gap(cause, self.market_time(min, now), state.next_in)
            else:
                state.closed_at = now
        self.outcome.gaps += [resolved(gap, now, "none") for gap in state.stale.values()]
        state.stale = {}
        self.market.withdraw_all()

    def reconnected(self, now: int) -> None:
        """A connection that ended while the market was closed is missed from the moment the market opened without it."""
        state, schedule = self.state, self.feed.schedule
        if state.closed_at and self._open_at(now):
            since = max(state.closed_at, self.feed.opened(self._own_groups(), now), (schedule and schedule.began(now)) or 0)
            if now - since > LATE_TO_OPEN_NS:
                self.open_gap("disconnect", since, state.next_in)
        state.closed_at = 0

    def went_stale(self, groups: list[str], now: int) -> None:
        """Nothing came for these groups of symbols although they are open. Those that have closed are not stale any more."""
        stale = self.state.stale
        for group in [group for group in stale if not self.feed.is_open(group, now)]:
            self.outcome.gaps.append(resolved(stale.pop(group), now, "none"))
        for group in groups:
            if group not in stale:
                last = max((top.last_ts for top in self.market.books.values() if self.group_of(top.symbol) == group), default=0)
                stale[group] = gap = open_gap(self.feed.name, "stale", last if last > 0 else now)
                self.outcome.gaps.append(gap)

    def group_of(self, symbol: str) -> str:
        """The market hours of a canonical symbol."""
        group = self._groups.get(symbol)
        if group is None:
            group = self._groups[symbol] = self.feed.group_of(symbol)
        return group

    def _open_at(self, now: int) -> bool:
        """Closed is not missing: outside of the session's schedule, and while no market of its symbols is open."""
        return self.feed.in_session(now) and any(self.feed.is_open(group, now) for group in self._own_groups())

    def _own_groups(self) -> set[str]:
        """The market hours of the symbols that were quoted."""
        return {self.group_of(symbol) for symbol in self.market.books} or {REST_OF_SYMBOLS}

    def market_time(self, choose: Callable[[int, int], int], recv_ts: int) -> int:
        """See gaps.market_time."""
        if self.outcome.ticks:
            self.state.last_ts = self.outcome.ticks[-1][2]
        return market_time(choose, self.state.last_sending, self.state.last_ts, recv_ts)

    # ---- quarantine

    def quarantine(self, recv_ts: int, symbol: str, reason: str, raw: bytes) -> None:
        self.state.quarantine_number += 1
        name, number = self.feed.name, self.state.quarantine_number
        self.outcome.quarantined.append(Quarantined(recv_ts, name, name, symbol, reason, raw, number))

    def quarantine_refused(self, frame: bytes, recv_ts: int) -> None:
        """What the market has just refused; (52) an entry we cannot place asks for fresh snapshots, but not every time."""
        for item in self.refused:
            self.quarantine(recv_ts, item.symbol, item.reason, frame)
        if any(not item.symbol for item in self.refused) and recv_ts - self.state.resubscribed_at > RESUBSCRIBE_PAUSE_NS:
            self.state.resubscribed_at = recv_ts
            self.state.wants_snapshots = True
        self.refused.clear()

    def quarantine_market_data(self, frame: bytes, recv_ts: int, reason: str) -> None:
        """A frame whose header was not accepted: where it is market data, it is kept."""
        at = frame.find(b"\x0135=")
        if frame[at + 4 : at + 6] in _MARKET_DATA_ENDED:
            self.quarantine(recv_ts, "", reason, frame)
