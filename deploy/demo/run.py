"""The demo from start to reckoning.

    lock ─▶ Redis ─▶ providers, gateway, persistence, distribution ─▶ ready ─▶ view, once a second ─▶ Ctrl-C or DEMO_SECONDS
    last line ◀── ledgers against the store ◀── Redis ends ◀── the others end ◀── all is durable ◀── providers log out ◀┘

A child that dies or falls silent ends the demo with its name and its log. Ctrl-C once: an orderly end; twice: at once. Either
way no process stays behind.
"""

import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rich.console import Console

from deploy.demo import leftover
from deploy.demo.sample import Probe
from deploy.demo.view import Facts, open_view, step
from libs.common.bus import BusRefused, RedisBus
from libs.common.domain.errors import Retryable
from libs.common.runtime.ports import free_port
from libs.common.testing.reckoning import Reckoning, reckon
from libs.common.testing.redis_server import NoRedis, RedisServer
from libs.common.testing.stack import Stack

PROVIDERS = ("LP1", "LP2")
SYMBOLS = 128
RATE_EACH = 1_000  # quotes/s
HTTP_PORT = 8080  # distribution's well-known one
STREAM_BYTES_MAX = 200_000_000  # of Redis's memory; a demo may run for days
READY_TIMEOUT_S = 60.0
SILENCE_MAX_S = 15.0  # a process that has not answered HTTP for this long hangs
DURABLE_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 45.0  # longer than a service's own drain
KILL_TIMEOUT_S = 5.0  # between SIGTERM and SIGKILL after a failure
SAMPLE_S = 1.0
LOG_LINES = 5

OK, FAILED, UNUSABLE, INTERRUPTED = 0, 1, 2, 130


class DemoFailed(Exception):  # noqa: N818
    """The text says what happened and where to look."""


class Interrupted(BaseException):
    """Ctrl-C while nothing has been started in full, or for the second time."""


def run(folder: Path, seconds: float | None) -> int:
    """Until the end; the exit code. The last line of an orderly end is the reckoning."""
    console = Console(highlight=False)
    console.print("[bold cyan]TickVault[/] demo")
    folder.mkdir(parents=True, exist_ok=True)
    folder = folder.resolve()
    try:
        with leftover.occupied(folder):
            if names := leftover.end_leftovers(folder):
                console.print(f"  ended what an earlier demo had left running: {', '.join(names)}")
            return Demo(folder, console).run(seconds)
    except (leftover.Occupied, NoRedis) as error:
        print(f"demo: {error}", file=sys.stderr)
        return UNUSABLE


class Demo:
    def __init__(self, folder: Path, console: Console) -> None:
        self._folder = folder
        self._console = console
        self._stack = Stack(folder, settings={"TICKVAULT_STREAM_BYTES_MAX": str(STREAM_BYTES_MAX)})
        self._ending = threading.Event()
        self._may_interrupt = True  # at once: while starting, and at the second signal

    def run(self, seconds: float | None) -> int:
        with self._signals():
            try:
                self._start()
                self._watch(seconds)
                return self._end()
            except DemoFailed as error:
                self._kill(KILL_TIMEOUT_S)
                print(f"demo: {error}", file=sys.stderr)
                return FAILED
            except Interrupted:
                self._kill(0)
                print("demo: interrupted; what was received is in the journals, the next run stores it", file=sys.stderr)
                return INTERRUPTED
            finally:
                self._kill(KILL_TIMEOUT_S)

    # ---- start

    def _start(self) -> None:
        stack, console = self._stack, self._console
        with step(console, "Redis"):
            self._start_redis()
        ports = {name: free_port() for name in PROVIDERS}
        for name, port in ports.items():
            stack.add_feed(name, port)
        for number, (name, port) in enumerate(ports.items(), 1):
            self._spawn(
                name, "simulator", "--provider", name, "--port", str(port), "--ledger", str(self._ledger(name)),
                "--symbols", str(SYMBOLS), "--rate", str(RATE_EACH), "--seed", str(number),
            )  # fmt: skip
        self._spawn("gateway", "gateway")
        self._spawn("persistence", "persistence")
        http_port = HTTP_PORT if _is_free(HTTP_PORT) else free_port()
        self._spawn("distribution", "distribution", TICKVAULT_DISTRIBUTION_HTTP_PORT=str(http_port))
        with step(console, f"providers {' and '.join(PROVIDERS)}, {SYMBOLS} symbols each"):
            self._wait_ready(*PROVIDERS)
        for name in ("gateway", "persistence", "distribution"):
            with step(console, name):
                self._wait_ready(name)
        self._may_interrupt = False

    def _start_redis(self) -> None:
        """TICKVAULT_REDIS_URL's, else one of our own, which continues on its append-only file."""
        stack = self._stack
        stack.redis_url = os.environ.get("TICKVAULT_REDIS_URL", "")
        if stack.redis_url:
            asyncio.run(_check_redis(stack.redis_url))
            return
        server = RedisServer(self._folder / "redis", free_port(), ("--appendonly", "yes", "--appendfsync", "everysec"))
        stack.redis, stack.redis_url = server, server.url
        with self._uninterrupted():
            try:
                server.start()
            except NoRedis as error:
                if server.process is None:
                    raise
                raise DemoFailed(f"{error}. If its file is damaged, delete {server.folder}: no tick is lost by that") from error
            self._note()

    def _spawn(self, name: str, service: str, *arguments: str, **settings: str) -> None:
        with self._uninterrupted():
            self._stack.spawn(name, service, *arguments, **settings)
            self._note()

    @contextlib.contextmanager
    def _uninterrupted(self) -> Iterator[None]:
        """A process that was just started must be known before anything may end the demo."""
        self._may_interrupt = False
        yield
        self._may_interrupt = True
        if self._ending.is_set():
            raise Interrupted

    def _note(self) -> None:
        pids = {name: process.popen.pid for name, process in self._stack.processes.items() if process.popen is not None}
        if self._stack.redis is not None and self._stack.redis.process is not None:
            pids["redis"] = self._stack.redis.process.pid
        leftover.note(self._folder, pids)

    def _wait_ready(self, *names: str) -> None:
        for name in names:
            deadline = time.monotonic() + READY_TIMEOUT_S
            answer: Any = None
            while not (answer := self._stack.processes[name].get("/readyz", timeout_s=2)) or not answer.get("ready"):
                self._check_alive()
                if time.monotonic() > deadline:
                    why = json.dumps(answer["obstacles"]) if answer else "it does not answer"
                    raise DemoFailed(f"{name} is not ready after {READY_TIMEOUT_S:.0f} s: {why}. {self._log_of(name)}")
                time.sleep(0.05)

    # ---- while it runs

    def _watch(self, seconds: float | None) -> None:
        began = time.monotonic()
        ends_at = None if seconds is None else began + seconds
        facts = Facts(PROVIDERS, SYMBOLS, self._urls(), began, ends_at)
        with self._probe() as probe, open_view(self._console, facts) as view:
            due = began
            while not self._ending.is_set() and (ends_at is None or time.monotonic() < ends_at):
                self._check_alive()
                view.show(probe.sample())
                if (name := probe.silent(SILENCE_MAX_S)) is not None:
                    raise DemoFailed(f"{name} has not answered for {SILENCE_MAX_S:.0f} s: it hangs. {self._log_of(name)}")
                due = max(due + SAMPLE_S, time.monotonic())
                self._ending.wait(min(due, ends_at or due) - time.monotonic())

    def _urls(self) -> tuple[tuple[str, str], ...]:
        site = f"http://127.0.0.1:{self._stack.processes['distribution'].http_port}"
        today = time.strftime("%Y-%m-%d", time.gmtime())
        return (
            (f"{site}/api/quotes/latest/EUR/USD", "newest quotes"),
            (f"{site}/api/history/ticks/EUR/USD?start={today}&limit=5", "ticks of today"),
            (f"{site}/api/history/symbols", "symbols"),
            (f"{site}/api/history/available", "days on disk"),
            (f"{site}/api/pipeline/stats", "account and lag"),
            (f"{site}/openapi.json", "the whole API"),
        )

    def _probe(self) -> contextlib.closing[Probe]:
        return contextlib.closing(Probe(self._stack.processes, [self._ledger(name) for name in PROVIDERS]))

    def _check_alive(self, *names: str) -> None:
        """DemoFailed where one of them, or of all there are, has ended."""
        for name in names or self._stack.processes:
            if (code := self._child(name).poll()) is not None:
                raise DemoFailed(f"{name} has {_ended(code)}. {self._log_of(name)}")
        redis = self._stack.redis
        if redis is not None and redis.process is not None and (code := redis.process.poll()) is not None:
            raise DemoFailed(f"Redis has {_ended(code)}. Its log: {redis.folder / 'redis.log'}")

    def _child(self, name: str) -> subprocess.Popen[bytes]:
        child = self._stack.processes[name].popen
        assert child is not None, "spawn starts it"
        return child

    def _log_of(self, name: str) -> str:
        path = self._stack.processes[name].log
        last = path.read_text("utf-8", "replace").splitlines()[-LOG_LINES:] if path.exists() else []
        return "\n".join([f"Its log: {path}", *(f"    {line[:300]}" for line in last)])

    # ---- end

    def _end(self) -> int:
        """Providers first, then everything until it is durable, then the rest, then the reckoning."""
        console = self._console
        with step(console, "the providers log out"):
            self._stop(*PROVIDERS)
        with self._probe() as probe, step(console, "everything becomes durable"):
            self._wait_durable(probe)
        with step(console, "gateway, persistence and distribution end"):
            self._stop("gateway")
            self._stop("persistence", "distribution")
            if self._stack.redis is not None:
                self._stack.redis.stop()
        with step(console, "the ledgers are held against the store"):
            result = reckon([self._ledger(name) for name in PROVIDERS], self._stack.data_dir)
        return self._report(result)

    def _stop(self, *names: str) -> None:
        processes = {name: self._child(name) for name in names}
        for process in processes.values():
            process.terminate()
        for name, process in processes.items():
            try:
                code = process.wait(STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                raise DemoFailed(f"{name} does not end within {STOP_TIMEOUT_S:.0f} s. {self._log_of(name)}") from None
            if code != OK:
                raise DemoFailed(f"{name} has {_ended(code)} when it was to stop. {self._log_of(name)}")

    def _wait_durable(self, probe: Probe) -> None:
        deadline = time.monotonic() + DURABLE_TIMEOUT_S
        settled = 0
        while settled < 2:  # the gateway may still be writing down that the line is closed
            settled = settled + 1 if probe.settled() else 0
            self._check_alive("gateway", "persistence", "distribution")
            if time.monotonic() > deadline:
                raise DemoFailed(f"not everything is durable after {DURABLE_TIMEOUT_S:.0f} s. {self._log_of('persistence')}")
            time.sleep(0.1)

    def _report(self, result: Reckoning) -> int:
        if result.in_gaps:
            print(f"  {result.in_gaps} quotes are not stored and lie in a recorded gap or in quarantine")
        if result.lost:
            print("demo: lost, for example:", *result.examples, sep="\n    ", file=sys.stderr)
        self._console.print(f"  data, ledgers and logs: {self._folder}", soft_wrap=True)
        sys.stderr.flush()
        print(
            f"received={result.received} stored={result.stored} duplicates={result.duplicates} "
            f"quarantined={result.quarantined} lost={result.lost}",
            flush=True,
        )
        return FAILED if result.lost else OK

    def _ledger(self, name: str) -> Path:
        return self._folder / f"{name}.ledger.csv"

    def _kill(self, timeout_s: float) -> None:
        """End whatever still runs: SIGTERM to all, SIGKILL to those that are not gone after timeout_s."""
        running = [process.popen for process in self._stack.processes.values() if process.popen is not None and process.running]
        redis = self._stack.redis
        if redis is not None and redis.process is not None:
            running.append(redis.process)
        deadline = time.monotonic() + timeout_s
        for popen in running if timeout_s else ():
            popen.terminate()
        while time.monotonic() < deadline and any(popen.poll() is None for popen in running):
            time.sleep(0.02)
        for popen in running:
            popen.kill()
            popen.wait()
        leftover.forget(self._folder)

    @contextlib.contextmanager
    def _signals(self) -> Iterator[None]:
        def handle(_number: int, _frame: object) -> None:
            if self._may_interrupt or self._ending.is_set():
                for number in numbers:
                    signal.signal(number, signal.SIG_IGN)  # killing takes a moment and must not be interrupted
                raise Interrupted
            self._ending.set()

        numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        before = {number: signal.signal(number, handle) for number in numbers}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


async def _check_redis(url: str) -> None:
    bus = RedisBus(url)
    try:
        await bus.check(partitions=1)
    except (Retryable, BusRefused) as error:
        raise NoRedis(f"the Redis of TICKVAULT_REDIS_URL cannot be used: {error}") from error
    finally:
        await bus.close()


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the server does: an old connection is no obstacle
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def _ended(code: int | None) -> str:
    """An exit code as people say it."""
    if code is not None and code < 0:
        try:
            return f"ended by {signal.Signals(-code).name}"
        except ValueError:
            pass
    return f"ended with exit code {code}"
