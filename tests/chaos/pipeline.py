"""A pipeline under test: simulated LPs with ledgers, one Redis, gateway and persistence on one data folder."""

import contextlib
import shutil
import sqlite3
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from libs.common.runtime.ports import free_port
from libs.common.store import Layout
from libs.common.store.layout import journal_dir
from libs.common.testing.reckoning import LedgerTail, Reckoning, compare, numbering_errors, reckon
from libs.common.testing.redis_server import start_redis
from libs.common.testing.stack import Process, Stack
from tests.chaos.disk import Disk, NoDisk

DRAIN_TIMEOUT_S = 90.0  # a reconnect may wait for 30 s, a stalled LP takes its time
POLL_S = 0.03
HEARTBEAT_S = 2
DATA_DISK_MEGABYTES, REDIS_DISK_MEGABYTES = 6_000, 1_000  # of memory, as far as they are used
SETTINGS = {
    "TICKVAULT_STREAM_REPLAY_HOURS": "0.005",  # 18 s: so that trimming happens while things go wrong
    "TICKVAULT_GATEWAY_SEGMENT_BYTES": "1000000",  # a new segment every few seconds
}
REDIS_OPTIONS = ("--aof-use-rdb-preamble", "no")  # so that the file may be cut anywhere

_STORED_SINCE = """SELECT 1 FROM providers p CROSS JOIN symbols s
    CROSS JOIN ticks t ON t.symbol_id = s.symbol_id AND t.ts >= ?2 AND t.provider_id = p.provider_id
    WHERE p.provider = ?1 LIMIT 1"""


class ChaosFailed(Exception):
    """The pipeline did not do what it promises; the text says what."""


@dataclass(frozen=True, slots=True)
class Provider:
    """A simulated LP. One that keeps its numbers resends what was not received; one that does not begins anew at each logon."""

    name: str
    arguments: tuple[str, ...]
    keeps_numbers: bool = False
    feed: dict[str, object] = field(default_factory=dict)  # further keys of its table in the feeds file


class Pipeline:
    """`in_flight`: the most ticks that had been sent and were not stored while something struck; to be set back by the caller."""

    def __init__(self, folder: Path, *providers: Provider, own_disks: bool = False, **settings: str) -> None:
        self.folder = folder
        self.providers = {provider.name: provider for provider in providers}
        self.stack = Stack(folder, settings=SETTINGS | settings)
        self.redis_folder = folder / "redis"
        self.data_disk = Disk(self.stack.data_dir, DATA_DISK_MEGABYTES)
        self.redis_disk = Disk(self.redis_folder, REDIS_DISK_MEGABYTES)
        self.no_disk = "" if own_disks else "this pipeline has no disks of its own"  # why they cannot be filled
        self.ledgers = {name: LedgerTail(folder / f"ledger-{name}.csv") for name in self.providers}
        self.ports: dict[str, int] = {}
        self.in_flight = 0
        self._reckoned_until = 0
        self._unstored = 0  # ledger lines known to be in gaps, or lost

    def __enter__(self) -> Self:
        """Redis and the LPs run; gateway and persistence are the caller's to start."""
        self.folder.mkdir(parents=True, exist_ok=True)
        try:
            self._start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for process in self.stack.processes.values():
            if process.running:
                process.kill()
        if self.stack.redis is not None:
            self.stack.redis.kill()
        self.data_disk.unmount()
        self.redis_disk.unmount()

    def _start(self) -> None:
        if not self.no_disk:
            try:
                self.data_disk.mount()
                self.redis_disk.mount()
            except NoDisk as error:
                self.no_disk = str(error)
        self.stack.redis = start_redis(self.redis_folder, *REDIS_OPTIONS)
        self.stack.redis_url = self.stack.redis.url
        for name, provider in self.providers.items():
            port = self.ports[name] = free_port()
            reset = not provider.keeps_numbers
            self.stack.add_feed(name, port, heartbeat_s=HEARTBEAT_S, reset_on_logon=reset, **provider.feed)
            line = ("--port", str(port), "--provider", name, "--ledger", str(self.ledgers[name].path))
            resend = ("--resend", "full" if provider.keeps_numbers else "gapfill")
            self.stack.spawn(name, "simulator", *line, *resend, *provider.arguments)
        self.stack.wait_ready(*self.providers)

    # ---- what scenarios use

    @property
    def gateway(self) -> Process:
        return self.stack.processes["gateway"]

    @property
    def persistence(self) -> Process:
        return self.stack.processes["persistence"]

    def start(self, *services: str, chaos_point: str = "") -> None:
        for service in services:
            self.stack.spawn(service, service, **({"CHAOS_POINT": chaos_point} if chaos_point else {}))

    def kill(self, *services: str) -> None:
        for service in services:
            self.stack.processes[service].kill()
        self.note_in_flight()

    def terminate(self, service: str) -> None:
        code = self.stack.processes[service].stop()
        if code:
            raise ChaosFailed(f"{service} ends with {code} at SIGTERM: {self._log(service)}")

    def fault(self, provider: str, kind: str, **query: float) -> None:
        parameters = "&".join(f"{name}={value:g}" for name, value in query.items())
        status = self.stack.processes[provider].post(f"/faults/{kind}?{parameters}")
        if status != 202:
            raise ChaosFailed(f"the simulator answers {status} to fault {kind}")

    def repair(self) -> None:
        """After a failed round: everything runs again, on the same data."""
        self.data_disk.free()
        self.redis_disk.free()
        if self.stack.redis is not None and (self.stack.redis.process is None or self.stack.redis.process.poll() is not None):
            self.stack.redis.start()
        for service in ("gateway", "persistence"):
            self.stack.processes[service].kill()
            self.start(service)

    def empty_redis(self) -> None:
        """What a Redis without persistence, or with a new disk, comes back with."""
        for path in self.redis_folder.iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()

    def lasting(self, seconds: float) -> None:
        """The time an outage takes, not a wait for something; how many ticks it catches is noted on the way."""
        until = time.monotonic() + seconds
        while (left_s := until - time.monotonic()) > 0:
            time.sleep(min(0.2, left_s))
            self.note_in_flight()

    def note_in_flight(self) -> None:
        for ledger in self.ledgers.values():
            ledger.read()
        sent = sum(ledger.lines for ledger in self.ledgers.values())
        self.in_flight = max(self.in_flight, sent - self._unstored - self.stored())

    def wait_for_death(self, service: str, timeout_s: float) -> bool:
        """Whether the process ended itself at its point."""
        process = self.stack.processes[service]
        with contextlib.suppress(ChaosFailed):
            wait_until(lambda: not process.running, lambda: service, timeout_s)
        self.note_in_flight()
        assert process.popen is not None
        return process.popen.returncode == -9

    # ---- what is stored

    def stored(self) -> int:
        """Rows, as the account counts them."""
        found = 0
        for _, path in Layout(self.stack.data_dir).day_files():
            with _opened(path) as connection:
                found += sum(count for (count,) in _select(connection, "SELECT stored FROM account"))
        return found

    def watermarks(self) -> dict[str, int]:
        """Session → the position the store says is durable."""
        found: dict[str, int] = {}
        for _, path in Layout(self.stack.data_dir).day_files():
            with _opened(path) as connection:
                for session, position in _select(connection, "SELECT session, position FROM watermark"):
                    found[session] = max(position, found.get(session, 0))
        return found

    def wait_recovered(self) -> int:
        """Return when everything the LPs sent until now is durable or in a recorded gap; that moment (ns), of the market."""
        for service in ("gateway", "persistence"):
            self._check_running(service)
        self.stack.wait_ready("gateway", "persistence")
        cut = time.time_ns()
        wait_until(lambda: all(self._stored_since(name, cut) for name in self.providers), self._state)
        self.wait_durable()
        return cut

    def wait_durable(self) -> None:
        """Return when the store has everything the journals hold at this moment."""
        ends = journal_ends(self.stack.data_dir)
        wait_until(lambda: self._reached(ends), self._state)

    def _reached(self, ends: dict[str, int]) -> bool:
        positions = self.watermarks()
        return all(positions.get(name, 0) >= end for name, end in ends.items())

    def _stored_since(self, provider: str, ts: int) -> bool:
        """Ticks are stored in the order they came, so all before are, too, once the watermark has passed them."""
        for _, path in reversed(Layout(self.stack.data_dir).day_files()):
            with _opened(path) as connection:
                if _select(connection, _STORED_SINCE, provider, ts):
                    return True
        return False

    def reckon_round(self, cut: int) -> Reckoning:
        """The ledgers from the last cut to this one."""
        lines = [line for ledger in self.ledgers.values() for line in ledger.until(cut)]
        result = compare(lines, self.stack.data_dir, (self._reckoned_until, cut))
        self._reckoned_until = cut
        self._unstored += result.in_gaps + result.lost
        return result

    def drain(self) -> None:
        """The LPs log out, everything drains and stops."""
        for name in self.providers:
            self.terminate(name)
        self.wait_durable()
        self.terminate("gateway")
        self.wait_durable()
        self.terminate("persistence")

    def finish(self) -> tuple[Reckoning, list[str]]:
        """Drained, all ledgers against all days, and the account."""
        self.drain()
        data_dir = self.stack.data_dir
        return reckon([ledger.path for ledger in self.ledgers.values()], data_dir), numbering_errors(data_dir)

    # ---- when it fails

    def _check_running(self, service: str) -> None:
        if not self.stack.processes[service].running:
            raise ChaosFailed(f"{service} has ended by itself: {self._log(service)}")

    def _state(self) -> str:
        positions = self.watermarks()
        return f"journals end at {journal_ends(self.stack.data_dir)}, the store has {positions}; logs in {self.folder}"

    def _log(self, service: str) -> str:
        return self.stack.processes[service].log.read_text("utf-8", "replace")[-1500:]


def journal_ends(data_dir: Path) -> dict[str, int]:
    """Session → the end of its journal on disk."""
    ends: dict[str, int] = {}
    for folder in journal_dir(data_dir).iterdir():
        last = max(folder.glob("*.journal"), default=None)
        if last is not None:
            ends[folder.name] = int(last.stem) + last.stat().st_size
    return ends


def wait_until(reached: Callable[[], bool], state: Callable[[], str], timeout_s: float = DRAIN_TIMEOUT_S) -> None:
    deadline = time.monotonic() + timeout_s
    while not reached():
        if time.monotonic() > deadline:
            raise ChaosFailed(f"not within {timeout_s:.0f} s: {state()}")
        time.sleep(POLL_S)


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[sqlite3.Connection]:
    with contextlib.closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True, timeout=10)) as connection:
        yield connection


def _select(connection: sqlite3.Connection, sql: str, *parameters: object) -> list[tuple[Any, ...]]:
    """Nothing while the file is being made."""
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    return connection.execute(sql, parameters).fetchall() if version else []
