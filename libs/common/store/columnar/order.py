"""Ticks in the order of their readers, (ts, provider, seq), while they are still codes and plain numbers.

A coded table has `ts` in int64 ns, `seq`, `provider` as int32 codes, of several symbols `symbol` too, and what else is asked for:
`Order.columns`.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from libs.common.store.columnar.arrays import Int64s, int64s, one_chunk, texts, wrapped
from libs.common.store.columnar.paths import SealedPaths
from libs.common.store.columnar.query import COLUMNS, Query
from libs.common.store.columnar.schema import TIME


class Order:
    """Of one use of one query. Codes are given out as names are met; they keep their meaning."""

    def __init__(self, query: Query) -> None:
        self.symbols = {symbol: code for code, symbol in enumerate(dict.fromkeys(query.symbols))}
        self.providers = {provider: code for code, provider in enumerate(dict.fromkeys(query.providers or ()))}
        key = ("ts", "seq", "provider", *(("symbol",) if len(self.symbols) > 1 else ()))
        self.columns = (*key, *(name for name in COLUMNS if name in query.columns and name not in (*key, "symbol")))
        self.generations: dict[SealedPaths, int] = {}  # of the sealed days that were read; of one swapped meanwhile the first
        self._schema = query.schema
        self._descending = query.descending

    def generation(self, day: int) -> int:
        """0: no sealed file of the day was read. 1, and one more with every amendment of one of its partitions."""
        found = [generation for paths, generation in self.generations.items() if paths.day == day]
        return 1 + sum(generation - 1 for generation in found) if found else 0

    def merge(self, tables: Sequence[pa.Table], *, distinct: bool = False, ties: bool = False) -> pa.Table:
        """In order, reversed where the query is. `distinct`: what several hold counts once, as the first of them has it.

        `ties`: even one table alone may have those of one instant in another order.
        """
        filled = [table for table in tables if len(table)]
        if not filled:
            return pa.table({})
        table = filled[0] if len(filled) == 1 else pa.concat_tables(filled).combine_chunks()
        ts = words(table, "ts")
        order: npt.NDArray[np.intp] = np.argsort(ts, kind="stable")  # a merge: timsort finds the runs
        if ties or self._descending or len(filled) > 1 or len(self.symbols) > 1:  # what was merged before is reversed already
            order = self._settle_ties(table, ts, order, distinct)
        order = order[::-1] if self._descending else order
        return table if len(order) == len(table) and np.all(order[1:] > order[:-1]) else taken(table, order)

    def ready(self, merged: pa.Table, edge: int) -> int:
        """How many rows come before every row at the edge or past it."""
        if not len(merged):
            return 0
        ts = words(merged, "ts")
        return int(np.searchsorted(-ts, -edge) if self._descending else np.searchsorted(ts, edge))

    def finished(self, merged: pa.Table) -> pa.Table:
        """With names, in the schema of the query."""
        codes = {"symbol": self.symbols, "provider": self.providers}
        columns = []
        for name in self._schema.names:
            if name == "symbol" and len(self.symbols) == 1:
                column = wrapped(np.zeros(len(merged), np.int32), pa.int32())
            else:
                column = one_chunk(merged, name)
            if name in codes:
                column = pa.DictionaryArray.from_arrays(column, texts(list(codes[name])), safe=False)  # the codes are our own
            columns.append(column.view(TIME) if name == "ts" else column)
        return pa.table(columns, schema=self._schema)

    def _settle_ties(self, table: pa.Table, ts: Int64s, order: npt.NDArray[np.intp], distinct: bool) -> npt.NDArray[np.intp]:
        """Ticks of one instant by (provider, seq, symbol)."""
        names = np.array(list(self.providers))
        rank = np.argsort(np.argsort(names))
        equal = np.diff(ts[order]) == 0
        tied = np.flatnonzero(np.append(equal, False) | np.append(False, equal))
        rows = order[tied]
        keys = [words(table, "seq")[rows], rank[words(table, "provider")[rows]], ts[rows]]
        if len(self.symbols) > 1:
            keys.insert(0, words(table, "symbol")[rows])
        by_key = np.lexsort(keys)
        order[tied] = rows[by_key]
        if not distinct or not len(tied):
            return order
        same = np.append(False, np.all([np.diff(key[by_key]) == 0 for key in keys], axis=0))
        return np.delete(order, tied[same])


def taken(table: pa.Table, rows: npt.NDArray[np.intp]) -> pa.Table:
    return pc.take(table, wrapped(rows, pa.int64()), boundscheck=False)  # the rows are our own


def words(table: pa.Table, name: str) -> Int64s:
    return int64s(one_chunk(table, name))
