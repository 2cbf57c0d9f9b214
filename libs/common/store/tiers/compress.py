"""Compressing: a sealed day's .db becomes one zstd frame; the .db goes when that has been read back and stands in the receipt.

.db sound, and compacted ─▶ frame under a partial name, read back ─▶ renamed ─▶ receipt ─▶ .db deleted
"""

from msgspec.structs import replace

from libs.common.domain.errors import Rejected
from libs.common.store.columnar import Damaged, read_manifest
from libs.common.store.tiers import frame
from libs.common.store.tiers.compact import compact
from libs.common.store.tiers.database import check_integrity, positions_of
from libs.common.store.tiers.day import TierDay, tier_days
from libs.common.store.tiers.disk import PARTIAL, disk_may_refuse, move, remove
from libs.common.store.tiers.receipt import Receipt, Sum, read_receipt, write_receipt
from libs.common.store.tiers.step import Done, ticks_in
from libs.common.telemetry.chaos import point


def compress_day(day: TierDay, *, dry_run: bool = False) -> Done:
    """Of a sealed day into which all that came late has been made.

    Damaged: the .db is not what was sealed, or what was written does not read back; it stays then. Retryable: the disk refuses.
    """
    with disk_may_refuse(day.db):
        receipt = read_receipt(day.receipt)
        if receipt is None:
            raise Rejected(f"{day.receipt} is gone: seal {day.name} again")
        before = day.db.stat().st_size
        manifest = read_manifest(day.manifest)
        if not dry_run:
            check_integrity(day.db)
            if receipt.zst is None or not day.zst.exists():
                receipt = _pack(day, compact(day, receipt, manifest))
            _check_packed(day, receipt)
            point("compressed_not_deleted")
            remove(day.db)
            point("deleted_day_file")
        return Done(
            "compress",
            day,
            receipt.generation,
            ticks_in(manifest),
            bytes_before=before,
            bytes_after=receipt.zst.bytes if receipt.zst else 0,
            written=(day.zst.name,),
            deleted=(day.db.name,),
        )


def keeps_position(day: TierDay) -> bool:
    """Whether persistence may need this .db to know how far its sessions are durable: no newer one of its partition is there."""
    newer = (one for one in tier_days(day.data_dir) if one.infix == day.infix and one.day > day.day and one.db.exists())
    return not any(newer) and bool(positions_of(day.db))


def _pack(day: TierDay, receipt: Receipt) -> Receipt:
    day.zst.parent.mkdir(parents=True, exist_ok=True)
    partial = day.zst.with_name(day.zst.name + PARTIAL)
    try:
        plain, packed = frame.pack(day.db, partial)
        if plain != receipt.db:
            raise Damaged(day.db, "its sha256 is not what the receipt says")
        point("packed_not_named")
        move(partial, day.zst)
    finally:
        partial.unlink(missing_ok=True)
    point("named_not_in_receipt")
    with_zst = replace(receipt, zst=packed)
    write_receipt(day.receipt, with_zst)
    return with_zst


def _check_packed(day: TierDay, receipt: Receipt) -> None:
    """The file that stays, under its name."""
    if Sum.of(day.zst) != receipt.zst:
        raise Damaged(day.zst, "its sha256 is not what the receipt says")
    if frame.check(day.zst) != receipt.db:
        raise Damaged(day.zst, "what it holds is not what the receipt says")
