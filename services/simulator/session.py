"""A FIX session as the acceptor: numbers, heartbeats, resends, subscriptions, and market data as it is sent.

    opened ─▶ Logon accepted ─▶ established: V ─▶ W, then X for what is subscribed ─▶ Logout ─▶ closed
                 │ refused: Logout

A number is given, the ledger line written and the bytes handed to the line in one piece without a wait in between: the order of
the ledger is the order of the wire. A fault that is armed damages that last step only, so the ledger never knows of it.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Literal, Protocol

from libs.common.telemetry import logger
from services.simulator.ledger import Ledger
from services.simulator.quote import Quote
from services.simulator.subscription import Subscriptions, snapshot
from services.simulator.wire import Fields, Framer, encode, number, parse, resent, seal, sending_time, text, values

HISTORY_MESSAGES_MAX = 100_000  # what can be resent; older ones are gap-filled
HELD_MESSAGES_MAX = 1_000  # of a client, beyond a gap in its numbers
LIST_FRAGMENT_SYMBOLS = 50
LOGON_TIMEOUT_S = 10.0
SILENCE_TESTED = 1.2  # heartbeat intervals without a word until a TestRequest …
SILENCE_MAX = 2.4  # … and until the line counts as dead
SUBSCRIPTION_QUIET_S = 0.3  # a client that has asked for nothing more for this long has all it wants
FAULT_PATIENCE_S = 1.0  # a fault waits this long for market data to strike, then takes a heartbeat
GAP_MESSAGES = 5
RESET_LEAP = 100

Fault = Literal["drop", "cut", "garble", "gap", "reset", "stall"]
Resend = Literal["full", "gapfill"]


class Line(Protocol):
    """The way to the client. Writing never waits; who writes much awaits `drained` before the next batch."""

    @property
    def unsent_bytes(self) -> int: ...

    def write(self, data: bytes) -> None: ...

    def close(self) -> None:
        """What was written still goes out."""

    def abort(self) -> None: ...

    async def drained(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Provider:
    """What all sessions share. `snapshot`: the current quote of a symbol, None where there is none yet; clocks are parameters."""

    name: str
    symbols: tuple[bytes, ...]
    snapshot: Callable[[bytes], Quote | None]
    ledger: Ledger
    now_ns: Callable[[], int]
    monotonic_s: Callable[[], float]
    symbols_per_message: int = 1
    resend: Resend = "full"
    begin_string: bytes = b"FIX.4.4"


@dataclass(slots=True)
class Numbers:
    """What outlives a connection, by client. `sent` ends with message next_out − 1; None is one that is not resent."""

    next_in: int = 1
    next_out: int = 1
    sent: deque[bytes | None] = field(default_factory=lambda: deque(maxlen=HISTORY_MESSAGES_MAX))

    def reset(self) -> None:
        self.next_in = self.next_out = 1
        self.sent.clear()


class Session:
    """One connection. `enrol` gives the numbers of a client that logs on, and ends an older connection of the same."""

    def __init__(self, provider: Provider, line: Line, enrol: Callable[["Session", str], Numbers]) -> None:
        self.line = line
        self.client = ""  # SenderCompID, once logged on
        self.closed = False
        self._provider = provider
        self._enrol = enrol
        self._numbers = Numbers()
        self._framer = Framer()
        self._held: dict[int, Any] = {}  # messages beyond a gap, by number; None where it has been answered already
        self._subscriptions = Subscriptions()
        self._subscribed_at = self._received_at = self._sent_at = self._armed_at = provider.monotonic_s()
        self._stalled_until = 0.0
        self._heartbeat_s = 0
        self._tested = False
        self._logging_out = False
        self._armed: Fault | None = None

    # ---- for the acceptor and the feed

    @property
    def settled(self) -> bool:
        """Whether the client has subscribed to what it wants: to everything, or to something and then asked no more."""
        if self.closed or not self._subscriptions:
            return False
        quiet_s = self._provider.monotonic_s() - self._subscribed_at
        return len(self._subscriptions) == len(self._provider.symbols) or quiet_s >= SUBSCRIPTION_QUIET_S

    @property
    def stalled_s(self) -> float:
        """How long nothing is to be sent yet."""
        return 0.0 if self.closed else max(0.0, self._stalled_until - self._provider.monotonic_s())

    def receive(self, data: bytes) -> None:
        """What the socket gave, in order."""
        self._received_at, self._tested = self._provider.monotonic_s(), False
        for frame in self._framer.feed(data):
            if self.closed:
                return
            message = parse(frame)
            if message is not None:
                self._on_message(message)

    def on_timer(self) -> None:
        """Heartbeats and silence; to be called a few times a second."""
        now = self._provider.monotonic_s()
        if self.closed or self.stalled_s:
            return
        silent_s = now - self._received_at
        if not self.client:
            if silent_s > LOGON_TIMEOUT_S:
                self._close("no Logon came")
        elif self._armed and now - self._armed_at >= FAULT_PATIENCE_S:
            self._strike([self._number("0", [])])
        elif self._heartbeat_s:
            if silent_s > SILENCE_MAX * self._heartbeat_s:
                self._close("silence", abort=True)
            elif silent_s > SILENCE_TESTED * self._heartbeat_s and not self._tested:
                self._tested = True
                self._send("1", [(112, f"TEST-{self._numbers.next_out}")])
            elif now - self._sent_at >= self._heartbeat_s:
                self._send("0", [])

    def inject(self, fault: Fault, stall_s: float) -> None:
        """Go wrong: reset and stall at once, the others with the next market data."""
        if fault == "stall":
            self._stalled_until = self._received_at = self._provider.monotonic_s() + stall_s
        elif fault == "reset":
            leap = self._numbers.next_out + RESET_LEAP
            self._send("4", [(123, "N"), (36, leap)])
            self._numbers.next_out = leap
            self._numbers.sent.clear()
        else:
            self._armed, self._armed_at = fault, self._provider.monotonic_s()

    def log_out(self, reason: str) -> None:
        """Ask to end the session; the client's Logout, or its patience, closes it."""
        self._stalled_until = 0.0
        if self.closed:
            return
        if not self.client:
            self._close(reason)
        elif not self._logging_out:
            self._logging_out = True
            self._subscriptions.clear()
            self._send("5", [(58, reason)])

    def take_over(self) -> None:
        """The client has logged on over another connection: this one is dead, whether TCP knows it or not."""
        self._close("the client has logged on again", abort=True)

    def ended(self) -> None:
        """The connection is gone."""
        if not self.closed:
            self.closed = True
            logger().info("connection lost", client=self.client, next_out=self._numbers.next_out)

    # ---- market data out

    def publish(self, quotes: list[Quote]) -> int:
        """Send those that are subscribed to; how many these were."""
        if self.closed:
            return 0
        provider, numbers, increment = self._provider, self._numbers, self._subscriptions.increment
        begin, header_end = provider.begin_string, self._header_end()
        frames: list[bytes] = []
        entered: list[tuple[int, Quote]] = []
        for seq, group in enumerate(self._subscriptions.grouped(quotes, provider.symbols_per_message), numbers.next_out):
            frames.append(seal(begin, b"35=X\x0134=%d%b%b" % (seq, header_end, increment(group))))
            entered.extend([(seq, quote) for quote in group])
        if frames:
            numbers.next_out += len(frames)
            numbers.sent.extend(frames)
            provider.ledger.append(entered)
            if self._armed:
                self._strike(frames)
            else:
                self._write(b"".join(frames))
        return len(entered)

    def _send_snapshot(self, request_id: bytes, quote: Quote) -> None:
        numbers = self._numbers
        seq = numbers.next_out
        body = b"35=W\x0134=%d%b%b" % (seq, self._header_end(), snapshot(request_id, quote))
        frame = seal(self._provider.begin_string, body)
        numbers.next_out += 1
        numbers.sent.append(frame)
        self._provider.ledger.append([(seq, quote)])
        self._write(frame)

    def _header_end(self) -> bytes:
        """What follows MsgSeqNum in the header."""
        now = sending_time(self._provider.now_ns())
        return b"\x0149=%b\x0156=%b\x0152=%b\x01" % (self._provider.name.encode(), self.client.encode("latin-1"), now)

    def _strike(self, frames: list[bytes]) -> None:
        """The armed fault, on messages that have their numbers and stand in the ledger."""
        fault, self._armed = self._armed, None
        match fault:
            case "gap":
                self._write(b"".join(frames[GAP_MESSAGES:]))
            case "garble":
                first = bytearray(frames[0])
                first[len(first) // 2] ^= 0x01
                self._write(bytes(first) + b"".join(frames[1:]))
            case "cut":
                whole, half = frames[: len(frames) // 2], frames[len(frames) // 2]
                self._write(b"".join(whole) + half[: len(half) // 2])
                self._close("fault: cut")
            case _:
                self._close("fault: drop", abort=True)

    # ---- everything else out

    def _send(self, msg_type: str, fields: Fields, *, resendable: bool = False) -> None:
        self._write(self._number(msg_type, fields, resendable=resendable))

    def _number(self, msg_type: str, fields: Fields, *, resendable: bool = False) -> bytes:
        """A message with the next number."""
        numbers = self._numbers
        frame = self._encode(msg_type, numbers.next_out, sending_time(self._provider.now_ns()), fields)
        numbers.next_out += 1
        numbers.sent.append(frame if resendable else None)
        return frame

    def _encode(self, msg_type: str, seq: int, now: bytes, fields: Fields) -> bytes:
        header: Fields = [(34, seq), (49, self._provider.name), (56, self.client), (52, now)]
        return encode(self._provider.begin_string, msg_type, header, fields)

    def _write(self, data: bytes) -> None:
        if data and not self.closed:
            self._sent_at = self._provider.monotonic_s()
            self.line.write(data)

    def _close(self, reason: str, *, abort: bool = False) -> None:
        if not self.closed:
            self.closed = True
            logger().info("session ends", client=self.client, reason=reason, next_out=self._numbers.next_out)
            if abort:
                self.line.abort()
            else:
                self.line.close()

    def _refuse(self, reason: str) -> None:
        self._send("5", [(58, reason)])
        self._close(reason)

    def _reject(self, seq: int, reason: int, tag: int, why: str) -> None:
        self._send("3", [(45, seq), (371, tag), (373, reason), (58, why)])

    # ---- messages in

    def _on_message(self, message: Any) -> None:
        provider = self._provider
        seq, msg_type = number(message, 34), text(message, 35)
        if not self.client and msg_type != "A":
            self._close("first message is not a Logon")
        elif message.get(8) != provider.begin_string:
            self.client = self.client or text(message, 49)
            self._refuse("Incorrect BeginString")
        elif seq is None:
            self._refuse("MsgSeqNum is missing")
        elif text(message, 56) != provider.name or (self.client and text(message, 49) != self.client):
            self.client = self.client or text(message, 49)
            self._reject(seq, 9, 56 if text(message, 56) != provider.name else 49, "CompID problem")
            self._refuse("CompID problem")
        elif msg_type == "A":
            self._on_logon(message, seq)
        elif msg_type == "4" and message.get(123) != b"Y":
            self._on_sequence_reset(message, seq)
        elif seq < self._numbers.next_in:
            if message.get(43) != b"Y":
                self._refuse(f"MsgSeqNum too low, expecting {self._numbers.next_in} but received {seq}")
        elif seq > self._numbers.next_in:
            self._on_too_high(message, seq, msg_type)
        else:
            self._in_order(message, seq)
            while not self.closed and self._numbers.next_in in self._held:
                self._in_order(self._held.pop(self._numbers.next_in), self._numbers.next_in)

    def _on_logon(self, message: Any, seq: int) -> None:
        heartbeat_s, reset = number(message, 108), message.get(141) == b"Y"
        first = not self.client
        if first:
            self.client = text(message, 49)
            self._numbers = self._enrol(self, self.client)
        numbers = self._numbers
        if heartbeat_s is None:
            self._refuse("HeartBtInt is missing or no number")
            return
        if reset:
            numbers.reset()
            self._held.clear()
        if seq < numbers.next_in:
            if message.get(43) != b"Y":
                self._refuse(f"MsgSeqNum too low, expecting {numbers.next_in} but received {seq}")
            return
        self._heartbeat_s = heartbeat_s
        fields: list[tuple[int, str | int]] = [(98, 0), (108, heartbeat_s)]
        if message.get(141) is not None:
            fields.append((141, text(message, 141)))
        self._send("A", fields)
        logger().info("logged on", client=self.client, reset=reset, next_in=numbers.next_in, next_out=numbers.next_out)
        if seq > numbers.next_in:
            self._hold(seq, None)
        else:
            numbers.next_in += 1

    def _on_too_high(self, message: Any, seq: int, msg_type: str) -> None:
        """Keep it until what is missing has come. A ResendRequest is answered first, or both sides would wait; so is a Logout."""
        if msg_type == "2":
            self._on_resend_request(message)
            self._hold(seq, None)
        elif msg_type == "5":
            self._on_logout()
        else:
            self._hold(seq, message)

    def _hold(self, seq: int, message: Any) -> None:
        if len(self._held) >= HELD_MESSAGES_MAX:
            self._refuse(f"MsgSeqNum {self._numbers.next_in} was asked for and never came")
            return
        ask = not self._held
        self._held[seq] = message
        if ask:
            self._send("2", [(7, self._numbers.next_in), (16, seq - 1)])

    def _on_sequence_reset(self, message: Any, seq: int) -> None:
        """Reset mode: the message's own number does not count."""
        new = number(message, 36)
        if new is None or new < self._numbers.next_in:
            self._reject(seq, 5 if new is not None else 1, 36, f"NewSeqNo must be at least {self._numbers.next_in}")
        else:
            self._skip_to(new)

    def _skip_to(self, new: int) -> None:
        self._numbers.next_in = new
        self._held = {seq: message for seq, message in self._held.items() if seq >= new}

    def _in_order(self, message: Any, seq: int) -> None:
        """The message whose number is due; None was answered before."""
        self._numbers.next_in += 1
        if message is None:
            return
        msg_type = text(message, 35)
        match msg_type:
            case "0":
                pass
            case "1":
                self._send("0", [(112, text(message, 112))] if message.get(112) else [])
            case "2":
                self._on_resend_request(message)
            case "3" | "j":
                logger().warning("client rejects", client=self.client, number=text(message, 45), reason=text(message, 58))
            case "4":
                self._on_gap_fill(message, seq)
            case "5":
                self._on_logout()
            case "x":
                self._on_security_list_request(message)
            case "V":
                self._on_market_data_request(message, seq)
            case _:
                fields: Fields = [(45, seq), (372, msg_type), (380, 3), (58, "Unsupported message type")]
                self._send("j", fields, resendable=True)

    def _on_gap_fill(self, message: Any, seq: int) -> None:
        new = number(message, 36)
        if new is None or new <= seq:
            self._reject(seq, 5 if new is not None else 1, 36, "NewSeqNo must be above MsgSeqNum")
        else:
            self._skip_to(new)

    def _on_logout(self) -> None:
        if not self._logging_out:
            self._send("5", [])
        self._close("logout")

    def _on_resend_request(self, message: Any) -> None:
        """Send the range again in its order; runs of what is not resent become one GapFill each."""
        numbers = self._numbers
        first, last = number(message, 7), number(message, 16)
        if not first or last is None:
            self._reject(number(message, 34) or 0, 1, 7 if not first else 16, "BeginSeqNo and EndSeqNo are required")
            return
        end = numbers.next_out if last == 0 else min(last + 1, numbers.next_out)
        oldest = numbers.next_out - len(numbers.sent)
        now = sending_time(self._provider.now_ns())
        logger().info("resending", client=self.client, first=first, end=end)
        begin = max(first, oldest)
        kept = islice(numbers.sent, begin - oldest, max(begin, end) - oldest) if self._provider.resend == "full" else ()
        pieces: list[bytes] = []
        filled_from = first
        for seq, frame in enumerate(kept, begin):
            if frame is None:
                continue
            if filled_from < seq:
                pieces.append(self._gap_fill(filled_from, seq, now))
            pieces.append(resent(frame, now))
            filled_from = seq + 1
        if filled_from < end:
            pieces.append(self._gap_fill(filled_from, end, now))
        self._write(b"".join(pieces))

    def _gap_fill(self, seq: int, new: int, now: bytes) -> bytes:
        return self._encode("4", seq, now, [(43, "Y"), (122, now), (123, "Y"), (36, new)])

    def _on_security_list_request(self, message: Any) -> None:
        symbols = list(self._provider.symbols)
        request_id = text(message, 320)
        for at in range(0, len(symbols), LIST_FRAGMENT_SYMBOLS):
            part = symbols[at : at + LIST_FRAGMENT_SYMBOLS]
            last = at + LIST_FRAGMENT_SYMBOLS >= len(symbols)
            fields: list[tuple[int, str | int | bytes]] = [
                (320, request_id), (322, f"{request_id}-{at}"), (560, 0), (393, len(symbols)),
                (893, "Y" if last else "N"), (146, len(part)),
            ]  # fmt: skip
            self._send("y", fields + [(55, symbol) for symbol in part], resendable=True)

    def _on_market_data_request(self, message: Any, seq: int) -> None:
        request_id: bytes = message.get(262) or b""
        kind, symbols = message.get(263), values(message, 55)
        if not request_id or kind not in {b"0", b"1", b"2"}:
            self._reject(seq, 1, 262 if not request_id else 263, "MDReqID and SubscriptionRequestType are required")
            return
        if kind == b"2":
            self._subscriptions.remove(request_id)
            return
        if unknown := [symbol for symbol in symbols if symbol not in self._provider.symbols]:
            reason = f"unknown symbol {unknown[0].decode('latin-1')}"
            self._send("Y", [(262, request_id), (281, 0), (58, reason)], resendable=True)
            return
        if kind == b"1" and self._subscriptions.has_request(request_id):
            self._send("Y", [(262, request_id), (281, 1), (58, "duplicate MDReqID")], resendable=True)
            return
        for symbol in symbols:
            if kind == b"1":
                self._subscriptions.add(symbol, request_id)
                self._subscribed_at = self._provider.monotonic_s()
            if (quote := self._provider.snapshot(symbol)) is not None:
                self._send_snapshot(request_id, quote)
