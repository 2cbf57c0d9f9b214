"""Deleting what nobody reads any more: sealed files of earlier generations, and what killed steps left half written."""

from pathlib import Path

from libs.common.domain.errors import Rejected
from libs.common.domain.moment import NS_PER_S
from libs.common.store.columnar import read_manifest
from libs.common.store.tiers.amend import clear_scratch
from libs.common.store.tiers.cold import generation_of
from libs.common.store.tiers.day import TierDay, tier_days
from libs.common.store.tiers.disk import PARTIAL, disk_may_refuse, remove

LINGER_S = 3_600.0  # a reader that began before the swap still finds its files


def sweep(data_dir: Path, now: int, linger_s: float = LINGER_S) -> list[Path]:
    """What was deleted. `now` in ns. Only while no step is at work."""
    with disk_may_refuse(data_dir):
        clear_scratch(data_dir)
        ticks = data_dir / "ticks"
        partial = (*ticks.glob(f"archive/*/*/*{PARTIAL}"), *ticks.glob(f"columnar/*/*/*{PARTIAL}"))
        return remove(*partial) + [path for day in tier_days(data_dir) for path in _earlier(day, now, linger_s)]


def _earlier(day: TierDay, now: int, linger_s: float) -> list[Path]:
    if len({generation_of(path.name) for path in day.parquet()}) < 2:
        return []
    try:
        swapped = day.manifest.stat().st_mtime_ns
        if now - swapped < linger_s * NS_PER_S:
            return []
        named = {file.name for file in read_manifest(day.manifest).files.values()}
    except (FileNotFoundError, Rejected):
        return []
    return remove(*(path for path in day.parquet() if path.name not in named))
