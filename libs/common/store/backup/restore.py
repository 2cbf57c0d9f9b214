"""Restoring: a whole store into an empty folder, or one day into a store that has lost it.

restore:      objects into FOLDER/NAME.partial, each verified ─▶ renamed to NAME.complete ─▶ its folders moved up, ticks last
restore_day:  objects into the scratch folder, each verified ─▶ moved to free names, the manifest last

Killed anywhere, the same command again goes on where it was.
"""

import contextlib
import shutil
from collections.abc import Mapping
from pathlib import Path

from libs.common.domain.errors import Rejected, Retryable
from libs.common.domain.moment import day_name
from libs.common.platform import sync_folder
from libs.common.store.backup.manifest import Backup
from libs.common.store.backup.storage import BackupStorage
from libs.common.store.columnar import Damaged
from libs.common.store.layout import Layout
from libs.common.store.tiers import Sum, alone
from libs.common.store.tiers.disk import DAMAGED, disk_may_refuse, move_to_free
from libs.common.telemetry.chaos import point

_OF_THE_FILE_SYSTEM = {"lost+found"}


def restore(storage: BackupStorage, backup: Backup, folder: Path) -> list[Damaged]:
    """The objects that are not what was sent: nothing appears then. Rejected: the folder is not empty."""
    partial, complete = folder / f"{backup.name}.partial", folder / f"{backup.name}.complete"
    with disk_may_refuse(folder):
        folder.mkdir(parents=True, exist_ok=True)
        others = {path.name for path in folder.iterdir()} - {partial.name, complete.name} - _OF_THE_FILE_SYSTEM
        if others and not complete.exists():
            raise Rejected(f"{folder} is not empty, {min(others)} is in it: a backup is restored into an empty folder only")
        if not complete.exists():
            if problems := fetch(storage, backup, backup.files, partial):
                return problems
            point("fetched_not_complete")
            partial.rename(complete)
            sync_folder(folder)
        for part in sorted(complete.iterdir()):  # journal before ticks: without these there is no store
            point("complete_not_moved")
            part.rename(folder / part.name)
            sync_folder(folder)
        complete.rmdir()
    return []


def restore_day(storage: BackupStorage, backup: Backup, data_dir: Path, day: int) -> list[Damaged]:
    """The objects that are not what was sent: nothing appears then. `day` in days since the epoch, of every partition.

    Rejected: the backup has no such day, or the store has other files of it.
    """
    files = {name: found for name, found in backup.files.items() if is_of_day(name, day)}
    if not files:
        raise Rejected(f"the backup {backup.name} has nothing of {day_name(day)}")
    scratch = Layout(data_dir).scratch() / "restore"
    with disk_may_refuse(data_dir), alone(data_dir):
        for path in _present(data_dir, day):
            name = path.relative_to(data_dir).as_posix()
            if name not in files or Sum.of(path) != files[name]:
                raise Rejected(f"{path} is there: a day is restored only where it is missing; move away what is left of it")
        missing = {name: found for name, found in files.items() if not (data_dir / name).exists()}
        try:
            if problems := fetch(storage, backup, missing, scratch):
                return problems
            for name in sorted(missing, key=_manifest_last):
                point("fetched_not_moved")
                move_to_free(scratch / name, data_dir / name)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
    return []


def fetch(storage: BackupStorage, backup: Backup, files: Mapping[str, Sum], folder: Path) -> list[Damaged]:
    """Bring the files that are not in `folder` yet, each verified; the objects that are not what was sent."""
    problems = []
    folder.mkdir(parents=True, exist_ok=True)
    _require_space(folder, files)
    for name, found in files.items():
        target = folder / name
        if not target.resolve().is_relative_to(folder.resolve()):
            raise Rejected(f"{name} of the backup {backup.name} is outside of a data folder")
        if target.exists() and Sum.of(target) == found:
            continue
        try:
            storage.fetch(backup.name.objects + found.sha256, target, found)
            point("object_fetched")
        except Damaged as damage:
            target.unlink(missing_ok=True)
            problems.append(Damaged(damage.path, f"{name}: {damage.problem}"))
    for parent in {folder / Path(name).parent for name in files}:
        with contextlib.suppress(FileNotFoundError):
            sync_folder(parent)
    return problems


def is_of_day(name: str, day: int) -> bool:
    """Whether a path below the data folder is that of a file of the day, in any tier."""
    top, _, rest = name.partition("/")
    return top == "ticks" and f"_{day_name(day)}." in rest.rpartition("/")[2]


def _present(data_dir: Path, day: int) -> list[Path]:
    found = [path for path in (data_dir / "ticks").rglob(f"*_{day_name(day)}.*") if path.is_file()]
    layout = Layout(data_dir)
    apart = {layout.scratch(), layout.snapshot()}
    return [path for path in found if not (_is_no_data(path) or apart & set(path.parents))]


def _is_no_data(path: Path) -> bool:
    """What a repair has set aside, or a reader of SQLite's has left behind."""
    return path.name.endswith((DAMAGED, "-shm")) or (path.name.endswith("-wal") and not path.stat().st_size)


def _manifest_last(name: str) -> tuple[bool, str]:
    return name.endswith(".manifest.json"), name


def _require_space(folder: Path, files: Mapping[str, Sum]) -> None:
    needed = sum(found.bytes for name, found in files.items() if not (folder / name).exists())
    if (free := shutil.disk_usage(folder).free) < needed:
        raise Retryable(f"the disk of {folder} has {free} bytes free, {needed} are needed")
