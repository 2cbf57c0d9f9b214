"""Sealed files that are only in cold storage, brought to a folder of bounded size: what was used last stays.

data/cache/cold/ticks_YYYY-MM-DD[.pNN][.gN].parquet      as it was sealed, checked by sha256; may be deleted at any time
"""

import contextlib
import os
import threading
from pathlib import Path

from libs.common.store.columnar.catalog import SealedFile
from libs.common.store.columnar.manifest import File
from libs.common.store.tiers.cold import ColdStorage, month
from libs.common.store.tiers.day import TierDay
from libs.common.store.tiers.disk import PARTIAL, disk_may_refuse
from libs.common.store.tiers.receipt import Sum

CACHE_BYTES_MAX = 10 * 10**9


class ColdCache:
    """For any number of threads: one of them fetches at a time."""

    def __init__(self, data_dir: Path, cold: ColdStorage, bytes_max: int = CACHE_BYTES_MAX) -> None:
        self._data_dir = data_dir
        self._folder = data_dir / "cache" / "cold"
        self._cold = cold
        self._bytes_max = bytes_max
        self._checked: set[tuple[str, str]] = set()  # names and sums of what this process has seen to be right
        self._lock = threading.Lock()

    def fetch(self, sealed: SealedFile, file: File) -> Path:
        """Where the file is now. Damaged: cold storage does not have it as it was. Retryable: it or the disk refuses."""
        target = self._folder / file.name
        expected = Sum(file.bytes, file.sha256)
        with self._lock, disk_may_refuse(target):
            if not self._is_right(target, expected):
                self._folder.mkdir(parents=True, exist_ok=True)
                self._make_room(file.bytes)
                partial = target.with_name(f"{file.name}.{os.getpid()}{PARTIAL}")
                try:
                    day = TierDay(sealed.paths.day, sealed.paths.infix, self._data_dir)
                    self._cold.fetch(f"{month(day)}/{file.name}", partial, expected)
                    partial.replace(target)
                finally:
                    partial.unlink(missing_ok=True)
                self._checked.add((file.name, file.sha256))
            os.utime(target)
        return target

    def _is_right(self, target: Path, expected: Sum) -> bool:
        try:
            if (target.name, expected.sha256) not in self._checked and Sum.of(target) != expected:
                return False
            self._checked.add((target.name, expected.sha256))
            return target.stat().st_size == expected.bytes
        except FileNotFoundError:
            return False

    def _make_room(self, size: int) -> None:
        """Who reads a file that goes now asks again, and gets it again."""
        found = []
        for path in self._folder.iterdir():
            with contextlib.suppress(FileNotFoundError):  # another process makes room too
                status = path.stat()
                found.append((status.st_mtime_ns, status.st_size, path))
        used = sum(size for _, size, _ in found)
        for _, freed, path in sorted(found):
            if used + size <= self._bytes_max:
                break
            path.unlink(missing_ok=True)
            used -= freed
