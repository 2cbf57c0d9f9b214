"""What one client has subscribed to: what all kinds of stream have in common."""

from abc import ABC, abstractmethod
from typing import NamedTuple

from services.simulator.ledger import Lines, TradeLine
from services.simulator.market.quote import Quote, Trade
from services.simulator.wire import entry_time


class Request(NamedTuple):
    """MDReqID or QuoteReqID. `levels` a side, 0 for all; `trades`: these too."""

    request_id: bytes
    levels: int = 1
    trades: bool = False


class Stream(ABC):
    """Of one connection: symbols under the request they were asked for with."""

    snapshot_type = b"W"
    update_type = b"X"

    def __init__(self) -> None:
        self._requests: dict[bytes, Request] = {}  # by symbol

    def __len__(self) -> int:
        return len(self._requests)

    def has_request(self, request_id: bytes) -> bool:
        return any(request.request_id == request_id for request in self._requests.values())

    def add(self, symbol: bytes, request: Request) -> None:
        self._requests[symbol] = request

    def remove(self, request_id: bytes) -> None:
        self._requests = {symbol: request for symbol, request in self._requests.items() if request.request_id != request_id}

    def clear(self) -> None:
        self._requests.clear()

    def grouped(self, quotes: list[Quote], size: int) -> list[list[Quote]]:
        """What is subscribed to, by message: of each run of `size` quotes, which has no symbol twice."""
        requests = self._requests
        if size == 1:
            return [[quote] for quote in quotes if quote.symbol in requests]
        runs = (quotes[at : at + size] for at in range(0, len(quotes), size))
        return [group for run in runs if (group := [quote for quote in run if quote.symbol in requests])]

    @abstractmethod
    def updates(self, quotes: list[Quote], first_seq: int, lines: Lines) -> list[bytes]:
        """The bodies that tell of these quotes, numbered from `first_seq` on; what they say is added to `lines`."""

    @abstractmethod
    def snapshot(self, request: Request, quote: Quote, seq: int, lines: Lines) -> bytes:
        """The body that tells how things stand, in answer to a request."""


class TradeEntries:
    """Trades as entries of an X; from 5.0SP2 on with TradeID and AggressorSide."""

    def __init__(self, *, aggressor: bool) -> None:
        self._aggressor = aggressor

    def entry(self, trade: Trade, seq: int, lines: Lines) -> bytes:
        symbol, ts, price, size, buys, trade_id = trade
        side = (b"buy" if buys else b"sell") if self._aggressor else b""
        lines.trades.append(TradeLine(seq, symbol, ts, price, size, side, trade_id))
        size_field = size and b"271=%b\x01" % size
        body = b"55=%b\x01270=%b\x01%b%b" % (symbol, price, size_field, entry_time(ts))
        if self._aggressor:
            return b"279=0\x01269=2\x01%b1003=%b\x012446=%d\x01" % (body, trade_id, 1 if buys else 2)
        return b"279=0\x01269=2\x01278=%b\x01%b" % (trade_id, body)
