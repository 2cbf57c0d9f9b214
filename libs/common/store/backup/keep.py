"""How long backups are kept, and the deletion of the others: manifests first, then objects that no manifest names any more."""

from pathlib import Path

from libs.common.store.backup.manifest import KINDS, BackupName, Kind
from libs.common.store.backup.snapshot import only_one
from libs.common.store.backup.storage import BackupStorage
from libs.common.telemetry.chaos import point

KEPT_DAYS = 35
KEPT_WEEKS = 26
KEPT_QUARTERS = 28  # 7 years
KEPT: dict[Kind, int] = {"incremental": KEPT_DAYS, "weekly": KEPT_WEEKS, "quarterly": KEPT_QUARTERS}


def forget(data_dir: Path, storage: BackupStorage) -> list[str]:
    """Names of what was deleted. Of each kind the newest periods that have one are kept, with all their backups.

    Damaged: the manifest of a kept backup cannot be read, and so nobody knows what it names: no object is deleted then.
    Retryable: storage refuses, or a backup is being made, whose objects nothing names yet.
    """
    with only_one(data_dir):
        found = storage.backups()
        old = [name for kind in KINDS for name in _old([name for name in found if name.kind == kind], KEPT[kind])]
        if not old:
            return []
        deleted = [name.path for name in old]
        named = {name.objects + file.sha256 for name in found if name not in old for file in storage.read(name).files.values()}
        for path in deleted:
            storage.delete(path)
            point("forgotten_not_collected")
        for prefix in {name.objects for name in old}:
            for path in sorted(storage.sizes(prefix).keys() - named):
                storage.delete(path)
                deleted.append(path)
        return deleted


def _old(found: list[BackupName], kept: int) -> list[BackupName]:
    periods = sorted({name.period for name in found})
    return [name for name in found if name.period not in periods[-kept:]]
