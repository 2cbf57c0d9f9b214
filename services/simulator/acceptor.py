"""The FIX port: one session a connection, their timers, and the farewell.

open ─▶ run: accept, read ─▶ session ─▶ write, heartbeats ─▶ stopping: Logout to all ─▶ answers or patience ─▶ closed
"""

import asyncio
import contextlib
from collections import defaultdict

from libs.common.runtime import Health, StartError, pause
from libs.common.telemetry import logger
from services.simulator.numbers import Numbers
from services.simulator.provider import Provider
from services.simulator.session import Session

FAREWELL_S = 5.0
TIMER_S = 0.2
_READ_BYTES = 65_536


class SocketLine:
    """A session's way to its client; `drained` waits while the socket's buffer is full."""

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self._writer = writer

    @property
    def unsent_bytes(self) -> int:
        return self._writer.transport.get_write_buffer_size()

    def write(self, data: bytes) -> None:
        self._writer.write(data)

    def close(self) -> None:
        self._writer.close()

    def abort(self) -> None:
        self._writer.transport.abort()

    async def drained(self) -> None:
        with contextlib.suppress(OSError):  # a line that breaks has nothing more to send; its reader sees the end
            await self._writer.drain()


class Acceptor:
    """`sessions` are the connections there are, logged on or not."""

    def __init__(self, provider: Provider, health: Health) -> None:
        self.sessions: set[Session] = set()
        self.port = 0
        self._provider = provider
        self._health = health
        self._numbers: dict[str, Numbers] = defaultdict(Numbers)
        self._connections: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    async def open(self, host: str, port: int) -> None:
        """Listen; port 0 takes any free one."""
        try:
            self._server = await asyncio.start_server(self._connected, host, port)
        except OSError as error:
            raise StartError(f"FIX port {port} on {host} cannot be opened: {error.strerror}") from error
        self.port = self._server.sockets[0].getsockname()[1]
        logger().info("listening", fix=f"{host}:{self.port}", provider=self._provider.name, symbols=len(self._provider.symbols))

    async def run(self, stopping: asyncio.Event) -> None:
        assert self._server is not None, "open() comes first"
        try:
            while not stopping.is_set():
                self.run_once()
                await pause(stopping, TIMER_S)
        finally:
            self._server.close()
            await self._farewell()

    def run_once(self) -> None:
        """Let time pass for every session; a connection that failed by a bug of ours ends the process."""
        self._health.beat("acceptor")
        for session in list(self.sessions):
            session.on_timer()
        for connection in [task for task in self._connections if task.done()]:
            self._connections.discard(connection)
            connection.result()

    def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._connections.add(asyncio.create_task(self._serve(reader, writer)))

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        line = SocketLine(writer)
        session = Session(self._provider, line, self._enrol)
        self.sessions.add(session)
        try:
            with contextlib.suppress(OSError):
                while not session.closed and (data := await reader.read(_READ_BYTES)):
                    while (left_s := session.stalled_s) > 0:  # noqa: ASYNC110 - it is time that is awaited
                        await asyncio.sleep(min(left_s, TIMER_S))
                    session.receive(data)
                    await line.drained()
        finally:
            session.ended()
            self.sessions.discard(session)
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    def _enrol(self, newcomer: Session, client: str) -> Numbers:
        """The newest connection of a client wins: after a broken line the old one may look alive for a while."""
        for session in self.sessions:
            if session is not newcomer and session.client == client:
                session.take_over()
        return self._numbers[client]

    async def _farewell(self) -> None:
        for session in list(self.sessions):
            session.log_out("the provider is shutting down")
        if self._connections:
            await asyncio.wait(self._connections, timeout=FAREWELL_S)
        for session in list(self.sessions):
            session.line.abort()
        await asyncio.gather(*self._connections)
