"""A FIX session as the acceptor: what comes in, by its number, and what time brings.

opened ─▶ Logon accepted ─▶ established: requests ─▶ answers and market data ─▶ Logout ─▶ closed
│ refused: Logout

bytes ─▶ frames ─▶ header ─▶ number: due, held until a gap is filled, or known ─▶ the session's own │ the desk
"""

from collections.abc import Callable
from typing import Any

from libs.common.telemetry import logger
from services.simulator.channel import Channel
from services.simulator.fault import Fault
from services.simulator.market.quote import Quote
from services.simulator.numbers import Numbers
from services.simulator.provider import APPL_VER_ID, Line, Provider
from services.simulator.publisher import Publisher
from services.simulator.request import Desk
from services.simulator.wire import Fields, Framer, number, parse, text

HELD_MESSAGES_MAX = 1_000  # of a client, beyond a gap in its numbers
LOGON_TIMEOUT_S = 10.0
LOGOUT_TIMEOUT_S = 10.0  # without an answer to ours
SILENCE_TESTED = 1.2  # heartbeat intervals without a word until a TestRequest …
SILENCE_MAX = 2.4  # … and until the line counts as dead
SUBSCRIPTION_QUIET_S = 0.3  # a client that has asked for nothing more for this long has all it wants
RESET_LEAP = 100
FLOOD_MESSAGES = 100


class Session:
    """One connection. `enrol` gives the numbers of a client that logs on, and ends an older connection of the same."""

    def __init__(self, provider: Provider, line: Line, enrol: Callable[["Session", str], Numbers]) -> None:
        self.line = line
        self._provider = provider
        self._enrol = enrol
        self._channel = Channel(provider, line)
        self._publisher = Publisher(provider, self._channel)
        self._desk = Desk(provider, self._channel, self._publisher)
        self._framer = Framer()
        self._held: dict[int, Any] = {}  # messages beyond a gap, by number; None where it has been answered already
        self._received_at = provider.monotonic_s()
        self._heartbeat_s = 0
        self._tested = False
        self._logged_out_at: float | None = None  # by us, not yet answered
        self._reset_at: float | None = None  # by our Logon, not yet answered
        self._stalled_until = self._silent_until = self._unheard_until = 0.0

    # ---- for the acceptor and the feed

    @property
    def client(self) -> str:
        """SenderCompID, once logged on."""
        return self._channel.client

    @property
    def closed(self) -> bool:
        return self._channel.closed

    @property
    def settled(self) -> bool:
        """Whether the client has subscribed to what it wants: to everything, or to something and then asked no more."""
        stream = self._publisher.stream
        if self.closed or not stream:
            return False
        quiet_s = self._provider.monotonic_s() - self._desk.subscribed_at
        return len(stream) == len(self._provider.symbols) or quiet_s >= SUBSCRIPTION_QUIET_S

    @property
    def stalled_s(self) -> float:
        """How long nothing is to be sent yet."""
        return 0.0 if self.closed else max(0.0, self._stalled_until - self._provider.monotonic_s())

    @property
    def _silent(self) -> bool:
        return self._provider.monotonic_s() < self._silent_until

    def publish(self, quotes: list[Quote]) -> int:
        """Send what the client has subscribed to; how many these were."""
        if self.closed or self._reset_at is not None or self._silent:
            return 0
        return self._publisher.publish(quotes)

    def receive(self, data: bytes) -> None:
        """What the socket gave, in order."""
        self._received_at, self._tested = self._provider.monotonic_s(), False
        if self._unheard_until:
            return
        for frame in self._framer.feed(data):
            if self.closed:
                return
            message = parse(frame)
            if message is not None:
                self._on_message(message)

    def on_timer(self) -> None:
        """Heartbeats and silence; to be called a few times a second."""
        now = self._provider.monotonic_s()
        if self.closed or self.stalled_s or self._silent:
            return
        silent_s = now - self._received_at
        if self._unheard_until:
            if now >= self._unheard_until:
                self._channel.close("fault: blackhole", abort=True)
        elif not self.client:
            if silent_s > LOGON_TIMEOUT_S:
                self._channel.close("no Logon came")
        elif self._reset_at is not None and now - self._reset_at > LOGON_TIMEOUT_S:
            self._channel.close("our Logon was not answered", abort=True)
        elif self._logged_out_at is not None and now - self._logged_out_at > LOGOUT_TIMEOUT_S:
            self._channel.close("our Logout was not answered", abort=True)
        elif not self._publisher.strike_late() and self._heartbeat_s:
            if silent_s > SILENCE_MAX * self._heartbeat_s:
                self._channel.close("silence", abort=True)
            elif silent_s > SILENCE_TESTED * self._heartbeat_s and not self._tested:
                self._tested = True
                self._channel.send("1", [(112, f"TEST-{self._channel.numbers.next_out}")])
            elif now - self._channel.sent_at >= self._heartbeat_s:
                self._channel.send("0", [])

    def inject(self, fault: Fault, lasts_s: float) -> None:
        """Go wrong, at once or with the next market data; what lasts lasts for `lasts_s`."""
        channel, numbers = self._channel, self._channel.numbers
        until = self._provider.monotonic_s() + lasts_s
        match fault:
            case "stall":
                self._stalled_until = self._received_at = until
            case "heartbeat_silence":
                self._silent_until = self._received_at = until
            case "blackhole":
                numbers.unheard_until_s = until
                channel.close("fault: blackhole", abort=True)
            case "refuse_logon":
                numbers.refused_until_s = until
                channel.close("fault: refuse_logon", abort=True)
            case "logout":
                self.log_out("fault: logout")
            case "reset":
                leap = numbers.next_out + RESET_LEAP
                channel.send("4", [(123, "N"), (36, leap)])
                numbers.next_out = leap
                numbers.forget()
            case "reset_lower":  # is not counted, so its number is not used up
                channel.write(channel.encode("4", numbers.next_out, [(123, "N"), (36, 1)]))
            case "logon_reset":
                numbers.reset()
                self._held.clear()
                self._reset_at = self._provider.monotonic_s()
                self._send_logon([(141, "Y")])
            case "test_request_flood":
                for nth in range(FLOOD_MESSAGES):
                    channel.send("1", [(112, f"FLOOD-{nth}")])
            case "resend_request":
                channel.send("2", [(7, 1), (16, 0)])
            case _:
                self._publisher.arm(fault)

    def log_out(self, reason: str) -> None:
        """Ask to end the session; the client's Logout, or our patience, closes it."""
        self._stalled_until = 0.0
        if self.closed:
            return
        if not self.client:
            self._channel.close(reason)
        elif self._logged_out_at is None:
            self._logged_out_at = self._provider.monotonic_s()
            self._publisher.stream.clear()
            self._channel.send("5", [(58, reason)])

    def take_over(self) -> None:
        """The client has logged on over another connection: this one is dead, whether TCP knows it or not."""
        self._channel.close("the client has logged on again", abort=True)

    def ended(self) -> None:
        """The connection is gone."""
        if not self.closed:
            self._channel.closed = True
            logger().info("connection lost", client=self.client, next_out=self._channel.numbers.next_out)

    # ---- messages in

    def _on_message(self, message: Any) -> None:
        provider, channel = self._provider, self._channel
        seq, msg_type = number(message, 34), text(message, 35)
        if not self.client and msg_type != "A":
            channel.close("first message is not a Logon")
        elif message.get(8) != provider.begin_string:
            channel.client = self.client or text(message, 49)
            channel.refuse("Incorrect BeginString")
        elif seq is None:
            channel.client = self.client or text(message, 49)
            channel.refuse("MsgSeqNum is missing")
        elif text(message, 56) != provider.name or (self.client and text(message, 49) != self.client):
            channel.client = self.client or text(message, 49)
            channel.reject(seq, 9, 56 if text(message, 56) != provider.name else 49, "CompID problem")
            channel.refuse("CompID problem")
        elif self._reset_at is not None:
            self._while_resetting(message, seq, msg_type)
        elif msg_type == "A":
            self._on_logon(message, seq)
        elif msg_type == "4" and message.get(123) != b"Y":
            self._on_sequence_reset(message, seq)
        elif seq < channel.numbers.next_in:
            if message.get(43) != b"Y":
                channel.refuse(f"MsgSeqNum too low, expecting {channel.numbers.next_in} but received {seq}")
        elif seq > channel.numbers.next_in:
            self._on_too_high(message, seq, msg_type)
        else:
            self._in_order(message, seq)
            self._after_gap()

    def _while_resetting(self, message: Any, seq: int, msg_type: str) -> None:
        """What is under way has numbers from before."""
        if msg_type == "A" and message.get(141) == b"Y":
            self._reset_at = None
            self._channel.numbers.next_in = seq + 1
        elif msg_type == "5":
            self._on_logout()

    def _on_logon(self, message: Any, seq: int) -> None:
        provider, channel = self._provider, self._channel
        now = provider.monotonic_s()
        if not self.client:
            client = text(message, 49)
            if provider.fix == "FIX.5.0SP2" and message.get(1137) != APPL_VER_ID:
                channel.client = client
                channel.refuse(f"DefaultApplVerID(1137) must be {APPL_VER_ID.decode()}")
                return
            numbers = self._enrol(self, client)
            if now < numbers.unheard_until_s:
                self._unheard_until = numbers.unheard_until_s
                return
            channel.client, channel.numbers = client, numbers
        numbers = channel.numbers
        heartbeat_s, reset = number(message, 108), message.get(141) == b"Y"
        if heartbeat_s is None:
            channel.refuse("HeartBtInt is missing or no number")
            return
        if reset:
            numbers.reset()
            self._held.clear()
        if seq < numbers.next_in:
            if message.get(43) != b"Y":
                channel.refuse(f"MsgSeqNum too low, expecting {numbers.next_in} but received {seq}")
            return
        if now < numbers.refused_until_s:
            numbers.next_in = seq + 1
            channel.refuse("fault: refuse_logon")
            return
        self._heartbeat_s = heartbeat_s
        self._accept(message, seq)
        logger().info("logged on", client=self.client, reset=reset, next_in=numbers.next_in, next_out=numbers.next_out)

    def _accept(self, message: Any, seq: int) -> None:
        """Answer the Logon. NextExpectedMsgSeqNum(789) in it and in the answer take the place of ResendRequests."""
        numbers = self._channel.numbers
        expects = number(message, 789)
        if expects is not None and expects > numbers.next_out:
            self._channel.refuse(f"NextExpectedMsgSeqNum too high, expecting at most {numbers.next_out} but received {expects}")
            return
        due = seq == numbers.next_in
        if due:
            numbers.next_in += 1
        fields: list[tuple[int, str | int | bytes]] = []
        if message.get(141) is not None:
            fields.append((141, text(message, 141)))
        if expects is not None:
            fields.append((789, numbers.next_in))
        answer = numbers.next_out
        self._send_logon(fields)
        if expects is not None and expects < answer:
            self._channel.resend(max(expects, 1), numbers.next_out)
        if not due:
            self._hold(seq, None, ask=expects is None)

    def _send_logon(self, fields: Fields) -> None:
        version: Fields = [(1137, APPL_VER_ID)] if self._provider.fix == "FIX.5.0SP2" else []
        self._channel.send("A", [(98, 0), (108, self._heartbeat_s), *fields, *version])

    def _on_too_high(self, message: Any, seq: int, msg_type: str) -> None:
        """Keep it until what is missing has come. A ResendRequest is answered first, or both sides would wait; so is a Logout."""
        if msg_type == "2":
            self._on_resend_request(message)
            self._hold(seq, None)
        elif msg_type == "5":
            self._on_logout()
        else:
            self._hold(seq, message)

    def _hold(self, seq: int, message: Any, *, ask: bool = True) -> None:
        next_in = self._channel.numbers.next_in
        if len(self._held) >= HELD_MESSAGES_MAX:
            self._channel.refuse(f"MsgSeqNum {next_in} was asked for and never came")
            return
        ask = ask and not self._held
        self._held[seq] = message
        if ask:
            self._channel.send("2", [(7, next_in), (16, seq - 1)])

    def _after_gap(self) -> None:
        """What was held and is due now."""
        numbers = self._channel.numbers
        while not self.closed and numbers.next_in in self._held:
            self._in_order(self._held.pop(numbers.next_in), numbers.next_in)

    def _on_sequence_reset(self, message: Any, seq: int) -> None:
        """Reset mode: the message's own number does not count."""
        new, next_in = number(message, 36), self._channel.numbers.next_in
        if new is None or new < next_in:
            self._channel.reject(seq, 5 if new is not None else 1, 36, f"NewSeqNo must be at least {next_in}")
        else:
            self._skip_to(new)

    def _skip_to(self, new: int) -> None:
        self._channel.numbers.next_in = new
        self._held = {seq: message for seq, message in self._held.items() if seq >= new}

    def _in_order(self, message: Any, seq: int) -> None:
        """The message whose number is due; None was answered before."""
        self._channel.numbers.next_in += 1
        if message is None:
            return
        msg_type = text(message, 35)
        match msg_type:
            case "0" | "b":  # b: what a client may say to a MassQuote
                pass
            case "1":
                if not self._silent:
                    self._channel.send("0", [(112, text(message, 112))] if message.get(112) else [])
            case "2":
                self._on_resend_request(message)
            case "3" | "j":
                logger().warning("client rejects", client=self.client, number=text(message, 45), reason=text(message, 58))
            case "4":
                self._on_gap_fill(message, seq)
            case "5":
                self._on_logout()
            case _:
                self._desk.handle(msg_type, message, seq)

    def _on_gap_fill(self, message: Any, seq: int) -> None:
        new = number(message, 36)
        if new is None or new <= seq:
            self._channel.reject(seq, 5 if new is not None else 1, 36, "NewSeqNo must be above MsgSeqNum")
        else:
            self._skip_to(new)

    def _on_logout(self) -> None:
        if self._logged_out_at is None:
            self._channel.send("5", [])
        self._channel.close("logout")

    def _on_resend_request(self, message: Any) -> None:
        next_out = self._channel.numbers.next_out
        first, last = number(message, 7), number(message, 16)
        if not first or last is None:
            self._channel.reject(number(message, 34) or 0, 1, 7 if not first else 16, "BeginSeqNo and EndSeqNo are required")
        else:
            self._channel.resend(first, next_out if last == 0 else min(last + 1, next_out))
