"""Ticks of any day at any age: one reader over day files, what came late, sealed days and cold storage.

    with HistoryReader(data_dir, cold=ColdStorage(url)) as reader:                    # cold: or None
        for batch in reader.read(Query(("EUR/USD",), start, end), left_out=missing):  # Arrow, in order of (ts, provider, seq)
        reader.last(query, 100)                                                       # a table, oldest first
        reader.as_of("EUR/USD", at, known_at=then)                                    # a table, one row a provider
        reader.page(query, 1_000, after=(ts, provider, seq))                          # with the generation for a cursor
        reader.overview()                                                             # files, states, account
        reader.gaps(start, end)

The schema is that of the query, `Query.schema`, whatever tier a tick lies in. A day that is closed, sealed, amended, compressed
or archived in the middle of a query is read on where it is then: every tick once. It reads day files by `adbc-driver-sqlite`: a
process that has a HistoryReader opens none of them with another SQLite library, Python's sqlite3 included.
"""

from libs.common.store.columnar import COLUMNS, Query
from libs.common.store.history.cold import CACHE_BYTES_MAX
from libs.common.store.history.reader import HistoryReader, Page, Position
from libs.common.store.history.summary import AccountLine, FileSummary, Overview, distinct_gaps, overlaps

__all__ = [
    "CACHE_BYTES_MAX",
    "COLUMNS",
    "AccountLine",
    "FileSummary",
    "HistoryReader",
    "Overview",
    "Page",
    "Position",
    "Query",
    "distinct_gaps",
    "overlaps",
]
