"""Day files as their readers see them, while the one writer goes on writing.

    list the files ─▶ a connection a file ─▶ one statement with a LIMIT = one short read transaction ─▶ merge of a day's files

Files are opened `mode=ro`; nothing here writes or checkpoints. The connection to a file in WAL mode is closed as soon as nobody
uses it, since the day cannot be closed while a reader holds it; closed days keep theirs in a small pool. No file is ever opened
by anything but SQLite: closing another descriptor would drop this process's POSIX locks on it.
"""

import asyncio
import contextlib
import sqlite3
from collections import OrderedDict
from collections.abc import AsyncIterator, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import groupby
from operator import attrgetter, itemgetter
from pathlib import Path
from typing import Any

import aiosqlite

from libs.common.domain.errors import Retryable
from libs.common.domain.moment import day_name, day_of
from libs.common.domain.record import Gap
from libs.common.store.layout import Layout
from libs.common.store.schema import SCHEMA_VERSION
from libs.common.telemetry import logger

CONNECTIONS_MAX = 32  # open files, and threads: aiosqlite runs one a connection
BUSY_TIMEOUT_S = 2.0  # a day being closed is locked for about as long as its last checkpoint takes
FILE_GAPS_MAX = 10_000  # gaps read of one file: a session that flaps all day must not fill the memory

TickRow = tuple[int, str, int, int | None, int | None, float | None, float | None, int]
"""ts, provider, seq, bid, ask, bid_size, ask_size, flags"""

Position = tuple[int, str, int]
"""ts, provider, seq: where a tick stands among those of its symbol"""

_TICKS = """SELECT t.ts, p.provider, t.seq, t.bid, t.ask, t.bid_size, t.ask_size, t.flags
    FROM ticks t CROSS JOIN providers p ON p.provider_id = t.provider_id
    WHERE t.symbol_id = (SELECT symbol_id FROM symbols WHERE symbol = :symbol) AND t.ts >= :first AND t.ts <= :last
    AND (:provider IS NULL OR p.provider = :provider) AND t.flags & :exclude = 0
    AND (t.ts <> :after_ts OR (p.provider, t.seq) > (:after_provider, :after_seq))
    ORDER BY t.ts, p.provider, t.seq LIMIT :limit"""
TICKS_ASCENDING = _TICKS
TICKS_DESCENDING = _TICKS.replace(") > (", ") < (").replace(
    "t.ts, p.provider, t.seq LIMIT", "t.ts DESC, p.provider DESC, t.seq DESC LIMIT"
)
_NOWHERE: Position = (-(2**63), "", 0)  # no tick stands here
_ACCOUNT = "SELECT provider, symbol, numbered, stored, duplicates, quarantined FROM account"
_SPANS = """SELECT symbol, (SELECT ts FROM ticks t WHERE t.symbol_id = s.symbol_id ORDER BY ts LIMIT 1),
    (SELECT ts FROM ticks t WHERE t.symbol_id = s.symbol_id ORDER BY ts DESC LIMIT 1) FROM symbols s"""
_GAPS = """SELECT session, first_seq, last_seq, from_ts, to_ts, cause, resolved_by
    FROM gaps ORDER BY from_ts DESC LIMIT ?"""

_POSITION = itemgetter(0, 1, 2)


@dataclass(frozen=True, slots=True)
class Selection:
    """Ticks of one symbol with start <= ts < end (ns), of one provider or all, without those that carry a flag of `exclude`."""

    symbol: str
    start: int
    end: int
    provider: str | None = None
    exclude: int = 0
    descending: bool = False


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A day that an answer does not hold in full, because one of its files is damaged or gone."""

    day: int

    def __str__(self) -> str:
        return f"{day_name(self.day)} is left out in full or in part: one of its files is damaged or gone"


@dataclass(frozen=True, slots=True)
class TickPage:
    rows: list[TickRow]
    more: bool  # ticks follow the last of these
    left_out: set[LeftOut]


@dataclass(frozen=True, slots=True)
class AccountLine:
    """One line of a file's account, in ticks; `numbered` is the highest seq that the gateway has given out, plus 1."""

    provider: str
    symbol: str
    numbered: int
    stored: int
    duplicates: int
    quarantined: int


@dataclass(frozen=True, slots=True)
class FileSummary:
    """What one day or late file holds. `spans`: symbol → first and last ts."""

    day: int
    late: bool
    closed: bool
    account: tuple[AccountLine, ...]
    spans: dict[str, tuple[int, int]]
    gaps: tuple[Gap, ...]


@dataclass(frozen=True, slots=True)
class Overview:
    """All files, oldest day first, a day's late files after its own."""

    files: list[FileSummary]
    left_out: set[LeftOut]


@dataclass(frozen=True, slots=True)
class _File:
    day: int
    path: Path
    stamp: tuple[int, int, int]  # inode, mtime in ns, size: another stamp is another file

    @property
    def late(self) -> bool:
        return ".late." in self.path.name


@dataclass(slots=True)
class _Lease:
    """A connection that several readers may share: every statement is a transaction of its own."""

    opening: asyncio.Lock = field(default_factory=asyncio.Lock)
    connection: aiosqlite.Connection | None = None
    users: int = 0
    empty: bool = False  # made a moment ago: the writer has not put the schema in yet
    closed_day: bool = False


class _Unreadable(Exception):  # noqa: N818
    """The file is damaged, gone, or of a newer schema."""


class StoreReader:
    """Create, use and close it in one event loop."""

    def __init__(self, data_dir: Path, *, connections_max: int = CONNECTIONS_MAX, busy_timeout_s: float = BUSY_TIMEOUT_S) -> None:
        self._layout = Layout(data_dir)
        self._connections_max = connections_max
        self._busy_timeout_s = busy_timeout_s
        self._slots = asyncio.Semaphore(connections_max)
        self._leases: OrderedDict[_File, _Lease] = OrderedDict()
        self._summaries: dict[_File, FileSummary] = {}  # of closed files, which never change in place
        self._reported: set[_File] = set()

    @property
    def open_connections(self) -> int:
        return sum(lease.connection is not None for lease in self._leases.values())

    async def close(self) -> None:
        for lease in list(self._leases.values()):
            await _close(lease)
        self._leases.clear()

    async def ticks(self, selection: Selection, after: Position | None, limit: int) -> TickPage:
        """The first `limit` ticks of the selection past `after`, in its order, by (ts, provider, seq) over all files.

        Retryable: a file stays locked, try again.
        """
        first, last = selection.start, selection.end - 1
        if after is not None:
            first, last = (first, min(last, after[0])) if selection.descending else (max(first, after[0]), last)
        days = [file for file in await self._files() if day_of(first) <= file.day <= day_of(last)]
        rows: list[TickRow] = []
        left_out: set[LeftOut] = set()
        for _, files in _by_day(days, descending=selection.descending):
            wanted = limit + 1 - len(rows)
            parts = [await self._page(file, selection, (first, last), after, wanted, left_out) for file in files]
            rows += merge(parts, wanted, descending=selection.descending)
            if len(rows) > limit:
                break
        return TickPage(rows[:limit], len(rows) > limit, left_out)

    async def overview(self) -> Overview:
        """Cheap: closed files are read once, open ones by a few index seeks a symbol."""
        left_out: set[LeftOut] = set()
        found = [await self._summary(file, left_out) for file in await self._files()]
        return Overview([summary for summary in found if summary is not None], left_out)

    async def gaps(self, start: int, end: int) -> tuple[list[Gap], set[LeftOut]]:
        """What the sessions may have missed of [start, end), oldest first; the newest record of each gap."""
        left_out: set[LeftOut] = set()
        found = [await self._file_gaps(file, left_out) for file in await self._files()]
        return [gap for gap in distinct_gaps(found) if overlaps(gap, start, end)], left_out

    async def _page(
        self,
        file: _File,
        selection: Selection,
        between: tuple[int, int],
        after: Position | None,
        limit: int,
        left_out: set[LeftOut],
    ) -> list[TickRow]:
        summary = self._summaries.get(file)
        if summary is not None and selection.symbol not in summary.spans:
            return []
        after_ts, after_provider, after_seq = after or _NOWHERE
        parameters = {
            "symbol": selection.symbol, "provider": selection.provider, "exclude": selection.exclude,
            "first": between[0], "last": between[1], "limit": limit,
            "after_ts": after_ts, "after_provider": after_provider, "after_seq": after_seq,
        }  # fmt: skip
        statement = TICKS_DESCENDING if selection.descending else TICKS_ASCENDING
        with self._leaving_out(file, left_out):
            async with self._lease(file) as lease:
                return await _rows(lease, statement, parameters)
        return []

    async def _file_gaps(self, file: _File, left_out: set[LeftOut]) -> Iterable[Gap]:
        if file in self._summaries:
            return self._summaries[file].gaps
        with self._leaving_out(file, left_out):
            async with self._lease(file) as lease:
                return (await self._summarise(file, lease)).gaps if lease.closed_day else await _gaps(lease)
        return ()

    async def _summary(self, file: _File, left_out: set[LeftOut]) -> FileSummary | None:
        if file in self._summaries:
            return self._summaries[file]
        with self._leaving_out(file, left_out):
            async with self._lease(file) as lease:
                return await self._summarise(file, lease)
        return None

    async def _summarise(self, file: _File, lease: _Lease) -> FileSummary:
        account = tuple(AccountLine(*row) for row in await _rows(lease, _ACCOUNT))
        spans = {symbol: (first, last) for symbol, first, last in await _rows(lease, _SPANS) if first is not None}
        summary = FileSummary(file.day, file.late, lease.closed_day, account, spans, await _gaps(lease))
        if summary.closed:
            self._summaries[file] = summary
        return summary

    async def _files(self) -> list[_File]:
        found = await asyncio.to_thread(lambda: list(_stamped(self._layout)))
        current = set(found)
        self._reported &= current
        for file in self._summaries.keys() - current:
            del self._summaries[file]
        for file in self._leases.keys() - current:  # a deleted file's space is free only when its connection is closed
            await self._close_idle(file)
        return found

    @contextlib.asynccontextmanager
    async def _lease(self, file: _File) -> AsyncIterator[_Lease]:
        async with self._slots:
            lease = self._leases.setdefault(file, _Lease())
            self._leases.move_to_end(file)
            lease.users += 1
            try:
                async with lease.opening:
                    if lease.connection is None:
                        await self._make_room()
                        await _open(file.path, lease, self._busy_timeout_s)
                yield lease
            finally:
                lease.users -= 1
                if not lease.closed_day:
                    await self._close_idle(file)

    async def _make_room(self) -> None:
        for file in list(self._leases):
            if len(self._leases) <= self._connections_max:
                return
            await self._close_idle(file)

    async def _close_idle(self, file: _File) -> None:
        lease = self._leases.get(file)
        if lease is not None and not lease.users:
            del self._leases[file]
            await _close(lease)

    @contextlib.contextmanager
    def _leaving_out(self, file: _File, left_out: set[LeftOut]) -> Iterator[None]:
        """A file that cannot be read costs its day, not the answer; it is logged once."""
        try:
            yield
        except _Unreadable as error:
            left_out.add(LeftOut(file.day))
            if file not in self._reported:
                self._reported.add(file)
                logger().error("day left out", date=day_name(file.day), path=str(file.path), reason=str(error))


def merge(parts: list[list[TickRow]], limit: int, *, descending: bool) -> list[TickRow]:
    """The first `limit` rows of several files of one day, each in order; what two files both hold counts once."""
    filled = [part for part in parts if part]
    if len(filled) < 2:
        return filled[0] if filled else []
    distinct = {_POSITION(row): row for part in reversed(filled) for row in part}
    return sorted(distinct.values(), key=_POSITION, reverse=descending)[:limit]


def distinct_gaps(files: Iterable[Iterable[Gap]]) -> list[Gap]:
    """The gaps of several files in the order of `Overview`, oldest first; of each gap the newest record."""
    newest = {(gap.session, gap.cause, gap.from_ts, gap.first_seq): gap for gaps in files for gap in gaps}
    return sorted(newest.values(), key=attrgetter("from_ts", "session"))


def overlaps(gap: Gap, start: int, end: int) -> bool:
    """A gap without an end is still open; one without a length is an instant."""
    return gap.from_ts < end and (gap.to_ts is None or max(gap.to_ts, gap.from_ts + 1) > start)


def _by_day(files: list[_File], *, descending: bool) -> Iterator[tuple[int, list[_File]]]:
    days = [(day, list(found)) for day, found in groupby(files, key=attrgetter("day"))]
    return iter(reversed(days) if descending else days)


def _stamped(layout: Layout) -> Iterator[_File]:
    for day, path in layout.day_files():
        with contextlib.suppress(FileNotFoundError):
            status = path.stat()
            yield _File(day, path, (status.st_ino, status.st_mtime_ns, status.st_size))


async def _open(path: Path, lease: _Lease, busy_timeout_s: float) -> None:
    with _translated(path):
        connection = await aiosqlite.connect(_uri(path), uri=True, isolation_level=None, timeout=busy_timeout_s)
        lease.connection = connection
        ((version,),) = await connection.execute_fetchall("PRAGMA user_version")
        if version > SCHEMA_VERSION:
            raise _Unreadable(f"schema version {version} is newer than {SCHEMA_VERSION}: upgrade this service")
        lease.empty = version == 0
        if not lease.empty:
            lease.closed_day = bool(await connection.execute_fetchall("SELECT 1 FROM meta WHERE key = 'closed_at'"))


def _uri(path: Path) -> str:
    return f"{path.resolve().as_uri()}?mode=ro"


async def _close(lease: _Lease) -> None:
    connection, lease.connection = lease.connection, None
    if connection is not None:
        await connection.close()


async def _rows(lease: _Lease, sql: str, parameters: Any = ()) -> list[Any]:
    assert lease.connection is not None
    if lease.empty:
        return []
    with _translated():
        return list(await lease.connection.execute_fetchall(sql, parameters))


async def _gaps(lease: _Lease) -> tuple[Gap, ...]:
    return tuple(Gap(*row) for row in await _rows(lease, _GAPS, (FILE_GAPS_MAX,)))


@contextlib.contextmanager
def _translated(path: Path | None = None) -> Iterator[None]:
    try:
        yield
    except sqlite3.DatabaseError as error:
        if getattr(error, "sqlite_errorname", "").startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
            raise Retryable(f"{path.name if path else 'a day file'} is locked: {error}") from error
        raise _Unreadable(str(error)) from error
