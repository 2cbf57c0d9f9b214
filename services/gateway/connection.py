"""The live end of a session: socket, clock and journal around the fold.

data_received ─▶ journal ─▶ session ─▶ publisher
                   │           └▶ what to send ─▶ journal ─▶ socket
                   └ the disk refuses: stop reading, keep the bytes, try again; TCP holds the LP back
"""

import asyncio
import ssl
import time

from libs.common.domain.errors import Retryable
from libs.common.domain.moment import NS_PER_US
from libs.common.runtime import Backoff, Health, pause
from libs.common.settings import SettingsError
from libs.common.telemetry import logger
from libs.common.telemetry.chaos import point
from services.gateway.feeds import FixFeed
from services.gateway.journal import RECORD_BYTES_MAX, Direction, Journal
from services.gateway.publisher import Publisher
from services.gateway.replay import apply_sent
from services.gateway.session import Send, Session
from services.gateway.wire import encode, mask_secrets

CONNECT_TIMEOUT_S = 10.0
LOGON_TIMEOUT_S = 10.0
LOGOUT_TIMEOUT_S = 10.0
TIMER_INTERVAL_S = 0.2
SILENCE_FACTOR = 1.2  # (35) of the heartbeat interval: transmission time is allowed for
DISK_RETRY_S = 0.5
RECONNECT_FIRST_S = 0.2
RECONNECT_CAP_S = 30.0
STABLE_S = 10.0  # a session that was up for this long starts its backoff anew
WRITE_BUFFER_MAX = 1_000_000  # an LP that does not read what we send is gone


def now_ns() -> int:
    """The wall clock in ns, in whole µs: recv_ts."""
    return time.time_ns() // NS_PER_US * NS_PER_US


class Connection(asyncio.Protocol):
    """One TCP or TLS connection of a session, from connect to close."""

    def __init__(self, feed: FixFeed, session: Session, journal: Journal, publisher: Publisher, password: str | None) -> None:
        self._feed = feed
        self._session = session
        self._journal = journal
        self._publisher = publisher
        self._password = password
        self._transport: asyncio.Transport | None = None
        self._unwritten: list[tuple[int, Direction, bytes]] = []  # what the disk refused, in order
        self._log = logger().bind(session=feed.name)
        self._opened_at = self._last_sent = self._last_received = time.monotonic()
        self._test_request: tuple[str, float] | None = None  # id and when it was sent
        self._logout_at: float | None = None
        self.lost = asyncio.get_running_loop().create_future()
        self.heartbeat_rtt_s: float | None = None

    # ---- asyncio's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._record(now_ns(), Direction.OPENED, b"")

    def data_received(self, data: bytes) -> None:
        self._last_received = time.monotonic()
        recv_ts = now_ns()
        if len(data) <= RECORD_BYTES_MAX:
            self._record(recv_ts, Direction.IN, data)
        else:
            for at in range(0, len(data), RECORD_BYTES_MAX):
                self._record(recv_ts, Direction.IN, data[at : at + RECORD_BYTES_MAX])

    def connection_lost(self, exc: Exception | None) -> None:
        self._record(now_ns(), Direction.CLOSED, b"")
        if not self.lost.done():
            self.lost.set_result(str(exc) if exc else "closed by the LP")

    # ---- the fold's side

    def _record(self, recv_ts: int, direction: Direction, data: bytes) -> None:
        """Journal first, then the fold. While the disk refuses, records wait in order and reading stops."""
        if self._unwritten or not self._journaled(recv_ts, direction, data):
            self._unwritten.append((recv_ts, direction, data))
            if self._transport is not None and direction is Direction.IN and self._transport.is_reading():
                self._transport.pause_reading()
            return
        point("journaled_not_folded")
        session = self._session
        if direction is Direction.IN:
            session.received(data, recv_ts)
        elif direction is Direction.OPENED:
            session.opened(recv_ts)
        elif direction is Direction.CLOSED:
            session.closed(recv_ts)
        self._publisher.offer(self._journal.end, session.take())
        if session.sends:
            self._send_all()
        if session.disconnect_reason is not None and self._transport is not None:
            self._transport.close()

    def _journaled(self, recv_ts: int, direction: Direction, data: bytes) -> bool:
        try:
            if self._journal.segment_is_full and not self._session.state.held:
                self._session.state.durable = self._publisher.durable
                self._journal.begin_segment(self._session.snapshot())
                point("segment_begun")
            self._journal.append(recv_ts, direction, data)
        except Retryable as error:
            self._log.error("the journal cannot be written; reading stops until it can", error=str(error))
            return False
        return True

    def retry_disk(self) -> None:
        """Write what the disk refused before; read on when all of it is written."""
        while self._unwritten:
            recv_ts, direction, data = self._unwritten[0]
            waiting, self._unwritten = self._unwritten, []
            self._record(recv_ts, direction, data)
            if self._unwritten:
                self._unwritten = waiting
                return
            self._unwritten = waiting[1:]
        if self._transport is not None and not self._transport.is_closing() and not self._transport.is_reading():
            self._transport.resume_reading()

    @property
    def blocked(self) -> bool:
        """Whether the journal refuses to be written."""
        return bool(self._unwritten)

    def _send_all(self) -> None:
        sends, self._session.sends = self._session.sends, []
        for send in sends:
            self._send(send)

    def _send(self, send: Send) -> None:
        """Encode with the next number, journal it without secrets, then write it."""
        transport, state, feed = self._transport, self._session.state, self._feed
        if transport is None or transport.is_closing():
            return
        fields = list(send.fields)
        if send.msg_type == "A":
            fields += [(553, feed.username)] if feed.username else []
            fields += [(554, self._password)] if self._password else []
        seq = state.next_out if send.seq is None else send.seq
        stamp = now_ns()
        frame = encode(
            feed.begin_string, feed.sender_comp_id, feed.target_comp_id, seq, send.msg_type, fields,
            now_ns=stamp, poss_dup=send.seq is not None,
        )  # fmt: skip
        kept = mask_secrets(frame)
        try:
            self._journal.append(stamp, Direction.OUT, kept)
        except Retryable as error:
            self._log.error("cannot journal what is to be sent; closing", error=str(error))
            transport.abort()
            return
        apply_sent(self._session, kept)
        self._publisher.offer(self._journal.end, self._session.take())
        transport.write(frame)
        self._last_sent = time.monotonic()
        if send.msg_type == "5":
            self._logout_at = self._last_sent
        if transport.get_write_buffer_size() > WRITE_BUFFER_MAX:
            self._log.warning("the LP does not read; closing")
            transport.abort()

    # ---- the clock's side

    def on_timer(self) -> None:
        """(7, 11, 33, 35, 36) Called several times a second."""
        if self._transport is None or self._transport.is_closing():
            return
        if self.blocked:
            self.retry_disk()
            return
        now = time.monotonic()
        status, heartbeat_s = self._session.state.status, self._session.state.heartbeat_s
        if status == "logon_sent" and now - self._opened_at > LOGON_TIMEOUT_S:
            self.abandon("no answer to the logon")
        elif self._logout_at is not None and now - self._logout_at > LOGOUT_TIMEOUT_S:
            self.abandon("no answer to the logout")
        elif status == "established" and heartbeat_s:
            if now - self._last_sent >= heartbeat_s:
                self._send(Send("0", []))
            self._check_silence(now, heartbeat_s)

    def _check_silence(self, now: float, heartbeat_s: int) -> None:
        if self._test_request is not None and self._session.last_answer == self._test_request[0]:
            self.heartbeat_rtt_s = max(0.0, self._last_received - self._test_request[1])
            self._test_request = None
        silence_s = now - self._last_received
        if silence_s <= heartbeat_s * SILENCE_FACTOR:
            if self._test_request is not None and self._last_received > self._test_request[1]:
                self._test_request = None  # any message counts as life
        elif self._test_request is None:
            self._test_request = (f"TEST-{now_ns()}", now)
            self._send(Send("1", [(112, self._test_request[0])]))
        elif now - self._test_request[1] > heartbeat_s * SILENCE_FACTOR:
            self.abandon(f"silent for {silence_s:.0f} s, TestRequest unanswered")

    def abandon(self, reason: str) -> None:
        """Close without the LP's consent."""
        self._log.warning("disconnecting", reason=reason)
        self._session.disconnect_reason = reason
        if self._transport is not None:
            self._transport.abort()

    def log_out(self) -> None:
        """(11, 53) End subscriptions and session in order; the LP closes, or the timer does."""
        if self._transport is None or self._transport.is_closing():
            return
        if self._session.state.status == "established":
            self._session.unsubscribe()
            self._session.logout()
            self._send_all()
        elif self._session.state.status != "logging_out":
            self._transport.close()


class Link:
    """Keeps one session connected until the service stops."""

    def __init__(
        self,
        feed: FixFeed,
        session: Session,
        journal: Journal,
        publisher: Publisher,
        *,
        health: Health,
        password: str | None,
        fsync_ms: int,
        keep_days: float,
    ) -> None:
        self.feed = feed
        self.session = session
        self.journal = journal
        self.publisher = publisher
        self.connection: Connection | None = None
        self._health = health
        self._password = password
        self._fsync_s = fsync_ms / 1000
        self._keep_s = keep_days * 86_400
        self._tls = tls_context(feed)
        self._log = logger().bind(session=feed.name)

    async def run(self, stopping: asyncio.Event) -> None:
        """Connect, stay, reconnect with backoff; then log out, and publish what is left."""
        loop_name = f"session {self.feed.name}"
        drained = asyncio.Event()
        workers = [
            asyncio.create_task(self.publisher.run(drained)),
            asyncio.create_task(self.publisher.watch(drained)),
            asyncio.create_task(self._keep_journal(drained)),
        ]
        backoff = Backoff(RECONNECT_FIRST_S, RECONNECT_CAP_S)
        connecting = asyncio.create_task(self._stay_connected(stopping, backoff, loop_name))
        try:
            await asyncio.wait({connecting, *workers}, return_when=asyncio.FIRST_COMPLETED)
            stopping.set()
            await connecting
        finally:
            drained.set()
            await asyncio.gather(*workers)
            self.journal.close()
            self._health.end(loop_name)

    async def _stay_connected(self, stopping: asyncio.Event, backoff: Backoff, loop_name: str) -> None:
        while not stopping.is_set():
            self._health.beat(loop_name)
            started = time.monotonic()
            reason = await self._connect_once(stopping, loop_name)
            if time.monotonic() - started > STABLE_S and self.session.alarm is None:
                backoff.reset()
            if not stopping.is_set():
                self._log.warning("disconnected", reason=self.session.disconnect_reason or reason, alarm=self.session.alarm)
                delay_s = backoff.next_s()
                deadline = time.monotonic() + delay_s
                while not stopping.is_set() and (left_s := deadline - time.monotonic()) > 0:
                    self._health.beat(loop_name)
                    await pause(stopping, min(left_s, 5.0))

    async def _connect_once(self, stopping: asyncio.Event, loop_name: str) -> str:
        """One connection from connect to close; why it ended."""
        loop = asyncio.get_running_loop()
        connection: Connection | None = None

        def protocol() -> Connection:
            nonlocal connection
            connection = Connection(self.feed, self.session, self.journal, self.publisher, self._password)
            return connection

        server_name = (self.feed.tls_server_name or self.feed.host) if self._tls else None
        try:
            await asyncio.wait_for(
                loop.create_connection(protocol, self.feed.host, self.feed.port, ssl=self._tls, server_hostname=server_name),
                CONNECT_TIMEOUT_S,
            )
        except (OSError, TimeoutError) as error:
            return f"cannot connect to {self.feed.host}:{self.feed.port}: {error or 'timed out'}"
        assert connection is not None
        self.connection = connection
        self._log.info("connected", host=self.feed.host, port=self.feed.port, tls=self._tls is not None)
        asked_to_stop = False
        while not connection.lost.done():
            self._health.beat(loop_name)
            if stopping.is_set() and not asked_to_stop:
                asked_to_stop = True
                connection.log_out()
            connection.on_timer()
            await asyncio.wait({connection.lost}, timeout=TIMER_INTERVAL_S)
        while connection.blocked:  # what was read must be in the journal before anything else is
            self._health.beat(loop_name)
            connection.retry_disk()
            await asyncio.sleep(DISK_RETRY_S if connection.blocked else 0)
        return str(connection.lost.result())

    async def _keep_journal(self, drained: asyncio.Event) -> None:
        """Fsync at the promised pace; compress and delete what is durable and old."""
        loop = asyncio.get_running_loop()
        tidied = time.monotonic()
        while not drained.is_set():
            await pause(drained, self._fsync_s)
            try:
                await loop.run_in_executor(None, self.journal.sync)
                if time.monotonic() - tidied > TIDY_INTERVAL_S:
                    tidied = time.monotonic()
                    await loop.run_in_executor(None, self.journal.tidy, self.publisher.durable, self._keep_s, COMPRESS_AFTER_S)
            except Retryable as error:
                self._log.error("the journal cannot be kept", error=str(error))


TIDY_INTERVAL_S = 60.0
COMPRESS_AFTER_S = 3600.0  # a busy hour is for ticks, not for compressing


def tls_context(feed: FixFeed) -> ssl.SSLContext | None:
    """Verification is always on; a private CA is named in the feed, never switched off."""
    if not feed.tls:
        return None
    try:
        context = ssl.create_default_context(cafile=str(feed.tls_ca) if feed.tls_ca else None)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if feed.tls_cert:
            context.load_cert_chain(feed.tls_cert, feed.tls_key)
    except (OSError, ssl.SSLError) as error:
        files = [str(path) for path in (feed.tls_ca, feed.tls_cert, feed.tls_key) if path]
        raise SettingsError(f"session {feed.name}: TLS files {files} cannot be used: {error}") from error
    return context
