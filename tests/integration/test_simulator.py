"""The simulator as a process: a plain client logs on, and what it gets is what the ledger says."""

import calendar
import json
import signal
import socket
import subprocess
import sys
import time
import zipfile
from contextlib import contextmanager
from itertools import pairwise

import httpx
import pytest
import simplefix

from services.simulator.wire import Framer

COMMAND = (sys.executable, "-m", "services.simulator")
DEADLINE_S = 20
SYMBOLS = 12


class Client:
    """Speaks FIX over a plain socket; `received` has every whole message, in order."""

    def __init__(self, port, name, begin="FIX.4.4"):
        self.begin = begin
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=DEADLINE_S)
        self.name = name
        self.seq = 1
        self.received = []
        self.read_at = []  # when something was read, monotonic
        self.ended = False
        self._framer = Framer()

    def send(self, msg_type, *fields):
        message = simplefix.FixMessage()
        now = time.strftime("%Y%m%d-%H:%M:%S", time.gmtime())
        header = [(8, self.begin), (35, msg_type), (34, self.seq), (49, self.name), (56, "LP1"), (52, now)]
        for tag, value in [*header, *fields]:
            message.append_pair(tag, value)
        self.seq += 1
        self.socket.sendall(message.encode())

    def read(self):
        """What comes next; False at the end of the connection."""
        try:
            data = self.socket.recv(65_536)
        except ConnectionResetError:
            data = b""
        self.read_at.append(time.monotonic())
        for frame in self._framer.feed(data):
            parser = simplefix.FixParser()
            parser.append_buffer(frame)
            message = parser.get_message()
            if message.get(35) is not None:  # else garbled
                self.received.append(message)
        self.ended = not data
        return not self.ended

    def read_until(self, found):
        deadline = time.monotonic() + DEADLINE_S
        while not (result := found()):
            assert self.read(), "the connection ended"
            assert time.monotonic() < deadline, f"not found in {len(self.received)} messages"
        return result

    def of_type(self, msg_type):
        return [message for message in self.received if message.message_type == msg_type]

    def log_on(self, *, reset=True, heartbeat_s=30):
        version = [(1137, 9)] if self.begin == "FIXT.1.1" else []
        self.send("A", (98, 0), (108, heartbeat_s), *version, *([(141, "Y")] if reset else []))
        return self.read_until(lambda: self.of_type(b"A"))[-1]

    def list_symbols(self):
        if self.begin == "FIX.4.2":
            self.send("c", (320, "list"), (321, 3))
            self.read_until(lambda: len(self.of_type(b"d")) == int(self.of_type(b"d")[0].get(393)) if self.of_type(b"d") else 0)
            return [message.get(55) for message in self.of_type(b"d")]
        self.send("x", (320, "list"), (559, 4))
        self.read_until(lambda: any(part.get(893) == b"Y" for part in self.of_type(b"y")))
        return [value for part in self.of_type(b"y") for tag, value in part.pairs if tag == b"55"]

    def subscribe(self, symbols, *, levels=1, types=(0, 1)):
        wanted = [(264, levels), (267, len(types)), *[(269, entry_type) for entry_type in types]]
        named = [(146, len(symbols)), *[(55, symbol) for symbol in symbols]]
        self.send("V", (262, f"R{self.seq}"), (263, 1), *wanted, *named)

    def ask_quotes(self, symbols):
        self.send("R", (131, f"Q{self.seq}"), (146, len(symbols)), *[(55, symbol) for symbol in symbols])

    def numbers(self):
        return [int(message.get(34)) for message in self.received if message.get(43) != b"Y"]

    def close(self):
        self.socket.close()


class Simulator:
    def __init__(self, process, ledger):
        self.process = process
        self.ledger = ledger
        self.log = []
        self.fix_port = int(self.wait_for("listening")["fix"].rpartition(":")[2])
        self.url = f"http://{self.wait_for('started')['http']}"
        self._clients = []

    def wait_for(self, event):
        while line := self.process.stderr.readline():
            self.log.append(json.loads(line))
            if self.log[-1]["event"] == event:
                return self.log[-1]
        raise AssertionError(f"{event!r} is not in {self.log}")

    def connect(self, name="C", begin="FIX.4.4"):
        self._clients.append(Client(self.fix_port, name, begin))
        return self._clients[-1]

    def subscriber(self, name="C"):
        client = self.connect(name)
        client.log_on()
        client.subscribe(client.list_symbols())
        client.read_until(lambda: client.of_type(b"X"))
        return client

    def fault(self, kind, client, **query):
        deadline = time.monotonic() + DEADLINE_S
        while True:
            try:
                answer = httpx.post(f"{self.url}/faults/{kind}", params={"client": client.name, **query})
            except httpx.ConnectError:  # "started" is said a moment before the port is open
                assert time.monotonic() < deadline
                continue
            assert (answer.status_code, answer.json()["clients"]) == (202, [client.name])
            return

    def ledger_lines(self, suffix=""):
        text = self.ledger.with_name(self.ledger.name + suffix).read_text()
        return [line.split(",") for line in text.splitlines()[1:]]

    def stop(self):
        for client in self._clients:
            client.close()
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        self.process.communicate(timeout=DEADLINE_S)
        return self.process.returncode


@contextmanager
def simulating(folder, *arguments):
    ledger = folder / "ledger.csv"
    line = [*COMMAND, "--port", "0", "--http-port", "0", "--ledger", str(ledger), *arguments]
    with subprocess.Popen(line, stderr=subprocess.PIPE, text=True) as process:
        try:
            simulator = Simulator(process, ledger)
            yield simulator
        finally:
            if process.poll() is None:
                process.terminate()
    for client in simulator._clients:
        client.close()


@pytest.fixture(scope="module")
def live(tmp_path_factory):
    with simulating(tmp_path_factory.mktemp("live"), "--symbols", str(SYMBOLS), "--rate", "2000") as simulator:
        yield simulator


def groups_of(message, first_tag):
    """A repeating group, one dict for each time its first tag comes."""
    groups = []
    for tag, value in message.pairs:
        if tag == first_tag:
            groups.append({})
        if groups:
            groups[-1][tag] = value.decode()
    return groups


def entries_of(message):
    return groups_of(message, b"279" if message.message_type == b"X" else b"269")


def nanoseconds(date, time_of_day):
    seconds = calendar.timegm(time.strptime(date + time_of_day[:8], "%Y%m%d%H:%M:%S"))
    return str(seconds * 1_000_000_000 + int(time_of_day[9:].ljust(9, "0")))


def as_ledger_lines(messages):
    """What W and X messages say, one line a symbol: read here from the standard, not with the simulator's own code."""
    lines = []
    for message in messages:
        sides = {}
        for group in entries_of(message):
            sides.setdefault(group.get(b"55") or message.get(55).decode(), {})[group[b"269"]] = group
        for symbol, side in sides.items():
            bid, ask = side["0"], side["1"]
            ts = nanoseconds(bid[b"272"], bid[b"273"])
            sizes = [bid.get(b"271", ""), ask.get(b"271", "")]
            lines.append(["LP1", message.get(34).decode(), symbol, ts, bid[b"270"], ask[b"270"], *sizes])
    return lines


def as_quote_ledger_lines(messages):
    """The same of S and i messages."""
    lines = []
    for message in messages:
        for group in groups_of(message, b"299" if message.message_type == b"i" else b"117"):
            date, _, time_of_day = group[b"60"].partition("-")
            values = [group[tag] for tag in (b"132", b"133", b"134", b"135")]
            lines.append(["LP1", message.get(34).decode(), group[b"55"], nanoseconds(date, time_of_day), *values])
    return lines


def as_depth_lines(messages):
    lines = []
    for message in messages:
        for group in entries_of(message):
            if group[b"269"] in {"0", "1"}:
                symbol = group.get(b"55") or message.get(55).decode()
                said = [group.get(tag, "") for tag in (b"269", b"278", b"290", b"270", b"271")]
                lines.append([
                    "LP1", message.get(34).decode(), message.message_type.decode(), symbol,
                    nanoseconds(group[b"272"], group[b"273"]), group.get(b"279", "0"), *said,
                ])  # fmt: skip
    return lines


def as_trade_lines(messages):
    lines = []
    for message in messages:
        for group in entries_of(message):
            if group[b"269"] == "2":
                trade_id = group.get(b"1003") or group[b"278"]
                side = {"1": "buy", "2": "sell", "": ""}[group.get(b"2446", "")]
                at = [group[b"55"], nanoseconds(group[b"272"], group[b"273"])]
                lines.append(["LP1", message.get(34).decode(), *at, group[b"270"], group.get(b"271", ""), side, trade_id])
    return lines


def market_data(client):
    return [message for message in client.received if message.message_type in {b"W", b"X"}]


@pytest.mark.parametrize("entries", ["2", "20"])
def test_what_a_client_receives_is_what_the_ledger_says(tmp_path, entries):
    with simulating(tmp_path, "--rate", "5000", "--count", "1500", "--entries", entries) as simulator:
        client = simulator.connect()
        client.log_on()
        symbols = client.list_symbols()
        client.subscribe(symbols)
        simulator.wait_for("generation complete")
        lines = simulator.ledger_lines()
        client.read_until(lambda: client.numbers()[-1] == int(lines[-1][1]))
        assert (len(symbols), len(client.of_type(b"W")), len(lines)) == (128, 128, 128 + 1500)
        assert client.of_type(b"X")[0].get(268) == entries.encode()
        assert as_ledger_lines(market_data(client)) == lines
        assert client.numbers() == list(range(1, client.numbers()[-1] + 1))
        assert simulator.stop() == 0


BEGIN_STRINGS = {"FIX.4.2": "FIX.4.2", "FIX.4.4": "FIX.4.4", "FIX.5.0SP2": "FIXT.1.1"}


@pytest.mark.parametrize(("fix", "by"), [("FIX.4.2", "price"), ("FIX.4.4", "position"), ("FIX.5.0SP2", "id")])
def test_books_and_trades_arrive_as_the_ledgers_say(tmp_path, fix, by):
    options = ("--fix", fix, "--depth", "10", "--depth-by", by, "--trades", "0.1", "--symbols", "5")
    with simulating(tmp_path, *options, "--rate", "5000", "--count", "1500") as simulator:
        client = simulator.connect(begin=BEGIN_STRINGS[fix])
        client.log_on()
        symbols = client.list_symbols()
        client.subscribe(symbols, levels=0, types=(0, 1, 2))
        simulator.wait_for("generation complete")
        lines = simulator.ledger_lines()
        client.read_until(lambda: client.numbers()[-1] == int(lines[-1][1]))
        messages = market_data(client)
        assert (len(symbols), len(lines)) == (5, 5 + 1500)
        assert as_depth_lines(messages) == simulator.ledger_lines(".depth")
        assert as_trade_lines(messages) == simulator.ledger_lines(".trades")
        assert 80 < len(simulator.ledger_lines(".trades")) < 240
        assert [line[1:3] for line in lines] == [[message.get(34).decode(), message.get(55).decode()] for message in messages]
        assert len({(line[2], line[3]) for line in lines}) == len(lines)
        assert client.numbers() == list(range(1, client.numbers()[-1] + 1))
        assert simulator.stop() == 0


@pytest.mark.parametrize("fix", BEGIN_STRINGS)
@pytest.mark.parametrize(("stream", "entries"), [("quote", "2"), ("mass_quote", "6")])
def test_quotes_arrive_as_the_ledger_says(tmp_path, fix, stream, entries):
    options = ("--fix", fix, "--stream", stream, "--entries", entries, "--symbols", "6", "--refuse", "GBP/USD")
    with simulating(tmp_path, *options, "--rate", "5000", "--count", "600") as simulator:
        client = simulator.connect(begin=BEGIN_STRINGS[fix])
        client.log_on()
        symbols = client.list_symbols()
        refusal = b"b" if fix == "FIX.4.2" else b"AG"
        client.ask_quotes(["GBP/USD"])
        client.read_until(lambda: client.of_type(refusal))
        client.ask_quotes([symbol for symbol in symbols if symbol != b"GBP/USD"])
        simulator.wait_for("generation complete")
        lines = simulator.ledger_lines()
        client.read_until(lambda: client.numbers()[-1] == int(lines[-1][1]))
        messages = client.of_type(b"S" if stream == "quote" else b"i")
        assert as_quote_ledger_lines(messages) == lines
        assert len(lines) == 5 + 600
        assert (max(len(groups_of(message, b"299")) for message in messages) > 1) == (stream == "mass_quote")
        assert simulator.stop() == 0


def test_a_logon_without_its_application_version_is_refused(tmp_path):
    with simulating(tmp_path, "--fix", "FIX.5.0SP2") as simulator:
        client = simulator.connect(begin="FIXT.1.1")
        client.send("A", (98, 0), (108, 30), (141, "Y"))
        (logout,) = client.read_until(lambda: client.of_type(b"5"))
        assert b"1137" in logout.get(58)
        while client.read():
            pass
        assert simulator.stop() == 0


def test_a_replayed_file_arrives_exactly_and_the_simulator_leaves(tmp_path):
    path = tmp_path / "eurusd" / "20140501_quote.zip"
    path.parent.mkdir()
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("ticks.csv", "".join(f"{number * 7},1.3{number:04d},1.4{number:04d}\n" for number in range(3000)))
    arguments = ("--replay", str(path.parent), "--timezone", "UTC-5", "--speed", "max", "--exit-when-done")
    with simulating(tmp_path, *arguments) as simulator:
        client = simulator.connect()
        client.log_on()
        assert client.list_symbols() == [b"EURUSD"]
        client.subscribe(["EURUSD"])
        client.read_until(lambda: client.of_type(b"5"))
        client.send("5")
        assert simulator.wait_for("replay complete")["count"] == 3000
        midnight_ns = 1_398_920_400_000_000_000
        assert [line[3:] for line in simulator.ledger_lines()] == [
            [str(midnight_ns + number * 7_000_000), f"1.3{number:04d}", f"1.4{number:04d}", "", ""] for number in range(3000)
        ]
        assert as_ledger_lines(market_data(client)) == simulator.ledger_lines()
        assert simulator.process.wait(DEADLINE_S) == 0


def test_sigterm_logs_clients_out_and_exits_cleanly(tmp_path):
    with simulating(tmp_path, "--rate", "500") as simulator:
        client = simulator.subscriber()
        simulator.process.terminate()
        client.read_until(lambda: client.of_type(b"5"))
        client.send("5")
        assert simulator.process.wait(DEADLINE_S) == 0
        while client.read():
            pass
        assert as_ledger_lines(market_data(client)) == simulator.ledger_lines()


def test_several_clients_get_the_whole_market_each(live):
    one, two = live.subscriber("ONE"), live.subscriber("TWO")
    for client in (one, two):
        client.read_until(lambda client=client: len({message.get(55) for message in client.of_type(b"X")}) > SYMBOLS // 2)
        assert client.numbers() == list(range(1, len(client.numbers()) + 1))
        client.close()


def test_a_client_that_logs_on_again_replaces_its_older_connection(live):
    old = live.subscriber("TWICE")
    new = live.connect("TWICE")
    new.seq = old.seq
    answer = new.log_on(reset=False)
    while old.read():
        pass
    assert int(answer.get(34)) > old.numbers()[-1]
    new.close()


def reconnected(live, old):
    """The same client again, with its numbers, after what it missed has been resent."""
    client = live.connect(old.name)
    client.seq = old.seq
    answer = client.log_on(reset=False)
    first, end = old.numbers()[-1] + 1, int(answer.get(34))
    client.send("2", (7, first), (16, 0))
    resent = client.read_until(lambda: covered(client, first, end))
    return client, resent


def covered(client, first, end):
    """The possible duplicates, once they cover first … end − 1."""
    messages = [message for message in client.received if message.get(43) == b"Y"]
    following = first
    for message in messages:
        assert int(message.get(34)) == following
        following = int(message.get(36)) if message.message_type == b"4" else following + 1
    return messages if following >= end else None


def test_what_a_drop_took_is_in_the_ledger_and_is_resent(live):
    client = live.subscriber("DROP")
    live.fault("drop", client)
    while client.read():
        pass
    assert client.of_type(b"5") == []
    again, resent = reconnected(live, client)
    missed = [message for message in resent if message.message_type == b"X"]
    assert missed
    lines = live.ledger_lines()
    assert all(line in lines for line in as_ledger_lines(missed))
    again.close()


def test_a_cut_leaves_half_a_message(live):
    client = live.subscriber("CUT")
    live.fault("cut", client)
    while client.read():
        pass
    assert client._framer._rest.startswith(b"8=FIX.4.4")
    again, resent = reconnected(live, client)
    assert resent[0].message_type == b"X"
    again.close()


DAMAGED = (
    "garble", "gap", "checksum", "length_short", "length_long", "length_text", "length_huge", "no_msg_type",
)  # fmt: skip


@pytest.mark.parametrize("kind", DAMAGED)
def test_a_number_that_did_not_arrive_whole_is_resent(live, kind):
    client = live.subscriber(kind.upper())
    live.fault(kind, client)
    before, after = client.read_until(lambda: next((pair for pair in pairwise(client.numbers()) if pair[1] > pair[0] + 1), None))
    client.send("2", (7, before + 1), (16, after - 1))
    resent = client.read_until(lambda: covered(client, before + 1, after))
    lines = live.ledger_lines()
    assert [int(message.get(34)) for message in resent] == list(range(before + 1, after))
    assert all(line in lines for line in as_ledger_lines(resent))
    client.close()


def test_a_reset_announces_the_number_that_follows(live):
    client = live.subscriber("RESET")
    live.fault("reset", client)
    (reset,) = client.read_until(lambda: client.of_type(b"4"))
    new = int(reset.get(36))
    client.read_until(lambda: client.numbers()[-1] >= new)
    assert reset.get(123) == b"N"
    assert next(number for number in client.numbers() if number > int(reset.get(34))) == new == int(reset.get(34)) + 100
    client.close()


def test_a_stall_silences_the_line_for_as_long_as_asked(live):
    client = live.subscriber("STALL")
    live.fault("stall", client, seconds=0.7)
    client.read_until(lambda: any(later - earlier > 0.5 for earlier, later in pairwise(client.read_at)))
    assert client.numbers() == list(range(1, len(client.numbers()) + 1))
    client.close()


@pytest.mark.parametrize("kind", ["split", "garbage", "http", "duplicate", "poss_dup_late", "no_orig_sending_time"])
def test_what_only_disturbs_takes_nothing(live, kind):
    client = live.subscriber(kind.upper())
    live.fault(kind, client)
    last = client.numbers()[-1]
    client.read_until(lambda: client.numbers()[-1] > last + 300)
    assert client.numbers() == list(range(1, len(client.numbers()) + 1))
    client.close()


LEAVING = ("duplicate_plain", "low_sequence", "wrong_sender", "wrong_target", "wrong_begin_string", "old_sending_time", "logout")


@pytest.mark.parametrize("kind", LEAVING)
def test_a_client_that_leaves_comes_back_to_what_it_missed(live, kind):
    client = live.subscriber(kind.upper())
    live.fault(kind, client)
    client.read_until(lambda: broken(client))
    taken = max(number for number in client.numbers()[: broken(client)])
    client.send("5")
    while client.read():
        pass
    again = live.connect(client.name)
    again.seq = client.seq
    answer = again.log_on(reset=False)
    first, end = taken + 1, int(answer.get(34))
    again.send("2", (7, first), (16, 0))
    resent = again.read_until(lambda: covered(again, first, end))
    lines = live.ledger_lines()
    assert all(line in lines for line in as_ledger_lines([message for message in resent if message.message_type == b"X"]))
    again.close()


def broken(client):
    """How many messages were right before the first that is not."""
    for at, message in enumerate(client.received, 1):
        header = [message.get(tag) for tag in (8, 49, 56)]
        sent_s = calendar.timegm(time.strptime(message.get(52).decode()[:17], "%Y%m%d-%H:%M:%S"))
        right = header == [b"FIX.4.4", b"LP1", client.name.encode()] and time.time() - sent_s < 600
        if int(message.get(34)) != at or not right or message.message_type == b"5":
            return at - 1
    return 0


def test_logons_go_unanswered_and_are_refused_for_as_long_as_asked(live):
    client = live.subscriber("DOOR")
    live.fault("refuse_logon", client, seconds=60)
    while client.read():
        pass
    refused = live.connect("DOOR")
    refused.seq = client.seq
    refused.send("A", (98, 0), (108, 30))
    refused.read_until(lambda: refused.of_type(b"5"))
    while refused.read():
        pass

    other = live.subscriber("HOLE")
    live.fault("blackhole", other, seconds=1)
    while other.read():
        pass
    unheard = live.connect("HOLE")
    unheard.seq = other.seq
    unheard.send("A", (98, 0), (108, 30))
    assert not unheard.read()
    unheard = live.connect("HOLE")
    unheard.seq = other.seq
    assert unheard.log_on(reset=False).get(34)
    unheard.close()


def test_an_unknown_fault_is_refused(live):
    client = live.subscriber("WHO")
    live.fault("reset", client)  # the port is open once this is answered
    assert httpx.post(f"{live.url}/faults/flood").status_code == 404
    client.close()


def test_a_port_in_use_is_said_plainly(live):
    line = [*COMMAND, "--port", str(live.fix_port), "--http-port", "0"]
    ended = subprocess.run(line, capture_output=True, text=True, timeout=DEADLINE_S, check=False)
    assert (ended.returncode, f"FIX port {live.fix_port}" in ended.stderr) == (2, True)
