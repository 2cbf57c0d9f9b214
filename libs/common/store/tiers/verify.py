"""Whether every file of every tier still is what was written: those that are not, by name."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from libs.common.domain.errors import Rejected
from libs.common.store import columnar
from libs.common.store.columnar import Damaged, read_manifest
from libs.common.store.tiers import frame
from libs.common.store.tiers.cold import ColdStorage
from libs.common.store.tiers.database import check_integrity, check_late, is_closed
from libs.common.store.tiers.day import TierDay, tier_days
from libs.common.store.tiers.receipt import Receipt, Sum, read_receipt


@dataclass(slots=True)
class Verified:
    """`files`: how many were looked at; `open_days`: those that were not, since their writer has them."""

    files: int = 0
    open_days: int = 0
    problems: list[Damaged] = field(default_factory=list)


def verify_all(data_dir: Path, cold: ColdStorage | None, *, on_day: Callable[[TierDay], None] = lambda _: None) -> Verified:
    """Every tier; Retryable: cold storage or the disk refuses."""
    result = Verified()
    for day in tier_days(data_dir):
        on_day(day)
        verify_day(day, cold, result)
    return result


def verify_day(day: TierDay, cold: ColdStorage | None, result: Verified) -> None:
    """Add what is found to `result`."""
    with _noting(result, day.receipt):
        receipt = read_receipt(day.receipt)
        result.files += receipt is not None
        if receipt is not None and receipt.deleting:
            return
        if receipt is not None:
            _verify_sealed(day, result)
            _verify_compressed(day, receipt, result)
            _verify_cold(receipt, cold, result)
        elif day.manifest.exists():
            _verify_sealed(day, result)
            raise Damaged(day.receipt, "it is gone")
        elif day.zst.exists():
            raise Damaged(day.receipt, "it is gone")
    _verify_database(day, result)
    for path in (day.late, day.taken, day.imported):
        if path.exists():
            result.files += 1
            with _noting(result, path):
                check_late(path)


def _verify_database(day: TierDay, result: Verified) -> None:
    if not day.db.exists():
        return
    with _noting(result, day.db):
        try:
            receipt = read_receipt(day.receipt)
        except Rejected:  # named already
            receipt = None
        # with a compressed one beside it, it may be of a writer that did not know the day was over: that is amended in
        if receipt is not None and receipt.zst is None and Sum.of(day.db) not in (receipt.db, receipt.next_db):
            raise Damaged(day.db, "its sha256 is not what the receipt says")
        if not is_closed(day.db):
            result.open_days += 1
            return
        result.files += 1
        check_integrity(day.db)


def _verify_sealed(day: TierDay, result: Verified) -> None:
    result.problems += columnar.verify(day.manifest)
    result.files += 1
    try:
        result.files += len(read_manifest(day.manifest).files)
    except (Rejected, FileNotFoundError):
        return


def _verify_compressed(day: TierDay, receipt: Receipt, result: Verified) -> None:
    if receipt.zst is None:
        if not day.db.exists():
            result.problems.append(Damaged(day.db, "it is gone"))
        return
    if not day.zst.exists():
        if not any(found == receipt.zst for found in receipt.cold.values()):
            result.problems.append(Damaged(day.zst, "it is gone, and not in cold storage"))
        return
    result.files += 1
    with _noting(result, day.zst):
        if frame.check(day.zst) != receipt.db:
            raise Damaged(day.zst, "what it holds is not what the receipt says")
        if Sum.of(day.zst) != receipt.zst:
            raise Damaged(day.zst, "its sha256 is not what the receipt says")


def _verify_cold(receipt: Receipt, cold: ColdStorage | None, result: Verified) -> None:
    for name, found in receipt.cold.items():
        if cold is None:
            result.problems.append(Damaged(Path(name), "not looked at: TICKVAULT_COLD_URL does not say where cold storage is"))
            continue
        result.files += 1
        with _noting(result, Path(name)):
            cold.check(name, found)


@contextmanager
def _noting(result: Verified, path: Path) -> Iterator[None]:
    try:
        yield
    except Damaged as damage:
        result.problems.append(damage)
    except Rejected as error:
        result.problems.append(Damaged(path, str(error)))
    except OSError as error:
        result.problems.append(Damaged(path, f"it cannot be read: {error}"))
