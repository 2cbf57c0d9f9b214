"""How full the disk is, how long it lasts, and the refusal to fill it."""

import shutil
from dataclasses import dataclass
from pathlib import Path

from libs.common.domain.errors import Rejected, Retryable
from libs.common.store.tiers.day import TierDay, tier_days
from libs.common.store.tiers.receipt import read_receipt

RESERVE_BYTES = 1_000_000_000
GROWTH_DAYS = 7  # a week has every day of the week once


class DiskReserve(Retryable):
    """What is free is kept for those who capture."""


@dataclass(frozen=True, slots=True)
class Disk:
    """`bytes_per_day`: what a closed day brought, the mean of the newest; `days_left`: until the reserve is touched."""

    total_bytes: int
    free_bytes: int
    reserve_bytes: int
    bytes_per_day: float
    days_left: float | None  # None: no day has been closed yet


def watch(data_dir: Path, reserve_bytes: int = RESERVE_BYTES) -> Disk:
    """OSError: the data folder is not there."""
    usage = shutil.disk_usage(data_dir)
    bytes_per_day = _bytes_per_day(tier_days(data_dir))
    spare = max(0, usage.free - reserve_bytes)
    return Disk(usage.total, usage.free, reserve_bytes, bytes_per_day, spare / bytes_per_day if bytes_per_day else None)


def require_space(data_dir: Path, needed_bytes: int, reserve_bytes: int) -> None:
    """DiskReserve where writing this much would touch the reserve."""
    free = shutil.disk_usage(data_dir).free
    if free - needed_bytes < reserve_bytes:
        raise DiskReserve(
            f"the disk of {data_dir} is too full to write {needed_bytes} bytes: {reserve_bytes} stay in reserve for capture. "
            "Free some, or add a disk; nothing is sealed or compressed until then"
        )


def _bytes_per_day(days: list[TierDay]) -> float:
    sizes: dict[int, int] = {}
    for one in reversed(days):
        if one.day not in sizes and len(sizes) == GROWTH_DAYS:
            break
        size = _day_bytes(one)
        if size:
            sizes[one.day] = sizes.get(one.day, 0) + size
    return sum(sizes.values()) / len(sizes) if sizes else 0.0


def _day_bytes(day: TierDay) -> int:
    """Of the day file as it was closed, and of its sealed files; 0 where it is not closed."""
    try:
        receipt = read_receipt(day.receipt)
    except (Rejected, OSError):
        return 0
    return receipt.db.bytes + sum(path.stat().st_size for path in day.parquet()) if receipt is not None else 0
