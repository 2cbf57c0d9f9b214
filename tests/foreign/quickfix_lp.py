"""An LP on QuickFIX: an acceptor for FIX 4.4 that does what its standard input says and answers each line with one of JSON.

python quickfix_lp.py '{"port": …, "folder": …, "ledger": …, "symbols": 32, …}'

The ledger is written in toApp: QuickFIX calls it with the number set, before the message is stored and sent.
"""

import contextlib
import json
import os
import random
import sys
import threading
import time
from collections import Counter, deque
from datetime import UTC, datetime
from pathlib import Path

import quickfix as fix

CONFIG = """[DEFAULT]
ConnectionType=acceptor
SocketAcceptPort={port}
SocketReuseAddress=Y
SocketNodelay=Y
FileStorePath={folder}/store
FileLogPath={folder}/log
StartTime=00:00:00
EndTime=00:00:00
{dictionary}
[SESSION]
BeginString=FIX.4.4
SenderCompID={name}
TargetCompID=TICKVAULT
ResetOnLogon={reset_on_logon}
PersistMessages={persist_messages}
"""
QUOTE_FIELDS = (279, 269, 55, 270, 271, 272, 273, 0)
SNAPSHOT_FIELDS = (269, 270, 271, 272, 273, 0)
SIZE = "1000000"

Line = tuple[str, int, str, str]  # symbol, ts in ns, bid, ask


def order(fields: tuple[int, ...]) -> fix.IntArray:
    array = fix.IntArray(len(fields))
    for index, tag in enumerate(fields):
        array[index] = tag
    return array


class Provider(fix.Application):
    """Quotes every symbol that is subscribed. Sending happens in one thread of its own and in QuickFIX's, for snapshots."""

    def __init__(self, name: str, ledger: Path, symbols: int) -> None:
        super().__init__()
        self.name = name
        self.symbols = [f"S{number:03d}/USD" for number in range(symbols)]
        self.requests: dict[str, str] = {}
        self.received: Counter[str] = Counter()
        self.sent = 0
        self.logons = 0
        self.flow: tuple[int, int] = (0, 1)
        self.session_id: fix.SessionID | None = None
        self._random = random.Random(1)
        self._pending = threading.local()
        header = not ledger.exists()
        self._ledger = os.open(ledger, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        if header:
            os.write(self._ledger, b"session,msg_seq_num,symbol,ts_ns,bid,ask,bid_size,ask_size\n")
        self._orders = order(QUOTE_FIELDS), order(SNAPSHOT_FIELDS)

    # ---- QuickFIX's side

    def onCreate(self, session_id):
        self.session_id = session_id

    def onLogon(self, _session_id):
        self.logons += 1

    def onLogout(self, _session_id):
        self.requests.clear()

    def toAdmin(self, message, session_id):
        pass

    def toApp(self, message, _session_id):
        lines: deque[list[Line]] | None = getattr(self._pending, "lines", None)
        if not lines or message.getHeader().isSetField(43):  # a resend is no new tick
            return
        kind = message.getHeader().getField(35)
        if kind not in {"W", "X"}:
            return
        seq = message.getHeader().getField(34)
        quotes = lines.popleft()
        text = "".join(f"{self.name},{seq},{symbol},{ts},{bid},{ask},{SIZE},{SIZE}\n" for symbol, ts, bid, ask in quotes)
        os.write(self._ledger, text.encode())
        self.sent += len(quotes)

    def fromAdmin(self, message, _session_id):
        self.received[message.getHeader().getField(35)] += 1

    def fromApp(self, message, session_id):
        kind = message.getHeader().getField(35)
        self.received[kind] += 1
        if kind == "x":
            self._list_securities(message.getField(320))
        elif kind == "V":
            group = fix.Group(146, 55)
            message.getGroup(1, group)
            symbol = group.getField(55)
            if message.getField(263) == "1":
                self.requests[symbol] = message.getField(262)
                self.snapshot(symbol)
            else:
                self.requests.pop(symbol, None)

    # ---- messages

    def _send(self, message: fix.Message, quotes: list[Line] | None = None) -> None:
        if quotes is not None:
            self._pending.lines = deque([quotes])
        fix.Session.sendToTarget(message, self.session_id)

    def _list_securities(self, request: str) -> None:
        message = new("y")
        for tag, value in ((320, request), (322, request), (560, "0")):
            message.setField(fix.StringField(tag, value))
        for symbol in self.symbols:
            group = fix.Group(146, 55)
            group.setField(fix.StringField(55, symbol))
            message.addGroup(group)
        self._send(message)

    def snapshot(self, symbol: str) -> None:
        message = new("W")
        message.setField(fix.StringField(262, self.requests[symbol]))
        message.setField(fix.StringField(55, symbol))
        quote, date, clock = self._quote(symbol)
        for side, price in (("0", quote[2]), ("1", quote[3])):
            group = fix.Group(268, 269, self._orders[1])
            fill(group, ((269, side), (270, price), (271, SIZE), (272, date), (273, clock)))
            message.addGroup(group)
        self._send(message, [quote])

    def quotes(self, count: int) -> None:
        """One X of `count` symbols, two entries each."""
        message = new("X")
        lines = []
        for symbol in self._random.sample(self.symbols, count):
            quote, date, clock = self._quote(symbol)
            for side, price in (("0", quote[2]), ("1", quote[3])):
                group = fix.Group(268, 279, self._orders[0])
                fields = ((279, "0"), (269, side), (55, symbol), (270, price), (271, SIZE), (272, date), (273, clock))
                fill(group, fields)
                message.addGroup(group)
            lines.append(quote)
        self._send(message, lines)

    def _quote(self, symbol: str) -> tuple[Line, str, str]:
        now_ms = time.time_ns() // 1_000_000
        at = datetime.fromtimestamp(now_ms // 1000, UTC)
        bid = self._random.randrange(50_000, 200_000)
        quote = (symbol, now_ms * 1_000_000, f"{bid / 1e5:.5f}", f"{(bid + 10) / 1e5:.5f}")
        return quote, f"{at:%Y%m%d}", f"{at:%H:%M:%S}.{now_ms % 1000:03d}"

    # ---- commands

    @property
    def session(self) -> fix.Session:
        return fix.Session.lookupSession(self.session_id)

    def do(self, command: str, *arguments: str) -> None:
        match command:
            case "status":
                pass
            case "burst":
                ticks, per_message = map(int, arguments)
                for _ in range(ticks // per_message):
                    self.quotes(per_message)
            case "flow":
                messages_per_s, per_message = map(int, arguments)
                self.flow = (messages_per_s, per_message)
            case "snapshots":
                for symbol in list(self.requests):
                    self.snapshot(symbol)
            case "test_request":
                message = new("1")
                message.setField(fix.StringField(112, arguments[0]))
                self._send(message)
            case "jump":
                self.session.setNextSenderMsgSeqNum(self.session.getExpectedSenderNum() + int(arguments[0]))
            case "sequence_reset":
                new_seq = self.session.getExpectedSenderNum() + int(arguments[0])
                message = new("4")
                message.setField(fix.StringField(36, str(new_seq)))
                message.setField(fix.StringField(123, "N"))
                self._send(message)
                self.session.setNextSenderMsgSeqNum(new_seq)
            case "logon_reset":
                message = new("A")
                for tag, value in ((98, "0"), (108, "1"), (141, "Y")):
                    message.setField(fix.StringField(tag, value))
                self._send(message)
            case "rewind":
                self.session.setNextTargetMsgSeqNum(self.session.getExpectedTargetNum() - int(arguments[0]))
            case "logout":
                self.session.logout(arguments[0] if arguments else "")
            case "logon":
                self.session.logon()
            case "drop":
                self.session.disconnect()
            case _:
                raise ValueError(command)

    def status(self) -> dict[str, object]:
        session = self.session
        return {
            "logged_on": session.isLoggedOn(),
            "logons": self.logons,
            "subscribed": len(self.requests),
            "sent": self.sent,
            "next_out": session.getExpectedSenderNum(),
            "next_in": session.getExpectedTargetNum(),
            "received": dict(self.received),
        }

    def keep_flowing(self) -> None:
        """The flow command's messages, in hundredths of a second; goes on while nobody is logged on."""
        due = 0.0
        while True:
            time.sleep(0.01)
            messages_per_s, per_message = self.flow
            due = min(due + messages_per_s / 100, messages_per_s)
            while due >= 1:
                due -= 1
                self.quotes(per_message)


def new(msg_type: str) -> fix.Message:
    message = fix.Message()
    message.getHeader().setField(fix.MsgType(msg_type))
    return message


def fill(group: fix.Group, fields: tuple[tuple[int, str], ...]) -> None:
    for tag, value in fields:
        group.setField(fix.StringField(tag, value))


def main() -> None:
    options = json.loads(sys.argv[1])
    folder = Path(options["folder"])
    folder.mkdir(parents=True, exist_ok=True)
    dictionary = Path(sys.prefix) / "share/quickfix/FIX44.xml"
    known = f"UseDataDictionary=Y\nDataDictionary={dictionary}" if dictionary.exists() else "UseDataDictionary=N"
    config = folder / "acceptor.cfg"
    config.write_text(
        CONFIG.format(
            port=options["port"],
            folder=folder,
            name=options["name"],
            dictionary=known,
            reset_on_logon="Y" if options.get("lp_resets") else "N",
            persist_messages="Y" if options.get("resends", True) else "N",
        ),
        "utf-8",
    )
    settings = fix.SessionSettings(str(config))
    provider = Provider(options["name"], Path(options["ledger"]), options["symbols"])
    store, log = fix.FileStoreFactory(settings), fix.FileLogFactory(settings)
    acceptor = fix.SocketAcceptor(provider, store, settings, log)
    acceptor.start()
    threading.Thread(target=provider.keep_flowing, daemon=True).start()
    print(json.dumps(provider.status()), flush=True)
    for line in sys.stdin:
        provider.do(*line.split())
        print(json.dumps(provider.status()), flush=True)
    with contextlib.suppress(fix.RuntimeError):
        acceptor.stop()


if __name__ == "__main__":
    main()
