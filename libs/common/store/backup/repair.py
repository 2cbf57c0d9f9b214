"""Repair: a damaged or missing file of a sealed day comes back, as it was or from what else there is of the day.

    receipt            from the day file, wherever it is, that seals to what the manifest says
    .parquet, manifest fetched by sum from cold storage or a backup, else sealed again from the day file
    .db, .db.zst       fetched by sum, else rebuilt from Parquet, in which case the day is compressed and archived again
    in cold storage    put again from here or from a backup

Nothing is replaced before its successor is proven: by its sha256, or where it is rebuilt by the digests of all its rows. What is
damaged is renamed to *.damaged. Late files and days that are not sealed have nothing to be made from, and are named.
"""

import shutil
from dataclasses import dataclass
from pathlib import Path

from msgspec.structs import replace as with_fields

from libs.common.domain.errors import Rejected
from libs.common.domain.moment import day_name
from libs.common.store.backup.rebuild import day_file_from, manifest_of, sealed_folder, sealed_from
from libs.common.store.backup.storage import BackupStorage
from libs.common.store.columnar import Damaged, Manifest
from libs.common.store.columnar.manifest import encode_manifest
from libs.common.store.tiers import (
    ColdStorage,
    Receipt,
    Sum,
    TierDay,
    Verified,
    clear_scratch,
    extras,
    frame,
    plain_day,
    read_receipt,
    verify_day,
)
from libs.common.store.tiers.amend import replace
from libs.common.store.tiers.cold import generation_of
from libs.common.store.tiers.disk import disk_may_refuse, move, move_to_free, set_aside, write_whole
from libs.common.store.tiers.receipt import write_receipt
from libs.common.telemetry.chaos import point


@dataclass(frozen=True, slots=True)
class Repaired:
    """`how`: where the file came back from."""

    path: Path
    how: str


def problems_of(day: TierDay, cold: ColdStorage | None) -> list[Damaged]:
    """As `verify`, of one day."""
    found = Verified()
    verify_day(day, cold, found)
    return found.problems


def repair_day(
    day: TierDay, cold: ColdStorage | None, storage: BackupStorage | None, now: int
) -> tuple[list[Repaired], list[Damaged]]:
    """What was repaired, and what is still wrong. By whoever holds the lock. Retryable: disk or storage refuse."""
    if not (before := problems_of(day, cold)):
        return [], []
    repair = _Repair(day, cold, storage, now)
    reasons: dict[Path, str] = {}
    with disk_may_refuse(day.manifest):
        for step in (repair.receipt, repair.fetch_sealed, repair.day_file, repair.rebuild_sealed, repair.in_cold):
            try:
                step({problem.path for problem in problems_of(day, cold)})
            except Rejected as error:
                reasons |= {problem.path: str(error) for problem in before if problem.path not in reasons}
            finally:
                clear_scratch(day.data_dir)
    after = problems_of(day, cold)
    return repair.done, [
        Damaged(one.path, f"{one.problem}; {reasons[one.path]}" if one.path in reasons else one.problem) for one in after
    ]


class _Repair:
    """Each step takes the files that are damaged now. Rejected: there is nothing sound to make one from."""

    def __init__(self, day: TierDay, cold: ColdStorage | None, storage: BackupStorage | None, now: int) -> None:
        self._day = day
        self._cold = cold
        self._storage = storage
        self._now = now
        self.done: list[Repaired] = []

    def receipt(self, damaged: set[Path]) -> None:
        day = self._day
        if day.receipt not in damaged:
            return
        manifest = manifest_of(day)
        if manifest is None:
            raise Rejected(f"{day.receipt} and {day.manifest.name} are both gone")
        in_cold = {name: self._cold.sum(name) for name in self._cold.names(day)} if self._cold is not None else {}
        plain, zst = self._any_day_file(in_cold)
        self._prove(plain, manifest)
        found = Receipt(day=day_name(day.day), generation=manifest.generation, db=Sum.of(plain), zst=zst, cold=in_cold)
        set_aside(day.receipt)
        write_receipt(day.receipt, found)
        self.done.append(Repaired(day.receipt, "from the day file, which has the rows of the manifest"))

    def _any_day_file(self, in_cold: dict[str, Sum]) -> tuple[Path, Sum | None]:
        """A day file, and the sum of what it was unpacked from."""
        day = self._day
        if day.db.exists():
            return day.db, None
        zst = day.zst
        if not zst.exists():
            names = [name for name in in_cold if name.endswith(".db.zst")]
            if self._cold is None or not names:
                raise Rejected(f"there is no day file of {day.name}, here or in cold storage")
            zst = day.scratch("cold")
            newest = max(names, key=generation_of)
            self._cold.fetch(newest, zst, in_cold[newest])
        plain = day.scratch("plain")
        frame.unpack(zst, plain)
        return plain, Sum.of(zst)

    def fetch_sealed(self, damaged: set[Path]) -> None:
        """Parquet files, byte by byte."""
        manifest = None if self._day.manifest in damaged else manifest_of(self._day)
        for file in manifest.files.values() if manifest is not None else ():
            path = self._day.manifest.with_name(file.name)
            if path in damaged:
                self._bring_back(path, Sum(file.bytes, file.sha256))

    def day_file(self, damaged: set[Path]) -> None:
        """.db or .db.zst, whichever the day has."""
        day, receipt = self._day, read_receipt(self._day.receipt)
        if receipt is None:
            return  # not sealed
        path, found = (day.db, receipt.db) if receipt.zst is None else (day.zst, receipt.zst)
        if path not in damaged or self._bring_back(path, found):
            return
        plain = day.scratch("plain")
        if receipt.zst is not None and self._find(receipt.db, plain) is not None:
            how = "from a backup of its .db"
        else:
            self._from_parquet(receipt, plain)
            how = "rebuilt from Parquet"
        set_aside(path)
        point("set_aside_not_replaced")
        replace(day, plain, self._now)
        self.done.append(Repaired(path, how))

    def _from_parquet(self, receipt: Receipt, plain: Path) -> None:
        if receipt.cold and self._cold is None:
            raise Rejected(f"{self._day.name} is in cold storage too: set TICKVAULT_COLD_URL to where it is")
        manifest = manifest_of(self._day)
        if manifest is None:
            raise Rejected(f"{self._day.manifest} is gone too")
        if manifest.generation != receipt.generation:
            raise Rejected(f"{self._day.name} was being amended: Parquet has late ticks that its day file has not")
        day_file_from(self._day, manifest, plain)
        self._prove(plain, manifest)

    def rebuild_sealed(self, damaged: set[Path]) -> None:
        """Parquet files and manifest of the generation that there was, from the day file and what came late."""
        day = self._day
        manifest = None if day.manifest in damaged else manifest_of(day)
        files = {day.manifest.with_name(file.name) for file in manifest.files.values()} if manifest is not None else set()
        if not damaged & {day.manifest, *files}:
            return
        receipt = read_receipt(day.receipt)
        if receipt is None:
            raise Rejected(f"{day.receipt} is gone too")
        sealed = self._sealed_again(plain_day(day, self._cold), receipt, manifest)
        for file in sealed.files.values():
            path, rebuilt = day.manifest.with_name(file.name), sealed_folder(day) / file.name
            if path.exists() and Sum.of(path) == Sum.of(rebuilt):
                continue
            set_aside(path)
            move(rebuilt, path)
            point("moved_not_swapped")
            self.done.append(Repaired(path, "sealed again from the day file"))
        if manifest != sealed:
            set_aside(day.manifest)
            write_whole(day.manifest, encode_manifest(sealed))
            self.done.append(Repaired(day.manifest, "sealed again from the day file"))

    def _sealed_again(self, plain: Path, receipt: Receipt, manifest: Manifest | None) -> Manifest:
        """The very rows of the manifest, where it can be read; else those of the day file, which is as its receipt says."""
        generation, at = (manifest.generation, manifest.created_at) if manifest is not None else (receipt.generation, self._now)
        for late in (None, *extras(self._day)):
            sealed = sealed_from(self._day, plain, generation, at, late)
            if manifest is None or sealed.content == manifest.content:
                return sealed
            shutil.rmtree(sealed_folder(self._day))
        raise Rejected(f"the day file has other rows than {self._day.manifest}: `tickvault seal --day {day_name(self._day.day)}`")

    def in_cold(self, damaged: set[Path]) -> None:
        """Objects that are not what was put: again from here or a backup; a day file that is nowhere else, from Parquet."""
        day, receipt = self._day, read_receipt(self._day.receipt)
        if self._cold is None or receipt is None:
            return
        here = {Sum.of(path): path for path in day.files()}
        for name, found in receipt.cold.items():
            if not damaged & {self._cold.at(name), Path(name)}:
                continue
            path = here.get(found) or day.scratch("object")
            if path.is_relative_to(day.data_dir) and path in here.values():
                how = "put into cold storage again"
            elif (source := self._find(found, path)) is not None:
                how = f"put into cold storage again, from {source}"
            elif found == receipt.zst:
                self._from_parquet(receipt, day.scratch("plain"))
                write_receipt(
                    day.receipt, with_fields(receipt, cold={key: one for key, one in receipt.cold.items() if key != name})
                )
                self._cold.set_aside(name)
                replace(day, day.scratch("plain"), self._now)
                self.done.append(Repaired(self._cold.at(name), "its day file is rebuilt from Parquet and here again"))
                return
            else:
                raise Rejected(f"{name} is neither here nor in a backup")
            self._cold.set_aside(name)
            self._cold.put(name, path, found)
            self.done.append(Repaired(self._cold.at(name), how))

    def _bring_back(self, path: Path, found: Sum) -> bool:
        """Whether the very bytes were somewhere."""
        fetched = self._day.scratch("fetched")
        source = self._find(found, fetched)
        if source is None:
            return False
        set_aside(path)
        move_to_free(fetched, path)
        self.done.append(Repaired(path, f"from {source}"))
        return True

    def _find(self, found: Sum, target: Path) -> str | None:
        """Where the bytes of this sum came from, if from anywhere."""
        receipt = read_receipt(self._day.receipt)
        in_cold = [name for name, one in receipt.cold.items() if one == found] if receipt is not None else []
        prefixes = dict.fromkeys(name.objects for name in reversed(self._storage.backups())) if self._storage is not None else {}
        places = [(self._cold, name) for name in in_cold] + [(self._storage, prefix + found.sha256) for prefix in prefixes]
        for place, name in places:
            try:
                if place is not None:
                    place.fetch(name, target, found)
                    return place.called
            except Damaged:
                continue
        return None

    def _prove(self, plain: Path, manifest: Manifest) -> None:
        sealed = sealed_from(self._day, plain, manifest.generation, manifest.created_at)
        shutil.rmtree(sealed_folder(self._day))
        if sealed.content != manifest.content:
            raise Rejected(f"the day file has other rows than {self._day.manifest}")
