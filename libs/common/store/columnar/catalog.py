"""Which days are sealed, and where a symbol's ticks are in them: remembered, and looked up again when a folder has changed.

A swap renames a manifest, which changes its folder's mtime: until then, what was listed holds. Of a manifest only the symbol that
is asked for is decoded and kept, so that hundreds of others cost its readers no memory.
"""

import contextlib
import os
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass
from itertools import groupby
from operator import attrgetter
from pathlib import Path
from typing import Generic, TypeVar

import msgspec
import pyarrow.parquet as pq

from libs.common.domain.errors import Retryable
from libs.common.domain.moment import day_name
from libs.common.store.columnar.checks import read_footer
from libs.common.store.columnar.manifest import Damaged, File, Footer, Series, decode_checked
from libs.common.store.columnar.paths import SealedPaths, columnar_dir

Fetch = Callable[["SealedFile", File], Path]
INDEXES_MAX = 4_096  # (file, symbol) pairs kept: about 5 KB each
MONTHS_MAX = 1_200
FOOTERS_MAX = 512  # of one symbol in one file: about 10 KB for each of its row groups
_SETTLED_NS = 100_000_000  # a folder that changed less than this before it was listed may change again within one mtime

_Stamp = tuple[int, int, int]
_Value = TypeVar("_Value")


class Moved(Retryable):
    """What was listed was swapped, moved to another tier or removed since: listed again, the same question has its answer."""


@dataclass(frozen=True, slots=True)
class SealedFile:
    """One sealed day of one partition, as its manifest was when the folder was listed."""

    paths: SealedPaths
    stamp: _Stamp


@dataclass(frozen=True, slots=True)
class Indexed:
    """A symbol in a sealed file: `path` holds the ticks of its series, of which there may be none."""

    file: SealedFile
    symbol: str
    generation: int
    path: Path
    series: tuple[Series, ...]
    footer: Footer | None


class _Manifest(msgspec.Struct):
    """What a reader of ticks needs of a manifest."""

    generation: int
    files: dict[str, File]
    footer: Footer | None
    series: dict[str, msgspec.Raw]


class Catalog:
    """Of one data directory; for any number of threads. `fetch` brings a file of ticks that is not here, or says Damaged."""

    def __init__(self, data_dir: Path, fetch: Fetch | None = None) -> None:
        self._root = columnar_dir(data_dir)
        self._fetch = fetch
        self._months: Listings[SealedFile] = Listings(lambda month: sorted(_manifests(month), key=attrgetter("paths")))
        self._indexes: _Cache[Indexed] = _Cache(INDEXES_MAX)
        self._footers: _Cache[pq.FileMetaData] = _Cache(FOOTERS_MAX)

    def days(self, first: int, last: int, *, descending: bool = False) -> Iterator[list[SealedFile]]:
        """The sealed files of each day that has any, from `first` to `last`, both included, day by day."""
        for month in months(self._root, first, last, descending=descending):
            found = [file for file in self._months.of(month) if first <= file.paths.day <= last]
            for _, of_day in groupby(reversed(found) if descending else found, key=attrgetter("paths.day")):
                yield list(of_day)

    def of(self, paths: SealedPaths) -> SealedFile | None:
        """None: the day is not sealed."""
        return next((file for file in self._months.of(paths.folder) if file.paths == paths), None)

    def index(self, file: SealedFile, symbol: str) -> Indexed:
        """Damaged: the manifest is. Retryable: it was swapped or removed since the folder was listed."""
        return self._indexes.get((file, symbol), lambda: self._read_index(file, symbol))

    def metadata(self, indexed: Indexed) -> pq.FileMetaData:
        """Of the symbol's row groups, in the order of its series; Damaged where the file's footer is."""
        return self._footers.get(
            (indexed.file, indexed.symbol), lambda: read_footer(indexed.path, indexed.footer, indexed.series)
        )

    @staticmethod
    def is_current(file: SealedFile) -> bool:
        """Whether the manifest is still the one that was listed."""
        try:
            return _stamp(file.paths.manifest.stat()) == file.stamp
        except FileNotFoundError:
            return False

    def has_lost(self, damage: Damaged) -> bool:
        """Whether only the file is gone that was here, or had been fetched, and can be fetched: it is looked for again then."""
        lost = self._fetch is not None and isinstance(damage.__cause__, FileNotFoundError)
        if lost:
            self._indexes.drop(lambda indexed: indexed.path == damage.path)
        return lost

    def _read_index(self, file: SealedFile, symbol: str) -> Indexed:
        path = file.paths.manifest
        try:
            manifest = decode_checked(path, _Manifest)
        except FileNotFoundError as error:
            raise Moved(f"{path} was removed while it was read: ask again") from error
        if not self.is_current(file):
            raise Moved(f"{path} was swapped while it was read: ask again")
        raw = manifest.series.get(symbol)
        series = msgspec.json.decode(raw, type=tuple[Series, ...]) if raw else ()
        ticks = path.with_name(manifest.files["ticks"].name) if series else path
        if self._fetch is not None and not ticks.exists():
            ticks = self._fetch(file, manifest.files["ticks"])
        return Indexed(file, symbol, manifest.generation, ticks, series, manifest.footer)


class _Cache(Generic[_Value]):
    """The values used last, up to a number of them."""

    def __init__(self, values_max: int) -> None:
        self._values_max = values_max
        self._values: OrderedDict[Hashable, _Value] = OrderedDict()
        self._lock = threading.Lock()

    def peek(self, key: Hashable) -> _Value | None:
        with self._lock:
            if key in self._values:
                self._values.move_to_end(key)
            return self._values.get(key)

    def put(self, key: Hashable, value: _Value) -> None:
        with self._lock:
            self._values[key] = value
            while len(self._values) > self._values_max:
                self._values.popitem(last=False)

    def drop(self, unwanted: Callable[[_Value], bool]) -> None:
        with self._lock:
            for key in [key for key, value in self._values.items() if unwanted(value)]:
                del self._values[key]

    def get(self, key: Hashable, make: Callable[[], _Value]) -> _Value:
        value = self.peek(key)
        if value is None:  # two threads may both make it: it is the same
            value = make()
            self.put(key, value)
        return value


class Listings(Generic[_Value]):
    """What `read` finds in folders, remembered until their mtime changes; nothing where there is no such folder."""

    def __init__(self, read: Callable[[Path], list[_Value]]) -> None:
        self._read = read
        self._listed: _Cache[tuple[int, int, list[_Value]]] = _Cache(MONTHS_MAX)  # mtime, when it was listed, what it held

    def of(self, folder: Path) -> list[_Value]:
        try:
            changed = os.stat(folder).st_mtime_ns  # noqa: PTH116 - as `Path.stat`, faster
            listed = self._listed.peek(folder)
            if listed is None or listed[0] != changed or listed[1] - changed < _SETTLED_NS:
                now = time.time_ns()
                listed = (changed, now, self._read(folder))
                self._listed.put(folder, listed)
        except FileNotFoundError:
            return []
        return listed[2]


def months(root: Path, first: int, last: int, *, descending: bool = False) -> Iterator[Path]:
    """The folders YYYY/MM that days from `first` to `last` may be in."""
    earliest, latest = _year_month(first), _year_month(last)
    for year in _subfolders(root, descending):
        if earliest[0] <= year.name <= latest[0]:
            yield from (month for month in _subfolders(year, descending) if earliest <= (year.name, month.name) <= latest)


def _manifests(month: Path) -> Iterator[SealedFile]:
    with os.scandir(month) as entries:
        for entry in entries:
            paths = SealedPaths.of_manifest(Path(entry.path))
            if paths is not None:
                with contextlib.suppress(FileNotFoundError):
                    yield SealedFile(paths, _stamp(os.stat(entry.path)))  # noqa: PTH116 - as `Path.stat`, faster


def _stamp(status: os.stat_result) -> _Stamp:
    return status.st_ino, status.st_mtime_ns, status.st_size


def _subfolders(folder: Path, descending: bool) -> list[Path]:
    try:
        with os.scandir(folder) as entries:
            names = [entry.name for entry in entries if entry.name.isdigit()]
    except FileNotFoundError:
        return []
    return [folder / name for name in sorted(names, reverse=descending)]


def _year_month(day: int) -> tuple[str, str]:
    name = day_name(day)
    return name[:4], name[5:7]
