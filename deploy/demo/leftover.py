"""One demo a folder, and what one that was killed has left running is ended before the next one starts.

FOLDER/demo.lock       held by the demo that runs; the system releases it when that one dies
FOLDER/running.json    name → pid and start time of its processes; gone after an orderly end
"""

import contextlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from libs.common.platform import try_lock

END_TIMEOUT_S = 10.0  # of a process that was left over, until it is killed
POLL_S = 0.05


class Occupied(Exception):  # noqa: N818
    """Another demo runs in this folder."""


@contextlib.contextmanager
def occupied(folder: Path) -> Iterator[None]:
    """Hold the folder; Occupied where another demo does."""
    path = folder / "demo.lock"
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        if not try_lock(descriptor):
            owner = os.pread(descriptor, 20, 0).decode("ascii", "replace").strip() or "unknown"
            raise Occupied(f"another demo runs in {folder} (pid {owner}): end it first, or pass --folder")
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        os.close(descriptor)


def note(folder: Path, pids: Mapping[str, int]) -> None:
    """Write down what runs, so that the next demo can end it should this one be killed."""
    found = {name: [pid, _started(pid)] for name, pid in pids.items()}
    new = folder / "running.json.new"
    new.write_text(json.dumps(found), "ascii")
    new.replace(folder / "running.json")


def forget(folder: Path) -> None:
    (folder / "running.json").unlink(missing_ok=True)


def end_leftovers(folder: Path) -> list[str]:
    """End what a killed demo left running, in order first and by force then; the names."""
    try:
        noted = json.loads((folder / "running.json").read_text("ascii"))
        processes = {name: (int(pid), str(started)) for name, (pid, started) in noted.items()}
    except (FileNotFoundError, ValueError, TypeError, AttributeError):
        return []
    alive = {name: pid for name, (pid, started) in processes.items() if started and _started(pid) == started}
    redis = alive.pop("redis", None)
    _end(list(alive.values()))
    if redis is not None:  # the others need it to end in order
        _end([redis])
    forget(folder)
    return [*alive, *(["redis"] if redis is not None else [])]


def _end(pids: list[int]) -> None:
    for number in (signal.SIGTERM, signal.SIGKILL):
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
        deadline = time.monotonic() + END_TIMEOUT_S
        while time.monotonic() < deadline and (pids := [pid for pid in pids if _started(pid)]):
            time.sleep(POLL_S)


def _started(pid: int) -> str:
    """When a process started, in whatever unit the system has: with its pid it names a process for good. Empty: it is over."""
    if Path("/proc/self/stat").exists():
        try:
            fields = Path(f"/proc/{pid}/stat").read_text("utf-8", "replace").rpartition(")")[2].split()
        except OSError:
            return ""
        return "" if fields[0] == "Z" else fields[19]
    answer = subprocess.run(["ps", "-o", "lstart=", "-p", str(pid)], capture_output=True, text=True, check=False)
    return answer.stdout.strip()
