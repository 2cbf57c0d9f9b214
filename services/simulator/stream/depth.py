"""W and X of a book: each client gets what has changed in as many levels as it asked for.

    update ─▶ the client's levels, before and after ─▶ deletes, the last first ─▶ new ones and changes, the first first ─▶ X

In this order every change holds in all three ways to address a level: a position never depends on what comes
later, and no side is ever longer than what was asked for. A change that is not among the client's levels is no message.
"""

from typing import NamedTuple, cast

from services.simulator.ledger import LevelLine, Lines
from services.simulator.market.quote import Level, Levels, Quote, Update
from services.simulator.provider import DepthBy
from services.simulator.stream.subscription import Request, Stream, TradeEntries
from services.simulator.wire import entry_time

_BID, _ASK = b"0", b"1"
_NEW, _CHANGE, _DELETE = b"0", b"1", b"2"


class _Change(NamedTuple):
    """`position` from 1, where the change happens when all those before it have."""

    action: bytes
    position: int
    level: Level


class DepthStream(Stream):
    """One symbol a message. `trade_entries` are for those who asked for trades."""

    def __init__(self, by: DepthBy, trade_entries: TradeEntries) -> None:
        super().__init__()
        self._by = by
        self._trade_entries = trade_entries
        self._shown: dict[bytes, tuple[Levels, Levels]] = {}  # by symbol: what the client knows, and what stands behind it

    def add(self, symbol: bytes, request: Request) -> None:
        super().add(symbol, request)
        self._shown[symbol] = (), ()

    def updates(self, quotes: list[Quote], first_seq: int, lines: Lines) -> list[bytes]:
        bodies = []
        seq = first_seq
        for update in cast("list[Update]", quotes):
            request = self._requests.get(update.symbol)
            if request is not None and (entries := self._changes(request, update, seq, lines)):
                lines.quotes.append((seq, update))
                if update.trade is not None and request.trades:
                    entries.append(self._trade_entries.entry(update.trade, seq, lines))
                bodies.append(b"262=%b\x01268=%d\x01%b" % (request.request_id, len(entries), b"".join(entries)))
                seq += 1
        return bodies

    def snapshot(self, request: Request, quote: Quote, seq: int, lines: Lines) -> bytes:
        update = cast("Update", quote)
        levels = request.levels or None
        symbol = update.symbol
        if self._requests.get(symbol) is request:
            self._shown[symbol] = update.bids, update.asks
        lines.quotes.append((seq, update))
        stamp = entry_time(update.ts)
        entries = []
        for side, standing in ((_BID, update.bids), (_ASK, update.asks)):
            for position, level in enumerate(standing[:levels], 1):
                entry_id, position_text, price, size = self._fields(_NEW, position, level)
                lines.levels.append(LevelLine(seq, b"W", symbol, update.ts, _NEW, side, entry_id, position_text, price, size))
                entries.append(b"269=%b\x01%b" % (side, _entry(b"", entry_id, position_text, price, size, stamp)))
        return b"262=%b\x0155=%b\x01268=%d\x01%b" % (request.request_id, symbol, len(entries), b"".join(entries))

    def _changes(self, request: Request, update: Update, seq: int, lines: Lines) -> list[bytes]:
        shown = self._shown[update.symbol]
        now = self._shown[update.symbol] = update.bids, update.asks
        levels = request.levels or None
        entries: list[bytes] = []
        stamp = entry_time(update.ts)
        symbol_field = b"55=%b\x01" % update.symbol
        for side, old, new in ((_BID, shown[0], now[0]), (_ASK, shown[1], now[1])):
            if old is new:
                continue
            for action, position, level in changes(old[:levels], new[:levels], moves=self._by != "price"):
                entry_id, position_text, price, size = self._fields(action, position, level)
                lines.levels.append(
                    LevelLine(seq, b"X", update.symbol, update.ts, action, side, entry_id, position_text, price, size)
                )
                entry = _entry(symbol_field, entry_id, position_text, price, size, stamp)
                entries.append(b"279=%b\x01269=%b\x01%b" % (action, side, entry))
        return entries

    def _fields(self, action: bytes, position: int, level: Level) -> tuple[bytes, bytes, bytes, bytes]:
        """Id, position, price and size as they are said: of a deleted level only what addresses it."""
        entry_id = level.entry_id if self._by == "id" else b""
        position_text = b"%d" % position if self._by == "position" else b""
        if action == _DELETE:
            return entry_id, position_text, level.price if self._by == "price" else b"", b""
        return entry_id, position_text, level.price, level.size


def changes(old: Levels, new: Levels, *, moves: bool) -> list[_Change]:
    """What makes `new` of `old`. moves: a level keeps its identity at another price; else it is deleted and comes anew."""
    start = 0
    for before, after in zip(old, new, strict=False):
        if before != after:
            break
        start += 1
    stays = {level.entry_id: level for level in new[start:]}
    found: list[_Change] = []
    known: dict[bytes, Level] = {}
    for position, level in enumerate(old[start:], start + 1):
        stays_as = stays.get(level.entry_id)
        if stays_as is None or (not moves and stays_as.price != level.price):
            found.append(_Change(_DELETE, position, level))
        else:
            known[level.entry_id] = level
    found.reverse()
    for position, level in enumerate(new[start:], start + 1):
        stood_as = known.get(level.entry_id)
        if stood_as is None:
            found.append(_Change(_NEW, position, level))
        elif stood_as != level:
            found.append(_Change(_CHANGE, position, level))
    return found


def _entry(symbol_field: bytes, entry_id: bytes, position: bytes, price: bytes, size: bytes, stamp: bytes) -> bytes:
    """What follows MDEntryType."""
    return b"%b%b%b%b%b%b" % (
        entry_id and b"278=%b\x01" % entry_id,
        symbol_field,
        price and b"270=%b\x01" % price,
        size and b"271=%b\x01" % size,
        stamp,
        position and b"290=%b\x01" % position,
    )
