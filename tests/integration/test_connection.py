"""The live end of a session on real sockets: timers, reconnects, TLS, secrets, a bus that refuses and a disk that is full.

The gateway's end is what the service builds (Link, Session, Journal, Publisher), on a bus in memory; the LP speaks just
enough FIX.
Names begin with the number in docs/fix.md where there is one.
"""

import asyncio
import socket
import ssl
import subprocess
import time
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from itertools import pairwise

import pytest
from structlog.testing import capture_logs

from libs.common.bus import decode_payload, read_entry
from libs.common.domain.record import Tick
from libs.common.runtime import Health
from libs.common.runtime.ports import free_port
from libs.common.settings import SettingsError
from libs.common.testing.fake_bus import FakeBus
from services.gateway.fix.connection import Link, Patience
from services.gateway.fix.framer import Framer
from services.gateway.fix.session import Session
from services.gateway.fix.wire import parse
from services.gateway.journal import Direction, Journal
from services.gateway.publisher import WAITING_TICKS_MAX, Publisher
from services.gateway.recorder import Recorder, now_ns
from services.gateway.replay import recover
from tests.unit.gateway.gateway_lp import PRICE_ONE, build, entry, increment, make_feed, quote

SOON_S = 10.0
QUICK = Patience(logon_s=0.5, logout_s=0.6, farewell_s=0.6, close_s=0.5, reconnect_first_s=0.02, reconnect_cap_s=0.1)


async def until(reached, what="the state waited for"):
    """What `reached` gives once it is true."""
    deadline = time.monotonic() + SOON_S
    while not (found := reached()):
        assert time.monotonic() < deadline, f"{what} did not come"
        await asyncio.sleep(0.002)
    return found


# ---- the LP


class Line:
    """One connection as the LP sees it. `answers` has the message types it reacts to as it should."""

    def __init__(self, reader, writer, answers, heartbeat_s):
        self.reader, self.writer = reader, writer
        self.answers = answers
        self.heartbeat_s = heartbeat_s
        self.got = []  # messages
        self.got_at = []  # monotonic
        self.bytes_sent = bytearray()
        self.opened_at = time.monotonic()
        self.ended_at = None
        self.next_out = 1
        self._framer = Framer()

    async def run(self):
        with suppress(ConnectionError, ssl.SSLError):
            while data := await self.reader.read(65_536):
                frames, garbled = self._framer.feed(data, time.time_ns())
                assert not garbled
                for frame in frames:
                    self.got.append(parse(frame))
                    self.got_at.append(time.monotonic())
                    self._react(self.got[-1])
        self.ended_at = time.monotonic()
        self.writer.close()

    def _react(self, message):
        match message.text(35):
            case "A" if "A" in self.answers:
                self.send("A", [(98, 0), (108, self.heartbeat_s), (141, "Y")])
            case "1" if "1" in self.answers:
                self.send("0", [(112, message.text(112))])
            case "5" if "5" in self.answers:
                self.send("5")
                self.writer.close()

    def message(self, msg_type, fields=(), **more) -> bytes:
        frame = build(msg_type, self.next_out, fields, at=time.time_ns(), **more)
        self.next_out += 1
        return frame

    def send(self, msg_type, fields=(), **more):
        self.send_bytes(self.message(msg_type, fields, **more))

    def send_bytes(self, data):
        self.bytes_sent += data
        self.writer.write(data)

    def quote(self, number, symbol="EUR/USD"):
        """The bid is the number in units of 1e-5."""
        self.send("X", quote(symbol, f"{number / 100_000:.5f}", "9"))

    def unsent_bytes(self):
        """What TCP does not take."""
        transport = self.writer.transport
        below_tls = transport._ssl_protocol._transport if hasattr(transport, "_ssl_protocol") else transport
        return below_tls.get_write_buffer_size()

    def of_type(self, msg_type):
        return [message for message in self.got if message.text(35) == msg_type]

    def times_of(self, msg_type):
        return [at for message, at in zip(self.got, self.got_at, strict=True) if message.text(35) == msg_type]

    async def until(self, msg_type, count=1):
        await until(lambda: len(self.of_type(msg_type)) >= count, f"{count} messages of type {msg_type}")
        return self.of_type(msg_type)[count - 1]

    async def until_ended(self):
        await until(lambda: self.ended_at, "the end of the connection")


class Lp:
    """An acceptor on a port of its own; `lines` has every connection."""

    def __init__(self, answers="A15", heartbeat_s=1, *, tls=None, send_buffer_bytes=None, receive_buffer_bytes=None, script=None):
        self.answers = answers
        self.heartbeat_s = heartbeat_s
        self.tls = tls
        self.script = script  # what is done with each line, instead of reading it
        self.lines = []
        self._tasks = []
        self._socket = socket.socket()
        if send_buffer_bytes:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, send_buffer_bytes)
        if receive_buffer_bytes:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer_bytes)
        self._socket.bind(("127.0.0.1", 0))
        self.port = self._socket.getsockname()[1]

    async def __aenter__(self):
        self._server = await asyncio.start_server(self._accept, sock=self._socket, ssl=self.tls)
        return self

    async def __aexit__(self, *_):
        self._server.close()
        for line in self.lines:
            line.writer.transport.abort()
        for task in self._tasks:
            if task.done():
                task.result()
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _accept(self, reader, writer):
        line = Line(reader, writer, self.answers, self.heartbeat_s)
        self.lines.append(line)
        self._tasks.append(asyncio.create_task(self.script(line) if self.script else line.run()))

    async def line(self, number=1) -> Line:
        await until(lambda: len(self.lines) >= number, f"connection {number}")
        return self.lines[number - 1]

    async def logged_on(self, number=1) -> Line:
        """The line, once the session on it is established and has subscribed."""
        line = await self.line(number)
        await line.until("V")
        return line


# ---- the gateway


class WatchedPublisher(Publisher):
    most_waiting = 0

    def offer(self, position, outcome):
        super().offer(position, outcome)
        self.most_waiting = max(self.most_waiting, self._waiting_ticks)


class Gateway:
    """What the service builds for one session, on a bus in memory."""

    def __init__(self, folder, port, *, bus=None, patience=QUICK, password=None, **settings):
        self.feed = make_feed(**{"port": port, "heartbeat_s": 1} | settings)
        self.bus = bus or FakeBus()
        self.journal = Journal(folder / self.feed.name)
        self.session = Session(self.feed)
        recover(self.journal, self.session)
        self.journal.begin_segment(self.session.snapshot(self.session.durable), leap=True)
        self.health = Health()
        self.publisher = WatchedPublisher(
            self.bus, self.journal, self.feed.name, lambda: Session(self.feed),
            partitions=1, durable=self.session.durable, health=self.health,
        )  # fmt: skip
        self.recorder = Recorder(
            self.feed.name, self.session, self.journal, self.publisher, health=self.health, fsync_ms=50, keep_days=7
        )
        self.link = Link(self.session, self.recorder, health=self.health, password=password, patience=patience)
        self.stopping = asyncio.Event()

    async def __aenter__(self):
        self._task = asyncio.create_task(self.link.run(self.stopping))
        return self

    async def __aexit__(self, *_):
        await self.stop()

    async def stop(self):
        """As at SIGTERM."""
        self.stopping.set()
        await asyncio.wait_for(self._task, SOON_S)

    def ticks(self) -> list[Tick]:
        """What is on the bus, what was published twice once; AssertionError where an entry would leave a hole."""
        found, reached = {}, 0
        for fields in self.bus._stream(0).entries.values():
            item = read_entry(fields)
            assert item.start <= reached, "a hole"
            reached = max(reached, item.end)
            if item.kind == "ticks":
                for tick in (Tick(*row) for row in decode_payload(item)):
                    found.setdefault((tick.symbol, tick.seq), tick)
        return list(found.values())

    def numbers(self) -> list[int]:
        """Of the quotes made by Line.quote."""
        return [number_of(tick) for tick in self.ticks()]

    async def level_with(self, line):
        """Return when all that was sent is on the bus."""
        await until(lambda: self.session.state.next_in == line.next_out and self.publisher.level, "all that was sent")


def number_of(tick):
    return round(tick.bid / PRICE_ONE * 100_000)


def journal_records(folder):
    """All of a session's journal."""
    found = []
    for record in Journal(folder).read(0):
        if record is None:
            return found
        found.append(record)
    return found


@asynccontextmanager
async def pair(folder, *, gateway=None, **lp):
    """An LP and the gateway connected to it."""
    async with Lp(**lp) as provider, Gateway(folder, provider.port, **(gateway or {})) as end:
        yield provider, end


def disconnects(logs):
    return [line for line in logs if line["event"] == "disconnected"]


def run(scenario):
    with capture_logs() as logs:
        asyncio.run(asyncio.wait_for(scenario(logs), 30))
    errors = [line for line in logs if "exc_info" in line]
    assert not errors, errors


# ---- logon and logout


def test_7_a_logon_that_nobody_answers_is_given_up_and_tried_again(tmp_path):
    async def scenario(logs):
        async with pair(tmp_path, answers="") as (lp, _):
            first = await lp.line(1)
            await first.until_ended()
            assert 0.5 <= first.ended_at - first.opened_at < 1.5
            await (await lp.line(2)).until("A")
        assert disconnects(logs)[0]["reason"] == "no answer to the logon"

    run(scenario)


def test_7_a_connection_without_an_established_session_never_shortens_the_pause(tmp_path):
    async def scenario(logs):
        patience = Patience(logon_s=0.2, stable_s=0.1, reconnect_first_s=0.01, reconnect_cap_s=30)
        async with pair(tmp_path, answers="", gateway={"patience": patience}):
            await until(lambda: len(disconnects(logs)) >= 4)
        pauses = [line["retry_in_s"] for line in disconnects(logs)]
        assert pauses == sorted(pauses)
        assert pauses[3] >= 0.04

    run(scenario)


def test_7_a_session_that_was_established_for_a_while_is_taken_up_again_at_once(tmp_path):
    async def scenario(logs):
        patience = Patience(logon_s=0.2, stable_s=0.3, reconnect_first_s=0.01, reconnect_cap_s=30)
        async with pair(tmp_path, answers="", gateway={"patience": patience}) as (lp, gateway):
            await until(lambda: len(disconnects(logs)) >= 4)
            lp.answers = "A15"
            line = await lp.logged_on(5)
            line.send("Y", [(262, "1"), (281, 0), (58, "unknown symbol")])  # an alarm that has nothing to do with it
            await until(lambda: gateway.link.connection.is_stable)
            await until(lambda: gateway.link._backoff.failures == 0)
            line.writer.close()
            await lp.logged_on(6)
        assert gateway.session.alarm is None
        assert disconnects(logs)[4]["retry_in_s"] <= 0.01

    run(scenario)


def test_7_a_refused_logon_is_surfaced_and_tried_again_after_growing_pauses(tmp_path):
    async def refuse(line):
        await asyncio.gather(line.run(), refusal(line))

    async def refusal(line):
        await line.until("A")
        line.send("5", [(58, "invalid password")])

    async def scenario(logs):
        patience = Patience(reconnect_first_s=0.02, reconnect_cap_s=0.16)
        async with pair(tmp_path, answers="", script=refuse, gateway={"patience": patience}) as (lp, gateway):
            await until(lambda: len(disconnects(logs)) >= 9)
            assert gateway.link.why_not_ready() == "logon rejected: invalid password"
            assert {line["reason"] for line in disconnects(logs)} == {"logon rejected: invalid password"}
        pauses = [line["retry_in_s"] for line in disconnects(logs)]
        expected = [0.02, 0.04, 0.08, *[0.16] * (len(pauses) - 3)]
        assert all(most / 2 <= pause <= most for pause, most in zip(pauses, expected, strict=True))
        assert len(set(pauses[3:])) > 1, "no jitter"
        waited = [after.opened_at - before.ended_at for before, after in pairwise(lp.lines)]
        assert all(time >= pause - 0.01 for time, pause in zip(waited, pauses, strict=False))

    run(scenario)


def test_7_a_plain_close_instead_of_the_logon_is_tried_again(tmp_path):
    async def close(line):
        await line.reader.read(65_536)
        line.writer.close()

    async def scenario(logs):
        async with pair(tmp_path, script=close) as (lp, gateway):
            await lp.line(3)
            assert gateway.session.state.status != "established"
        assert {line["reason"] for line in disconnects(logs)} == {"closed by the LP"}

    run(scenario)


def test_7_an_lp_that_is_away_is_connected_when_it_comes_and_the_log_says_what_is_wrong_now(tmp_path):
    async def scenario(logs):
        port = free_port()
        async with Gateway(tmp_path, port) as gateway:
            gateway.session.disconnect_reason = "what was wrong yesterday"
            await until(lambda: len(disconnects(logs)) >= 2)
            assert disconnects(logs)[0]["reason"].startswith(f"cannot connect to 127.0.0.1:{port}: ")
            async with Lp() as lp:
                object.__setattr__(gateway.feed, "port", lp.port)
                await lp.logged_on()
                await gateway.stop()

    run(scenario)


def test_7_a_host_name_that_cannot_be_is_no_bug_of_ours(tmp_path):
    async def scenario(logs):
        async with Gateway(tmp_path, 1, host="lp..example"):
            await until(lambda: len(disconnects(logs)) >= 2)

    run(scenario)


def test_11_at_a_stop_the_session_ends_in_order_and_what_still_comes_counts(tmp_path):
    async def scenario(logs):
        async with pair(tmp_path, answers="A1", gateway={"patience": Patience()}) as (lp, gateway):
            line = await lp.logged_on()
            stopped = asyncio.create_task(gateway.stop())
            await line.until("5")
            assert [message.text(35) for message in line.got[-2:]] == ["V", "5"]
            line.send("2", [(7, 1), (16, 0)])
            line.quote(7)
            fill = await line.until("4")
            assert (fill.text(123), fill.text(43), fill.text(34)) == ("Y", "Y", "1")
            assert fill.required_number(36) == line.of_type("5")[0].required_number(34) + 1
            await until(lambda: gateway.session.state.next_in == line.next_out)
            assert not stopped.done()
            line.send("5")
            await asyncio.wait_for(stopped, 2)
            await line.until_ended()
            assert gateway.numbers() == [7]
        assert journal_records(tmp_path / "LP1")[-1].direction is Direction.CLOSED
        assert not [line for line in logs if line["event"] == "disconnecting"]

    run(scenario)


def test_11_an_lp_that_does_not_answer_our_logout_is_left_after_the_timeout(tmp_path):
    async def scenario(logs):
        async with pair(tmp_path, answers="A1") as (lp, gateway):
            line = await lp.logged_on()
            began = time.monotonic()
            await gateway.stop()
            assert 0.6 <= time.monotonic() - began < 2
            await line.until_ended()
        assert [line["reason"] for line in logs if line["event"] == "disconnecting"] == ["no answer to the logout"]

    run(scenario)


def test_11_a_stop_before_the_logon_is_answered_does_not_wait_for_it(tmp_path):
    async def scenario(_logs):
        async with pair(tmp_path, answers="", gateway={"patience": Patience()}) as (lp, gateway):
            line = await lp.line()
            await line.until("A")
            began = time.monotonic()
            await gateway.stop()
            assert time.monotonic() - began < 2
            await line.until_ended()
            assert not line.of_type("5")

    run(scenario)


def test_12_an_unsolicited_logout_is_answered_and_the_closing_left_to_the_lp(tmp_path):
    async def scenario(logs):
        async with pair(tmp_path, answers="A1", gateway={"patience": Patience(reconnect_first_s=0.02)}) as (lp, gateway):
            line = await lp.logged_on()
            line.send("5", [(58, "end of day")])
            await line.until("5")
            lp.answers = "A15"
            line.writer.close()
            assert gateway.session.alarm == "LP logged out: end of day"
            await lp.logged_on(2)
        assert disconnects(logs)[0]["reason"] == "closed by the LP"

    run(scenario)


def test_12_an_lp_that_logs_out_and_does_not_close_is_left_after_the_timeout(tmp_path):
    async def scenario(logs):
        async with pair(tmp_path, answers="A1") as (lp, _):
            line = await lp.logged_on()
            line.send("5")
            await line.until("5")
            await line.until_ended()
            assert 0.6 <= line.ended_at - line.times_of("5")[0] < 1.6
            await lp.logged_on(2)
        assert disconnects(logs)[0]["reason"] == "logged out by the LP"

    run(scenario)


def test_53_at_a_stop_every_request_is_ended_before_the_logout(tmp_path):
    async def scenario(_logs):
        symbols = ("EUR/USD", "GBP/USD", "USD/JPY")
        async with pair(tmp_path, gateway={"symbols": symbols}) as (lp, gateway):
            line = await lp.line()
            await line.until("V", 3)
            asked = [message.text(262) for message in line.of_type("V")]
            await gateway.stop()
            await line.until("5")
        assert [message.text(35) for message in line.got] == ["A", "V", "V", "V", "V", "V", "V", "5"]
        ended = [message for message in line.of_type("V") if message.text(263) == "2"]
        assert [message.text(262) for message in ended] == asked
        assert [message.text(55) for message in ended] == list(symbols)

    run(scenario)


@pytest.mark.parametrize("tls", [False, True])
def test_a_connection_that_is_to_be_closed_is_closed_even_if_the_lp_does_not_read(tmp_path, certificates, tls):
    """What we wrote can never be delivered, and close() would wait for it for ever."""

    async def fill_the_line(line, gateway):
        line.send("A", [(98, 0), (108, 30), (141, "Y")])
        transport = (await until(lambda: gateway.link.connection))._transport
        while not transport.get_write_buffer_size():
            count = gateway.session.counts.messages
            line.send("1", [(112, "x" * 100_000)])
            await until(lambda count=count: gateway.session.counts.messages > count)
        line.next_out = 1
        line.send("0")  # a number too low

    async def scenario(logs):
        filled = []

        async def script(line):
            if not filled:
                filled.append(line)
                line.reader._transport.pause_reading()
                await fill_the_line(line, gateway)
            else:
                await line.run()

        settings = certificates.feed() if tls else {}
        lp = Lp(script=script, receive_buffer_bytes=4096, tls=certificates.server() if tls else None)
        async with lp, Gateway(tmp_path, lp.port, **settings) as gateway:
            await lp.logged_on(2)
        assert disconnects(logs)[0]["reason"].startswith("MsgSeqNum too low")

    run(scenario)


def test_an_lp_that_asks_and_asks_and_never_reads_costs_bounded_memory(tmp_path):
    async def scenario(logs):
        async def script(line):
            line.send("A", [(98, 0), (108, 30), (141, "Y")])
            line.reader._transport.pause_reading()
            with suppress(ConnectionError):
                while not line.writer.transport.is_closing():
                    line.send("1", [(112, "x" * 100_000)])
                    await line.writer.drain()

        async with Lp(script=script, receive_buffer_bytes=4096) as lp, Gateway(tmp_path, lp.port):
            await lp.line(2)
        assert any(line["event"] == "the LP does not read; closing" for line in logs)

    run(scenario)


# ---- heartbeats


def test_33_a_heartbeat_is_sent_when_nothing_else_was_for_the_interval(tmp_path):
    async def scenario(_logs):
        async with pair(tmp_path) as (lp, _):
            line = await lp.logged_on()
            heartbeat = await line.until("0")
            assert 0.95 <= line.got_at[-1] - line.got_at[-2] < 1.5
            assert heartbeat.get(112) is None

    run(scenario)


def test_33_34_a_test_request_is_echoed_and_a_session_that_sends_owes_no_heartbeat(tmp_path):
    async def scenario(_logs):
        async with pair(tmp_path) as (lp, _):
            line = await lp.logged_on()
            ids = [f"are you there {number}?" for number in range(5)]
            for number, text in enumerate(ids, 1):
                line.send("1", [(112, text)])
                await line.until("0", number)
                await until(lambda: time.monotonic() - line.got_at[-1] > 0.4)
            assert [message.text(112) for message in line.of_type("0")] == ids

    run(scenario)


def test_35_silence_is_met_with_a_test_request_then_with_a_new_connection(tmp_path):
    async def scenario(logs):
        async with pair(tmp_path, answers="A") as (lp, _):
            line = await lp.logged_on()
            request = await line.until("1")
            assert request.text(112)
            asked = line.times_of("1")[0] - line.opened_at
            assert 1.2 <= asked < 1.8
            await line.until_ended()
            assert 2.4 <= line.ended_at - line.opened_at < 3.4
            assert len(line.of_type("1")) == 1
            await lp.logged_on(2)
        assert disconnects(logs)[0]["reason"].endswith("TestRequest unanswered")

    run(scenario)


def test_35_any_message_counts_as_life_and_an_answer_is_measured(tmp_path):
    async def scenario(_logs):
        async with Lp(answers="A") as lp, Lp() as good:
            quiet = Gateway(tmp_path / "quiet", lp.port)
            answered = Gateway(tmp_path / "answered", good.port)
            async with quiet, answered:
                line = await lp.logged_on()
                await line.until("1")
                line.quote(1)  # no answer, but life
                await line.until("1", 2)
                assert line.times_of("1")[1] - line.times_of("1")[0] >= 1.2
                line.quote(2)
                await until(lambda: quiet.numbers() == [1, 2])
                assert len(lp.lines) == 1
                assert len(good.lines) == 1
                assert 0 < answered.link.connection.heartbeat_rtt_s < 1

    run(scenario)


def test_36_an_lp_that_wants_no_heartbeats_gets_none_and_owes_none(tmp_path):
    async def scenario(_logs):
        async with pair(tmp_path / "none", heartbeat_s=0) as (lp, _), pair(tmp_path / "some", answers="A") as (other, _):
            line = await lp.logged_on()
            await (await other.logged_on()).until_ended()  # the whole course of 33 and 35
            assert {message.text(35) for message in line.got} == {"A", "V"}
            assert line.ended_at is None

    run(scenario)


# ---- the bus


class StuckBus(FakeBus):
    """Takes no entries while `moving` is clear, and does not refuse either."""

    def __init__(self):
        super().__init__()
        self.moving = asyncio.Event()
        self.moving.set()

    async def publish(self, entries):
        await self.moving.wait()
        await super().publish(entries)


SYMBOLS = tuple(f"S{number}" for number in range(10))


async def burst(line, first, count):
    """`count` messages of ten quotes each."""
    for number in range(first, first + count):
        price = f"{number / 100_000:.5f}"
        entries = [
            fields
            for symbol in SYMBOLS
            for fields in (entry("0", price, "1", action="0", symbol=symbol), entry("1", "9", "1", action="0", symbol=symbol))
        ]
        line.send("X", increment(*entries))
        if number % 100 == 0:
            await line.writer.drain()


@pytest.mark.parametrize("trouble", ["refuses", "hangs"])
def test_55_reading_goes_on_and_memory_stays_bounded_while_the_bus_takes_nothing(tmp_path, trouble):
    async def scenario(_logs):
        bus = StuckBus()
        async with pair(tmp_path, heartbeat_s=30, gateway={"bus": bus, "symbols": SYMBOLS}) as (lp, gateway):
            line = await lp.logged_on()
            await burst(line, 1, 100)
            await gateway.level_with(line)
            if trouble == "refuses":
                bus.refusing = True
            else:
                bus.moving.clear()
            await burst(line, 101, 19_900)
            await until(lambda: gateway.session.state.next_in == line.next_out)
            assert gateway.publisher.behind
            assert gateway.publisher._waiting_ticks == 0
            assert gateway.publisher.most_waiting <= WAITING_TICKS_MAX + 10_000  # one read more
            bus.refusing = False
            bus.moving.set()
            await gateway.level_with(line)
            of_symbol = {symbol: [] for symbol in SYMBOLS}
            for tick in gateway.ticks():
                of_symbol[tick.symbol].append(number_of(tick))
            assert all(numbers == list(range(1, 20_001)) for numbers in of_symbol.values())
            assert len(lp.lines) == 1

    run(scenario)


# ---- several sessions in one process


def test_an_lp_that_garbles_and_one_that_hangs_do_not_disturb_a_third(tmp_path):
    async def garble(line):
        line.send("A", [(98, 0), (108, 1), (141, "Y")])
        noise = [b"8=FIX.4.4\x019=999999\x0135=X\x01", b"GET / HTTP/1.1\r\n\r\n", b"\x00" * 1000, b"8=FIX" * 50, b"10=000\x01"]
        with suppress(ConnectionError):
            while not line.writer.transport.is_closing():
                for piece in noise:
                    line.send_bytes(piece)
                line.bytes_sent.clear()
                await line.writer.drain()
                await asyncio.sleep(0.01)

    async def hang(_line):
        pass

    async def scenario(_logs):
        async with AsyncExitStack() as stack:
            garbler, hanger, good = [await stack.enter_async_context(Lp(script=script)) for script in (garble, hang, None)]
            gateways = [
                await stack.enter_async_context(Gateway(tmp_path, lp.port, name=name, target_comp_id="LP1"))
                for name, lp in (("GARBLER", garbler), ("HANGER", hanger), ("GOOD", good))
            ]
            line = await good.logged_on()
            sent_at = []
            for number in range(1, 151):
                sent_at.append(time.monotonic())
                line.quote(number)
                await until(lambda number=number: gateways[2].session.state.next_in == line.next_out)
                assert time.monotonic() - sent_at[-1] < 1
                await asyncio.sleep(0.005)
            await until(lambda: gateways[2].numbers() == list(range(1, 151)))
            assert len(good.lines) == 1
            assert gateways[0].session.counts.garbled > 100
            await hanger.line(2)

    run(scenario)


# ---- TLS


class Certificates:
    """A CA, and what it or another one signed; made by the openssl command."""

    def __init__(self, folder):
        self.folder = folder
        self.authority("ca")
        self.authority("other")
        self.sign("lp", "DNS:lp.example")
        self.sign("numbered", "IP:127.0.0.1")
        self.sign("expired", "DNS:lp.example", days="-1")
        self.sign("unknown", "DNS:lp.example", authority="other")
        self.sign("client", "DNS:tickvault.example")

    def path(self, name):
        return self.folder / name

    def call(self, *arguments):
        subprocess.run(["openssl", *arguments], cwd=self.folder, check=True, capture_output=True)

    def key(self, name):
        return "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", f"{name}.key"

    def authority(self, name):
        usage = "keyUsage=critical,keyCertSign,cRLSign"
        self.call("req", "-x509", *self.key(name), "-out", f"{name}.pem", "-subj", f"/CN={name}", "-days", "2", "-addext", usage)

    def sign(self, name, alternative, *, authority="ca", days="2"):
        self.call("req", "-new", *self.key(name), "-out", f"{name}.csr", "-subj", f"/CN={name}")
        self.path(f"{name}.ext").write_text(f"subjectAltName={alternative}\nauthorityKeyIdentifier=keyid\n", "ascii")
        self.call(
            "x509", "-req", "-in", f"{name}.csr", "-CA", f"{authority}.pem", "-CAkey", f"{authority}.key", "-CAcreateserial",
            "-days", days, "-extfile", f"{name}.ext", "-out", f"{name}.pem",
        )  # fmt: skip

    def server(self, name="lp", *, asks_for_client=False):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.path(f"{name}.pem"), self.path(f"{name}.key"))
        if asks_for_client:
            context.verify_mode = ssl.CERT_REQUIRED
            context.load_verify_locations(self.path("ca.pem"))
        return context

    def feed(self, server_name="lp.example", *, client=False):
        """Keys of the `[[fix]]` table."""
        keys = {"tls": True, "tls_ca": self.path("ca.pem"), "tls_server_name": server_name}
        own = {"tls_cert": self.path("client.pem"), "tls_key": self.path("client.key")} if client else {}
        return keys | own


@pytest.fixture(scope="session")
def certificates(tmp_path_factory):
    try:
        return Certificates(tmp_path_factory.mktemp("tls"))
    except FileNotFoundError:
        pytest.skip("no openssl command here")


@pytest.mark.parametrize(("server", "name"), [("lp", "lp.example"), ("numbered", None)])
def test_tls_the_name_asked_for_is_the_configured_one_else_the_host(tmp_path, certificates, server, name):
    async def scenario(_logs):
        asked = []
        context = certificates.server(server)
        context.sni_callback = lambda _socket, server_name, _context: asked.append(server_name)
        async with pair(tmp_path, tls=context, gateway=certificates.feed(name)) as (lp, gateway):
            line = await lp.logged_on()
            line.quote(1)
            await until(lambda: gateway.numbers() == [1])
        assert asked == [name]  # an address is never sent as a server name

    run(scenario)


@pytest.mark.parametrize(
    ("server", "name", "reason"),
    [
        ("lp", "other.example", "Hostname mismatch"),
        ("lp", None, "IP address mismatch"),
        ("unknown", "lp.example", "unable to get local issuer certificate"),
        ("expired", "lp.example", "certificate has expired"),
    ],
)
def test_tls_an_lp_that_cannot_prove_who_it_is_gets_nothing(tmp_path, certificates, server, name, reason):
    async def scenario(logs):
        settings = certificates.feed(name) | {"username": "user", "password": "password"}
        async with pair(tmp_path, tls=certificates.server(server), gateway=settings) as (lp, _):
            await until(lambda: len(disconnects(logs)) >= 2)
            assert all(reason in line["reason"] for line in disconnects(logs)), disconnects(logs)
            assert not any(line.got for line in lp.lines)

    run(scenario)


def test_tls_our_certificate_is_shown_to_an_lp_that_asks_for_it(tmp_path, certificates):
    async def scenario(_logs):
        context = certificates.server(asks_for_client=True)
        async with pair(tmp_path, tls=context, gateway=certificates.feed(client=True)) as (lp, _):
            line = await lp.logged_on()
            shown = line.writer.get_extra_info("peercert")
            assert shown["subject"] == ((("commonName", "client"),),)

    run(scenario)


def test_tls_an_lp_that_asks_for_a_certificate_we_have_not_is_tried_again(tmp_path, certificates):
    async def scenario(logs):
        context = certificates.server(asks_for_client=True)
        async with pair(tmp_path, tls=context, gateway=certificates.feed()) as (lp, gateway):
            await until(lambda: len(disconnects(logs)) >= 2)
            assert gateway.session.state.status != "established"
            assert not any(line.got for line in lp.lines)

    run(scenario)


def test_tls_a_plain_lp_gets_no_logon(tmp_path, certificates):
    async def scenario(logs):
        received = []

        async def read(line):
            received.append(await line.reader.read(65_536))
            line.writer.close()

        async with pair(tmp_path, script=read, gateway=certificates.feed()):
            await until(lambda: len(disconnects(logs)) >= 2)
        assert not any(b"8=FIX" in data for data in received)

    run(scenario)


def test_tls_files_that_cannot_be_used_are_named(tmp_path):
    async def scenario(_logs):
        with pytest.raises(SettingsError, match=r"session LP1: TLS files .*missing\.pem.* cannot be used"):
            Gateway(tmp_path, 1, tls=True, tls_ca=tmp_path / "missing.pem")

    run(scenario)


# ---- secrets


def test_secrets_reach_the_lp_and_nothing_else(tmp_path):
    async def scenario(logs):
        async with pair(tmp_path, gateway={"username": "user-3f9a", "password": "pass=77c1"}) as (lp, gateway):
            line = await lp.logged_on()
            logon = line.of_type("A")[0]
            assert (logon.text(553), logon.text(554)) == ("user-3f9a", "pass=77c1")
            line.next_out = 1
            line.send("A", [(98, 0), (108, 1), (141, "Y")])  # a reset in mid-session: we log on again
            await line.until("A", 2)
            line.send("3", [(45, 1), (58, "what?")])
            line.writer.close()
            await lp.logged_on(2)
            assert gateway.link.why_not_ready() is None
        journal = b"".join(path.read_bytes() for path in tmp_path.rglob("*.*"))
        assert journal.count(b"\x01553=***\x01554=***\x01") == 3
        for secret in ("user-3f9a", "pass=77c1"):
            assert secret.encode() not in journal
            assert secret not in repr(logs)

    run(scenario)


def test_a_password_that_cannot_be_sent_is_refused_at_the_start_and_not_shown(tmp_path):
    async def scenario(_logs):
        with pytest.raises(SettingsError) as error:
            Gateway(tmp_path, 1, password="pass\x0135=5", password_env="LP1_PASSWORD")
        assert "LP1_PASSWORD" in str(error.value)
        assert "35=5" not in str(error.value)

    run(scenario)


# ---- the disk


@pytest.mark.parametrize("tls", [False, True])
def test_a_full_disk_stops_the_reading_and_costs_nothing(disk, certificates, tls):
    count = 12_000  # of 1.2 KB: more than the sockets' buffers hold

    async def scenario(logs):
        settings = certificates.feed() if tls else {}
        lp = Lp(heartbeat_s=1, tls=certificates.server() if tls else None)
        async with lp, Gateway(disk.folder, lp.port, **settings) as gateway:
            line = await lp.logged_on()
            line.bytes_sent.clear()
            for number in range(1, count + 1):
                line.send("X", [(58, "x" * 1000), *quote("EUR/USD", f"{number / 100_000:.5f}", "9")])
            connection = gateway.link.connection
            await until(lambda: connection.blocked, "the full disk")
            handled = gateway.session.counts.messages
            await until(lambda: time.monotonic() - line.got_at[-1] > 1.5)  # a heartbeat is due, and cannot be sent either
            assert gateway.link.why_not_ready() == "the journal cannot be written"
            assert gateway.session.counts.messages == handled
            assert not connection._transport.is_reading()
            assert sum(len(data) for _, _, data in connection._unwritten) <= 512 * 1024
            assert line.unsent_bytes() > 1_000_000  # TCP holds the LP back
            disk.grow()
            await gateway.level_with(line)
            assert gateway.numbers() == list(range(1, count + 1))
            assert gateway.link.why_not_ready() is None
            assert len(lp.lines) == 1
            await line.until("0")
        received = b"".join(record.data for record in journal_records(disk.folder / "LP1") if record.direction is Direction.IN)
        assert bytes(line.bytes_sent) in received
        events = [line["event"] for line in logs]
        assert events.count("the journal cannot be written; reading stops until it can") == 1
        assert events.count("the journal can be written again") == 1

    run(scenario)


async def refuse_an_answer(disk, line, gateway):
    """Leave room on the disk for a TestRequest, not for its answer; the id of the request."""
    page_bytes = 4096

    def room():
        return page_bytes - gateway.journal._written % page_bytes

    while room() < page_bytes / 2:
        line.send("0")
        await gateway.level_with(line)
    disk.fill()
    text = "x" * (room() * 6 // 10 - 150)
    line.send("1", [(112, text)])
    await until(lambda: gateway.link.connection.blocked)
    assert [send.msg_type for send in gateway.session.sends] == ["0"]
    return text


def test_an_answer_that_the_disk_refuses_waits_and_the_session_stands(disk):
    async def scenario(_logs):
        async with pair(disk.folder, heartbeat_s=30) as (lp, gateway):
            line = await lp.logged_on()
            text = await refuse_an_answer(disk, line, gateway)
            line.quote(1)
            disk.grow()
            assert (await line.until("0")).text(112) == text
            await until(lambda: gateway.numbers() == [1])
            assert len(lp.lines) == 1

    run(scenario)


def test_a_logout_that_the_disk_refuses_does_not_hold_up_the_stop(disk):
    async def scenario(_logs):
        async with pair(disk.folder, heartbeat_s=30) as (lp, gateway):
            line = await lp.logged_on()
            await refuse_an_answer(disk, line, gateway)
            began = time.monotonic()
            await gateway.stop()
            assert 0.6 <= time.monotonic() - began < 2
            assert not line.of_type("5")
        assert journal_records(disk.folder / "LP1")[-1].direction is Direction.CLOSED

    run(scenario)


def test_a_stop_while_the_disk_is_full_waits_for_the_disk_and_then_loses_nothing(disk):
    async def scenario(_logs):
        async with pair(disk.folder, heartbeat_s=30) as (lp, gateway):
            line = await lp.logged_on()
            for number in range(1, 6001):
                line.quote(number)
            await until(lambda: gateway.link.connection.blocked)
            connection = gateway.link.connection
            stopped = asyncio.create_task(gateway.stop())
            await until(lambda: connection._transport is None, "the end of the connection")
            assert not stopped.done()
            disk.grow()
            await stopped
            received = gateway.session.state.next_in - 2
            assert gateway.numbers() == list(range(1, received + 1))
            assert received > 1000
        assert journal_records(disk.folder / "LP1")[-1].direction is Direction.CLOSED

    run(scenario)


# ---- a line that is up and silent


def test_a_session_without_quotes_is_stale_until_one_comes_while_its_heartbeats_go_on(tmp_path):
    async def scenario(_logs):
        async with pair(tmp_path, gateway={"stale_after_s": 0.5}) as (lp, gateway):
            line = await lp.logged_on()
            line.quote(110_000)
            await until(lambda: gateway.session.state.stale, "the feed to go stale")
            report = gateway.link.health(now_ns())
            assert (report.up, report.state, report.stale, report.open_gaps) == (True, "established", ["all"], 1)
            assert report.heartbeat_rtt_s is None or report.heartbeat_rtt_s < SOON_S
            line.quote(110_001)
            await gateway.level_with(line)
            assert (gateway.session.state.stale, gateway.link.health(now_ns()).stale) == ({}, [])
            ticks = gateway.ticks()
            gaps = [gap for kind, gap in records(gateway.bus) if kind == "gaps"]
        assert [(gap.cause, gap.from_ts, gap.to_ts, gap.resolved_by) for gap in gaps[:2]] == [
            ("stale", ticks[0].ts, None, None), ("stale", ticks[0].ts, ticks[1].ts, "none"),
        ]  # fmt: skip
        clock = [record for record in journal_records(tmp_path / "LP1") if record.direction is Direction.CLOCK]
        assert len(clock) == 1

    run(scenario)


def records(bus):
    """(kind, record) of all that is on the bus."""
    entries = map(read_entry, bus._stream(0).entries.values())
    return [(found.kind, record) for found in entries for record in decode_payload(found)]
