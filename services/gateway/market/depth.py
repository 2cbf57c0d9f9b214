"""Depth of book and trades: entries in; ticks of the best bid and offer, books and trades out, each numbered.

    message ─▶ levels of each side ─▶ one tick of the best ─▶ a book, now or when it is due
           └▶ trades

Ticks and trades are all kept. Books are taken at a W and otherwise at a pace, so that time bounds their number and not the LP.
With a market depth of 1 the top follows the rules of `top`, entry by entry, and there are no books: ticks say the same.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from heapq import heappop, heappush
from typing import Any, cast

import msgspec

from libs.common.bus.entry import TickRow
from libs.common.domain.errors import Rejected
from libs.common.domain.moment import NS_PER_DAY
from libs.common.domain.record import Book, Trade
from services.gateway.fix.decoder import DEPTH_TAGS, ENTRY_TAGS, Entry, MarketData
from services.gateway.fix.wire import Clock
from services.gateway.market.levels import CHANGE, DELETE, DELETE_FROM, DELETE_THRU, LEVELS_MAX, NEW, UNPRICED, Levels, Stated
from services.gateway.market.top import FUTURE_MAX_NS, IN_THE_FUTURE, NEVER, UNKNOWN_ENTRY, Market, Refused, Top, turned

POSITION_DIGITS_MAX = 6

_BID, _OFFER, _TRADE = b"0", b"1", b"2"  # MDEntryType(269)
_DEALS = frozenset({None, NEW, CHANGE})  # MDUpdateAction(279) of a trade; an entry of a W has none
_DELETES = frozenset({DELETE, DELETE_THRU, DELETE_FROM})
_DEALT = {b"1": "buy", b"2": "sell"}  # AggressorSide(2446), Side(54)
_TYPE, _POSITION = DEPTH_TAGS.index(269), DEPTH_TAGS.index(290)
_ABSENT = (None,) * (len(DEPTH_TAGS) - len(ENTRY_TAGS))
_NOT_QUEUED = 2**63
_TOO_LATE = "resent too late to find its place in the book"


class Numbering(msgspec.Struct, gc=False):
    """0, 1, 2 … in each UTC day of ts."""

    day: int = -(2**31)
    seq: int = 0
    other_days: dict[int, int] = {}

    def next(self, ts: int) -> int:
        day = ts // NS_PER_DAY
        if day != self.day:
            self.day, self.seq, self.other_days = turned(self.day, self.seq, self.other_days, day)
        self.seq += 1
        return self.seq - 1


class Depth(Top):
    """The levels of one symbol's book, its top as of the last tick, and where its numberings and its pace stand."""

    bids: Levels = msgspec.field(default_factory=Levels)
    asks: Levels = msgspec.field(default_factory=Levels)
    trades: Numbering = msgspec.field(default_factory=Numbering)
    books: Numbering = msgspec.field(default_factory=Numbering)
    taken: int = NEVER  # recv_ts of the last book
    changed_ts: int = NEVER  # of the last change
    changed_recv_ts: int = NEVER
    due: bool = False  # changed since the last book
    queued_for: int = _NOT_QUEUED  # when it is looked at: no later than it is due

    def withdraw(self) -> None:
        Top.withdraw(self)
        self.bids, self.asks = Levels(self.bids.most), Levels(self.asks.most)

    @property
    def sides(self) -> Any:
        return (self.bid, self.ask, self.bid_size, self.ask_size, self.bid_id, self.ask_id), self.bids, self.asks

    def put_back(self, sides: Any) -> None:
        top, self.bids, self.asks = sides
        Top.put_back(self, top)

    def side_of(self, entry_id: bytes | None) -> bytes | None:
        """The MDEntryType(269) of a standing entry; None where there is none of that id, or one on each side."""
        if entry_id is None or (entry_id in self.bids) == (entry_id in self.asks):
            return Top.side_of(self, entry_id)
        return _BID if entry_id in self.bids else _OFFER

    def show_best(self) -> None:
        """Bring the top up to the levels."""
        bid, ask = self.bids.best(), self.asks.best()
        self.bid, self.bid_size = (None, None) if bid is None else (-bid.rank, bid.size)
        self.ask, self.ask_size = (None, None) if ask is None else (ask.rank, ask.size)


class DepthMarket(Market):
    """One session's books. A function of the messages and times given to it, as `Market`.

    depth: levels a side in a book, 0 for all there are. book_interval_ns: least time between two books of a symbol but those of
    a W, by recv_ts; 0: a book after every message. trades: whether trades are kept or ignored.
    """

    def __init__(
        self,
        provider: str,
        aliases: dict[str, str],
        listed: frozenset[str] | None,
        clock: Clock,
        *,
        depth: int,
        book_interval_ns: int,
        trades: bool,
    ) -> None:
        super().__init__(provider, aliases, listed, clock)
        self._depth = depth
        self._interval_ns = book_interval_ns
        self._wants_trades = trades
        self._trades: list[Trade] = []
        self._taken: list[Book] = []
        self._queue: list[tuple[int, str]] = []  # (when to look at it, symbol)
        self._in_past = False
        self.dropped_levels = 0  # beyond LEVELS_MAX

    def take(self) -> tuple[list[Trade], list[Book]]:
        """Trades and books since the last call."""
        taken = self._trades, self._taken
        self._trades, self._taken = [], []
        return taken

    def withdraw_all(self) -> None:
        if not self._in_past:
            for book in self._depths():
                if book.due:
                    self._take_book(book)  # what stood until now
        super().withdraw_all()

    @contextmanager
    def past(self) -> Iterator[None]:
        self._in_past = True
        with super().past():
            yield
        self._in_past = False

    def apply(
        self, message: MarketData, sending_ns: int, recv_ts: int, marks: int, ticks: list[TickRow], refused: list[Refused]
    ) -> None:
        """As `Market.apply`; trades and books are for `take`."""
        if not self._in_past:
            self.emit_due(recv_ts)  # before they change
        by_text = cast("dict[bytes | None, Depth]", self._by_text)
        changed: dict[Depth, int] = {}
        bad: dict[Depth, str] = {}
        whose: Top | Refused = UNKNOWN_ENTRY  # of the entry before
        replaced: Top | None = None
        entries = message.entries
        if message.snapshot:
            whose = self._of_snapshot(message.symbol)
            if isinstance(whose, Refused):
                refused.append(whose)
            elif _states_the_book(entries):
                replaced = whose
                whose.withdraw()
                changed[cast("Depth", whose)] = NEVER
            entries = self._best_last(entries) if self._depth == 1 else _by_position(entries)
        for entry in entries:
            row = entry if len(entry) > len(ENTRY_TAGS) else (*entry, *_ABSENT)  # a quote is stated in ENTRY_TAGS
            action, side, text, entry_id, price_text, size_text, date, time, ref_id, position, *_ = row
            book = by_text.get(text)
            if book is None:
                if text is not None:
                    whose = self._open(text)
                else:  # a new entry, too, may name the one that it replaces
                    whose = self._of_entry(CHANGE if ref_id else action, ref_id or entry_id, whose)
                if isinstance(whose, Refused):
                    if whose not in refused:
                        refused.append(whose)
                    continue
                book = cast("Depth", whose)
            whose = book
            if side == _TRADE and self._wants_trades and action != DELETE:
                self._trade(book, message, row, sending_ns, recv_ts, refused)
                continue
            if side != _BID and side != _OFFER:
                if side is not None:
                    self.ignored_entries += 1
                    continue
                side = book.side_of(ref_id) or book.side_of(entry_id)
                if side is None:
                    self._cannot_place(book, refused)
                    continue
            ts, unreadable = NEVER, None
            try:
                ts = self._event_time(message, date, time, sending_ns)
            except Rejected as error:
                unreadable = str(error)
            if self._depth == 1:
                placed, wrong = True, self._state_top(book, side, action, entry_id, price_text, size_text, unreadable)
            else:
                placed, wrong = self._state_level(book, side, action, entry_id, ref_id, position, price_text, size_text)
            if not placed:
                self._cannot_place(book, refused)
                continue
            if unreadable or wrong:
                bad[book] = unreadable or wrong or ""
            changed[book] = max(ts, changed.get(book, ts))
        for book, ts in changed.items():
            if book in bad:
                refused.append(Refused(book.symbol, bad[book]))
                continue
            if self._depth != 1:
                book.show_best()
            self._emit(book, ts, sending_ns, recv_ts, marks, ticks, refused)
            if self._depth != 1:
                self._pace(book, message, ts, sending_ns, recv_ts, whole=book is replaced)

    # ---- one entry

    def _trade(self, book: Depth, message: MarketData, row: Entry, sending_ns: int, recv_ts: int, refused: list[Refused]) -> None:
        action, _, _, entry_id, price_text, size_text, date, time, _, _, trade_id, aggressor, order_side = row
        try:
            if action not in _DEALS:
                raise Rejected(f"MDUpdateAction {action!r} is not new or change")
            if price_text is None:
                raise Rejected("entry has no price")
            price = self._prices.get(price_text) or self._price(price_text)
            size = None if size_text is None else self._size(size_text)
            ts = self._event_time(message, date, time, sending_ns)
            if ts - recv_ts > FUTURE_MAX_NS:
                raise Rejected(IN_THE_FUTURE)
        except Rejected as error:
            problem = Refused(book.symbol, f"trade: {error}")
            if problem not in refused:
                refused.append(problem)
            return
        side = _DEALT.get((order_side if aggressor is None else aggressor) or b"")
        name = trade_id or entry_id
        text = None if name is None else name.decode("utf-8", "replace")
        self._trades.append(Trade(book.symbol, self._provider, ts, book.trades.next(ts), recv_ts, price, size, side, text))

    def _cannot_place(self, book: Depth, refused: list[Refused]) -> None:
        # fresh snapshots would not help what came too late
        problem = Refused(book.symbol, _TOO_LATE) if self._in_past else UNKNOWN_ENTRY
        if problem not in refused:
            refused.append(problem)

    def _state_top(
        self,
        book: Depth,
        side: bytes,
        action: bytes | None,
        entry_id: bytes | None,
        price_text: bytes | None,
        size_text: bytes | None,
        unreadable: str | None,
    ) -> str | None:
        """By the rules of a depth of 1; what is wrong with the entry, if something is: then its side is unknown."""
        state: tuple[int | None, float | None, bytes | None] = None, None, None
        if unreadable is None:
            try:
                state = self._side(book, action, side, entry_id, price_text, size_text)
            except Rejected as error:
                unreadable = str(error)
        if side == _BID:
            book.bid, book.bid_size, book.bid_id = state
        else:
            book.ask, book.ask_size, book.ask_id = state
        return unreadable

    def _state_level(
        self,
        book: Depth,
        side: bytes,
        action: bytes | None,
        entry_id: bytes | None,
        ref_id: bytes | None,
        position: bytes | None,
        price_text: bytes | None,
        size_text: bytes | None,
    ) -> tuple[bool, str | None]:
        """(whether it found its place, what is wrong with it): what cannot be read stands where it belongs, without a price.

        So ids and positions of the others go on meaning what they mean to the LP.
        """
        levels = book.bids if side == _BID else book.asks
        stated = self._stated(side, action, price_text, size_text)
        try:
            if entry_id is not None:
                placed = levels.by_id(action, entry_id, ref_id, stated)
            elif ref_id is not None:
                placed = levels.by_id(action, ref_id, None, stated)
            elif position is not None:
                placed = levels.by_position(action, _position(position), stated)
            else:
                placed = levels.by_price(action, stated)
        except Rejected as error:
            return True, str(error)
        self.dropped_levels += levels.cut()
        return placed, None if action in _DELETES else stated.wrong

    def _stated(self, side: bytes, action: bytes | None, price_text: bytes | None, size_text: bytes | None) -> Stated:
        keeps = action == CHANGE
        rank = size = None
        try:
            if price_text is not None:
                price = self._prices.get(price_text) or self._price(price_text)
                rank = -price if side == _BID else price
            elif not keeps and action not in _DELETES:
                raise Rejected("entry has no price")
            if size_text is not None and action not in _DELETES:
                size = self._sizes.get(size_text)
                size = self._size(size_text) if size is None else size
        except Rejected as error:
            return Stated(UNPRICED, None, keeps, str(error))
        return Stated(rank, size, keeps)

    # ---- books

    def _pace(self, book: Depth, message: MarketData, ts: int, sending_ns: int, recv_ts: int, *, whole: bool) -> None:
        """The message changed the book: a record of it, now or when it is due."""
        try:
            ts = self._event_time(message, None, None, sending_ns) if ts == NEVER else ts
        except Rejected:
            return
        if ts - recv_ts > FUTURE_MAX_NS:
            return
        if self._in_past:
            if whole:  # all of what stood then; the book of now keeps its pace
                self._record(book, ts, recv_ts)
            return
        book.changed_ts, book.changed_recv_ts = ts, recv_ts
        if whole or not 0 <= recv_ts - book.taken < self._interval_ns:  # a clock set back does not make it wait
            self._take_book(book)
        else:
            book.due = True
            self._enqueue(book)

    def emit_due(self, recv_ts: int) -> None:
        """Take the books that are due by `recv_ts`, as they stand and with the times of their last change."""
        queue = self._queue
        while queue and queue[0][0] <= recv_ts:
            looked_at, symbol = heappop(queue)
            book = cast("Depth", self.books[symbol])
            if looked_at != book.queued_for:
                continue
            book.queued_for = _NOT_QUEUED
            if book.due and looked_at < book.taken + self._interval_ns:  # a W came meanwhile
                self._enqueue(book)
            elif book.due:
                self._take_book(book)

    def _enqueue(self, book: Depth) -> None:
        due_at = book.taken + self._interval_ns
        if due_at < book.queued_for:
            book.queued_for = due_at
            heappush(self._queue, (due_at, book.symbol))

    def _take_book(self, book: Depth) -> None:
        self._record(book, book.changed_ts, book.changed_recv_ts)
        book.due = False
        book.taken = book.changed_recv_ts

    def _record(self, book: Depth, ts: int, recv_ts: int) -> None:
        seq = book.books.next(ts)
        bids, asks = book.bids.shown(self._depth), book.asks.shown(self._depth)
        self._taken.append(Book(book.symbol, self._provider, ts, seq, recv_ts, bids, asks))

    # ---- what is kept for a symbol

    def _new(self, symbol: str) -> Depth:
        most = self._depth or LEVELS_MAX
        return Depth(symbol, bids=Levels(most), asks=Levels(most))

    def _depths(self) -> list[Depth]:
        return cast("list[Depth]", list(self.books.values()))

    def snapshot(self) -> list[Any]:
        return [
            (
                *msgspec.structs.astuple(book)[:_BEYOND],
                [
                    book.bids.state(), book.asks.state(),
                    msgspec.structs.astuple(book.trades), msgspec.structs.astuple(book.books),
                    book.taken, book.changed_ts, book.changed_recv_ts, book.due,
                ],
            )
            for book in self._depths()
        ]  # fmt: skip

    def restore(self, books: list[Any]) -> None:
        self._by_text.clear()
        self.books = {}
        self._queue.clear()
        for fields in books:
            book = self._new(fields[0])
            for name, value in zip(_TOP_FIELDS, fields[:_BEYOND], strict=True):
                setattr(book, name, value)
            if fields[_BEYOND:] and fields[_BEYOND] is not None:  # else the session had no depth until now
                bids, asks, trades, taken_books, book.taken, book.changed_ts, book.changed_recv_ts, book.due = fields[_BEYOND]
                book.bids, book.asks = Levels(book.bids.most, bids), Levels(book.asks.most, asks)
                book.trades, book.books = Numbering(*trades), Numbering(*taken_books)
            self.books[book.symbol] = book
            if book.due:
                self._enqueue(book)


_TOP_FIELDS = Top.__struct_fields__[:-1]
_BEYOND = len(_TOP_FIELDS)
assert Top.__struct_fields__[_BEYOND] == "beyond"


def _states_the_book(entries: Sequence[Entry]) -> bool:
    """A W of trades alone says nothing of bids and offers."""
    types = {entry[_TYPE] for entry in entries}
    return _TRADE not in types or _BID in types or _OFFER in types


def _by_position(entries: Sequence[Entry]) -> Sequence[Entry]:
    """A W may state its positions in any order."""
    if not entries or len(entries[0]) == len(ENTRY_TAGS) or all(entry[_POSITION] is None for entry in entries):
        return entries

    def position(entry: Entry) -> int:
        text = entry[_POSITION]
        return int(text) if text is not None and text.isdigit() and len(text) <= POSITION_DIGITS_MAX else 0

    return sorted(entries, key=position)


def _position(text: bytes) -> int:
    """MDEntryPositionNo(290)."""
    if not text.isdigit() or len(text) > POSITION_DIGITS_MAX or not int(text):
        raise Rejected(f"position {text[:40]!r} is not a number from 1")
    return int(text)
