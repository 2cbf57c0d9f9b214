"""What clients ask for once they are logged on: the list of symbols, market data, quotes.

market_data   V ─▶ W for each symbol, X later   else Y
quote         R ─▶ S, and S later               else AG, in FIX 4.2 b
mass_quote    R ─▶ i, and i later               else AG, in FIX 4.2 b
the list      x ─▶ y in fragments; in FIX 4.2 c ─▶ d, one a symbol
"""

from typing import Any

from services.simulator.channel import Channel
from services.simulator.provider import Provider
from services.simulator.publisher import Publisher
from services.simulator.stream.subscription import Request
from services.simulator.wire import Fields, number, text, values

LIST_FRAGMENT_SYMBOLS = 50

_UNKNOWN_SYMBOL, _DUPLICATE_ID, _PERMISSION = 0, 1, 3  # MDReqRejReason(281)
_QUOTE_REASONS = {_UNKNOWN_SYMBOL: 1, _DUPLICATE_ID: 99, _PERMISSION: 6}  # QuoteRequestRejectReason(658)
_QUOTE_REASONS_42 = {_UNKNOWN_SYMBOL: 1, _DUPLICATE_ID: 6, _PERMISSION: 9}  # QuoteRejectReason(300)


class Desk:
    """Of one session."""

    def __init__(self, provider: Provider, channel: Channel, publisher: Publisher) -> None:
        self.subscribed_at = provider.monotonic_s()
        self._provider = provider
        self._channel = channel
        self._publisher = publisher

    def handle(self, msg_type: str, message: Any, seq: int) -> None:
        """Any message that is not the session's own."""
        provider = self._provider
        lists = "c" if provider.fix == "FIX.4.2" else "x"
        subscribes = "V" if provider.stream == "market_data" else "R"
        if msg_type == lists and provider.listing:
            self._list(message)
        elif msg_type == subscribes == "V":
            self._on_market_data_request(message, seq)
        elif msg_type == subscribes:
            self._on_quote_request(message, seq)
        else:
            fields: Fields = [(45, seq), (372, msg_type), (380, 3), (58, "Unsupported message type")]
            self._channel.send("j", fields, resendable=True)

    def _list(self, message: Any) -> None:
        if self._provider.fix == "FIX.4.2":
            self._send_definitions(text(message, 320))
        else:
            self._send_list(text(message, 320))

    def _send_list(self, request_id: str) -> None:
        symbols = list(self._provider.symbols)
        for at in range(0, len(symbols), LIST_FRAGMENT_SYMBOLS):
            part = symbols[at : at + LIST_FRAGMENT_SYMBOLS]
            last = at + LIST_FRAGMENT_SYMBOLS >= len(symbols)
            fields: list[tuple[int, str | int | bytes]] = [
                (320, request_id), (322, f"{request_id}-{at}"), (560, 0), (393, len(symbols)),
                (893, "Y" if last else "N"), (146, len(part)),
            ]  # fmt: skip
            self._channel.send("y", fields + [(55, symbol) for symbol in part], resendable=True)

    def _send_definitions(self, request_id: str) -> None:
        symbols = self._provider.symbols
        for at, symbol in enumerate(symbols):
            fields: Fields = [(320, request_id), (322, f"{request_id}-{at}"), (323, 4), (393, len(symbols)), (55, symbol)]
            self._channel.send("d", fields, resendable=True)

    def _on_market_data_request(self, message: Any, seq: int) -> None:
        request_id: bytes = message.get(262) or b""
        kind, symbols = message.get(263), values(message, 55)
        if not request_id or kind not in {b"0", b"1", b"2"}:
            tag = 262 if not request_id else 263
            self._channel.reject(seq, 1, tag, "MDReqID and SubscriptionRequestType are required")
        elif kind == b"2":
            self._publisher.stream.remove(request_id)
        elif refusal := self._refusal(request_id, symbols, subscribes=kind == b"1"):
            reason, _, why = refusal
            self._channel.send("Y", [(262, request_id), (281, reason), (58, why)], resendable=True)
        else:
            request = Request(request_id, number(message, 264) or 0, trades=b"2" in values(message, 269))
            self._answer(request, symbols, subscribes=kind == b"1")

    def _on_quote_request(self, message: Any, seq: int) -> None:
        """It holds for as long as the session does: FIX has no way to end it."""
        request_id: bytes = message.get(131) or b""
        symbols = values(message, 55)
        if not request_id or not symbols:
            self._channel.reject(seq, 1, 131 if not request_id else 55, "QuoteReqID and Symbol are required")
        elif refusal := self._refusal(request_id, symbols, subscribes=True):
            reason, symbol, why = refusal
            if self._provider.fix == "FIX.4.2":
                fields: Fields = [(131, request_id), (297, 5), (300, _QUOTE_REASONS_42[reason]), (58, why)]
                self._channel.send("b", fields, resendable=True)
            else:
                fields = [(131, request_id), (658, _QUOTE_REASONS[reason]), (146, 1), (55, symbol), (58, why)]
                self._channel.send("AG", fields, resendable=True)
        else:
            self._answer(Request(request_id), symbols, subscribes=True)

    def _refusal(self, request_id: bytes, symbols: list[bytes], *, subscribes: bool) -> tuple[int, bytes, str] | None:
        """MDReqRejReason, the symbol that is to blame, and the words; a request is granted whole or not at all."""
        provider = self._provider
        for symbol in symbols:
            if symbol not in provider.symbols:
                return _UNKNOWN_SYMBOL, symbol, f"unknown symbol {symbol.decode('latin-1')}"
            if symbol in provider.refused:
                return _PERMISSION, symbol, f"no permission for {symbol.decode('latin-1')}"
        if subscribes and self._publisher.stream.has_request(request_id):
            return _DUPLICATE_ID, symbols[0] if symbols else b"", "duplicate request id"
        return None

    def _answer(self, request: Request, symbols: list[bytes], *, subscribes: bool) -> None:
        for symbol in symbols:
            if subscribes:
                self._publisher.stream.add(symbol, request)
                self.subscribed_at = self._provider.monotonic_s()
            if (quote := self._provider.snapshot(symbol)) is not None:
                self._publisher.show(request, quote)
