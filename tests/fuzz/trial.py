"""One conversation against one session, and everything that must hold of the outcome whatever the bytes are."""

import json
import signal
import time
from collections import Counter
from collections.abc import Iterable
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from random import Random
from typing import Any

import msgspec

from libs.common.domain.moment import NS_PER_S
from services.gateway.fix.decoder import SHAPES_MAX
from services.gateway.fix.framer import FRAME_BYTES_MAX
from services.gateway.fix.session import HELD_BYTES_MAX, HELD_BYTES_MIN, RAW_BYTES_MAX, UNSEEN_RANGES_MAX, Session
from services.gateway.fix.wire import encode
from services.gateway.journal import RECORD_BYTES_MAX, Direction, Record
from services.gateway.market.levels import LEVELS_MAX
from services.gateway.market.top import DAYS_KEPT, MEMO_MAX, SYMBOLS_MAX
from tests.fuzz.conversation import Conversation, Event, converse
from tests.fuzz.mutation import Mutator
from tests.fuzz.reference import Reference
from tests.unit.gateway.gateway_lp import make_feed

HANG_S = 60.0  # of CPU time, for one case
SLOWER_MAX = 100  # than the conversation it was made of, a byte
ALLOWANCE_S = 0.5  # on top, since a case is short
SYMBOL_BYTES_MAX = 8_000  # of a snapshot: numbering of 64 days, twice more with depth
LEVEL_BYTES_MAX = 60
CUTS = 20  # ways of cutting a case that failed, and of taking its snapshots, until it fails again

_DIRECTIONS = {"opened": Direction.OPENED, "in": Direction.IN, "clock": Direction.CLOCK, "closed": Direction.CLOSED}


class Failed(AssertionError):
    """What does not hold: a word for its kind, and what was found."""

    def __init__(self, kind: str, found: object) -> None:
        super().__init__(f"{kind}: {found}"[:2000])
        self.kind = kind


@dataclass
class Outcome:
    """What came of a conversation, and the journal of it."""

    records: list[Record] = field(default_factory=list)
    at_record: list[tuple[list[Any], ...]] = field(default_factory=list)  # what each record came to
    snapshots: dict[int, bytes] = field(default_factory=dict)
    state: bytes = b""
    seconds: float = 0.0

    def all(self, kind: int) -> list[Any]:
        """0 ticks, 1 trades, 2 books, 3 gaps, 4 quarantined."""
        return [item for came in self.at_record for item in came[kind]]


class Run:
    """A session played as the connection does: what it sends is numbered, journaled and folded."""

    def __init__(self, settings: dict[str, Any], *, fast: bool = True, snapshot_at: Iterable[int] = ()) -> None:
        self.session = Session(make_feed(**settings))
        self.outcome = Outcome()
        self._snapshot_at = set(snapshot_at)
        if not fast:  # nothing is learnt: every message is parsed
            self.session.capture.decoder.learn = lambda _message: None  # type: ignore[method-assign]
            self.session.capture.quotes.learn = lambda _message: None  # type: ignore[method-assign]

    def play(self, events: list[Event]) -> Outcome:
        began = time.process_time()
        for event in events:
            self._record(event.at, _DIRECTIONS[event.kind], event.data)
            self._send(event.at)
        self.outcome.seconds = time.process_time() - began
        self.outcome.state = self.session.snapshot(0)
        return self.outcome

    def _record(self, at: int, direction: Direction, data: bytes) -> None:
        outcome = self.outcome
        if len(outcome.records) in self._snapshot_at:
            outcome.snapshots[len(outcome.records)] = self.session.snapshot(0)
        record = Record(len(outcome.records) + 1, at, direction, data)
        outcome.records.append(record)
        self.session.apply(record, live=True)
        if self.session.counts.faults:
            raise Failed("fault", self.session.alarms["fault"])
        outcome.at_record.append(_taken(self.session))

    def _send(self, at: int) -> None:
        session, feed = self.session, self.session.feed
        while session.sends:
            send = session.sends.pop(0)
            seq = session.state.next_out if send.seq is None else send.seq
            frame = encode(
                feed.begin_string, feed.sender_comp_id, feed.target_comp_id, seq, send.msg_type, send.fields,
                now_ns=max(at, 0), poss_dup=send.seq is not None,
            )  # fmt: skip
            self._record(at, Direction.OUT, frame)


def _taken(session: Session) -> tuple[list[Any], ...]:
    came = session.take()
    return came.ticks, came.trades, came.books, came.gaps, came.quarantined


@dataclass
class Figures:
    cases: int = 0
    bytes: int = 0
    frames: int = 0
    ticks: int = 0
    trades: int = 0
    books: int = 0
    gaps: int = 0
    quarantined: int = 0
    sent: int = 0


class Trial:
    """`seed` makes a conversation and its damage; `check` raises Failed."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        self.whole: Conversation = converse(self.random)
        self.settings = self.whole.settings
        self.events = Mutator(self.random).events(self.whole.events)

    def check(self, figures: Figures) -> None:
        unhurt = guarded(lambda: Run(self.settings).play(self.whole.events))
        check_unhurt(self.whole, unhurt)
        received = sum(len(event.data) for event in self.whole.events if event.kind == "in")
        check_case(self.settings, self.events, Random(self.random.random()), unhurt.seconds / max(received, 1), figures)


def check_case(settings: dict[str, Any], events: list[Event], random: Random, byte_s: float | None, figures: Figures) -> None:
    """Everything that must hold; byte_s: CPU seconds a byte of the conversation before it was damaged."""
    places = sorted(random.randrange(3 * len(events) + 1) for _ in range(2))
    run = Run(settings, snapshot_at=places)
    outcome = guarded(lambda: run.play(events))
    received = sum(len(event.data) for event in events if event.kind == "in")
    reference = Reference(settings["aliases"])
    for stream in streams(events):
        reference.read(stream)
    figures.cases += 1
    figures.bytes += received
    figures.frames += reference.frames
    for kind, name in enumerate(("ticks", "trades", "books", "gaps", "quarantined")):
        setattr(figures, name, getattr(figures, name) + len(outcome.all(kind)))
    figures.sent += sum(record.direction is Direction.OUT for record in outcome.records)

    check_limits(run.session, outcome, received)
    check_derivable(outcome, reference)
    check_account(settings, run.session, outcome, reference)
    check_bytes(events, run.session, outcome, reference)
    check_numbering(outcome)
    check_paths(outcome, guarded(lambda: Run(settings, fast=False).play(events)))
    check_replay(settings, outcome)
    check_chunks(settings, events, random)
    if byte_s is not None and outcome.seconds > SLOWER_MAX * byte_s * received + ALLOWANCE_S:
        again = min(guarded(lambda: Run(settings).play(events)).seconds for _ in range(2))  # the machine is shared
        if again > SLOWER_MAX * byte_s * received + ALLOWANCE_S:
            raise Failed("slow", f"{again:.3f} s for {received} bytes; {byte_s * received:.4f} s before the damage")


# ---- what must hold


def check_unhurt(whole: Conversation, outcome: Outcome) -> None:
    """Of a conversation that is right: every quote is one tick, and nothing that can be read is refused."""
    jumps = any(after.at - before.at >= 31 * NS_PER_S or after.at < before.at for before, after in pairwise(whole.events))
    if whole.settings["market_depth"] != 1 or jumps:
        return  # a resend that comes after half a minute has been given up, and other books state other ticks
    found, quoted = Counter((tick[0], tick[5]) for tick in outcome.all(0)), Counter(whole.quoted)
    wrong = [(quote, count, found[quote]) for quote, count in quoted.items() if found[quote] != count]
    if wrong:
        raise Failed("unhurt", f"{len(wrong)} quotes are not as many ticks: {wrong[:5]}")


def check_limits(session: Session, outcome: Outcome, received: int) -> None:
    state, market, decoder = session.state, session.market, session.capture.decoder
    longest = max((len(record.data) for record in outcome.records), default=0)
    sizes = {
        "held_bytes": (state.held_bytes, HELD_BYTES_MAX + FRAME_BYTES_MAX),
        "held_bytes counted": (
            abs(state.held_bytes - sum(max(len(frame), HELD_BYTES_MIN) for _, frame in state.held.values())),
            0,
        ),
        "unseen": (len(state.unseen), UNSEEN_RANGES_MAX),
        "rest": (len(session._framer.rest), FRAME_BYTES_MAX + max(longest, RECORD_BYTES_MAX)),
        "books": (len(market.books), SYMBOLS_MAX),
        "spellings": (len(market._by_text), 2 * SYMBOLS_MAX),
        "prices": (len(market._prices), MEMO_MAX),
        "sizes": (len(market._sizes), MEMO_MAX),
        "shapes": (sum(map(len, decoder._shapes.values())), SHAPES_MAX),
        "days": (max((len(book.other_days) for book in market.books.values()), default=0), DAYS_KEPT),
        "symbols": (len(session.subscriptions.symbols), SYMBOLS_MAX),
        "alarms": (len(session.alarms), 10),
        "refused": (len(session.subscriptions.refused), SYMBOLS_MAX),
        "alarm": (max(map(len, session.alarms.values()), default=0), FRAME_BYTES_MAX),
    }
    levels = 0
    for book in market.books.values():
        for side in (getattr(book, "bids", None), getattr(book, "asks", None)):
            if side is not None:
                levels += len(side._levels)
                sizes[f"levels of {book.symbol}"] = (len(side._levels), LEVELS_MAX)
                sizes[f"ids of {book.symbol}"] = (len(side._by_id), len(side._levels))
    largest = (
        10_000 + len(market.books) * SYMBOL_BYTES_MAX + levels * LEVEL_BYTES_MAX + state.held_bytes + 30 * len(state.held)
        + len(session._framer.rest) + 120 * (len(state.open_gaps) + len(state.unseen))
    )  # fmt: skip
    sizes["snapshot"] = (len(outcome.state), largest + received // 10)  # ids may be long
    wrong = {name: pair for name, pair in sizes.items() if pair[0] > pair[1]}
    if wrong:
        raise Failed("limit", wrong)


def check_derivable(outcome: Outcome, reference: Reference) -> None:
    """Nothing is stored that no message said."""
    for symbol, _, ts, _, _, bid, ask, bid_size, ask_size, _ in outcome.all(0):
        for side, price, size in (("0", bid, bid_size), ("1", ask, ask_size)):
            if price is not None and not reference.may_be(symbol, side, price, size):
                raise Failed("wrong tick", (symbol, side, price, size))
        if bid is None and ask is None:
            raise Failed("wrong tick", (symbol, "no price"))
        if not reference.may_be_at(symbol, ts):
            raise Failed("wrong time", (symbol, ts))
    for trade in outcome.all(1):
        if not reference.may_be(trade.symbol, "2", trade.price, trade.size) or not reference.may_be_at(trade.symbol, trade.ts):
            raise Failed("wrong trade", trade)
    for book in outcome.all(2):
        for side, levels in (("0", book.bids), ("1", book.asks)):
            for price, size in levels:
                if not reference.may_be(book.symbol, side, price, size):
                    raise Failed("wrong level", (book.symbol, side, price, size))
        if not reference.may_be_at(book.symbol, book.ts):
            raise Failed("wrong time of a book", (book.symbol, book.ts))
        prices = [price for price, _ in book.bids], [price for price, _ in book.asks]
        if prices != (sorted(prices[0], reverse=True), sorted(prices[1])):
            raise Failed("wrong order", book)


def check_account(settings: dict[str, Any], session: Session, outcome: Outcome, reference: Reference) -> None:
    """A quote that arrived whole is a tick, in quarantine, held, or a duplicate that was counted."""
    if settings["market_depth"] != 1:
        return
    ticks = {(tick[0], tick[5]) for tick in outcome.all(0)}
    kept = {item.raw for item in outcome.all(4)} | {frame for _, frame in session.state.held.values()}
    waits = session._framer.rest  # behind a message that has not come to its end
    lost = [
        (frame, symbol, bid)
        for frame, symbol, bid in reference.plain
        if (symbol, bid) not in ticks and frame not in kept and frame not in waits
    ]
    if len(lost) > session.counts.dropped_duplicates:
        raise Failed("lost", f"{len(lost)} quotes, {session.counts.dropped_duplicates} duplicates: {lost[:3]}")


def check_bytes(events: list[Event], session: Session, outcome: Outcome, reference: Reference) -> None:
    """Every byte is of an intact message, of something garbled that is kept, or waits for what comes next."""
    kinds = [event.kind for event in events]
    if any(kind == "in" and before == "closed" for before, kind in pairwise(["closed", *kinds])):
        return  # no socket does that
    garbled = [item.raw for item in outcome.all(4) if item.reason.startswith(("garbled:", "cut by the end"))]
    if any(len(piece) == RAW_BYTES_MAX for piece in garbled):
        return
    received = sum(len(event.data) for event in events if event.kind == "in")
    found = reference.bytes, sum(map(len, garbled)), len(session._framer.rest)
    if sum(found) != received:
        raise Failed("bytes", f"{received} received: {found[0]} intact, {found[1]} garbled, {found[2]} waiting")


def check_numbering(outcome: Outcome) -> None:
    """Ticks, trades and books: 0, 1, 2 … for each symbol and day, as long as no more days are seen than are remembered."""
    for kind in (0, 1, 2):
        numbers: dict[tuple[str, int], int] = {}
        for item in outcome.all(kind):
            symbol, ts, seq = (item[0], item[2], item[3]) if kind == 0 else (item.symbol, item.ts, item.seq)
            day = (symbol, ts // (86_400 * NS_PER_S))
            if seq != numbers.get(day, 0) and len({other for other in numbers if other[0] == symbol}) < DAYS_KEPT:
                raise Failed("numbering", (kind, symbol, ts, seq, numbers.get(day, 0)))
            numbers[day] = seq + 1


def check_paths(fast: Outcome, slow: Outcome) -> None:
    """Messages of a shape that was learnt come to what they come to when each is parsed. What is sent may differ."""
    for kind, name in enumerate(("ticks", "trades", "books", "gaps", "quarantined")):
        if fast.all(kind) != slow.all(kind):
            pairs = zip(fast.all(kind), slow.all(kind), strict=False)
            first = next((pair for pair in pairs if pair[0] != pair[1]), (len(fast.all(kind)), len(slow.all(kind))))
            raise Failed("paths", f"{name}: fast {first[0]}, slow {first[1]}")
    states = [msgspec.msgpack.decode(outcome.state) | {"next_out": 0} for outcome in (fast, slow)]
    if states[0] != states[1]:
        raise Failed("paths", "the states differ")


def check_replay(settings: dict[str, Any], outcome: Outcome) -> None:
    """From a snapshot on, the journal gives what it gave."""
    for place, snapshot in outcome.snapshots.items():
        session = Session(make_feed(**settings))
        session.apply(Record(place, 0, Direction.SNAPSHOT, snapshot))
        for record, came in zip(outcome.records[place:], outcome.at_record[place:], strict=True):
            session.apply(record)
            again = _taken(session)
            if again != came:
                raise Failed("replay", f"from record {place}, at record {record.end}: {again} is not {came}")
        if session.snapshot(0) != outcome.state:
            raise Failed("replay", f"from record {place}: the states differ")


def check_chunks(settings: dict[str, Any], events: list[Event], random: Random) -> None:
    """The bytes of each connection give the same ticks, trades and last number however they are cut. No time passes."""
    for stream in streams(events)[:2]:
        cuts = sorted(random.randrange(len(stream) + 1) for _ in range(random.choice((1, 5, 50))))
        pieces = [stream[start:end] for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
        results = []
        for data in ([stream], pieces):
            at = events[0].at
            played = [Event("opened", at), *(Event("in", at, piece) for piece in data if piece), Event("closed", at)]
            run = Run(settings)
            outcome = guarded(lambda run=run, played=played: run.play(played))
            state = run.session.state
            results.append((outcome.all(0), outcome.all(1), state.next_in, sorted(state.held)))
        for what, whole, cut in zip(("ticks", "trades", "next_in", "held"), *results, strict=True):
            if whole != cut:
                raise Failed("chunks", f"{what} of one piece and of pieces cut at {cuts}: {whole} is not {cut}")


# ---- around it


def streams(events: list[Event]) -> list[bytes]:
    """What each connection received."""
    found, current = [], b""
    for event in events:
        if event.kind == "in":
            current += event.data
        elif event.kind in {"opened", "closed"} and current:
            found.append(current)
            current = b""
    return [*found, current] if current else found


def guarded(play):
    """Outcome; Failed where it raises or does not end."""
    try:
        with _limited():
            return play()
    except Failed:
        raise
    except Exception as error:
        where = error.__traceback__
        while where is not None and where.tb_next is not None:
            where = where.tb_next
        line = f"{where.tb_frame.f_code.co_filename}:{where.tb_lineno}" if where else ""
        raise Failed(f"raised {type(error).__name__}", f"{error!r} at {line}") from error


@contextmanager
def _limited():
    """CPU time, not the clock's: the machine is shared."""

    def ended(_number, _frame):
        raise Failed("hang", f"more than {HANG_S} s of CPU time")

    before = signal.signal(signal.SIGVTALRM, ended)
    signal.setitimer(signal.ITIMER_VIRTUAL, HANG_S)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)


def shrunk(settings: dict[str, Any], events: list[Event], kind: str, tries: int = 600) -> list[Event]:
    """Roughly the least events, and bytes in them, that still fail in the same way."""

    def fails(candidate: list[Event], seed: int) -> bool:
        try:
            check_case(settings, candidate, Random(seed), None, Figures())
        except Failed as failed:
            return failed.kind == kind
        return False

    seed = next((seed for seed in range(CUTS) if fails(events, seed)), None)
    if seed is None:  # it takes the conversation before the damage
        return events
    size = max(1, len(events) // 2)
    while tries > 0:
        for at in range(0, len(events), size):
            candidate = events[:at] + events[at + size :]
            tries -= 1
            if candidate and fails(candidate, seed):
                events = candidate
                break
        else:
            if size == 1:
                break
            size //= 2
    for at, event in enumerate(events):
        for piece in (event.data.split(b"8=FIX") if event.kind == "in" else [])[1:]:
            shorter = event.data.replace(b"8=FIX" + piece, b"", 1)
            candidate = [*events[:at], Event("in", event.at, shorter), *events[at + 1 :]]
            tries -= 1
            if tries > 0 and shorter and fails(candidate, seed):
                events, event = candidate, candidate[at]  # noqa: PLW2901 - the next piece is taken from what is left
    return events


def save(path: Path, settings: dict[str, Any], events: list[Event]) -> None:
    """As JSON; bytes as latin-1 text, so that people can read them."""
    lines = [[event.kind, event.at, event.data.decode("latin-1")] for event in events]
    path.write_text(json.dumps({"settings": settings, "events": lines}, indent=1), "utf-8")


def load(path: Path) -> tuple[dict[str, Any], list[Event]]:
    found = json.loads(path.read_text("utf-8"))
    return found["settings"], [Event(kind, at, data.encode("latin-1")) for kind, at, data in found["events"]]
