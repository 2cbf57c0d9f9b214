"""What each file says of itself, remembered for those that never change: closed day files and sealed days."""

import contextlib
import threading
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import groupby
from operator import attrgetter
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from libs.common.domain.errors import Rejected
from libs.common.domain.moment import NS_PER_DAY, day_name
from libs.common.domain.record import Gap
from libs.common.store.columnar import Damaged, Query
from libs.common.store.columnar.catalog import Catalog, Fetch, Moved, SealedFile
from libs.common.store.columnar.checks import finding_damage
from libs.common.store.columnar.manifest import File, decode_checked
from libs.common.store.columnar.schema import TIME
from libs.common.store.history.dayfile import DayFileSource, Held
from libs.common.store.history.days import DayPath, Days
from libs.common.store.history.summary import AccountLine, FileSummary, Overview, distinct_gaps
from libs.common.store.tiers.day import State, TierDay
from libs.common.telemetry import logger

Stamp = tuple[int, ...]
CountTicks = Callable[[Query], Counter[str]]
EVER = (-(10**5), 10**6)  # days
_TIER = attrgetter("tier")


class _Series(msgspec.Struct):
    provider: str
    ticks: int
    first: int
    last: int


class _Manifest(msgspec.Struct):
    """What an overview needs of one."""

    generation: int
    files: dict[str, File]
    series: dict[str, list[_Series]]


class Summaries:
    """For any number of threads. `count`: ticks by provider that a query finds, over all files.

    Errors: Moved: a file went to another tier meanwhile. Retryable: one stays locked.
    """

    def __init__(self, days: Days, catalog: Catalog, fetch: Fetch | None, busy_timeout_s: float, count: CountTicks) -> None:
        self._days = days
        self._catalog = catalog
        self._fetch = fetch
        self._busy_timeout_s = busy_timeout_s
        self._count = count
        self._lock = threading.Lock()  # one overview at a time: the first reads what the others find
        self._sealed: dict[SealedFile, FileSummary] = {}
        self._closed: dict[Path, tuple[Stamp, Held]] = {}
        self._beyond_sealed: dict[TierDay, tuple[object, tuple[AccountLine, ...]]] = {}
        self._reported: set[tuple[int, str]] = set()

    def overview(self) -> Overview:
        left_out: set[int] = set()
        found: defaultdict[TierDay, list[FileSummary]] = defaultdict(list)
        with self._lock:
            late, own = self._days.listed(*EVER)
            extras = self._days.files(*EVER)
            day_files = {file.tier for file in own}
            sealed = {self._days.tier(file): file for of_day in self._catalog.days(*EVER) for file in of_day}
            self._forget({file.path for file in (*late, *own)}, set(sealed.values()))
            for tier, file in sealed.items():
                with self.leaving_out(tier.day, left_out):
                    state: State = "sealed" if tier in day_files else "compressed" if tier.zst.exists() else "archived"
                    found[tier].append(replace(self._of_sealed(file), state=state))
            for day in sorted(extras):
                tiers = {tier: list(files) for tier, files in groupby(sorted(extras[day], key=_TIER), key=_TIER)}
                stamps = ({tier: sealed[tier] for tier in sealed if tier.day == day}, [_stamp(file.path) for file in extras[day]])
                for tier in sorted(tiers, key=sealed.__contains__):  # what is beyond sealed days is what nobody else has counted
                    with self.leaving_out(day, left_out):
                        of_day = [one for other in found if other.day == day for one in found[other]]
                        found[tier] += self._of_files(tier, tiers[tier], found[tier], of_day, stamps)
        return Overview([summary for tier in sorted(found) for summary in found[tier]], left_out)

    def gaps(self) -> tuple[list[Gap], set[int]]:
        """The newest record of each, of all days; and the days with a file that cannot be read."""
        left_out: set[int] = set()
        found: list[tuple[Gap, ...]] = []
        with self._lock:
            extras = self._days.files(*EVER)
            for of_day in self._catalog.days(*EVER):
                for sealed in of_day:
                    with self.leaving_out(sealed.paths.day, left_out):
                        found.append(self._of_sealed(sealed).gaps)
            for day in sorted(extras):
                for file in extras[day]:
                    with self.leaving_out(day, left_out):
                        found.append(self._gaps_of(file))
        return distinct_gaps(found), left_out

    def _gaps_of(self, file: DayPath) -> tuple[Gap, ...]:
        known = self._known(file)
        if known is not None:
            return known.gaps
        closed, gaps = self._source(file).gaps()
        return self.held(file).gaps if closed else gaps  # all of it is read once, and remembered

    def held(self, file: DayPath) -> Held:
        known = self._known(file)
        if known is None:
            stamp = _stamp(file.path)
            known = self._source(file).held()
            if known.closed:
                self._closed[file.path] = stamp, known
        return known

    @contextlib.contextmanager
    def leaving_out(self, day: int, left_out: set[int] | None) -> Iterator[None]:
        """A file that cannot be read costs its day, not the answer; it is logged once."""
        try:
            yield
        except Rejected as problem:
            if left_out is None:
                raise
            left_out.add(day)
            if (day, str(problem)) not in self._reported:
                self._reported.add((day, str(problem)))
                logger().error("day left out", date=day_name(day), reason=str(problem))

    def _of_files(
        self, tier: TierDay, files: list[DayPath], sealed: list[FileSummary], of_day: list[FileSummary], stamps: object
    ) -> list[FileSummary]:
        helds = [self.held(file) for file in files]
        if not sealed:
            is_open = any(not held.closed and not file.is_late for file, held in zip(files, helds, strict=True))
            state: State = "open" if is_open else "closed"
            return [FileSummary(tier.day, state, 0, held.account, held.spans, held.gaps) for held in helds]
        known = self._beyond_sealed.get(tier)
        if known is None or known[0] != stamps:
            known = self._beyond_sealed[tier] = stamps, self._beyond(tier, helds, of_day)
        first, state = known[1], sealed[0].state
        return [FileSummary(tier.day, state, 0, () if at else first, held.spans, held.gaps) for at, held in enumerate(helds)]

    def _beyond(self, tier: TierDay, helds: list[Held], of_day: list[FileSummary]) -> tuple[AccountLine, ...]:
        """What the files add to the account of the sealed day: where that has all of their ticks already, nothing."""
        counted: Counter[tuple[str, str]] = Counter()
        for line in (line for one in of_day for line in one.account):
            counted[line.provider, line.symbol] += line.stored
        lines: dict[tuple[str, str], list[int]] = {}
        for line in (line for held in helds for line in held.account):
            numbered, _, duplicates, quarantined = lines.setdefault((line.provider, line.symbol), [0, 0, 0, 0])
            sums = max(numbered, line.numbered), 0, duplicates + line.duplicates, quarantined + line.quarantined
            lines[line.provider, line.symbol] = list(sums)
        for symbol in {symbol for held in helds for symbol in held.spans}:
            query = Query((symbol,), tier.day * NS_PER_DAY, (tier.day + 1) * NS_PER_DAY, columns=("provider",))
            for provider, ticks in self._count(query).items():
                if (provider, symbol) in lines:
                    lines[provider, symbol][1] = ticks - counted[provider, symbol]
        if any(line.stored for held in helds for line in held.account) and not any(line[1] for line in lines.values()):
            lines = {key: [line[0], 0, 0, 0] for key, line in lines.items()}
        return tuple(AccountLine(*key, *line) for key, line in sorted(lines.items()))

    def _of_sealed(self, sealed: SealedFile) -> FileSummary:
        known = self._sealed.get(sealed)
        if known is None:
            path = sealed.paths.manifest
            try:
                manifest = decode_checked(path, _Manifest)
            except FileNotFoundError as error:
                raise Moved(f"{path} was removed while it was read: ask again") from error
            spans = {
                symbol: (min(one.first for one in of), max(one.last for one in of)) for symbol, of in manifest.series.items()
            }
            account = tuple(AccountLine(*row) for row in self._rows(sealed, manifest, "account"))
            gaps = tuple(Gap(*row) for row in self._rows(sealed, manifest, "gaps"))
            known = FileSummary(sealed.paths.day, "sealed", manifest.generation, account, spans, gaps)
            self._sealed[sealed] = known
        return known

    def _rows(self, sealed: SealedFile, manifest: _Manifest, kind: str) -> list[tuple[Any, ...]]:
        if kind not in manifest.files:
            return []
        file = manifest.files[kind]
        path = sealed.paths.manifest.with_name(file.name)
        if self._fetch is not None and not path.exists():
            path = self._fetch(sealed, file)
        try:
            with finding_damage(path):
                table = pq.read_table(path, page_checksum_verification=True)
        except Damaged as damage:
            if not self._catalog.is_current(sealed):
                raise Moved(f"{path} is of a generation that has gone: ask again") from damage
            raise
        columns = [column.cast(pa.int64()) if column.type == TIME else column for column in table.columns]
        return list(zip(*(column.to_pylist() for column in columns), strict=True))

    def _known(self, file: DayPath) -> Held | None:
        stamp, held = self._closed.get(file.path, ((), None))
        return held if held is not None and stamp == _stamp(file.path) else None

    def _source(self, file: DayPath) -> DayFileSource:
        return DayFileSource(file.path, self._busy_timeout_s)

    def _forget(self, paths: set[Path], sealed: set[SealedFile]) -> None:
        for path in self._closed.keys() - paths:
            self._closed.pop(path, None)
        for file in self._sealed.keys() - sealed:
            self._sealed.pop(file, None)
        for tier in list(self._beyond_sealed):
            if paths.isdisjoint((tier.db, tier.taken, tier.imported, tier.late)):
                del self._beyond_sealed[tier]


def _stamp(path: Path) -> Stamp:
    """Of a file and its WAL; another stamp is another content."""
    found: list[int] = []
    for one in (path, path.with_name(path.name + "-wal")):
        with contextlib.suppress(FileNotFoundError):
            status = one.stat()
            found += [status.st_ino, status.st_mtime_ns, status.st_size]
    return tuple(found)
