"""Our side of one connection: messages get their numbers, go out, and go out again when they are asked for."""

from libs.common.telemetry import logger
from services.simulator.numbers import Numbers
from services.simulator.provider import Line, Provider
from services.simulator.wire import Fields, encode, resent, sending_time


class Channel:
    """`client` is the SenderCompID, once it is known; `numbers` are the client's from its Logon on."""

    def __init__(self, provider: Provider, line: Line) -> None:
        self.client = ""
        self.closed = False
        self.numbers = Numbers()
        self.sent_at = provider.monotonic_s()
        self._provider = provider
        self._line = line
        self._withheld = b""

    def send(self, msg_type: str, fields: Fields, *, resendable: bool = False) -> None:
        self.write(self.number(msg_type, fields, resendable=resendable))

    def number(self, msg_type: str, fields: Fields, *, resendable: bool = False) -> bytes:
        """A message with the next number."""
        frame = self.encode(msg_type, self.numbers.next_out, fields)
        self.numbers.add([frame if resendable else b""])
        return frame

    def encode(self, msg_type: str, seq: int, fields: Fields) -> bytes:
        header: Fields = [(34, seq), (49, self._provider.name), (56, self.client), (52, self._now())]
        return encode(self._provider.begin_string, msg_type, header, fields)

    def header_end(self) -> bytes:
        """What follows MsgSeqNum in the header."""
        return b"\x0149=%b\x0156=%b\x0152=%b\x01" % (self._provider.name.encode(), self.client.encode("latin-1"), self._now())

    def resend(self, first: int, end: int) -> None:
        """Messages first … end − 1 again in their order; runs of what is not resent become one GapFill each."""
        now = self._now()
        logger().info("resending", client=self.client, first=first, end=end)
        pieces: list[bytes] = []
        filled_from = first
        for seq, frame in self.numbers.kept(first, end) if self._provider.resend == "full" else ():
            if filled_from < seq:
                pieces.append(self._gap_fill(filled_from, seq, now))
            pieces.append(resent(frame, now))
            filled_from = seq + 1
        if filled_from < end:
            pieces.append(self._gap_fill(filled_from, end, now))
        self.write(b"".join(pieces))

    def _gap_fill(self, seq: int, new: int, now: bytes) -> bytes:
        return self.encode("4", seq, [(43, "Y"), (122, now), (123, "Y"), (36, new)])

    def write(self, *parts: bytes) -> None:
        """Whole frames, in as many parts as are given."""
        if self.closed or not any(parts):
            return
        self.sent_at = self._provider.monotonic_s()
        for part in parts:
            self._line.write(part)
        if self._withheld:
            self._line.write(self._withheld)
            self._withheld = b""

    def withhold(self, frame: bytes) -> None:
        """To be sent behind what is written next."""
        self._withheld += frame

    def close(self, reason: str, *, abort: bool = False) -> None:
        if not self.closed:
            self.closed = True
            logger().info("session ends", client=self.client, reason=reason, next_out=self.numbers.next_out)
            if abort:
                self._line.abort()
            else:
                self._line.close()

    def refuse(self, reason: str) -> None:
        self.send("5", [(58, reason)])
        self.close(reason)

    def reject(self, seq: int, reason: int, tag: int, why: str) -> None:
        """Reject (3) of the client's message `seq`; reason is SessionRejectReason(373)."""
        self.send("3", [(45, seq), (371, tag), (373, reason), (58, why)])

    def _now(self) -> bytes:
        return sending_time(self._provider.now_ns())
