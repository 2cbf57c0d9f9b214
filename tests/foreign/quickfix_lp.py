"""An LP on QuickFIX: an acceptor that does what its standard input says and answers each line with one of JSON.

python quickfix_lp.py '{"begin_string": "FIX.4.2", "port": …, "folder": …, "ledger": …, "symbols": 32, …}'

begin_string is FIX.4.2, FIX.4.4, or FIXT.1.1 for FIX 5.0SP2. A MarketDataRequest is answered with W and X, a QuoteRequest with S.
The ledger is written in toApp: QuickFIX calls it with the number set, before the message is stored and sent.
"""

import contextlib
import json
import os
import random
import sys
import threading
import time
from collections import Counter
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
BeginString={begin_string}
SenderCompID={name}
TargetCompID=TICKVAULT
ResetOnLogon={reset_on_logon}
PersistMessages={persist_messages}
"""
DICTIONARIES = Path(sys.prefix) / "share/quickfix"
DICTIONARY = {
    "FIX.4.2": f"DataDictionary={DICTIONARIES}/FIX42.xml",
    "FIX.4.4": f"DataDictionary={DICTIONARIES}/FIX44.xml",
    "FIXT.1.1": f"TransportDataDictionary={DICTIONARIES}/FIXT11.xml\nAppDataDictionary={DICTIONARIES}/FIX50SP2.xml",
}
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
    """Quotes every symbol, and while nobody is logged on, too: to be resent. One that resets quotes what is subscribed.

    Messages are sent by the thread of the flow and by QuickFIX's, one at a time: time never falls from number to number.
    """

    def __init__(self, name: str, ledger: Path, symbols: int, *, resets: bool, lists: bool) -> None:
        super().__init__()
        self.name = name
        self.symbols = [f"S{number:03d}/USD" for number in range(symbols)]
        self.requests: dict[str, str] = {}
        self.received: Counter[str] = Counter()
        self.sent = 0
        self.logons = 0
        self.flow: tuple[int, int] = (0, 1)
        self.session_id: fix.SessionID | None = None
        self._resets = resets
        self._lists = lists
        self._streams_quotes = False
        self._random = random.Random(1)
        self._sending = threading.RLock()
        self._pending: list[Line] = []
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
        header = message.getHeader()
        if header.isSetField(43) or header.getField(35) not in {"W", "X", "S"}:  # a resend is no new tick
            return
        seq, quotes = header.getField(34), self._pending
        text = "".join(f"{self.name},{seq},{symbol},{ts},{bid},{ask},{SIZE},{SIZE}\n" for symbol, ts, bid, ask in quotes)
        os.write(self._ledger, text.encode())
        self.sent += len(quotes)

    def fromAdmin(self, message, _session_id):
        self.received[message.getHeader().getField(35)] += 1

    def fromApp(self, message, _session_id):
        kind = message.getHeader().getField(35)
        self.received[kind] += 1
        if kind in {"c", "x"}:
            self._list_securities(kind, message.getField(320), message.getHeader().getField(34))
        elif kind in {"V", "R"}:
            self._streams_quotes = kind == "R"
            group = fix.Group(146, 55)
            message.getGroup(1, group)
            symbol = group.getField(55)
            if kind == "V" and message.getField(263) != "1":
                self.requests.pop(symbol, None)
                return
            self.requests[symbol] = message.getField(262 if kind == "V" else 131)
            self.snapshot(symbol)

    # ---- messages

    def _send(self, message: fix.Message, *quotes: Line) -> None:
        with self._sending:
            self._pending = list(quotes)
            fix.Session.sendToTarget(message, self.session_id)

    def _list_securities(self, kind: str, request: str, number: str) -> None:
        """FIX 4.2 knows one symbol a message."""
        if not self._lists:
            self._send(new("j", {45: number, 58: "no list", 372: kind, 380: "3"}))
        elif kind == "c":
            for at, symbol in enumerate(self.symbols):
                count = str(len(self.symbols))
                self._send(new("d", {55: symbol, 320: request, 322: f"{request}-{at}", 323: "4", 393: count}))
        else:
            message = new("y", {320: request, 322: request, 560: "0"})
            for symbol in self.symbols:
                group = fix.Group(146, 55)
                fill(group, {55: symbol})
                message.addGroup(group)
            self._send(message)

    def snapshot(self, symbol: str) -> None:
        with self._sending:
            if self._streams_quotes:
                self._quote(symbol)
                return
            message = new("W", {262: self.requests[symbol], 55: symbol})
            line, date, clock = self._price(symbol)
            for side, price in (("0", line[2]), ("1", line[3])):
                group = fix.Group(268, 269, self._orders[1])
                fill(group, {269: side, 270: price, 271: SIZE, 272: date, 273: clock})
                message.addGroup(group)
            self._send(message, line)

    def quotes(self, count: int) -> None:
        """One X of `count` symbols, two entries each; or an S for each symbol."""
        symbols = list(self.requests) if self._resets else self.symbols
        if len(symbols) < count:
            return
        chosen = self._random.sample(symbols, count)
        with self._sending:
            if self._streams_quotes:
                for symbol in chosen:
                    self._quote(symbol)
                return
            message = new("X")
            lines = []
            for symbol in chosen:
                line, date, clock = self._price(symbol)
                for side, price in (("0", line[2]), ("1", line[3])):
                    group = fix.Group(268, 279, self._orders[0])
                    fill(group, {279: "0", 269: side, 55: symbol, 270: price, 271: SIZE, 272: date, 273: clock})
                    message.addGroup(group)
                lines.append(line)
            self._send(message, *lines)

    def _quote(self, symbol: str) -> None:
        line, date, clock = self._price(symbol)
        fields = {55: symbol, 60: f"{date}-{clock}", 117: str(self.sent), 132: line[2], 133: line[3], 134: SIZE, 135: SIZE}
        if request := self.requests.get(symbol):
            fields[131] = request
        self._send(new("S", fields), line)

    def _price(self, symbol: str) -> tuple[Line, str, str]:
        now_ms = time.time_ns() // 1_000_000
        at = datetime.fromtimestamp(now_ms // 1000, UTC)
        bid = self._random.randrange(50_000, 200_000)
        line = (symbol, now_ms * 1_000_000, f"{bid / 1e5:.5f}", f"{(bid + 10) / 1e5:.5f}")
        return line, f"{at:%Y%m%d}", f"{at:%H:%M:%S}.{now_ms % 1000:03d}"

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
            case "send":
                self._send(new(arguments[0], {int(tag): value for tag, value in (each.split("=") for each in arguments[1:])}))
            case "test_request":
                self._send(new("1", {112: arguments[0]}))
            case "jump":
                with self._sending:
                    self.session.setNextSenderMsgSeqNum(self.session.getExpectedSenderNum() + int(arguments[0]))
            case "sequence_reset":
                with self._sending:
                    new_seq = self.session.getExpectedSenderNum() + int(arguments[0])
                    self._send(new("4", {36: str(new_seq), 123: "N"}))
                    self.session.setNextSenderMsgSeqNum(new_seq)
            case "logon_reset":
                self._send(new("A", {98: "0", 108: "1", 141: "Y"}))
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
        """The flow command's messages, in hundredths of a second."""
        due = 0.0
        while True:
            time.sleep(0.01)
            messages_per_s, per_message = self.flow
            due = min(due + messages_per_s / 100, messages_per_s)
            while due >= 1:
                due -= 1
                self.quotes(per_message)


def new(msg_type: str, fields: dict[int, str] | None = None) -> fix.Message:
    message = fix.Message()
    message.getHeader().setField(fix.MsgType(msg_type))
    fill(message, fields or {})
    return message


def fill(target: fix.Message | fix.Group, fields: dict[int, str]) -> None:
    for tag, value in fields.items():
        target.setField(fix.StringField(tag, value))


def main() -> None:
    options = json.loads(sys.argv[1])
    folder = Path(options["folder"])
    folder.mkdir(parents=True, exist_ok=True)
    begin_string, resets = options.get("begin_string", "FIX.4.4"), options.get("lp_resets", False)
    known = f"UseDataDictionary=Y\n{DICTIONARY[begin_string]}" if DICTIONARIES.exists() else "UseDataDictionary=N"
    if begin_string == "FIXT.1.1":
        known += "\nDefaultApplVerID=FIX.5.0SP2"
    config = folder / "acceptor.cfg"
    config.write_text(
        CONFIG.format(
            port=options["port"],
            folder=folder,
            begin_string=begin_string,
            name=options["name"],
            dictionary=known,
            reset_on_logon="Y" if resets else "N",
            persist_messages="Y" if options.get("resends", True) else "N",
        ),
        "utf-8",
    )
    settings = fix.SessionSettings(str(config))
    ledger = Path(options["ledger"])
    provider = Provider(options["name"], ledger, options["symbols"], resets=resets, lists=options.get("lists", True))
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
