"""A FIX session as a fold over its journal: records in; ticks, gaps, quarantine, and what to send, out.

    opened ─▶ logon sent ─▶ logon accepted ─▶ established ─▶ logging out ─▶ closed
                  │ refused, invalid                │ too low, wrong CompID, …
                  └──────────▶ rejected: Logout, then nothing of this connection counts any more

No socket, no clock: time is the record's. Replaying the records of a journal gives the same state and the same ticks; what a
replay wants to send is thrown away, since what was really sent stands in the journal too. Numbers in comments are those of the
checklist in docs/fix.md.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

import msgspec

from libs.common.bus.entry import TickRow
from libs.common.domain.errors import Rejected
from libs.common.domain.moment import NS_PER_MS, NS_PER_S
from libs.common.domain.record import Flag, Gap, GapCause, Quarantined
from services.gateway.feeds import FixFeed
from services.gateway.fix.decoder import Decoder, MarketData, decode
from services.gateway.fix.framer import Framer
from services.gateway.fix.quotes import QuoteMatcher, Quotes
from services.gateway.fix.wire import MSG_TYPES_44, Clock, FieldError, Message, parse
from services.gateway.market.top import SYMBOLS_MAX, UNKNOWN_ENTRY, Market, Refused

HELD_BYTES_MAX = 32_000_000  # messages kept while a gap before them is being resent
RESEND_TIMEOUT_NS = 30 * NS_PER_S  # a gap that is not filled by then is recorded and the session goes on
RESUBSCRIBE_PAUSE_NS = 60 * NS_PER_S  # between two resubscriptions because of entries we cannot place
REPLAYED_SKEW_NS = 3600 * NS_PER_S  # quotes this far from SendingTime are history being replayed
UNSEEN_RANGES_MAX = 100
RAW_BYTES_MAX = 65_536  # of a garbled piece, in quarantine; the journal has it whole

Status = Literal["closed", "logon_sent", "established", "logging_out", "rejected"]

_LIVE = frozenset({"established", "logging_out"})
_RESENT, _ONE_SIDED = int(Flag.RESENT), int(Flag.ONE_SIDED)


@dataclass(frozen=True, slots=True)
class Send:
    """A message to send. `seq` None: the next number; a gap fill names its own and is a possible duplicate."""

    msg_type: str
    fields: list[tuple[int, str | int | bytes]]
    seq: int | None = None


@dataclass(slots=True)
class Outcome:
    """What the records since the last `take` came to."""

    ticks: list[TickRow] = field(default_factory=list)
    gaps: list[Gap] = field(default_factory=list)
    quarantined: list[Quarantined] = field(default_factory=list)


class State(msgspec.Struct):
    """All that outlives a record: a journal segment begins with it."""

    status: Status = "closed"
    logged_on: bool = False  # whether this connection ever was established
    next_in: int = 1
    next_out: int = 1
    heartbeat_s: int = 30
    reset_sent: bool = False
    held: dict[int, tuple[int, bytes]] = {}  # messages beyond a hole: number -> recv_ts, frame; none is below next_in
    held_bytes: int = 0
    resend_deadline: int = 0  # ns; 0 where nothing is asked for
    asked_to: int = 0  # the last number known to be missing when we asked
    gap_from: int = 0  # market time when we asked
    unseen: list[tuple[int, int]] = []  # numbers below next_in that never came; a late resend of them is still taken
    garbled_until: int = 0  # a missing number up to this one may be something garbled
    last_sending: int = 0
    last_ts: int = 0
    open_gaps: list[Gap] = []  # ends with the next market data
    quarantine_number: int = 0
    durable: int = 0  # journal position known to be stored when the segment began
    rest: bytes = b""
    waiting_since: int = 0
    books: list[Any] = []


@dataclass(slots=True)
class Counts:
    """For metrics; not part of the state."""

    messages: int = 0
    garbled: int = 0
    rejects_received: int = 0
    resend_requests: int = 0
    dropped_duplicates: int = 0


class Session:
    """`sends` and `disconnect_reason` are for the connection; `take` is for the publisher."""

    def __init__(self, feed: FixFeed) -> None:
        self.feed = feed
        self.state = State()
        self.counts = Counts()
        self.sends: list[Send] = []
        self.disconnect_reason: str | None = None
        self.alarm: str | None = None  # why the session needs an operator: refused logon, numbers too low
        self.last_answer = ""  # the TestReqID of the last heartbeat that had one
        self.rejected_requests: dict[str, str] = {}  # symbol -> why the LP refused to quote it
        self.symbols: list[str] = []  # as the LP spells them, in the order it listed them
        self._requests: dict[str, str] = {}  # MDReqID -> symbol, of this connection
        self._unanswered: int | None = None  # MsgSeqNum of the first x or V, until the LP answers one
        self._connection = ""  # begins every request id of this connection
        self._request_number = 0
        self._resubscribed_at = 0
        self._stale = False  # books were withdrawn: fresh snapshots are to be asked for
        self._clock = Clock()
        listed = None
        if feed.symbols != "all":
            upper = {alias.upper(): symbol for alias, symbol in feed.aliases.items()}
            listed = frozenset(upper.get(symbol.upper(), symbol.upper()) for symbol in feed.symbols)
        self.market = Market(feed.name, feed.aliases, listed, self._clock)
        self._decoder = Decoder(feed.begin_string, feed.target_comp_id, feed.sender_comp_id)
        self._quotes = QuoteMatcher(feed.begin_string, feed.target_comp_id, feed.sender_comp_id)
        self._framer = Framer()
        self._outcome = Outcome()
        self._tolerance_ns = int(feed.sending_time_tolerance_s * NS_PER_S)
        self._refused: list[Refused] = []

    # ---- the records of the journal

    def opened(self, now: int) -> None:
        """The transport is connected: log on, and nothing else before the answer (1)."""
        state = self.state
        if state.status != "closed":
            self._closed("restart", now)
        state.status = "logon_sent"
        state.heartbeat_s = self.feed.heartbeat_s
        state.reset_sent = self.feed.reset_on_logon
        self.disconnect_reason = None
        self.alarm = None
        self._connection = str(now // NS_PER_MS)
        self._unanswered = None
        self._requests.clear()
        self._stale = False
        self.rejected_requests.clear()
        if state.reset_sent:
            state.next_out = 1
        fields: list[tuple[int, str | int | bytes]] = [(98, 0), (108, self.feed.heartbeat_s)]
        if state.reset_sent:
            fields.append((141, "Y"))
        self._send("A", fields)

    def closed(self, now: int) -> None:
        """The transport is gone, whoever ended it (13): numbers stay."""
        if self.state.status != "closed":
            self._closed("disconnect", now)

    def sent(self, msg_type: bytes, seq: int, *, poss_dup: bool) -> None:
        """A message of ours has been written to the journal."""
        if msg_type == b"5" and self.state.status in {"established", "logon_sent"}:
            self.state.status = "logging_out"
        if not poss_dup:
            self.state.next_out = seq + 1
        if msg_type in {b"x", b"V"} and self._unanswered is None:
            self._unanswered = seq

    def received(self, data: bytes, recv_ts: int) -> None:
        """What the socket gave, in order; recv_ts in ns, whole µs."""
        state, counts, outcome = self.state, self.counts, self._outcome
        tolerance = self._tolerance_ns or 2**62
        shape = self._quotes.run_shape
        if shape is not None and state.status == "established" and not state.held and not state.open_gaps:
            buffer = self._framer.rest + data
            expected = state.next_in
            position, state.next_in, sending = self.market.apply_run(shape, buffer, expected, recv_ts, tolerance, outcome.ticks)
            if position:
                counts.messages += state.next_in - expected
                state.last_sending = sending
                data = buffer[position:]
                self._framer.rest = b""
        frames, garbled = self._framer.feed(data, recv_ts)
        if garbled:
            self._on_garbled(garbled, len(frames), recv_ts)
        match_quotes, match, refused, moment = self._quotes.match, self._decoder.match, self._refused, self._clock.moment
        apply_quotes, apply = self.market.apply_quotes, self.market.apply
        for frame in frames:
            counts.messages += 1
            found = match_quotes(frame) or match(frame)
            if (
                found is not None
                and found[0] == state.next_in
                and state.status == "established"
                and not state.held
                and not state.open_gaps
            ):
                try:
                    sending = moment(found[1])
                except Rejected:
                    self._on_frame(frame, recv_ts)
                    continue
                if -tolerance <= sending - recv_ts <= tolerance:
                    state.next_in += 1
                    state.last_sending = sending
                    if isinstance(found, Quotes):
                        apply_quotes(found, sending, recv_ts, outcome.ticks, refused)
                    else:
                        apply(found, sending, recv_ts, 0, outcome.ticks, refused)
                    if refused:
                        self._quarantine_refused(frame, recv_ts)
                    continue
            self._on_frame(frame, recv_ts)
        if state.resend_deadline and recv_ts > state.resend_deadline:
            self._give_up(recv_ts)
        if self._stale and not state.resend_deadline:
            self._resubscribe()

    def take(self) -> Outcome:
        """What came out since the last call."""
        if self._outcome.ticks:
            self.state.last_ts = self._outcome.ticks[-1][2]
        taken, self._outcome = self._outcome, Outcome()
        return taken

    # ---- state in a segment

    def snapshot(self) -> bytes:
        self.state.rest, self.state.waiting_since = self._framer.rest, self._framer.waiting_since
        self.state.books = self.market.snapshot()
        return msgspec.msgpack.encode(self.state)

    def restore(self, snapshot: bytes) -> None:
        self.state = msgspec.msgpack.decode(snapshot, type=State)
        self._framer = Framer(self.state.rest, self.state.waiting_since)
        self.market.restore(self.state.books)

    # ---- one message

    def _on_garbled(self, garbled: list[bytes], frames: int, recv_ts: int) -> None:
        """(27-30, 32) Kept and counted; sequence numbers stand. Some number up to the last of this chunk may have been in it."""
        self.counts.garbled += len(garbled)
        self.state.garbled_until = max(self.state.held, default=self.state.next_in) + frames
        for piece in garbled:
            self._quarantine(recv_ts, "", "garbled: not a FIX frame, or its length or checksum is wrong", piece[:RAW_BYTES_MAX])

    def _on_frame(self, frame: bytes, recv_ts: int) -> None:
        if self.state.status in {"closed", "rejected"}:
            self._quarantine_market_data(frame, recv_ts, "arrived after the session was given up")
            return
        try:
            message = parse(frame)
        except FieldError as error:
            self._on_unparsable(frame, error, recv_ts)
            return
        if self._header_accepted(message, frame, recv_ts):
            self._in_sequence(message, frame, recv_ts)

    def _on_unparsable(self, frame: bytes, error: FieldError, recv_ts: int) -> None:
        """A whole frame with a broken field: it uses its number, so it is rejected, kept, and the session goes on."""
        state, seq = self.state, _rough_seq(frame)
        self._quarantine(recv_ts, "", f"undecodable: {error}", frame)
        if state.status == "logon_sent" or seq is None:
            self._refuse_session(f"Invalid message: {error}")
        elif seq == state.next_in:
            self._reject(seq, error.reason, error.tag, str(error))
            state.next_in += 1
            self._take_what_is_due(recv_ts)
        elif seq > state.next_in:
            self._hold(seq, recv_ts, b"")
            self._ask(seq, recv_ts)

    def _header_accepted(self, message: Message, frame: bytes, recv_ts: int) -> bool:
        """BeginString, CompIDs, MsgSeqNum, SendingTime, MsgType, PossDupFlag; what is wrong has been answered."""
        feed, state = self.feed, self.state
        msg_type = message.get(35) or b""
        if state.status == "logon_sent" and msg_type not in {b"A", b"5"}:  # (4)
            self._quarantine_market_data(frame, recv_ts, "arrived before the logon was answered")
            self._refuse_session("First message not a logon")
            return False
        if message.get(8) != feed.begin_string.encode():  # (22)
            self._quarantine_market_data(frame, recv_ts, "wrong BeginString")
            self._refuse_session("Incorrect BeginString")
            return False
        try:
            seq = message.required_number(34)
        except FieldError as error:  # (26)
            self._quarantine_market_data(frame, recv_ts, str(error))
            self._refuse_session(f"MsgSeqNum: {error}")
            return False
        if message.text(49) != feed.target_comp_id or message.text(56) != feed.sender_comp_id:  # (23)
            self._quarantine_market_data(frame, recv_ts, "wrong CompID")
            self._refuse_session("CompID problem", reject=(seq, 9, 49 if message.text(49) != feed.target_comp_id else 56))
            return False
        try:
            sending = self._clock.moment(message.get(52) or b"")
        except Rejected:
            self._quarantine_market_data(frame, recv_ts, "SendingTime is missing or no time")
            self._refuse_session("SendingTime is missing or no time", reject=(seq, 6 if message.get(52) else 1, 52))
            return False
        if self._tolerance_ns and abs(sending - recv_ts) > self._tolerance_ns:  # (24)
            self._quarantine_market_data(frame, recv_ts, "SendingTime accuracy problem")
            self._refuse_session("SendingTime accuracy problem", reject=(seq, 10, 52))
            return False
        return True

    def _in_sequence(self, message: Message, frame: bytes, recv_ts: int) -> None:
        state = self.state
        seq, msg_type = message.required_number(34), message.get(35) or b""
        if msg_type == b"A" and (state.status == "logon_sent" or (message.flag(141) and not message.flag(43))):
            self._on_logon(message, seq, recv_ts)
        elif msg_type == b"4" and not message.flag(123):
            self._on_reset(message, seq, recv_ts)
        elif msg_type == b"5" and state.status == "logon_sent" and seq != state.next_in:  # (7) the reason counts, not the number
            self._on_logout(message)
        elif seq < state.next_in:
            self._on_too_low(message, frame, seq, recv_ts)
        elif seq > state.next_in:
            if msg_type in {b"2", b"5"}:  # (43) answer first, then ask
                self._process(message, frame, seq, recv_ts)
            if msg_type not in {b"4", b"5"}:  # (38)
                self._hold(seq, recv_ts, b"" if msg_type in {b"2", b"A"} else frame)
            if msg_type != b"5":
                self._ask(seq, recv_ts)
        else:
            new = _gap_filled_to(message, msg_type, seq)
            if self._poss_dup_accepted(message, frame, seq, recv_ts):
                self._process(message, frame, seq, recv_ts)
            if new is None:
                state.next_in += 1
            else:
                self._skip(new, recv_ts)
            self._take_what_is_due(recv_ts)

    def _poss_dup_accepted(self, message: Message, frame: bytes, seq: int, recv_ts: int) -> bool:
        """(20, 21) A possible duplicate says when it was first sent."""
        if not message.flag(43) or message.get(35) == b"4":
            return True
        original = message.get(122)
        if original is None:
            self._reject(seq, 1, 122, "Required tag missing")
        else:
            try:
                if self._clock.moment(original) <= self._clock.moment(message.get(52) or b""):
                    return True
            except Rejected:
                pass
            self._refuse_session("SendingTime accuracy problem", reject=(seq, 10, 122))
        self._quarantine_market_data(frame, recv_ts, "OrigSendingTime is missing or after SendingTime")
        return False

    def _process(self, message: Message, frame: bytes, seq: int, recv_ts: int) -> None:
        """A message whose number is due, or was missing."""
        msg_type = message.get(35) or b""
        try:
            match msg_type:
                case b"W" | b"X":
                    self._on_market_data(message, frame, recv_ts)
                case b"0":
                    if message.get(112):
                        self.last_answer = message.text(112)
                case b"1":  # (34)
                    if message.get(112) is None:
                        raise FieldError("TestReqID is missing", 112, 1)
                    self._send("0", [(112, message.get(112) or b"")])
                case b"2":
                    self._on_resend_request(message)
                case b"3" | b"j":  # (44)
                    self.counts.rejects_received += 1
                    self.alarm = f"LP rejected our message {message.text(45)}: {message.text(58)}"
                case b"4":
                    if message.required_number(36) <= seq:
                        raise FieldError(f"Attempt to lower sequence number, invalid value NewSeqNo={message.text(36)}", 36, 5)
                case b"5":
                    self._on_logout(message)
                case b"Y":  # (49)
                    self.alarm = f"LP refused market data: 281={message.text(281)} {message.text(58)}".strip()
                    if symbol := self._requests.get(message.text(262)):
                        self.rejected_requests[symbol] = self.alarm
                case b"y":
                    self._on_security_list(message)
                case b"A":
                    pass
                case _ if msg_type in MSG_TYPES_44:  # (25)
                    self._send("j", [(45, seq), (372, message.text(35)), (380, 3), (58, "Unsupported message type")])
                case _:
                    raise FieldError("Invalid MsgType", 35, 11)
        except FieldError as error:
            if msg_type in {b"W", b"X"}:
                self._quarantine(recv_ts, "", f"undecodable: {error}", frame)
            else:
                self._reject(seq, error.reason, error.tag, str(error))

    def _take_what_is_due(self, recv_ts: int) -> None:
        """next_in has moved: process what is held, as far as it goes without a hole."""
        state = self.state
        while state.next_in in state.held:
            self._take_held()
        if not state.held:
            state.resend_deadline = 0
        elif state.next_in > state.asked_to and state.status in _LIVE:  # a hole that we did not know of when we asked
            self._ask(min(state.held), recv_ts)
        elif state.resend_deadline:  # a long resend may take as long as it moves
            state.resend_deadline = recv_ts + RESEND_TIMEOUT_NS

    def _take_held(self) -> None:
        """Process the message of number next_in. Of a connection that has ended, only market data counts."""
        state = self.state
        seq = state.next_in
        recv_ts, frame = state.held.pop(seq)
        state.held_bytes -= len(frame)
        if frame:
            message = parse(frame)
            counts = state.status in _LIVE or message.get(35) in {b"W", b"X"}
            if counts and self._poss_dup_accepted(message, frame, seq, recv_ts):
                self._process(message, frame, seq, recv_ts)
        state.next_in = seq + 1

    def _hold(self, seq: int, recv_ts: int, frame: bytes) -> None:
        """Keep a message until its number is due; an empty one has been dealt with and only holds its place."""
        if seq in self.state.held:
            self.counts.dropped_duplicates += 1
        else:
            self.state.held[seq] = recv_ts, frame
            self.state.held_bytes += len(frame)

    def _ask(self, seq: int, recv_ts: int) -> None:
        """(16, 32, 38) Ask for what is missing before `seq`, unless that has been asked for."""
        state = self.state
        if not state.resend_deadline or state.next_in > state.asked_to:
            state.resend_deadline = recv_ts + RESEND_TIMEOUT_NS
            state.asked_to = seq - 1
            state.gap_from = self._market_time(min, recv_ts)
            self.counts.resend_requests += 1
            self._send("2", [(7, state.next_in), (16, 0)])
        elif state.held_bytes > HELD_BYTES_MAX:
            self._give_up(recv_ts)

    def _give_up(self, recv_ts: int, cause: GapCause | None = None) -> None:
        """What is missing will not come: record it, and go on with what is held."""
        if self.state.held:
            self._skip(max(self.state.held) + 1, recv_ts, cause)
        self.state.resend_deadline = 0

    def _skip(self, to: int, recv_ts: int, cause: GapCause | None = None) -> None:
        """Move to number `to`; what is held on the way is taken, the rest is a gap (40, 51)."""
        state = self.state
        for seq in [*sorted(seq for seq in state.held if seq < to), to]:
            if seq > state.next_in:
                self._lose(state.next_in, seq - 1, recv_ts, cause)
                state.next_in = seq
            if seq < to:
                self._take_held()

    def _lose(self, first: int, last: int, recv_ts: int, cause: GapCause | None) -> None:
        """The books may have missed something: no side is known any more (51)."""
        state = self.state
        state.unseen = [*state.unseen, (first, last)][-UNSEEN_RANGES_MAX:]
        from_ts = state.gap_from if state.resend_deadline else self._market_time(min, recv_ts)
        self._open_gap(cause or ("garbled" if first <= state.garbled_until else "gap_fill"), first, last, from_ts)
        self.market.withdraw_all()
        self._stale = True

    # ---- kinds of messages

    def _on_logon(self, message: Message, seq: int, recv_ts: int) -> None:
        state = self.state
        in_session, reset = state.status != "logon_sent", message.flag(141) or state.reset_sent
        try:
            heartbeat_s = message.required_number(108)
            if heartbeat_s < 0:
                raise FieldError("Negative heartbeat interval", 108, 5)
        except FieldError as error:  # (5)
            self._refuse_session(f"Invalid logon: {error}", reject=(seq, error.reason, 108))
            return
        if in_session and reset and seq == state.next_in == 2:  # QuickFIX answers our answer
            state.next_in = 3
            return
        if reset and seq != 1:
            self._refuse_session(f"Logon with ResetSeqNumFlag must have MsgSeqNum 1, received {seq}")
            return
        if reset:  # (8, 9)
            self._give_up(recv_ts, "reset")
            state.next_in, state.unseen, state.garbled_until = 1, [], 0
        elif seq < state.next_in and not message.flag(43):  # (3)
            self._too_low(seq)
            return
        state.heartbeat_s = heartbeat_s
        if in_session:
            self._answer_reset(recv_ts)
            return
        if reset and not state.reset_sent:
            state.next_out = 2
        state.status, state.logged_on = "established", True
        if seq > state.next_in:  # (2) the logon itself counts; what came before it is asked for
            self._hold(seq, recv_ts, b"")
            self._ask(seq, recv_ts)
        elif seq == state.next_in:
            state.next_in += 1
        self.symbols = []
        if self.feed.symbols == "all":
            self._send("x", [(320, self._new_id()), (559, 4)])
        else:
            self._subscribe(list(self.feed.symbols))

    def _answer_reset(self, recv_ts: int) -> None:
        """(9) The LP resets both directions in mid-session: our logon is number 1, and nothing waits to be sent before it."""
        state = self.state
        self._open_gap("reset", None, None, self._market_time(min, recv_ts))
        self.market.withdraw_all()
        self._stale = True
        state.next_in, state.next_out = 2, 1
        self.sends.clear()
        self._send("A", [(98, 0), (108, state.heartbeat_s), (141, "Y")])

    def _on_reset(self, message: Message, seq: int, recv_ts: int) -> None:
        """(41) SequenceReset-Reset: its own number does not matter."""
        state = self.state
        try:
            new = message.required_number(36)
        except FieldError as error:
            self._reject(seq, error.reason, error.tag, str(error))
            return
        if new < state.next_in:
            self._reject(seq, 5, 36, f"Value is incorrect (out of range) for this tag, NewSeqNo={new}")
        else:
            self._skip(new, recv_ts, "reset")
            self._take_what_is_due(recv_ts)

    def _on_too_low(self, message: Message, frame: bytes, seq: int, recv_ts: int) -> None:
        if not message.flag(43):  # (18, 39)
            self._quarantine_market_data(frame, recv_ts, "sequence number was seen before")
            self._too_low(seq)
        elif message.get(35) != b"4" and self._poss_dup_accepted(message, frame, seq, recv_ts):  # (19)
            unseen = next(((first, last) for first, last in self.state.unseen if first <= seq <= last), None)
            if unseen is None:
                self.counts.dropped_duplicates += 1
                return
            left = [*self.state.unseen, (unseen[0], seq - 1), (seq + 1, unseen[1])]
            self.state.unseen = [piece for piece in left if piece != unseen and piece[0] <= piece[1]][-UNSEEN_RANGES_MAX:]
            with self.market.past():
                self._process(message, frame, seq, recv_ts)

    def _on_resend_request(self, message: Message) -> None:
        """(42) All our application messages are requests for data: fill the gap instead of sending old ones again.

        An LP that holds our requests back until the gap is filled throws them away with the fill: then they are made anew.
        """
        first, last = message.required_number(7), message.required_number(16)
        end = self.state.next_out - 1
        if last == 0 or last > end:
            last = end
        if not 0 < first <= last:
            return
        fill = Send("4", [(123, "Y"), (36, last + 1)], first)
        self.sends.insert(sum(send.seq is not None for send in self.sends), fill)  # before what has no number yet
        if self._unanswered is not None and self._unanswered <= last and self.state.status == "established":
            self._unanswered = None
            if self.feed.symbols == "all" and not self.symbols:
                self._send("x", [(320, self._new_id()), (559, 4)])
            else:
                self._resubscribe()

    def _on_logout(self, message: Message) -> None:
        """(11, 12) Answer; the acceptor closes."""
        if self.state.status == "logging_out":
            self.disconnect_reason = "logged out"
            return
        if self.state.status == "logon_sent":  # (7)
            self.alarm = f"logon rejected: {message.text(58)}"
            self.state.status = "rejected"
            self.disconnect_reason = self.alarm
            return
        self.alarm = f"LP logged out: {message.text(58)}" if message.get(58) else None
        self._send("5", [])

    def _on_security_list(self, message: Message) -> None:
        self._unanswered = None
        if message.get(560) not in {None, b"0"}:
            self.alarm = f"LP refused the security list: 560={message.text(560)} {message.text(58)}"
        self._subscribe([value.decode("utf-8", "replace") for tag, value in message.fields if tag == 55])

    def _on_market_data(self, message: Message, frame: bytes, recv_ts: int) -> None:
        found: MarketData = decode(message)
        self._unanswered = None
        self._decoder.learn(message)
        self._quotes.learn(message)
        state = self.state
        sending = self._clock.moment(found.sending_time)
        marks = _RESENT if message.flag(43) or message.flag(97) else 0
        before = len(self._outcome.ticks)
        self.market.apply(found, sending, recv_ts, marks, self._outcome.ticks, self._refused)
        if self._refused:
            self._quarantine_refused(frame, recv_ts)
        state.last_sending = sending
        ticks = self._outcome.ticks[before:]
        if state.open_gaps and not marks and any(found.snapshot or not tick[9] & _ONE_SIDED for tick in ticks):
            until = self._market_time(max, recv_ts)
            for gap in state.open_gaps:
                resolved = msgspec.structs.replace(gap, to_ts=max(until, gap.from_ts), resolved_by="snapshot")
                self._outcome.gaps.append(resolved)
            state.open_gaps = []

    # ---- what we ask for

    def _subscribe(self, symbols: list[str]) -> None:
        """One request a symbol, so that a refusal (Y) names it; each under an id never used before (50)."""
        for symbol in symbols:
            if not (symbol.isprintable() and symbol.isascii()):
                self.rejected_requests[symbol] = "cannot be asked for: not printable ASCII"
            elif symbol not in self.symbols and len(self.symbols) < SYMBOLS_MAX:
                self.symbols.append(symbol)
                self._request(symbol)

    def _resubscribe(self) -> None:
        """(51) Fresh snapshots for all: end the old requests, make new ones."""
        self._stale = False
        if self.state.status != "established":
            return
        self.unsubscribe()
        for symbol in self.symbols:
            if symbol not in self.rejected_requests:
                self._request(symbol)

    def unsubscribe(self) -> None:
        """(53) End every request that stands."""
        for request, symbol in self._requests.items():
            if symbol not in self.rejected_requests:
                self._send("V", _market_data_request(request, "2", symbol))
        self._requests.clear()

    def _request(self, symbol: str) -> None:
        request = self._new_id()
        self._requests[request] = symbol
        self._send("V", _market_data_request(request, "1", symbol))

    def _new_id(self) -> str:
        self._request_number += 1
        return f"{self._connection}-{self._request_number}"

    def logout(self, text: str = "") -> None:
        """(11) End the session in order."""
        self._send("5", [(58, text)] if text else [])

    # ---- what goes wrong

    def _too_low(self, seq: int) -> None:
        self._refuse_session(f"MsgSeqNum too low, expecting {self.state.next_in} but received {seq}")

    def _refuse_session(self, text: str, reject: tuple[int, int, int] | None = None) -> None:
        """Logout with the reason and end the connection: nothing more of it counts. An operator has to look."""
        if reject is not None:
            seq, reason, tag = reject
            self._reject(seq, reason, tag, text)
        self._send("5", [(58, text)])
        self.alarm = text
        self.disconnect_reason = text
        self.state.status = "rejected"

    def _reject(self, seq: int, reason: int, tag: int | None, text: str) -> None:
        fields: list[tuple[int, str | int | bytes]] = [(45, seq)]
        if tag is not None:
            fields.append((371, tag))
        self._send("3", [*fields, (373, reason), (58, _printable(text))])

    def _send(self, msg_type: str, fields: list[tuple[int, str | int | bytes]], seq: int | None = None) -> None:
        self.sends.append(Send(msg_type, fields, seq))

    def _quarantine(self, recv_ts: int, symbol: str, reason: str, raw: bytes) -> None:
        self.state.quarantine_number += 1
        name = self.feed.name
        self._outcome.quarantined.append(Quarantined(recv_ts, name, name, symbol, reason, raw, self.state.quarantine_number))

    def _quarantine_refused(self, frame: bytes, recv_ts: int) -> None:
        for item in self._refused:
            self._quarantine(recv_ts, item.symbol, item.reason, frame)
        unknown_entry = UNKNOWN_ENTRY in self._refused
        self._refused.clear()
        if unknown_entry and recv_ts - self._resubscribed_at > RESUBSCRIBE_PAUSE_NS:  # (52)
            self._resubscribed_at = recv_ts
            self._stale = True

    def _quarantine_market_data(self, frame: bytes, recv_ts: int, reason: str) -> None:
        if b"\x0135=W\x01" in frame or b"\x0135=X\x01" in frame:
            self._quarantine(recv_ts, "", reason, frame)

    # ---- gaps

    def _closed(self, cause: GapCause, now: int) -> None:
        state = self.state
        frames, cut = self._framer.feed(b"", now, last=True)
        for frame in frames:  # what stood behind a message that is longer than it came
            self._on_frame(frame, now)
        for piece in cut:  # (31)
            self._quarantine(now, "", "cut by the end of the connection", piece[:RAW_BYTES_MAX])
        state.status = "closed"
        recorded = any(gap.cause in {"disconnect", "restart"} for gap in state.open_gaps)
        if self.feed.reset_on_logon:
            self._give_up(now, cause)
        if state.logged_on and not recorded:
            self._open_gap(cause, state.next_in, None, self._market_time(min, now))
        self.market.withdraw_all()
        state.logged_on = False
        state.resend_deadline = 0
        self.sends.clear()

    def _open_gap(self, cause: GapCause, first: int | None, last: int | None, from_ts: int) -> None:
        gap = Gap(self.feed.name, first, last, from_ts, None, cause, None)
        self.state.open_gaps.append(gap)
        self._outcome.gaps.append(gap)

    def _market_time(self, choose: Callable[[int, int], int], recv_ts: int) -> int:
        """The feed's own now: SendingTime and the last event time where they agree, event time alone in a replay of history.

        Before the first quote it is ours.
        """
        ticks = self._outcome.ticks
        if ticks:
            self.state.last_ts = ticks[-1][2]
        sending, ts = self.state.last_sending, self.state.last_ts
        if not ts or abs(sending - ts) > REPLAYED_SKEW_NS:
            return ts or sending or recv_ts
        return choose(sending, ts)


def _market_data_request(request: str, kind: str, symbol: str) -> list[tuple[int, str | int | bytes]]:
    """Top of book, incremental, bid and offer, one symbol."""
    fields: list[tuple[int, str | int | bytes]] = [(262, request), (263, kind), (264, 1), (265, 1)]
    return [*fields, (267, 2), (269, 0), (269, 1), (146, 1), (55, symbol)]


def _gap_filled_to(message: Message, msg_type: bytes, seq: int) -> int | None:
    """(37) Where a valid gap fill leads; None for every other message."""
    if msg_type != b"4":
        return None
    value = message.get(36) or b""
    return int(value) if value.isdigit() and len(value) < 19 and int(value) > seq else None


def _rough_seq(frame: bytes) -> int | None:
    """The MsgSeqNum of a frame that does not parse."""
    at = frame.find(b"\x0134=")
    value = frame[at + 4 : frame.find(b"\x01", at + 4)] if at > 0 else b""
    return int(value) if value.isdigit() and len(value) < 19 else None


def _printable(text: str) -> str:
    return "".join(character if character.isprintable() and character.isascii() else "?" for character in text)[:200]
