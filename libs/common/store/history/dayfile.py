"""One SQLite day file, open, closed or late, straight to Arrow: a connection a piece, a piece a short read transaction.

Only `adbc-driver-sqlite` opens the files here, read-only: with a second SQLite library in the process, or any other descriptor on
the file, the first to close it would drop the POSIX locks of all (decision 0012). Nothing stays open between two pieces, since a
day cannot be closed while a reader holds it and its WAL not be folded in while one reads.
"""

import contextlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import adbc_driver_sqlite
import msgspec
import numpy as np
import pyarrow as pa
from adbc_driver_manager import AdbcConnection, AdbcStatement, Error

from libs.common.domain.errors import Retryable
from libs.common.domain.record import Gap
from libs.common.store.columnar import Damaged, Query
from libs.common.store.columnar.arrays import int64s, one_chunk, texts, wrapped
from libs.common.store.columnar.catalog import Moved
from libs.common.store.columnar.order import Order, words
from libs.common.store.columnar.schema import TIME, to_decimal
from libs.common.store.history.summary import AccountLine
from libs.common.store.schema import SCHEMA_VERSION

PIECE_ROWS = 65_536
NEWEST_ROWS = 64  # most providers have sent one of a symbol's last so many ticks
SUMMARY_ROWS = 16_384
GAPS_MAX = 10_000  # read of one file: a session that flaps all day must not fill the memory
_LOCKED = re.compile("is locked|locking protocol")
_BATCH_ROWS = adbc_driver_sqlite.StatementOptions.BATCH_ROWS.value
_TYPES = {"bid_size": pa.float64(), "ask_size": pa.float64(), "flags": pa.int32()}
_FROM = "FROM ticks WHERE symbol_id = (SELECT symbol_id FROM symbols WHERE symbol = ?1) AND ts BETWEEN ?2 AND ?3"
_PAST = "AND (ts <> ?4 OR (provider_id, seq) {past} (?5, ?6))"
_PROVIDERS = """AND +provider_id IN (SELECT provider_id FROM providers
    WHERE provider IN (SELECT value FROM json_each(?7)))"""
_KNOWN = "AND coalesce(recv_ts, ts) <= ?8"
_EXCLUDE = "AND flags & ?9 = 0"
_ORDER = "ORDER BY ts {way}, provider_id {way}, seq {way} LIMIT ?10"
_SENDERS = "SELECT provider FROM account WHERE symbol = ?1 AND stored > 0"
_ACCOUNT = "SELECT provider, symbol, numbered, stored, duplicates, quarantined FROM account"
_SPANS = """SELECT symbol, (SELECT ts FROM ticks t WHERE t.symbol_id = s.symbol_id ORDER BY ts LIMIT 1),
    (SELECT ts FROM ticks t WHERE t.symbol_id = s.symbol_id ORDER BY ts DESC LIMIT 1) FROM symbols s"""
_GAPS = """SELECT session, first_seq, last_seq, from_ts, to_ts, cause, resolved_by
    FROM gaps ORDER BY from_ts DESC LIMIT ?1"""


@dataclass(frozen=True, slots=True)
class Held:
    """What a file says of itself. `spans`: symbol → first and last ts."""

    closed: bool
    account: tuple[AccountLine, ...]
    spans: dict[str, tuple[int, int]]
    gaps: tuple[Gap, ...]


class DayFileSource:
    """Errors of all that reads: Moved: the file is gone. Retryable: it stays locked. Damaged: or of a newer schema."""

    def __init__(self, path: Path, busy_timeout_s: float) -> None:
        self.path = path
        self._busy_timeout_s = busy_timeout_s

    def tables(self, query: Query, symbol: str, order: Order, piece_rows: int) -> Iterator[pa.Table]:
        """The ticks of one symbol, coded and in order, read `piece_rows` at a time."""
        first, last = query.start, query.end - 1
        position = (-(2**63), 0, 0)  # no tick stands here
        carried: list[pa.Table] = []
        full = True
        while full and first <= last:
            found = self._piece(query, symbol, order, (first, last), position, piece_rows)
            full = len(found) == piece_rows
            if full:
                at, provider_id, seq = (int(words(found, name)[-1]) for name in ("ts", "provider_id", "seq"))
                position = (at, provider_id, seq)
                first, last = (first, at) if query.descending else (at, last)
            merged = order.merge([*carried, found.drop_columns("provider_id")] if len(found) else carried, ties=True)
            ready = order.ready(merged, at) if full else len(merged)  # others of the last instant may come before its first
            carried = [merged.slice(ready)]
            if ready:
                yield merged.slice(0, ready)

    def newest(self, query: Query, symbol: str, order: Order) -> dict[str, pa.Table]:
        """The last tick of each provider of a descending query, in a coded table of one row."""
        with self._opened() as connection:
            senders = {name for (name,) in connection.rows(_SENDERS, (symbol,))}
        if query.providers is not None:
            senders &= set(query.providers)
        found: dict[str, pa.Table] = {}
        for table in islice(self.tables(query, symbol, order, NEWEST_ROWS) if senders else (), 1):
            names = list(order.providers)
            codes, rows = np.unique(words(table, "provider"), return_index=True)
            found = {names[code]: table.slice(row, 1) for code, row in zip(codes.tolist(), rows.tolist(), strict=True)}
        for name in senders - found.keys():
            for table in islice(self.tables(replace(query, providers=(name,)), symbol, order, 2), 1):
                found[name] = table.slice(0, 1)
        return found

    def held(self) -> Held:
        with self._opened() as connection:
            account = tuple(AccountLine(*row) for row in connection.rows(_ACCOUNT))
            spans = {symbol: (first, last) for symbol, first, last in connection.rows(_SPANS) if first is not None}
            return Held(connection.closed, account, spans, self._gaps(connection))

    def gaps(self) -> tuple[bool, tuple[Gap, ...]]:
        """Whether the day is closed, and its newest gaps."""
        with self._opened() as connection:
            return connection.closed, self._gaps(connection)

    @staticmethod
    def _gaps(connection: "_Connection") -> tuple[Gap, ...]:
        return tuple(Gap(*row) for row in connection.rows(_GAPS, (GAPS_MAX,)))

    def _piece(
        self, query: Query, symbol: str, order: Order, between: tuple[int, int], past: tuple[int, ...], rows_max: int
    ) -> pa.Table:
        """In the order of the primary key, or reversed; `provider_id` beside the code."""
        providers = msgspec.json.encode(query.providers or ()).decode()
        parameters: tuple[str | int, ...] = (
            symbol, *between, *past, providers, query.known_at or 0, query.exclude, rows_max
        )  # fmt: skip
        with self._opened() as connection:
            found = connection.table(_statement(query), parameters, rows_max)
            if not len(found):
                return pa.table({})
            names = dict(connection.rows("SELECT provider_id, provider FROM providers"))
        columns = {field.name: self._typed(found, field.name) for field in found.schema}
        ids = int64s(columns["provider_id"])
        codes = np.zeros(max(names) + 1, np.int32)
        for number in np.flatnonzero(np.bincount(ids)).tolist():
            codes[number] = order.providers.setdefault(names[number], len(order.providers))
        columns["provider"] = wrapped(codes[ids], pa.int32())
        if len(order.symbols) > 1:
            columns["symbol"] = wrapped(np.full(len(ids), order.symbols[symbol], np.int32), pa.int32())
        if "recv_ts" in columns:
            columns["recv_ts"] = columns["recv_ts"].view(TIME)
        if query.prices == "decimal":
            columns |= {name: to_decimal(columns[name]) for name in ("bid", "ask") if name in columns}
        return pa.table({name: columns[name] for name in ("provider_id", *order.columns)})

    def _typed(self, found: pa.Table, name: str) -> pa.Array:
        """SQLite has types of values, not of columns: where all are absent, any type will do."""
        column = one_chunk(found, name)
        kind = _TYPES.get(name, pa.int64())
        if column.type == kind:
            return column
        if column.null_count == len(column) or name == "flags":
            return column.cast(kind)
        raise Damaged(self.path, f"{name} of a tick is no number of its kind")

    @contextlib.contextmanager
    def _opened(self) -> Iterator["_Connection"]:
        try:
            uri = f"{self.path.absolute().as_uri()}?mode=ro"
            with adbc_driver_sqlite.connect(uri) as database, AdbcConnection(database) as connection:
                opened = _Connection(connection, self._busy_timeout_s)
                if opened.version > SCHEMA_VERSION:
                    newer = f"schema version {opened.version} is newer than {SCHEMA_VERSION}: upgrade this service"
                    raise Damaged(self.path, newer)
                yield opened
        except (Error, pa.ArrowException, OSError) as error:
            if not self.path.exists():
                raise Moved(f"{self.path} went to another tier while it was read: ask again") from error
            if _LOCKED.search(str(error)):
                raise Retryable(f"{self.path.name} is locked: {error}") from error
            raise Damaged(self.path, str(error)) from error


class _Connection:
    """Every statement is a transaction of its own, and over when it returns."""

    def __init__(self, connection: AdbcConnection, busy_timeout_s: float) -> None:
        self._connection = connection
        self.version = 1
        self.rows(f"PRAGMA busy_timeout = {round(busy_timeout_s * 1e3)}")
        ((self.version,),) = self.rows("PRAGMA user_version")

    @property
    def closed(self) -> bool:
        return bool(self.rows("SELECT 1 FROM meta WHERE key = 'closed_at'"))

    def rows(self, sql: str, parameters: Sequence[str | int] = ()) -> list[tuple[Any, ...]]:
        found = self.table(sql, parameters)
        return list(zip(*(column.to_pylist() for column in found.columns), strict=True))

    def table(self, sql: str, parameters: Sequence[str | int] = (), rows_max: int = SUMMARY_ROWS) -> pa.Table:
        """Of up to `rows_max` rows the types are those of all, not of the first thousand."""
        if not self.version:  # made a moment ago: the writer has not put the schema in yet
            return pa.table({})
        with AdbcStatement(self._connection) as statement:
            statement.set_options(**{_BATCH_ROWS: str(rows_max)})
            statement.set_sql_query(sql)
            if parameters:
                statement.prepare()
                schema, array = _bound(parameters).__arrow_c_array__()
                statement.bind(array, schema)
            stream, _ = statement.execute_query()
            return pa.RecordBatchReader._import_from_c(stream.address).read_all()  # noqa: SLF001 - as adbc's own dbapi does


def _bound(parameters: Sequence[str | int]) -> pa.RecordBatch:
    columns = [texts([one]) if isinstance(one, str) else wrapped(np.array([one], np.int64), pa.int64()) for one in parameters]
    return pa.RecordBatch.from_arrays(columns, [str(number) for number in range(len(columns))])


def _statement(query: Query) -> str:
    wanted = [name for name in ("recv_ts", "bid", "ask", "bid_size", "ask_size", "flags") if name in query.columns]
    way = "DESC" if query.descending else "ASC"
    parts = [
        f"SELECT {', '.join(('ts', 'provider_id', 'seq', *wanted))}",
        _FROM,
        _PAST.format(past="<" if query.descending else ">"),
        _PROVIDERS if query.providers is not None else "",
        _KNOWN if query.known_at is not None else "",
        _EXCLUDE if query.exclude else "",
        _ORDER.format(way=way),
    ]
    return " ".join(parts)
