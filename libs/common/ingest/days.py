"""What becomes of a day that files have rows of: the rows it does not have yet become part of it, in whichever tier it is.

    open, or not over       ─▶ refused: persistence alone writes it. Import the same files again when it is closed
    no file                 ─▶ day file in the scratch folder ─▶ its name ─▶ sealed
    closed … archived       ─▶ all that came late is made part of it ─▶ import file in the scratch folder ─▶ its name ─▶ amended

Before an import file has its name nothing has happened; from then on lifecycle would bring it to its end. So killed anywhere, the
same import again leads to the same end, and what is there already is found and not added.
"""

import shutil
from collections import defaultdict
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import cast

import pyarrow as pa
import pyarrow.compute as pc

from libs.common.bus import partition_of
from libs.common.domain.errors import Rejected, Retryable
from libs.common.domain.moment import NS_PER_DAY, NS_PER_S, day_name
from libs.common.imports import Content, StoredRow, merge
from libs.common.ingest.staging import Staging
from libs.common.store import Batch, DayFile, Layout
from libs.common.store.columnar import Query, SealedReader
from libs.common.store.day import Row
from libs.common.store.history import HistoryReader
from libs.common.store.tiers import ColdStorage, TierDay, amend_day, extras, finish, require_space, seal_day, tier_days
from libs.common.store.tiers.disk import disk_may_refuse, move, move_to_free, remove
from libs.common.telemetry.chaos import point

BYTES_PER_ROW = 200  # at the worst moment: in the import file, in the day that is rebuilt with it, and sealed
_FILE = itemgetter(6)


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Where ticks go, under which provider's name. `now` in ns; `partitions`: those that the store is written in."""

    data_dir: Path
    provider: str
    partitions: int
    now: int
    cold: ColdStorage | None = None
    rotate_grace_s: float = 0
    disk_reserve_bytes: int = 0
    dry_run: bool = False


@dataclass(slots=True)
class DayOutcome:
    """Of one symbol's day, in ticks: `rows` of all files, of which `added` are new and part of the day now, or would be.

    The others were there already, or stand in several of the files. `error`: why nothing was added.
    """

    date: str
    symbol: str
    rows: int
    added: int = 0
    error: str | None = None


def bring_in(staging: Staging, target: Target) -> Iterator[DayOutcome]:
    """Make what is staged part of its days, oldest first; one day's failure is its own. Under the lock."""
    known = defaultdict(list)
    for one in tier_days(target.data_dir):
        known[one.day].append(one)
    # sealed is all that is read while Python's sqlite3 has the day files open; a dry run opens none, and reads days as they are
    make = SealedReader if not target.dry_run else partial(HistoryReader, cold=target.cold)
    with make(target.data_dir) as reader:
        for day, keys in groupby(sorted(staging.days), itemgetter(0)):
            symbols = [symbol for _, symbol in keys]
            outcomes = [DayOutcome(day_name(day), symbol, staging.days[day, symbol]) for symbol in symbols]
            try:
                _Day(day, known[day], staging, target, reader).bring_in(outcomes)
            except (Rejected, Retryable) as error:
                for outcome in outcomes:
                    outcome.error, outcome.added = str(error), 0
            yield from outcomes


def settle(day: TierDay, target: Target) -> None:
    """Bring a closed day to where all that came for it is sealed. Errors as in `tiers.seal_day`."""
    try:
        finish(day, target.now)
        seal_day(day, target.now)
        for extra in extras(day):
            amend_day(day, extra, target.now, target.cold)
    finally:
        for folder in Layout(target.data_dir).scratch().glob("*/"):
            shutil.rmtree(folder)


@dataclass(frozen=True, slots=True)
class _Day:
    day: int
    parts: list[TierDay]  # of each partition, of a former number of them too
    staging: Staging
    target: Target
    reader: SealedReader | HistoryReader

    def bring_in(self, outcomes: list[DayOutcome]) -> None:
        self._require_closed()
        if not self.target.dry_run:
            rows = sum(outcome.rows for outcome in outcomes)
            require_space(self.target.data_dir, rows * BYTES_PER_ROW, self.target.disk_reserve_bytes)
            for part in self.parts:
                settle(part, self.target)
        partition = self._partition_of
        for infix, some in groupby(sorted(outcomes, key=partition), partition):
            self._deliver(TierDay(self.day, infix, self.target.data_dir), list(some))

    def _require_closed(self) -> None:
        ends = (self.day + 1) * NS_PER_DAY + int(self.target.rotate_grace_s * NS_PER_S)
        if any(part.state() == "open" for part in self.parts) or self.target.now < ends:
            raise Rejected("the day is open, and persistence alone writes it: import the same files again once it is closed")

    def _partition_of(self, outcome: DayOutcome) -> str:
        partitions = self.target.partitions
        return f".p{partition_of(outcome.symbol, partitions):02d}" if partitions > 1 else ""

    def _deliver(self, part: TierDay, outcomes: list[DayOutcome]) -> None:
        made = part.scratch("import")
        if self.target.dry_run:
            for outcome in outcomes:
                for _ in self._new_rows(outcome):
                    pass
            return
        with disk_may_refuse(made):
            remove(made)
            with closing(DayFile(made)) as file:
                for outcome in outcomes:
                    for rows in self._new_rows(outcome):
                        file.write(Batch(ticks=cast("list[Row]", rows)))
                file.close_day(self.target.now)
            point("import_made_not_named")
            if not any(outcome.added for outcome in outcomes):
                remove(made)
            elif part.state() is None:
                move_to_free(made, part.db)
            else:
                move(made, part.imported)
        point("import_named_not_sealed")
        settle(part, self.target)

    def _new_rows(self, outcome: DayOutcome) -> Iterator[list[StoredRow]]:
        """What the day does not have, counted into `outcome`."""
        next_seq = self._next_seq(outcome.symbol)
        for chunk in self.staging.chunks(outcome.symbol, self.day):
            have = self._content(outcome.symbol, pa.array(dict.fromkeys(row[0] for row in chunk), pa.int64()))
            new: list[StoredRow] = []
            for _, rows in groupby(sorted(chunk, key=_FILE), _FILE):
                of_file = [(outcome.symbol, *row[:6]) for row in rows]
                added = merge(have, of_file, provider=self.target.provider, next_seq=next_seq)
                have += [(ts, bid, ask, bid_size, ask_size) for _, _, ts, _, _, bid, ask, bid_size, ask_size, _ in added]
                next_seq += len(added)
                new += added
            outcome.added += len(new)
            if new:
                yield new

    def _query(self, symbol: str, first: int, last: int, *columns: str) -> Iterator[pa.RecordBatch]:
        query = Query((symbol,), first, last + 1, (self.target.provider,), columns)
        return self.reader.read(query)

    def _content(self, symbol: str, instants: pa.Array) -> list[Content]:
        """All that the day has in these instants, which are in order."""
        found: list[Content] = []
        first, last = instants[0].as_py(), instants[-1].as_py()
        for batch in self._query(symbol, first, last, "ts", "bid", "ask", "bid_size", "ask_size"):
            ts = batch.column(0).cast(pa.int64())
            wanted = pc.is_in(ts, value_set=instants)
            found += zip(*(column.filter(wanted).to_pylist() for column in (ts, *batch.columns[1:])), strict=True)
        return found

    def _next_seq(self, symbol: str) -> int:
        batches = self._query(symbol, self.day * NS_PER_DAY, (self.day + 1) * NS_PER_DAY - 1, "seq")
        return max((pc.max(batch.column(0)).as_py() + 1 for batch in batches), default=0)
