"""What an LP might say: whole conversations, right in every byte, of a version and with the quirks of some engine.

Prices and sizes are never stated twice, but where a quote is repeated, so that a tick says which message it comes of.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Any

import msgspec

from libs.common.domain.moment import NS_PER_MS, NS_PER_S
from services.gateway.fix.wire import format_sending_time
from tests.unit.gateway.gateway_lp import T0, fields_of, frame_of

VERSIONS: list[dict[str, Any]] = [
    {"begin_string": "FIX.4.2"},
    {"begin_string": "FIX.4.4"},
    {"begin_string": "FIXT.1.1", "default_appl_ver_id": "9"},
]
SYMBOLS = ("EUR/USD", "GBP/USD", "XAU/USD", "BTCUSD")
SPELT = {"EUR/USD": "EURUSD.r"}  # another spelling, by alias
JUMPS_S = (1, 6, 31, 3600, 86_400, -1, -3600)

Fields = list[tuple[int, object]]


@dataclass(frozen=True)
class Event:
    """kind: opened, in, clock or closed; `data` of `in`: bytes received, of `clock`: groups that have gone stale."""

    kind: str
    at: int
    data: bytes = b""


@dataclass(frozen=True)
class Conversation:
    settings: dict[str, Any]  # of the feed
    events: list[Event]  # one frame an event
    quoted: list[tuple[str, int]] = field(default_factory=list)  # (symbol, bid) of what must become a tick each: depth 1 only


class Talk:
    """Builds one conversation."""

    def __init__(self, random: Random) -> None:
        self._random = random
        depth = random.choice((1, 1, 1, 0, 3))
        self.settings: dict[str, Any] = {
            **random.choice(VERSIONS),
            "symbols": random.choice(("all", SYMBOLS)),
            "aliases": {spelt: symbol for symbol, spelt in SPELT.items()},
            "market_depth": depth,
            "trades": random.random() < 0.25,
            "book_interval_s": random.choice((0, 1)),
            "reset_on_logon": random.random() < 0.5,
            "next_expected_seq_num": random.random() < 0.2,
            "resend_chunk": random.choice((0, 0, 2)),
            "sending_time_tolerance_s": random.choice((0, 120)),
            "subscribe_by": random.choice(("market_data", "market_data", "quote_request")),
        }
        self._begin = self.settings["begin_string"].encode()
        self._header = random.choice(((35, 34, 49, 52, 56), (35, 49, 56, 34, 52), (35, 34, 49, 56, 52)))
        self._dated = random.random() < 0.8  # entries have a date and a time
        self._sized = random.random() < 0.8  # all of them have a size
        self._digits = random.choice((0, 3, 6, 9))
        self._now = T0 + random.randrange(NS_PER_S)
        self._seq = 1
        self._price = 0
        self._sizes = self._ids = 0
        self.events: list[Event] = []
        self.quoted: list[tuple[str, int]] = []

    # ---- frames

    def frame(self, msg_type: str, fields: Fields, *, seq: int | None = None, resent: bool = False) -> bytes:
        number = self._seq if seq is None else seq
        self._seq += seq is None
        stamp = format_sending_time(self._now)
        head = {35: msg_type, 34: number, 49: "LP1", 52: stamp, 56: "TICKVAULT"}
        dup: Fields = [(43, "Y"), (122, stamp)] if resent else []
        return frame_of(fields_of(*((tag, head[tag]) for tag in self._header), *dup, *fields), self._begin)

    def _say(self, data: bytes) -> None:
        self.events.append(Event("in", self._now, data))
        self._now += self._random.choice((0, 1000, NS_PER_MS))

    def send(self, msg_type: str, fields: Fields = (), **more: Any) -> None:
        self._say(self.frame(msg_type, list(fields), **more))

    # ---- parts of a conversation

    def connect(self) -> None:
        self.events.append(Event("opened", self._now))
        if self.settings["reset_on_logon"]:
            self._seq = 1
        fields: Fields = [(98, 0), (108, 30)]
        fields += [(141, "Y")] if self.settings["reset_on_logon"] else []
        fields += [(1137, 9)] if self._begin == b"FIXT.1.1" else []
        self.send("A", fields)
        if self.settings["symbols"] == "all" and self._random.random() < 0.5:
            self._list()

    def _list(self) -> None:
        named: Fields = [(55, symbol) for symbol in SYMBOLS]
        if self._begin == b"FIX.4.2":
            for symbol in SYMBOLS:
                self.send("d", [(320, 1), (322, 1), (323, 4), (393, 4), (55, symbol)])
        else:
            self.send("y", [(320, 1), (322, 1), (560, 0), (146, len(named)), *named])

    def disconnect(self) -> None:
        if self._random.random() < 0.5:
            self.send("5", [(58, "goodbye")])
        if self._random.random() < 0.8:  # else the process died, and the next record is an `opened`
            self.events.append(Event("closed", self._now))
        self._now += self._random.choice((1, 5)) * NS_PER_S

    def _new_price(self) -> tuple[str, str]:
        self._price += 1
        return f"{1 + self._price / 100_000:.5f}", f"{3 + self._price / 100_000:.5f}"

    def _new_size(self) -> str:
        """Never the same but for 0."""
        self._sizes += 1
        return self._random.choice((str(self._sizes), f"{self._sizes}.5", f"{self._sizes}000", "0"))

    def _new_id(self) -> str:
        self._ids += 1
        return f"e{self._ids}"

    def _time(self) -> Fields:
        if not self._dated:
            return []
        second, nanosecond = divmod(self._now, NS_PER_S)
        text = format_sending_time(second * NS_PER_S)[9:17]
        fraction = f".{nanosecond:09d}"[: self._digits + 1] if self._digits else ""
        return [(272, format_sending_time(self._now)[:8]), (273, text + fraction)]

    def _entry(self, side: str, price: str | None, *, action: str | None, symbol: str | None, **more: object) -> Fields:
        stated: Fields = [(279, action)] if action is not None else []
        stated += [(269, side)]
        stated += [(278, more["entry_id"])] if "entry_id" in more else []
        stated += [(55, symbol)] if symbol else []
        stated += [(270, price)] if price is not None else []
        stated += [(271, self._new_size())] if action != "2" and (self._sized or self._random.random() < 0.8) else []
        stated += [(290, more["position"])] if "position" in more else []
        return [*stated, *self._time()]

    def _spelt(self, symbol: str) -> str:
        return self._random.choice((symbol, symbol.lower(), SPELT.get(symbol, symbol)))

    def quote(self, symbol: str, kind: str) -> tuple[Fields, int]:
        """A bid and an offer, in the words of an X, W, S or i; and the bid."""
        bid, offer = self._new_price()
        price = round(float(bid) * 100_000) * 10_000
        spelt = self._spelt(symbol)
        if kind == "X":
            entries = [self._entry(side, text, action="0", symbol=spelt) for side, text in (("0", bid), ("1", offer))]
            return [(268, 2), *entries[0], *entries[1]], price
        if kind == "W":
            entries = [self._entry(side, text, action=None, symbol=None) for side, text in (("0", bid), ("1", offer))]
            return [(262, "r"), (55, spelt), (268, 2), *entries[0], *entries[1]], price
        if kind == "S":
            sizes = (134, self._new_size()), (135, self._new_size())
            return [(131, "r"), (117, "q"), (55, spelt), (132, bid), (133, offer), *sizes], price
        return [
            (117, "q"),
            (301, 1),
            (296, 1),
            (302, "s"),
            (304, 1),
            (295, 1),
            (299, 0),
            (55, spelt),
            (132, bid),
            (133, offer),
        ], price

    def _quote_of_any_kind(self) -> tuple[str, Fields, tuple[str, int]]:
        kind = self._random.choice("XXXXWSi")
        symbol = self._random.choice(SYMBOLS)
        fields, bid = self.quote(symbol, kind)
        return kind, fields, (symbol, bid)

    def burst(self) -> None:
        """Quotes of one shape, as most of a day is."""
        kind, symbol = self._random.choice("XXXW"), self._random.choice(SYMBOLS)
        said = []
        for _ in range(self._random.choice((3, 10, 40))):
            if not said or self._random.random() < 0.7:
                said.append(self.quote(symbol, kind))
            fields, bid = self._random.choice(said[-2:])
            self.send(kind, fields)
            self.quoted.append((symbol, bid))

    def wide(self) -> None:
        """Quotes of several symbols in each message."""
        symbols = self._random.sample(SYMBOLS, self._random.choice((2, 3, 4)))
        for _ in range(self._random.choice((2, 10))):
            rows: Fields = []
            for symbol in symbols:
                fields, bid = self.quote(symbol, "X")
                rows += fields[1:]
                self.quoted.append((symbol, bid))
            self.send("X", [(268, 2 * len(symbols)), *rows])

    def quotes(self) -> None:
        for _ in range(self._random.randint(1, 6)):
            kind, fields, quoted = self._quote_of_any_kind()
            self.send(kind, fields)
            self.quoted.append(quoted)

    def hole(self) -> None:
        """Some messages do not arrive; then they are resent, filled, or some of both, with live ones between."""
        missing = []
        for _ in range(self._random.randint(1, 5)):
            kind, fields, quoted = self._quote_of_any_kind()
            self._seq += 1
            missing.append((self._seq - 1, kind, fields, quoted))
        self.quotes()
        resent = self._random.random() < 0.7
        while missing:
            seq, kind, fields, quoted = missing[0]
            if resent:
                self.send(kind, fields, seq=seq, resent=True)
                self.quoted.append(quoted)
                del missing[0]
            else:
                count = self._random.randint(1, len(missing))
                self.send("4", [(123, "Y"), (36, seq + count)], seq=seq, resent=True)
                del missing[:count]
            if self._random.random() < 0.2:
                self.quotes()
            resent = self._random.random() < 0.7

    def depth(self) -> None:
        """A book by id, by position or by price."""
        symbol, way = self._random.choice(SYMBOLS), self._random.choice(("id", "position", "price"))
        levels = self._random.choice((2, 5, 12))
        rows = [self._level(side, level, way, action=None) for level in range(levels) for side in "01"]
        self.send("W", [(55, symbol), (268, len(rows)), *(pair for row in rows for pair in row)])
        for _ in range(self._random.randint(1, 8)):
            rows = []
            for _ in range(self._random.choice((1, 1, 2, 5))):
                side, level = self._random.choice("01"), self._random.randrange(levels)
                action = self._random.choice(("0", "1", "2", "2", *("345" if way == "position" else "")))
                rows.append(self._level(side, level, way, action=action, symbol=symbol))
            self.send("X", [(268, len(rows)), *(pair for row in rows for pair in row)])

    def _level(self, side: str, level: int, way: str, *, action: str | None, symbol: str | None = None) -> Fields:
        bid, offer = self._new_price()
        price = bid if side == "0" else offer
        more: dict[str, object] = {"entry_id": self._random.choice((f"l{side}{level}", self._new_id()))} if way == "id" else {}
        if way == "position":
            more["position"] = level + 1
        return self._entry(side, price, action=action, symbol=symbol, **more)

    def trade(self) -> None:
        for _ in range(self._random.choice((1, 1, 5))):
            symbol = self._random.choice(SYMBOLS)
            row = self._entry("2", self._new_price()[0], action="0", symbol=symbol, entry_id=self._new_id())
            self.send("X", [(268, 1), *row])

    def odds(self) -> None:
        """What else an LP sends."""
        random, symbol = self._random, self._random.choice(SYMBOLS)
        one = self._entry("0", self._new_price()[0], action=random.choice("01"), symbol=symbol)
        nameless = self._entry("1", self._new_price()[1], action="1", symbol=None, entry_id=f"e{random.randint(1, 9)}")
        kind, fields = random.choice(
            [
                ("0", []), ("1", [(112, "hello")]), ("2", [(7, 1), (16, 0)]), ("2", [(7, 9), (16, 4)]), ("3", [(45, 1)]),
                ("j", [(45, 2), (372, "x"), (380, 3), (58, "no")]), ("Y", [(262, "?"), (281, 0)]), ("b", [(131, "?"), (297, 5)]),
                ("B", [(148, "news"), (33, 1), (58, "text")]), ("*", []), ("X", [(268, 0)]), ("X", [(268, 1), *one]),
                ("X", [(268, 1), *nameless]), ("X", [(268, 2), *one, *nameless]), ("W", [(55, symbol), (268, 0)]),
                ("Z", [(131, "r"), (117, "q"), (298, 4)]), ("Z", [(117, "q"), (298, 1), (295, 1), (55, symbol)]),
                ("X", [(354, 9), (355, "a\x01b\x01c=d\x01e"), (268, 1), *one]), ("X", [(268, 1), *one, (58, "größer")]),
                ("X", [(58, "8=FIX.4.4"), (268, 1), *one]), ("X", [(96, "x"), (95, 1), (268, 1), *one]),
            ]
        )  # fmt: skip
        self.send(kind, list(fields))

    def resets(self) -> None:
        if self._random.random() < 0.5:
            self._seq += self._random.choice((0, 1, 7))
            self.send("4", [(36, self._seq)], seq=self._random.choice((1, self._seq, 999)))
        else:
            self._seq = 1
            self.send("A", [(98, 0), (108, 30), (141, "Y"), *([(1137, 9)] if self._begin == b"FIXT.1.1" else [])])

    def wait(self) -> None:
        self._now += self._random.choice(JUMPS_S) * NS_PER_S
        if self._random.random() < 0.5:
            groups = ["all"] if self._random.random() < 0.5 else []
            self.events.append(Event("clock", self._now, msgspec.msgpack.encode(groups)))

    def reconnect(self) -> None:
        self.disconnect()
        self.connect()

    def conversation(self) -> Conversation:
        parts: list[tuple[Callable[[], None], int]] = [
            (self.burst, 6), (self.wide, 2), (self.quotes, 4), (self.hole, 4), (self.depth, 3), (self.trade, 2),
            (self.odds, 5), (self.resets, 1), (self.wait, 2), (self.reconnect, 1),
        ]  # fmt: skip
        self.connect()
        weights = [weight for _, weight in parts]
        for part, _ in self._random.choices(parts, weights, k=self._random.randint(2, 12)):
            part()
        self.events.append(Event("closed", self._now))
        return Conversation(self.settings, self.events, self.quoted)


def converse(random: Random) -> Conversation:
    return Talk(random).conversation()
