"""Making a backup: what a snapshot holds and the storage does not, object by object, then the manifest."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from libs.common.domain.errors import Rejected, Retryable
from libs.common.domain.moment import NS_PER_US
from libs.common.store.backup.content import series_of
from libs.common.store.backup.manifest import Backup, BackupName, Kind
from libs.common.store.backup.snapshot import Snapshot, snapshot
from libs.common.store.backup.storage import BackupStorage
from libs.common.store.columnar import Damaged
from libs.common.store.tiers import Sum
from libs.common.store.tiers.database import check_integrity
from libs.common.store.tiers.disk import disk_may_refuse
from libs.common.telemetry.chaos import point


@dataclass(frozen=True, slots=True)
class Made:
    """`sent`: objects that were not there yet; of a dry run: that would be. `problems`: damaged files by path."""

    backup: Backup
    sent: int
    sent_bytes: int
    problems: dict[str, str]


def back_up(
    data_dir: Path,
    storage: BackupStorage,
    kind: Kind,
    *,
    dry_run: bool = False,
    reserve_bytes: int = 0,
    clock: Callable[[], int] = time.time_ns,
    stopping: Callable[[], bool] = lambda: False,
) -> Made:
    """Retryable: storage or disk refuse, a file is locked, another backup is being made; nothing counts then, and what was sent
    is not sent again. A damaged file is left out, unless the storage has it as it was, and named.
    """
    began_at = clock()
    with snapshot(data_dir, reserve_bytes, stopping) as taken, disk_may_refuse(taken.folder):
        name = BackupName(clock() // NS_PER_US * NS_PER_US, kind)
        series = {}
        for file in taken.unsealed:
            try:
                check_integrity(taken.path(file))
                series[file] = series_of(taken.path(file))
            except Damaged as damage:
                taken.problems[file] = damage.problem
        whole = [file for file in taken.files if file not in taken.problems]
        files = {file: taken.known.get(file) or Sum.of(taken.path(file)) for file in whole}
        sent = _send(taken, files, storage, name, dry_run=dry_run, stopping=stopping)
        backup = Backup(
            kind=kind,
            began_at=began_at,
            at=name.at,
            files={file: found for file, found in sorted(files.items()) if file not in taken.problems},
            series=series,
            watermark=taken.watermark,
            left_out=taken.problems,
        )
        if not dry_run:
            point("sent_no_manifest")
            storage.write(backup)
            point("backed_up")
        return Made(backup, len(sent), sum(found.bytes for found in sent), taken.problems)


def _send(
    taken: Snapshot,
    files: dict[str, Sum],
    storage: BackupStorage,
    name: BackupName,
    *,
    dry_run: bool,
    stopping: Callable[[], bool],
) -> set[Sum]:
    """What was not there."""
    there = storage.sizes(name.objects)
    sent: set[Sum] = set()
    for file, found in files.items():
        if stopping():
            raise Retryable("stopped before the backup was made; what was sent stays")
        target = name.objects + found.sha256
        if found in sent or (there.get(target) == found.bytes and _is_sound(storage, name, target, found)):
            continue
        try:
            if dry_run:
                taken.path(file).stat()
            else:
                storage.send(target, taken.path(file), found)
                point("object_sent")
            sent.add(found)
        except FileNotFoundError:
            taken.problems[file] = "it is gone"
        except Rejected as error:
            taken.problems[file] = str(error)
    return sent


def _is_sound(storage: BackupStorage, name: BackupName, target: str, found: Sum) -> bool:
    """An incremental backup relies on what was read back when it was sent; a full one reads it again."""
    if name.kind == "incremental":
        return True
    try:
        storage.check(target, found)
    except Damaged:
        return False
    return True
