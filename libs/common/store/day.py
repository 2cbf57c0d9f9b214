"""A day file as its one writer sees it: batches in, durable rows out, exactly once by identity.

write(batch):  BEGIN ─▶ ticks, trades, books, gaps, quarantine, account, watermark ─▶ COMMIT (synchronous=FULL: on the disk)
close_day():   checkpoint ─▶ leave WAL mode ─▶ closed_at ─▶ from now on lifecycle's, never changed in place
"""

import contextlib
import sqlite3
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from operator import itemgetter
from pathlib import Path
from typing import Any

import msgspec
from msgspec.structs import astuple

from libs.common.domain.errors import Rejected, Retryable
from libs.common.domain.record import Book, Gap, Quarantined, Trade
from libs.common.platform import sync_folder
from libs.common.store.schema import migrate
from libs.common.telemetry.chaos import point

Row = tuple[str, str, int, int, int, int | None, int | None, float | None, float | None, int]  # the fields of Tick

PAGE_BYTES = 4096
WAL_CHECKPOINT_PAGES = 8192  # 32 MiB: hot leaf pages are written back once for many commits
CONFLICT_REASON = "identity conflict: the same key is stored with other content"

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


@dataclass(frozen=True, slots=True)
class _Table:
    """Statements on rows of symbol, provider, ts, seq and the content that the key decides on."""

    name: str
    insert: str
    same: str  # 1 or 0 where the key is stored: with this content or with other
    same_in_closed: str


def _table(name: str, *content: str) -> _Table:
    values = ", ".join(f"?{number}" for number in range(5, 5 + len(content)))
    same = " AND ".join(f"t.{column} IS ?{number}" for number, column in enumerate(content, 5))
    return _Table(
        name,
        f"INSERT OR IGNORE INTO {name} VALUES (?1, ?3, ?2, ?4, {values})",  # noqa: S608 - names of ours, no values
        f"SELECT {same} FROM {name} t WHERE symbol_id = ?1 AND ts = ?3 AND provider_id = ?2 AND seq = ?4",  # noqa: S608
        f"""SELECT {same} FROM closed.{name} t
            JOIN closed.symbols s USING (symbol_id) JOIN closed.providers p USING (provider_id)
            WHERE s.symbol = ?1 AND t.ts = ?3 AND p.provider = ?2 AND t.seq = ?4""",  # noqa: S608
    )


_TICKS = _table("ticks", "recv_ts", "bid", "ask", "bid_size", "ask_size", "flags")
_TRADES = _table("trades", "recv_ts", "price", "size", "side", "trade_id")
_BOOKS = _table("books", "recv_ts", "bids", "asks")


@dataclass(slots=True)
class Batch:
    """What one commit writes to one day. `redelivered` ticks were certainly sent before: where stored, they are no duplicates."""

    ticks: list[Row] = field(default_factory=list)
    redelivered: list[Row] = field(default_factory=list)
    trades: list[Trade] = field(default_factory=list)
    books: list[Book] = field(default_factory=list)
    gaps: list[Gap] = field(default_factory=list)
    quarantined: list[Quarantined] = field(default_factory=list)
    watermarks: dict[str, int] = field(default_factory=dict)

    @property
    def has_rows(self) -> bool:
        return bool(self.ticks or self.redelivered or self.trades or self.books or self.gaps or self.quarantined)


@dataclass(frozen=True, slots=True)
class Written:
    """What became of a batch: in ticks, and the trades and books stored, which the account does not count."""

    stored: int = 0
    duplicates: int = 0
    quarantined: int = 0
    trades: int = 0
    books: int = 0

    def __add__(self, other: "Written") -> "Written":
        return Written(
            self.stored + other.stored,
            self.duplicates + other.duplicates,
            self.quarantined + other.quarantined,
            self.trades + other.trades,
            self.books + other.books,
        )


class DayFile:
    """Opened by one process through one connection; only this connection checkpoints the WAL.

    A late file names the `closed` one it stands beside: what that has already is not stored again.
    """

    def __init__(self, path: Path, *, closed: Path | None = None) -> None:
        self.path = path
        self._closed_tables: set[str] = set()  # of the closed file; one of an early version has no trades and no books
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
                self._closed_tables = {name for (name,) in self._execute("SELECT name FROM closed.sqlite_master")}
        sync_folder(path.parent)
        self._symbols: dict[str, int] = dict(self._execute("SELECT symbol, symbol_id FROM symbols"))
        self._providers: dict[str, int] = dict(self._execute("SELECT provider, provider_id FROM providers"))

    def _execute(self, sql: str, parameters: Sequence[object] = ()) -> sqlite3.Cursor:
        return self._connection.execute(sql, parameters)

    def write(self, batch: Batch, new: list[Row] | None = None) -> Written:
        """Commit the batch; durable when it returns. Retryable: the disk refused, and nothing of the batch is stored.

        `new` takes the ticks that were not stored before.
        """
        inserted: list[Row] = []
        with _retryable(self.path):
            self._execute("BEGIN IMMEDIATE")
            try:
                written = self._insert(batch, inserted)
                point("inserted_not_committed")
                self._execute("COMMIT")
            except BaseException:
                self._forget()
                raise
        if new is not None:
            new += inserted
        return written

    def _forget(self) -> None:
        """Back to what is committed. SQLite has rolled back by itself after a full disk or an I/O error."""
        if self._connection.in_transaction:
            with contextlib.suppress(sqlite3.Error):
                self._execute("ROLLBACK")
        self._symbols = dict(self._execute("SELECT symbol, symbol_id FROM symbols"))
        self._providers = dict(self._execute("SELECT provider, provider_id FROM providers"))

    def _insert(self, batch: Batch, new: list[Row]) -> Written:
        quarantined = list(batch.quarantined)
        account: dict[tuple[str, str], list[int]] = {}
        duplicates = 0
        stored = self._insert_ticks(batch.ticks, account)
        if stored is None:
            stored, duplicates = self._insert_each(batch.ticks, account, quarantined, new)
        else:
            new += batch.ticks
        stored += self._insert_each(batch.redelivered, account, quarantined, new, redelivered=True)[0]
        trades = self._insert_uncounted(_TRADES, map(astuple, batch.trades), quarantined)
        books = self._insert_uncounted(_BOOKS, map(_book_row, batch.books), quarantined)
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
        return Written(stored, duplicates, kept, trades, books)

    def _insert_ticks(self, ticks: list[Row], account: dict[tuple[str, str], list[int]]) -> int | None:
        """Insert all; None, with nothing inserted, where one of them is, or may be, already stored."""
        if not ticks:
            return 0
        counts = Counter(map(_SYMBOL_PROVIDER, ticks))
        for symbol, provider in counts:
            self._name(symbol, provider)
        symbols, providers = self._symbols, self._providers
        rows = [
            (symbols[symbol], providers[provider], ts, seq, recv_ts, bid, ask, bid_size, ask_size, flags)
            for symbol, provider, ts, seq, recv_ts, bid, ask, bid_size, ask_size, flags in ticks
        ]
        if not self._insert_all(_TICKS, rows):
            return None
        # a session's numbers rise within a symbol and day, so the last one seen is the highest
        highest = dict(zip(map(_SYMBOL_PROVIDER, ticks), map(_SEQ, ticks), strict=True))
        for (symbol, provider), count in counts.items():
            line = _line(account, provider, symbol)
            line[0] = highest[symbol, provider] + 1
            line[1] += count
        return len(rows)

    def _insert_each(
        self,
        ticks: Iterable[Row],
        account: dict[tuple[str, str], list[int]],
        quarantined: list[Quarantined],
        new: list[Row],
        *,
        redelivered: bool = False,
    ) -> tuple[int, int]:
        """Insert one by one, telling new from known from conflicting; (stored, duplicates)."""
        stored = duplicates = 0
        for tick in ticks:
            line = _line(account, tick[1], tick[0])
            line[0] = max(line[0], tick[3] + 1)
            is_new = self._insert_one(_TICKS, tick, quarantined)
            if is_new:
                line[1] += 1
                stored += 1
                new.append(tick)
            elif is_new is False and not redelivered:
                line[2] += 1
                duplicates += 1
        return stored, duplicates

    def _insert_uncounted(self, table: _Table, rows: Iterable[tuple[Any, ...]], quarantined: list[Quarantined]) -> int:
        """Insert trades or books; those that were not stored yet."""
        found = list(rows)
        if not found:
            return 0
        for symbol, provider in set(map(_SYMBOL_PROVIDER, found)):
            self._name(symbol, provider)
        if self._insert_all(table, [(self._symbols[row[0]], self._providers[row[1]], *row[2:]) for row in found]):
            return len(found)
        return sum(self._insert_one(table, row, quarantined) is True for row in found)

    def _insert_all(self, table: _Table, rows: list[tuple[Any, ...]]) -> bool:
        """False, with nothing inserted, where one of them is, or may be, already stored."""
        if table.name in self._closed_tables:
            return not rows
        self._execute("SAVEPOINT rows")
        new = self._connection.executemany(table.insert, rows).rowcount == len(rows)
        if not new:
            self._execute("ROLLBACK TO rows")
        self._execute("RELEASE rows")
        return new

    def _insert_one(self, table: _Table, row: tuple[Any, ...], quarantined: list[Quarantined]) -> bool | None:
        """True: new. False: known. None: its key is stored with other content, so it goes to quarantine."""
        symbol, provider, _ts, _seq, recv_ts = row[:5]
        self._name(symbol, provider)
        named = (self._symbols[symbol], self._providers[provider], *row[2:])
        known = self._execute(table.same_in_closed, row).fetchone() if table.name in self._closed_tables else None
        if known is None and self._execute(table.insert, named).rowcount:
            return True
        if (known or self._execute(table.same, named).fetchone()) == (1,):
            return False
        raw = f"{table.name} {row!r}".encode()
        # the digest tells conflicts of one instant apart: they may be of several symbols, and a trade's of a tick's
        quarantined.append(Quarantined(recv_ts, provider, provider, symbol, CONFLICT_REASON, raw, -1 - zlib.crc32(raw)))
        return None

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


def _book_row(book: Book) -> tuple[Any, ...]:
    bids, asks = (msgspec.json.encode(levels).decode() for levels in (book.bids, book.asks))
    return (*astuple(book)[:5], bids, asks)


def is_closed(path: Path) -> bool:
    """Whether the day was closed: ticks that come now go to its late file."""
    return bool(_look_up(path, "SELECT 1 FROM meta WHERE key = 'closed_at'"))


def quotes_by_time(path: Path) -> Iterator[tuple[str, int, int | None, int | None]]:
    """(symbol, ts, bid, ask) of a file that is not being written to; for its writer, as `_look_up`."""
    with _retryable(path), contextlib.closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=rw", uri=True)) as connection:
        connection.execute("PRAGMA query_only = ON")
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        if version:
            yield from connection.execute(
                "SELECT symbol, ts, bid, ask FROM ticks JOIN symbols USING (symbol_id) ORDER BY ts, seq, symbol, provider_id"
            )


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
