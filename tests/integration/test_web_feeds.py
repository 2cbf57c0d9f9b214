"""JSON feeds on real sockets: WebSocket servers, HTTP servers and clients of the sink, and what each of them can do wrong.

The gateway's end is what the service builds (link, fold, journal, publisher), on a bus in memory; the last tests run processes.
"""

import asyncio
import hashlib
import json
import socket
import sqlite3
import ssl
import subprocess
import threading
import time
import urllib.error
import urllib.request
from contextlib import asynccontextmanager, closing, suppress

import httpx
import msgspec
import pytest
from structlog.testing import capture_logs
from websockets.asyncio.server import serve
from websockets.exceptions import ConnectionClosed

from libs.common.bus import decode_payload, read_entry
from libs.common.bus.keys import FEED_HEALTH_KEY
from libs.common.domain.moment import NS_PER_S
from libs.common.domain.record import Gap, Quarantined, Tick
from libs.common.runtime import Health
from libs.common.runtime.ports import free_port
from libs.common.settings import SettingsError
from libs.common.store import Layout
from libs.common.testing.fake_bus import FakeBus
from libs.common.testing.stack import Stack
from services.gateway.feeds import Feeds
from services.gateway.journal import Direction, Journal
from services.gateway.publisher import Publisher
from services.gateway.recorder import Recorder
from services.gateway.replay import recover
from services.gateway.web.batch import SinkFold
from services.gateway.web.fold import JsonFold, PolledFold
from services.gateway.web.link import MESSAGE_BYTES_MAX, Patience
from services.gateway.web.rest import RETRY_AFTER_MAX_S, RestLink, retry_after_s
from services.gateway.web.sink import PATH, SinkApp, SinkLink
from services.gateway.web.websocket import WebSocketLink

SOON_S = 10.0
ONE = 10**9
QUICK = Patience(connect_s=0.6, close_s=0.5, reconnect_first_s=0.02, reconnect_cap_s=0.1)
FIELDS = {"symbol": "s", "bid": "b", "ask": "a", "bid_size": "B", "ask_size": "A"}
BOOK_TICKER = '{"u":400900217,"s":"BNBUSDT","b":"25.35190000","B":"31.21000000","a":"25.36520000","A":"40.66000000"}'
TOKEN = "desk-7f3a9c"


def quote(number, symbol="EURUSD") -> str:
    """The bid is the number in units of 1e-5."""
    return json.dumps({"s": symbol, "b": f"{number / 100_000:.5f}", "a": "9"})


async def until(reached, what="the state waited for"):
    """What `reached` gives once it is true."""
    deadline = time.monotonic() + SOON_S
    while not (found := reached()):
        assert time.monotonic() < deadline, f"{what} did not come"
        await asyncio.sleep(0.002)
    return found


def run(scenario):
    """No error may be logged, and none may end up with the event loop: there it would end the service."""

    async def guarded():
        asyncio.get_running_loop().set_exception_handler(lambda _, context: unhandled.append(context))
        await asyncio.wait_for(scenario(logs), 30)

    unhandled = []
    with capture_logs() as logs:
        asyncio.run(guarded())
    assert not unhandled, unhandled
    errors = [line for line in logs if "exc_info" in line]
    assert not errors, errors


# ---- the gateway


class WatchedJournal(Journal):
    synced_to = 0  # the position that the last fsync covered

    def sync(self):
        end = self.end
        super().sync()
        self.synced_to = max(self.synced_to, end)


class Gateway:
    """What the service builds for one feed, on a bus in memory."""

    def __init__(self, folder, kind, *, bus=None, headers=None, patience=QUICK, **keys):
        self.feed = getattr(Feeds.model_validate({kind: [{"name": "WEB", **keys}]}), kind)[0]
        self.bus = bus or FakeBus()
        self.journal = WatchedJournal(folder / self.feed.name)
        self.fold = self._new_fold()
        recover(self.journal, self.fold)
        self.journal.begin_segment(self.fold.snapshot(self.fold.durable), leap=True)
        self.health = Health()
        self.publisher = Publisher(
            self.bus, self.journal, "WEB", self._new_fold, partitions=1, durable=self.fold.durable, health=self.health
        )
        self.recorder = Recorder("WEB", self.fold, self.journal, self.publisher, health=self.health, fsync_ms=50, keep_days=7)
        more = {"health": self.health}
        if kind == "sink":
            self.link = SinkLink(self.feed, self.fold, self.recorder, token=TOKEN, **more)
        else:
            link = WebSocketLink if kind == "websocket" else RestLink
            self.link = link(self.feed, self.fold, self.recorder, headers=headers or {}, patience=patience, **more)
        self.stopping = asyncio.Event()

    def _new_fold(self):
        if hasattr(self.feed, "token_env"):
            return SinkFold(self.feed)
        return (PolledFold if hasattr(self.feed, "interval_s") else JsonFold)(self.feed, self.feed.items, self.feed.fields)

    async def __aenter__(self):
        self._task = asyncio.create_task(self.link.run(self.stopping))
        return self

    async def __aexit__(self, *_):
        await self.stop()

    async def stop(self):
        """As at SIGTERM."""
        self.stopping.set()
        await asyncio.wait_for(self._task, SOON_S)

    def die(self):
        """As at kill -9: nothing more is written."""
        self.journal.append = self.journal.begin_segment = None
        self._task.cancel()

    def published(self, kind):
        """What is on the bus; AssertionError where an entry would leave a hole."""
        found, reached = [], 0
        for fields in self.bus._stream(0).entries.values():
            item = read_entry(fields)
            assert item.start <= reached, "a hole"
            reached = max(reached, item.end)
            if item.kind == kind:
                found += decode_payload(item)
        return found

    def ticks(self) -> list[Tick]:
        return list({(row[0], row[2] // NS_PER_S // 86_400, row[3]): Tick(*row) for row in self.published("ticks")}.values())

    def numbers(self):
        return [round(tick.bid / ONE * 100_000) for tick in self.ticks()]

    def gaps(self) -> list[Gap]:
        return self.published("gaps")

    def quarantined(self) -> list[Quarantined]:
        return self.published("quarantine")

    def report(self):
        return self.link.health(time.time_ns())


def records(folder, direction=Direction.IN):
    """What a journal holds of one direction."""
    found = []
    for record in Journal(folder / "WEB").read(0):
        if record is None:
            return found
        if record.direction is direction:
            found.append(record.data)
    return found


def reasons(logs):
    return [line["reason"] for line in logs if line["event"] == "disconnected"]


# ---- WebSocket


class Server:
    """A WebSocket server on a port of its own; `lines` has every connection. `script` says what is done with each."""

    def __init__(self, script=None, **options):
        self.script = script
        self.options = {"compression": None, "ping_interval": None, "close_timeout": 0.2} | options
        self.lines = []
        self.got = []

    async def __aenter__(self):
        self._server = await serve(self._accept, "127.0.0.1", 0, **self.options)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_):
        for line in self.lines:
            line.transport.abort()
        self._server.close()
        await self._server.wait_closed()

    async def _accept(self, line):
        self.lines.append(line)
        with suppress(ConnectionClosed):
            if self.script:
                await self.script(line, len(self.lines))
            async for message in line:
                self.got.append(message)

    async def line(self, number=1):
        await until(lambda: len(self.lines) >= number, f"connection {number}")
        return self.lines[number - 1]


@asynccontextmanager
async def stream(folder, script=None, *, gateway=None, scheme="ws", **options):
    """A server and the gateway connected to it."""
    async with Server(script, **options) as server:
        keys = {"url": f"{scheme}://127.0.0.1:{server.port}/ws", "fields": FIELDS} | (gateway or {})
        async with Gateway(folder, "websocket", **keys) as end:
            yield server, end


@pytest.mark.parametrize(
    ("items", "text"), [("", BOOK_TICKER), ("data", f'{{"stream":"bnbusdt@bookTicker","data":{BOOK_TICKER}}}')]
)
def test_binance_raw_and_combined_streams_become_ticks(tmp_path, items, text):
    subscribe = '{"method":"SUBSCRIBE","params":["bnbusdt@bookTicker"],"id":1}'

    async def scenario(_logs):
        async with stream(tmp_path, gateway={"items": items, "subscribe": [subscribe, "second"]}) as (server, end):
            line = await server.line()
            await until(lambda: server.got == [subscribe, "second"])
            await line.send('{"result":null,"id":1}')
            await line.send(text)
            (tick,) = await until(end.ticks)
            assert (tick.symbol, tick.bid, tick.ask) == ("BNBUSDT", 25_351_900_000, 25_365_200_000)
            assert (tick.bid_size, tick.ask_size, tick.provider, tick.ts) == (31.21, 40.66, "WEB", tick.recv_ts)
            assert end.link.why_not_ready() is None
            assert end.link.ignored_entries == 1
            report = end.report()
            assert (report.kind, report.up, report.messages, report.symbols) == ("websocket", True, 2, 1)
        assert records(tmp_path) == [b'{"result":null,"id":1}', text.encode()]
        assert [gap.cause for gap in end.gaps()] == ["disconnect"]  # the stop

    run(scenario)


def test_a_drop_is_a_gap_until_the_next_quote_and_the_feed_comes_back(tmp_path):
    async def scenario(logs):
        async with stream(tmp_path) as (server, end):
            line = await server.line()
            await line.send(quote(1))
            (tick,) = await until(end.ticks)
            line.transport.abort()
            line = await server.line(2)
            (opened,) = await until(end.gaps)
            assert (opened.cause, opened.from_ts, opened.to_ts) == ("disconnect", tick.ts, None)
            await line.send(quote(2))
            await until(lambda: end.numbers() == [1, 2])
            ended = end.gaps()[-1]
            assert (ended.from_ts, ended.to_ts, ended.resolved_by) == (tick.ts, end.ticks()[1].ts, "snapshot")
            assert end.report().open_gaps == 0
            await line.close(1012, "maintenance")
            await server.line(3)
        assert len(reasons(logs)) == 2
        assert "maintenance" in reasons(logs)[1]

    run(scenario)


def test_a_server_that_is_away_is_connected_when_it_comes(tmp_path):
    async def scenario(logs):
        port = free_port()
        async with Gateway(tmp_path, "websocket", url=f"ws://127.0.0.1:{port}/", fields=FIELDS) as end:
            await until(lambda: len(reasons(logs)) >= 3)
            assert end.link.why_not_ready().startswith(f"cannot connect to 127.0.0.1:{port}: ")
            assert not end.report().up
            async with serve(lambda line: line.wait_closed(), "127.0.0.1", port):
                await until(lambda: end.link.up)
                await end.stop()
        assert not end.gaps() or end.gaps()[0].cause == "disconnect"

    run(scenario)


@pytest.mark.parametrize("host", ["ws..example", "localhost:1"])
def test_a_host_that_cannot_be_is_no_bug_of_ours(tmp_path, host):
    async def scenario(logs):
        async with Gateway(tmp_path, "websocket", url=f"ws://{host}/", fields=FIELDS):
            await until(lambda: len(reasons(logs)) >= 2)

    run(scenario)


def test_a_feed_that_falls_silent_is_stale_until_it_speaks(tmp_path):
    async def scenario(_logs):
        async with stream(tmp_path, gateway={"stale_after_s": 1.0}) as (server, end):
            line = await server.line()
            await line.send(quote(1))
            (gap,) = await until(end.gaps)
            assert (gap.cause, gap.from_ts) == ("stale", end.ticks()[0].ts)
            assert end.report().stale == ["all"]
            assert end.link.up
            await line.send(quote(2))
            await until(lambda: len(end.gaps()) == 2)
            assert end.gaps()[1].to_ts == end.ticks()[1].ts
            assert end.report().stale == []

    run(scenario)


def test_garbage_and_binary_frames_are_quarantined_and_the_connection_stands(tmp_path):
    garbage = ["<html>", b"\x00\xff\x1f\x8b", "", '{"s":"EURUSD","b":"NaN","a":1}', quote(1, "no symbol")]

    async def scenario(_logs):
        async with stream(tmp_path) as (server, end):
            line = await server.line()
            for message in garbage:
                await line.send(message)
            await line.send(quote(1).encode())  # JSON all the same
            await until(lambda: end.numbers() == [1])
            assert [item.raw for item in end.quarantined()] == [
                message if isinstance(message, bytes) else message.encode() for message in garbage
            ]
            assert (end.report().garbled, len(server.lines)) == (3, 1)

    run(scenario)


def test_a_message_of_more_quotes_than_an_entry_holds_is_published_whole(tmp_path):
    count = 12_000

    async def scenario(_logs):
        async with stream(tmp_path) as (server, end):
            items = [quote(number) for number in range(1, count + 1)]
            items[17] = items[6_000] = '{"s":"EURUSD"}'
            await (await server.line()).send(f"[{','.join(items)}]")
            await until(lambda: len(end.numbers()) == count - 2)
            assert [item.raw for item in end.quarantined()] == [b'{"s":"EURUSD"}'] * 2

    run(scenario)


def test_a_text_that_is_no_utf_8_is_quarantined_too(tmp_path):
    async def scenario(_logs):
        async with stream(tmp_path) as (server, end):
            line = await server.line()
            await line.send(b'{"s":"\xff"}', text=True)
            (item,) = await until(end.quarantined)
            assert item.raw == b'{"s":"\xff"}'

    run(scenario)


def test_a_huge_frame_ends_the_connection_unread_with_a_gap(tmp_path):
    async def scenario(logs):
        async with stream(tmp_path) as (server, end):
            line = await server.line()
            await line.send(quote(1))
            await line.send('"%s"' % ("x" * (MESSAGE_BYTES_MAX - 2)))  # as large as may be
            with suppress(ConnectionClosed):
                await line.send('"%s"' % ("x" * (MESSAGE_BYTES_MAX - 1)))
            line = await server.line(2)
            await line.send(quote(2))
            await until(lambda: end.numbers() == [1, 2])
            assert [gap.cause for gap in end.gaps()] == ["disconnect", "disconnect"]
        assert "1009 (message too big)" in reasons(logs)[0]
        assert max(map(len, records(tmp_path))) == MESSAGE_BYTES_MAX

    run(scenario)


def test_a_server_that_does_not_finish_the_handshake_is_left(tmp_path):
    async def scenario(logs):
        async with (
            Http(lambda _writer: asyncio.sleep(SOON_S)) as server,
            Gateway(tmp_path, "websocket", url=f"ws://127.0.0.1:{server.port}/", fields=FIELDS),
        ):
            await until(lambda: len(server.heads) >= 2)
        assert "timed out during opening handshake" in reasons(logs)[0]
        assert not records(tmp_path, Direction.OPENED)

    run(scenario)


def test_a_server_that_answers_no_ping_is_left(tmp_path):
    async def scenario(logs):
        async def deaf(line, number):
            if number == 1:
                line.transport.pause_reading()

        async with stream(tmp_path, deaf, gateway={"heartbeat_s": 0.3}) as (server, end):
            await server.line(2)
            await until(lambda: end.report().heartbeat_rtt_s)
        assert "keepalive ping timeout" in reasons(logs)[0]

    run(scenario)


def test_a_server_that_sends_drop_by_drop_is_read_drop_by_drop(tmp_path):
    async def drip(line, _number):
        async def pieces():
            for character in quote(1):
                yield character
                await asyncio.sleep(0.005)

        await line.send(pieces())

    async def scenario(_logs):
        async with stream(tmp_path, drip) as (_, end):
            await until(lambda: end.numbers() == [1])

    run(scenario)


def test_a_server_that_closes_at_once_is_tried_again_after_growing_pauses(tmp_path):
    async def scenario(logs):
        patience = Patience(reconnect_first_s=0.02, reconnect_cap_s=30)
        async with stream(tmp_path, lambda line, _: line.close(), gateway={"patience": patience}):
            await until(lambda: len(reasons(logs)) >= 5)
        pauses = [line["retry_in_s"] for line in logs if line["event"] == "disconnected"]
        assert pauses[4] >= 0.16
        assert len(records(tmp_path, Direction.OPENED)) == len(records(tmp_path, Direction.CLOSED)) >= 5

    run(scenario)


def test_a_connection_that_stood_for_a_while_is_taken_up_again_at_once(tmp_path):
    async def scenario(_logs):
        patience = Patience(reconnect_first_s=0.01, reconnect_cap_s=30, stable_s=0.5)

        async def script(line, number):
            if number < 5:
                await line.close()

        async with stream(tmp_path, script, gateway={"patience": patience}) as (server, end):
            await server.line(5)
            assert end.link._backoff.failures >= 4
            await until(lambda: end.link._backoff.failures == 0)

    run(scenario)


def test_headers_from_the_environment_are_sent_and_seen_nowhere_else(tmp_path):
    async def scenario(logs):
        async with stream(tmp_path, gateway={"headers": {"X-API-Key": "key-51c2"}}) as (server, end):
            line = await server.line()
            assert line.request.headers["X-API-Key"] == "key-51c2"
            await line.send(quote(1))
            await until(end.ticks)
            line.transport.abort()
            await server.line(2)
        journal = b"".join(path.read_bytes() for path in tmp_path.rglob("*.journal"))
        assert b"key-51c2" not in journal
        assert "key-51c2" not in repr(logs)

    run(scenario)


@pytest.mark.parametrize("status", [401, 302])
def test_a_refusal_and_a_redirect_are_said_and_tried_again(tmp_path, status):
    async def scenario(logs):
        elsewhere = []

        async def refuse(connection, request):
            if request.path == "/elsewhere":
                elsewhere.append(request)
            answer = connection.respond(status, "no")
            answer.headers["Location"] = "/elsewhere"
            return answer

        async with stream(tmp_path, process_request=refuse) as (_, end):
            await until(lambda: len(reasons(logs)) >= 2)
            assert f"HTTP {status}" in end.link.why_not_ready()
            assert f"HTTP {status}" in end.report().alarm
        assert not elsewhere  # it would get our headers

    run(scenario)


def test_a_stop_closes_in_order_and_what_came_is_published(tmp_path):
    async def scenario(_logs):
        async with stream(tmp_path, gateway={"patience": Patience()}) as (server, end):
            line = await server.line()
            await line.send(quote(1))
            await until(end.ticks)
            began = time.monotonic()
            await end.stop()
            assert time.monotonic() - began < 2
            assert line.close_code == 1000
        assert records(tmp_path, Direction.CLOSED) == [b""]

    run(scenario)


def test_a_stop_does_not_wait_long_for_a_server_that_does_not_answer(tmp_path):
    async def scenario(_logs):
        async with stream(tmp_path) as (server, end):
            (await server.line()).transport.pause_reading()
            await until(lambda: end.link.up)
            began = time.monotonic()
            await end.stop()
            assert time.monotonic() - began < 3
        assert records(tmp_path, Direction.CLOSED) == [b""]

    run(scenario)


def test_a_gateway_that_died_goes_on_with_a_gap_and_the_next_number(tmp_path):
    async def scenario(_logs):
        async with Server() as server:
            keys = {"url": f"ws://127.0.0.1:{server.port}/", "fields": FIELDS}
            first = await Gateway(tmp_path, "websocket", **keys).__aenter__()
            await (await server.line()).send(quote(1))
            (tick,) = await until(first.ticks)
            first.die()
            async with Gateway(tmp_path, "websocket", bus=first.bus, **keys) as second:
                await (await server.line(2)).send(quote(2))
                await until(lambda: second.numbers() == [1, 2])
                assert [tick.seq for tick in second.ticks()] == [0, 1]
                (opened, ended) = second.gaps()
                assert (opened.cause, opened.from_ts) == ("restart", tick.ts)
                assert ended.resolved_by == "snapshot"
            with suppress(asyncio.CancelledError):
                await first._task

    run(scenario)


class Authority:
    """A CA, and a server's certificate for 127.0.0.1 by it."""

    def __init__(self, folder):
        self.folder = folder
        subject = ("-subj", "/CN=feed.example", "-addext", "subjectAltName=IP:127.0.0.1")
        self._openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
                      "-keyout", "key.pem", "-out", "cert.pem", *subject)  # fmt: skip

    def _openssl(self, *arguments):
        subprocess.run(["openssl", *arguments], cwd=self.folder, check=True, capture_output=True)

    def server(self):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.folder / "cert.pem", self.folder / "key.pem")
        return context


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    try:
        return Authority(tmp_path_factory.mktemp("tls"))
    except FileNotFoundError:
        pytest.skip("no openssl command here")


def test_wss_takes_a_server_that_a_named_ca_vouches_for(tmp_path, authority):
    async def scenario(_logs):
        gateway = {"tls_ca": str(authority.folder / "cert.pem")}
        async with stream(tmp_path, scheme="wss", ssl=authority.server(), gateway=gateway) as (server, end):
            await (await server.line()).send(quote(1))
            await until(end.ticks)
            (await server.line()).transport.abort()
            await server.line(2)

    run(scenario)


def test_wss_refuses_a_server_that_cannot_prove_who_it_is(tmp_path, authority):
    async def scenario(logs):
        async with stream(tmp_path, scheme="wss", ssl=authority.server()) as (server, _):
            await until(lambda: len(reasons(logs)) >= 2)
            assert not server.lines
        assert "certificate verify failed" in reasons(logs)[0]

    run(scenario)


# ---- the disk


def test_a_full_disk_stops_the_reading_of_a_stream_and_costs_nothing(disk):
    count = 12_000  # of 1.2 KB: more than the sockets' buffers hold

    async def flood(line, _number):
        for number in range(1, count + 1):
            await line.send(quote(number)[:-1] + ',"x":"%s"}' % ("x" * 1100))

    async def scenario(logs):
        async with stream(disk.folder, flood) as (server, end):
            await until(lambda: end.recorder.refuses, "the full disk")
            taken = end.fold.messages
            line = await server.line()
            await until(lambda: line.transport.get_write_buffer_size() > 0)  # TCP holds the server back
            assert end.link.why_not_ready() == "the journal cannot be written"
            assert end.fold.messages == taken < count
            disk.grow()
            await until(lambda: len(end.numbers()) == count)
            assert end.numbers() == list(range(1, count + 1))
            assert end.link.why_not_ready() is None
            assert len(server.lines) == 1
        events = [line["event"] for line in logs]
        assert events.count("the journal can be written again") == 1

    run(scenario)


# ---- polled


class Http:
    """An HTTP server that gives one prepared answer after the other, the last one again and again."""

    def __init__(self, *answers):
        self.answers = list(answers)
        self.asked_at = []
        self.heads = []
        self._tasks = []

    async def __aenter__(self):
        self._server = await asyncio.start_server(
            lambda *line: self._tasks.append(asyncio.create_task(self._accept(*line))), "127.0.0.1", 0
        )
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_):
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _accept(self, reader, writer):
        with closing(writer), suppress(ConnectionError, asyncio.IncompleteReadError):
            while True:
                self.heads.append(await reader.readuntil(b"\r\n\r\n"))
                self.asked_at.append(time.monotonic())
                answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
                if callable(answer):
                    await answer(writer)
                    break
                writer.write(answer)
                await writer.drain()


def ok(body, status="200 OK", headers="") -> bytes:
    body = body.encode() if isinstance(body, str) else body
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n{headers}\r\n".encode() + body


@asynccontextmanager
async def poll(folder, *answers, gateway=None):
    async with Http(*answers) as server:
        keys = {"url": f"http://127.0.0.1:{server.port}/quotes", "fields": FIELDS, "interval_s": 0.1, "timeout_s": 0.5}
        async with Gateway(folder, "rest", **keys | (gateway or {})) as end:
            yield server, end


def listing(*numbers, time=None):
    return json.dumps({"time": time, "data": [json.loads(quote(number, f"S{at}")) for at, number in enumerate(numbers)]})


def test_an_answer_is_journaled_when_it_differs_and_a_quote_counts_when_it_changed(tmp_path):
    answers = [listing(1, 2), listing(1, 2), listing(1, 2, time=1), listing(1, 3, time=2)]

    async def scenario(_logs):
        async with poll(tmp_path, *map(ok, answers), gateway={"items": "data"}) as (server, end):
            await until(lambda: len(server.heads) >= 6)
            assert end.numbers() == [1, 2, 3]
            assert end.link.why_not_ready() is None
            report = end.report()
            assert (report.kind, report.up, report.messages, report.duplicates_dropped) == ("rest", True, 3, 3)
        assert records(tmp_path) == [text.encode() for text in dict.fromkeys(answers)]
        assert records(tmp_path, Direction.CLOSED) == [b""]

    run(scenario)


async def close(_writer):
    pass


async def silence(_writer):
    await asyncio.sleep(1)


async def drip(writer):
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
    for _ in range(20):
        writer.write(b" ")
        await asyncio.sleep(0.05)


@pytest.mark.parametrize(
    ("failure", "why"),
    [
        (ok("oops", "500 Internal Server Error"), "HTTP status 500"),
        (ok("", "302 Found", "Location: /elsewhere\r\n"), "HTTP status 302"),
        (ok("", "204 No Content"), "HTTP status 204"),
        (ok("x" * (MESSAGE_BYTES_MAX + 1)), "the answer is larger than 1000000 bytes"),
        (ok("no gzip at all", headers="Content-Encoding: gzip\r\n"), "DecodingError"),
        (b"SSH-2.0-OpenSSH\r\n\r\n", "RemoteProtocolError"),
        (close, "RemoteProtocolError"),
        (silence, "no whole answer within 0.5 s"),
        (drip, "no whole answer within 0.5 s"),
    ],
)
def test_a_failed_poll_is_a_gap_until_the_next_good_answer(tmp_path, failure, why):
    async def scenario(logs):
        async with poll(tmp_path, ok(quote(1)), failure, ok(quote(1))) as (server, end):
            await until(lambda: len(end.gaps()) == 2)
            (opened, ended) = end.gaps()
            first, second = end.ticks()  # the first answer after the gap says that the price stands
            assert (opened.cause, opened.from_ts) == ("disconnect", first.ts)
            assert (ended.to_ts, ended.resolved_by) == (second.ts, "snapshot")
            assert end.link.up
            assert not any(b"/elsewhere" in head for head in server.heads)
        assert reasons(logs)[0].startswith(why)
        assert len(records(tmp_path, Direction.OPENED)) == 2

    run(scenario)


def test_a_server_that_is_away_is_no_bug_and_is_asked_after_growing_pauses(tmp_path):
    async def scenario(logs):
        keys = {"url": f"http://127.0.0.1:{free_port()}/", "fields": FIELDS, "interval_s": 0.1}
        async with Gateway(tmp_path, "rest", patience=Patience(reconnect_first_s=0.1, reconnect_cap_s=0.8), **keys) as end:
            await until(lambda: len(reasons(logs)) >= 4)
            assert end.link.why_not_ready().startswith("ConnectError")
            assert not end.report().up
        pauses = [line["retry_in_s"] for line in logs if line["event"] == "disconnected"]
        assert pauses[0] == 0.1
        assert pauses[3] >= 0.4
        assert not records(tmp_path, Direction.CLOSED)

    run(scenario)


@pytest.mark.parametrize("status", ["429 Too Many Requests", "503 Service Unavailable"])
def test_retry_after_is_honoured(tmp_path, status):
    async def scenario(logs):
        async with poll(tmp_path, ok(quote(1)), ok("", status, "Retry-After: 2\r\n"), ok(quote(2))) as (server, end):
            await until(lambda: end.numbers() == [1, 2])
            assert server.asked_at[2] - server.asked_at[1] >= 1.9
            assert [line["retry_in_s"] for line in logs if line["event"] == "disconnected"] == [2.0]

    run(scenario)


def test_a_stop_does_not_wait_for_retry_after(tmp_path):
    async def scenario(_logs):
        async with poll(tmp_path, ok("", "429 Too Many Requests", "Retry-After: 3600\r\n")) as (_, end):
            await until(lambda: end.report().retry_at)
            began = time.monotonic()
            await end.stop()
            assert time.monotonic() - began < 2

    run(scenario)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        (None, 0), ("", 0), ("soon", 0), ("-5", 0), ("7", 7), ("999999", RETRY_AFTER_MAX_S), ("²", 0),
        ("Fri, 31 Dec 1999 23:59:59 GMT", 0), ("Fri, 31 Dec 2199 23:59:59 GMT", RETRY_AFTER_MAX_S), ("99999-99-99", 0),
    ],
)  # fmt: skip
def test_retry_after_is_seconds_or_a_date(text, seconds):
    assert retry_after_s(text) == seconds


def test_a_page_instead_of_quotes_is_quarantined(tmp_path):
    async def scenario(_logs):
        async with poll(tmp_path, ok("<html>maintenance</html>")) as (server, end):
            await until(lambda: len(server.heads) >= 4)
            assert [item.raw for item in end.quarantined()] == [b"<html>maintenance</html>"]

    run(scenario)


def test_headers_of_a_poll_are_sent_and_seen_nowhere_else(tmp_path):
    async def scenario(logs):
        gateway = {"headers": {"X-API-Key": "key-51c2", "Accept": "text/csv"}}
        async with poll(tmp_path, ok(quote(1)), ok("", "403 Forbidden"), gateway=gateway) as (server, _):
            await until(lambda: len(server.heads) >= 2)
            assert b"x-api-key: key-51c2" in server.heads[0].lower()
            assert server.heads[0].lower().count(b"accept: ") == 1
        assert b"key-51c2" not in b"".join(path.read_bytes() for path in tmp_path.rglob("*.journal"))
        assert "key-51c2" not in repr(logs)

    run(scenario)


def test_a_poll_goes_stale_when_its_quotes_stand_still(tmp_path):
    async def scenario(_logs):
        async with poll(tmp_path, ok(quote(1)), gateway={"stale_after_s": 0.9}) as (_, end):
            (gap,) = await until(end.gaps)
            assert gap.cause == "stale"
            assert end.link.up

    run(scenario)


def test_a_full_disk_holds_a_poll_up_and_costs_nothing(disk):
    async def scenario(_logs):
        async with poll(disk.folder, ok(quote(1)), ok(quote(2) + " " * 5000), ok(quote(3))) as (server, end):
            await until(lambda: end.numbers() == [1])
            disk.fill()
            await until(lambda: end.recorder.refuses)
            asked, now = len(server.heads), time.monotonic()
            await until(lambda: time.monotonic() > now + 0.4)
            assert len(server.heads) == asked
            disk.grow()
            await until(lambda: end.numbers() == [1, 2, 3])

    run(scenario)


# ---- the sink


def batch_of(*numbers, key="k1"):
    ticks = [{"symbol": "EUR/USD", "bid": f"{number / 100_000:.5f}", "ask": 9} for number in numbers]
    return json.dumps({"key": key, "ticks": ticks})


class Desk:
    """A client of the sink."""

    def __init__(self, *ends, token=TOKEN):
        transport = httpx.ASGITransport(SinkApp([end.link for end in ends]))
        headers = {"Authorization": f"Bearer {token}"}
        self.client = httpx.AsyncClient(transport=transport, base_url="http://gateway", headers=headers)

    async def post(self, content, **headers):
        return await self.client.post(PATH, content=content, headers=headers)


@asynccontextmanager
async def desk(folder, *, token=TOKEN, **gateway):
    async with Gateway(folder, "sink", token_env="DESK_TOKEN", **gateway) as end:
        await until(lambda: end.link.up)
        yield Desk(end, token=token), end


def problem_in(answer, status):
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    found = answer.json()
    assert found["status"] == status
    assert found["detail"]
    return found


def test_a_batch_is_on_the_disk_when_it_is_answered(tmp_path):
    async def scenario(_logs):
        async with desk(tmp_path) as (client, end):
            answer = await client.post(batch_of(1, 2))
            assert end.journal.synced_to == end.journal.end
            assert (answer.status_code, answer.json()) == (200, {"accepted": 2, "quarantined": 0, "duplicate": False})
            await until(lambda: end.numbers() == [1, 2])
            bad = '[{"symbol":"EUR/USD","bid":"NaN"},{"symbol":"EUR/USD","bid":0.00003}]'
            assert (await client.post(bad, **{"Idempotency-Key": "k2"})).json() == {
                "accepted": 1,
                "quarantined": 1,
                "duplicate": False,
            }
            (item,) = await until(end.quarantined)
            assert item.raw == b'{"symbol":"EUR/USD","bid":"NaN"}'
            assert end.report().kind == "sink"
        assert records(tmp_path) == [batch_of(1, 2).encode(), b'{"key":"k2","ticks":%s}' % bad.encode()]
        assert not end.gaps()

    run(scenario)


def test_the_same_key_again_stores_nothing_and_answers_the_same_and_another_body_is_a_409(tmp_path):
    async def scenario(_logs):
        async with desk(tmp_path) as (client, end):
            first = (await client.post(batch_of(1))).json()
            assert (await client.post(batch_of(1))).json() == first | {"duplicate": True}
            assert "'k1'" in problem_in(await client.post(batch_of(2)), 409)["detail"]
            assert (await client.post(batch_of(1))).json() == first | {"duplicate": True}
            assert end.report().duplicates_dropped == 2
        assert end.numbers() == [1]
        assert records(tmp_path) == [batch_of(1).encode()]

    run(scenario)


def test_of_many_posts_of_one_batch_at_once_one_is_stored(tmp_path):
    async def scenario(_logs):
        async with desk(tmp_path) as (client, end):
            answers = await asyncio.gather(*[client.post(batch_of(1)) for _ in range(20)])
            assert [answer.json()["duplicate"] for answer in answers].count(False) == 1
            others = await asyncio.gather(*[client.post(batch_of(number, key=f"n{number}")) for number in range(2, 40)])
            assert {answer.status_code for answer in others} == {200}
            await until(lambda: sorted(end.numbers()) == list(range(1, 40)))

    run(scenario)


@pytest.mark.parametrize(
    ("method", "path", "headers", "content", "status"),
    [
        ("POST", "/v1/pipeline/sink/ticks", {}, batch_of(1), 404),
        ("GET", PATH, {}, None, 405),
        ("PUT", PATH, {}, batch_of(1), 405),
        ("POST", PATH, {"Authorization": ""}, batch_of(1), 401),
        ("POST", PATH, {"Authorization": TOKEN}, batch_of(1), 401),
        ("POST", PATH, {"Authorization": "Bearer"}, batch_of(1), 401),
        ("POST", PATH, {"Authorization": f"Basic {TOKEN}"}, batch_of(1), 401),
        ("POST", PATH, {"Authorization": f"Bearer {TOKEN}x"}, batch_of(1), 401),
        ("POST", PATH, {}, b"{", 400),
        ("POST", PATH, {}, None, 400),
        ("POST", PATH, {}, b'{"key":"k1","ticks":[{"symbol":1}]}', 422),
        ("POST", PATH, {}, b'[{"symbol":"X"}]', 422),
        ("POST", PATH, {"Idempotency-Key": "k2"}, batch_of(1), 422),
        ("POST", PATH, {}, batch_of(*range(1, 5002)), 413),
        ("POST", PATH, {}, batch_of(1) + " " * MESSAGE_BYTES_MAX, 413),
        ("POST", PATH, {}, " " * (12 * MESSAGE_BYTES_MAX), 413),
    ],
)
def test_what_is_refused_is_a_problem_and_not_in_the_journal(tmp_path, method, path, headers, content, status):
    async def scenario(logs):
        async with desk(tmp_path) as (client, end):
            answer = await client.client.request(method, path, headers=headers, content=content)
            found = problem_in(answer, status)
            assert found["instance"] == path
            if status == 401:
                assert answer.headers["www-authenticate"] == "Bearer"
            if status == 405:
                assert answer.headers["allow"] == "POST"
            assert (await client.post(batch_of(1))).status_code == 200
            assert not end.quarantined()
        assert len(records(tmp_path)) == 1
        assert TOKEN not in repr(logs)

    run(scenario)


def test_the_token_says_which_sink_it_is_for_and_two_sinks_have_two(tmp_path):
    async def scenario(_logs):
        async with desk(tmp_path / "a") as (_, one), desk(tmp_path / "b") as (_, other):
            with pytest.raises(SettingsError, match="have the same token"):
                SinkApp([one.link, other.link])
            other.link.token_digest = hashlib.sha256(b"other").digest()
            await Desk(one, other, token="other").post(batch_of(7))
            await until(lambda: other.numbers() == [7])
            assert not one.ticks()

    run(scenario)


def test_a_gateway_that_died_knows_the_keys_of_before(tmp_path):
    async def scenario(_logs):
        async with desk(tmp_path) as (client, first):
            await client.post(batch_of(1, 2))
            first.die()
            async with desk(tmp_path, bus=first.bus) as (client, second):  # noqa: PLW2901
                again = await client.post(batch_of(1, 2))
                assert again.json() == {"accepted": 2, "quarantined": 0, "duplicate": True}
                problem_in(await client.post(batch_of(3)), 409)
                await client.post(batch_of(3, key="k2"))
                await until(lambda: second.numbers() == [1, 2, 3])
                assert [tick.seq for tick in second.ticks()] == [0, 1, 2]
            first.stopping.set()
            with suppress(asyncio.CancelledError):
                await first._task
            first._task = asyncio.create_task(asyncio.sleep(0))

    run(scenario)


def test_a_disk_that_refuses_is_a_503_and_the_same_batch_goes_through_later(disk):
    async def scenario(_logs):
        async with desk(disk.folder) as (client, end):
            disk.fill()
            large = batch_of(1)[:-1] + " " * 8000 + "}"
            answer = await client.post(large)
            assert problem_in(answer, 503)["code"] == "not-yet"
            assert int(answer.headers["retry-after"]) > 0
            assert end.link.why_not_ready() == "the journal cannot be written"
            disk.grow()
            await until(lambda: end.link.why_not_ready() is None)  # although no client came
            assert (await client.post(large)).json() == {"accepted": 1, "quarantined": 0, "duplicate": False}
        assert records(disk.folder) == [large.encode()]

    run(scenario)


def test_a_disk_that_does_not_sync_is_a_503_and_the_batch_is_known_afterwards(tmp_path):
    async def scenario(_logs):
        async with desk(tmp_path) as (client, end):
            sync = end.journal.sync

            def refuse():
                raise_retryable()

            end.journal.sync = refuse
            problem_in(await client.post(batch_of(1)), 503)
            end.journal.sync = sync
            assert (await client.post(batch_of(1))).json() == {"accepted": 1, "quarantined": 0, "duplicate": True}
        assert end.numbers() == [1]

    run(scenario)


def raise_retryable():
    from libs.common.domain.errors import Retryable

    raise Retryable("the disk does not sync")


def test_while_the_gateway_stops_a_batch_is_a_503(tmp_path):
    async def scenario(_logs):
        async with desk(tmp_path) as (client, end):
            posts = [asyncio.create_task(client.post(batch_of(number, key=f"n{number}"))) for number in range(1, 20)]
            await asyncio.sleep(0)
            await end.stop()
            answers = await asyncio.gather(*posts, client.post(batch_of(99)))
            assert answers[-1].status_code == 503
            assert "stopping" in answers[-1].json()["detail"]
            taken = [number for number, answer in enumerate(answers, 1) if answer.status_code == 200]
            assert sorted(end.numbers()) == taken
        assert len(records(tmp_path)) == len(taken)

    run(scenario)


def test_a_sink_that_expects_quotes_goes_stale(tmp_path):
    async def scenario(_logs):
        async with desk(tmp_path, stale_after_s=0.9) as (client, end):
            await client.post(batch_of(1))
            (gap,) = await until(end.gaps)
            assert gap.cause == "stale"

    run(scenario)


# ---- processes


class Exchange:
    """A WebSocket server in a thread of its own that sends a quote every 10 ms to whoever is connected."""

    def __init__(self):
        self.sent = 0
        self._ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()))
        self._thread.start()
        self._ready.wait(SOON_S)

    async def _serve(self):
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        async with serve(self._quote, "127.0.0.1", 0) as server:
            self.port = server.sockets[0].getsockname()[1]
            self._ready.set()
            await self._stop.wait()

    async def _quote(self, line):
        with suppress(ConnectionClosed):
            while True:
                await line.send(quote(self.sent + 1))
                self.sent += 1
                await asyncio.sleep(0.01)

    def close(self):
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(SOON_S)


@pytest.fixture
def exchange():
    found = Exchange()
    yield found
    found.close()


@pytest.fixture
def stack(tmp_path, redis_url):
    found = Stack(tmp_path, redis_url=redis_url)
    yield found
    for process in found.processes.values():
        if process.running:
            process.kill()


def post(process, body, token=TOKEN):
    """Status and JSON of a real POST; a gateway that is away is awaited."""
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    request = urllib.request.Request(f"http://127.0.0.1:{process.http_port}{PATH}", body.encode(), headers)
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status, json.loads(answer.read())
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read())


def stored(stack, query):
    rows = []
    for _, path in Layout(stack.data_dir).day_files():
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
            rows += connection.execute(query).fetchall()
    return rows


def wait_for(reached, what):
    deadline = time.monotonic() + 30
    while not (found := reached()):
        assert time.monotonic() < deadline, f"{what} did not come"
        time.sleep(0.05)
    return found


SINK = '[[sink]]\nname = "DESK"\ntoken_env = "DESK_TOKEN"'


def source(kind, name, port):
    scheme = "ws" if kind == "websocket" else "http"
    return f'[[{kind}]]\nname = "{name}"\nurl = "{scheme}://127.0.0.1:{port}/"\nfields = {{ symbol = "s", bid = "b", ask = "a" }}'


def test_a_stream_and_a_sink_are_stored_once_whatever_is_killed(stack, exchange):
    stack.feeds += [source("websocket", "STREAM", exchange.port) + '\nheaders_env = { "X-API-Key" = "STREAM_KEY" }', SINK]
    secrets = {"STREAM_KEY": "key-51c2", "DESK_TOKEN": TOKEN}
    port = str(free_port())
    stack.spawn("persistence", "persistence")
    gateway = stack.spawn("gateway", "gateway", TICKVAULT_GATEWAY_HTTP_PORT=port, **secrets)
    stack.wait_ready("persistence", "gateway")
    fresh = {"accepted": 2, "quarantined": 0, "duplicate": False}
    assert post(gateway, batch_of(1, 2)) == (200, fresh)
    gateway.kill()
    gateway = stack.spawn("gateway", "gateway", TICKVAULT_GATEWAY_HTTP_PORT=port, **secrets)
    stack.wait_ready("gateway")
    assert post(gateway, batch_of(1, 2)) == (200, fresh | {"duplicate": True})
    assert post(gateway, batch_of(3))[0] == 409
    assert post(gateway, batch_of(3, key="k2")) == (200, fresh | {"accepted": 1})
    assert post(gateway, batch_of(3), token="guess")[0] == 401
    assert gateway.get("/v1/nowhere")["status"] == 404

    prices = "SELECT bid, seq FROM ticks JOIN providers USING (provider_id) WHERE provider = '%s' ORDER BY ts, seq"
    wait_for(lambda: stored(stack, prices % "DESK") == [(10_000, 0), (20_000, 1), (30_000, 2)], "the sink's ticks")
    before = len(stored(stack, prices % "STREAM"))
    wait_for(lambda: len(stored(stack, prices % "STREAM")) > before + 20, "the stream's ticks")
    assert gateway.stop() == 0
    wait_for(lambda: gaps_of(stack)[-1:] == [("disconnect", None)], "the gap of the stop")
    assert stack.processes["persistence"].stop() == 0

    rows = stored(stack, prices % "STREAM")
    assert [seq for _, seq in rows] == list(range(len(rows)))
    bids = [bid // 10_000 for bid, _ in rows]
    assert bids == sorted(set(bids))
    assert gaps_of(stack)[:1] == [("restart", "snapshot")]
    account = stored(stack, "SELECT sum(numbered), sum(stored), sum(duplicates), sum(quarantined) FROM account")
    assert account == [(len(rows) + 3, len(rows) + 3, 0, 0)]
    written = b"".join(path.read_bytes() for path in stack.folder.rglob("*") if path.is_file())
    assert b"key-51c2" not in written
    assert TOKEN.encode() not in written


def gaps_of(stack):
    return stored(stack, "SELECT cause, resolved_by FROM gaps WHERE session = 'STREAM' ORDER BY from_ts")


def test_a_secret_that_is_not_set_stops_the_gateway_with_2(stack):
    stack.feeds.append(SINK)
    process = stack.spawn("gateway", "gateway")
    assert process.popen.wait(30) == 2
    assert "session DESK: token_env names DESK_TOKEN, which is not set" in process.log.read_text()


def test_a_client_that_only_writes_gets_to_its_answer(stack):
    stack.feeds.append(SINK)
    process = stack.spawn("gateway", "gateway", DESK_TOKEN=TOKEN)
    stack.wait_ready("gateway")
    large = batch_of(1) + " " * 5_000_000
    assert [post(process, large)[0], post(process, large, token="guess")[0], post(process, batch_of(1))[0]] == [413, 401, 200]
    assert process.stop() == 0


def test_a_client_that_stops_in_mid_body_does_not_hold_up_a_stop(stack):
    stack.feeds.append(SINK)
    process = stack.spawn("gateway", "gateway", DESK_TOKEN=TOKEN)
    stack.wait_ready("gateway")
    head = f"POST {PATH} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\nContent-Length: 1000\r\n\r\n{{"
    with socket.create_connection(("127.0.0.1", process.http_port)) as slow:
        slow.sendall(head.encode())
        assert post(process, batch_of(1))[0] == 200
        began = time.monotonic()
        assert process.stop() == 0
        assert time.monotonic() - began < 20


def test_feed_health_tells_of_every_kind(stack, exchange, redis_url):
    import redis

    stack.feeds += [source("websocket", "STREAM", exchange.port), source("rest", "POLL", free_port()), SINK]
    process = stack.spawn("gateway", "gateway", DESK_TOKEN=TOKEN)
    wait_for(lambda: "session POLL" in str(process.get("/readyz")), "the gateway")
    expected = {"STREAM": ("websocket", True), "POLL": ("rest", False), "DESK": ("sink", True)}
    with closing(redis.Redis.from_url(redis_url, decode_responses=True)) as client:

        def told():
            reports = [msgspec.json.decode(value) for value in client.hgetall(FEED_HEALTH_KEY).values()]
            return {report["session"]: (report["kind"], report["up"]) for report in reports}

        wait_for(lambda: told() == expected, "the health of every feed")
    assert process.get("/readyz")["obstacles"].keys() == {"session POLL"}
    assert process.stop() == 0
