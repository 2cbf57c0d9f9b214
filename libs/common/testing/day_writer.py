"""A day file in the hands of another process, as in life: another SQLite library in the one that reads it would drop its locks.

with DayWriter(path) as writer:
writer.write([tick, …])          # durable when it returns
writer.close_day(now)            # False while a reader holds the file
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any, Self

from libs.common.domain.errors import Retryable
from libs.common.store import Batch, DayFile


class DayWriter:
    def __init__(self, path: Path, *, closed: Path | None = None) -> None:
        command = [sys.executable, "-m", __name__, str(path), *([str(closed)] if closed else [])]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self._answer()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Let go of the file, which stays open for another writer."""
        self._process.communicate(timeout=30)

    def write(self, ticks: list[tuple[Any, ...]]) -> None:
        assert self._ask({"ticks": ticks})

    def close_day(self, now: int) -> bool:
        return self._ask({"close_day": now})

    def lock(self) -> None:
        """Nobody else reads or writes the file, until the process ends."""
        assert self._ask({"lock": True})

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()

    def _ask(self, command: dict[str, Any]) -> bool:
        assert self._process.stdin is not None
        print(json.dumps(command), file=self._process.stdin, flush=True)
        return self._answer()

    def _answer(self) -> bool:
        assert self._process.stdout is not None
        return bool(json.loads(self._process.stdout.readline()))


def main(path: str, *closed: str) -> None:
    file = DayFile(Path(path), closed=Path(closed[0]) if closed else None)
    print("true", flush=True)
    for line in sys.stdin:
        command = json.loads(line)
        done = True
        if "ticks" in command:
            file.write(Batch(ticks=[tuple(tick) for tick in command["ticks"]]))
        elif "lock" in command:
            file._execute("PRAGMA journal_mode = DELETE")  # noqa: SLF001 - in WAL mode nobody is kept out
            file._execute("BEGIN EXCLUSIVE")  # noqa: SLF001
        else:
            try:
                file.close_day(command["close_day"])
            except Retryable:
                done = False
        print(json.dumps(done), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
