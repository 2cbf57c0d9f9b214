"""Ticks of any day at any age.

days ─▶ a run of sealed days   ─▶ Parquet, decoded ahead by threads      ─▶ up to the tick that was last, if there was a break
     ─▶ any other day          ─▶ its SQLite files and sealed generation merged        ─▶ batches
a file moved on meanwhile ─▶ the days are listed again, from the last tick on
"""

from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from itertools import chain, pairwise
from pathlib import Path
from typing import Self, TypeVar

import numpy as np
import pyarrow as pa

from libs.common.domain.moment import NS_PER_DAY, day_of
from libs.common.domain.record import Gap
from libs.common.store.columnar.arrays import int64s, wrapped
from libs.common.store.columnar.catalog import Catalog, Moved
from libs.common.store.columnar.order import Order, words
from libs.common.store.columnar.query import COLUMNS, Prices, Query
from libs.common.store.columnar.reader import BATCH_ROWS, LOOKBACK_DAYS, SKEW_NS, THREADS
from libs.common.store.columnar.schema import ROW_GROUP_ROWS, TAIL_SHARE
from libs.common.store.columnar.stream import FIRST_SHARE, PIECE_ROWS, Stream
from libs.common.store.history import dayfile
from libs.common.store.history.cold import CACHE_BYTES_MAX, ColdCache
from libs.common.store.history.dayfile import DayFileSource
from libs.common.store.history.days import DayPath, Days
from libs.common.store.history.merge import merged
from libs.common.store.history.overview import Summaries
from libs.common.store.history.summary import Overview, overlaps
from libs.common.store.tiers.cold import ColdStorage

BUSY_TIMEOUT_S = 2.0  # a day being closed is locked for about as long as its last checkpoint takes
MOVES_MAX = 10  # in a row, without a tick between them
SHARE_ROWS_MIN = 4_096  # of one symbol in one file, read at once
TIES_ROWS = 16  # read beyond what is asked for: of the last instant of a piece there may be more
FEW_PIECE_ROWS = FIRST_SHARE * (ROW_GROUP_ROWS // TAIL_SHARE + 1)  # the newest row groups of two providers are read at once
FEW_ROWS = 32_768  # who asks for no more than this is not made to wait for more

Position = tuple[int, str, int]
"""ts, provider, seq: where a tick stands among those of its symbol"""

_Found = TypeVar("_Found")


@dataclass(frozen=True, slots=True)
class Page:
    """`more`: ticks follow the last of these. `generation`: of the day of that last one; 0: not sealed, or no ticks."""

    ticks: pa.Table
    more: bool
    generation: int


class HistoryReader:
    """Of one data directory; for any number of threads. What was looked up is remembered until the folders change."""

    def __init__(
        self,
        data_dir: Path,
        *,
        cold: ColdStorage | None = None,
        cache_bytes_max: int = CACHE_BYTES_MAX,
        busy_timeout_s: float = BUSY_TIMEOUT_S,
        threads: int = THREADS,
        piece_rows: int = PIECE_ROWS,
    ) -> None:
        fetch = None if cold is None else ColdCache(data_dir, cold, cache_bytes_max).fetch
        self._catalog = Catalog(data_dir, fetch)
        self._days = Days(data_dir, self._catalog)
        self._summaries = Summaries(self._days, self._catalog, fetch, busy_timeout_s, self._count)
        self._busy_timeout_s = busy_timeout_s
        self._piece_rows = piece_rows
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="sealed")

    def close(self) -> None:
        self._pool.shutdown(cancel_futures=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def read(
        self, query: Query, *, batch_rows: int = BATCH_ROWS, left_out: set[int] | None = None
    ) -> Generator[pa.RecordBatch, None, None]:
        """Batches of `query.schema` of at most `batch_rows` rows, in order of (ts, provider, seq), or all of it reversed.

        Ticks of several symbols that are equal in all three are in order of the symbols as asked for. The dictionary of
        `provider` may grow from batch to batch; its numbers keep their meaning. Each symbol that is asked for at once costs the
        memory of a row group or two, whatever the range.
        A day with a damaged file, or one of a newer program, is added to `left_out` and left out in full or in part; without
        `left_out`: Damaged, Rejected. Retryable: a file stays locked, cold storage does not answer, or days are moved on faster
        than they can be read. Rejected: no such column.
        """
        return self._batches(query, Order(query), batch_rows, None, None, left_out)

    def page(self, query: Query, rows: int, *, after: Position | None = None, left_out: set[int] | None = None) -> Page:
        """The first `rows` ticks of one symbol past `after`, in the order of the query; errors as in `read`."""
        order = Order(query)
        batches = self._batches(query, order, BATCH_ROWS, rows + 1, (*after, 0) if after else None, left_out)
        found = pa.Table.from_batches(batches, query.schema)
        ticks = found.slice(0, rows)
        generation = order.generation(day_of(ticks.column("ts")[-1].value)) if len(ticks) else 0
        return Page(ticks, len(found) > rows, generation)

    def last(self, query: Query, rows: int, *, left_out: set[int] | None = None) -> pa.Table:
        """The last `rows` ticks of those asked for, oldest first; errors as in `read`."""
        newest_first = replace(query, descending=True)
        batches = self._batches(newest_first, Order(newest_first), BATCH_ROWS, rows, None, left_out)
        found = pa.Table.from_batches(batches, query.schema)
        return found.take(wrapped(np.arange(len(found))[::-1], pa.int64()))

    def as_of(
        self,
        symbol: str,
        at: int,
        *,
        known_at: int | None = None,
        providers: tuple[str, ...] | None = None,
        columns: tuple[str, ...] = COLUMNS,
        prices: Prices = "int64",
        lookback_days: int = LOOKBACK_DAYS,
        left_out: set[int] | None = None,
    ) -> pa.Table:
        """Of each provider the last tick with ts <= `at` (ns), one row each by (ts, provider): the last row is the newest.

        `known_at` (ns): of those received by then, as in `Query`. Providers without a tick in `lookback_days` have no row.
        Errors as in `read`.
        """
        end = 1 + (at if known_at is None else min(at, known_at + SKEW_NS))
        every = Query(
            (symbol,), end - lookback_days * NS_PER_DAY, end, providers, (*columns, "ts", "seq"), prices,
            known_at=known_at, descending=True,
        )  # fmt: skip
        found = _again(lambda: self._newest(every, symbol, left_out))
        names = sorted(found, key=lambda name: (_key(found[name])[0], name))
        nothing = pa.Table.from_batches([], replace(every, columns=columns).schema)
        return pa.concat_tables([nothing, *(found[name].select(range(len(columns))) for name in names)])

    def overview(self) -> Overview:
        """Symbols, days, states and the account; errors as in `read`. Cheap: what never changes was read once."""
        return _again(self._summaries.overview)

    def gaps(self, start: int, end: int) -> tuple[list[Gap], set[int]]:
        """What the sessions may have missed of [start, end), oldest first, the newest record of each; and the days left out."""
        gaps, left_out = _again(self._summaries.gaps)
        return [gap for gap in gaps if overlaps(gap, start, end)], left_out

    def generation(self, symbol: str, day: int) -> int:
        """0: the day is not sealed, or its manifest is damaged. 1, and one more with every amendment of what holds the symbol."""
        query = Query((symbol,), day * NS_PER_DAY, (day + 1) * NS_PER_DAY)
        order = Order(query)
        _again(lambda: Stream(self._catalog, query, set(), order).providers())
        return order.generation(day)

    def _batches(
        self,
        query: Query,
        order: Order,
        batch_rows: int,
        rows: int | None,
        after: "_Key | None",
        left_out: set[int] | None,
    ) -> Generator[pa.RecordBatch, None, None]:
        breaks = 0
        missing = rows
        while missing != 0:
            try:
                with closing(self._tables(_from(query, after), order, rows, left_out)) as tables:
                    for whole in tables:
                        table = _past(whole, after, order, descending=query.descending).slice(0, missing)
                        if not len(table):
                            continue
                        after, breaks = _last_key(table, order), 0
                        yield from order.finished(table).to_batches(batch_rows)
                        if missing is not None:
                            missing -= len(table)
                            if not missing:
                                break
            except Moved:
                breaks += 1
                if breaks > MOVES_MAX:
                    raise
            else:
                return

    def _tables(self, query: Query, order: Order, rows: int | None, left_out: set[int] | None) -> Generator[pa.Table, None, None]:
        """Coded, in order."""
        if query.start >= query.end:
            return
        files = self._days.files(day_of(query.start), day_of(query.end - 1))
        few = rows is not None and rows <= FEW_ROWS
        for span in _spans(query, files):
            sealed = Stream(self._catalog, span, left_out, order)
            sources: list[Iterator[pa.Table]] = [
                sealed.tables(*((None, FEW_PIECE_ROWS) if few else (self._pool, self._piece_rows)))
            ]
            day = day_of(span.start)
            if day in files:
                sources = sources if next(self._catalog.days(day, day), None) else []
                parts = [(file, symbol) for file in files[day] for symbol in order.symbols]
                share = max(SHARE_ROWS_MIN, dayfile.PIECE_ROWS // len(parts))
                piece_rows = rows + TIES_ROWS if few and rows is not None else share
                sources += [self._of_file(file, symbol, span, order, piece_rows, left_out) for file, symbol in parts]
            yield from merged(sources, order, descending=query.descending)

    def _of_file(
        self, file: DayPath, symbol: str, query: Query, order: Order, piece_rows: int, left_out: set[int] | None
    ) -> Iterator[pa.Table]:
        with self._summaries.leaving_out(file.day, left_out):
            yield from self._source(file).tables(query, symbol, order, piece_rows)

    def _newest(self, query: Query, symbol: str, left_out: set[int] | None) -> dict[str, pa.Table]:
        """By provider, in a table of one row that ends in ts and seq."""
        found: dict[str, pa.Table] = {}

        def offer(name: str, row: pa.Table) -> None:
            if name not in found or _key(row) > _key(found[name]):
                found[name] = row

        order = Order(query)
        files = self._days.files(day_of(query.start), day_of(query.end - 1))
        for file in chain.from_iterable(files[day] for day in sorted(files, reverse=True)):
            with self._summaries.leaving_out(file.day, left_out):
                newer = {name for name, row in found.items() if day_of(_key(row)[0]) > file.day}
                if newer and newer >= self._senders(file, symbol):
                    continue
                for name, row in self._source(file).newest(query, symbol, order).items():
                    offer(name, order.finished(row))
        names = query.providers if query.providers is not None else Stream(self._catalog, query, left_out).providers()
        for name in names:
            start = _key(found[name])[0] if name in found else query.start
            row = Stream(self._catalog, replace(query, providers=(name,), start=start), left_out).newest()
            if len(row):
                offer(name, row)
        return found

    def _senders(self, file: DayPath, symbol: str) -> set[str]:
        return {line.provider for line in self._summaries.held(file).account if line.symbol == symbol and line.stored}

    def _count(self, query: Query) -> Counter[str]:
        found: Counter[str] = Counter()
        for batch in self.read(query, left_out=set()):
            providers = batch.column("provider")
            counts = np.bincount(int64s(providers.indices), minlength=len(providers.dictionary)).tolist()
            found.update(dict(zip(providers.dictionary.to_pylist(), counts, strict=True)))
        return found

    def _source(self, file: DayPath) -> DayFileSource:
        return DayFileSource(file.path, self._busy_timeout_s)


_Key = tuple[int, str, int, int]
"""ts, provider, seq, code of the symbol"""


def _again(look: Callable[[], _Found]) -> _Found:
    """What it finds when nothing is moved on meanwhile."""
    for _ in range(MOVES_MAX):
        with suppress(Moved):
            return look()
    return look()


def _spans(query: Query, files: Iterable[int]) -> list[Query]:
    """The range in the order it is read, cut at each of the days."""
    cuts = sorted({at for day in files for at in (day * NS_PER_DAY, (day + 1) * NS_PER_DAY) if query.start < at < query.end})
    spans = [replace(query, start=start, end=end) for start, end in pairwise((query.start, *cuts, query.end))]
    return spans[::-1] if query.descending else spans


def _from(query: Query, position: _Key | None) -> Query:
    if position is None:
        return query
    at = position[0]
    return replace(query, end=min(query.end, at + 1)) if query.descending else replace(query, start=max(query.start, at))


def _past(table: pa.Table, position: _Key | None, order: Order, *, descending: bool) -> pa.Table:
    """Without the rows up to the position, which can only be those of its instant."""
    if position is None or not len(table) or words(table, "ts")[0] != position[0]:
        return table
    same = int(np.argmin(np.append(words(table, "ts") == position[0], False)))
    keys = [_key_at(table, row, order) for row in range(same)]
    return table.slice(sum(key >= position if descending else key <= position for key in keys))


def _last_key(table: pa.Table, order: Order) -> _Key:
    return _key_at(table, len(table) - 1, order)


def _key_at(table: pa.Table, row: int, order: Order) -> _Key:
    ts, code, seq = (int(words(table, name)[row]) for name in ("ts", "provider", "seq"))
    symbol = int(words(table, "symbol")[row]) if len(order.symbols) > 1 else 0
    return ts, list(order.providers)[code], seq, symbol


def _key(row: pa.Table) -> tuple[int, int]:
    """ts, seq: its last columns."""
    return row.column(row.num_columns - 2)[0].value, row.column(row.num_columns - 1)[0].as_py()
