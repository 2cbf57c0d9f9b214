"""A closed day file, and what came late for it, as columns in the order of the sealed day.

    SQLite, read-only ─▶ rows of one symbol and provider by (ts, seq) ─▶ what both files hold once ─▶ columns

Only Python's own sqlite3 opens the files: a second SQLite library in the process would drop its locks.
"""

import contextlib
import sqlite3
import zlib
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from libs.common.domain.errors import Rejected, Retryable
from libs.common.store.columnar.arrays import wrapped
from libs.common.store.columnar.schema import LEVELS, ROW_GROUP_ROWS, sqlite_type, to_decimal
from libs.common.store.day import CONFLICT_REASON, is_closed
from libs.common.store.schema import SCHEMA_VERSION

LONG_ROWS = 4_096  # in one chunk of books or quarantine, whose rows may be of kilobytes

Columns = dict[str, pa.Array]
Rows = npt.NDArray[Any]

_TICK = np.dtype(
    [(name, "f8" if name.endswith("size") else "i8") for name in
     ("ts", "seq", "recv_ts", "bid", "ask", "bid_size", "ask_size", "flags", "absent", "file")]
)  # fmt: skip
_MAY_BE_ABSENT = ("recv_ts", "bid", "ask", "bid_size", "ask_size")  # bit 0, 1, 2 … of `absent`
_CONTENT = {
    "ticks": ", ".join(
        ["coalesce(recv_ts, 0), coalesce(bid, 0), coalesce(ask, 0), coalesce(bid_size, 0.0), coalesce(ask_size, 0.0), flags",
         " + ".join(f"(({name} IS NULL) << {bit})" for bit, name in enumerate(_MAY_BE_ABSENT))]
    ),
    "trades": "recv_ts, price, size, side, trade_id",
    "books": "recv_ts, bids, asks",
}  # fmt: skip
_SERIES = """SELECT {columns}, {number} AS file FROM {file}.{table}
    WHERE symbol_id = (SELECT symbol_id FROM {file}.symbols WHERE symbol = :symbol)
    AND +provider_id = (SELECT provider_id FROM {file}.providers WHERE provider = :provider)"""
_NAMES = """SELECT s.symbol, p.provider FROM {file}.symbols s, {file}.providers p
    WHERE p.provider_id IN (SELECT DISTINCT provider_id FROM {file}.{table} t WHERE t.symbol_id = s.symbol_id)"""
_TRADE = ("ts", "seq", "recv_ts", "price", "size", "side", "trade_id")
_BOOK = ("ts", "seq", "recv_ts", "bids", "asks")
_QUARANTINED = ("recv_ts", "session", "provider", "symbol", "reason", "raw", "number")
GAP = ("session", "first_seq", "last_seq", "from_ts", "to_ts", "cause", "resolved_by")
ACCOUNT = ("provider", "symbol", "numbered", "stored", "duplicates", "quarantined")
_LEVELS_JSON = msgspec.json.Decoder(list[list[tuple[int, float | None]]])
_QUARANTINE = "SELECT recv_ts, session, provider, symbol, reason, raw, number FROM {file}.quarantine"
_GAPS = """SELECT session, first_seq, last_seq, from_ts, to_ts, cause, resolved_by FROM {file}.gaps"""
_ACCOUNT = "SELECT provider, symbol, numbered, stored, duplicates, quarantined FROM {file}.account"


class Source:
    """The rows of a day. Rejected: not closed, damaged, or of a newer schema. Retryable: locked, or the disk refuses.

    The late file is read as it is: the caller sees to it that nobody writes it any more.
    """

    def __init__(self, day_file: Path, late: Path | None = None, rows_max: int = ROW_GROUP_ROWS) -> None:
        self._path = day_file
        self.rows_max = rows_max  # in one chunk
        if not day_file.exists():
            raise Rejected(f"{day_file} does not exist")
        if not is_closed(day_file):
            raise Rejected(f"{day_file} is not closed: its writer goes on writing")
        with reading(day_file):
            self._connection = sqlite3.connect(f"{day_file.resolve().as_uri()}?mode=ro", uri=True, isolation_level=None)
            self._files = ["main"]
            if late is not None:
                self._connection.execute("ATTACH ? AS late", (f"{late.resolve().as_uri()}?mode=ro",))
                self._files.append("late")
            self._connection.execute("BEGIN")
            self.schema_version = max(self._version(file) for file in self._files)
            self._check()
            ((self.closed_at,),) = self._all("SELECT value FROM meta WHERE key = 'closed_at'")
        self._tables = {
            file: {name for (name,) in self._all(f"SELECT name FROM {file}.sqlite_master WHERE type = 'table'")}  # noqa: S608
            for file in self._files
        }
        self.duplicates: Counter[tuple[str, str]] = Counter()  # (provider, symbol) → ticks that both files hold
        self._conflicts: list[tuple[Any, ...]] = []  # rows of quarantine: what the late file says otherwise under the same key
        self._conflicting_ticks: Counter[tuple[str, str]] = Counter()

    def close(self) -> None:
        self._connection.close()

    def _version(self, file: str) -> int:
        ((version,),) = self._all(f"PRAGMA {file}.user_version")
        if version > SCHEMA_VERSION:
            raise Rejected(f"{self._path}: schema version {version} is newer than {SCHEMA_VERSION}: upgrade this service")
        return int(version)

    def _check(self) -> None:
        for file in self._files:
            if (found := self._all(f"PRAGMA {file}.quick_check(1)")) != [("ok",)]:
                raise Rejected(f"{self._path} ({file}) is damaged: {found[0][0]}")

    def _all(self, sql: str) -> list[Any]:
        with reading(self._path):
            return self._connection.execute(sql).fetchall()

    def _each(self, statement: str, table: str) -> Iterator[Any]:
        """The rows of the statement from every file that has the table, the day file's first."""
        for file in self._files:
            if table in self._tables[file]:
                yield from self._all(statement.format(file=file, table=table))

    @property
    def watermark(self) -> dict[str, int]:
        positions: dict[str, int] = {}
        for session, position in self._each("SELECT session, position FROM {file}.watermark", "watermark"):
            positions[session] = max(position, positions.get(session, 0))
        return positions

    def rows(self, table: str) -> int:
        """In both files together, what they both hold twice."""
        return sum(count for (count,) in self._each("SELECT count(*) FROM {file}.{table}", table))

    def series(self, table: str) -> list[tuple[str, str]]:
        """(symbol, provider) of everything in ticks, trades or books, in order."""
        return sorted(set(self._each(_NAMES, table)))

    def ticks(self, symbol: str, provider: str) -> Iterator[Columns]:
        """ts, seq, recv_ts, bid, ask, bid_size, ask_size, flags; each chunk of `rows_max` rows or less."""
        last: Rows = np.empty(0, _TICK)
        with reading(self._path):
            cursor = self._select("ticks", symbol, provider)
            while len(rows := _tick_rows(self._path, islice(cursor, self.rows_max))):
                if len(self._files) > 1:
                    seen, last = np.concatenate([last, rows]), rows[-1:]
                    rows = self._new_ticks(seen, len(seen) - len(rows), symbol, provider)
                if len(rows):
                    yield _tick_columns(rows)

    def trades(self, symbol: str, provider: str) -> Iterator[Columns]:
        """ts, seq, recv_ts, price, size, side, trade_id."""
        for rows in self._chunks("trades", symbol, provider, self.rows_max):
            yield columns_of(_TRADE, rows)

    def books(self, symbol: str, provider: str) -> Iterator[Columns]:
        """ts, seq, recv_ts, bids, asks; the levels as lists of (price in 1e-9, size)."""
        for rows in self._chunks("books", symbol, provider, min(LONG_ROWS, self.rows_max)):
            columns = columns_of(_BOOK, rows)
            yield columns | {side: _levels(columns[side]) for side in ("bids", "asks")}

    def quarantine(self) -> Iterator[Columns]:
        """By (session, recv_ts, number); then, at the end, what `ticks`, `trades` and `books` found in conflict."""
        statement = " UNION ".join(_QUARANTINE.format(file=file) for file in self._files)
        with reading(self._path):
            cursor = self._connection.execute(statement + " ORDER BY session, recv_ts, number")
            while rows := cursor.fetchmany(LONG_ROWS):
                yield columns_of(_QUARANTINED, rows)
        if self._conflicts:
            yield columns_of(_QUARANTINED, self._conflicts)

    def gaps(self) -> list[tuple[Any, ...]]:
        """session, first_seq, last_seq, from_ts, to_ts, cause, resolved_by; of each gap the newest record."""
        newest = {(row[0], row[5], row[3], -1 if row[1] is None else row[1]): row for row in self._each(_GAPS, "gaps")}
        return [newest[identity] for identity in sorted(newest)]

    def account(self) -> list[tuple[Any, ...]]:
        """provider, symbol, numbered, stored, duplicates, quarantined: of both files, where `ticks` found each tick once."""
        lines: defaultdict[tuple[str, str], list[int]] = defaultdict(lambda: [0, 0, 0, 0])
        for provider, symbol, numbered, stored, duplicates, quarantined in self._each(_ACCOUNT, "account"):
            line = lines[provider, symbol]
            line[:] = max(line[0], numbered), line[1] + stored, line[2] + duplicates, line[3] + quarantined
        for key, count in self.duplicates.items():
            lines[key][1] -= count
            lines[key][2] += count
        for key, count in self._conflicting_ticks.items():
            lines[key][2] -= count
        for conflict in self._conflicts:
            lines[conflict[2], conflict[3]][3] += 1
        return [(*key, *lines[key]) for key in sorted(lines)]

    def _select(self, table: str, symbol: str, provider: str) -> sqlite3.Cursor:
        columns = f"ts, seq, {_CONTENT[table]}"
        statements = [
            _SERIES.format(columns=columns, number=number, file=file, table=table)
            for number, file in enumerate(self._files) if table in self._tables[file]
        ]  # fmt: skip
        # of one file the order is that of its key: + keeps SQLite from leaving the constant out and sorting for itself
        order = " ORDER BY ts, provider_id, seq" if len(statements) == 1 else " ORDER BY ts, seq, file"
        statement = " UNION ALL ".join(statements) + order
        return self._connection.execute(statement, {"symbol": symbol, "provider": provider})

    def _new_ticks(self, rows: Rows, before: int, symbol: str, provider: str) -> Rows:
        """The rows from `before` on that are not under the key of the row before them."""
        again = np.zeros(len(rows), np.bool_)
        again[1:] = (rows["ts"][1:] == rows["ts"][:-1]) & (rows["seq"][1:] == rows["seq"][:-1])
        for at in np.flatnonzero(again):
            self.duplicates[provider, symbol] += 1
            fields = list(rows[at].tolist()[:-1])
            if fields != list(rows[at - 1].tolist()[:-1]):
                absent = fields.pop()
                for bit, name in enumerate(_MAY_BE_ABSENT):
                    if absent >> bit & 1:
                        fields[_TICK.names.index(name)] = None  # type: ignore[union-attr]
                self._conflicting_ticks[provider, symbol] += 1
                self._set_aside("ticks", (symbol, provider, *fields))
        return rows[before:][~again[before:]]

    def _chunks(self, table: str, symbol: str, provider: str, rows_max: int) -> Iterator[list[Any]]:
        last: tuple[Any, ...] = ()
        with reading(self._path):
            cursor = self._select(table, symbol, provider)
            while rows := cursor.fetchmany(rows_max):
                new = []
                for row in rows:
                    if row[:2] != last[:2]:
                        new.append(row)
                    elif row[:-1] != last[:-1]:
                        self._set_aside(table, (symbol, provider, *row[:-1]))
                    last = row
                if new:
                    yield new

    def _set_aside(self, table: str, row: tuple[Any, ...]) -> None:
        raw = f"{table} {row!r}".encode()
        symbol, provider, ts, _seq, recv_ts = row[:5]
        at = ts if recv_ts is None else recv_ts
        self._conflicts.append((at, provider, provider, symbol, CONFLICT_REASON, raw, -1 - zlib.crc32(raw)))


@contextlib.contextmanager
def reading(path: Path) -> Iterator[None]:
    """SQLite's errors in the words of the store."""
    try:
        yield
    except sqlite3.DatabaseError as error:
        if getattr(error, "sqlite_errorname", "").startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB")):
            raise Rejected(f"{path} is damaged ({error}): set it aside and restore it") from error
        raise Retryable(f"{path}: {error}") from error


def _tick_rows(path: Path, rows: Iterator[Any]) -> Rows:
    try:
        return np.fromiter(rows, _TICK)
    except (TypeError, ValueError, OverflowError) as error:
        raise Rejected(f"{path}: a tick is not of numbers: {error}") from error


def _tick_columns(rows: Rows) -> Columns:
    columns = {name: wrapped(rows[name], pa.int64()) for name in ("ts", "seq", "flags")}
    for bit, name in enumerate(_MAY_BE_ABSENT):
        columns[name] = wrapped(rows[name], sqlite_type(name), rows["absent"] >> bit & 1 == 0)
    return columns


def columns_of(names: Sequence[str], rows: Sequence[tuple[Any, ...]]) -> Columns:
    """Rows that begin with the named columns of the SQLite file, to Arrow."""
    return {name: pa.array(values, sqlite_type(name)) for name, values in zip(names, zip(*rows, strict=True), strict=False)}


def _levels(texts: pa.Array) -> pa.Array:
    """JSON lists of [price in 1e-9, size or null] to lists of (price, size)."""
    books = _LEVELS_JSON.decode("[" + ",".join(texts.to_pylist()) + "]")
    ends = np.cumsum([0, *map(len, books)], dtype=np.int32)
    prices, sizes = zip(*chain.from_iterable(books), strict=True) if ends[-1] else ((), ())
    struct = pa.StructArray.from_arrays(
        [to_decimal(pa.array(prices, pa.int64())), pa.array(sizes, pa.float64())], fields=LEVELS.value_type.fields
    )
    return pa.ListArray.from_arrays(pa.array(ends), struct, type=LEVELS)
