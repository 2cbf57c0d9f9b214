"""A foreign LP, the wire, the gateway and the store: what the tests of both engines drive."""

import contextlib
import json
import selectors
import sqlite3
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Self

from libs.common.store import Layout
from libs.common.testing.reckoning import Reckoning, numbering_errors, reckon
from libs.common.testing.redis_server import free_port
from libs.common.testing.stack import Process, Stack
from tests.foreign.wire import Wire

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
    """The engine's process. What it was told is done when `do` returns."""

    def __init__(self, engine: Engine, folder: Path, ledger: Path, port: int, **options: object) -> None:
        given = {"name": NAME, "port": port, "folder": str(folder), "ledger": str(ledger), "symbols": SYMBOLS}
        self._command, self._environment = engine(json.dumps(given | {"heartbeat_s": HEARTBEAT_S} | options))
        self._log = folder.parent / "lp.log"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> Status:
        with self._log.open("ab") as log:
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
        assert self._process is not None
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            with contextlib.suppress(OSError):
                pipe.close()

    def signal(self, number: int) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def _answer(self) -> Status:
        assert self._process is not None
        assert self._process.stdout is not None
        with selectors.DefaultSelector() as selector:
            selector.register(self._process.stdout, selectors.EVENT_READ)
            if not selector.select(ANSWER_S):
                raise AssertionError(f"the LP does not answer: see {self._log}")
        line = self._process.stdout.readline()
        if not line:
            raise AssertionError(f"the LP has ended: {self._log.read_text('utf-8', 'replace')[-2000:]}")
        status: Status = json.loads(line)
        return status


class Trial:
    """One session of the gateway with one LP, and the store behind it. Gateway and LP see each other through a wire."""

    def __init__(self, folder: Path, engine: Engine, *, reset_on_logon: bool = False, **options: object) -> None:
        lp_port = free_port()
        self.folder = folder
        self.ledger = folder / "ledger.csv"
        self.wire = Wire(lp_port)
        self.lp = ForeignLp(engine, folder / "lp", self.ledger, lp_port, **options)
        self.stack = Stack(folder / "stack")
        self.stack.add_feed(NAME, self.wire.port, heartbeat_s=HEARTBEAT_S, reset_on_logon=reset_on_logon)

    def __enter__(self) -> Self:
        self.stack.folder.mkdir(parents=True)
        try:
            self.stack.start_redis()
            self.lp.start()
            self.stack.spawn("gateway", "gateway")
            self.stack.spawn("persistence", "persistence")
            self.stack.wait_ready("gateway", "persistence")
            self.wait_subscribed()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.lp.kill()
        for process in self.stack.processes.values():
            if process.running:
                process.kill()
        if self.stack.redis is not None:
            self.stack.redis.kill()
        self.wire.close()
        talk = "\n".join(map(str, self.wire.messages()))
        (self.folder / "wire.txt").write_text(talk, "utf-8")

    @property
    def gateway(self) -> Process:
        return self.stack.processes["gateway"]

    def restart_gateway(self) -> None:
        self.stack.spawn("gateway", "gateway")

    def up(self) -> bool:
        return self.gateway.metrics().get(f'fix_session_up{{session="{NAME}"}}') == 1.0

    # ---- waiting

    def wait(self, reached: Callable[[], bool], what: str, status: Status | None = None) -> None:
        deadline = time.monotonic() + WAIT_S
        while not reached():
            if time.monotonic() > deadline:
                talk = "\n".join(map(str, self.wire.messages()[-40:]))
                said = f"; the LP says {status}" if status else ""
                raise AssertionError(f"not within {WAIT_S:.0f} s: {what}{said}; last on the wire:\n{talk}")
            time.sleep(POLL_S)

    def wait_subscribed(self, logons: int = 1) -> Status:
        """Return when the LP has been logged on to this often since it started, and quotes everything."""
        status: Status = {}

        def reached() -> bool:
            status.update(self.lp.do("status"))
            return status["logons"] >= logons and status["subscribed"] == SYMBOLS and self.up()

        self.wait(reached, f"logon {logons} with all subscriptions", status)
        return status

    def wait_sent(self, more: int) -> None:
        """Return when the flow has brought this many ticks more."""
        target = self.lp.do("status")["sent"] + more
        self.wait(lambda: self.lp.do("status")["sent"] >= target, f"{more} more ticks of the flow")

    def wait_message(self, kind: str, *, from_lp: bool, count: int = 1) -> None:
        self.wait(lambda: len(self.wire.messages(kind, from_lp=from_lp)) >= count, f"{count} messages of type {kind}")

    def wait_stored(self) -> None:
        """Return when the store holds as many ticks as the ledger, or grows no more: the reckoning says what is missing."""
        stored, since = -1, time.monotonic()
        while (found := self.stored()) < self.ledger_lines() and time.monotonic() - since < QUIET_S:
            if found != stored:
                stored, since = found, time.monotonic()
            time.sleep(POLL_S)

    # ---- results

    def ledger_lines(self) -> int:
        return self.ledger.read_bytes().count(b"\n") - 1

    def stored(self) -> int:
        found = 0
        for _, path in Layout(self.stack.data_dir).day_files():
            with contextlib.closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True, timeout=10)) as connection:
                (version,) = connection.execute("PRAGMA user_version").fetchone()
                found += connection.execute("SELECT coalesce(sum(stored), 0) FROM account").fetchone()[0] if version else 0
        return found

    def gaps(self) -> list[tuple[Any, ...]]:
        """first_seq, last_seq, cause, resolved_by."""
        found: list[tuple[Any, ...]] = []
        for _, path in Layout(self.stack.data_dir).day_files():
            with contextlib.closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True, timeout=10)) as connection:
                found += connection.execute("SELECT first_seq, last_seq, cause, resolved_by FROM gaps").fetchall()
        return found

    def finish(self) -> Reckoning:
        """The flow ends, the gateway logs out, all drains and stops: ledger against store. Nothing may be lost or double."""
        self.lp.do("flow", 0, 1)
        self.wait_stored()
        codes = {name: self.stack.processes[name].stop() for name in ("gateway", "persistence")}
        assert codes == {"gateway": 0, "persistence": 0}
        result = reckon([self.ledger], self.stack.data_dir)
        talk = "\n".join(map(str, self.wire.messages()[-40:]))
        assert result.received > 0
        assert result.sound, f"{result.line()} {result.examples}\n{talk}"
        assert not numbering_errors(self.stack.data_dir)
        return result
