"""Top of book: entries in, one tick per symbol and message out, numbered and flagged.

A side is what the last entry for it said. `withdraw_all` (a reconnect, a gap) makes every side unknown: an old price is never
shown as if it still stood. What cannot be a tick becomes a quarantine item; nothing is dropped silently.
"""

from typing import Any

import msgspec

from libs.common.bus.entry import TickRow
from libs.common.domain.errors import Rejected
from libs.common.domain.moment import NS_PER_DAY, NS_PER_S
from libs.common.domain.price import PRICE_MAX, parse_price
from libs.common.domain.record import Flag
from libs.common.domain.symbol import normalise_symbol
from services.gateway.decoder import MarketData
from services.gateway.wire import Clock

LATE_NS = 60 * NS_PER_S
FUTURE_MAX_NS = 3600 * NS_PER_S
SPIKE_RATIO = 10  # a side that moved by more than a tenth of its last price
DAYS_KEPT = 64  # numbering goes on for a tick this many days of its symbol back; older days start again at 0
MEMO_MAX = 50_000
SYMBOLS_MAX = 20_000  # an LP that invents symbols must not fill the memory

_CROSSED, _LOCKED, _SPIKE = int(Flag.CROSSED), int(Flag.LOCKED), int(Flag.SPIKE)
_LATE, _OUT_OF_ORDER, _ONE_SIDED = int(Flag.LATE), int(Flag.OUT_OF_ORDER), int(Flag.ONE_SIDED)


class Book(msgspec.Struct, eq=False, gc=False):
    """The top of one symbol's book and where its numbering stands."""

    symbol: str
    bid: int | None = None
    ask: int | None = None
    bid_size: float | None = None
    ask_size: float | None = None
    bid_id: bytes | None = None
    ask_id: bytes | None = None
    last_bid: int | None = None  # of the last tick, for the spike flag
    last_ask: int | None = None
    last_ts: int = -(2**63)
    day: int = -(2**31)  # the day `seq` counts in
    seq: int = 0
    other_days: dict[int, int] = {}

    def turn_to(self, day: int) -> None:
        """Go on numbering in another day."""
        days = dict(self.other_days)
        if self.seq:
            days[self.day] = self.seq
        self.day, self.seq = day, days.pop(day, 0)
        if len(days) > DAYS_KEPT:
            days = dict(sorted(days.items())[-DAYS_KEPT:])
        self.other_days = days


class Refused(msgspec.Struct, frozen=True):
    """What could not become a tick: symbol as far as known, and why."""

    symbol: str
    reason: str


UNKNOWN_ENTRY = Refused("", "entry names neither a symbol nor a known entry")


class Market:
    """One session's books. A function of the messages given to it: replay gives the same ticks, numbers and flags."""

    def __init__(self, provider: str, aliases: dict[str, str], listed: frozenset[str] | None, clock: Clock) -> None:
        self._provider = provider
        self._aliases = {alias.upper(): symbol for alias, symbol in aliases.items()}
        self._listed = listed  # canonical symbols where the list is closed, None where any symbol may come
        self._clock = clock
        self._by_text: dict[bytes, Book] = {}
        self.books: dict[str, Book] = {}
        self._prices: dict[bytes, int] = {}
        self._sizes: dict[bytes, float] = {}
        self.ignored_entries = 0  # types other than bid and offer

    def canonical(self, text: bytes) -> str | None:
        """The symbol an LP's spelling stands for, or None where it cannot be one."""
        spelt = text.decode("utf-8", "replace")
        return self._aliases.get(spelt.upper()) or normalise_symbol(spelt)

    def withdraw_all(self) -> None:
        for book in self.books.values():
            book.bid = book.ask = book.bid_size = book.ask_size = book.bid_id = book.ask_id = None

    def apply(
        self, message: MarketData, sending_ns: int, recv_ts: int, marks: int, ticks: list[TickRow], refused: list[Refused]
    ) -> None:
        """Append what the message says to `ticks` and `refused`. sending_ns, recv_ts in ns; marks: flags every tick gets."""
        by_text, prices, sizes = self._by_text, self._prices, self._sizes
        changed: dict[Book, int] = {}
        bad: dict[Book, str] = {}
        if message.snapshot:
            self._begin_snapshot(message, refused)
        last_book = last_date = last_time = None
        ts = last_ts = -1
        for action, side, text, entry_id, price_text, size_text, date, time in message.entries:
            book = by_text.get(text)  # type: ignore[arg-type]
            if book is None:
                found = self._book_without_symbol(entry_id, changed) if text is None else self._open(text)
                if isinstance(found, Refused):
                    if found not in refused:
                        refused.append(found)
                    continue
                book = found
            if side != b"0" and side != b"1":
                self.ignored_entries += 1
                continue
            price, size = prices.get(price_text), sizes.get(size_text)  # type: ignore[arg-type]
            try:
                if ts < 0 or time != last_time or date != last_date:
                    ts = self._event_time(message, date, time, sending_ns)
                    last_date, last_time = date, time
                if price is None or size is None or action == b"2":
                    if action == b"2" and _replaced(book, side, entry_id):
                        continue
                    price, size = self._side(book, action, side, price_text, size_text)
            except Rejected as error:
                bad[book] = str(error)
                price = size = None
                ts = -1
            if side == b"0":
                book.bid, book.bid_size, book.bid_id = price, size, entry_id
            else:
                book.ask, book.ask_size, book.ask_id = price, size, entry_id
            if book is not last_book or ts != last_ts:
                changed[book] = max(ts, changed.get(book, ts))
                last_book, last_ts = book, ts
        provider = self._provider
        for book, ts in changed.items():
            if bad and book in bad:
                refused.append(Refused(book.symbol, bad[book]))
                continue
            bid, ask = book.bid, book.ask
            flags = marks
            if bid is None or ask is None:
                if bid is None and ask is None:
                    refused.append(Refused(book.symbol, "no price on either side"))
                    continue
                flags |= _ONE_SIDED
            elif bid >= ask:
                flags |= _CROSSED if bid > ask else _LOCKED
            if ts - recv_ts > FUTURE_MAX_NS:
                refused.append(Refused(book.symbol, "time is more than an hour in the future"))
                continue
            last = book.last_bid
            if last is not None and bid is not None and abs(bid - last) * SPIKE_RATIO > last:
                flags |= _SPIKE
            last = book.last_ask
            if last is not None and ask is not None and abs(ask - last) * SPIKE_RATIO > last:
                flags |= _SPIKE
            book.last_bid, book.last_ask = bid, ask
            if ts < book.last_ts:
                flags |= _OUT_OF_ORDER
            else:
                book.last_ts = ts
            if sending_ns - ts > LATE_NS:
                flags |= _LATE
            day = ts // NS_PER_DAY
            if day != book.day:
                book.turn_to(day)
            seq = book.seq
            book.seq = seq + 1
            ticks.append((book.symbol, provider, ts, seq, recv_ts, bid, ask, book.bid_size, book.ask_size, flags))

    def _event_time(self, message: MarketData, date: bytes | None, time: bytes | None, sending_ns: int) -> int:
        """272 and 273; 273 alone on the date nearest to SendingTime; else TransactTime; else SendingTime."""
        if time is None:
            return self._clock.moment(message.transact_time) if message.transact_time else sending_ns
        return self._clock.moment(date + b"-" + time) if date else self._clock.time_near(time, sending_ns)

    def _side(
        self, book: Book, action: bytes | None, side: bytes, price_text: bytes | None, size_text: bytes | None
    ) -> tuple[int | None, float | None]:
        """(price, size) an entry leaves on its side. What a change (279=1) does not mention stays as it was."""
        if action == b"2":
            return None, None
        unchanged = (book.bid, book.bid_size) if side == b"0" else (book.ask, book.ask_size)
        if price_text is None and action != b"1":
            raise Rejected("entry has no price")
        price = unchanged[0] if price_text is None else self._prices.get(price_text) or self._price(price_text)
        if size_text is None:
            return price, unchanged[1] if action == b"1" else None
        size = self._sizes.get(size_text)
        return price, self._size(size_text) if size is None else size

    def _begin_snapshot(self, message: MarketData, refused: list[Refused]) -> None:
        """A W replaces the whole book of its symbol; an empty one withdraws both sides."""
        book = Refused("", "snapshot without a symbol") if message.symbol is None else self._open(message.symbol)
        if isinstance(book, Book):
            book.bid = book.ask = book.bid_size = book.ask_size = book.bid_id = book.ask_id = None
        if not message.entries:
            refused.append(Refused(book.symbol, "no price on either side") if isinstance(book, Book) else book)

    def _open(self, text: bytes) -> Book | Refused:
        symbol = self.canonical(text)
        if symbol is None:
            return Refused("", f"{text[:40]!r} is not a symbol")
        if self._listed is not None and symbol not in self._listed:
            return Refused(symbol, "symbol is not in the feed's list")
        book = self.books.get(symbol)
        if book is None:
            if len(self.books) >= SYMBOLS_MAX:
                return Refused(symbol, f"more than {SYMBOLS_MAX} symbols in one session")
            book = self.books[symbol] = Book(symbol)
        if len(self._by_text) < 2 * SYMBOLS_MAX:
            self._by_text[text] = book
        return book

    def _book_without_symbol(self, entry_id: bytes | None, changed: dict[Book, int]) -> Book | Refused:
        """A change or delete may name its entry only; failing that, it belongs to the symbol of the entry before it."""
        if entry_id is not None:
            for book in self.books.values():
                if entry_id in {book.bid_id, book.ask_id}:
                    return book
        return next(reversed(changed), UNKNOWN_ENTRY)

    def _price(self, text: bytes) -> int:
        price = parse_price(text)
        if not 0 < price < PRICE_MAX:
            raise Rejected(f"price {text[:40]!r} is not above 0 and below 1e9")
        if len(self._prices) >= MEMO_MAX:
            self._prices.clear()
        self._prices[text] = price
        return price

    def _size(self, text: bytes) -> float:
        digits = text.replace(b".", b"", 1)
        if not digits.isdigit() or len(text) > 40:
            raise Rejected(f"size {text[:40]!r} is not a number of lots or units")
        if len(self._sizes) >= MEMO_MAX:
            self._sizes.clear()
        size = self._sizes[text] = float(text)
        return size

    def snapshot(self) -> list[Any]:
        return [msgspec.structs.astuple(book) for book in self.books.values()]

    def restore(self, books: list[Any]) -> None:
        self._by_text.clear()
        self.books = {fields[0]: Book(*fields) for fields in books}


def _replaced(book: Book, side: bytes, entry_id: bytes | None) -> bool:
    """Whether the entry to delete has already given way to another one on its side."""
    current = book.bid_id if side == b"0" else book.ask_id
    return entry_id is not None and current is not None and entry_id != current
