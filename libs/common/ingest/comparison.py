"""Whether files and the store have the same ticks: every one of both is read, and what only one of them has is counted.

Files that know only milliseconds are compared in milliseconds, and sizes where files have them. As in an import, a tick that
stands in two files is one.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import reduce
from itertools import groupby, pairwise
from operator import itemgetter, or_
from typing import Protocol

import pyarrow as pa

from libs.common.domain.moment import NS_PER_DAY, NS_PER_MS, day_name, format_moment
from libs.common.domain.price import format_price
from libs.common.ingest.staging import StagedRow, Staging
from libs.common.store.columnar import Query

EXAMPLES_MAX = 5

Key = tuple[int, int | None, int | None, float | None, float | None]  # ts, bid, ask, sizes or None


class Reader(Protocol):
    """Of sealed days, or of all."""

    def read(self, query: Query, /) -> Iterator[pa.RecordBatch]: ...


@dataclass(slots=True)
class Compared:
    """One symbol's day, in ticks. `examples`: of those that one side lacks."""

    date: str
    symbol: str
    files: int = 0
    store: int = 0
    only_files: int = 0
    only_store: int = 0
    examples: list[str] = field(default_factory=list)

    @property
    def equal(self) -> bool:
        return not (self.only_files or self.only_store)


def compare(staging: Staging, reader: Reader, provider: str | None) -> Iterator[Compared]:
    """Every symbol's day that the files have ticks of, oldest first. `provider`: None for all. Errors as in `reader.read`."""
    unit = NS_PER_MS if staging.is_in_milliseconds() else 1
    with_sizes = staging.has_sizes()
    for day, symbol in sorted(staging.days):
        found = Compared(day_name(day), symbol)
        for (chunk, first), (_, end) in pairwise(_bounded(staging, symbol, day)):
            query = Query((symbol,), first, end, (provider,) if provider is not None else None, _COLUMNS)
            _compare_part(found, chunk, _keys(reader, query, unit, with_sizes=with_sizes), unit, with_sizes=with_sizes)
        yield found


_COLUMNS = ("ts", "bid", "ask", "bid_size", "ask_size")
_FILE = itemgetter(6)


def _bounded(staging: Staging, symbol: str, day: int) -> Iterator[tuple[list[StagedRow], int]]:
    """The rows and the time they begin at; together all of the day, and its end with no rows."""
    first = day * NS_PER_DAY
    for number, chunk in enumerate(staging.chunks(symbol, day)):
        yield chunk, chunk[0][0] if number else first
    yield [], first + NS_PER_DAY


def _compare_part(found: Compared, chunk: list[StagedRow], store: Iterator[Key], unit: int, *, with_sizes: bool) -> None:
    files = [
        Counter(_key(row[:5], unit, with_sizes=with_sizes) for row in rows)
        for _, rows in groupby(sorted(chunk, key=_FILE), _FILE)
    ]
    expected: Counter[Key] = reduce(or_, files)
    instants = {key[0] for key in expected}
    have: Counter[Key] = Counter()
    elsewhere = 0
    for key in store:
        if key[0] in instants:
            have[key] += 1
        else:
            elsewhere += 1
    missing, more = expected - have, have - expected
    found.files += expected.total()
    found.store += have.total() + elsewhere
    found.only_files += missing.total()
    found.only_store += more.total() + elsewhere
    named = [f"only in the files: {_text(key)}" for key in sorted(missing, key=str)]
    named += [f"only in the store: {_text(key)}" for key in sorted(more, key=str)]
    found.examples += named[: EXAMPLES_MAX - len(found.examples)]


def _keys(reader: Reader, query: Query, unit: int, *, with_sizes: bool) -> Iterator[Key]:
    for batch in reader.read(query):
        ts, *rest = batch.columns
        for row in zip(ts.cast(pa.int64()).to_pylist(), *(column.to_pylist() for column in rest), strict=True):
            yield _key(row, unit, with_sizes=with_sizes)


def _key(row: Key, unit: int, *, with_sizes: bool) -> Key:
    ts, bid, ask, bid_size, ask_size = row
    return (ts // unit * unit, bid, ask, *((bid_size, ask_size) if with_sizes else (None, None)))


def _text(key: Key) -> str:
    ts, bid, ask, *_ = key
    return f"{format_moment(ts)} {' '.join('-' if price is None else format_price(price) for price in (bid, ask))}"
