"""Messages that are nothing but whole quotes: a bid and an ask of one symbol at one time, for each of their symbols.

Most of what an LP sends is this. The expression of such a shape requires the ask to repeat symbol and time of its bid, so that
one match leaves nothing to compare: half the work of the decoder, which takes everything else. Results are equal
(tests/unit/gateway: property-tested).
"""

import re
from collections.abc import Callable
from operator import itemgetter
from typing import NamedTuple

from services.gateway.fix.decoder import GROUP_COUNT, NEEDED, UNFIT, Entry, MarketData, layout
from services.gateway.fix.wire import Message

# Symbol, MDEntryDate, MDEntryTime, then price, size and MDEntryID of the bid and of the ask; an id may be absent
Quote = tuple[bytes, bytes, bytes, bytes, bytes, bytes | None, bytes, bytes, bytes | None]

SHAPES_MAX = 8  # tried in turn; an LP that sends more shapes of whole quotes than this is served by the decoder
QUOTES_MAX = 20  # in one message

_DIGITS = {9: b"[0-9]{1,7}+", 10: b"[0-9]{3}", 34: b"[0-9]{1,18}+"}

_ACTION, _SIDE, _SYMBOL, _ID, _PRICE, _SIZE, _DATE, _TIME = range(8)  # the columns of decoder.ENTRY_TAGS


class Quotes(NamedTuple):
    seq: int
    sending_time: bytes
    quotes: list[Quote]


Matcher = Callable[[bytes], Quotes | None]


class RunShape(NamedTuple):
    """A shape of one quote, for messages that follow each other in a buffer: `market.apply_run` takes them without framing."""

    match: Callable[[bytes, int], re.Match[bytes] | None]
    pick: Callable[[tuple[bytes | None, ...]], tuple[bytes, ...]]  # of its groups: seq, sending time, Quote, BodyLength, CheckSum
    envelope_bytes: int  # of a frame besides its body and the digits of its BodyLength


def as_market_data(found: Quotes, quote: Quote) -> MarketData:
    """One of the quotes as the decoder would give it."""
    symbol, date, time, bid, bid_size, bid_id, ask, ask_size, ask_id = quote
    entries: list[Entry] = [
        (b"0", b"0", symbol, bid_id, bid, bid_size, date, time),
        (b"0", b"1", symbol, ask_id, ask, ask_size, date, time),
    ]
    return MarketData(found.seq, found.sending_time, None, None, snapshot=False, entries=entries)


class QuoteMatcher:
    """For one direction of one session, as the decoder."""

    def __init__(self, begin_string: str, sender: str, target: str) -> None:
        self._identity = {8: begin_string.encode(), 49: sender.encode(), 56: target.encode()}
        self._matchers: list[Matcher] = []
        self._last: Matcher = lambda _frame: None
        self._runs: dict[Matcher, RunShape] = {}
        self._learnt: set[tuple[bytes | None, tuple[int, ...]]] = set()

    def match(self, frame: bytes) -> Quotes | None:
        """The quotes of a frame of a known shape, each of another symbol; None: let the decoder look at it."""
        found = self._last(frame)
        if found is not None:
            return found
        for matcher in self._matchers:
            found = matcher(frame)
            if found is not None:
                self._last = matcher
                return found
        return None

    @property
    def run_shape(self) -> RunShape | None:
        """The shape of the last message that matched, if it holds one quote."""
        return self._runs.get(self._last)

    def learn(self, message: Message) -> None:
        """Remember the shape of a parsed W or X whose header was accepted, if it is one of whole quotes."""
        tags = tuple(tag for tag, _ in message.fields)
        shape = (message.get(35), tags)
        if shape in self._learnt or len(self._matchers) >= SHAPES_MAX or not set(tags) >= NEEDED or not UNFIT.isdisjoint(tags):
            return
        header, entries = layout(message)
        fields = message.fields
        quotes = list(zip(entries[::2], entries[1::2], strict=False))
        incremental = message.get(35) == b"X"
        if len(entries) % 2 or not 1 <= len(quotes) <= (QUOTES_MAX if incremental else 1):
            return
        if not all(_is_quote(bid, ask, fields, incremental=incremental) for bid, ask in quotes):
            return
        self._learnt.add(shape)
        self._matchers.append(self._compile(fields, header, quotes, incremental=incremental))

    def _compile(
        self,
        fields: list[tuple[int, bytes]],
        header: dict[int, int],
        quotes: list[tuple[list[int | None], list[int | None]]],
        *,
        incremental: bool,
    ) -> Matcher:
        captured = {header[9], header[34], header[52], len(fields) - 1}
        repeated: dict[int | None, int | None] = {}  # index of a field that must equal an earlier one -> that one's
        literal: dict[int | None, bytes] = {}
        for bid, ask in quotes:
            captured |= {index for entry in (bid, ask) for index in entry[_SYMBOL:] if index is not None}
            repeated |= {ask[column]: bid[column] for column in (_SYMBOL, _DATE, _TIME) if ask[column] != bid[column]}
            literal |= {bid[_SIDE]: b"0", ask[_SIDE]: b"1"}
            if incremental:
                literal |= dict.fromkeys((bid[_ACTION], ask[_ACTION]), b"[01]")
        pattern = b""
        groups: dict[int | None, int] = {}
        for index, (tag, value) in enumerate(fields):
            if index in literal:
                text = literal[index]
            elif index in repeated:
                text = b"(?P=g%d)" % groups[repeated[index]]
            elif tag in {8, 35, 49, 56, GROUP_COUNT}:
                text = re.escape(self._identity.get(tag, value))
            elif index in captured:
                text = b"(?P<g%d>%s)" % (len(groups), _DIGITS.get(tag, b"[^\x01]++"))
                groups[index] = len(groups)
            else:
                text = b"[^\x01]++"
            pattern += b"%d=%s\x01" % (tag, text)
        groups[None] = len(groups)
        pattern += b"(\x00)?"  # never there: the None of an absent id
        indexes: list[int | None] = [header[34], header[52]]
        for bid, ask in quotes:
            indexes += [bid[_SYMBOL], bid[_DATE], bid[_TIME]]
            indexes += [entry[column] for entry in (bid, ask) for column in (_PRICE, _SIZE, _ID)]
        pick = itemgetter(*(groups[index] for index in indexes))
        compiled, new, count = re.compile(pattern), tuple.__new__, len(quotes)
        match = compiled.fullmatch
        starts = range(2, len(indexes), 9)

        def matcher(frame: bytes) -> Quotes | None:
            found = match(frame)
            if found is None:
                return None
            values = pick(found.groups())
            if count == 1:
                return new(Quotes, (int(values[0]), values[1], [values[2:]]))
            picked = [values[at : at + 9] for at in starts]
            if len({quote[0] for quote in picked}) < count:
                return None  # one symbol twice is still one tick a message
            return new(Quotes, (int(values[0]), values[1], picked))

        if count == 1:
            pick_all = itemgetter(*(groups[index] for index in (*indexes, header[9], len(fields) - 1)))
            envelope_bytes = len(b"8=%s\x019=\x01" % self._identity[8]) + len(b"10=000\x01")
            self._runs[matcher] = RunShape(compiled.match, pick_all, envelope_bytes)
        return matcher


def _is_quote(bid: list[int | None], ask: list[int | None], fields: list[tuple[int, bytes]], *, incremental: bool) -> bool:
    """Whether two entries are a whole bid and a whole ask of one symbol at one time."""

    def value(entry: list[int | None], column: int) -> bytes | None:
        index = entry[column]
        return None if index is None else fields[index][1]

    whole = all(entry[column] is not None for entry in (bid, ask) for column in (_SYMBOL, _PRICE, _SIZE, _DATE, _TIME))
    # what the ask repeats must stand behind what it repeats; a Symbol before the group may be that of the second entry only
    in_order = whole and all((bid[column] or 0) <= (ask[column] or 0) for column in (_SYMBOL, _DATE, _TIME))
    same = all(value(bid, column) == value(ask, column) for column in (_SYMBOL, _DATE, _TIME))
    actions = {value(bid, _ACTION), value(ask, _ACTION)} <= ({b"0", b"1"} if incremental else {None})
    return in_order and same and actions and value(bid, _SIDE) == b"0" and value(ask, _SIDE) == b"1"
