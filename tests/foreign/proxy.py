"""The wire between the gateway and an LP: a proxy that sees all messages, and damages or delays those of the LP on request."""

import contextlib
import re
import socket
import struct
import threading
import time
from dataclasses import dataclass, field
from typing import NamedTuple

from tests.foreign.faults import Fault

CHUNK_BYTES = 262_144
PAUSE_S = 3.0  # longer than the heartbeat interval, not long enough to be given up

_END = re.compile(rb"\x0110=[0-9]{3}\x01")
_NEW_MARKET_DATA = re.compile(rb"8=FIX[^\x01]*\x019=\d+\x0135=[WXS]\x01(?!.*\x0143=Y)", re.DOTALL)
_RESET = struct.pack("ii", 1, 0)  # SO_LINGER: close at once, with RST


class Seen(NamedTuple):
    """One message as it was before a fault; `connection` counts from 1."""

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


@dataclass
class Connection:
    """One of the gateway, and one to the LP. `number` counts from 1."""

    number: int
    gateway: socket.socket
    lp: socket.socket
    left: threading.Event = field(default_factory=threading.Event)  # by the gateway
    resets: bool = False  # it ends with RST instead of FIN

    def end(self) -> None:
        """Both pumps stop; what closes the sockets is the thread that joins them."""
        for socket_, how in ((self.gateway, socket.SHUT_RD if self.resets else socket.SHUT_RDWR), (self.lp, socket.SHUT_RDWR)):
            with contextlib.suppress(OSError):
                socket_.shutdown(how)


class Wire:
    """Listens on `port`; each connection is joined to one of its own to the LP, or closed where the LP is not there."""

    def __init__(self, lp_port: int) -> None:
        self.seen: list[Seen] = []
        self.struck: list[tuple[Fault, list[int]]] = []  # with the numbers of the messages it took
        self.connections = 0
        self.resend_requests = 0  # of the gateway
        self.late: dict[str, float] = {}  # message type → seconds it and all behind it take longer on the way from the LP
        self._armed: list[Fault] = []
        self._taken: list[bytes] = []  # by the first of them
        self._lp_port = lp_port
        self._began = time.monotonic()
        self._open: list[Connection] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listener.close()
        self.cut()

    def cut(self) -> None:
        """Both ends lose the connection, without a word."""
        for connection in self._open:
            connection.end()
        self._open.clear()

    def strike(self, fault: Fault, times: int = 1) -> None:
        """The next market data messages of the LP that are no resends; `struck` says when it is done."""
        self._armed += [fault] * times

    def messages(self, kinds: str = "", *, from_lp: bool | None = None) -> list[Seen]:
        """Those of the given types, all but market data and requests for it where none is given."""
        return [
            message
            for message in list(self.seen)
            if (message.kind in kinds if kinds else message.kind not in "VWXRS") and from_lp in {None, message.from_lp}
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
            self.connections += 1
            connection = Connection(self.connections, gateway, lp)
            self._open.append(connection)
            threading.Thread(target=self._join, args=(connection,), daemon=True).start()

    def _join(self, connection: Connection) -> None:
        with connection.gateway as gateway, connection.lp as lp:
            for end in (gateway, lp):
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                end.settimeout(None)
            back = threading.Thread(target=self._pump_to_lp, args=(connection,), daemon=True)
            back.start()
            self._pump_to_gateway(connection)
            back.join()
            if connection.resets:
                gateway.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)

    def _pump_to_lp(self, connection: Connection) -> None:
        rest = b""
        with contextlib.suppress(OSError):
            while data := connection.gateway.recv(CHUNK_BYTES):
                frames, rest = _split(rest + data)
                for frame in frames:
                    self._note(connection, frame, from_lp=False)
                    self.resend_requests += b"\x0135=2\x01" in frame
                connection.lp.sendall(b"".join(frames))
        connection.left.set()
        connection.end()

    def _pump_to_gateway(self, connection: Connection) -> None:
        rest = b""
        self._taken.clear()
        with contextlib.suppress(OSError):
            while data := connection.lp.recv(CHUNK_BYTES):
                frames, rest = _split(rest + data)
                out = b""
                for frame in frames:
                    if (delay_s := self.late.get(Seen(0, 0, True, frame).kind)) if self.late else None:
                        connection.gateway.sendall(out)
                        out = b""
                        time.sleep(delay_s)
                    self._note(connection, frame, from_lp=True)
                    if not self._armed or not _NEW_MARKET_DATA.match(frame):
                        out += frame
                        continue
                    connection.gateway.sendall(out)
                    out = b""
                    self._take(connection, frame)
                connection.gateway.sendall(out)
        connection.end()

    def _note(self, connection: Connection, frame: bytes, *, from_lp: bool) -> None:
        self.seen.append(Seen(time.monotonic() - self._began, connection.number, from_lp, frame))

    def _take(self, connection: Connection, frame: bytes) -> None:
        """OSError where the fault ends the connection."""
        self._taken.append(frame)
        fault = self._armed[0]
        if len(self._taken) < fault.takes:
            return
        spoilt = fault.spoil(self._taken)
        step = fault.piece_bytes or len(spoilt) or 1
        for at in range(0, len(spoilt), step):
            time.sleep(PAUSE_S if at == step and fault.then == "pause" else 0)
            connection.gateway.sendall(spoilt[at : at + step])
        self.struck.append((fault, [int(Seen(0, 0, True, taken).get(34) or 0) for taken in self._taken]))
        self._taken.clear()
        del self._armed[0]
        if fault.then == "silence":
            connection.left.wait()
        elif fault.then in {"close", "reset"}:
            connection.resets = fault.then == "reset"
            raise ConnectionAbortedError(fault.name)


def _split(data: bytes) -> tuple[list[bytes], bytes]:
    frames = []
    start = 0
    for end in _END.finditer(data):
        frames.append(data[start : end.end()])
        start = end.end()
    return frames, data[start:]
