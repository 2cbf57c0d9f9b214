"""Which files hold the ticks of a day, in whatever tier it is.

    no manifest                 the day file, and what came late for it
    sealed and whatever later   the generation that the manifest names; what came late and is not amended in yet; and a day file
                                that was begun anew, by a writer who did not know that the day had been compressed

They are listed in the order late, day files, manifests: files leave in the other direction, so whatever is moved on meanwhile is
seen in one of the two places, or in both. What is in both counts once.
"""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec

from libs.common.store.columnar import Damaged
from libs.common.store.columnar.catalog import Catalog, Listings, SealedFile, months
from libs.common.store.columnar.manifest import decode_checked
from libs.common.store.layout import Layout
from libs.common.store.tiers.day import TierDay
from libs.common.store.tiers.receipt import Sum


@dataclass(frozen=True, slots=True)
class DayPath:
    """A SQLite file of a day."""

    tier: TierDay
    path: Path

    @property
    def day(self) -> int:
        return self.tier.day

    @property
    def is_late(self) -> bool:
        """What came for a day that was over."""
        return self.path != self.tier.db


class Days:
    """Of one data directory; for any number of threads."""

    def __init__(self, data_dir: Path, catalog: Catalog) -> None:
        self._data_dir = data_dir
        self._catalog = catalog
        self._late = Layout(data_dir).late(0).parent
        self._db = Layout(data_dir).day(0).parents[2]
        self._listings = Listings(self._paths)
        self._receipts: dict[Path, tuple[int, bool]] = {}

    def files(self, first: int, last: int) -> dict[int, list[DayPath]]:
        """Day → the SQLite files that have to be read, in order of precedence; only of days that have any."""
        late, own = self.listed(first, last)
        found: defaultdict[int, list[DayPath]] = defaultdict(list)
        for file in own:
            if self.sealed(file.tier) is None or self._is_compressed(file.tier):
                found[file.day].append(file)
        for file in late:
            found[file.day].append(file)
        return found

    def listed(self, first: int, last: int) -> tuple[list[DayPath], list[DayPath]]:
        """What came late, what is taken first; and the day files."""
        late = [file for file in self._listings.of(self._late) if first <= file.day <= last]
        folders = months(self._db, first, last)
        return late, [file for folder in folders for file in self._listings.of(folder) if first <= file.day <= last]

    def tier(self, sealed: SealedFile) -> TierDay:
        return TierDay(sealed.paths.day, sealed.paths.infix, self._data_dir)

    def sealed(self, tier: TierDay) -> SealedFile | None:
        return self._catalog.of(tier.sealed)

    def _is_compressed(self, tier: TierDay) -> bool:
        """A day file beside a .db.zst may have been begun anew."""
        try:
            changed = tier.receipt.stat().st_mtime_ns
        except FileNotFoundError:
            return False
        known = self._receipts.get(tier.receipt)
        if known is None or known[0] != changed:
            known = self._receipts[tier.receipt] = changed, _has_zst(tier.receipt)
        return known[1]

    def _paths(self, folder: Path) -> list[DayPath]:
        return sorted(self._find(folder), key=lambda file: (file.day, file.path.suffix != ".taken", file.path))

    def _find(self, folder: Path) -> Iterator[DayPath]:
        for path in folder.iterdir():
            if found := Layout.parse(path.name):
                day, partition = found
                yield DayPath(TierDay(day, "" if partition is None else f".p{partition:02d}", self._data_dir), path)


class _Receipt(msgspec.Struct):
    zst: Sum | None = None


def _has_zst(receipt: Path) -> bool:
    try:
        return decode_checked(receipt, _Receipt).zst is not None
    except (Damaged, FileNotFoundError):
        return True  # then the day file is read too, which is slower and never wrong
