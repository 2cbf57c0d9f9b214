"""Archiving: a compressed day's .db.zst, Parquet files and manifest into cold storage; then only Parquet and manifest stay here.

each file as in receipt and manifest ─▶ put, once ─▶ read back ─▶ receipt ─▶ .db.zst deleted
"""

from pathlib import Path

from msgspec.structs import replace

from libs.common.domain.errors import Rejected
from libs.common.store.columnar import Manifest, read_manifest
from libs.common.store.tiers.cold import ColdStorage, month, object_name
from libs.common.store.tiers.day import TierDay
from libs.common.store.tiers.disk import disk_may_refuse, remove
from libs.common.store.tiers.receipt import Receipt, Sum, read_receipt, write_receipt
from libs.common.store.tiers.step import Done, ticks_in
from libs.common.telemetry.chaos import point


def archive_day(day: TierDay, cold: ColdStorage, *, dry_run: bool = False) -> Done:
    """Of a compressed day into which all that came late has been made.

    Damaged: a file is not what was written; nothing is deleted then. Rejected: cold storage has other content under the name.
    Retryable: cold storage or the disk refuses.
    """
    with disk_may_refuse(day.zst):
        receipt = read_receipt(day.receipt)
        manifest = read_manifest(day.manifest)
        if receipt is None or receipt.zst is None or receipt.generation != manifest.generation:
            raise Rejected(f"{day.receipt} is not that of generation {manifest.generation}: compress {day.name} again")
        objects = _objects(day, receipt, manifest)
        before = sum(found.bytes for _, _, found in objects)
        if not dry_run:
            for name, path, found in objects:
                cold.put(name, path, found)
                point("put_not_in_receipt")
            write_receipt(day.receipt, replace(receipt, cold=receipt.cold | {name: found for name, _, found in objects}))
            point("archived_not_deleted")
            remove(day.zst)
            point("deleted_compressed")
        return Done(
            "archive",
            day,
            manifest.generation,
            ticks_in(manifest),
            bytes_before=before,
            bytes_after=before - receipt.zst.bytes,
            written=tuple(name for name, _, _ in objects),
            deleted=(day.zst.name,),
        )


def _objects(day: TierDay, receipt: Receipt, manifest: Manifest) -> list[tuple[str, Path, Sum]]:
    """Name, file and what it must be; the manifest last, so that where it is, all is."""
    assert receipt.zst is not None
    files = manifest.files.values()
    return [
        (object_name(day, "db.zst", manifest.generation), day.zst, receipt.zst),
        *((f"{month(day)}/{file.name}", day.manifest.with_name(file.name), Sum(file.bytes, file.sha256)) for file in files),
        (object_name(day, "manifest.json", manifest.generation), day.manifest, Sum.of(day.manifest)),
    ]
