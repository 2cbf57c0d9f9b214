"""The LP's side of a scenario, and the gateway that it is played at, over a real socket.

    @scenario(reset_on_logon=False)
    async def test_2b_…(lp, gateway):
        await lp.logs_on()                     # accepts, answers the logon, takes the subscription
        lp.lose()
        lp.send("X", quote("EUR/USD", "1.1", "1.2"))
        await lp.expect("2", {7: 2, 16: 0})    # the next message, or the test fails

A scenario is played once for each version; keywords are settings of the feed, or make one. Whatever the gateway sends has the
header of the version and the next number, which `expect` checks; `settled` checks that nothing else was sent and that numbers
agree.
"""

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import suppress

import pytest
from structlog.testing import capture_logs

from libs.common.bus import decode_payload, read_entry
from libs.common.domain.moment import NS_PER_S
from libs.common.domain.record import Tick
from services.gateway.fix.connection import Patience
from services.gateway.fix.framer import Framer
from services.gateway.fix.wire import Message, format_sending_time, parse
from tests.integration import test_connection
from tests.unit.gateway.gateway_lp import PRICE_ONE, build, entry, increment

VERSIONS = {
    "4.2": {"begin_string": "FIX.4.2"},
    "4.4": {"begin_string": "FIX.4.4"},
    "5.0SP2": {"begin_string": "FIXT.1.1", "default_appl_ver_id": "9"},
}
SOON_S = 15.0  # longer than anything takes; a scenario that waits for it has failed
QUICK = Patience(reconnect_first_s=0.02, reconnect_cap_s=0.1)
REASON_MAX_42 = 11  # the last SessionRejectReason(373) that FIX 4.2 has

Fields = Iterable[tuple[int, object]]


def scenario(*, versions: Iterable[str] = VERSIONS, patience: Patience = QUICK, **settings: object):
    """Make a test of `async def (lp, gateway, …)`: what follows these two is for pytest to parametrise."""

    def decorate(play: Callable[..., Awaitable[None]]):
        @pytest.mark.parametrize("version", versions)
        def test(version, tmp_path, **more):
            with capture_logs() as logs:
                asyncio.run(_play(play, tmp_path, version, patience, settings, more))
            assert not [line for line in logs if "exc_info" in line]

        ours = [inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY) for name in ("version", "tmp_path")]
        theirs = [
            inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY) for name in list(inspect.signature(play).parameters)[2:]
        ]
        test.__signature__ = inspect.Signature([*ours, *theirs])
        test.__name__, test.__module__, test.__doc__ = play.__name__, play.__module__, play.__doc__
        return test

    return decorate


async def _play(play, folder, version, patience, settings, more) -> None:
    settings = {name: value() if callable(value) else value for name, value in settings.items()}
    feed = {"symbols": ("EUR/USD",), "heartbeat_s": 30, **VERSIONS[version], **settings}
    async with Lp(version) as lp, asyncio.timeout(60):
        gateway = Gateway(folder, lp.port, patience=patience, **feed)
        lp.gateway = gateway
        async with gateway:
            try:
                await play(lp, gateway, **more)
            finally:
                gateway.stopping.set()
                lp.abort()


# ---- the LP


class Lp:
    """An acceptor that sends what it is told and answers nothing by itself. `next_out`, `next_in`: its numbers."""

    def __init__(self, version: str) -> None:
        self.version = version
        self.begin = VERSIONS[version]["begin_string"].encode()
        self.gateway: Gateway
        self.port = 0
        self.next_out = self.next_in = 1
        self._lines: asyncio.Queue[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = asyncio.Queue()
        self._writers: list[asyncio.StreamWriter] = []
        self._fences = 0

    async def __aenter__(self):
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_):
        self._server.close()
        self.abort()

    def _connected(self, reader, writer):
        self._writers.append(writer)
        self._lines.put_nowait((reader, writer))

    def abort(self) -> None:
        """End every connection."""
        for writer in self._writers:
            writer.transport.abort()

    # ---- connections

    async def accept(self) -> None:
        """The gateway's next connection."""
        async with asyncio.timeout(SOON_S):
            self._reader, self._writer = await self._lines.get()
        self._framer = Framer()
        self._got: list[Message] = []

    def disconnect(self) -> None:
        """Close, without a Logout."""
        self._writer.close()

    async def expect_disconnect(self) -> None:
        """The gateway closes, and has sent nothing more."""
        message = await self._next()
        assert message is None, f"instead of the end: {message.fields}"
        self._writer.close()

    # ---- receiving

    async def _next(self) -> Message | None:
        """None where the connection has ended."""
        async with asyncio.timeout(SOON_S):
            while not self._got:
                data = b""
                with suppress(ConnectionError):
                    data = await self._reader.read(65_536)
                if not data:
                    return None
                frames, garbled = self._framer.feed(data, time.time_ns())
                assert not garbled
                self._got += map(parse, frames)
        return self._got.pop(0)

    async def expect(self, msg_type: str, fields: Mapping[int, object] | None = None, *, passing_over: str = "") -> Message:
        """The next message is of this type and has these fields; None: a field that it must not have.

        passing_over: a type of messages that may come before it.
        """
        message = await self._next()
        while message is not None and passing_over and message.text(35) == passing_over:
            self._check_header(message)
            message = await self._next()
        assert message is not None, f"the connection ended instead of a message of type {msg_type}"
        assert message.text(35) == msg_type, f"instead of {msg_type}: {message.fields}"
        self._check_header(message)
        for tag, value in (fields or {}).items():
            expected = None if value is None else value if isinstance(value, bytes) else str(value).encode()
            assert message.get(tag) == expected, f"field {tag}: {message.fields}"
        return message

    def _check_header(self, message: Message) -> None:
        assert [message.get(tag) for tag in (8, 49, 56)] == [self.begin, b"TICKVAULT", b"LP1"]
        if message.text(35) == "A" and message.flag(141):
            self.next_in = 1
        if message.flag(43):
            assert message.get(122) is not None
        else:
            assert message.number(34) == self.next_in
            self.next_in += 1

    def reason(self, number: int) -> int | None:
        """What SessionRejectReason(373) is in this version: FIX 4.2 leaves out what it does not know."""
        return None if self.version == "4.2" and number > REASON_MAX_42 else number

    async def settled(self) -> None:
        """All that was sent has been dealt with, nothing else is on its way, and both sides have the same numbers."""
        self._fences += 1
        self.send("1", [(112, f"fence {self._fences}")])
        await self.expect("0", {112: f"fence {self._fences}"})
        state = self.gateway.session.state
        assert (state.next_in, state.next_out, state.held) == (self.next_out, self.next_in, {})

    # ---- sending

    def message(self, msg_type: str, fields: Fields = (), *, seq: int | None = None, header: Fields = (), **overrides) -> bytes:
        """The next message; `seq` names another number and leaves the count as it is. Overrides: sender, target, begin, at."""
        number = self.next_out if seq is None else seq
        self.next_out += seq is None
        at = overrides.pop("at", time.time_ns())
        return build(msg_type, number, fields, at=at, header=header, **{"begin": self.begin} | overrides)

    def send(self, msg_type: str, fields: Fields = (), **more) -> None:
        self.send_bytes(self.message(msg_type, fields, **more))

    def resend(self, msg_type: str, seq: int, fields: Fields = ()) -> None:
        original = format_sending_time(time.time_ns() - NS_PER_S)
        self.send(msg_type, fields, seq=seq, header=((43, "Y"), (122, original)))

    def fill(self, seq: int, new: int) -> None:
        """A GapFill as it answers a ResendRequest."""
        self.resend("4", seq, [(123, "Y"), (36, new)])

    def lose(self, count: int = 1) -> None:
        """Number messages that never arrive."""
        self.next_out += count

    def send_bytes(self, data: bytes) -> None:
        self._writer.write(data)

    # ---- logging on

    def logon(self, *more: tuple[int, object], heartbeat_s: int = 30, **overrides) -> None:
        version = [(1137, 9)] if self.version == "5.0SP2" else []
        self.send("A", [(98, 0), (108, heartbeat_s), *version, *more], **overrides)

    async def logs_on(self, *more: tuple[int, object], heartbeat_s: int = 30) -> Message:
        """Accept, answer the gateway's logon, which is returned, and take its one subscription."""
        await self.accept()
        asked = await self.expect("A")
        if asked.flag(141):
            self.next_out = 1
            more = ((141, "Y"), *more)
        self.logon(*more, heartbeat_s=heartbeat_s)
        await self.expect("V", {263: 1})
        return asked

    async def resubscribed(self) -> None:
        """The gateway ends its subscription and makes a new one."""
        await self.expect("V", {263: 2})
        await self.expect("V", {263: 1})


# ---- the gateway


class Gateway(test_connection.Gateway):
    """What became of what it received. FakeBus has all that was published."""

    def kept(self, kind: str) -> list:
        """All records of a kind, in order; AssertionError where an entry leaves a hole or comes twice."""
        found, reached = [], 0
        for fields in self.bus._stream(0).entries.values():
            item = read_entry(fields)
            assert item.start == reached
            reached = item.end
            if item.kind == kind:
                found += decode_payload(item)
        return found

    async def level(self) -> None:
        """Return when all that was received is on the bus."""
        self.publisher._watermarks_are_due = True  # as `watch` says once a second
        self.publisher._ready.set()
        await test_connection.until(lambda: self.publisher.level, "all that was received")

    async def received(self, count: int) -> None:
        """Return when this many numbers have been taken: where the session has ended, nothing else tells."""
        await test_connection.until(lambda: self.session.state.next_in == count + 1, f"message {count}")

    async def all_ticks(self) -> list[Tick]:
        await self.level()
        return [Tick(*row) for row in self.kept("ticks")]

    async def bids(self) -> list[float | None]:
        return [None if tick.bid is None else tick.bid / PRICE_ONE for tick in await self.all_ticks()]

    async def gaps(self) -> list[tuple[str, int | None, int | None]]:
        """(cause, first number, last number) of each gap that was opened."""
        await self.level()
        return [(gap.cause, gap.first_seq, gap.last_seq) for gap in self.kept("gaps") if gap.to_ts is None]

    async def quarantined(self) -> list[tuple[str, bytes]]:
        """(reason, bytes)."""
        await self.level()
        return [(item.reason, item.raw) for item in self.kept("quarantine")]

    async def reasons(self) -> list[str]:
        return [reason for reason, _ in await self.quarantined()]

    async def gave_up(self, next_in: int, alarm: str) -> None:
        """The session was ended by us: its numbers stand, and an operator has to look."""
        await test_connection.until(lambda: self.session.state.status != "established", "the end of the session")
        assert (self.session.state.next_in, self.session.alarm) == (next_in, alarm)


def bid(price: object, **more):
    """The body of an X that states the bid."""
    return increment(entry("0", price, "1000", action="0", symbol="EUR/USD", **more))
