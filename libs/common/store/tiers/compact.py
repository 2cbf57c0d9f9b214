"""Compacting: a day file with its rows in full pages, before it is compressed and for ever.

Rows that came one after the other leave the pages of a WITHOUT ROWID table nine tenths full, and in the rest what stood there
before: that is 0.6 of the 10.4 bytes that a tick takes in a .db.zst.

.db ─▶ VACUUM INTO ─▶ the same content digests as the manifest ─▶ sum into the receipt ─▶ renamed ─▶ receipt
"""

from msgspec.structs import replace

from libs.common.store.columnar import Damaged, Manifest, seal
from libs.common.store.tiers.database import check_integrity, vacuum
from libs.common.store.tiers.day import TierDay
from libs.common.store.tiers.disk import move
from libs.common.store.tiers.receipt import Receipt, Sum, write_receipt
from libs.common.telemetry.chaos import point

_WORTH_IT = 0.95  # of the size; what was compacted once is not again, so the bytes of a generation stay what they are


def compact(day: TierDay, receipt: Receipt, manifest: Manifest) -> Receipt:
    """Of a sealed day; the receipt as it is then. Damaged: the .db is not what was sealed, or did not arrive; it stays."""
    if Sum.of(day.db) != receipt.db:
        raise Damaged(day.db, "its sha256 is not what the receipt says")
    compacted = day.scratch("compact")
    try:
        vacuum(day.db, compacted)
        if compacted.stat().st_size > _WORTH_IT * receipt.db.bytes:
            return receipt
        check_integrity(compacted)
        following = Sum.of(compacted)
        if seal(day.data_dir, compacted, now=manifest.created_at, swap=False).changed:
            raise Damaged(compacted, "it does not hold the rows of the day: check the disk")
        write_receipt(day.receipt, replace(receipt, next_db=following))
        point("compacted_not_replaced")
        move(compacted, day.db)
    finally:
        compacted.unlink(missing_ok=True)
    point("compacted_not_in_receipt")
    settled = replace(receipt, db=following, next_db=None)
    write_receipt(day.receipt, settled)
    return settled
