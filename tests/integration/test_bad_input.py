"""Bad input through the real processes: a hostile LP, poison in the stream, a corrupt journal. Good ticks are all stored."""

import contextlib
import os
import socket
import sqlite3
import time
from functools import partial

import pytest
import redis

from libs.common.bus.keys import PERSISTENCE_GROUP, ticks_key
from libs.common.store import Layout
from libs.common.testing.stack import Stack
from services.gateway.fix.framer import Framer
from services.gateway.fix.session import RAW_BYTES_MAX
from services.gateway.fix.wire import parse
from tests.unit.gateway.gateway_lp import PRICE_ONE, as_bytes, build, entry, fields_of, frame_of, increment, quote

SOON_S = 20.0
USERNAME, PASSWORD = "user-3f9a", "pass=77c1"


def wait_until(read, reached=bool):
    """What `read` gives once it is as wanted."""
    deadline = time.monotonic() + SOON_S
    while not reached(found := read()):
        assert time.monotonic() < deadline, found
        time.sleep(0.02)
    return found


class Lp:
    """An acceptor played by hand: the gateway under test has one connection to it."""

    def __init__(self):
        self._server = socket.create_server(("127.0.0.1", 0))
        self._server.settimeout(SOON_S)
        self._line = None
        self.port = self._server.getsockname()[1]
        self.number = 0  # of the last good quote

    def accept(self):
        """Take the connection and log the gateway on."""
        if self._line is not None:
            self._line.close()
        self._line, _ = self._server.accept()
        self._line.settimeout(SOON_S)
        self._framer = Framer()
        self.got = []
        self.next_out = 1
        self.read_until("A")
        self.send("A", [(98, 0), (108, 30), (141, "Y")])
        self.read_until("V")
        return self

    def close(self):
        """Go away: the gateway then need not wait for an answer to its Logout."""
        self._server.close()
        if self._line is not None:
            self._line.close()

    def read_until(self, msg_type, count=1):
        while len(found := [message for message in self.got if message.text(35) == msg_type]) < count:
            data = self._line.recv(65_536)
            assert data, "the gateway closed"
            self.got += map(parse, self._framer.feed(data, time.time_ns())[0])
        return found[count - 1]

    def send_bytes(self, data):
        self._line.sendall(data)

    def message(self, msg_type, fields):
        """A whole message with the next number."""
        self.next_out += 1
        return build(msg_type, self.next_out - 1, fields, at=time.time_ns())

    def send(self, msg_type, fields=()):
        self.send_bytes(self.message(msg_type, fields))

    def quote(self, symbol="EUR/USD"):
        """A good one; its bid is its number in units of 1e-5."""
        self.number += 1
        self.send("X", quote(symbol, f"{self.number / 100_000:.5f}", "0.9"))

    def echo(self):
        """Return when the gateway has read all that was sent, on the connection that stands."""
        text = f"echo {self.next_out}"
        self.send("1", [(112, text)])
        while self.read_until("0", len([message for message in self.got if message.text(35) == "0"]) + 1).text(112) != text:
            pass

    def types(self):
        return {message.text(35) for message in self.got}


@pytest.fixture
def lp():
    found = Lp()
    yield found
    found.close()


@pytest.fixture
def stack(tmp_path, lp):
    found = Stack(tmp_path)
    found.start_redis()
    keys = {"username": USERNAME, "password_env": "LP1_PASSWORD", "symbols": ["EUR/USD", "GBP/USD"]}
    found.add_feed("LP1", lp.port, **keys)
    spawn(found, "gateway")
    found.spawn("persistence", "persistence", TICKVAULT_STREAM_REPLAY_HOURS="1")
    lp.accept()
    found.wait_ready("gateway", "persistence")
    yield found
    lp.close()
    found.stop()


def spawn(stack, name):
    stack.spawn(name, "gateway", LP1_PASSWORD=PASSWORD)


def rows(stack, query):
    found = []
    for _, path in Layout(stack.data_dir).day_files():
        with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=10)) as connection:
            if connection.execute("PRAGMA user_version").fetchone() != (0,):  # else it is being created
                found += connection.execute(query).fetchall()
    return found


def numbers(stack):
    """Of the quotes that are stored."""
    query = "SELECT bid, symbol FROM ticks JOIN symbols USING (symbol_id) WHERE ask = 900000000"
    return sorted(round(bid / PRICE_ONE * 100_000) for bid, symbol in rows(stack, query) if symbol == "EUR/USD")


def all_stored(stack, lp):
    wait_until(lambda: numbers(stack), lambda found: len(found) >= lp.number)
    assert numbers(stack) == list(range(1, lp.number + 1))


def quarantine(stack):
    return rows(stack, "SELECT session, symbol, reason, raw FROM quarantine")


def one_side(symbol="EUR/USD", price="1.1", size="1", **more):
    """The body of an X with a single bid."""
    return increment(entry("0", price, size, action="0", symbol=symbol, **more))


# ---- a hostile LP

GARBLED = {
    "wrong checksum": build("X", 1, one_side())[:-4] + b"999\x01",
    "checksum of two digits": build("X", 1, one_side())[:-8] + b"\x0110=99\x01",
    "BodyLength too short": build("X", 1, one_side()).replace(b"\x019=", b"\x019=1", 1)[:-1] + b"\x00",
    "BodyLength of eight digits": b"8=FIX.4.4\x019=99999999\x0135=X\x0110=000\x01",
    "BodyLength beyond all bounds": b"8=FIX.4.4\x019=9999999\x0135=X\x0110=000\x01",
    "BodyLength no number": b"8=FIX.4.4\x019=-5\x0135=X\x0110=000\x01",
    "MsgType not third": frame_of(fields_of((34, 1), (35, "X"))),
    "HTTP": b"GET /api/history HTTP/1.1\r\nHost: lp.example\r\n\r\n",
    "zeros": b"\x00" * 100,
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
}

REFUSED = {  # what the X says -> what the reason says
    "NaN": (one_side(price="NaN"), "is not a decimal number"),
    "infinite": (one_side(price="inf"), "is not a decimal number"),
    "negative": (one_side(price="-1.08"), "is not above 0"),
    "zero": (one_side(price="0"), "is not above 0"),
    "a billion": (one_side(price="1000000000"), "below 1e9"),
    "exponent": (one_side(price="1e5"), "is not a decimal number"),
    "very long": (one_side(price="9" * 5000), "is too long"),
    "too exact": (one_side(price="1.0000000001"), "more than 9 decimals"),
    "script": (one_side(price="1;DROP TABLE ticks"), "is not a decimal number"),
    "size": (one_side(size="-7"), "is not a number of lots"),
    "path": (one_side("../../../../tmp/evil"), "not in the feed's list"),
    "absolute path": (one_side("/etc/passwd"), "not in the feed's list"),
    "line feed": (one_side("EUR/USD\nERROR"), "is not a symbol"),
    "no UTF-8": (one_side(b"\xff\xfe\x00"), "is not a symbol"),
    "long": (one_side("A" * 5000), "is not a symbol"),
    "time": (one_side(time="99:99:99"), "is not a UTC time"),
    "date": (one_side(date="20261399", time="10:00:00"), "is not a UTC time"),
    "future": (one_side(date="21000101", time="10:00:00"), "in the future"),
    "action": (increment(entry("0", "1.1", "1", action="7", symbol="EUR/USD")), "is not new, change or delete"),
    "count": ([(262, "r"), (268, 3), *entry("0", "1.1", "1", action="0", symbol="EUR/USD")], "undecodable"),
    "huge count": ([(262, "r"), (268, "9" * 18), *entry("0", "1.1", "1", action="0", symbol="EUR/USD")], "undecodable"),
    "no count": ([(262, "r"), *entry("0", "1.1", "1", action="0", symbol="EUR/USD")], "undecodable"),
    "separator in the symbol": (one_side("EUR\x01USD"), "undecodable"),
    "empty symbol": (one_side(""), "undecodable"),
    "empty price": (one_side(price=""), "undecodable"),
    "no tag": ([(262, "r\x01=7"), *one_side()], "undecodable"),
}


def test_of_a_hostile_lp_every_good_tick_is_stored_and_every_bad_message_kept_with_its_reason(stack, lp):
    for piece in GARBLED.values():
        lp.quote()
        lp.send_bytes(piece)
    lp.echo()
    bad = []
    for name, (fields, reason) in REFUSED.items():
        lp.quote()
        bad.append((name, reason, lp.message("X", [(58, name), *fields])))
        lp.send_bytes(bad[-1][2])
    lp.quote()
    lp.echo()
    all_stored(stack, lp)

    kept = wait_until(lambda: quarantine(stack), lambda found: len(found) >= len(GARBLED) + len(REFUSED))
    raw = b"".join(item for *_, item in kept)
    assert not [name for name, piece in GARBLED.items() if piece not in raw]
    assert sum(reason.startswith("garbled: ") for _, _, reason, _ in kept) >= len(GARBLED)
    for name, reason, message in bad:
        found = [why for _, _, why, item in kept if item == message[:RAW_BYTES_MAX]]
        assert len(found) == 1, name
        assert reason in found[0], name

    metrics = stack.processes["gateway"].metrics()
    (garbled,) = [value for sample, value in metrics.items() if sample.startswith("fix_garbled_total")]
    assert garbled == sum(reason.startswith("garbled: ") for _, _, reason, _ in kept)
    assert stack.processes["gateway"].get("/readyz")["ready"]
    assert "5" not in lp.types()  # one connection, never ended
    symbols = {symbol for (symbol,) in rows(stack, "SELECT symbol FROM symbols")}
    assert symbols <= {"EUR/USD", "GBP/USD"}
    lp.close()
    assert stack.stop() == {"gateway": 0, "persistence": 0}


def test_a_message_that_says_it_is_longer_than_it_is_delays_what_follows_and_loses_nothing(stack, lp):
    lp.quote()
    lie = b"8=FIX.4.4\x019=900000\x0135=X\x01"
    lp.send_bytes(lie)
    lp.quote()
    began = time.monotonic()

    def send_more():
        lp.send("0")
        return numbers(stack)

    wait_until(send_more, lambda found: len(found) >= lp.number)
    assert 4 < time.monotonic() - began < 8
    assert numbers(stack) == [1, 2]
    assert [raw for _, _, _, raw in quarantine(stack)] == [lie]


def test_secrets_are_in_no_file_no_log_and_no_metric(stack, lp, tmp_path):
    logon = lp.got[0]
    assert (logon.text(553), logon.text(554)) == (USERNAME, PASSWORD)
    lp.quote()
    all_stored(stack, lp)
    shown = repr(stack.processes["gateway"].metrics()) + repr(stack.processes["gateway"].get("/readyz"))
    lp.close()
    assert stack.stop() == {"gateway": 0, "persistence": 0}
    files = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file() and path.name != "feeds.toml"}
    assert any(b"\x01553=***\x01554=***\x01" in data for path, data in files.items() if path.suffix == ".journal")
    assert any(path.name == "gateway.log" and data for path, data in files.items())
    for secret in (USERNAME, PASSWORD):
        assert secret not in shown
        assert not [path for path, data in files.items() if secret.encode() in data]


# ---- poison in the stream

POISON = [
    {"hello": "world"},
    {"v": 1, "k": "ticks", "n": 1, "src": "EVIL", "from": 0, "to": 10, "d": b"\xc1\xc1 no msgpack"},
    {"v": 1, "k": "ticks", "n": 2, "src": "EVIL", "from": 10, "to": 20, "d": b"\x90"},
    {"v": 999, "k": "ticks", "n": 0, "src": "EVIL", "from": 20, "to": 30, "d": b"\x90"},
    {"v": 1, "k": "gold", "n": 0, "src": "EVIL", "from": 30, "to": 40, "d": b"\x90"},
    {"v": 1, "k": "ticks", "n": "many", "src": "EVIL", "from": "x", "to": "9" * 30, "d": b"\x90"},
    {"v": 1, "k": "ticks", "n": 0, "src": b"\xff\xfe", "from": 0, "to": -5, "d": b""},
]


def test_an_undecodable_stream_entry_is_quarantined_and_acknowledged_and_blocks_nothing(stack, lp):
    lp.quote()
    with redis.Redis.from_url(stack.redis_url) as client:
        for fields in POISON:
            client.xadd(ticks_key(0), fields)
            lp.quote()
        lp.echo()
        all_stored(stack, lp)
        kept = wait_until(lambda: quarantine(stack), lambda found: len(found) >= len(POISON))
        assert all(reason.startswith("undecodable stream entry ") for _, _, reason, _ in kept)
        assert sorted(session for session, *_ in kept)[:5] == ["EVIL"] * 5
        for fields in POISON:
            texts = [as_bytes(value) for value in fields.values() if not isinstance(value, int)]
            assert any(all(text in raw for text in texts) for *_, raw in kept), fields
        wait_until(partial(client.xpending, ticks_key(0), PERSISTENCE_GROUP), lambda found: found["pending"] == 0)
    assert len(kept) == len(POISON)
    assert stack.processes["persistence"].get("/readyz")["ready"]


# ---- a corrupt journal

TAILS = [
    os.urandom(5000),
    bytes(5000),
    b"\x00" * 8 + b"\x01" + b"\xff\xff\xff\x7f",  # the head of a record of 2 GB
    b"\x01",
]


def test_a_corrupt_journal_tail_is_set_aside_and_the_gateway_goes_on(stack, lp):
    lp.quote()
    lp.echo()
    for number, tail in enumerate(TAILS):
        stack.processes["gateway"].kill() if not number else stack.processes[f"gateway-{number}"].kill()
        folder = stack.data_dir / "journal" / "LP1"
        with max(folder.glob("*.journal")).open("ab") as file:
            file.write(tail)
        spawn(stack, f"gateway-{number + 1}")
        lp.accept()
        stack.wait_ready(f"gateway-{number + 1}")
        damaged = sorted(folder.glob("*.damaged"))
        assert len(damaged) == number + 1
        assert damaged[-1].read_bytes() == tail
        log = (stack.folder / f"gateway-{number + 1}.log").read_text("utf-8")
        assert "the journal's tail was damaged and is set aside" in log
        lp.quote()
        lp.echo()
    all_stored(stack, lp)
    assert len(rows(stack, "SELECT * FROM gaps WHERE cause = 'restart'")) == len(TAILS)
