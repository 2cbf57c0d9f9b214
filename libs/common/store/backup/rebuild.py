"""A day file from a sealed day, and a sealed day from its day file; each the proof of the other.

day file ─▶ sealed again in the scratch folder ─▶ the same content as the manifest says, of every kind of row
"""

from collections.abc import Iterable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from libs.common.domain.record import Book, Gap, Quarantined, Trade
from libs.common.store import Batch, DayFile
from libs.common.store.columnar import Manifest, read_manifest, seal
from libs.common.store.columnar.arrays import int64s, is_valid
from libs.common.store.columnar.checks import finding_damage
from libs.common.store.columnar.schema import from_stored
from libs.common.store.columnar.source import ACCOUNT
from libs.common.store.tiers import TierDay
from libs.common.store.tiers.database import opened

_TICK = ("symbol", "provider", "ts", "seq", "recv_ts", "bid", "ask", "bid_size", "ask_size", "flags")
_QUARANTINED = ("recv_ts", "session", "provider", "symbol", "reason", "raw", "number")
_INSERT_ACCOUNT = f"INSERT INTO account({', '.join(ACCOUNT)}) VALUES (?, ?, ?, ?, ?, ?)"  # noqa: S608 - names of ours


def sealed_from(day: TierDay, day_file: Path, generation: int, now: int, late: Path | None = None) -> Manifest:
    """What sealing the day file gives, in the scratch folder: files and manifest of this generation. Errors as `seal`."""
    return seal(_scratch_store(day), day_file, late=late, now=now, after=generation - 1).manifest


def sealed_folder(day: TierDay) -> Path:
    """Where `sealed_from` has written."""
    return TierDay(day.day, day.infix, _scratch_store(day)).manifest.parent


def day_file_from(day: TierDay, manifest: Manifest, target: Path) -> None:
    """Write the closed day file of a sealed day: every row, the account and the watermark as they are in Parquet.

    Damaged: a sealed file is not what the manifest says.
    """
    target.unlink(missing_ok=True)
    file = DayFile(target)
    try:
        for batch in _batches(day, manifest):
            file.write(batch)
        file.close_day(manifest.closed_at)
    finally:
        file.close()
    rows = [tuple(row[name] for name in ACCOUNT) for columns in _columns(day, manifest, "account") for row in _rows(columns)]
    with opened(target, "rw") as connection:
        connection.execute("BEGIN")
        connection.execute("DELETE FROM account")  # the writer has counted the rows, and knows nothing of duplicates
        connection.executemany(_INSERT_ACCOUNT, rows)
        connection.execute("COMMIT")


def _scratch_store(day: TierDay) -> Path:
    return day.scratch("sealed").parent


def _batches(day: TierDay, manifest: Manifest) -> Iterator[Batch]:
    for columns in _columns(day, manifest, "ticks"):
        yield Batch(ticks=list(zip(*(columns[name] for name in _TICK), strict=True)))
    for columns in _columns(day, manifest, "trades"):
        yield Batch(trades=[Trade(**row) for row in _rows(columns)])
    for columns in _columns(day, manifest, "books"):
        yield Batch(books=[Book(**row) for row in _rows(columns)])
    for columns in _columns(day, manifest, "gaps"):
        yield Batch(gaps=[Gap(**row) for row in _rows(columns)])
    for columns in _columns(day, manifest, "quarantine"):
        names = [columns[name] for name in _QUARANTINED]
        yield Batch(quarantined=[Quarantined(*row) for row in zip(*names, strict=True)])
    yield Batch(watermarks=manifest.watermark)


def _columns(day: TierDay, manifest: Manifest, kind: str) -> Iterator[dict[str, list[Any]]]:
    """By row group: times in ns, prices in 1e-9."""
    if kind not in manifest.files:
        return
    path = day.manifest.with_name(manifest.files[kind].name)
    with finding_damage(path):
        parquet = pq.ParquetFile(path, pre_buffer=False, page_checksum_verification=True)
        for group in range(parquet.num_row_groups):
            found = from_stored(kind, parquet.read_row_group(group, use_threads=False))
            yield {name: _values(column) for name, column in found.items()}


def _values(column: pa.Array) -> list[Any]:
    kind = column.type
    if pa.types.is_list(kind):
        prices, sizes = (_values(column.values.field(name)) for name in ("price", "size"))
        levels = list(zip(prices, sizes, strict=True))
        ends = column.offsets.to_pylist()
        return [levels[start:end] for start, end in pairwise(ends)]
    if pa.types.is_timestamp(kind) or pa.types.is_decimal(kind):
        return [int(word) if valid else None for word, valid in zip(int64s(column).tolist(), is_valid(column), strict=True)]
    return column.to_pylist()  # type: ignore[no-any-return]


def _rows(columns: dict[str, list[Any]]) -> Iterable[dict[str, Any]]:
    return (dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True))


def manifest_of(day: TierDay) -> Manifest | None:
    """None where there is none. Damaged as in `read_manifest`."""
    try:
        return read_manifest(day.manifest)
    except FileNotFoundError:
        return None
