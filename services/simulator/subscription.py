"""What one client has subscribed to, and quotes as the entries it gets: W bodies and X bodies without their header."""

from services.simulator.quote import Quote
from services.simulator.wire import entry_time

_NEW, _CHANGE = b"0", b"1"


class Subscriptions:
    """Of one connection: symbols under the MDReqID they were asked for with."""

    def __init__(self) -> None:
        self._requests: dict[bytes, bytes] = {}  # symbol -> MDReqID
        self._shown: set[bytes] = set()  # symbols whose entries the client knows
        self._templates: dict[bytes, bytes] = {}

    def __len__(self) -> int:
        return len(self._requests)

    def has_request(self, request_id: bytes) -> bool:
        return request_id in self._requests.values()

    def add(self, symbol: bytes, request_id: bytes) -> None:
        self._requests[symbol] = request_id
        self._shown.discard(symbol)
        self._templates[symbol] = _entries_template(symbol)

    def remove(self, request_id: bytes) -> None:
        self._requests = {symbol: owner for symbol, owner in self._requests.items() if owner != request_id}

    def clear(self) -> None:
        self._requests.clear()

    def grouped(self, quotes: list[Quote], size: int) -> list[list[Quote]]:
        """What is subscribed to, by message: of each run of `size` quotes, which has no symbol twice."""
        requests = self._requests
        if size == 1:
            return [[quote] for quote in quotes if quote.symbol in requests]
        runs = (quotes[at : at + size] for at in range(0, len(quotes), size))
        return [group for run in runs if (group := [quote for quote in run if quote.symbol in requests])]

    def increment(self, group: list[Quote]) -> bytes:
        """The body of an X. One that mixes the symbols of several requests names none."""
        requests, shown = self._requests, self._shown
        request_id = requests[group[0].symbol]
        entries = []
        for symbol, ts, bid, ask, bid_size, ask_size in group:
            action = _CHANGE
            if symbol not in shown:
                shown.add(symbol)
                action = _NEW
            if requests[symbol] != request_id:
                request_id = b""
            stamp = entry_time(ts)
            bid_field, ask_field = bid_size and b"271=%b\x01" % bid_size, ask_size and b"271=%b\x01" % ask_size
            entries.append(self._templates[symbol] % (action, bid, bid_field, stamp, action, ask, ask_field, stamp))
        request = request_id and b"262=%b\x01" % request_id
        return b"%b268=%d\x01%b" % (request, 2 * len(group), b"".join(entries))


def snapshot(request_id: bytes, quote: Quote) -> bytes:
    """The body of a W."""
    stamp = entry_time(quote.ts)
    sides = b"".join(
        b"269=%b\x01270=%b\x01%b%b" % (side, price, size and b"271=%b\x01" % size, stamp)
        for side, price, size in ((b"0", quote.bid, quote.bid_size), (b"1", quote.ask, quote.ask_size))
    )
    return b"262=%b\x0155=%b\x01268=2\x01%b" % (request_id, quote.symbol, sides)


def _entries_template(symbol: bytes) -> bytes:
    """Both entries of a quote, to be filled with (action, price, size field, time fields) of bid and of ask."""
    return b"".join(
        b"279=%%b\x01269=%b\x01278=%b-%b\x0155=%b\x01270=%%b\x01%%b%%b" % (side, symbol, letter, symbol)
        for side, letter in ((b"0", b"B"), (b"1", b"A"))
    )
