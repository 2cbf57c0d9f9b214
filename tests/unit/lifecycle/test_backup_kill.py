"""kill -9 at every step of backup, restore and repair: the same command again ends as if nothing had happened."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from libs.common.store import backup as package
from libs.common.store.backup import BackupStorage, back_up, forget, repair_day, restore, restore_day
from libs.common.store.tiers import ColdStorage, verify_all
from tests.unit.lifecycle.backups import OPEN, content_of, full_store, place, some_ticks
from tests.unit.lifecycle.days import DAY, NOW, flip, rows_of, ticks_of, tier_day

BACKUP = ("snapshot_taken", "object_sent:7", "sent_no_manifest", "backed_up")
RESTORE = ("object_fetched:7", "fetched_not_complete", "complete_not_moved", "complete_not_moved:2")
RESTORE_DAY = ("object_fetched:3", "fetched_not_moved", "fetched_not_moved:4")
FORGET = ("forgotten_not_collected",)
REPAIR = ("moved_not_swapped", "set_aside_not_replaced")

KILLED = """
import sys
from pathlib import Path
from libs.common.store.backup import *
from libs.common.store.backup import keep
from tests.unit.lifecycle.days import NOW, tier_day
data, storage, what = Path(sys.argv[1]), BackupStorage(sys.argv[2]), sys.argv[3]
if what == "backup":
    back_up(data, storage, "incremental")
elif what == "restore":
    restore(storage, storage.read(storage.newest()), Path(sys.argv[4]))
elif what == "day":
    restore_day(storage, storage.read(storage.newest()), data, int(sys.argv[4]))
elif what == "forget":
    keep.KEPT.update(incremental=1, weekly=1)
    forget(data, storage)
else:
    repair_day(tier_day(data, int(sys.argv[4])), None, None, NOW)
"""


@pytest.fixture
def store(data: Path, cold: ColdStorage) -> Path:
    full_store(data, cold)
    return data


@pytest.fixture
def storage(tmp_path: Path) -> BackupStorage:
    return place(tmp_path)


def kill(point: str, data: Path, storage: BackupStorage, *arguments: object) -> None:
    command = [sys.executable, "-c", KILLED, str(data), storage.url, *map(str, arguments)]
    done = subprocess.run(command, env=os.environ | {"CHAOS_POINT": point}, capture_output=True, text=True, check=False)
    assert done.returncode == -9, done.stderr


def test_every_point_is_tried() -> None:
    folder = Path(package.__file__).parent
    points = {name for path in folder.glob("*.py") for name in re.findall(r'\bpoint\("(\w+)"\)', path.read_text("utf-8"))}
    assert points == {name.partition(":")[0] for name in (*BACKUP, *RESTORE, *RESTORE_DAY, *FORGET, *REPAIR)}


@pytest.mark.parametrize("point", BACKUP)
def test_a_backup_that_was_killed(store: Path, storage: BackupStorage, tmp_path: Path, point: str) -> None:
    kill(point, store, storage, "backup")
    assert len(storage.backups()) == (point == "backed_up"), "a backup is there with its manifest, or not at all"
    made = back_up(store, storage, "incremental")
    sent_before = {"snapshot_taken": 0, "object_sent:7": 7}
    assert made.sent == max(0, len(set(made.backup.files.values())) - sent_before.get(point, 10**6))
    assert restore(storage, made.backup, tmp_path / "restored") == []
    before = content_of(store)
    before.pop("journal/LP1/00000000000000000100.journal.zst")
    assert content_of(tmp_path / "restored") == before
    assert not (store / "ticks" / "snapshot").exists()


@pytest.mark.parametrize("point", RESTORE)
def test_a_restore_that_was_killed(store: Path, storage: BackupStorage, tmp_path: Path, point: str) -> None:
    backup = back_up(store, storage, "incremental").backup
    folder = tmp_path / "restored"
    kill(point, store, storage, "restore", folder)
    assert not (folder / "ticks").exists(), "it appears whole"
    if point.startswith("object_fetched"):
        fetched = {path: path.stat().st_mtime_ns for path in folder.rglob("*.parquet")}
        assert restore(storage, backup, folder) == []
        kept = {path.name: path.stat().st_mtime_ns for path in folder.rglob("*.parquet")}
        assert all(kept[path.name] == at for path, at in fetched.items()), "what was there is not fetched again"
    assert restore(storage, backup, folder) == [] if (folder / f"{backup.name}.complete").exists() else True
    if not (folder / "ticks").exists():
        restore(storage, backup, folder)
    before = content_of(store)
    before.pop("journal/LP1/00000000000000000100.journal.zst")
    assert content_of(folder) == before


@pytest.mark.parametrize("point", RESTORE_DAY)
def test_a_day_s_restore_that_was_killed(
    store: Path, storage: BackupStorage, cold: ColdStorage, tmp_path: Path, point: str
) -> None:
    backup = back_up(store, storage, "incremental").backup
    before = content_of(store)
    day = tier_day(store, DAY + 3)
    for path in day.files():
        path.unlink()
    kill(point, store, storage, "day", DAY + 3)
    assert not day.manifest.exists()
    assert restore_day(storage, backup, store, DAY + 3) == []
    assert content_of(store) == before
    assert verify_all(store, cold).problems == []


def test_a_collection_that_was_killed(
    store: Path, storage: BackupStorage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    day_ns = 86_400 * 10**9
    for number, kind in enumerate(("incremental", "weekly", "incremental", "weekly")):
        some_ticks(tier_day(store, OPEN), 9_000 + number * 100)
        back_up(store, storage, kind, clock=lambda at=NOW + number * 7 * day_ns: at)  # type: ignore[arg-type,misc]
    kill(FORGET[0], store, storage, "forget")
    monkeypatch.setattr("libs.common.store.backup.keep.KEPT", {"incremental": 1, "weekly": 1, "quarterly": 1})
    forget(store, storage)
    for name in storage.backups():
        assert restore(storage, storage.read(name), tmp_path / str(name)) == []
    assert {name.kind for name in storage.backups()} == {"incremental", "weekly"}


@pytest.mark.parametrize(("point", "file"), [(REPAIR[0], "parquet"), (REPAIR[1], "db"), ("replaced_not_sealed", "db")])
def test_a_repair_that_was_killed(store: Path, storage: BackupStorage, point: str, file: str) -> None:
    day = tier_day(store, DAY + 3)
    rows, seen = rows_of(day.db), ticks_of(store, DAY + 3)
    flip(day.db if file == "db" else day.parquet()[-1])
    kill(point, store, storage, "repair", DAY + 3)
    _, problems = repair_day(day, None, None, NOW)
    assert problems == []
    assert rows_of(day.db) == rows
    assert ticks_of(store, DAY + 3) == seen
