"""A day file as its one writer sees it: batches in, durable rows out, exactly once by identity.

write(batch):  BEGIN ─▶ ticks, gaps, quarantine, account, watermark ─▶ COMMIT (synchronous=FULL: on the disk)
close_day():   checkpoint ─▶ leave WAL mode ─▶ closed_at ─▶ from now on lifecycle's, never changed in place
"""

import contextlib
import sqlite3
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from operator import itemgetter
from pathlib import Path
from typing import Any

from libs.common.domain.errors import Rejected, Retryable
from libs.common.domain.record import Gap, Quarantined
from libs.common.store.disk import sync_folder
from libs.common.store.schema import migrate
from libs.common.telemetry.chaos import point

Row = tuple[str, str, int, int, int, int | None, int | None, float | None, float | None, int]  # the fields of Tick

PAGE_BYTES = 4096
WAL_CHECKPOINT_PAGES = 8192  # 32 MiB: hot leaf pages are written back once for many commits
CONFLICT_REASON = "identity conflict: the same key is stored with other content"

_INSERT_TICK = "INSERT OR IGNORE INTO ticks VALUES (?1, ?3, ?2, ?4, ?5, ?6, ?7, ?8, ?9, ?10)"
_SAME_TICK = """SELECT recv_ts IS ?5 AND bid IS ?6 AND ask IS ?7 AND bid_size IS ?8 AND ask_size IS ?9 AND flags IS ?10
    FROM ticks WHERE symbol_id = ?1 AND ts = ?3 AND provider_id = ?2 AND seq = ?4"""
_SAME_TICK_IN_CLOSED = """SELECT t.recv_ts IS ?5 AND t.bid IS ?6 AND t.ask IS ?7
        AND t.bid_size IS ?8 AND t.ask_size IS ?9 AND t.flags IS ?10
    FROM closed.ticks t JOIN closed.symbols s USING (symbol_id) JOIN closed.providers p USING (provider_id)
    WHERE s.symbol = ?1 AND t.ts = ?3 AND p.provider = ?2 AND t.seq = ?4"""
_UPSERT_GAP = """INSERT INTO gaps VALUES (?, ?, ?, ?, ?, ?, ?)
    ON CONFLICT (session, cause, from_ts, coalesce(first_seq, -1)) DO UPDATE SET
    last_seq = excluded.last_seq, to_ts = excluded.to_ts, resolved_by = excluded.resolved_by"""
_INSERT_QUARANTINE = "INSERT OR IGNORE INTO quarantine VALUES (?, ?, ?, ?, ?, ?, ?)"
_ADD_ACCOUNT = """INSERT INTO account VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (provider, symbol) DO UPDATE SET
    numbered = max(numbered, excluded.numbered), stored = stored + excluded.stored,
    duplicates = duplicates + excluded.duplicates, quarantined = quarantined + excluded.quarantined"""
_SET_WATERMARK = """INSERT INTO watermark VALUES (?, ?)
    ON CONFLICT (session) DO UPDATE SET position = max(position, excluded.position)"""


_SYMBOL_PROVIDER = itemgetter(0, 1)
_SEQ = itemgetter(3)


@dataclass(slots=True)
class Batch:
    """What one commit writes to one day. `redelivered` ticks were certainly sent before: where stored, they are no duplicates."""

    ticks: list[Row] = field(default_factory=list)
    redelivered: list[Row] = field(default_factory=list)
    gaps: list[Gap] = field(default_factory=list)
    quarantined: list[Quarantined] = field(default_factory=list)
    watermarks: dict[str, int] = field(default_factory=dict)

    @property
    def has_rows(self) -> bool:
        return bool(self.ticks or self.redelivered or self.gaps or self.quarantined)


@dataclass(frozen=True, slots=True)
class Written:
    """What became of a batch, in ticks."""

    stored: int = 0
    duplicates: int = 0
    quarantined: int = 0

    def __add__(self, other: "Written") -> "Written":
        return Written(self.stored + other.stored, self.duplicates + other.duplicates, self.quarantined + other.quarantined)


class DayFile:
    """Opened by one process through one connection; only this connection checkpoints the WAL.

    A late file names the `closed` one it stands beside: what that has already is not stored again.
    """

    def __init__(self, path: Path, *, closed: Path | None = None) -> None:
        self.path = path
        self._beside_closed = closed is not None
        path.parent.mkdir(parents=True, exist_ok=True)
        with _retryable(path):
            uri = f"{path.resolve().as_uri()}?mode=rwc"
            self._connection = sqlite3.connect(uri, uri=True, isolation_level=None, check_same_thread=False, cached_statements=64)
            self._execute(f"PRAGMA page_size = {PAGE_BYTES}")
            self._execute("PRAGMA journal_mode = WAL")
            self._execute("PRAGMA synchronous = FULL")
            self._execute(f"PRAGMA wal_autocheckpoint = {WAL_CHECKPOINT_PAGES}")
            self._execute("PRAGMA cache_size = -65536")
            self._execute("PRAGMA busy_timeout = 5000")
            migrate(self._connection)
            if closed is not None:
                self._execute("ATTACH ? AS closed", (f"{closed.resolve().as_uri()}?mode=ro",))
        sync_folder(path.parent)
        self._symbols: dict[str, int] = dict(self._execute("SELECT symbol, symbol_id FROM symbols"))
        self._providers: dict[str, int] = dict(self._execute("SELECT provider, provider_id FROM providers"))

    def _execute(self, sql: str, parameters: Sequence[object] = ()) -> sqlite3.Cursor:
        return self._connection.execute(sql, parameters)

    def write(self, batch: Batch) -> Written:
        """Commit the batch; durable when it returns. Retryable: the disk refused, and nothing of the batch is stored."""
        with _retryable(self.path):
            self._execute("BEGIN IMMEDIATE")
            try:
                written = self._insert(batch)
                point("inserted_not_committed")
                self._execute("COMMIT")
            except BaseException:
                self._forget()
                raise
        return written

    def _forget(self) -> None:
        """Back to what is committed. SQLite has rolled back by itself after a full disk or an I/O error."""
        if self._connection.in_transaction:
            with contextlib.suppress(sqlite3.Error):
                self._execute("ROLLBACK")
        self._symbols = dict(self._execute("SELECT symbol, symbol_id FROM symbols"))
        self._providers = dict(self._execute("SELECT provider, provider_id FROM providers"))

    def _insert(self, batch: Batch) -> Written:
        quarantined = list(batch.quarantined)
        account: dict[tuple[str, str], list[int]] = {}
        duplicates = 0
        stored = self._insert_ticks(batch.ticks, account)
        if stored is None:
            stored, duplicates = self._insert_each(batch.ticks, account, quarantined)
        stored += self._insert_each(batch.redelivered, account, quarantined, redelivered=True)[0]
        for gap in batch.gaps:
            self._execute(
                _UPSERT_GAP,
                (gap.session, gap.first_seq, gap.last_seq, gap.from_ts, gap.to_ts, gap.cause, gap.resolved_by),
            )
        kept = 0
        for item in quarantined:
            fields = (item.recv_ts, item.session, item.provider, item.symbol, item.reason, item.raw, item.number)
            if self._execute(_INSERT_QUARANTINE, fields).rowcount:
                _line(account, item.provider, item.symbol)[3] += 1
                kept += 1
        self._connection.executemany(_ADD_ACCOUNT, ((*key, *line) for key, line in account.items()))
        self._connection.executemany(_SET_WATERMARK, batch.watermarks.items())
        return Written(stored, duplicates, kept)

    def _insert_ticks(self, ticks: list[Row], account: dict[tuple[str, str], list[int]]) -> int | None:
        """Insert all; None, with nothing inserted, where one of them is, or may be, already stored."""
        if not ticks:
            return 0
        if self._beside_closed:
            return None
        counts = Counter(map(_SYMBOL_PROVIDER, ticks))
        for symbol, provider in counts:
            self._name(symbol, provider)
        symbols, providers = self._symbols, self._providers
        rows = [
            (symbols[symbol], providers[provider], ts, seq, recv_ts, bid, ask, bid_size, ask_size, flags)
            for symbol, provider, ts, seq, recv_ts, bid, ask, bid_size, ask_size, flags in ticks
        ]
        self._execute("SAVEPOINT ticks")
        stored = self._connection.executemany(_INSERT_TICK, rows).rowcount
        if stored < len(rows):
            self._execute("ROLLBACK TO ticks")
            self._execute("RELEASE ticks")
            return None
        self._execute("RELEASE ticks")
        # a session's numbers rise within a symbol and day, so the last one seen is the highest
        highest = dict(zip(map(_SYMBOL_PROVIDER, ticks), map(_SEQ, ticks), strict=True))
        for (symbol, provider), count in counts.items():
            line = _line(account, provider, symbol)
            line[0] = highest[symbol, provider] + 1
            line[1] += count
        return stored

    def _insert_each(
        self,
        ticks: Iterable[Row],
        account: dict[tuple[str, str], list[int]],
        quarantined: list[Quarantined],
        *,
        redelivered: bool = False,
    ) -> tuple[int, int]:
        """Insert one by one, telling new from known from conflicting; (stored, duplicates)."""
        stored = duplicates = 0
        for tick in ticks:
            symbol, provider, _ts, seq, recv_ts = tick[:5]
            self._name(symbol, provider)
            row = (self._symbols[symbol], self._providers[provider], *tick[2:])
            line = _line(account, provider, symbol)
            line[0] = max(line[0], seq + 1)
            known = self._execute(_SAME_TICK_IN_CLOSED, tick).fetchone() if self._beside_closed else None
            if known is None and self._execute(_INSERT_TICK, row).rowcount:
                line[1] += 1
                stored += 1
            elif (known or self._execute(_SAME_TICK, row).fetchone()) == (1,):
                if not redelivered:
                    line[2] += 1
                    duplicates += 1
            else:
                raw = repr(tick).encode()
                quarantined.append(Quarantined(recv_ts, provider, provider, symbol, CONFLICT_REASON, raw, -1 - seq))
        return stored, duplicates

    def _name(self, symbol: str, provider: str) -> None:
        if symbol not in self._symbols:
            self._symbols[symbol] = self._execute("INSERT INTO symbols(symbol) VALUES (?)", (symbol,)).lastrowid or 0
        if provider not in self._providers:
            cursor = self._execute("INSERT INTO providers(provider) VALUES (?)", (provider,))
            self._providers[provider] = cursor.lastrowid or 0

    def close_day(self, closed_at: int) -> None:
        """Fold the WAL in, leave WAL mode, mark the day closed. Retryable while a reader holds the file."""
        with _retryable(self.path):
            busy, _, _ = self._execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            mode = None if busy else self._execute("PRAGMA journal_mode = DELETE").fetchone()[0]
            if mode != "delete":
                raise Retryable(f"{self.path.name} cannot leave WAL mode while a reader holds it open")
            self._execute("INSERT OR REPLACE INTO meta VALUES ('closed_at', ?)", (closed_at,))
        self.close()

    def close(self) -> None:
        self._connection.close()


def is_closed(path: Path) -> bool:
    """Whether the day was closed: ticks that come now go to its late file."""
    return bool(_look_up(path, "SELECT 1 FROM meta WHERE key = 'closed_at'"))


def durable_positions(paths: Iterable[Path]) -> dict[str, int]:
    """Session → the highest watermark in the given files: where the writer goes on."""
    positions: dict[str, int] = {}
    for path in paths:
        for session, position in _look_up(path, "SELECT session, position FROM watermark"):
            positions[session] = max(position, positions.get(session, 0))
    return positions


def _look_up(path: Path, sql: str) -> list[tuple[Any, ...]]:
    """For the writer, of a file it has not opened; nothing where a crash came before the file had its tables.

    Not mode=ro: a crash in the middle of closing a day leaves a rollback journal, which has to be played back first.
    """
    with _retryable(path), contextlib.closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=rw", uri=True)) as connection:
        connection.execute("PRAGMA busy_timeout = 5000")
        connection.execute("PRAGMA query_only = ON")
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        return connection.execute(sql).fetchall() if version else []


def _line(account: dict[tuple[str, str], list[int]], provider: str, symbol: str) -> list[int]:
    """numbered, stored, duplicates, quarantined."""
    return account.setdefault((provider, symbol), [0, 0, 0, 0])


@contextlib.contextmanager
def _retryable(path: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.DatabaseError as error:
        if error.sqlite_errorname in {"SQLITE_CORRUPT", "SQLITE_NOTADB"}:
            raise Rejected(f"{path} is damaged ({error}): set it aside and restore it") from error
        raise Retryable(f"{path}: {error}") from error
    except OSError as error:
        raise Retryable(f"{path}: {error}") from error
