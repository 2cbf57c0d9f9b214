"""The drill: a backup restored into an empty folder, and proven to hold what the store held.

every object as its sum says ─▶ every tier verified, row by row ─▶ open files: integrity, ticks and digests as counted when copied
─▶ sealed days: the same rows as the live store's day of the same generation ─▶ no older day of the store is missing
"""

import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from libs.common.domain.errors import Rejected
from libs.common.domain.moment import NS_PER_S
from libs.common.store.backup.content import series_of
from libs.common.store.backup.manifest import Backup, BackupName
from libs.common.store.backup.restore import fetch
from libs.common.store.backup.storage import BackupStorage
from libs.common.store.columnar import Damaged, Manifest, read_manifest
from libs.common.store.tiers import ColdStorage, TierDay, ticks_in, tier_days, verify_all
from libs.common.store.tiers.database import check_late


@dataclass(frozen=True, slots=True)
class Drilled:
    """`age_s`: what would be lost if the store were gone now. `compared`: sealed days held against the live store."""

    name: BackupName
    age_s: float
    restore_s: float
    verify_s: float
    files: int
    bytes: int
    days: int
    ticks: int
    compared: int
    problems: list[Damaged]


def drill(storage: BackupStorage, name: BackupName, data_dir: Path, cold: ColdStorage | None, now: int) -> Drilled:
    """In the folder for temporary files (TMPDIR), which is empty again afterwards. Retryable: storage or disk refuse."""
    backup = storage.read(name)
    with tempfile.TemporaryDirectory(prefix="tickvault-drill-") as folder:
        restored = Path(folder)
        begun = time.monotonic()
        problems = fetch(storage, backup, backup.files, restored)
        fetched = time.monotonic()
        problems += [Damaged(Path(file), f"left out of the backup: {problem}") for file, problem in backup.left_out.items()]
        problems += verify_all(restored, cold).problems
        problems += _differing_files(backup, restored)
        days = tier_days(restored)
        sealed = {day: manifest for day in days if (manifest := _manifest(day)) is not None}
        live = {day: manifest for day in tier_days(data_dir) if (manifest := _manifest(day)) is not None}
        compared = [day for day in sealed if day in live and live[day].generation == sealed[day].generation]
        problems += [
            Damaged(day.manifest, "the live store has other rows of this generation")
            for day in compared
            if live[day].content != sealed[day].content
        ]
        problems += [
            Damaged(day.manifest, "the day was sealed before the backup began and is not in it")
            for day, manifest in live.items()
            if manifest.created_at < backup.began_at and day not in days
        ]
        return Drilled(
            name=name,
            age_s=(now - backup.began_at) / NS_PER_S,
            restore_s=fetched - begun,
            verify_s=time.monotonic() - fetched,
            files=len(backup.files),
            bytes=sum(found.bytes for found in backup.files.values()),
            days=len(days),
            ticks=sum(map(ticks_in, sealed.values())) + sum(one.ticks for found in backup.series.values() for one in found),
            compared=len(compared),
            problems=problems,
        )


def _differing_files(backup: Backup, restored: Path) -> list[Damaged]:
    """Files that no manifest of a sealed day speaks for."""
    problems = []
    for file, expected in backup.series.items():
        path = restored / file
        try:
            if not path.exists():
                continue  # it is among those that could not be fetched
            check_late(path)
            found = {(one.symbol, one.provider): one for one in series_of(path)}
            problems += [
                Damaged(path, f"not the {one.ticks} ticks of {one.symbol} from {one.provider} that were copied")
                for one in expected
                if found.pop((one.symbol, one.provider), None) != one
            ]
            problems += [Damaged(path, f"ticks of {symbol} from {provider} that were not copied") for symbol, provider in found]
        except Damaged as damage:
            problems.append(damage)
    return problems


def _manifest(day: TierDay) -> Manifest | None:
    """None: the day is not sealed, or damaged, which is said elsewhere."""
    try:
        return read_manifest(day.manifest)
    except (FileNotFoundError, Rejected):
        return None
