"""Top of book: entries in, one tick per symbol and message out, numbered and flagged.

A side is what the last entry for it said. `withdraw_all` (a reconnect, a gap) makes every side unknown: an old price is never
shown as if it still stood. What cannot be a tick becomes a quarantine item; nothing is dropped silently.
"""

import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import msgspec

from libs.common.bus.entry import TickRow
from libs.common.domain.errors import Rejected
from libs.common.domain.moment import NS_PER_DAY, NS_PER_S
from libs.common.domain.price import PRICE_MAX, parse_price
from libs.common.domain.record import Flag
from libs.common.domain.symbol import normalise_symbol
from services.gateway.fix.decoder import Entry, MarketData
from services.gateway.fix.framer import EXACT_BYTES
from services.gateway.fix.quotes import Quotes, RunShape, as_market_data
from services.gateway.fix.wire import Clock

LATE_NS = 60 * NS_PER_S
FUTURE_MAX_NS = 3600 * NS_PER_S
SPIKE_RATIO = 10  # a side that moved by more than a tenth of its last price
DAYS_KEPT = 64  # numbering goes on for a tick this many days of its symbol back; older days start again at 0
MEMO_MAX = 50_000
SYMBOLS_MAX = 20_000  # an LP that invents symbols must not fill the memory

_CROSSED, _LOCKED, _SPIKE = int(Flag.CROSSED), int(Flag.LOCKED), int(Flag.SPIKE)
_LATE, _OUT_OF_ORDER, _ONE_SIDED = int(Flag.LATE), int(Flag.OUT_OF_ORDER), int(Flag.ONE_SIDED)
_DELETE = b"2"
_BOOK_SIDES = frozenset({b"0", b"1"})  # MDEntryType(269): bid, offer
_STATES_A_SIDE = frozenset({None, b"0", b"1"})  # MDUpdateAction(279): a W has none; new, change
NEVER = -(2**63)


def turned(day: int, seq: int, other_days: dict[int, int], to: int) -> tuple[int, int, dict[int, int]]:
    """(day, seq, other_days) of a numbering that goes on in the day `to`; a day that is not remembered begins at 0."""
    days = dict(other_days)
    if seq:
        days[day] = seq
    seq = days.pop(to, 0)
    if len(days) > DAYS_KEPT:
        days = dict(sorted(days.items())[-DAYS_KEPT:])
    return to, seq, days


class Top(msgspec.Struct, eq=False, gc=False):
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
    last_ts: int = NEVER
    day: int = -(2**31)  # the day `seq` counts in
    seq: int = 0
    other_days: dict[int, int] = {}
    beyond: list[Any] | None = None  # what a session with depth keeps, in a snapshot: the top alone carries it through

    def withdraw(self) -> None:
        """Make both sides unknown."""
        self.bid = self.ask = self.bid_size = self.ask_size = self.bid_id = self.ask_id = None

    @property
    def sides(self) -> Any:
        """What stands, for `put_back`."""
        return self.bid, self.ask, self.bid_size, self.ask_size, self.bid_id, self.ask_id

    def put_back(self, sides: Any) -> None:
        self.bid, self.ask, self.bid_size, self.ask_size, self.bid_id, self.ask_id = sides

    def side_of(self, entry_id: bytes | None) -> bytes | None:
        """The MDEntryType(269) of a standing entry; None where there is none of that id."""
        if entry_id is None:
            return None
        return b"0" if entry_id == self.bid_id else b"1" if entry_id == self.ask_id else None

    def turn_to(self, day: int) -> None:
        """Go on numbering in another day."""
        self.day, self.seq, self.other_days = turned(self.day, self.seq, self.other_days, day)


class Refused(msgspec.Struct, frozen=True):
    """What could not become a tick: symbol as far as known, and why."""

    symbol: str
    reason: str


IN_THE_FUTURE = "time is more than an hour in the future"
UNKNOWN_ENTRY = Refused("", "entry names neither a symbol nor a known entry")


class Market:
    """One session's tops of book. A function of the messages given to it: replay gives the same ticks, numbers and flags."""

    def __init__(self, provider: str, aliases: dict[str, str], listed: frozenset[str] | None, clock: Clock) -> None:
        self._provider = provider
        self._aliases = {alias.upper(): symbol for alias, symbol in aliases.items()}
        self._listed = listed  # canonical symbols where the list is closed, None where any symbol may come
        self._clock = clock
        self._moments = clock.moments
        self._by_text: dict[bytes, Top] = {}
        self.books: dict[str, Top] = {}
        self._prices: dict[bytes, int] = {}
        self._sizes: dict[bytes, float] = {}
        self.ignored_entries = 0  # types other than bid and offer

    def canonical(self, text: bytes) -> str | None:
        """The symbol an LP's spelling stands for, or None where it cannot be one."""
        spelt = text.decode("utf-8", "replace")
        # upper() would make SS of ß
        return self._aliases.get(spelt.upper()) or (normalise_symbol(spelt) if text.isascii() else None)

    def withdraw_all(self) -> None:
        for book in self.books.values():
            book.withdraw()

    @contextmanager
    def past(self) -> Iterator[None]:
        """What is applied meanwhile came too late: it becomes ticks, and the books stay what they are."""
        standing = {book: book.sides for book in self.books.values()}
        self.withdraw_all()
        yield
        self.withdraw_all()
        for book, sides in standing.items():
            book.put_back(sides)

    def apply(
        self, message: MarketData, sending_ns: int, recv_ts: int, marks: int, ticks: list[TickRow], refused: list[Refused]
    ) -> None:
        """Append what the message says to `ticks` and `refused`. sending_ns, recv_ts in ns; marks: flags every tick gets."""
        by_text, prices, sizes = self._by_text, self._prices, self._sizes
        changed: dict[Top, int] = {}
        bad: dict[Top, str] = {}
        whose: Top | Refused = UNKNOWN_ENTRY  # of the entry before
        entries = message.entries
        if message.snapshot:
            whose = self._of_snapshot(message.symbol)
            if isinstance(whose, Top):
                whose.withdraw()
                changed[whose] = NEVER
            else:
                refused.append(whose)
            if len(entries) > 2 or (len(entries) == 2 and entries[0][1] == entries[1][1]):
                entries = self._best_last(entries)
        last_book = last_date = last_time = None
        ts = last_ts = -1
        for action, side, text, entry_id, price_text, size_text, date, time in entries:
            book = by_text.get(text)  # type: ignore[arg-type]
            if book is None:
                whose = self._of_entry(action, entry_id, whose) if text is None else self._open(text)
                if isinstance(whose, Refused):
                    if whose not in refused:
                        refused.append(whose)
                    continue
                book = whose
            whose = book
            if side != b"0" and side != b"1":
                if side is not None:
                    self.ignored_entries += 1
                    continue
                side = book.side_of(entry_id)  # noqa: PLW2901 - a change or delete may leave it to its id
                if side is None:
                    if UNKNOWN_ENTRY not in refused:
                        refused.append(UNKNOWN_ENTRY)
                    continue
            price, size = prices.get(price_text), sizes.get(size_text)  # type: ignore[arg-type]
            try:
                if ts < 0 or time != last_time or date != last_date:
                    ts = self._event_time(message, date, time, sending_ns)
                    last_date, last_time = date, time
                if price is None or size is None or action not in _STATES_A_SIDE:
                    price, size, entry_id = self._side(  # noqa: PLW2901 - a delete leaves none
                        book, action, side, entry_id, price_text, size_text
                    )
            except Rejected as error:
                bad[book] = str(error)
                price = size = entry_id = None  # noqa: PLW2901
                ts = -1
            if side == b"0":
                book.bid, book.bid_size, book.bid_id = price, size, entry_id
            else:
                book.ask, book.ask_size, book.ask_id = price, size, entry_id
            if book is not last_book or ts != last_ts:
                changed[book] = max(ts, changed.get(book, ts))
                last_book, last_ts = book, ts
        for book, ts in changed.items():
            if bad and book in bad:
                refused.append(Refused(book.symbol, bad[book]))
            else:
                self._emit(book, ts, sending_ns, recv_ts, marks, ticks, refused)

    def apply_quotes(self, found: Quotes, sending_ns: int, recv_ts: int, ticks: list[TickRow], refused: list[Refused]) -> None:
        """The same for a message of whole quotes; what is not remembered from earlier messages takes the long way."""
        by_text, prices, sizes, moments = self._by_text, self._prices, self._sizes, self._moments
        _, _, quotes = found
        if len(quotes) > 1 and len({by_text.get(quote[0]) for quote in quotes}) < len(quotes):
            # two spellings of one symbol give one tick all the same; of unknown symbols we cannot tell yet
            entries = [entry for quote in quotes for entry in as_market_data(found, quote).entries]
            self.apply(as_market_data(found, quotes[0])._replace(entries=entries), sending_ns, recv_ts, 0, ticks, refused)
            return
        for quote in quotes:
            text, date, time, bid_text, bid_size_text, bid_id, ask_text, ask_size_text, ask_id = quote
            book = by_text.get(text)
            ts = moments.get(date + b"-" + time)
            bid, bid_size = prices.get(bid_text), sizes.get(bid_size_text)
            ask, ask_size = prices.get(ask_text), sizes.get(ask_size_text)
            if book is None or ts is None or bid is None or ask is None or bid_size is None or ask_size is None:
                self.apply(as_market_data(found, quote), sending_ns, recv_ts, 0, ticks, refused)
                continue
            book.bid, book.bid_size, book.bid_id = bid, bid_size, bid_id
            book.ask, book.ask_size, book.ask_id = ask, ask_size, ask_id
            self._emit(book, ts, sending_ns, recv_ts, 0, ticks, refused)

    def apply_run(
        self, shape: RunShape, buffer: bytes, next_in: int, recv_ts: int, tolerance_ns: int, ticks: list[TickRow]
    ) -> tuple[int, int, int]:
        """Messages of one quote each, from the buffer's beginning for as long as they follow each other without anything odd.

        (position, next_in, SendingTime in ns of the last): what stands at `position` goes the framer's way, with its checks of
        everything that ends a run. The number, length and checksum of each message are checked here as they are there.
        """
        by_text, prices, sizes, moments = self._by_text, self._prices, self._sizes, self._moments
        match, pick, envelope_bytes = shape
        adler32, emit = zlib.adler32, self._emit
        position, sending, nothing_refused = 0, 0, list[Refused]()
        latest = recv_ts + min(tolerance_ns, FUTURE_MAX_NS)
        while found := match(buffer, position):
            (
                seq, sending_text, text, date, time, bid_text, bid_size_text, bid_id, ask_text, ask_size_text, ask_id,
                length, checksum,
            ) = pick(found.groups())  # fmt: skip
            end = found.end()
            checked = buffer[position : end - 7]
            if (
                int(seq) != next_in
                or end - position != envelope_bytes + len(length) + int(length)
                or end - position > EXACT_BYTES
                or not checked.isascii()
                or (adler32(checked) - 1) & 0xFF != int(checksum)
            ):
                break
            book, ts, sent = by_text.get(text), moments.get(date + b"-" + time), moments.get(sending_text)
            bid, bid_size = prices.get(bid_text), sizes.get(bid_size_text)
            ask, ask_size = prices.get(ask_text), sizes.get(ask_size_text)
            if book is None or ts is None or sent is None or bid is None or ask is None or bid_size is None or ask_size is None:
                try:
                    if not recv_ts - tolerance_ns <= self._clock.moment(sending_text) <= latest:
                        break  # before its symbol is opened: the session may refuse the message
                    self._remember(text, (date + b"-" + time, sending_text), (bid_text, ask_text), (bid_size_text, ask_size_text))
                except Rejected:
                    break
                continue  # the same message, now from memory
            if ts > latest or not recv_ts - tolerance_ns <= sent <= latest:
                break
            book.bid, book.bid_size, book.bid_id = bid, bid_size, bid_id
            book.ask, book.ask_size, book.ask_id = ask, ask_size, ask_id
            emit(book, ts, sent, recv_ts, 0, ticks, nothing_refused)
            position, sending = end, sent
            next_in += 1
        return position, next_in, sending

    def _remember(
        self, text: bytes, times: tuple[bytes, bytes], price_texts: tuple[bytes, bytes], size_texts: tuple[bytes, bytes]
    ) -> None:
        """Have all of a quote in memory; Rejected where something of it is not what it should be."""
        if isinstance(self._open(text), Refused) or text not in self._by_text:
            raise Rejected("not a symbol to remember")
        for time in times:
            self._clock.moment(time)
        for price_text in price_texts:
            self._prices.get(price_text) or self._price(price_text)
        for size_text in size_texts:
            if size_text not in self._sizes:
                self._size(size_text)

    def _emit(
        self, book: Top, ts: int, sending_ns: int, recv_ts: int, flags: int, ticks: list[TickRow], refused: list[Refused]
    ) -> None:
        """The book's top becomes a tick, with its flags and its number."""
        bid, ask = book.bid, book.ask
        if bid is None or ask is None:
            if bid is None and ask is None:
                refused.append(Refused(book.symbol, "no price on either side"))
                return
            flags |= _ONE_SIDED
        elif bid >= ask:
            flags |= _CROSSED if bid > ask else _LOCKED
        if ts - recv_ts > FUTURE_MAX_NS:
            refused.append(Refused(book.symbol, IN_THE_FUTURE))
            return
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
        ticks.append((book.symbol, self._provider, ts, seq, recv_ts, bid, ask, book.bid_size, book.ask_size, flags))

    def _event_time(self, message: MarketData, date: bytes | None, time: bytes | None, sending_ns: int) -> int:
        """272 and 273; 273 alone on the date nearest to SendingTime; else TransactTime; else SendingTime."""
        if time is None:
            return self._clock.moment(message.transact_time) if message.transact_time else sending_ns
        return self._clock.moment(date + b"-" + time) if date else self._clock.time_near(time, sending_ns)

    def _side(
        self,
        book: Top,
        action: bytes | None,
        side: bytes,
        entry_id: bytes | None,
        price_text: bytes | None,
        size_text: bytes | None,
    ) -> tuple[int | None, float | None, bytes | None]:
        """(price, size, id) an entry leaves on its side. What a change (279=1) does not mention stays as it was."""
        standing = (book.bid, book.bid_size, book.bid_id) if side == b"0" else (book.ask, book.ask_size, book.ask_id)
        if action == _DELETE:
            replaced = entry_id is not None and standing[2] is not None and entry_id != standing[2]
            return standing if replaced else (None, None, None)
        if action not in _STATES_A_SIDE:
            raise Rejected(f"MDUpdateAction {action!r} is not new, change or delete")
        price, size, _ = standing if action == b"1" else (None, None, None)
        if price_text is not None:
            price = self._prices.get(price_text) or self._price(price_text)
        elif action != b"1":
            raise Rejected("entry has no price")
        if size_text is not None:
            size = self._sizes.get(size_text)
            size = self._size(size_text) if size is None else size
        return price, size if price is not None else None, entry_id

    def _of_snapshot(self, symbol: bytes | None) -> Top | Refused:
        """Whose whole book a W replaces."""
        return Refused("", "snapshot without a symbol") if symbol is None else self._open(symbol)

    def _best_last(self, entries: Sequence[Entry]) -> Sequence[Entry]:
        """Of several bids or offers in a W the best is the top: it is put last, where it counts; of equals the first stated."""
        if any(entry[0] is not None for entry in entries):
            return entries  # actions, which have no place in a W, are taken in their order
        best: dict[bytes, tuple[int, Entry]] = {}
        for entry in entries:
            side, price_text = entry[1], entry[4] or b""
            if side is None or side not in _BOOK_SIDES:
                continue
            try:
                price = self._prices.get(price_text) or self._price(price_text)
                merit = price if side == b"0" else -price
            except Rejected:
                merit = PRICE_MAX  # it may have been the best: the side becomes unknown
            if side not in best or merit > best[side][0]:
                best[side] = merit, entry
        tops = [entry for _, entry in best.values()]
        return [*(entry for entry in entries if not any(entry is top for top in tops)), *tops]

    def _open(self, text: bytes) -> Top | Refused:
        symbol = self.canonical(text)
        if symbol is None:
            return Refused("", f"{text[:40]!r} is not a symbol")
        if self._listed is not None and symbol not in self._listed:
            return Refused(symbol, "symbol is not in the feed's list")
        book = self.books.get(symbol)
        if book is None:
            if len(self.books) >= SYMBOLS_MAX:
                return Refused(symbol, f"more than {SYMBOLS_MAX} symbols in one session")
            book = self.books[symbol] = self._new(symbol)
        if len(self._by_text) < 2 * SYMBOLS_MAX:
            self._by_text[text] = book
        return book

    def _new(self, symbol: str) -> Top:
        return Top(symbol)

    def _of_entry(self, action: bytes | None, entry_id: bytes | None, before: Top | Refused) -> Top | Refused:
        """An entry without a symbol: a change or delete may name a standing entry; else it is of the symbol of the one before."""
        if entry_id is None or action not in {b"1", _DELETE} or (isinstance(before, Top) and before.side_of(entry_id)):
            return before
        found = [book for book in self.books.values() if book.side_of(entry_id)]
        return found[0] if len(found) == 1 else before

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
        self.books = {fields[0]: Top(*fields) for fields in books}
