"""Rows of files, by symbol and time, in a database that is gone with the process: however many there are, in whatever order."""

import os
import sqlite3
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Self

from libs.common.domain.errors import Rejected, Retryable
from libs.common.domain.moment import NS_PER_DAY
from libs.common.imports import ImportFile, Row
from libs.common.ingest.rejected import RejectedFile
from libs.common.store.layout import staging_path
from libs.common.store.tiers import require_space

CHUNK_ROWS = 50_000  # about 20 MB
_SCHEMA = """
    PRAGMA journal_mode = OFF;
    PRAGMA synchronous = OFF;
    PRAGMA cache_size = -65536;
    CREATE TABLE symbols(symbol_id INTEGER PRIMARY KEY, symbol TEXT NOT NULL UNIQUE);
    CREATE TABLE rows(
        symbol_id INTEGER, ts INTEGER, file INTEGER, number INTEGER, bid INTEGER, ask INTEGER, bid_size REAL, ask_size REAL,
        flags INTEGER, PRIMARY KEY (symbol_id, ts, file, number)) WITHOUT ROWID;
"""
_ROWS = """SELECT ts, bid, ask, bid_size, ask_size, flags, file FROM rows
    WHERE symbol_id = (SELECT symbol_id FROM symbols WHERE symbol = ?) AND ts >= ? AND ts < ? ORDER BY ts, file, number"""

_FIRST = _ROWS.replace("ts >= ? AND ts < ? ORDER BY ts, file, number", "TRUE ORDER BY ts, file, number LIMIT ?")
_LAST = _FIRST.replace("ts, file, number LIMIT", "ts DESC, file DESC, number DESC LIMIT")

StagedRow = tuple[int, int | None, int | None, float | None, float | None, int, int]
"""ts, bid, ask, bid_size, ask_size, flags, number of the file"""


@dataclass(frozen=True, slots=True)
class FileOutcome:
    """What was read of a file. `rejected`: lines, kept in `rejected_file`. `error`: it is damaged behind what was read."""

    file: str
    rows: int
    rejected: int
    reasons: dict[str, int]
    rejected_file: str | None
    error: str | None


class Staging:
    """Retryable: the disk refuses, or is too full."""

    def __init__(self, data_dir: Path, disk_reserve_bytes: int) -> None:
        self._data_dir = data_dir
        self._reserve_bytes = disk_reserve_bytes
        self._path = staging_path(data_dir, os.getpid())
        self._symbols: dict[str, int] = {}
        self._files = 0
        self.files: list[FileOutcome] = []
        self.days: Counter[tuple[int, str]] = Counter()  # (day, symbol) → rows of all files

    def __enter__(self) -> Self:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._path.unlink(missing_ok=True)
        self._connection = sqlite3.connect(self._path, isolation_level=None)
        self._connection.executescript(_SCHEMA)
        with suppress(PermissionError):  # Windows, which deletes no open file
            self._path.unlink()  # so that nothing is left of a killed import
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()
        self._path.unlink(missing_ok=True)

    def add(self, file: ImportFile) -> Iterator[int]:
        """Read a file to its end, with its number of rows so far behind every batch; then its outcome is the last of `files`."""
        self._files += 1
        number = 0
        error = None
        with RejectedFile(self._data_dir, file.source) as rejected:
            try:
                for batch in file.batches():
                    require_space(self._data_dir, 0, self._reserve_bytes)
                    self._insert(batch.rows, number)
                    number += len(batch.rows)
                    rejected.write(batch.rejected)
                    yield number
            except Rejected as damage:
                error = str(damage)
        summary = file.summary
        self.days.update({(day, symbol): found.count for (symbol, day), found in summary.days.items() if found.count})
        kept = str(rejected.path) if summary.rejected else None
        self.files.append(
            FileOutcome(file.source.name, number, summary.rejected, dict(summary.reasons.most_common()), kept, error)
        )

    def _insert(self, rows: list[Row], first: int) -> None:
        for symbol in {row[0] for row in rows} - self._symbols.keys():
            cursor = self._connection.execute("INSERT INTO symbols(symbol) VALUES (?)", (symbol,))
            self._symbols[symbol] = cursor.lastrowid or 0
        named = (
            (self._symbols[symbol], ts, self._files, number, bid, ask, bid_size, ask_size, flags)
            for number, (symbol, ts, bid, ask, bid_size, ask_size, flags) in enumerate(rows, first)
        )
        try:
            self._connection.execute("BEGIN")
            self._connection.executemany("INSERT INTO rows VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", named)
            self._connection.execute("COMMIT")
        except sqlite3.OperationalError as error:
            raise Retryable(f"{self._path}: {error}") from error

    def ends(self, symbol: str, rows: int) -> tuple[list[StagedRow], list[StagedRow]]:
        """The first and the last rows of a symbol, each by time and none in both."""
        first, last = (self._connection.execute(sql, (symbol, rows)).fetchall() for sql in (_FIRST, _LAST))
        count = sum(found for (_, name), found in self.days.items() if name == symbol)
        return first, last[: max(0, count - rows)][::-1]

    def is_in_milliseconds(self) -> bool:
        """Whether no time is finer."""
        return not self._connection.execute("SELECT 1 FROM rows WHERE ts % 1000000 LIMIT 1").fetchall()

    def has_sizes(self) -> bool:
        sql = "SELECT 1 FROM rows WHERE bid_size IS NOT NULL OR ask_size IS NOT NULL LIMIT 1"
        return bool(self._connection.execute(sql).fetchall())

    def chunks(self, symbol: str, day: int) -> Iterator[list[StagedRow]]:
        """The rows of a symbol's day by (ts, file, number), in parts that end between two instants."""
        rows = iter(self._connection.execute(_ROWS, (symbol, day * NS_PER_DAY, (day + 1) * NS_PER_DAY)))
        return whole_instants(rows, CHUNK_ROWS)


def whole_instants(rows: Iterable[StagedRow], size: int) -> Iterator[list[StagedRow]]:
    """Parts of at least `size` rows, none of which ends within an instant."""
    rest = iter(rows)
    part = list(islice(rest, size))
    while part:
        following: list[StagedRow] = []
        for row in rest:
            if row[0] != part[-1][0]:
                following.append(row)
                break
            part.append(row)
        yield part
        part = following + list(islice(rest, size - 1)) if following else []
