"""Whether sealed files still are what was written: every byte by sha256, every row by its content digest.

Pages carry a CRC-32, and that of the footer of each series stands in the manifest: so reading notices damage too, in what it
touches.
"""

import hashlib
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from libs.common.domain.moment import NS_PER_MS
from libs.common.store.columnar.arrays import int64s
from libs.common.store.columnar.digest import Digest
from libs.common.store.columnar.footer import join
from libs.common.store.columnar.manifest import Damaged, File, Footer, Manifest, Series, read_manifest
from libs.common.store.columnar.schema import LOGICAL, from_stored

SERIES_COLUMNS = LOGICAL["ticks"][2:]  # of the digest of one symbol and provider


def verify(manifest: Path, *, rows: bool = True) -> list[Damaged]:
    """What is wrong with a sealed day, by file; empty where nothing is. Without `rows`: sizes and sha256 only.

    Rejected: a newer program wrote the day.
    """
    try:
        found = read_manifest(manifest)
    except FileNotFoundError:
        return [Damaged(manifest, "it is gone")]
    except Damaged as damage:
        return [damage]
    problems = []
    for kind, file in found.files.items():
        path = manifest.with_name(file.name)
        try:
            check_bytes(path, file)
            if rows and kind == "ticks":
                check_ticks(path, found)
            elif rows:
                check_rows(path, kind, file)
        except Damaged as damage:
            problems.append(damage)
    return problems


def check_bytes(path: Path, file: File) -> None:
    """Damaged: the file is gone or cut, or one of its bits is another."""
    with finding_damage(path):
        if (size := path.stat().st_size) != file.bytes:
            raise Damaged(path, f"it has {size} bytes where the manifest says {file.bytes}")
        if sha256_of(path) != file.sha256:
            raise Damaged(path, "its sha256 is not what the manifest says")


def check_ticks(path: Path, manifest: Manifest) -> None:
    """Damaged: the ticks of a symbol and provider are not those of their digest, or not where the row-group index says."""
    with finding_damage(path):
        groups = [group.index for found in manifest.series.values() for one in found for group in one.row_groups]
        if groups != list(range(pq.read_metadata(path).num_row_groups)):
            raise Damaged(path, "its row groups are not those of the manifest")
        for symbol, found in manifest.series.items():
            for series in found:
                _check_series(path, manifest, symbol, series)


def _check_series(path: Path, manifest: Manifest, symbol: str, series: Series) -> None:
    file = open_ticks(path, read_footer(path, manifest.footer, [series]))
    digest = Digest()
    previous = (-1, -1)
    for number, group in enumerate(series.row_groups):
        columns = from_stored("ticks", file.read_row_group(number, use_threads=False))
        digest.update(columns[name] for name in SERIES_COLUMNS)
        names = [columns[name].unique().to_pylist() for name in ("symbol", "provider")]
        ts, seq = int64s(columns["ts"]), int64s(columns["seq"])
        in_order = (np.diff(ts) > 0) | ((np.diff(ts) == 0) & (np.diff(seq) > 0))
        as_indexed = (len(ts), ts[0], ts[-1]) == (group.rows, group.first, group.last)
        as_indexed = as_indexed and not (series.whole_ms and np.any(ts % NS_PER_MS))
        if names != [[symbol], [series.provider]] or not (as_indexed and in_order.all() and previous < (ts[0], seq[0])):
            raise Damaged(path, f"row group {group.index} is not what the manifest says, or not in order")
        previous = (int(ts[-1]), int(seq[-1]))
    if digest.hexdigest() != series.digest or sum(group.rows for group in series.row_groups) != series.ticks:
        raise Damaged(path, f"the ticks of {symbol} from {series.provider} are not those of their digest")


def read_footer(path: Path, footer: Footer | None, series: Sequence[Series]) -> pq.FileMetaData:
    """The metadata of the row groups of these series, numbered from 0; Damaged where they are not what was written."""
    if footer is None:
        raise Damaged(path.with_suffix(""), "the manifest has series and no footer")
    runs = []
    with path.open("rb") as file:
        for offset, length, crc in (one.footer for one in series):
            file.seek(offset)
            runs.append(file.read(length))
            if zlib.crc32(runs[-1]) != crc:
                raise Damaged(path, "the CRC-32 of its footer is not what the manifest says")
    return join(footer.head, runs, sum(len(one.row_groups) for one in series), footer.tail)


def open_ticks(path: Path, metadata: pq.FileMetaData) -> pq.ParquetFile:
    """Not memory-mapped: a page that a disk cannot deliver is an error then, not the end of the process."""
    return pq.ParquetFile(pa.OSFile(str(path)), metadata=metadata, pre_buffer=False, page_checksum_verification=True)


def check_rows(path: Path, kind: str, file: File) -> None:
    """Damaged: the rows are not those of the file's digest."""
    with finding_damage(path):
        parquet = pq.ParquetFile(path, pre_buffer=False, page_checksum_verification=True)
        digest = Digest()
        for group in range(parquet.num_row_groups):
            digest.update(from_stored(kind, parquet.read_row_group(group, use_threads=False)).values())
        if (parquet.metadata.num_rows, digest.hexdigest()) != (file.rows, file.digest):
            raise Damaged(path, "its rows are not those of its digest")


@contextmanager
def finding_damage(path: Path) -> Iterator[None]:
    """What a reader of Parquet says of a damaged file, as Damaged."""
    try:
        yield
    except FileNotFoundError as error:
        raise Damaged(path, "it is gone") from error
    except (OSError, pa.ArrowException, EOFError) as error:
        raise Damaged(path, f"it cannot be read: {error}") from error


def sha256_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
