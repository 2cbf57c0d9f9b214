"""The answer to one query, batch by batch.

    days ─▶ row groups in the order they are needed ─▶ decoded by threads, a few pieces ahead
         ─▶ merged up to the edge, where the next piece begins ─▶ batches; what is past the edge is carried over

The rows in memory are those of the pieces ahead, and of a row group or so of each symbol and provider.
"""

from collections import deque
from collections.abc import Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass
from itertools import chain
from operator import attrgetter

import numpy as np
import pyarrow as pa

from libs.common.domain.errors import Rejected
from libs.common.domain.moment import day_of
from libs.common.store.columnar.arrays import int64s, is_valid, one_chunk, wrapped
from libs.common.store.columnar.catalog import Catalog, Indexed, Moved, SealedFile
from libs.common.store.columnar.checks import finding_damage, open_ticks
from libs.common.store.columnar.manifest import Damaged
from libs.common.store.columnar.order import Order, taken, words
from libs.common.store.columnar.query import Query
from libs.common.store.columnar.schema import received_ns, time_ns, to_decimal

PIECE_ROWS = 131_072  # decoded at once, by one thread
FIRST_SHARE = 4  # the first piece, which the first batch waits for, is this part of it; each next one is twice as large
PIECES_AHEAD = 2


@dataclass(frozen=True, slots=True)
class _Group:
    """A row group; `number` is its place in the metadata of its symbol. Times in ns."""

    indexed: Indexed
    number: int
    provider: str
    rows: int
    first: int
    last: int
    whole_ms: bool


@dataclass(frozen=True, slots=True)
class _Piece:
    """Row groups of one symbol in one file, decoded together; no tick of it or of a later piece comes before `edge`."""

    indexed: Indexed
    groups: list[_Group]
    edge: int


class Stream:
    """One use of one query."""

    def __init__(self, catalog: Catalog, query: Query, left_out: set[int] | None, order: Order | None = None) -> None:
        self._catalog = catalog
        self._query = query
        self._left_out = left_out
        self._order = order or Order(query)
        self._schema = query.schema
        self._stored = query.stored_columns
        self._several_files = False  # of one day: a tick may be in two of them

    def batches(
        self, batch_rows: int, pool: ThreadPoolExecutor | None, piece_rows: int = 1
    ) -> Generator[pa.RecordBatch, None, None]:
        """Of at most `batch_rows` rows, in the schema of the query; the rest as `tables`."""
        with closing(self.tables(pool, piece_rows)) as tables:
            for table in tables:
                yield from self._order.finished(table).to_batches(batch_rows)

    def tables(self, pool: ThreadPoolExecutor | None, piece_rows: int = 1) -> Generator[pa.Table, None, None]:
        """Coded, in order. Decoded ahead by the pool; without one, by the caller as it asks, a row group at a time.

        Errors as in `read`.
        """
        carried: list[pa.Table] = []
        fresh: list[pa.Table] = []
        with closing(self._decoded(pool, piece_rows)) as decoded:
            for table, edge in decoded:
                fresh.append(table)
                # merging only when as much is fresh as is carried keeps the work linear, however many series there are;
                # a caller who asks for few ticks is not made to wait for more
                if pool and edge is not None and sum(map(len, fresh)) < sum(map(len, carried)):
                    continue
                merged = self._order.merge(carried + fresh, distinct=self._several_files)
                ready = len(merged) if edge is None else self._order.ready(merged, edge)
                carried, fresh = [merged.slice(ready)], []
                if ready:
                    yield merged.slice(0, ready)

    def newest(self) -> pa.Table:
        """The last tick of a query of one symbol and provider, in a table of one row; or of none."""
        found = pa.Table.from_batches([], self._schema)
        at = (0, 0)
        for files in self._files():
            for group in self._groups(files):  # the newest first; of several files they may overlap
                if len(found) and group.last < at[0]:
                    break
                if len(table := self._decode(self._piece([group]))):
                    row = table.slice(len(table) - 1)
                    key = int(words(row, "ts")[0]), int(words(row, "seq")[0])
                    if not len(found) or key > at:
                        found, at = self._order.finished(row), key
            if len(found):
                break
        return found

    def providers(self) -> set[str]:
        """Those that have ticks on the days of the query."""
        found: set[str] = set()
        for file in chain.from_iterable(self._files()):
            with self._leaving_out(file):
                indexes = [self._index(file, symbol) for symbol in self._order.symbols]
                found.update(series.provider for indexed in indexes for series in indexed.series)
        return found

    def _decoded(self, pool: ThreadPoolExecutor | None, piece_rows: int) -> Generator[tuple[pa.Table, int | None], None, None]:
        """The ticks of each piece, and the edge of the piece after it, None after the last."""
        pieces = self._pieces(piece_rows // FIRST_SHARE, piece_rows)
        waiting: deque[tuple[_Piece, Future[pa.Table] | None]] = deque()
        try:
            while True:
                while len(waiting) <= (PIECES_AHEAD if pool else 1) and (piece := next(pieces, None)):
                    waiting.append((piece, pool.submit(self._decode, piece) if pool else None))
                if not waiting:
                    return
                piece, decoding = waiting.popleft()
                table = decoding.result() if decoding else self._decode(piece)
                yield table, waiting[0][0].edge if waiting else None
        finally:
            for _, decoding in waiting:
                if decoding:
                    decoding.cancel()

    def _pieces(self, rows: int, rows_max: int) -> Iterator[_Piece]:
        """The first of `rows` rows, or one row group; each next one of twice as many, up to `rows_max`."""
        for files in self._files():
            self._several_files |= len(files) > 1
            groups: list[_Group] = []
            for group in self._groups(files):
                if groups and (group.indexed is not groups[0].indexed or sum(one.rows for one in groups) >= rows):
                    yield self._piece(groups)
                    groups, rows = [], min(2 * rows, rows_max)
                groups.append(group)
            if groups:
                yield self._piece(groups)

    def _files(self) -> Iterator[list[SealedFile]]:
        """The sealed files of each day of the query."""
        query = self._query
        if query.start < query.end:
            yield from self._catalog.days(day_of(query.start), day_of(query.end - 1), descending=query.descending)

    def _piece(self, groups: list[_Group]) -> _Piece:
        edge = groups[0].last if self._query.descending else groups[0].first
        return _Piece(groups[0].indexed, sorted(groups, key=attrgetter("number")), edge)

    def _groups(self, files: list[SealedFile]) -> list[_Group]:
        """The row groups of a day that may hold what is asked for, in the order in which they are needed."""
        found: list[_Group] = []
        for file in files:
            with self._leaving_out(file):
                for symbol in self._order.symbols:
                    found += self._groups_of(self._index(file, symbol))
        if self._query.descending:
            return sorted(found, key=attrgetter("last", "provider"), reverse=True)
        return sorted(found, key=attrgetter("first", "provider"))

    def _index(self, file: SealedFile, symbol: str) -> Indexed:
        indexed = self._catalog.index(file, symbol)
        self._order.generations.setdefault(file.paths, indexed.generation)
        return indexed

    def _groups_of(self, indexed: Indexed) -> Iterator[_Group]:
        number = 0
        for series in indexed.series:
            wanted = self._query.providers is None or series.provider in self._query.providers
            for group in series.row_groups:
                if wanted and group.first < self._query.end and group.last >= self._query.start:
                    self._order.providers.setdefault(series.provider, len(self._order.providers))
                    yield _Group(indexed, number, series.provider, group.rows, group.first, group.last, series.whole_ms)
                number += 1

    @contextmanager
    def _leaving_out(self, file: SealedFile) -> Iterator[None]:
        try:
            yield
        except Rejected as problem:
            is_moved = isinstance(problem, Damaged) and (not self._catalog.is_current(file) or self._catalog.has_lost(problem))
            if is_moved:
                raise Moved(f"{file.paths.manifest} or one of its files has gone since it was listed: ask again") from problem
            if self._left_out is None:
                raise
            self._left_out.add(file.paths.day)

    def _decode(self, piece: _Piece) -> pa.Table:
        """The ticks of the piece that are asked for; names as codes, ts as int64."""
        path = piece.indexed.path
        with self._leaving_out(piece.indexed.file), finding_damage(path):
            file = open_ticks(path, self._catalog.metadata(piece.indexed))
            needed = [name for name in self._stored if name != "ts_sub_ms" or not all(group.whole_ms for group in piece.groups)]
            stored = file.read_row_groups([group.number for group in piece.groups], needed, use_threads=False)
            return self._wanted(piece, self._columns(piece, stored)).select(self._order.columns)
        return pa.table({})

    def _columns(self, piece: _Piece, stored: pa.Table) -> pa.Table:
        ts = time_ns(stored)
        providers = np.array([self._order.providers[group.provider] for group in piece.groups], np.int32)
        columns = {
            "ts": wrapped(ts, pa.int64()),
            "seq": one_chunk(stored, "seq"),
            "provider": wrapped(np.repeat(providers, [group.rows for group in piece.groups]), pa.int32()),
        }
        if len(self._order.symbols) > 1:
            columns["symbol"] = wrapped(np.full(len(ts), self._order.symbols[piece.indexed.symbol], np.int32), pa.int32())
        for name in self._stored[3:]:
            if name == "recv_delay_us":
                columns["recv_ts"] = received_ns(stored, ts)
            elif name in ("bid", "ask") and self._query.prices == "decimal":
                columns[name] = to_decimal(one_chunk(stored, name))
            else:
                columns[name] = one_chunk(stored, name)
        return pa.table(columns)

    def _wanted(self, piece: _Piece, table: pa.Table) -> pa.Table:
        query = self._query
        all_between = all(query.start <= group.first and group.last < query.end for group in piece.groups)
        if all_between and not query.exclude and query.known_at is None:
            return table
        ts = words(table, "ts")
        wanted = (ts >= query.start) & (ts < query.end)
        if query.exclude:
            wanted &= words(table, "flags") & query.exclude == 0
        if query.known_at is not None:
            received = one_chunk(table, "recv_ts")
            wanted &= np.where(is_valid(received), int64s(received), ts) <= query.known_at
        rows = np.flatnonzero(wanted)
        if not len(rows) or rows[-1] - rows[0] + 1 == len(rows):
            return table.slice(rows[0] if len(rows) else 0, len(rows))
        return taken(table, rows)
