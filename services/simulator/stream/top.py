"""W and X of the best bid and ask alone: always both sides, the way to stream at full speed."""

from typing import cast

from services.simulator.ledger import Lines
from services.simulator.market.quote import Quote, Update
from services.simulator.stream.subscription import Request, Stream, TradeEntries
from services.simulator.wire import entry_time

_NEW, _CHANGE = b"0", b"1"


class TopStream(Stream):
    """`size` symbols a message."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self._size = size
        self._shown: set[bytes] = set()  # symbols whose entries the client knows
        self._templates: dict[bytes, bytes] = {}

    def add(self, symbol: bytes, request: Request) -> None:
        super().add(symbol, request)
        self._shown.discard(symbol)
        self._templates[symbol] = _entries_template(symbol)

    def updates(self, quotes: list[Quote], first_seq: int, lines: Lines) -> list[bytes]:
        groups = self.grouped(quotes, self._size)
        for seq, group in enumerate(groups, first_seq):
            lines.quotes.extend([(seq, quote) for quote in group])
        return [self._increment(group) for group in groups]

    def snapshot(self, request: Request, quote: Quote, seq: int, lines: Lines) -> bytes:
        lines.quotes.append((seq, quote))
        stamp = entry_time(quote.ts)
        sides = b"".join(
            b"269=%b\x01270=%b\x01%b%b" % (side, price, size and b"271=%b\x01" % size, stamp)
            for side, price, size in ((b"0", quote.bid, quote.bid_size), (b"1", quote.ask, quote.ask_size))
        )
        return b"262=%b\x0155=%b\x01268=2\x01%b" % (request.request_id, quote.symbol, sides)

    def _increment(self, group: list[Quote], more: bytes = b"", more_count: int = 0) -> bytes:
        """The body of an X. One that mixes the symbols of several requests names none."""
        requests, shown = self._requests, self._shown
        request = requests[group[0].symbol]
        request_field = b"262=%b\x01" % request.request_id
        entries = []
        for symbol, ts, bid, ask, bid_size, ask_size in group:
            action = _CHANGE
            if symbol not in shown:
                shown.add(symbol)
                action = _NEW
            if requests[symbol] is not request:
                request_field = b""
            stamp = entry_time(ts)
            bid_field, ask_field = bid_size and b"271=%b\x01" % bid_size, ask_size and b"271=%b\x01" % ask_size
            entries.append(self._templates[symbol] % (action, bid, bid_field, stamp, action, ask, ask_field, stamp))
        return b"%b268=%d\x01%b%b" % (request_field, 2 * len(group) + more_count, b"".join(entries), more)


class TradedTopStream(TopStream):
    """The same with trades: quotes are updates."""

    def __init__(self, size: int, trade_entries: TradeEntries) -> None:
        super().__init__(size)
        self._trade_entries = trade_entries

    def updates(self, quotes: list[Quote], first_seq: int, lines: Lines) -> list[bytes]:
        bodies = []
        for seq, group in enumerate(self.grouped(quotes, self._size), first_seq):
            lines.quotes.extend([(seq, quote) for quote in group])
            trades = [
                self._trade_entries.entry(update.trade, seq, lines)
                for update in cast("list[Update]", group)
                if update.trade is not None and self._requests[update.symbol].trades
            ]
            bodies.append(self._increment(group, b"".join(trades), len(trades)))
        return bodies


def _entries_template(symbol: bytes) -> bytes:
    """Both entries of a quote, to be filled with (action, price, size field, time fields) of bid and of ask."""
    return b"".join(
        b"279=%%b\x01269=%b\x01278=%b-%b\x0155=%b\x01270=%%b\x01%%b%%b" % (side, symbol, letter, symbol)
        for side, letter in ((b"0", b"B"), (b"1", b"A"))
    )
