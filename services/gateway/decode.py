"""`python -m services.gateway --decode PATH`: a journal for people, and the wire message of a stored tick.

2026-11-21T10:00:00.000123Z  1732183200000000123  in   MarketDataIncrementalRefresh  MsgType=X MsgSeqNum=12 … MDEntryPx=1.0851
time of reading or sending   journal position     direction
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec

from libs.common.domain.moment import NS_PER_S, format_moment
from services.gateway.fix.dictionary import Dictionary, dictionary
from services.gateway.fix.framer import Framer
from services.gateway.fix.wire import FieldError, mask_secrets, parse
from services.gateway.fold import Fold
from services.gateway.journal import Direction, Record, read_segment, segments_of

FUTURE_MAX_NS = 3600 * NS_PER_S  # a tick's own time may be this far ahead of the time we read it at

_DIRECTIONS = {Direction.IN: "in", Direction.OUT: "out"}


@dataclass(frozen=True, slots=True)
class Wanted:
    """A stored tick. `seq` None: every tick of the symbol at that time."""

    symbol: str
    ts: int
    seq: int | None


def lines(path: Path) -> Iterator[str]:
    """Every record of a segment, or of a folder of segments."""
    for segment in segments_of(path):
        framer = Framer()
        for record in read_segment(segment):
            if record.direction is Direction.SNAPSHOT:
                framer = _framer(record)
            yield from _lines_of(record, framer)


def _framer(snapshot: Record) -> Framer:
    """With the beginning of a message that the segment before has."""
    state = msgspec.msgpack.decode(snapshot.data)
    return Framer(state.get("rest", b""), state.get("waiting_since", 0)) if isinstance(state, dict) else Framer()


def _lines_of(record: Record, framer: Framer) -> Iterator[str]:
    if record.direction is Direction.IN and _is_text(record.data):
        yield _line(record, "in", record.data.decode("utf-8", "replace"))
    elif record.direction is Direction.IN:
        frames, garbled = framer.feed(record.data, record.recv_ts)
        for piece in garbled:
            yield _line(record, "in", f"garbled: {piece!r}")
        for frame in frames:
            yield _line(record, "in", readable(frame))
    elif record.direction is Direction.OUT:
        yield _line(record, "out", readable(record.data))
    elif record.direction is Direction.CLOSED:
        if framer.rest:
            yield _line(record, "in", f"cut by the end of the connection: {framer.rest!r}")
        framer.feed(b"", record.recv_ts, last=True)
        yield _line(record, "--", "connection closed")
    elif record.direction is Direction.OPENED:
        yield _line(record, "--", "connection opened")
    elif record.direction is Direction.CLOCK:
        yield _line(record, "--", "time has passed: a market that is open is quiet, or a resend did not come")
    else:
        yield _line(record, "--", f"state of the session, {len(record.data)} bytes")


def _is_text(data: bytes) -> bool:
    """A message of a feed that is not FIX."""
    return data[:1] in {b"{", b"["}


def _line(record: Record, direction: str, text: str) -> str:
    return f"{format_moment(record.recv_ts)}  {record.end}  {direction:<3}  {text}"


def readable(frame: bytes) -> str:
    """Tags by the names their version gives them; secrets masked."""
    try:
        message = parse(mask_secrets(frame))
    except FieldError as error:
        return f"unreadable ({error}): {mask_secrets(frame)!r}"
    names = _dictionary(message.get(8))
    named = [f"{names.tag_name(tag)}({tag})={value.decode('utf-8', 'backslashreplace')}" for tag, value in message.fields]
    return f"{names.message_name(message.get(35) or b'')}  {' '.join(named)}"


def _dictionary(begin_string: bytes | None) -> Dictionary:
    if begin_string == b"FIX.4.2":
        return dictionary("FIX.4.2")
    return dictionary("FIXT.1.1" if begin_string == b"FIXT.1.1" else "FIX.4.4")


def find(path: Path, wanted: Wanted, new_fold: Callable[[], Fold]) -> Iterator[str]:
    """The messages that gave a stored tick: the journal is folded again, message by message."""
    segments = segments_of(path)
    for segment, following in zip(segments, [*segments[1:], None], strict=True):
        if following is not None and _begins(following) < wanted.ts - FUTURE_MAX_NS:
            continue
        fold, framer = new_fold(), Framer()
        for record in read_segment(segment):
            if record.direction is Direction.SNAPSHOT:
                framer = _framer(record)
            for piece, shown in _pieces(record, framer):
                fold.apply(piece)
                for tick in fold.take().ticks:
                    symbol, _, ts, seq = tick[:4]
                    if (symbol, ts) == (wanted.symbol, wanted.ts) and wanted.seq in {None, seq}:
                        yield _line(record, "in", shown)


def _begins(segment: Path) -> int:
    """When a segment begins: its first record is a snapshot of that moment."""
    return next(read_segment(segment)).recv_ts


def _pieces(record: Record, framer: Framer) -> Iterator[tuple[Record, str]]:
    """A record of FIX bytes cut behind each message, so that a tick can be told from its neighbours; with the message."""
    if record.direction is not Direction.IN or _is_text(record.data):
        yield record, record.data.decode("utf-8", "replace") if record.direction is Direction.IN else ""
        return
    buffer = framer.rest + record.data
    cut = len(framer.rest)
    frames, _ = framer.feed(record.data, record.recv_ts)
    position = 0
    for frame in frames:
        position = buffer.index(frame, position) + len(frame)
        yield Record(record.end, record.recv_ts, Direction.IN, buffer[cut:position]), readable(frame)
        cut = max(cut, position)
    yield Record(record.end, record.recv_ts, Direction.IN, buffer[cut:]), "(message began in this record)"
