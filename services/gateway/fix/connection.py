"""The live end of a session: socket and clock around the recorder.

data_received ─▶ recorder: journal, fold, publisher
                   │           └▶ what to send ─▶ recorder ─▶ socket
                   └ the disk refuses: stop reading, keep the bytes, try again; TCP holds the LP back
"""

import asyncio
import ssl
import time
from collections import deque
from dataclasses import dataclass

import msgspec

from libs.common.domain.feed import FeedHealth, FeedState
from libs.common.domain.moment import NS_PER_S
from libs.common.runtime import Backoff, Health, pause
from libs.common.settings import SettingsError
from libs.common.telemetry import logger
from services.gateway.feeds import FixFeed
from services.gateway.fix.session import Session
from services.gateway.fix.state import Fields, Send
from services.gateway.fix.wire import encode, mask_secrets
from services.gateway.journal import RECORD_BYTES_MAX, Direction
from services.gateway.recorder import DISK_RETRY_S, Recorder, now_ns
from services.gateway.staleness import Staleness

TIMER_INTERVAL_S = 0.2
SILENCE_FACTOR = 1.2  # (35) of the heartbeat interval: transmission time is allowed for
WRITE_BUFFER_MAX = 1_000_000  # an LP that does not read what we send is gone
ROUND_TRIP_INTERVAL_S = 60.0  # between two TestRequests that only measure the round trip
SCHEDULE_INTERVAL_S = 1.0
TEST_REQ_ID = "TEST"  # QuickFIX's

_WITHOUT_GROUPS = frozenset({"0", "1", "2", "3", "4", "5", "A", "j"})


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a session waits, in seconds. A stop takes connect or logout, then close: together less than DRAIN_TIMEOUT_S."""

    connect_s: float = 10.0  # TCP and TLS
    logon_s: float = 10.0  # (7)
    logout_s: float = 10.0  # (11) for the answer to ours
    farewell_s: float = 2.0  # (12) for the LP to close after we answered its logout
    close_s: float = 5.0  # for what is still to be written when we close
    reconnect_first_s: float = 0.2
    reconnect_cap_s: float = 30.0
    stable_s: float = 10.0  # a session that was established for this long starts its backoff anew


class Connection(asyncio.Protocol):
    """One TCP or TLS connection of a session, from connect to close."""

    def __init__(
        self, session: Session, recorder: Recorder, staleness: Staleness, password: str | None, patience: Patience
    ) -> None:
        self._feed = session.feed
        self._session = session
        self._recorder = recorder
        self._staleness = staleness
        self._password = password
        self._patience = patience
        self._transport: asyncio.Transport | None = None  # None before the connection is made, and when it is lost
        self._unwritten: deque[tuple[int, Direction, bytes]] = deque()  # what the disk refused, in order
        self._log = logger().bind(session=session.feed.name)
        self._logon_at = self._asked_at = self._checked_at = self._last_sent = self._last_received = time.monotonic()
        self._test_request: float | None = None  # when it was sent, because of a silence
        self._logout_at: float | None = None
        self._answered = False  # the logout is the LP's, ours its answer
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
        """The record, then what the session wants to send because of it. False: the disk refuses, and nothing has happened."""
        if not self._recorder.write(recv_ts, direction, data):
            return False
        session = self._session
        if session.last_answer == TEST_REQ_ID:
            self.heartbeat_rtt_s = time.monotonic() - self._asked_at
            session.last_answer = ""
        if session.sends:
            self._send_all()
        if session.disconnect_reason is not None and self._transport is not None and not self._transport.is_closing():
            self._transport.close()
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
        fields: Fields = list(send.fields)
        if send.msg_type == "A":
            fields += [(553, feed.username)] if feed.username else []
            fields += [(554, self._password)] if self._password else []
        if send.msg_type in _WITHOUT_GROUPS:
            fields.sort(key=lambda field: field[0])  # as QuickFIX does; with a group, order has a meaning
        seq = state.next_out if send.seq is None else send.seq
        stamp = now_ns()
        frame = encode(
            feed.begin_string, feed.sender_comp_id, feed.target_comp_id, seq, send.msg_type, fields,
            now_ns=stamp, poss_dup=send.seq is not None,
        )  # fmt: skip
        kept = mask_secrets(frame)
        if not self._recorder.write(stamp, Direction.OUT, kept):
            return False
        transport.write(frame)
        self._last_sent = time.monotonic()
        if send.msg_type == "A":
            self._logon_at = self._last_sent
        elif send.msg_type == "5" and self._logout_at is None:
            self._logout_at = self._last_sent
            self._answered = True
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
            self._staleness.begin()
        if self._logout_at is not None and now - self._logout_at > self._logout_patience_s:
            self.abandon(
                self._session.alarms.get("logged_out", "logged out by the LP") if self._answered else "no answer to the logout"
            )
        elif self.blocked:
            self.retry_disk()
        elif status == "logon_sent" and now - self._logon_at > self._patience.logon_s:
            self.abandon("no answer to the logon")
        elif status == "established" and heartbeat_s:
            if now - self._last_sent >= heartbeat_s:
                self._send("0", [])
            self._check_silence(now, heartbeat_s)
        if status == "established" and now - self._checked_at > SCHEDULE_INTERVAL_S and not self.blocked:
            self._checked_at = now
            self._check_clock()

    @property
    def _logout_patience_s(self) -> float:
        return self._patience.farewell_s if self._answered else self._patience.logout_s

    def _check_clock(self) -> None:
        """(14) The session's stretch may be over; and groups of symbols may have gone stale, or a resend not come."""
        session, at = self._session, now_ns()
        schedule = self._feed.schedule
        if schedule is not None and schedule.began(at) != session.state.session_began:
            self.log_out("end of session")
            return
        groups, state = self._staleness.newly_stale(at), session.state
        closed = any(not self._feed.is_open(group, at) for group in state.stale)
        if groups or closed or 0 < state.resend_deadline < at:
            self._record(at, Direction.CLOCK, msgspec.msgpack.encode(groups))

    def _send(self, msg_type: str, fields: Fields) -> None:
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
        silence_s = now - self._last_received
        if silence_s <= heartbeat_s * SILENCE_FACTOR:
            if self._test_request is not None and self._last_received > self._test_request:
                self._test_request = None  # any message counts as life
            if now - self._asked_at > ROUND_TRIP_INTERVAL_S:
                self._ask_for_life(now)
        elif self._test_request is None:
            self._test_request = self._ask_for_life(now)
        elif now - self._test_request > heartbeat_s * SILENCE_FACTOR:
            self.abandon(f"silent for {silence_s:.0f} s, TestRequest unanswered")

    def _ask_for_life(self, now: float) -> float:
        """A TestRequest; its answer also measures the round trip."""
        self._session.last_answer = ""
        self._asked_at = now
        self._send("1", [(112, TEST_REQ_ID)])
        return now

    def abandon(self, reason: str) -> None:
        """Close without the LP's consent."""
        if self._transport is not None:
            self._log.warning("disconnecting", reason=reason)
            self._session.disconnect_reason = reason
            self._transport.abort()

    def log_out(self, text: str = "") -> None:
        """(11, 53) End subscriptions and session in order; the LP closes, or the timer does."""
        if self._transport is None or self._transport.is_closing():
            return
        if self._session.state.status == "established":
            self._answered, self._logout_at = False, time.monotonic()  # also where the disk does not let us say so
            self._session.subscriptions.unsubscribe()
            self._session.logout(text)
            self._send_all()
        elif self._session.state.status != "logging_out":
            self._transport.close()


class Link:
    """Keeps one session connected until the service stops."""

    def __init__(
        self, session: Session, recorder: Recorder, *, health: Health, password: str | None, patience: Patience = Patience()
    ) -> None:
        feed = session.feed
        if password and not password.isprintable():
            raise SettingsError(f"session {feed.name}: the password in {feed.password_env} holds what cannot be sent")
        self.feed = feed
        self.session = session
        self.recorder = recorder
        self.connection: Connection | None = None
        self.retry_at: int | None = None  # ns, of the next attempt to connect
        self._health = health
        self._password = password
        self._patience = patience
        self._backoff = Backoff(patience.reconnect_first_s, patience.reconnect_cap_s)
        self._staleness = Staleness(feed, session)
        self._tls = tls_context(feed)
        self._log = logger().bind(session=feed.name)

    @property
    def ignored_entries(self) -> int:
        return self.session.market.ignored_entries

    def why_not_ready(self) -> str | None:
        if self.recorder.refuses:
            return "the journal cannot be written"
        status = self.session.state.status
        if status == "established" or not self.feed.in_session(now_ns()):
            return None
        return self.session.alarm or self.session.disconnect_reason or status

    def health(self, at: int) -> FeedHealth:
        session = self.session
        state, counts, subscriptions = session.state, session.counts, session.subscriptions
        return FeedHealth(
            session=self.feed.name, kind="fix", state=self._state(at), up=state.status == "established", at=at, since=at,
            alarm=session.alarm, stale=list(state.stale), last_quote_at=state.last_ts or None,
            next_in=state.next_in, next_out=state.next_out, messages=counts.messages, garbled=counts.garbled,
            rejects_received=counts.rejects_received, resend_requests=counts.resend_requests,
            duplicates_dropped=counts.dropped_duplicates,
            heartbeat_rtt_s=self.connection.heartbeat_rtt_s if self.connection else None,
            symbols=len(subscriptions.symbols), refused_symbols=dict(subscriptions.refused),
            open_gaps=len(state.open_gaps) + len(state.stale), retry_at=self.retry_at, alerts=dict(session.alarms),
        )  # fmt: skip

    def _state(self, at: int) -> FeedState:
        status = self.session.state.status
        if status != "closed":
            return status
        if not self.feed.in_session(at):
            return "out_of_schedule"
        return "logon_rejected" if "logon_rejected" in self.session.alarms else "disconnected"

    async def run(self, stopping: asyncio.Event) -> None:
        """Connect, stay, reconnect with backoff; then log out, and publish what is left."""
        await self.recorder.run(self._stay_connected, stopping)

    async def _stay_connected(self, stopping: asyncio.Event) -> None:
        loop_name = f"session {self.feed.name}"
        try:
            while not stopping.is_set():
                await self._wait_for_schedule(stopping, loop_name)
                if stopping.is_set():
                    return
                self._health.beat(loop_name)
                self.session.disconnect_reason = None
                reason = await self._connect_once(stopping, loop_name)
                if not stopping.is_set():
                    await self._rest(self.session.disconnect_reason or reason, stopping, loop_name)
        finally:
            if self.connection is not None:
                self.connection.abandon("the stop took too long")  # a no-op, but where it did

    async def _wait_for_schedule(self, stopping: asyncio.Event, loop_name: str) -> None:
        """(14) Until the session's next stretch begins."""
        if self.feed.in_session(now_ns()):
            return
        self._log.info("out of the session's schedule")
        while not stopping.is_set() and not self.feed.in_session(now_ns()):
            self._health.beat(loop_name)
            await pause(stopping, SCHEDULE_INTERVAL_S)

    async def _rest(self, reason: str, stopping: asyncio.Event, loop_name: str) -> None:
        """The pause before the next attempt, longer each time."""
        delay_s = self._backoff.next_s()
        self._log.warning("disconnected", reason=reason, alarm=self.session.alarm, retry_in_s=round(delay_s, 3))
        self.retry_at = now_ns() + int(delay_s * NS_PER_S)
        deadline = time.monotonic() + delay_s
        while not stopping.is_set() and (left_s := deadline - time.monotonic()) > 0:
            self._health.beat(loop_name)
            await pause(stopping, min(left_s, 5.0))
        self.retry_at = None

    async def _connect_once(self, stopping: asyncio.Event, loop_name: str) -> str:
        """One connection from connect to close; why it ended."""
        loop = asyncio.get_running_loop()
        connection: Connection | None = None

        def protocol() -> Connection:
            nonlocal connection
            connection = Connection(self.session, self.recorder, self._staleness, self._password, self._patience)
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
