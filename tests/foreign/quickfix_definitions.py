"""QuickFIX's acceptance definitions, played the other way round: the gateway connects to us.

A definition (test/definitions/server/*/*.def of QuickFIX) says what an initiator sends to an acceptor (I), what it expects (E),
and when connections begin and end (i: by the initiator, e: by the acceptor). Here the gateway is the initiator, so:

    iCONNECT      the gateway connects and logs on; its Logon is kept for the line that expects one
    I…            is sent to it; times, length and checksum are filled in as QuickFIX's Reflector.rb does
    E…            is what it must send next
    eDISCONNECT   it ends the connection within ten seconds, as long as QuickFIX waits

A message is right where it has every field of its line but length and checksum, in any order, and times as times. What an
initiator for market data does otherwise than QuickFIX's acceptor, which sends the messages of applications back, counts as right:

- BusinessMessageReject(j) of an unsupported type for an application message sent back, or left out because of PossResend
- one GapFill for the resend of several messages
- a TestReqID of its own, which the answer then bears
- a Heartbeat more, and a Reject or Logout before it ends the connection of a Logon that it refuses
- no second connection beside the first: the lines of it are left out
"""

import asyncio
import re
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from services.gateway.fix.framer import Framer
from services.gateway.fix.wire import Message, parse

FEEDS = {
    "fix42": {"begin_string": "FIX.4.2", "target_comp_id": "TW42"},
    "fix44": {"begin_string": "FIX.4.4", "target_comp_id": "TW44"},
    "fix50sp2": {"begin_string": "FIXT.1.1", "target_comp_id": "TW50SP2", "default_appl_ver_id": "9"},
}

ANSWER_S = 12.0  # the longest heartbeat interval is 6 s
DISCONNECT_S = 10.0
SECOND_CONNECTION_S = 0.5

ADMIN = frozenset("012345A")
UNCOMPARED = frozenset({9, 10})
TIMES = frozenset({42, 52, 60, 122})  # fields.fmt
TIME = re.compile(r"\d{8}-\d{2}:\d{2}:\d{2}(\.\d{3})?")


class Differs(AssertionError):
    """The gateway does not do what the definition says."""


@dataclass(frozen=True, slots=True)
class Line:
    kind: str
    connection: int
    text: str

    @property
    def fields(self):
        return {int(tag): value for tag, _, value in (part.partition("=") for part in self.text.split("\x01")) if tag.isdigit()}

    @property
    def is_resent(self):
        return self.kind == "E" and self.fields.get(43) == "Y"


class Definition:
    def __init__(self, path):
        text = path.read_bytes().decode("latin-1")
        self.name = f"{path.parent.name}/{path.stem}"
        self.lines = [_line(line) for line in text.splitlines() if line and line[0] in "IEie"]
        logon = next(line.fields for line in self.lines if line.kind == "I")
        connections = sum(line.kind == "i" and line.text == "CONNECT" for line in self.lines)
        # the settings with which the gateway is the acceptor of the definition, which resets at every logon
        self.feed = {
            "sender_comp_id": "ISLD",
            "heartbeat_s": int(logon.get(108, 30)),
            "reset_on_logon": connections > 1,
            "symbols": (),
            **FEEDS[path.parent.name],
        }

    def steps(self):
        """Lines one by one, but what is resent together."""
        steps = []
        for line in self.lines:
            if line.is_resent and steps[-1][-1].is_resent:
                steps[-1].append(line)
            else:
                steps.append([line])
        return steps


def _line(text):
    kind, connection, rest = re.fullmatch(r"([IEie])(?:(\d),)?(.*)", text).groups()
    return Line(kind, int(connection or 1), rest)


class Connection:
    """One connection of the gateway, at our end."""

    def __init__(self, reader, writer):
        self._reader, self._writer = reader, writer
        self._framer = Framer()
        self._frames = []
        self._possibly_resent = set()  # MsgSeqNum of what we sent so
        self.logon = None  # of the gateway, until a line expects it
        self.more = 0  # messages that came beside those expected: what follows is numbered higher
        self.test_request = None  # the gateway's TestReqID

    async def message(self, wait_s):
        """The next message; None at the end of the connection; TimeoutError."""
        async with asyncio.timeout(wait_s):
            while not self._frames:
                data = b""
                with suppress(ConnectionError):
                    data = await self._reader.read(65_536)
                if not data:
                    return None
                frames, garbled = self._framer.feed(data, 0)
                if garbled:
                    raise Differs(f"the gateway sends what is no FIX: {garbled[0]!r}")
                self._frames += frames
        return parse(self._frames.pop(0))

    def send(self, line):
        text = line.text
        if self.test_request is not None:
            text = text.replace("\x01112=TEST\x01", f"\x01112={self.test_request}\x01")
        if line.fields.get(97) == "Y":
            self._possibly_resent.add(line.fields[34])
        self._writer.write(complete(text, datetime.now(UTC)))

    def is_more(self, found):
        """Whether a message may come beside those expected."""
        kind = found.text(35)
        return (kind == "0" and found.get(112) is None) or (kind == "j" and found.text(45) in self._possibly_resent)

    def close(self):
        self._writer.transport.abort()


class Player:
    """Plays one definition; Differs where the gateway does otherwise."""

    def __init__(self, definition):
        self._definition = definition
        self._arrived = asyncio.Queue()
        self._open = {}  # by number

    async def play(self, gateway):
        """`gateway` takes a port and settings of the feed, and runs while it is entered."""
        server = await asyncio.start_server(lambda *ends: self._arrived.put_nowait(ends), "127.0.0.1", 0)
        async with server:
            port = server.sockets[0].getsockname()[1]
            async with gateway(port=port, **self._definition.feed):
                try:
                    for lines in self._definition.steps():
                        await self._take(lines)
                finally:
                    for connection in self._open.values():
                        connection.close()

    async def _take(self, lines):
        line = lines[0]
        connection = self._open.get(line.connection)
        if line.kind == "i" and line.text == "CONNECT":
            await self._connect(line)
        elif connection is None:
            return  # of a second connection
        elif line.kind == "I":
            connection.send(line)
        elif line.is_resent:
            await _expect_resent(connection, lines)
        elif line.kind == "E":
            await _expect(connection, line)
        else:
            if line.kind == "e":
                await _expect_end(connection)
            connection.close()
            del self._open[line.connection]

    async def _connect(self, line):
        if self._open:
            await asyncio.sleep(SECOND_CONNECTION_S)
            if not self._arrived.empty():
                raise Differs("a second connection beside the first")
            return
        try:
            async with asyncio.timeout(ANSWER_S):
                connection = Connection(*await self._arrived.get())
        except TimeoutError:
            raise Differs("the gateway does not connect") from None
        self._open[line.connection] = connection
        connection.logon = await _next(connection, "its Logon")
        if connection.logon.text(35) != "A":
            raise Differs(f"the gateway begins with {shown(connection.logon)}")


async def _expect(connection, line):
    expected = line.fields
    kinds = {expected[35]} if expected[35] in ADMIN else {expected[35], "j"}
    found = None
    if expected[35] == "A":
        found, connection.logon = connection.logon, None
    while found is None:
        found = await _next(connection, line.text)
        if found.text(35) not in kinds and connection.is_more(found):
            connection.more += 1
            found = None
    if found.text(35) == "j" != expected[35]:
        expected = {tag: expected[tag] for tag in (8, 34, 49, 56)} | {372: expected[35], 380: "3"}
    elif found.text(35) == "1" == expected[35]:
        expected[112] = connection.test_request = found.text(112)
    _compare(connection, expected, found, line.text)


async def _expect_resent(connection, lines):
    """Possible duplicates with the numbers of the lines, of which one GapFill may cover several."""
    first, last = lines[0].fields, lines[-1].fields
    number = int(first[34]) + connection.more
    end = (int(last[36]) if last[35] == "4" else int(last[34]) + 1) + connection.more
    wanted = "\n".join(line.text for line in lines)
    while number < end:
        found = await _next(connection, wanted)
        expected = {8: first[8], 34: str(number - connection.more), 43: "Y", 49: first[49], 56: first[56], 122: ""}
        if found.text(35) == "4":
            expected[123] = "Y"
        _compare(connection, expected, found, wanted)
        number = found.required_number(36) if found.text(35) == "4" else number + 1
    if number != end:
        raise Differs(f"resent up to {number - 1} instead of {end - 1}\nexpected: {_bars(wanted)}")


async def _expect_end(connection):
    """The gateway closes."""
    refused = connection.logon is not None
    try:
        while (found := await connection.message(DISCONNECT_S)) is not None:
            if not (connection.is_more(found) or (refused and found.text(35) in {"3", "5"})):
                raise Differs(f"expected the end of the connection\ncame: {shown(found)}")
    except TimeoutError:
        raise Differs(f"the gateway does not end the connection within {DISCONNECT_S:.0f} s") from None


async def _next(connection, expected):
    try:
        found = await connection.message(ANSWER_S)
    except TimeoutError:
        raise Differs(f"nothing came within {ANSWER_S:.0f} s\nexpected: {_bars(expected)}") from None
    if found is None:
        raise Differs(f"the gateway ended the connection\nexpected: {_bars(expected)}")
    return found


def _compare(connection, expected, found, wanted):
    for tag, value in expected.items():
        came = found.text(tag)
        if tag in TIMES:
            is_right = TIME.fullmatch(came) is not None
        elif tag == 34:
            is_right = came == str(int(value) + connection.more)
        else:
            is_right = tag in UNCOMPARED or came == value
        if not is_right:
            raise Differs(f"field {tag} is {came!r} instead of {value!r}\nexpected: {_bars(wanted)}\ncame:     {shown(found)}")


def complete(text, now):
    """A line as it is sent: <TIME±s> filled in, then length and checksum where it has none."""

    def moment(match):
        return f"{now + timedelta(seconds=int(match[1] or 0)):%Y%m%d-%H:%M:%S}"

    text = re.sub(r"<TIME([+-]\d+)?>", moment, text)
    if not text.startswith("8="):
        return text.encode("latin-1")
    head, _, body = text.partition("\x01")
    body, checksum = re.fullmatch(r"(.*?)((?:\x0110=[^\x01]*\x01)?)", body, re.DOTALL).groups()
    length = "" if re.search(r"(^|\x01)9=", body) else f"9={len(body)}\x01"
    message = f"{head}\x01{length}{body}"
    return (message + (checksum or f"10={sum(message.encode('latin-1')) % 256:03d}\x01")).encode("latin-1")


def shown(message: Message):
    return "".join(f"{tag}={value.decode('utf-8', 'replace')}|" for tag, value in message.fields)


def _bars(text):
    return text.replace("\x01", "|")
