"""A whole TickVault of real processes on this machine, for tests, benchmarks and the demo.

Stack(folder) ─▶ redis, simulators ─▶ feeds.toml ─▶ gateway, persistence, distribution
"""

import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from libs.common.runtime.ports import free_port
from libs.common.testing.redis_server import RedisServer, start_redis

ROOT = Path(__file__).resolve().parents[3]
READY_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 45.0


@dataclass(slots=True)
class Process:
    """One service process; its log is `folder/NAME.log`."""

    name: str
    command: list[str]
    environment: dict[str, str]
    log: Path
    http_port: int
    popen: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self.log.open("ab") as log:
            self.popen = subprocess.Popen(
                self.command, env=self.environment, stdout=log, stderr=log, cwd=ROOT, start_new_session=True
            )

    @property
    def running(self) -> bool:
        return self.popen is not None and self.popen.poll() is None

    def kill(self) -> None:
        """Kill -9."""
        assert self.popen is not None
        self.popen.kill()
        self.popen.wait()

    def stop(self) -> int:
        """SIGTERM and wait; the exit code."""
        assert self.popen is not None
        if self.popen.poll() is None:
            self.popen.send_signal(signal.SIGTERM)
        try:
            return self.popen.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self.popen.kill()
            self.popen.wait()
            return -9

    def get(self, path: str, timeout_s: float = 10.0) -> Any:
        """JSON of a GET, whatever the status; None where nothing answers."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.http_port}{path}", timeout=timeout_s) as answer:
                body = answer.read()
        except urllib.error.HTTPError as error:
            body = error.read()
        except OSError:
            return None
        return json.loads(body)

    def metrics(self) -> dict[str, float]:
        """The samples of /metrics by name and labels."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.http_port}/metrics", timeout=10) as answer:
            lines = answer.read().decode().splitlines()
        return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines if line and line[0] != "#")}

    def post(self, path: str) -> int:
        """The status of a POST without a body."""
        request = urllib.request.Request(f"http://127.0.0.1:{self.http_port}{path}", method="POST")
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310 - always http
                return int(answer.status)
        except urllib.error.HTTPError as error:
            return error.code

    def memory_bytes(self) -> int:
        """Resident set."""
        assert self.popen is not None
        (line,) = re.findall(r"VmRSS:\s*(\d+) kB", Path(f"/proc/{self.popen.pid}/status").read_text("ascii"))
        return int(line) * 1024


@dataclass(slots=True)
class Stack:
    """Processes with one Redis and one data folder. Everything lies in `folder`, logs included."""

    folder: Path
    redis: RedisServer | None = None
    redis_url: str = ""
    processes: dict[str, Process] = field(default_factory=dict)
    settings: dict[str, str] = field(default_factory=dict)
    feeds: list[str] = field(default_factory=list)

    @property
    def data_dir(self) -> Path:
        return self.folder / "data"

    def start_redis(self, *options: str) -> None:
        """TICKVAULT_REDIS_URL's, else one of our own."""
        self.redis_url = os.environ.get("TICKVAULT_REDIS_URL", "")
        if not self.redis_url:
            self.redis = start_redis(self.folder / "redis", *options)
            self.redis_url = self.redis.url

    def add_feed(self, name: str, port: int, **options: object) -> None:
        """A `[[fix]]` table; options are its keys."""
        keys = {"name": name, "host": "127.0.0.1", "port": port, "sender_comp_id": "TICKVAULT", "target_comp_id": name, **options}
        self.feeds.append("[[fix]]\n" + "\n".join(f"{key} = {json.dumps(value)}" for key, value in keys.items()))

    def spawn(self, name: str, service: str, *arguments: str, **settings: str) -> Process:
        """Start `python -m services.SERVICE` under a name of its own."""
        self.folder.mkdir(parents=True, exist_ok=True)
        feeds_file = self.folder / "feeds.toml"
        feeds_file.write_text("\n\n".join(self.feeds) + "\n", "utf-8")
        http_port = int(settings.get(f"TICKVAULT_{service.upper()}_HTTP_PORT") or free_port())
        environment = {key: value for key, value in os.environ.items() if not key.startswith("TICKVAULT_")}
        environment |= {
            "TICKVAULT_REDIS_URL": self.redis_url,
            "TICKVAULT_DATA_DIR": str(self.data_dir),
            "TICKVAULT_FEEDS_FILE": str(feeds_file),
            f"TICKVAULT_{service.upper()}_HTTP_PORT": str(http_port),
            **self.settings,
            **settings,
        }
        command = [sys.executable, "-m", f"services.{service}", *arguments]
        process = Process(name, command, environment, self.folder / f"{name}.log", http_port)
        self.processes[name] = process
        process.start()
        return process

    def wait_ready(self, *names: str) -> None:
        """Return when each named process answers /readyz with 200; AssertionError with its log's end where it does not."""
        for name in names:
            process = self.processes[name]
            deadline = time.monotonic() + READY_TIMEOUT_S
            answer = None
            while time.monotonic() < deadline and process.running:
                answer = process.get("/readyz", timeout_s=2)
                if answer is not None and answer.get("ready"):
                    break
                time.sleep(0.05)
            else:
                log = process.log.read_text("utf-8", "replace")[-2000:]
                raise AssertionError(f"{name} is not ready: {answer}\n{log}")

    def stop(self) -> dict[str, int]:
        """Stop everything that runs, in the order of the flow; exit codes by name."""
        codes = {name: process.stop() for name, process in self.processes.items() if process.running}
        if self.redis is not None:
            self.redis.stop()
        return codes
