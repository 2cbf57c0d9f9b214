"""The wire between the gateway and an LP, as a proxy sees it: all messages both ways; some lost, damaged or late on request."""

import contextlib
import re
import socket
import threading
import time
from typing import NamedTuple

_END = re.compile(rb"\x0110=[0-9]{3}\x01")
CHUNK_BYTES = 262_144


class Seen(NamedTuple):
    """One message; `connection` counts from 1."""

    at: float
    connection: int
    from_lp: bool
    frame: bytes

    def get(self, tag: int) -> str | None:
        found = re.search(rb"\x01%d=([^\x01]*)" % tag, self.frame)
        return found[1].decode("ascii", "replace") if found else None

    @property
    def kind(self) -> str:
        return self.get(35) or "?"

    def __str__(self) -> str:
        arrow = "LP → us" if self.from_lp else "us → LP"
        return f"#{self.connection} {self.at:9.3f} {arrow} {self.frame[:400].decode('ascii', 'replace').replace(chr(1), '|')}"


class Wire:
    """Listens on `port`; each connection is joined to one of its own to the LP, or closed where the LP is not there."""

    def __init__(self, lp_port: int) -> None:
        self.seen: list[Seen] = []
        self.lose = 0  # market data messages of the LP that are still to vanish
        self.damage = 0  # … that are still to arrive with a wrong byte
        self.lost: list[bytes] = []
        self.late: dict[str, float] = {}  # message type → seconds it and all behind it take longer on the way from the LP
        self._lp_port = lp_port
        self._began = time.monotonic()
        self._connections = 0
        self._open: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listener.close()
        self.cut()

    def cut(self) -> None:
        """Both ends lose the connection, without a word."""
        for end in self._open:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        self._open.clear()

    def messages(self, kinds: str = "", *, from_lp: bool | None = None) -> list[Seen]:
        """Those of the given types, all but market data and requests for it where none is given."""
        return [
            message
            for message in list(self.seen)
            if (message.kind in kinds if kinds else message.kind not in "VWX") and from_lp in {None, message.from_lp}
        ]

    def _accept(self) -> None:
        while True:
            try:
                gateway, _ = self._listener.accept()
            except OSError:
                return
            try:
                lp = socket.create_connection(("127.0.0.1", self._lp_port), 2)
            except OSError:
                gateway.close()
                continue
            self._connections += 1
            self._open += [gateway, lp]
            threading.Thread(target=self._join, args=(gateway, lp, self._connections), daemon=True).start()

    def _join(self, gateway: socket.socket, lp: socket.socket, connection: int) -> None:
        with gateway, lp:
            for end in (gateway, lp):
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                end.settimeout(None)
            back = threading.Thread(target=self._pump, args=(gateway, lp, connection, False), daemon=True)
            back.start()
            self._pump(lp, gateway, connection, from_lp=True)
            back.join()

    def _pump(self, source: socket.socket, target: socket.socket, connection: int, from_lp: bool) -> None:
        rest = b""
        with contextlib.suppress(OSError):
            while data := source.recv(CHUNK_BYTES):
                frames, rest = _split(rest + data)
                out = b""
                for frame in frames:
                    if from_lp and self.late and (delay_s := self.late.get(Seen(0, 0, from_lp, frame).kind)):
                        target.sendall(out)
                        out = b""
                        time.sleep(delay_s)
                    out += self._pass(frame, connection, from_lp)
                target.sendall(out)
        for end in (source, target):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def _pass(self, frame: bytes, connection: int, from_lp: bool) -> bytes:
        market_data = from_lp and (b"\x0135=X\x01" in frame or b"\x0135=W\x01" in frame)
        if market_data and self.lose:
            self.lose -= 1
            self.lost.append(frame)
            return b""
        self.seen.append(Seen(time.monotonic() - self._began, connection, from_lp, frame))
        if market_data and self.damage:
            self.damage -= 1
            self.lost.append(frame)
            at = len(frame) // 2
            return frame[:at] + bytes([frame[at] ^ 0x01]) + frame[at + 1 :]
        return frame


def _split(data: bytes) -> tuple[list[bytes], bytes]:
    frames = []
    start = 0
    for end in _END.finditer(data):
        frames.append(data[start : end.end()])
        start = end.end()
    return frames, data[start:]
