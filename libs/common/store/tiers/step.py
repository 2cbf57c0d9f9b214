"""What one step did to one day."""

from dataclasses import dataclass
from typing import Literal

import msgspec

from libs.common.store.columnar import Manifest
from libs.common.store.tiers.day import TierDay

Step = Literal["seal", "amend", "compress", "archive", "retain"]


class SeriesChange(msgspec.Struct, frozen=True):
    """The ticks of one symbol from one provider whose rows are others now; in ticks, 0 where there were or are none."""

    symbol: str
    provider: str
    before: int
    after: int


@dataclass(frozen=True, slots=True)
class Done:
    """Of a dry run: what would be done. Bytes are those on this machine."""

    step: Step
    day: TierDay
    generation: int
    ticks: int
    bytes_before: int = 0
    bytes_after: int = 0
    changed: tuple[SeriesChange, ...] = ()
    written: tuple[str, ...] = ()
    deleted: tuple[str, ...] = ()


def ticks_in(manifest: Manifest) -> int:
    return sum(one.ticks for found in manifest.series.values() for one in found)


def changes(before: Manifest | None, after: Manifest) -> tuple[SeriesChange, ...]:
    """The series that are not the same in both."""
    old, new = _series(before), _series(after)
    return tuple(
        SeriesChange(*key, before=old.get(key, ("", 0))[1], after=new.get(key, ("", 0))[1])
        for key in sorted({*old, *new})
        if old.get(key) != new.get(key)
    )


def _series(manifest: Manifest | None) -> dict[tuple[str, str], tuple[str, int]]:
    """(symbol, provider) → digest, ticks."""
    if manifest is None:
        return {}
    return {(symbol, one.provider): (one.digest, one.ticks) for symbol, found in manifest.series.items() for one in found}
