"""A FIX session as a fold over its journal: records in; ticks, gaps, quarantine, and what to send, out.

    opened ─▶ logon sent ─▶ logon accepted ─▶ established ─▶ logging out ─▶ closed
                  │ refused, invalid                │ too low, wrong CompID, …
                  └──────────▶ rejected: Logout, then nothing of this connection counts any more

No socket, no clock: time is the record's. Replaying the records of a journal gives the same state and the same ticks; what a
replay wants to send is thrown away, since what was really sent stands in the journal too. Numbers in comments are those of the
checklist in docs/fix.md.
"""

import msgspec

from libs.common.domain.errors import Rejected
from libs.common.domain.moment import NS_PER_MS, NS_PER_S
from libs.common.domain.record import GapCause
from libs.common.telemetry import logger
from services.gateway.feeds import FixFeed
from services.gateway.fix.capture import MARKET_DATA, Capture
from services.gateway.fix.dictionary import dictionary
from services.gateway.fix.framer import Framer
from services.gateway.fix.quotes import Quotes
from services.gateway.fix.state import Counts, Fields, Send, State
from services.gateway.fix.subscription import Subscriptions
from services.gateway.fix.wire import Clock, FieldError, Message, parse, parse_roughly
from services.gateway.journal import Direction, Record

HELD_BYTES_MAX = 32_000_000  # messages kept while a gap before them is being resent
HELD_BYTES_MIN = 100
RESEND_TIMEOUT_NS = 30 * NS_PER_S  # a gap that is not filled by then is recorded and the session goes on
UNSEEN_RANGES_MAX = 100
LEAP_MAX = 10_000  # messages that one may be ahead of the one before it on its connection: TCP loses none of them
RAW_BYTES_MAX = 65_536  # of a garbled piece, in quarantine; the journal has it whole

# (46) of these we check what we use of them: a tag that the standard does not know must not cost a subscription
_READ_LENIENTLY = MARKET_DATA | {b"A", b"j", b"y", b"d", b"Y", b"b", b"AG", b"AI"}
_ADMIN = frozenset(
    {b"1", b"2", b"3", b"4", b"5"}
)  # to refuse one of these because of an LP's own tag (≥ 5000) would cost the session
_REASON_MAX_42 = 11  # the SessionRejectReasons(373) that FIX 4.2 knows end here
_INACCURATE = "SendingTime accuracy problem"
_ROUTES = {128: 115, 129: 116, 145: 144, 115: 128, 116: 129, 144: 145}  # tag received -> tag of the answer
_LIVE = frozenset({"established", "logging_out"})


class Session:
    """`sends` and `disconnect_reason` are for the connection, `alarms` for people; `take` is for the publisher."""

    def __init__(self, feed: FixFeed) -> None:
        self.feed = feed
        self.state = State()
        self.counts = Counts()
        self.sends: list[Send] = []
        self.disconnect_reason: str | None = None
        self.alarms: dict[str, str] = {}  # kind -> what an operator has to look at, until the next logon that works
        self.last_answer = ""  # the TestReqID of the last heartbeat that had one
        self.subscriptions = Subscriptions(feed, self.state.asked, self.sends)
        self._clock = Clock()
        self._dictionary = dictionary(feed.begin_string)
        self.capture = Capture(feed, self.state, self._clock)
        self.market = self.capture.market
        self.group_of = self.capture.group_of
        self.take = self.capture.take
        self._framer = Framer()
        self._facts_before = 0
        self._tolerance_ns = int(feed.sending_time_tolerance_s * NS_PER_S)

    @property
    def alarm(self) -> str | None:
        """The newest."""
        return next(reversed(self.alarms.values()), None)

    @property
    def durable(self) -> int:
        return self.state.durable

    @property
    def at_rest(self) -> bool:
        """What is held for a resend is not copied into every segment."""
        return not self.state.held

    # ---- the records of the journal

    def apply(self, record: Record, *, live: bool = False) -> None:
        if record.direction is Direction.IN:
            self.received(record.data, record.recv_ts)
        elif record.direction is Direction.OUT:
            self._on_own(record.data)
        elif record.direction is Direction.OPENED:
            self.opened(record.recv_ts)
        elif record.direction is Direction.CLOSED:
            self.closed(record.recv_ts)
        elif record.direction is Direction.CLOCK:
            self.waited(msgspec.msgpack.decode(record.data, type=list[str]), record.recv_ts)
        else:
            self._restore(record.data)
        if not live:
            self.sends.clear()

    def opened(self, now: int) -> None:
        """The transport is connected: log on, and nothing else before the answer (1)."""
        state, feed = self.state, self.feed
        if state.status != "closed":
            self._closed("restart", now)
        self._begin_stretch(now)
        state.status = "logon_sent"
        state.heartbeat_s = feed.heartbeat_s
        state.reset_sent = feed.reset_on_logon
        self.disconnect_reason = None
        state.wants_snapshots = False
        self.subscriptions.connected(str(now // NS_PER_MS))
        if state.reset_sent:
            state.next_out = 1
        fields: Fields = [(98, 0), (108, feed.heartbeat_s)]
        if state.reset_sent:
            fields.append((141, "Y"))
        if feed.next_expected_seq_num:  # (10)
            fields.append((789, 1 if state.reset_sent else state.next_in))
        if feed.default_appl_ver_id:
            fields.append((1137, feed.default_appl_ver_id))
        self._send("A", fields)

    def _begin_stretch(self, now: int) -> None:
        """(14) Numbers begin at 1 with each stretch of the schedule, on both sides, without a word on the wire."""
        state = self.state
        began = self.feed.schedule.began(now) if self.feed.schedule else None
        if began is None or began == state.session_began:
            return
        if state.session_began:
            self._give_up(now, "reset")
            state.next_in = state.next_out = 1
            state.unseen, state.garbled_until = [], 0
        state.session_began = began

    def closed(self, now: int) -> None:
        """The transport is gone, whoever ended it (13): numbers stay."""
        if self.state.status == "logon_sent":  # (7)
            self._alarm("logon_rejected", "the connection ended before the logon was answered")
        if self.state.status != "closed":
            self._closed("disconnect", now)

    def _on_own(self, frame: bytes) -> None:
        """A message of ours, as the journal has it."""
        message = parse(frame)
        msg_type, seq = message.get(35) or b"", message.required_number(34)
        if msg_type == b"5" and self.state.status in {"established", "logon_sent"}:
            self.state.status = "logging_out"
        if not message.flag(43):
            self.state.next_out = seq + 1
        self.subscriptions.sent(msg_type, seq)

    def waited(self, stale: list[str], now: int) -> None:
        """Nothing came: these groups of symbols have gone stale; and a resend may have been waited for long enough."""
        self.capture.went_stale(stale, now)
        if 0 < self.state.resend_deadline < now:
            self._give_up(now)

    def received(self, data: bytes, recv_ts: int) -> None:
        """What the socket gave, in order; recv_ts in ns, whole µs."""
        state, counts, capture = self.state, self.counts, self.capture
        market, ticks = capture.market, capture.outcome.ticks
        self._facts_before = len(ticks) + len(capture.outcome.quarantined)
        tolerance = self._tolerance_ns or 2**62
        shape = capture.quotes.run_shape
        simple = not (state.held or state.open_gaps or state.resend_deadline)
        if shape is not None and state.status == "established" and simple:
            buffer = self._framer.rest + data
            expected = state.next_in
            position, state.next_in, sending = market.apply_run(shape, buffer, expected, recv_ts, tolerance, ticks)
            if position:
                counts.messages += state.next_in - expected
                state.last_sending = sending
                data = buffer[position:]
                self._framer.rest = b""
        frames, garbled = self._framer.feed(data, recv_ts)
        if garbled:
            self._on_garbled(garbled, len(frames), recv_ts)
        match_quotes, match, refused, moment = capture.quotes.match, capture.decoder.match, capture.refused, self._clock.moment
        apply_quotes, apply = market.apply_quotes, market.apply
        for frame in frames:
            counts.messages += 1
            try:
                found = match_quotes(frame) or match(frame)
                if (
                    found is not None
                    and found[0] == state.next_in
                    and state.status == "established"
                    and not state.held
                    and not state.open_gaps
                    and not state.resend_deadline
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
                            apply_quotes(found, sending, recv_ts, ticks, refused)
                        else:
                            apply(found, sending, recv_ts, 0, ticks, refused)
                        if refused:
                            capture.quarantine_refused(frame, recv_ts)
                        continue
                self._on_frame(frame, recv_ts)
            except Exception as error:  # noqa: BLE001 - whatever it is: the next start would meet the same message
                self._on_fault(frame, error, recv_ts)
        if state.resend_deadline and recv_ts > state.resend_deadline:
            self._give_up(recv_ts)
        if state.wants_snapshots and not state.resend_deadline and state.status == "established":
            state.wants_snapshots = False
            self.subscriptions.resubscribe()
        self._note_answer()
        capture.piece_ended(recv_ts)

    def _on_fault(self, frame: bytes, error: Exception, recv_ts: int) -> None:
        """A fault of ours costs one message and not the gateway: it is kept, its number is used, and people are told."""
        self.counts.faults += 1
        text = f"a fault of the gateway: {error!r}"[:300]
        logger().error("a message could not be dealt with; it is in quarantine", session=self.feed.name, exc_info=error)
        self._alarm("fault", text)
        self.capture.quarantine(recv_ts, "", text, frame)
        if parse_roughly(frame).get(34) == b"%d" % self.state.next_in:
            self.state.next_in += 1

    def _note_answer(self) -> None:
        """Whether quotes came with what is being read, of use or not: the LP has seen our requests."""
        if len(self.capture.outcome.ticks) + len(self.capture.outcome.quarantined) > self._facts_before:
            self.subscriptions.answered()

    # ---- state in a segment

    def snapshot(self, durable: int) -> bytes:
        state = self.state
        state.durable = durable
        state.rest, state.waiting_since = self._framer.rest, self._framer.waiting_since
        state.books = self.market.snapshot()
        return msgspec.msgpack.encode(state)

    def _restore(self, snapshot: bytes) -> None:
        self.state = self.capture.state = msgspec.msgpack.decode(snapshot, type=State)
        self.subscriptions.asked = self.state.asked
        self._framer = Framer(self.state.rest, self.state.waiting_since)
        self.market.restore(self.state.books)

    # ---- one message

    def _on_garbled(self, garbled: list[bytes], frames: int, recv_ts: int) -> None:
        """(27-30, 32) Kept and counted; sequence numbers stand. Some number up to the last of this chunk may have been in it."""
        self.counts.garbled += len(garbled)
        self.state.garbled_until = max(self.state.held, default=self.state.next_in) + frames
        reason = "garbled: not a FIX frame, or its length or checksum is wrong"
        for piece in garbled:
            self.capture.quarantine(recv_ts, "", reason, piece[:RAW_BYTES_MAX])
        answers = [piece for piece, before in zip(garbled, self._framer.frames_before, strict=True) if not before]
        if self.state.status == "logon_sent" and any(piece.startswith(b"8=FIX") for piece in answers):  # (5)
            self._refuse_session("Invalid logon: garbled")

    def _on_frame(self, frame: bytes, recv_ts: int) -> None:
        if self.state.status in {"closed", "rejected"}:
            self.capture.quarantine_market_data(frame, recv_ts, "arrived after the session was given up")
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
        state, message = self.state, parse_roughly(frame)
        number = message.get(34) or b""
        seq = int(number) if number.isdigit() and len(number) < 19 else None
        self.capture.quarantine(recv_ts, "", f"undecodable: {error}", frame)
        if state.status == "logon_sent" or seq is None:
            self._refuse_session(f"Invalid message: {error}")
        elif seq == state.next_in:
            self._reject(seq, error, message)
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
            self.capture.quarantine_market_data(frame, recv_ts, "arrived before the logon was answered")
            self._refuse_session("First message not a logon")
            return False
        if message.get(8) != feed.begin_string.encode():  # (22)
            self.capture.quarantine_market_data(frame, recv_ts, "wrong BeginString")
            self._refuse_session("Incorrect BeginString")
            return False
        try:
            seq = message.required_number(34)
        except FieldError as error:  # (26)
            self.capture.quarantine_market_data(frame, recv_ts, str(error))
            self._refuse_session(f"MsgSeqNum: {error}")
            return False
        reached = next(reversed(state.held), state.next_in - 1)
        if state.status in _LIVE and seq > reached + LEAP_MAX and msg_type not in {b"4", b"A"} and not message.flag(43):
            self.counts.garbled += 1  # its number is not used: what it was is asked for when the next one comes
            self.capture.quarantine(recv_ts, "", f"MsgSeqNum {seq} is too far beyond {reached} to be true", frame)
            return False
        lacks = None in (message.get(49), message.get(56), message.get(52))
        if lacks and msg_type not in _READ_LENIENTLY and state.status in _LIVE:
            return True  # (46) the check of its fields rejects it, when its number is due
        if message.text(49) != feed.target_comp_id or message.text(56) != feed.sender_comp_id:  # (23)
            self.capture.quarantine_market_data(frame, recv_ts, "wrong CompID")
            self._refuse_session("CompID problem", message, FieldError("CompID problem", None, 9))
            return False
        try:
            sending = self._clock.moment(message.get(52) or b"")
        except Rejected:
            self.capture.quarantine_market_data(frame, recv_ts, "SendingTime is missing or no time")
            wrong = FieldError("SendingTime is missing or no time", 52, 6 if message.get(52) else 1)
            self._refuse_session(str(wrong), message, wrong)
            return False
        if self._tolerance_ns and abs(sending - recv_ts) > self._tolerance_ns:  # (24)
            self.capture.quarantine_market_data(frame, recv_ts, "SendingTime accuracy problem")
            self._refuse_session(_INACCURATE, message, FieldError(_INACCURATE, None, 10))
            return False
        return True

    def _in_sequence(self, message: Message, frame: bytes, recv_ts: int) -> None:
        state = self.state
        seq, msg_type = message.required_number(34), message.get(35) or b""
        if state.held and seq >= state.next_in and msg_type not in {b"4", b"A"} and not message.flag(43):
            self._forget_false_numbers(seq, recv_ts)
        if msg_type == b"A" and (state.status == "logon_sent" or (message.flag(141) and not message.flag(43))):
            self._on_logon(message, seq, recv_ts)
        elif msg_type == b"4" and not message.flag(123):
            self._on_reset(message, seq, recv_ts)
        elif msg_type == b"5" and state.status == "logon_sent" and seq != state.next_in:  # (7) the reason counts, not the number
            self._on_logout(message)
        elif seq < state.next_in and msg_type in {b"2", b"5"} and not message.flag(43):  # what it asks for it needs all the same
            self._process(message, frame, seq, recv_ts)
        elif seq < state.next_in:
            self._on_too_low(message, frame, seq, recv_ts)
        elif msg_type == b"4" and message.flag(43) and message.get(36) == message.get(34):
            pass  # an LP that was asked for what it has not sent yet says that there is nothing to fill
        elif seq > state.next_in:
            if msg_type in {b"2", b"5"}:  # (43) answer first, then ask
                self._process(message, frame, seq, recv_ts)
            if msg_type not in {b"4", b"5"}:  # (38)
                self._hold(seq, recv_ts, b"" if msg_type in {b"2", b"A"} else frame)
            if msg_type != b"5":
                self._ask(seq, recv_ts, passed=not message.flag(43))
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
            self._reject(seq, FieldError("Required tag missing", 122, 1), message)
        else:
            try:
                if self._clock.moment(original) <= self._clock.moment(message.get(52) or b""):
                    return True
            except Rejected:
                pass
            self._refuse_session(_INACCURATE, message, FieldError(_INACCURATE, None, 10))
        self.capture.quarantine_market_data(frame, recv_ts, "OrigSendingTime is missing or after SendingTime")
        return False

    def _process(self, message: Message, frame: bytes, seq: int, recv_ts: int) -> None:
        """A message whose number is due, or was missing."""
        msg_type = message.get(35) or b""
        try:
            if msg_type not in _READ_LENIENTLY:
                self._dictionary.check(message, accept_user_defined=msg_type in _ADMIN)
            match msg_type:
                case b"W" | b"X" | b"S" | b"i" | b"Z":
                    self.capture.keep(message, frame, recv_ts, self.subscriptions.symbol_of(message.text(131), message.text(302)))
                    if msg_type == b"i" and message.get(301) in {b"1", b"2"}:
                        self._send("b", [(117, message.get(117) or b"0"), (297, 0)])
                case b"0":
                    if message.get(112):
                        self.last_answer = message.text(112)
                case b"1":  # (34)
                    if message.get(112) is None:
                        raise FieldError("TestReqID is missing", 112, 1)
                    self._send("0", [(112, message.get(112) or b"")])
                case b"2":
                    self._on_resend_request(message)
                case b"3" | b"j":
                    self._on_rejected(message)
                case b"4":
                    if message.required_number(36) <= seq:
                        raise FieldError(f"Attempt to lower sequence number, invalid value NewSeqNo={message.text(36)}", 36, 5)
                case b"5":
                    self._on_logout(message)
                case b"Y":  # (49)
                    self._on_refused(message.text(262), f"281={message.text(281)} {message.text(58)}", message)
                case b"AG":
                    self._on_refused(message.text(131), f"658={message.text(658)} {message.text(58)}", message)
                case b"b" | b"AI" if message.get(297) in {b"5", b"9"}:  # rejected, not found
                    self._on_refused(message.text(131), f"297={message.text(297)} {message.text(58)}", message)
                case b"b" | b"AI":
                    pass
                case b"y" | b"d" if self.feed.symbols == "all":
                    self._on_list(message)
                case b"A":
                    pass
                case _ if msg_type in self._dictionary.message_types:  # (25)
                    text = "Unsupported Message Type"
                    self._send("j", [*_route_back(message), (45, seq), (58, text), (372, message.text(35)), (380, 3)])
                case _:
                    raise FieldError("Invalid MsgType", 35, 11)
        except FieldError as error:
            if msg_type in MARKET_DATA or msg_type not in self._dictionary.message_types:  # which may have been market data
                self.capture.quarantine(recv_ts, "", f"undecodable: {error}", frame)
            if msg_type not in MARKET_DATA:
                self._reject(seq, error, message)

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
            if state.chunk_to and state.next_in > state.chunk_to and state.status in _LIVE:
                self._ask_for_chunk()

    def _take_held(self) -> None:
        """Process the message of number next_in. Of a connection that has ended, only market data counts."""
        state = self.state
        seq = state.next_in
        recv_ts, frame = state.held.pop(seq)
        state.held_bytes -= _held_bytes(frame)
        if frame:
            message = parse(frame)
            counts = state.status in _LIVE or message.get(35) in MARKET_DATA
            if counts and self._poss_dup_accepted(message, frame, seq, recv_ts):
                self._process(message, frame, seq, recv_ts)
        state.next_in = seq + 1

    def _hold(self, seq: int, recv_ts: int, frame: bytes) -> None:
        """Keep a message until its number is due; an empty one has been dealt with and only holds its place."""
        if seq in self.state.held:
            self.counts.dropped_duplicates += 1
        else:
            self.state.held[seq] = recv_ts, frame
            self.state.held_bytes += _held_bytes(frame)

    def _forget_false_numbers(self, seq: int, recv_ts: int) -> None:
        """TCP keeps order: of two live messages the first has the lower number. What is held beyond `seq` is not what it says."""
        state = self.state
        for false in [number for number, (_, frame) in state.held.items() if number > seq and b"\x0143=Y\x01" not in frame]:
            _, frame = state.held.pop(false)
            state.held_bytes -= _held_bytes(frame)
            reason = f"MsgSeqNum {false} was not true: a message that was sent after it has {seq}"
            self.capture.quarantine_market_data(frame, recv_ts, reason)

    def _ask(self, seq: int, recv_ts: int, *, comes_by_itself: bool = False, passed: bool = False) -> None:
        """(16, 32, 38) Ask for what is missing before `seq`, unless that has been asked for.

        `passed`: the LP has just got to `seq`. Had we asked for more than it ever sent, because of a number that was not true,
        the hole before `seq` would not have been asked for.
        """
        state = self.state
        if not state.resend_deadline or state.next_in > state.asked_to or (passed and seq <= state.asked_to):
            state.resend_deadline = recv_ts + RESEND_TIMEOUT_NS
            state.asked_to = seq - 1
            state.gap_from = self.capture.market_time(min, recv_ts)
            state.chunk_to = 0
            if not comes_by_itself:
                self._ask_for_chunk()
        elif state.held_bytes > HELD_BYTES_MAX:
            self._give_up(recv_ts)

    def _ask_for_chunk(self) -> None:
        """(17) A ResendRequest for what is missing, or for as much of it as is configured."""
        state, chunk = self.state, self.feed.resend_chunk
        state.chunk_to = min(state.next_in + chunk - 1, state.asked_to) if chunk else 0
        self.counts.resend_requests += 1
        self._send("2", [(7, state.next_in), (16, state.chunk_to)])

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
        from_ts = state.gap_from if state.resend_deadline else self.capture.market_time(min, recv_ts)
        self.capture.open_gap(cause or ("garbled" if first <= state.garbled_until else "gap_fill"), from_ts, first, last)
        self.capture.withdraw()

    # ---- kinds of messages

    def _on_logon(self, message: Message, seq: int, recv_ts: int) -> None:
        state = self.state
        in_session, reset = state.status != "logon_sent", message.flag(141) or state.reset_sent
        try:
            heartbeat_s = message.required_number(108)
            if heartbeat_s < 0:
                raise FieldError("Value is incorrect (out of range) for this tag", 108, 5)
            if self.feed.default_appl_ver_id and message.get(1137) is None:  # (6)
                raise FieldError("Required tag missing", 1137, 1)
            expected_by_lp = message.number(789) if self.feed.next_expected_seq_num else None
        except FieldError as error:  # (5)
            self._refuse_session(f"Invalid logon: {error}", message, error)
            return
        if in_session and reset and seq == state.next_in == 2:  # QuickFIX answers our answer
            state.next_in = 3
            return
        if message.flag(141) and seq != 1:
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
        if expected_by_lp is not None and not self._lp_expects(expected_by_lp):
            return
        state.status, state.logged_on = "established", True
        self.alarms.clear()
        self.capture.reconnected(recv_ts)
        if seq > state.next_in:  # (2) the logon itself counts; what came before it is asked for
            self._hold(seq, recv_ts, b"")
            self._ask(seq, recv_ts, comes_by_itself=expected_by_lp is not None)
        elif seq == state.next_in:
            state.next_in += 1
        self.subscriptions.begin()

    def _lp_expects(self, number: int) -> bool:
        """(10) The LP's NextExpectedMsgSeqNum: what it has not seen is filled over our logon, unasked."""
        next_out = self.state.next_out
        if number > next_out:
            self._refuse_session(f"NextExpectedMsgSeqNum(789) is too high, expecting {next_out} but received {number}")
            return False
        if 0 < number < next_out:
            self._send("4", [(123, "Y"), (36, next_out)], number)
        return True

    def _answer_reset(self, recv_ts: int) -> None:
        """(9) The LP resets both directions in mid-session: our logon is number 1, and nothing waits to be sent before it."""
        state, feed = self.state, self.feed
        self.capture.open_gap("reset", self.capture.market_time(min, recv_ts))
        self.capture.withdraw()
        state.next_in, state.next_out = 2, 1
        self.sends.clear()
        version: Fields = [(1137, feed.default_appl_ver_id)] if feed.default_appl_ver_id else []
        self._send("A", [(98, 0), (108, state.heartbeat_s), (141, "Y"), *version])

    def _on_reset(self, message: Message, seq: int, recv_ts: int) -> None:
        """(41) SequenceReset-Reset: its own number does not matter."""
        state = self.state
        try:
            new = message.required_number(36)
        except FieldError as error:
            self._reject(seq, error, message)
            return
        if new < state.next_in:
            self._reject(seq, FieldError("Value is incorrect (out of range) for this tag", None, 5), message)
        else:
            self._skip(new, recv_ts, "reset")
            self._take_what_is_due(recv_ts)

    def _on_too_low(self, message: Message, frame: bytes, seq: int, recv_ts: int) -> None:
        if not message.flag(43):  # (18, 39)
            self.capture.quarantine_market_data(frame, recv_ts, "sequence number was seen before")
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
        self._note_answer()
        if self.state.status == "established":
            self.subscriptions.missed(last)

    def _on_logout(self, message: Message) -> None:
        """(11, 12) Answer; the acceptor closes."""
        if self.state.status == "logging_out":
            self.disconnect_reason = "logged out"
            return
        if self.state.status == "logon_sent":  # (7)
            self.disconnect_reason = f"logon rejected: {message.text(58)}"
            self._alarm("logon_rejected", self.disconnect_reason)
            self.state.status = "rejected"
            return
        if message.get(58):
            self._alarm("logged_out", f"LP logged out: {message.text(58)}")
        self._send("5", [])

    def _on_rejected(self, message: Message) -> None:
        """(44) Reject, BusinessMessageReject."""
        self.counts.rejects_received += 1
        what = f"LP rejected our message {message.text(45)} ({message.text(372)}): {message.text(58)}"
        if self.subscriptions.rejected(message.text(372)):
            self.subscriptions.no_list(message.text(58))
            self._alarm("no_list", self.subscriptions.list_refused or "")
        else:
            self._alarm("lp_rejects", what)

    def _on_refused(self, request: str, why: str, message: Message) -> None:
        self._alarm("symbols_refused", f"LP refused market data of {message.text(55) or request}: {why}".strip())
        self.subscriptions.refuse(request, message.text(55), why.strip())

    def _on_list(self, message: Message) -> None:
        self.subscriptions.listed(message)
        if self.subscriptions.list_refused:
            self._alarm("no_list", self.subscriptions.list_refused)

    # ---- what we say

    def _alarm(self, kind: str, text: str) -> None:
        self.alarms.pop(kind, None)
        self.alarms[kind] = text

    def logout(self, text: str = "") -> None:
        """(11) End the session in order."""
        self._send("5", [(58, text)] if text else [])

    # ---- what goes wrong

    def _too_low(self, seq: int) -> None:
        self._refuse_session(f"MsgSeqNum too low, expecting {self.state.next_in} but received {seq}", kind="sequence")

    def _refuse_session(
        self, text: str, message: Message | None = None, error: FieldError | None = None, kind: str = "protocol"
    ) -> None:
        """Logout with the reason and end the connection: nothing more of it counts. An operator has to look."""
        if message is not None and error is not None:
            self._reject(message.required_number(34), error, message)
        self._send("5", [(58, _printable(text))])
        self._alarm(kind, text)
        self.disconnect_reason = text
        self.state.status = "rejected"

    def _reject(self, seq: int, error: FieldError, message: Message) -> None:
        fields: Fields = [(45, seq), (58, _printable(str(error)))]
        if error.tag is not None:
            fields.append((371, error.tag))
        if msg_type := message.get(35):
            fields.append((372, msg_type))
        if error.reason <= _REASON_MAX_42 or self.feed.begin_string != "FIX.4.2":
            fields.append((373, error.reason))
        self._send("3", [*_route_back(message), *fields])

    def _send(self, msg_type: str, fields: Fields, seq: int | None = None) -> None:
        self.sends.append(Send(msg_type, fields, seq))

    # ---- gaps

    def _closed(self, cause: GapCause, now: int) -> None:
        state = self.state
        frames, cut = self._framer.feed(b"", now, last=True)
        for frame in frames:  # what stood behind a message that is longer than it came
            self._on_frame(frame, now)
        for piece in cut:  # (31)
            self.capture.quarantine(now, "", "cut by the end of the connection", piece[:RAW_BYTES_MAX])
        state.status = "closed"
        if self.feed.reset_on_logon:
            self._give_up(now, cause)
        self.capture.disconnected(cause, now)
        state.logged_on = False
        state.resend_deadline = 0
        self.sends.clear()


def _route_back(message: Message) -> Fields:
    """The routing header of an answer: who sent on behalf of whom, and to whom, the other way round."""
    return [(back, value) for tag, back in _ROUTES.items() if (value := message.get(tag)) is not None]


def _held_bytes(frame: bytes) -> int:
    """Of a message that waits; one that has been dealt with takes its place all the same."""
    return max(len(frame), HELD_BYTES_MIN)


def _gap_filled_to(message: Message, msg_type: bytes, seq: int) -> int | None:
    """(37) Where a valid gap fill leads; None for every other message."""
    if msg_type != b"4":
        return None
    value = message.get(36) or b""
    return int(value) if value.isdigit() and len(value) < 19 and int(value) > seq else None


def _printable(text: str) -> str:
    return "".join(character if character.isprintable() and character.isascii() else "?" for character in text)[:200]
