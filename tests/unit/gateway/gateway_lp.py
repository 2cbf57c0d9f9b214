"""The other end of the line, for the tests: frames that are right, and the connection's part played by hand."""

import msgspec

from libs.common.domain.moment import NS_PER_MS, NS_PER_S, parse_moment
from libs.common.domain.record import Tick
from services.gateway.feeds import FixFeed
from services.gateway.fix.decoder import MarketData, decode
from services.gateway.fix.session import Session
from services.gateway.fix.wire import Message, encode, format_sending_time, parse
from services.gateway.journal import Direction, Record

T0 = parse_moment("2026-11-20T10:00:00Z")
PRICE_ONE = 1_000_000_000


def as_bytes(value) -> bytes:
    return value if isinstance(value, bytes) else str(value).encode()


def frame_of(body: bytes, begin: bytes = b"FIX.4.4") -> bytes:
    """`body` is what BodyLength counts: from 35= to the separator before 10=."""
    head = b"8=%s\x019=%d\x01%s" % (begin, len(body), body)
    return head + b"10=%03d\x01" % (sum(head) % 256)


def fields_of(*fields) -> bytes:
    return b"".join(b"%d=%s\x01" % (tag, as_bytes(value)) for tag, value in fields)


def build(msg_type, seq, fields=(), *, at=T0, sender="LP1", target="TICKVAULT", begin=b"FIX.4.4", header=()) -> bytes:
    """A whole message in QuickFIX's order of the header."""
    start = fields_of((35, msg_type), (34, seq), (49, sender), (52, format_sending_time(at)), (56, target))
    return frame_of(start + fields_of(*header, *fields), begin)


def entry(side=None, price=None, size=None, *, action=None, symbol=None, entry_id=None, date=None, time=None):
    """The fields of one market data entry, in the order of FIX 4.4."""
    pairs = [(279, action), (269, side), (278, entry_id), (55, symbol), (270, price), (271, size), (272, date), (273, time)]
    return [(tag, value) for tag, value in pairs if value is not None]


def increment(*entries):
    """The body of an X."""
    return [(262, "r1"), (268, len(entries)), *(pair for fields in entries for pair in fields)]


def snapshot(symbol, *entries):
    """The body of a W."""
    return [(262, "r1"), (55, symbol), (268, len(entries)), *(pair for fields in entries for pair in fields)]


def quote(symbol, bid, ask, **more):
    """The body of an X with both sides of a symbol."""
    return increment(
        entry("0", bid, "1000", action="0", symbol=symbol, **more), entry("1", ask, "2000", action="0", symbol=symbol, **more)
    )


def both_sides(symbol, bid, ask):
    """The body of a W with both sides."""
    return snapshot(symbol, entry("0", bid, "1000"), entry("1", ask, "2000"))


def market_data(msg_type, fields, at=T0) -> MarketData:
    return decode(parse(build(msg_type, 1, fields, at=at)))


def make_feed(**settings) -> FixFeed:
    given = {"name": "LP1", "host": "127.0.0.1", "port": 1, "sender_comp_id": "TICKVAULT", "target_comp_id": "LP1"}
    return FixFeed(**given | {"symbols": ("EUR/USD",)} | settings)


class Lp:
    """An LP, the network and the connection around one session, without a clock: `now` moves when told."""

    def __init__(self, **settings):
        self.session = Session(make_feed(**settings))
        self.begin = self.session.feed.begin_string.encode()
        self.now = T0
        self.next_out = 1
        self.records: list[Record] = []
        self.got: list[Message] = []  # what the session sent
        self.ticks: list[Tick] = []
        self.trades = []
        self.books = []
        self.gaps = []
        self.quarantined = []

    # ---- the network's part

    def connect(self):
        self._record(Direction.OPENED)
        return self

    def drop(self):
        self._record(Direction.CLOSED)
        return self

    def receive(self, data: bytes):
        self._record(Direction.IN, data)
        return self

    def _record(self, direction, data=b""):
        self._apply(Record(len(self.records) + 1, self.now, direction, data))
        self.flush()

    def _apply(self, record):
        self.records.append(record)
        self.session.apply(record, live=True)
        assert not self.session.counts.faults, self.session.alarms
        self._take()

    def flush(self):
        """What the connection does with `sends`: number, encode, journal, fold, write."""
        while self.session.sends:
            send = self.session.sends.pop(0)
            seq = self.session.state.next_out if send.seq is None else send.seq
            frame = encode(
                self.begin.decode(), "TICKVAULT", "LP1", seq, send.msg_type, send.fields,
                now_ns=self.now, poss_dup=send.seq is not None,
            )  # fmt: skip
            self._apply(Record(len(self.records) + 1, self.now, Direction.OUT, frame))
            self.got.append(parse(frame))

    def _take(self):
        outcome = self.session.take()
        self.ticks += [Tick(*row) for row in outcome.ticks]
        self.trades += outcome.trades
        self.books += outcome.books
        self.gaps += outcome.gaps
        self.quarantined += outcome.quarantined

    # ---- the LP's part

    def message(self, msg_type, fields=(), *, seq=None, header=(), **more) -> bytes:
        """The next message; `seq` names another number and leaves the count as it is."""
        number = self.next_out if seq is None else seq
        self.next_out += seq is None
        return build(msg_type, number, fields, at=more.pop("at", self.now), header=header, **{"begin": self.begin} | more)

    def send(self, msg_type, fields=(), **more):
        return self.receive(self.message(msg_type, fields, **more))

    def resend(self, msg_type, seq, fields=()):
        original = format_sending_time(self.now - 1 * NS_PER_S)
        return self.send(msg_type, fields, seq=seq, header=((43, "Y"), (122, original)))

    def lose(self, msg_type="X", fields=()):
        """Number a message that never arrives."""
        self.message(msg_type, fields)
        return self

    def logon(self, *, reset=True, **more):
        if reset:
            self.next_out = 1
        version = [(1137, 9)] if self.begin == b"FIXT.1.1" else []
        return self.send("A", [(98, 0), (108, 30), *([(141, "Y")] if reset else []), *version], **more)

    def idle(self, *groups):
        """Time passes without a byte; `groups` have gone stale."""
        self._record(Direction.CLOCK, msgspec.msgpack.encode(groups))
        return self

    def wait(self, seconds=0.0, ms=0):
        self.now += int(seconds * NS_PER_S) + ms * NS_PER_MS
        return self

    # ---- what came of it

    @property
    def state(self):
        return self.session.state

    def types(self):
        return [message.text(35) for message in self.got]

    def last(self, msg_type) -> Message:
        return next(message for message in reversed(self.got) if message.text(35) == msg_type)

    def bids(self):
        return [None if tick.bid is None else tick.bid / PRICE_ONE for tick in self.ticks]

    def reasons(self):
        return [item.reason for item in self.quarantined]


def established(**settings) -> Lp:
    """Logged on, subscribed, with nothing of it left to look at but the state."""
    lp = Lp(**settings).connect().logon(reset=settings.get("reset_on_logon", True))
    assert lp.state.status == "established"
    lp.got.clear()
    return lp
