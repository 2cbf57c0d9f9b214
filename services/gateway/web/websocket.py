"""The live end of a WebSocket feed.

connect ─▶ OPENED ─▶ subscribe ─▶ every message: IN ─▶ the connection ends: CLOSED ─▶ pause ─▶ connect …
While the disk refuses, nothing is read: the library's queue fills, then TCP holds the server back.
"""

import asyncio
import logging
import time
from collections.abc import Mapping
from typing import ClassVar
from urllib.parse import urlsplit

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, WebSocketException

from libs.common.domain.feed import FeedKind
from libs.common.runtime import Health
from services.gateway.feeds import WebSocketFeed
from services.gateway.journal import Direction
from services.gateway.recorder import Recorder, now_ns
from services.gateway.web.fold import JsonFold
from services.gateway.web.link import MESSAGE_BYTES_MAX, PATIENCE, TURN_S, Patience, WebLink, tls_context

TIMER_INTERVAL_S = 0.2

_LIBRARY_LOG = logging.getLogger("tickvault.websocket")
_LIBRARY_LOG.setLevel(logging.ERROR)  # more would show the headers, and with them secrets


class _Connect(connect):
    """Redirects are refused: another host would get our headers."""

    def process_redirect(self, exc: Exception) -> Exception | str:
        return exc


class WebSocketLink(WebLink):
    """Keeps one feed connected until the service stops."""

    kind: ClassVar[FeedKind] = "websocket"
    feed: WebSocketFeed

    def __init__(
        self,
        feed: WebSocketFeed,
        fold: JsonFold,
        recorder: Recorder,
        *,
        health: Health,
        headers: Mapping[str, str],
        patience: Patience = PATIENCE,
    ) -> None:
        super().__init__(feed, fold, recorder, health=health, patience=patience)
        self._headers = headers
        self._patience = patience
        self._host = urlsplit(feed.url).netloc
        self._tls = tls_context(feed) if feed.url.startswith("wss:") else None
        self._connection: ClientConnection | None = None

    @property
    def heartbeat_rtt_s(self) -> float | None:
        return (self._connection.latency or None) if self._connection else None

    async def run(self, stopping: asyncio.Event) -> None:
        """Connect, stay, reconnect with backoff; then close, and publish what is left."""
        await self.recorder.run(self._stay_connected, stopping)

    async def _stay_connected(self, stopping: asyncio.Event) -> None:
        while not stopping.is_set():
            self._health.beat(self._loop_name)
            reason = await self._connect_once(stopping)
            await self.closed(reason)
            if not stopping.is_set():
                await self.rest(reason, stopping)

    async def _connect_once(self, stopping: asyncio.Event) -> str:
        """One connection from connect to close; why it ended."""
        heartbeat_s = self.feed.heartbeat_s or None
        try:
            connection = await _Connect(
                self.feed.url,
                ssl=self._tls,
                additional_headers=self._headers,
                user_agent_header="TickVault",
                open_timeout=self._patience.connect_s,
                ping_interval=heartbeat_s,
                ping_timeout=heartbeat_s,
                close_timeout=self._patience.close_s,
                max_size=MESSAGE_BYTES_MAX,
                logger=_LIBRARY_LOG,
            )
        except (OSError, ValueError, WebSocketException) as error:  # ValueError: a name that cannot be a host's
            return f"cannot connect to {self._host}: {error}"
        self._connection = connection
        reading = asyncio.create_task(self._read(connection))
        try:
            await self._attend(connection, reading, stopping)
            return reading.result()
        finally:
            self._connection = None
            reading.cancel()  # both no-ops, but where the stop took too long
            connection.transport.abort()

    async def _read(self, connection: ClientConnection) -> str:
        """Journal what comes until the connection ends; why it did."""
        await self.opened()
        try:
            for text in self.feed.subscribe:
                await connection.send(text)
            while True:
                data = await connection.recv(decode=False)
                await self.recorder.keep(now_ns(), Direction.IN, data)
        except ConnectionClosed as closed:
            return str(closed)

    async def _attend(self, connection: ClientConnection, reading: asyncio.Task[str], stopping: asyncio.Event) -> None:
        """The clock beside the reading; at a stop, the closing handshake."""
        connected_at = looked_at = time.monotonic()
        closing: asyncio.Task[None] | None = None
        while not reading.done():
            self._health.beat(self._loop_name)
            now = time.monotonic()
            if now - connected_at > self._patience.stable_s:
                self._backoff.reset()
            if self.up and not self.recorder.refuses and now - looked_at > TURN_S:
                looked_at = now
                self.look_at_the_clock()
            if stopping.is_set() and closing is None:
                closing = asyncio.create_task(connection.close())
            await asyncio.wait({reading}, timeout=TIMER_INTERVAL_S)
        if closing is not None:
            await closing
