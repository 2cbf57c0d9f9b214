"""SQLite files of days that are over: closed or not, sound or not, and how one is rebuilt with other rows.

A day that its writer has open is in WAL mode, and is not opened here at all: two bytes of its header say so. Only Python's own
sqlite3 opens the files, and never while this process reads their bytes: closing those would drop SQLite's locks.
"""

import contextlib
import sqlite3
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import msgspec

from libs.common.domain.errors import Rejected, Retryable
from libs.common.domain.record import Book, Gap, Quarantined, Trade
from libs.common.platform import sync_folder
from libs.common.store.columnar import Damaged
from libs.common.store.day import Batch, DayFile
from libs.common.telemetry.chaos import point

_MAGIC = b"SQLite format 3\0"
_ROLLBACK_MODE = b"\1\1"  # file format write and read version; 2 2 in WAL mode
_BATCH_ROWS = 5_000
_KEYED = ("ticks", "trades", "books")  # rows of symbol, ts, provider, seq
_CLOSED_AT = "SELECT value FROM meta WHERE key = 'closed_at'"
_ROWS = {
    "ticks": "recv_ts, bid, ask, bid_size, ask_size, flags",
    "trades": "recv_ts, price, size, side, trade_id",
    "books": "recv_ts, bids, asks",
}
_SELECT = """SELECT symbol, provider, ts, seq, {columns}
    FROM {table} JOIN symbols USING (symbol_id) JOIN providers USING (provider_id)"""
_NAMES = "SELECT name FROM {schema}.sqlite_master"
_COUNT = "SELECT count(*) FROM {table}"
_GAPS = "SELECT session, first_seq, last_seq, from_ts, to_ts, cause, resolved_by FROM gaps"
_QUARANTINE = "SELECT recv_ts, session, provider, symbol, reason, raw, number FROM quarantine"
_ACCOUNT = "SELECT provider, symbol, numbered, duplicates FROM account"
_ADD_ACCOUNT = """INSERT INTO account(provider, symbol, numbered, duplicates) VALUES (?, ?, ?, ?)
    ON CONFLICT (provider, symbol) DO UPDATE SET
    numbered = max(numbered, excluded.numbered), duplicates = duplicates + excluded.duplicates"""
_MISSING = """SELECT count(*) FROM extra.{table} e
    JOIN extra.symbols s USING (symbol_id) JOIN extra.providers p USING (provider_id)
    WHERE NOT EXISTS (SELECT 1 FROM {table} t JOIN symbols ms USING (symbol_id) JOIN providers mp USING (provider_id)
        WHERE ms.symbol = s.symbol AND t.ts = e.ts AND mp.provider = p.provider AND t.seq = e.seq)"""
_FORGET = (
    "DELETE FROM {table} WHERE symbol_id NOT IN "
    "(SELECT symbol_id FROM symbols WHERE symbol IN (SELECT value FROM json_each(:kept)))"
)
_FORGET_NAMED = "DELETE FROM {table} WHERE symbol NOT IN (SELECT value FROM json_each(:kept))"

Content = tuple[object, ...]


def is_closed(path: Path) -> bool:
    """Whether its writer has closed the day; also false where a crash interrupted that, which the writer mends."""
    with path.open("rb") as file:
        header = file.read(20)
    if not header or header[18:20] == b"\2\2":
        return False
    if header[:16] != _MAGIC or header[18:20] != _ROLLBACK_MODE:
        raise Damaged(path, "its header is not that of a day file")
    with opened(path) as connection:
        try:
            return bool(connection.execute(_CLOSED_AT).fetchone())
        except sqlite3.OperationalError:  # a hot journal, or the schema is not there yet
            return False


def closed_at(path: Path) -> int:
    """When its writer closed the day, in ns."""
    with opened(path) as connection:
        ((found,),) = connection.execute(_CLOSED_AT)
    return int(found)


def check_integrity(path: Path) -> None:
    """Damaged: SQLite says so, or something of a transaction stands beside the file."""
    for suffix in ("-journal", "-wal"):
        beside = path.with_name(path.name + suffix)
        if beside.exists() and beside.stat().st_size:
            raise Retryable(f"{beside} is there: somebody writes {path.name}, or was interrupted")
    with opened(path) as connection:
        found = connection.execute("PRAGMA integrity_check(1)").fetchall()
    if found != [("ok",)]:
        raise Damaged(path, f"integrity_check: {found[0][0]}")


def check_late(path: Path) -> None:
    """As check_integrity, of a file that its writer may have open."""
    with opened(path) as connection:
        found = connection.execute("PRAGMA integrity_check(1)").fetchall()
    if found != [("ok",)]:
        raise Damaged(path, f"integrity_check: {found[0][0]}")


def positions_of(path: Path) -> dict[str, int]:
    """Session → watermark."""
    with opened(path) as connection:
        return dict(connection.execute("SELECT session, position FROM watermark"))


def content_of(late: Path) -> Content:
    """Another value for other rows, whatever the watermark: the writer moves that without ticks too."""
    with opened(late) as connection:
        return _content(connection)


def _content(connection: sqlite3.Connection) -> Content:
    tables = {name for (name,) in connection.execute(_NAMES.format(schema="main"))}
    counted = (*_KEYED, "quarantine")
    counts = [connection.execute(_COUNT.format(table=name)).fetchone() for name in counted if name in tables]
    rows = [connection.execute(sql).fetchall() for sql in (_GAPS, _ACCOUNT) if "account" in tables]
    return (counts, rows)


def take(late: Path, taken: Path, content: Content) -> bool:
    """Give the late file the name `taken`, so that its writer begins another; False where it is open, or holds other rows.

    WAL mode can be left only by the last connection, and the exclusive lock is held over the rename. Who opened the file
    meanwhile and waits for the lock finds it moved, which SQLite refuses to write to.
    """
    with opened(late, "rw") as connection:
        try:
            (mode,) = connection.execute("PRAGMA journal_mode = DELETE").fetchone()
            if mode != "delete":
                return False
            connection.execute("BEGIN EXCLUSIVE")
        except sqlite3.OperationalError:  # locked
            return False
        same = _content(connection) == content
        if same:
            point("late_locked_not_taken")
            late.rename(taken)
            sync_folder(taken.parent)
        connection.execute("ROLLBACK")
        return same


def merge(path: Path, extra: Path) -> None:
    """Put the rows of `extra` into the closed day file `path`, by identity, in the way its writer would have.

    Rejected: the rows of `extra` are not all there then.
    """
    closed = closed_at(path)
    file = DayFile(path)
    try:
        with opened(extra) as source:
            for batch in _batches(source):
                file.write(batch)
            account = source.execute(_ACCOUNT).fetchall()
        file.close_day(closed)
    finally:
        file.close()
    with opened(path, "rw") as connection:
        connection.execute("ATTACH ? AS extra", (_uri(extra, "ro"),))
        connection.execute("BEGIN")
        connection.executemany(_ADD_ACCOUNT, account)
        connection.execute("COMMIT")
        for table in _tables(connection, "extra"):
            ((missing,),) = connection.execute(_MISSING.format(table=table))
            if missing:
                raise Rejected(f"{missing} {table} of {extra} did not arrive in {path}")


def keep_symbols(path: Path, symbols: Iterable[str]) -> None:
    """Delete what is of other symbols from a closed day file, down to its last byte."""
    kept = {"kept": msgspec.json.encode(sorted(symbols)).decode()}
    with opened(path, "rw") as connection:
        connection.execute("PRAGMA secure_delete = ON")
        connection.execute("BEGIN")
        for table in _tables(connection, "main"):
            connection.execute(_FORGET.format(table=table), kept)
        for table in ("quarantine", "account", "symbols"):
            connection.execute(_FORGET_NAMED.format(table=table), kept)
        connection.execute("COMMIT")
        connection.execute("VACUUM")


def vacuum(path: Path, target: Path) -> None:
    """Write `target`, with the rows of `path` in full pages."""
    target.parent.mkdir(parents=True, exist_ok=True)
    target.unlink(missing_ok=True)
    with opened(path) as connection:
        connection.execute("VACUUM INTO ?", (str(target),))


def _tables(connection: sqlite3.Connection, schema: str) -> list[str]:
    """Of those with a key; a file of an early version has no trades and no books."""
    found = {name for (name,) in connection.execute(_NAMES.format(schema=schema))}
    return [table for table in _KEYED if table in found]


def _batches(source: sqlite3.Connection) -> Iterator[Batch]:
    tables = _tables(source, "main")
    yield from (Batch(ticks=rows) for rows in _some(source, "ticks", tables))
    yield from (Batch(trades=[Trade(*row) for row in rows]) for rows in _some(source, "trades", tables))
    yield from (Batch(books=[_book(row) for row in rows]) for rows in _some(source, "books", tables))
    yield Batch(
        gaps=[Gap(*row) for row in source.execute(_GAPS)],
        quarantined=[Quarantined(*row) for row in source.execute(_QUARANTINE)],
        watermarks=dict(source.execute("SELECT session, position FROM watermark")),
    )


def _some(source: sqlite3.Connection, table: str, tables: list[str]) -> Iterator[list[Any]]:
    """In order of (symbol, provider, seq): the account takes the last of a series for its highest."""
    if table in tables:
        select = _SELECT.format(columns=_ROWS[table], table=table) + " ORDER BY symbol, provider, seq"
        cursor = source.execute(select)
        while rows := list(islice(cursor, _BATCH_ROWS)):
            yield rows


def _book(row: tuple[Any, ...]) -> Book:
    *key, bids, asks = row
    levels = (msgspec.json.decode(side, type=list[tuple[int, float | None]]) for side in (bids, asks))
    return Book(*key, *levels)


@contextlib.contextmanager
def opened(path: Path, mode: str = "ro") -> Iterator[sqlite3.Connection]:
    """SQLite's errors in the words of the store, but for those that the caller handles."""
    try:
        with contextlib.closing(sqlite3.connect(_uri(path, mode), uri=True, isolation_level=None, timeout=2)) as connection:
            yield connection
    except sqlite3.DatabaseError as error:
        if getattr(error, "sqlite_errorname", "").startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB")):
            raise Damaged(path, str(error)) from error
        raise Retryable(f"{path}: {error}") from error


def _uri(path: Path, mode: str) -> str:
    return f"{path.resolve().as_uri()}?mode={mode}"
