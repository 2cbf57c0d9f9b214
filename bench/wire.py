"""An LP that costs next to nothing: its messages are encoded beforehand and leave by sendfile, so that the machine is ours."""

import random
import socket
import threading
import time
from datetime import UTC, datetime
from pathlib import Path

import simplefix

SYMBOLS = 128


def symbol_name(number: int) -> str:
    return f"SYM{number:03d}/USD"


def increment(seq: int, quotes: list[tuple[str, str, str]], stamp: str, provider: str = "LP1") -> bytes:
    """A 35=X in QuickFIX's order with a bid and an ask entry for each (symbol, bid, ask)."""
    date, clock = stamp.split("-")
    entries = "".join(
        f"279=1\x01269={side}\x01278={symbol}{side}\x0155={symbol}\x01270={price}\x01271={size}\x01272={date}\x01273={clock}\x01"
        for symbol, bid, ask in quotes
        for side, price, size in ((0, bid, 1000000), (1, ask, 1500000))
    )
    body = f"35=X\x0134={seq}\x0149={provider}\x0152={stamp}\x0156=TICKVAULT\x01262=1\x01268={2 * len(quotes)}\x01{entries}"
    return frame(body)


def frame(body: str) -> bytes:
    message = f"8=FIX.4.4\x019={len(body)}\x01{body}".encode()
    return message + b"10=%03d\x01" % (sum(message) % 256)


def utc_stamp(at: float) -> str:
    return f"{datetime.fromtimestamp(at, UTC):%Y%m%d-%H:%M:%S}.{int(at * 1000) % 1000:03d}"


def write_messages(path: Path, ticks: int, ticks_per_message: int, first_seq: int, seed: int = 1) -> int:
    """Encode `ticks` ticks, spread over the symbols and over ms from now on; the number of messages."""
    rng = random.Random(seed)
    mids = [rng.randrange(50_000, 200_000) for _ in range(SYMBOLS)]
    messages = ticks // ticks_per_message
    now = time.time()
    with path.open("wb") as file:
        for number in range(messages):
            quotes = []
            for at in rng.sample(range(SYMBOLS), ticks_per_message):  # a symbol twice would be one tick
                mids[at] += rng.randrange(-3, 4)
                quotes.append((symbol_name(at), f"{mids[at] / 1e5:.5f}", f"{mids[at] / 1e5 + 0.0001:.5f}"))
            file.write(increment(first_seq + number, quotes, utc_stamp(now + number / 1e5)))
    return messages


class Acceptor:
    """Answers the logon and the security list, then runs `feed(socket)` once all symbols are subscribed."""

    FIRST_SEQ = 3

    def __init__(self, provider: str = "LP1") -> None:
        self.provider = provider
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.subscribed = threading.Event()
        self.connection: socket.socket | None = None
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        self.connection, _ = self.listener.accept()
        parser = simplefix.FixParser()
        asked = 0
        while data := self.connection.recv(65536):
            parser.append_buffer(data)
            while (message := parser.get_message()) is not None:
                kind = message.get(35)
                stamp = utc_stamp(time.time())
                if kind == b"A":
                    self._send(f"35=A\x0134=1\x0149={self.provider}\x0152={stamp}\x0156=TICKVAULT\x0198=0\x01108=30\x01141=Y\x01")
                elif kind == b"x":
                    group = "".join(f"55={symbol_name(number)}\x01" for number in range(SYMBOLS))
                    head = f"35=y\x0134=2\x0149={self.provider}\x0152={stamp}\x0156=TICKVAULT\x01320=1\x01322=1\x01560=0\x01"
                    self._send(f"{head}146={SYMBOLS}\x01{group}")
                elif kind == b"V":
                    asked += 1
                    if asked == SYMBOLS:
                        self.subscribed.set()
                elif kind == b"5":
                    self.connection.close()
                    return

    def _send(self, body: str) -> None:
        assert self.connection is not None
        self.connection.sendall(frame(body))

    def send_file(self, path: Path) -> None:
        assert self.connection is not None
        with path.open("rb") as file:
            self.connection.sendfile(file)
