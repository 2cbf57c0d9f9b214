"""The live end of a session: socket, clock and journal around the fold.

data_received ─▶ journal ─▶ session ─▶ publisher
                   │           └▶ what to send ─▶ journal ─▶ socket
                   └ the disk refuses: stop reading, keep the bytes, try again; TCP holds the LP back
"""

import asyncio
import ssl
import time
from collections import deque
from dataclasses import dataclass

from libs.common.domain.errors import Rejected, Retryable
from libs.common.domain.moment import NS_PER_US
from libs.common.runtime import Backoff, Health, pause
from libs.common.settings import SettingsError
from libs.common.telemetry import logger
from libs.common.telemetry.chaos import point
from services.gateway.feeds import FixFeed
from services.gateway.fix.session import Send, Session
from services.gateway.fix.wire import encode, mask_secrets
from services.gateway.journal import RECORD_BYTES_MAX, Direction, Journal
from services.gateway.publisher import Publisher
from services.gateway.replay import apply_sent

TIMER_INTERVAL_S = 0.2
SILENCE_FACTOR = 1.2  # (35) of the heartbeat interval: transmission time is allowed for
DISK_RETRY_S = 0.5
WRITE_BUFFER_MAX = 1_000_000  # an LP that does not read what we send is gone
TIDY_INTERVAL_S = 60.0
COMPRESS_AFTER_S = 3600.0  # a busy hour is for ticks, not for compressing


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a session waits, in seconds. A stop takes connect or logout, then close: together less than DRAIN_TIMEOUT_S."""

    connect_s: float = 10.0  # TCP and TLS
    logon_s: float = 10.0  # (7)
    logout_s: float = 10.0  # (11, 12)
    close_s: float = 5.0  # for what is still to be written when we close
    reconnect_first_s: float = 0.2
    reconnect_cap_s: float = 30.0
    stable_s: float = 10.0  # a session that was established for this long starts its backoff anew


def now_ns() -> int:
    """The wall clock in ns, in whole µs: recv_ts."""
    return time.time_ns() // NS_PER_US * NS_PER_US


class Connection(asyncio.Protocol):
    """One TCP or TLS connection of a session, from connect to close."""

    def __init__(
        self, feed: FixFeed, session: Session, journal: Journal, publisher: Publisher, password: str | None, patience: Patience
    ) -> None:
        self._feed = feed
        self._session = session
        self._journal = journal
        self._publisher = publisher
        self._password = password
        self._patience = patience
        self._transport: asyncio.Transport | None = None  # None before the connection is made, and when it is lost
        self._unwritten: deque[tuple[int, Direction, bytes]] = deque()  # what the disk refused, in order
        self._disk_refuses = False
        self._log = logger().bind(session=feed.name)
        self._logon_at = self._last_sent = self._last_received = time.monotonic()
        self._test_request: tuple[str, float] | None = None  # id and when it was sent
        self._logout_at: float | None = None
        self._closing_at: float | None = None
        self._established_at: float | None = None
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
        self._transport = None
        self._record(now_ns(), Direction.CLOSED, b"")
        if not self.lost.done():
            self.lost.set_result(str(exc) if exc else "closed by the LP")

    # ---- the fold's side

    def _record(self, recv_ts: int, direction: Direction, data: bytes) -> None:
        """While the disk refuses, records wait in order and reading stops."""
        if self.blocked or not self._folded(recv_ts, direction, data):
            self._unwritten.append((recv_ts, direction, data))
            self._stop_reading()

    def _folded(self, recv_ts: int, direction: Direction, data: bytes) -> bool:
        """Journal first, then the fold, then what it wants to send. False: the disk refuses, and nothing has happened."""
        if not self._journaled(recv_ts, direction, data):
            return False
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
        if session.disconnect_reason is not None and self._transport is not None and not self._transport.is_closing():
            self._transport.close()
        return True

    def _journaled(self, recv_ts: int, direction: Direction, data: bytes) -> bool:
        try:
            if self._journal.segment_is_full and not self._session.state.held:
                self._session.state.durable = self._publisher.durable
                self._journal.begin_segment(self._session.snapshot())
                point("segment_begun")
            self._journal.append(recv_ts, direction, data)
        except Retryable as error:
            if not self._disk_refuses:
                self._disk_refuses = True
                self._log.error("the journal cannot be written; reading stops until it can", error=str(error))
            return False
        return True

    def _stop_reading(self) -> None:
        if self._transport is not None and not self._transport.is_closing() and self._transport.is_reading():
            self._transport.pause_reading()

    def retry_disk(self) -> None:
        """Write what the disk refused before; read on when all of it is written."""
        self._send_all()
        while self._unwritten and not self._session.sends and self._folded(*self._unwritten[0]):
            self._unwritten.popleft()
        if self.blocked:
            return
        if self._disk_refuses:
            self._disk_refuses = False
            self._log.info("the journal can be written again")
        if self._transport is not None and not self._transport.is_closing() and not self._transport.is_reading():
            self._transport.resume_reading()

    @property
    def blocked(self) -> bool:
        """Whether the journal refuses to be written: what is received or to be sent waits for it."""
        return bool(self._unwritten or self._session.sends)

    def _send_all(self) -> None:
        """In order. What the disk refuses stays in `sends`; a connection that ends sends nothing more."""
        sends = self._session.sends
        while sends:
            if self._transport is None or self._transport.is_closing():
                sends.clear()
            elif self._sent(self._transport, sends[0]):
                del sends[0]
            else:
                self._stop_reading()
                break

    def _sent(self, transport: asyncio.Transport, send: Send) -> bool:
        """Encode with the next number, journal it without secrets, then write it. False: the disk refuses."""
        state, feed = self._session.state, self._feed
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
        if not self._journaled(stamp, Direction.OUT, kept):
            return False
        apply_sent(self._session, kept)
        self._publisher.offer(self._journal.end, self._session.take())
        transport.write(frame)
        self._last_sent = time.monotonic()
        if send.msg_type == "A":
            self._logon_at = self._last_sent
        elif send.msg_type == "5" and self._logout_at is None:
            self._logout_at = self._last_sent
        if transport.get_write_buffer_size() > WRITE_BUFFER_MAX:
            self._log.warning("the LP does not read; closing")
            transport.abort()
        return True

    # ---- the clock's side

    def on_timer(self) -> None:
        """(7, 11, 12, 33, 35, 36) Called several times a second."""
        if self._transport is None:
            return
        now = time.monotonic()
        if self._transport.is_closing():
            self._check_close(self._transport, now)
            return
        status, heartbeat_s = self._session.state.status, self._session.state.heartbeat_s
        if status == "established" and self._established_at is None:
            self._established_at = now
        if self._logout_at is not None and now - self._logout_at > self._patience.logout_s:
            self.abandon("no answer to the logout")
        elif self.blocked:
            self.retry_disk()
        elif status == "logon_sent" and now - self._logon_at > self._patience.logon_s:
            self.abandon("no answer to the logon")
        elif status == "established" and heartbeat_s:
            if now - self._last_sent >= heartbeat_s:
                self._send("0", [])
            self._check_silence(now, heartbeat_s)

    def _send(self, msg_type: str, fields: list[tuple[int, str | int | bytes]]) -> None:
        self._session.sends.append(Send(msg_type, fields))
        self._send_all()

    def _check_close(self, transport: asyncio.Transport, now: float) -> None:
        """A close waits until the LP has read what we wrote, for ever if it does not read."""
        if self._closing_at is None:
            self._closing_at = now
        elif now - self._closing_at > self._patience.close_s:
            transport.abort()

    @property
    def is_stable(self) -> bool:
        """Whether the session was established long enough to connect again at once when it ends."""
        return self._established_at is not None and time.monotonic() - self._established_at > self._patience.stable_s

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
            self._send("1", [(112, self._test_request[0])])
        elif now - self._test_request[1] > heartbeat_s * SILENCE_FACTOR:
            self.abandon(f"silent for {silence_s:.0f} s, TestRequest unanswered")

    def abandon(self, reason: str) -> None:
        """Close without the LP's consent."""
        if self._transport is not None:
            self._log.warning("disconnecting", reason=reason)
            self._session.disconnect_reason = reason
            self._transport.abort()

    def log_out(self) -> None:
        """(11, 53) End subscriptions and session in order; the LP closes, or the timer does."""
        if self._transport is None or self._transport.is_closing():
            return
        if self._session.state.status == "established":
            self._logout_at = time.monotonic()  # also where the disk does not let us say so
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
        patience: Patience = Patience(),
    ) -> None:
        if password and not password.isprintable():
            raise SettingsError(f"session {feed.name}: the password in {feed.password_env} holds what cannot be sent")
        self.feed = feed
        self.session = session
        self.journal = journal
        self.publisher = publisher
        self.connection: Connection | None = None
        self._health = health
        self._password = password
        self._fsync_s = fsync_ms / 1000
        self._keep_s = keep_days * 86_400
        self._patience = patience
        self._backoff = Backoff(patience.reconnect_first_s, patience.reconnect_cap_s)
        self._tls = tls_context(feed)
        self._log = logger().bind(session=feed.name)

    async def run(self, stopping: asyncio.Event) -> None:
        """Connect, stay, reconnect with backoff; then log out, and publish what is left."""
        loop_name = f"session {self.feed.name}"
        drained = asyncio.Event()
        workers = [
            asyncio.create_task(self.publisher.run(drained)),
            asyncio.create_task(self.publisher.watch(drained)),
            asyncio.create_task(self._sync_journal(drained)),
            asyncio.create_task(self._tidy_journal(drained)),
        ]
        connecting = asyncio.create_task(self._stay_connected(stopping, loop_name))
        try:
            await asyncio.wait({connecting, *workers}, return_when=asyncio.FIRST_COMPLETED)
            stopping.set()
            await connecting
        finally:
            connecting.cancel()  # no-ops, but where the drain took too long
            if self.connection is not None:
                self.connection.abandon("the stop took too long")
            drained.set()
            await asyncio.gather(*workers)
            self.journal.close()
            self._health.end(loop_name)

    async def _stay_connected(self, stopping: asyncio.Event, loop_name: str) -> None:
        while not stopping.is_set():
            self._health.beat(loop_name)
            self.session.disconnect_reason = None
            reason = await self._connect_once(stopping, loop_name)
            if not stopping.is_set():
                reason = self.session.disconnect_reason or reason
                delay_s = self._backoff.next_s()
                self._log.warning("disconnected", reason=reason, alarm=self.session.alarm, retry_in_s=round(delay_s, 3))
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
            connection = Connection(self.feed, self.session, self.journal, self.publisher, self._password, self._patience)
            return connection

        server_name = (self.feed.tls_server_name or self.feed.host) if self._tls else None
        try:
            await asyncio.wait_for(
                loop.create_connection(protocol, self.feed.host, self.feed.port, ssl=self._tls, server_hostname=server_name),
                self._patience.connect_s,
            )
        except (OSError, ValueError) as error:  # ValueError: a name that cannot be a host's
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
            if connection.is_stable:
                self._backoff.reset()
            await asyncio.wait({connection.lost}, timeout=TIMER_INTERVAL_S)
        while connection.blocked:  # what was read must be in the journal before anything else is
            self._health.beat(loop_name)
            connection.retry_disk()
            await asyncio.sleep(DISK_RETRY_S if connection.blocked else 0)
        return str(connection.lost.result())

    async def _sync_journal(self, drained: asyncio.Event) -> None:
        """Fsync at the promised pace."""
        while not drained.is_set():
            await pause(drained, self._fsync_s)
            try:
                await asyncio.get_running_loop().run_in_executor(None, self.journal.sync)
            except Retryable as error:
                self._log.error("the journal cannot be synced", error=str(error))

    async def _tidy_journal(self, drained: asyncio.Event) -> None:
        """Compress and delete what is durable and old. It may take minutes: fsync does not wait for it."""
        loop = asyncio.get_running_loop()
        while not drained.is_set():
            await pause(drained, TIDY_INTERVAL_S)
            try:
                await loop.run_in_executor(None, self.journal.tidy, self.publisher.durable, self._keep_s, COMPRESS_AFTER_S)
            except (OSError, Rejected) as error:  # a full disk, or one that reads back something else: the plain segment stays
                self._log.error("the journal cannot be tidied", error=str(error))


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
