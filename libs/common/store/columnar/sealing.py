"""Sealing: a closed day file, and what came late for it, to the files that are read from then on.

    source ─▶ ticks, bars, trades, books, quarantine, gaps, account, each under a partial name, fsynced
           ─▶ read back and compared: rows, order, content digest
           ─▶ renamed to the names of a new generation, which nobody reads yet
           ─▶ manifest renamed: the swap

Killed anywhere before the swap, readers see the old generation, and sealing again writes over what was left.
"""

import contextlib
import io
import os
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from msgspec.structs import replace

from libs.common.domain.errors import Rejected, Retryable
from libs.common.domain.moment import NS_PER_MS, day_name, day_of
from libs.common.platform import sync_folder
from libs.common.store.columnar.arrays import int64s
from libs.common.store.columnar.bars import Bars
from libs.common.store.columnar.checks import SERIES_COLUMNS, check_rows, check_ticks, sha256_of
from libs.common.store.columnar.digest import Digest
from libs.common.store.columnar.footer import cut
from libs.common.store.columnar.manifest import File, Footer, GapSummary, Manifest, RowGroup, Series, read_manifest, swap_manifest
from libs.common.store.columnar.paths import PARTIAL, SealedPaths
from libs.common.store.columnar.schema import LOGICAL, ROW_GROUP_ROWS, TAIL_SHARE, empty_ticks, open_writer, to_stored
from libs.common.store.columnar.source import ACCOUNT, GAP, Columns, Source, columns_of
from libs.common.telemetry.chaos import point


@dataclass(frozen=True, slots=True)
class Sealed:
    """`changed` is false where the day was sealed with the same rows before: nothing on the disk is new then."""

    manifest: Manifest
    changed: bool
    duplicates: int  # ticks that the day file and the late file both hold


def seal(
    data_dir: Path,
    day_file: Path,
    *,
    late: Path | None = None,
    now: int,
    after: int = 0,
    swap: bool = True,
    row_group_rows: int = ROW_GROUP_ROWS,
) -> Sealed:
    """Write the next generation of the day and swap it in. `now` in ns. One process at a time seals a day.

    `after`: a generation that there was, where the manifest that would tell is gone. Without `swap` nothing changes: it is only
    found out whether it would.

    Rejected: the day is not closed, is damaged, or holds what the format cannot; Damaged: the manifest it has is.
    Retryable: the disk refuses, or a file is locked. After any of them readers see what they saw before.
    """
    paths = SealedPaths.of(data_dir, day_file)
    with _disk_may_refuse(paths.folder), contextlib.ExitStack() as stack:
        current = _current(paths)
        source = stack.enter_context(contextlib.closing(Source(day_file, late, row_group_rows)))
        paths.folder.mkdir(parents=True, exist_ok=True)
        number = max(after, current.generation if current else 0) + 1
        outputs = [stack.enter_context(_Output(kind, paths.parquet(kind, number))) for kind in LOGICAL]
        ticks, trades, books, gaps, quarantine, account, bars = outputs
        series = _write_ticks(source, ticks, bars, paths.day)
        _write(trades, _keyed(source.series("trades"), source.trades))
        _write(books, _keyed(source.series("books"), source.books))
        _write(quarantine, source.quarantine())
        found = source.gaps()
        _write(gaps, [columns_of(GAP, found)])
        _write(account, [columns_of(ACCOUNT, source.account())])
        files = {output.kind: output.finish() for output in outputs if output.rows}
        footer, indexed = _indexed(series, ticks.partial) if series else (None, {})
        manifest = Manifest(
            day=day_name(paths.day),
            generation=number,
            schema_version=source.schema_version,
            created_at=now,
            closed_at=source.closed_at,
            files=files,
            footer=footer,
            series=indexed,
            gaps=_summary(found),
            watermark=source.watermark,
        )
        point("written_not_verified")
        for output in outputs:
            output.verify(manifest)
        if current is not None and current.content == manifest.content:
            return Sealed(current, changed=False, duplicates=source.duplicates.total())
        if not swap:
            return Sealed(manifest, changed=True, duplicates=source.duplicates.total())
        point("verified_not_named")
        for output in outputs:
            output.rename()
        sync_folder(paths.folder)
        point("named_not_swapped")
        swap_manifest(paths.manifest, manifest)
        return Sealed(manifest, changed=True, duplicates=source.duplicates.total())


def _current(paths: SealedPaths) -> Manifest | None:
    try:
        return read_manifest(paths.manifest)
    except FileNotFoundError:
        return None


class _Output:
    """One Parquet file under its partial name until it is verified; without rows there is none."""

    def __init__(self, kind: str, path: Path) -> None:
        self.kind = kind
        self.rows = 0
        self.row_groups = 0
        self._path = path
        self.partial = path.with_name(path.name + PARTIAL)
        self._writer: pq.ParquetWriter | None = None
        self._digest = Digest()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._writer is not None:
            with contextlib.suppress(OSError, pa.ArrowException):
                self._writer.close()
        self.partial.unlink(missing_ok=True)

    def write(self, columns: Columns) -> None:
        """Append one row group."""
        if self._writer is None:
            self._writer = open_writer(self.kind, self.partial)
        batch = to_stored(self.kind, columns)
        self._writer.write_batch(batch)
        if self.kind != "ticks":  # whose digests are those of its series
            self._digest.update(columns[name] for name in LOGICAL[self.kind])
        self.rows += batch.num_rows
        self.row_groups += 1

    def finish(self) -> File:
        """Make the file durable, and read it back for its sha256."""
        assert self._writer is not None
        self._writer.close()
        with self.partial.open("r+b") as file:
            os.fsync(file.fileno())
        return File(
            name=self._path.name,
            bytes=self.partial.stat().st_size,
            sha256=sha256_of(self.partial),
            rows=self.rows,
            digest="" if self.kind == "ticks" else self._digest.hexdigest(),
        )

    def verify(self, manifest: Manifest) -> None:
        """Damaged: what can be read back is not what was written."""
        if self.kind == "ticks" and self.rows:
            check_ticks(self.partial, manifest)
        elif self.rows:
            check_rows(self.partial, self.kind, manifest.files[self.kind])

    def rename(self) -> None:
        if self.rows:
            self.partial.replace(self._path)


def _write(output: _Output, chunks: Iterable[Columns]) -> None:
    for columns in chunks:
        if columns:
            output.write(columns)


def _write_ticks(source: Source, ticks: _Output, bars: _Output, day: int) -> dict[str, list[Series]]:
    """Rejected: a tick is not of the day. The series do not say yet where in the footer they are."""
    series: dict[str, list[Series]] = {}
    for symbol, keys in groupby(source.series("ticks"), itemgetter(0)):
        of_symbol = []
        for _, provider in keys:
            folded = Bars()
            chunks = _tail_apart(source.ticks(symbol, provider), max(1, source.rows_max // TAIL_SHARE))
            one = _write_series(ticks, symbol, provider, chunks, folded)
            if not day_of(one.first) == day_of(one.last) == day:
                raise Rejected(f"{symbol} from {provider} has ticks that are not of {day_name(day)}")
            series.setdefault(symbol, []).append(one)
            of_symbol.append(_named(symbol, provider, folded.columns()))
        bars.write({name: pa.concat_arrays([columns[name] for columns in of_symbol]) for name in LOGICAL["bars"]})
    if ticks.rows + source.duplicates.total() != source.rows("ticks"):
        raise Rejected(f"{ticks.rows} ticks were read where the day holds {source.rows('ticks')}: it is damaged")
    return series


def _write_series(ticks: _Output, symbol: str, provider: str, chunks: Iterable[Columns], bars: Bars) -> Series:
    digest = Digest()
    groups = []
    whole_ms = True
    for columns in chunks:
        digest.update(columns[name] for name in SERIES_COLUMNS)
        bars.update(columns["ts"], columns["bid"], columns["ask"])
        ts = int64s(columns["ts"])
        whole_ms = whole_ms and not np.any(ts % NS_PER_MS)
        groups.append(RowGroup(ticks.row_groups, len(ts), int(ts[0]), int(ts[-1])))
        ticks.write(_named(symbol, provider, columns))
    count = sum(group.rows for group in groups)
    return Series(provider, count, groups[0].first, groups[-1].last, digest.hexdigest(), groups, (0, 0, 0), whole_ms)


def _indexed(series: dict[str, list[Series]], path: Path) -> tuple[Footer, dict[str, list[Series]]]:
    """The series, each with the place of its row groups in the footer of the file."""
    with path.open("rb") as file:
        _, bounds, tail = cut(file)

        def place(one: Series) -> tuple[int, int, int]:
            start, end = bounds[one.row_groups[0].index], bounds[one.row_groups[-1].index + 1]
            file.seek(start)
            return start, end - start, zlib.crc32(file.read(end - start))

        placed = {symbol: [replace(one, footer=place(one)) for one in found] for symbol, found in series.items()}
    return Footer(cut(io.BytesIO(empty_ticks())).head, tail), placed


def _tail_apart(chunks: Iterator[Columns], tail: int) -> Iterator[Columns]:
    """The last `tail` rows of a series in a chunk of their own, so that asking for the newest ticks reads few."""
    last: Columns = {}
    for columns in chunks:
        if last:
            yield last
        last = columns
    rows = len(last["ts"])
    if rows <= 2 * tail:
        yield last
    else:
        yield {name: column[: rows - tail] for name, column in last.items()}
        yield {name: column[rows - tail :] for name, column in last.items()}


def _keyed(series: Iterable[tuple[str, str]], read: Callable[[str, str], Iterator[Columns]]) -> Iterator[Columns]:
    for symbol, provider in series:
        for columns in read(symbol, provider):
            yield _named(symbol, provider, columns)


def _named(symbol: str, provider: str, columns: Columns) -> Columns:
    rows = len(columns["ts"])
    return {"symbol": pa.repeat(symbol, rows), "provider": pa.repeat(provider, rows), **columns}


def _summary(gaps: list[tuple[Any, ...]]) -> list[GapSummary]:
    summary = []
    cause_of = itemgetter(0, 5)  # session, cause
    for (session, cause), rows in groupby(sorted(gaps, key=cause_of), cause_of):
        found = list(rows)
        numbers = [(first, last) for _, first, last, *_ in found if first is not None and last is not None]
        ends = [to_ts for *_, to_ts, _, _ in found]
        summary.append(
            GapSummary(
                session=session,
                cause=cause,
                count=len(found),
                unresolved=sum(row[6] in (None, "none") for row in found),
                missing=sum(last - first + 1 for first, last in numbers),
                first=min(row[3] for row in found),
                last=None if None in ends else max(ends),
            )
        )
    return summary


@contextlib.contextmanager
def _disk_may_refuse(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise Retryable(f"{folder}: {error}") from error
