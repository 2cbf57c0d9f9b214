"""How far a long command is: one line on the terminal, written over and over; nothing where nobody watches."""

import sys
import time
from types import TracebackType
from typing import Self

WIDTH = 30
INTERVAL_S = 0.1


class Progress:
    """Of `total` pieces. Rich would be one more dependency for a line of text."""

    def __init__(self, what: str, total: int) -> None:
        self._what = what
        self._total = max(1, total)
        self._shown_at = 0.0
        self._watched = sys.stderr.isatty()

    def show(self, done: int, text: str = "") -> None:
        now = time.monotonic()
        if self._watched and now - self._shown_at >= INTERVAL_S:
            self._shown_at = now
            bar = "#" * (WIDTH * done // self._total)
            sys.stderr.write(f"\r\033[K{self._what} [{bar:<{WIDTH}}] {done}/{self._total} {text}")
            sys.stderr.flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._watched:
            sys.stderr.write("\r\033[K")
            sys.stderr.flush()
