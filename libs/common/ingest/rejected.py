"""Lines of imported files that cannot be ticks, with reason and bytes: beside the store, a file for each file that has some.

They are in no day's quarantine: most have no time that could be read, so they belong to no day, and the same file again must not
count them again. It writes the same lines into the same place.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO, Self

import msgspec

from libs.common.imports import RejectedLine, Source
from libs.common.store.layout import rejected_path

KEPT_MAX = 100_000  # lines of one file; a file of noise must not fill the disk


class RejectedFile:
    """`path` holds one JSON object a line: file, line, reason, text, symbol, ts. Without a line there is no file."""

    def __init__(self, data_dir: Path, source: Source) -> None:
        self.path = rejected_path(data_dir, source.path.absolute() / (source.member or ""))
        self._file: BinaryIO | None = None
        self._lines = 0

    def __enter__(self) -> Self:
        self.path.unlink(missing_ok=True)
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.close()

    def write(self, lines: Sequence[RejectedLine]) -> None:
        """Those beyond KEPT_MAX are counted elsewhere, and said to be left out here."""
        if not lines:
            return
        if self._file is None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._file = self.path.open("wb")
        for line in lines[: max(0, KEPT_MAX - self._lines)]:
            found = line._asdict() | {"text": line.raw.decode("utf-8", "backslashreplace")}
            del found["raw"]
            self._file.write(msgspec.json.encode(found) + b"\n")
        if self._lines <= KEPT_MAX < self._lines + len(lines):
            self._file.write(msgspec.json.encode({"reason": f"more than {KEPT_MAX} lines: the rest is counted only"}) + b"\n")
        self._lines += len(lines)
