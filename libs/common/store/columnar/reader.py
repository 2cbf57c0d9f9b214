"""Ticks of sealed days as Arrow: ranges, the newest, and what stood at a time."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Self

import numpy as np
import pyarrow as pa

from libs.common.domain.moment import NS_PER_DAY, NS_PER_S
from libs.common.store.columnar.arrays import wrapped
from libs.common.store.columnar.catalog import Catalog
from libs.common.store.columnar.query import COLUMNS, Prices, Query
from libs.common.store.columnar.stream import PIECE_ROWS, Stream

BATCH_ROWS = 65_536
THREADS = 2
LOOKBACK_DAYS = 31
SKEW_NS = 3_600 * NS_PER_S  # how far a tick's ts may be ahead of its recv_ts: what is further ahead is quarantined


class SealedReader:
    """Of one data directory; for any number of threads. What was looked up is remembered until the folders change."""

    def __init__(self, data_dir: Path, *, threads: int = THREADS, piece_rows: int = PIECE_ROWS) -> None:
        self._catalog = Catalog(data_dir)
        self._piece_rows = piece_rows
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="sealed")

    def close(self) -> None:
        self._pool.shutdown(cancel_futures=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def read(self, query: Query, *, batch_rows: int = BATCH_ROWS, left_out: set[int] | None = None) -> Iterator[pa.RecordBatch]:
        """Batches of `query.schema` of at most `batch_rows` rows, in order of (ts, provider, seq), or all of it reversed.

        Ticks of several symbols that are equal in all three are in order of the symbols as asked for. The dictionary of
        `provider` may grow from batch to batch; its numbers keep their meaning.
        A day with a damaged file is added to `left_out` and left out in full or in part; without `left_out`: Damaged.
        Retryable: a day was amended and its old files are gone. Rejected: no such column, or a day of a newer program.
        """
        return Stream(self._catalog, query, left_out).batches(batch_rows, self._pool, self._piece_rows)

    def last(self, query: Query, rows: int, *, left_out: set[int] | None = None) -> pa.Table:
        """The last `rows` ticks of those asked for, oldest first; errors as in `read`."""
        stream = Stream(self._catalog, replace(query, descending=True), left_out)
        found: list[pa.RecordBatch] = []
        missing = rows
        with closing(stream.batches(BATCH_ROWS, None)) as batches:
            while missing > 0 and (batch := next(batches, None)):
                found.append(batch.slice(0, missing))
                missing -= batch.num_rows
        oldest_first = [batch.take(wrapped(np.arange(batch.num_rows)[::-1], pa.int64())) for batch in reversed(found)]
        return pa.Table.from_batches(oldest_first, query.schema)

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
            (symbol,), end - lookback_days * NS_PER_DAY, end, providers, columns, prices, known_at=known_at, descending=True
        )
        of_each = [replace(every, providers=(name,), columns=(*columns, "ts")) for name in self._providers(every, left_out)]
        rows = [row for query in of_each if len(row := Stream(self._catalog, query, left_out).newest())]
        rows.sort(key=lambda row: row.column(len(columns))[0].value)  # stable: the providers are in order
        nothing = pa.Table.from_batches([], every.schema)
        return pa.concat_tables([nothing, *(row.select(range(len(columns))) for row in rows)])

    def _providers(self, query: Query, left_out: set[int] | None) -> list[str]:
        if query.providers is not None:
            return sorted(set(query.providers))
        return sorted(Stream(self._catalog, query, left_out).providers())
