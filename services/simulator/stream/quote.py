"""S and i: each quote whole, for who asked for it by QuoteRequest."""

from collections import defaultdict

from services.simulator.ledger import Lines
from services.simulator.market.quote import Quote
from services.simulator.stream.subscription import Request, Stream
from services.simulator.wire import transact_time


class QuoteStream(Stream):
    """One Quote (S) a message."""

    snapshot_type = update_type = b"S"

    def __init__(self) -> None:
        super().__init__()
        self._number = 0  # of the last QuoteID

    def updates(self, quotes: list[Quote], first_seq: int, lines: Lines) -> list[bytes]:
        wanted = [quote for (quote,) in self.grouped(quotes, 1)]
        return [self.snapshot(self._requests[quote.symbol], quote, seq, lines) for seq, quote in enumerate(wanted, first_seq)]

    def snapshot(self, request: Request, quote: Quote, seq: int, lines: Lines) -> bytes:
        lines.quotes.append((seq, quote))
        self._number += 1
        return b"131=%b\x01117=Q%d\x01%b" % (request.request_id, self._number, _sides(quote))


class MassQuoteStream(Stream):
    """A MassQuote (i) has `size` symbols, in one QuoteSet for each request; the set's id is the QuoteReqID.

    underlying: the set names its first symbol in UnderlyingSymbol(311), as FIX 4.2 demands.
    """

    snapshot_type = update_type = b"i"

    def __init__(self, size: int, *, underlying: bool) -> None:
        super().__init__()
        self._size = size
        self._underlying = underlying
        self._number = 0

    def updates(self, quotes: list[Quote], first_seq: int, lines: Lines) -> list[bytes]:
        groups = self.grouped(quotes, self._size)
        return [self._mass_quote(group, seq, lines) for seq, group in enumerate(groups, first_seq)]

    def snapshot(self, request: Request, quote: Quote, seq: int, lines: Lines) -> bytes:
        lines.quotes.append((seq, quote))
        return self._body({request.request_id: [quote]})

    def _mass_quote(self, group: list[Quote], seq: int, lines: Lines) -> bytes:
        sets: defaultdict[bytes, list[Quote]] = defaultdict(list)
        for quote in group:
            sets[self._requests[quote.symbol].request_id].append(quote)
        for quotes in sets.values():
            lines.quotes.extend([(seq, quote) for quote in quotes])
        return self._body(sets)

    def _body(self, sets: dict[bytes, list[Quote]]) -> bytes:
        self._number += 1
        pieces = [b"117=Q%d\x01296=%d\x01" % (self._number, len(sets))]
        for set_id, quotes in sets.items():
            underlying = b"311=%b\x01" % quotes[0].symbol if self._underlying else b""
            pieces.append(b"302=%b\x01%b304=%d\x01295=%d\x01" % (set_id, underlying, len(quotes), len(quotes)))
            pieces += [b"299=%d\x01%b" % (entry, _sides(quote)) for entry, quote in enumerate(quotes, 1)]
        return b"".join(pieces)


def _sides(quote: Quote) -> bytes:
    symbol, ts, bid, ask, bid_size, ask_size = quote
    bid_field, ask_field = bid_size and b"134=%b\x01" % bid_size, ask_size and b"135=%b\x01" % ask_size
    return b"55=%b\x01132=%b\x01133=%b\x01%b%b%b" % (symbol, bid, ask, bid_field, ask_field, transact_time(ts))
