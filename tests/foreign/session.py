"""Foreign LPs, the wires to them, the gateway and the store: what the tests of foreign engines drive."""

import contextlib
import json
import selectors
import sqlite3
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Self

from libs.common.runtime.ports import free_port
from libs.common.store import Layout
from libs.common.testing.reckoning import Reckoning, numbering_errors, reckon
from libs.common.testing.stack import Process, Stack
from tests.foreign.proxy import Seen, Wire

NAME = "LP1"
SYMBOLS = 32
HEARTBEAT_S = 1
WAIT_S = 25.0
ANSWER_S = 50.0
POLL_S = 0.03
QUIET_S = 4.0  # without a new row: nothing more is coming

Engine = Callable[[str], tuple[list[str], Mapping[str, str]]]  # options as JSON → command and environment
Status = dict[str, Any]


class ForeignLp:
    """The engine's process, and the wire to it. What it was told is done when `do` returns."""

    def __init__(self, engine: Engine, folder: Path, name: str = NAME, **options: object) -> None:
        port = free_port()
        self.name = name
        self.folder = folder
        self.ledger = folder / "ledger.csv"
        self.wire = Wire(port)
        given = {"name": name, "port": port, "folder": str(folder / "engine"), "ledger": str(self.ledger), "symbols": SYMBOLS}
        self._command, self._environment = engine(json.dumps(given | {"heartbeat_s": HEARTBEAT_S} | options))
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> Status:
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / "lp.log").open("ab") as log:
            self._process = subprocess.Popen(
                self._command, env=dict(self._environment), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log
            )
        return self._answer()

    def do(self, *command: object) -> Status:
        assert self._process is not None
        assert self._process.stdin is not None
        self._process.stdin.write(" ".join(map(str, command)).encode() + b"\n")
        self._process.stdin.flush()
        return self._answer()

    def kill(self) -> None:
        """Kill -9."""
        if self._process is None:
            return
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            with contextlib.suppress(OSError):
                pipe.close()

    def signal(self, number: int) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def ledger_lines(self) -> int:
        return self.ledger.read_bytes().count(b"\n") - 1

    def talk(self, last: int = 0) -> str:
        """What was said on the wire, without market data."""
        return "\n".join(map(str, self.wire.messages()[-last:]))

    def _answer(self) -> Status:
        assert self._process is not None
        assert self._process.stdout is not None
        log = self.folder / "lp.log"
        with selectors.DefaultSelector() as selector:
            selector.register(self._process.stdout, selectors.EVENT_READ)
            if not selector.select(ANSWER_S):
                raise AssertionError(f"the LP does not answer: see {log}")
        line = self._process.stdout.readline()
        if not line:
            raise AssertionError(f"the LP has ended: {log.read_text('utf-8', 'replace')[-2000:]}")
        status: Status = json.loads(line)
        return status


class Venue:
    """LPs, a gateway with a session with each, and the store behind it."""

    def __init__(self, folder: Path, *lps: ForeignLp) -> None:
        self.folder = folder
        self.lps = lps
        self.stack = Stack(folder / "stack")

    def add_feed(self, lp: ForeignLp, **options: object) -> None:
        self.stack.add_feed(lp.name, lp.wire.port, **{"heartbeat_s": HEARTBEAT_S} | options)

    def __enter__(self) -> Self:
        self.stack.folder.mkdir(parents=True)
        try:
            self.stack.start_redis()
            for lp in self.lps:
                lp.start()
            self.stack.spawn("gateway", "gateway")
            self.stack.spawn("persistence", "persistence")
            self.begun()
        except BaseException:
            self.__exit__()
            raise
        return self

    def begun(self) -> None:
        self.stack.wait_ready("gateway", "persistence")

    def __exit__(self, *_: object) -> None:
        for lp in self.lps:
            lp.kill()
        for process in self.stack.processes.values():
            if process.running:
                process.kill()
        if self.stack.redis is not None:
            self.stack.redis.kill()
        for lp in self.lps:
            lp.wire.close()
            (lp.folder / "wire.txt").write_text(lp.talk(), "utf-8")

    @property
    def gateway(self) -> Process:
        return self.stack.processes["gateway"]

    def wait(
        self, reached: Callable[[], bool], what: str, lp: ForeignLp, status: Status | None = None, poll_s: float = POLL_S
    ) -> None:
        deadline = time.monotonic() + WAIT_S
        while not reached():
            if time.monotonic() > deadline:
                said = f"; the LP says {status}" if status else ""
                raise AssertionError(f"{lp.name}: not within {WAIT_S:.0f} s: {what}{said}; last on the wire:\n{lp.talk(40)}")
            time.sleep(poll_s)

    def wait_stored(self) -> None:
        """Return when the store holds as many ticks as the ledgers, or grows no more: the reckoning says what is missing."""
        stored, since = -1, time.monotonic()
        while (found := self.stored()) < sum(lp.ledger_lines() for lp in self.lps) and time.monotonic() - since < QUIET_S:
            if found != stored:
                stored, since = found, time.monotonic()
            time.sleep(POLL_S)

    def stored(self) -> int:
        return sum(count for (count,) in self.select("SELECT stored FROM account"))

    def select(self, sql: str) -> Iterator[tuple[Any, ...]]:
        """Rows of all days; none while a file is being made."""
        for _, path in Layout(self.stack.data_dir).day_files():
            with contextlib.closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True, timeout=10)) as connection:
                (version,) = connection.execute("PRAGMA user_version").fetchone()
                yield from connection.execute(sql).fetchall() if version else ()

    def finish(self) -> Reckoning:
        """The flow ends, the gateway logs out, all drains and stops: ledger against store. Nothing may be lost or double."""
        for lp in self.lps:
            lp.do("flow", 0, 1)
        self.wait_stored()
        codes = {name: self.stack.processes[name].stop() for name in ("gateway", "persistence")}
        assert codes == {"gateway": 0, "persistence": 0}
        result = reckon([lp.ledger for lp in self.lps], self.stack.data_dir)
        assert result.received > 0
        assert result.sound, f"{result.line()} {result.examples}\n" + "\n".join(lp.talk(40) for lp in self.lps)
        assert not numbering_errors(self.stack.data_dir)
        return result


class Trial(Venue):
    """One session with one LP, in the tests' own words."""

    def __init__(self, folder: Path, engine: Engine, *, reset_on_logon: bool = False, **options: object) -> None:
        self.lp = ForeignLp(engine, folder / "lp", **options)
        self.wire = self.lp.wire
        super().__init__(folder, self.lp)
        self.add_feed(self.lp, reset_on_logon=reset_on_logon)

    def begun(self) -> None:
        super().begun()
        self.wait_subscribed()

    def restart_gateway(self) -> None:
        self.stack.spawn("gateway", "gateway")

    def up(self) -> bool:
        return self.gateway.metrics().get(f'fix_session_up{{session="{NAME}"}}') == 1.0

    def wait_for(self, reached: Callable[[], bool], what: str) -> None:
        self.wait(reached, what, self.lp)

    def wait_subscribed(self, logons: int = 1) -> Status:
        """Return when the LP has been logged on to this often since it started, and quotes everything."""
        status: Status = {}

        def reached() -> bool:
            status.update(self.lp.do("status"))
            return status["logons"] >= logons and status["subscribed"] == SYMBOLS and self.up()

        self.wait(reached, f"logon {logons} with all subscriptions", self.lp, status)
        return status

    def wait_sent(self, more: int) -> None:
        """Return when the flow has brought this many ticks more."""
        target = self.lp.do("status")["sent"] + more
        self.wait_for(lambda: self.lp.do("status")["sent"] >= target, f"{more} more ticks of the flow")

    def wait_message(self, kind: str, *, from_lp: bool, count: int = 1) -> None:
        self.wait_for(lambda: len(self.wire.messages(kind, from_lp=from_lp)) >= count, f"{count} messages of type {kind}")

    def gaps(self) -> list[tuple[Any, ...]]:
        """first_seq, last_seq, cause, resolved_by."""
        return list(self.select("SELECT first_seq, last_seq, cause, resolved_by FROM gaps"))

    def refusals(self) -> list[Seen]:
        """Rejects of either side."""
        return self.wire.messages("3j")

    def logouts_of_ours(self) -> list[str | None]:
        return [message.get(58) for message in self.wire.messages("5", from_lp=False)]
