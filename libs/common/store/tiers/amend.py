"""Sealing a closed day for the first time, and again with what came late for it.

seal_day:   sum of the .db ─▶ seal ─▶ receipt
amend_day:  seal with the late file: readers see it ─▶ take the late file ─▶ rebuild the .db with its rows ─▶ replace:
replace:    sum of the next .db into the receipt ─▶ rename ─▶ seal ─▶ the old .db.zst and the late file go ─▶ receipt

A day that was compressed or archived is rebuilt from there, and goes through the tiers again. Killed anywhere, `finish` and the
same step again lead to the same end.
"""

import shutil
from collections.abc import Sequence
from pathlib import Path

import msgspec

from libs.common.domain.errors import Rejected, Retryable
from libs.common.domain.moment import day_name
from libs.common.store.columnar import Damaged, Manifest, read_manifest, seal
from libs.common.store.layout import Layout
from libs.common.store.tiers import frame
from libs.common.store.tiers.cold import ColdStorage, object_name
from libs.common.store.tiers.database import Content, check_integrity, closed_at, content_of, is_closed, merge, take
from libs.common.store.tiers.day import TierDay
from libs.common.store.tiers.disk import disk_may_refuse, move, move_to_free, remove
from libs.common.store.tiers.receipt import Receipt, Sum, read_receipt, write_receipt
from libs.common.store.tiers.step import Done, Step, changes, ticks_in
from libs.common.telemetry.chaos import point


def seal_day(day: TierDay, now: int) -> Done | None:
    """Seal a closed day that has no manifest or no receipt; None where it has both. `now` in ns.

    Rejected, Retryable: as `seal`, and the day is left as it is.
    """
    with disk_may_refuse(day.db):
        receipt = read_receipt(day.receipt)
        if receipt is not None and day.manifest.exists():
            return None
        before = _manifest(day)
        gone = day.manifest if before is None else day.receipt
        if not day.db.exists():
            raise Rejected(f"{gone} is gone, and so is the day file it could be made from: restore one of them")
        check_integrity(day.db)
        found = Sum.of(day.db)
        if not _is_whole_day(day, found, receipt, before):
            raise Rejected(f"{gone} is gone, and {day.db.name} is not the file that it was made from: restore one of them")
        sealed = seal(day.data_dir, day.db, now=now, after=receipt.generation if receipt is not None else 0)
        point("sealed_no_receipt")
        cold = receipt.cold if receipt is not None else {}
        write_receipt(day.receipt, Receipt(day=day_name(day.day), generation=sealed.manifest.generation, db=found, cold=cold))
        point("receipt_written")
        return _done("seal", day, before, sealed.manifest)


def amend_day(day: TierDay, extra: Path, now: int, cold: ColdStorage | None) -> Done | None:
    """Make what is in `extra` part of the day; None where nothing changed for readers.

    `extra` is one of `extras`: a taken late file, an import, the day's late file, or a day file that its writer began for a day
    that was compressed already.
    The late file stays while somebody has it open or writes to it; what is in it is sealed all the same. Errors as `seal_day`.
    """
    with disk_may_refuse(day.db):
        if extra not in extras(day):
            return None  # it was, together with another
        before = read_manifest(day.manifest)
        content = content_of(extra)
        base = plain_day(day, cold)
        sealed = seal(day.data_dir, base, late=extra, now=now)
        point("amended_not_taken")
        if extra != day.late or _take(day, content):
            point("taken_not_merged")
            if _receipt(day).generation == sealed.manifest.generation:
                # the day had all of it: its bytes stay as they are, since cold storage may have them under this generation
                remove(day.taken if extra == day.late else extra)
                return None
            rebuilt = day.scratch("next")
            _copy(base, rebuilt)
            begun = _begun_anew(day)
            merged = [path for path in (day.taken, day.imported, *begun) if path.exists()]
            for path in merged:
                merge(rebuilt, path)
            after = replace(day, rebuilt, now, merged=merged)
        else:
            after = sealed.manifest
        return _done("amend", day, before, after) if after.generation != before.generation else None


def extras(day: TierDay) -> list[Path]:
    """What has still to be made part of a sealed day, the one that is taken already first."""
    return [path for path in (day.taken, day.imported, *_begun_anew(day), day.late) if path.exists()]


def plain_day(day: TierDay, cold: ColdStorage | None) -> Path:
    """The day file with the rows of the sealed day: itself, or unpacked into the scratch folder. Damaged: not as written."""
    receipt = _receipt(day)
    if receipt.zst is None:
        if Sum.of(day.db) != receipt.db:
            raise Damaged(day.db, "its sha256 is not what the receipt says")
        return day.db
    zst = day.zst
    if not zst.exists():
        if cold is None:
            raise Rejected(f"{day.name} is in cold storage only: set TICKVAULT_COLD_URL to where it is")
        zst = day.scratch("cold").with_suffix(".db.zst")
        cold.fetch(object_name(day, "db.zst", receipt.generation), zst, receipt.zst)
    plain = day.scratch("plain")
    if frame.unpack(zst, plain) != receipt.db:
        raise Damaged(zst, "what it holds is not what the receipt says")
    return plain


def replace(day: TierDay, rebuilt: Path, now: int, *, merged: Sequence[Path] = ()) -> Manifest:
    """Put a rebuilt day file in the place of the day's, compressed or not, and seal it. `rebuilt` is gone then.

    `merged`: the `extras` whose rows it holds too; they are gone as well, and any others are not.
    """
    check_integrity(rebuilt)
    following = Sum.of(rebuilt)
    receipt = _receipt(day)
    write_receipt(day.receipt, msgspec.structs.replace(receipt, next_db=following, merged=tuple(path.name for path in merged)))
    point("rebuilt_not_replaced")
    if day.db in merged or (day.db.exists() and Sum.of(day.db) == receipt.db):
        move(rebuilt, day.db)
    else:
        move_to_free(rebuilt, day.db)  # where there is no day file, its writer may begin one at any moment
    point("replaced_not_sealed")
    return _seal_replaced(day, following, now)


def finish(day: TierDay, now: int) -> None:
    """Bring to its end what a killed process was at; nothing where there is nothing. Errors as `seal_day`."""
    with disk_may_refuse(day.db):
        receipt = read_receipt(day.receipt)
        if receipt is None or receipt.deleting:
            return
        if receipt.next_db is not None and day.db.exists() and Sum.of(day.db) == receipt.next_db:
            _seal_replaced(day, receipt.next_db, now)
        elif receipt.zst is None and day.db.exists():
            remove(day.zst)  # not in the receipt yet: it is written again


def _seal_replaced(day: TierDay, found: Sum, now: int) -> Manifest:
    receipt = _receipt(day)
    sealed = seal(day.data_dir, day.db, now=now, after=receipt.generation)
    point("sealed_not_deleted")
    # before the receipt: what was merged must not be found again and counted twice
    remove(day.zst, *(path for path in (day.taken, day.imported) if path.name in receipt.merged))
    point("deleted_not_settled")
    write_receipt(day.receipt, Receipt(day=receipt.day, generation=sealed.manifest.generation, db=found, cold=receipt.cold))
    return sealed.manifest


def _is_whole_day(day: TierDay, found: Sum, receipt: Receipt | None, before: Manifest | None) -> bool:
    """Whether the day file has the rows of the day, and is not one that its writer began for a day that was compressed."""
    if receipt is not None:
        return found == receipt.db
    return not day.zst.exists() and (before is None or before.closed_at == closed_at(day.db))


def clear_scratch(data_dir: Path) -> None:
    """What a killed process was rebuilding."""
    scratch = Layout(data_dir).scratch()
    if scratch.exists():
        shutil.rmtree(scratch)


def _begun_anew(day: TierDay) -> list[Path]:
    """A closed day file beside the compressed one, with other rows: its writer did not know that the day was over."""
    receipt = read_receipt(day.receipt)
    if receipt is None or receipt.zst is None or not day.db.exists() or not is_closed(day.db):
        return []
    return [] if Sum.of(day.db) in (receipt.db, receipt.next_db) else [day.db]


def _take(day: TierDay, content: Content) -> bool:
    if day.taken.exists():
        raise Retryable(f"{day.taken} has to be made part of the day first")
    return take(day.late, day.taken, content)


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)


def _receipt(day: TierDay) -> Receipt:
    receipt = read_receipt(day.receipt)
    if receipt is None:
        raise Rejected(f"{day.receipt} is gone: seal {day.name} again")
    return receipt


def _manifest(day: TierDay) -> Manifest | None:
    try:
        return read_manifest(day.manifest)
    except FileNotFoundError:
        return None


def _done(step: Step, day: TierDay, before: Manifest | None, after: Manifest) -> Done:
    swapped = before is None or before.generation != after.generation
    return Done(
        step,
        day,
        after.generation,
        ticks_in(after),
        bytes_after=sum(file.bytes for file in after.files.values()),
        changed=changes(before, after),
        written=tuple(file.name for file in after.files.values()) if swapped else (),
    )
