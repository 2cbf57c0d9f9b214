"""What we ask an LP for, and what it says to that.

logged on ─▶ symbols = "all": x (4.2: c) ─▶ y (4.2: d) ─▶ V or R for each symbol ─▶ W, X or S, i
└▶ a list: V or R for each                     └▶ Y, AG, b, AI: refused, and not asked for again on this connection
"""

from services.gateway.feeds import FixFeed
from services.gateway.fix.state import Asked, Fields, Send
from services.gateway.fix.wire import Message
from services.gateway.market.top import SYMBOLS_MAX

LISTS_SYMBOLS = "y"  # SecurityList
LISTS_SYMBOLS_42 = "d"  # SecurityDefinition


class Subscriptions:
    """Of one connection; `asked` and `sends` are the session's. Request ids (262, 131, 320) are never used twice (50)."""

    def __init__(self, feed: FixFeed, asked: Asked, sends: list[Send]) -> None:
        self.asked = asked
        self.list_refused: str | None = None
        self._feed = feed
        self._sends = sends

    @property
    def symbols(self) -> list[str]:
        """As the LP spells them, in the order it listed them."""
        return list(self.asked.symbols)

    @property
    def refused(self) -> dict[str, str]:
        """Symbol → why the LP does not quote it."""
        return self.asked.refused

    def connected(self, connection: str) -> None:
        """Nothing is asked for yet; `connection` has never been used before."""
        asked = self.asked
        asked.connection = connection
        asked.unanswered = None
        asked.requests = {}
        asked.refused = {}

    def begin(self) -> None:
        """We are logged on."""
        self.asked.symbols = {}
        self.list_refused = None
        if self._feed.symbols == "all":
            self._ask_for_list()
        else:
            self.add(list(self._feed.symbols))

    def _ask_for_list(self) -> None:
        if self._feed.begin_string == "FIX.4.2":  # has no SecurityListRequest
            self._sends.append(Send("c", [(320, self._new_id()), (321, 3)]))
        else:
            self._sends.append(Send("x", [(320, self._new_id()), (559, 4)]))

    def add(self, symbols: list[str]) -> None:
        """One request a symbol, so that a refusal names it."""
        known, refused = self.asked.symbols, self.asked.refused
        for symbol in symbols:
            if not (symbol.isprintable() and symbol.isascii()):
                if len(refused) < SYMBOLS_MAX:
                    refused[symbol] = "cannot be asked for: not printable ASCII"
            elif symbol not in known and len(known) < SYMBOLS_MAX:
                known[symbol] = None
                self._request(symbol)

    def resubscribe(self) -> None:
        """(51) Fresh snapshots for all: end the old requests, make new ones."""
        self.unsubscribe()
        for symbol in self.symbols:
            if symbol not in self.refused:
                self._request(symbol)

    def unsubscribe(self) -> None:
        """(53) End every request that stands. A QuoteRequest ends with the session: FIX has no other way."""
        if self._feed.subscribe_by == "market_data":
            for request, symbol in self.asked.requests.items():
                if symbol not in self.refused:
                    self._sends.append(Send("V", self._market_data_request(request, "2", symbol)))
        self.asked.requests = {}

    def _request(self, symbol: str) -> None:
        request = self._new_id()
        self.asked.requests[request] = symbol
        if self._feed.subscribe_by == "market_data":
            self._sends.append(Send("V", self._market_data_request(request, "1", symbol)))
        else:
            self._sends.append(Send("R", [(131, request), (146, 1), (55, symbol)]))

    def _market_data_request(self, request: str, kind: str, symbol: str) -> Fields:
        """Snapshot and updates (or their end), incremental, one symbol."""
        types = (0, 1, 2) if self._feed.trades else (0, 1)
        fields: Fields = [(262, request), (263, kind), (264, self._feed.market_depth), (265, 1), (267, len(types))]
        return [*fields, *((269, entry_type) for entry_type in types), (146, 1), (55, symbol)]

    def _new_id(self) -> str:
        self.asked.number += 1
        return f"{self.asked.connection}-{self.asked.number}"

    def symbol_of(self, *requests: str) -> str | None:
        """The symbol that one of the ids was made for, as the LP spells it."""
        made = self.asked.requests
        return next((made[request] for request in requests if request in made), None)

    # ---- what happens to our requests

    def sent(self, msg_type: bytes, seq: int) -> None:
        if msg_type in {b"x", b"c", b"V", b"R"} and self.asked.unanswered is None:
            self.asked.unanswered = seq

    def answered(self) -> None:
        self.asked.unanswered = None

    def missed(self, last: int) -> None:
        """(42) The LP has not seen our messages up to `last`, and they are filled: what it never answered is asked anew."""
        if self.asked.unanswered is None or self.asked.unanswered > last:
            return
        self.asked.unanswered = None
        if self._feed.symbols == "all" and not self.symbols:
            self._ask_for_list()
        else:
            self.resubscribe()

    def listed(self, message: Message) -> None:
        """A SecurityList, or in 4.2 a SecurityDefinition: the symbols in it, in one message or in many."""
        self.answered()
        if message.get(560) not in {None, b"0"} or message.get(323) == b"5":
            self.no_list(f"560={message.text(560)} 323={message.text(323)} {message.text(58)}")
        named = [value for tag, value in message.fields if tag == 55] or [value for tag, value in message.fields if tag == 311]
        self.add([value.decode("utf-8", "replace") for value in named])

    def no_list(self, why: str) -> None:
        self.list_refused = (
            f'the LP does not list its symbols ({why.strip()}): name them in the feed\'s `symbols` instead of "all"'
        )

    def rejected(self, msg_type: str) -> bool:
        """A Reject or BusinessMessageReject of a request of ours; whether it was the one for the list."""
        return msg_type in {"x", "c"} and not self.symbols

    def refuse(self, request: str, symbol: str, why: str) -> None:
        """(49) Not asked for again on this connection. The request's id or its symbol tells which."""
        found = self.asked.requests.get(request) or (symbol if symbol in self.asked.symbols else None)
        if found is not None:
            self.refused[found] = why
