"""What there is of each day, from the files alone."""

from pathlib import Path
from typing import Literal

import msgspec

from libs.common.domain.errors import Rejected, Retryable
from libs.common.domain.moment import day_name
from libs.common.store.columnar import read_manifest
from libs.common.store.tiers import State, TierDay, read_receipt, ticks_in, tier_days


class DayStats(msgspec.Struct, frozen=True, kw_only=True):
    """One day of one partition. `ticks` and `generation` are those of the sealed day; None where it is not sealed."""

    date: str
    partition: int | None
    state: State | Literal["damaged"] | None
    generation: int | None = None
    ticks: int | None = None
    local_bytes: int = 0
    cold_bytes: int = 0


def day_stats(data_dir: Path) -> list[DayStats]:
    """Oldest first."""
    return [_stats(day) for day in tier_days(data_dir)]


def _stats(day: TierDay) -> DayStats:
    generation = ticks = None
    cold_bytes = 0
    try:
        state: State | Literal["damaged"] | None = day.state()
        receipt = read_receipt(day.receipt)
        cold_bytes = sum(found.bytes for found in receipt.cold.values()) if receipt is not None else 0
        manifest = read_manifest(day.manifest)
        generation, ticks = manifest.generation, ticks_in(manifest)
    except FileNotFoundError:
        pass  # not sealed
    except (Rejected, Retryable):
        state = "damaged"
    return DayStats(
        date=day_name(day.day),
        partition=day.partition,
        state=state,
        generation=generation,
        ticks=ticks,
        local_bytes=sum(path.stat().st_size for path in day.files() if path.exists()),
        cold_bytes=cold_bytes,
    )
