"""A client on the other end of a line that is no socket, and clocks that stand still until they are moved."""

from dataclasses import dataclass, field

import simplefix

from services.simulator.ledger import Ledger
from services.simulator.market.quote import Quote
from services.simulator.numbers import Numbers
from services.simulator.provider import Provider
from services.simulator.session import Session

NOW_NS = 1_795_000_000_123_000_000
SYMBOLS = (b"EUR/USD", b"GBP/USD", b"XAU/USD")


def make_quote(symbol=b"EUR/USD", ts=NOW_NS, bid=b"1.08512", ask=b"1.08518", bid_size=b"5", ask_size=b"10"):
    return Quote(symbol, ts, bid, ask, bid_size, ask_size)


class FakeLine:
    def __init__(self):
        self.written = b""
        self.ended = None
        self.unsent_bytes = 0

    def write(self, data):
        self.written += data

    def close(self):
        self.ended = "closed"

    def abort(self):
        self.ended = "aborted"

    async def drained(self):
        pass


def read_all(data):
    """Simplefix's reading of a stream: the reference."""
    parser = simplefix.FixParser()
    parser.append_buffer(data)
    messages = []
    while (message := parser.get_message()) is not None:
        messages.append(message)
    return messages


def groups(message, first_tag):
    """A repeating group as dicts, one for each time its first tag comes."""
    found = []
    for tag, value in message.pairs:
        if int(tag) == first_tag:
            found.append({})
        if found:
            found[-1][int(tag)] = value.decode()
    return found


def types(messages):
    return [message.message_type for message in messages]


def seqs(messages):
    return [int(message.get(34)) for message in messages]


@dataclass
class Desk:
    """A provider, one session of it, and the client's side of that session."""

    tmp_path: object
    now_s: float = 1000.0
    quotes: dict[bytes, Quote] = field(default_factory=dict)
    numbers: dict[str, Numbers] = field(default_factory=dict)
    options: dict[str, object] = field(default_factory=dict)
    seq: int = 1

    def __post_init__(self):
        self.ledger = Ledger(self.tmp_path / "ledger.csv", "LP1", depth=True, trades=True)
        self.connect()

    def connect(self):
        options = {"symbols": SYMBOLS, **self.options}
        self.provider = Provider(
            name="LP1",
            snapshot=self.quotes.get,
            ledger=self.ledger,
            now_ns=lambda: NOW_NS,
            monotonic_s=lambda: self.now_s,
            **options,
        )
        self.line = FakeLine()
        self.session = Session(self.provider, self.line, lambda _session, client: self.numbers.setdefault(client, Numbers()))

    def say(self, msg_type, *fields, seq=None, sender="C", target="LP1", begin=None):
        """Send a message as the client; what it got since the last call."""
        message = simplefix.FixMessage()
        number = self.seq if seq is None else seq
        header = [
            (8, begin or self.provider.begin_string),
            (35, msg_type),
            (34, number),
            (49, sender),
            (56, target),
            (52, "20261118-00:00:00"),
        ]
        for tag, value in [*header, *fields]:
            message.append_pair(tag, value)
        if seq is None:
            self.seq += 1
        return self.hear(message.encode())

    def hear(self, data=b""):
        self.line.written = b""
        if data:
            self.session.receive(data)
        return read_all(self.line.written)

    def log_on(self, *fields):
        version = [(1137, 9)] if self.provider.fix == "FIX.5.0SP2" else []
        return self.say("A", (98, 0), (108, 30), *version, *fields)

    def subscribe(self, *symbols, request="R1", kind=1, levels=1, types=(0, 1)):
        fields = [(262, request), (263, kind), (264, levels), (267, len(types)), *[(269, entry_type) for entry_type in types]]
        return self.say("V", *fields, (146, len(symbols)), *[(55, symbol) for symbol in symbols])

    def ask_quotes(self, *symbols, request="Q1"):
        return self.say("R", (131, request), (146, len(symbols)), *[(55, symbol) for symbol in symbols])

    def publish(self, *quotes):
        self.line.written = b""
        self.session.publish(list(quotes))
        return read_all(self.line.written)

    def ledger_lines(self, suffix=""):
        return (self.tmp_path / f"ledger.csv{suffix}").read_text().splitlines()[1:]
