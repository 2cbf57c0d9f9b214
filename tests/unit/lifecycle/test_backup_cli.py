"""backup, restore, drill and repair as an operator types them; the drill finds what is not as it was; and all of it on S3."""

import json
import sqlite3
from pathlib import Path

import msgspec
import pytest

from libs.common.domain.errors import Retryable
from libs.common.domain.moment import day_name
from libs.common.store.backup import BackupStorage, back_up, drill, make, restore, snapshot
from libs.common.store.columnar import read_manifest
from libs.common.store.columnar.manifest import encode_manifest
from libs.common.store.layout import Layout
from libs.common.store.tiers import ColdStorage, verify_all
from tests.unit.lifecycle.backups import OPEN, content_of, full_store, place, some_ticks
from tests.unit.lifecycle.conftest import Run
from tests.unit.lifecycle.days import DAY, flip, tier_day


@pytest.fixture
def store(data: Path, cold: ColdStorage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    full_store(data, cold)
    monkeypatch.setenv("TICKVAULT_BACKUP_URL", (tmp_path / "backups").as_uri())
    return data


@pytest.fixture
def storage(tmp_path: Path) -> BackupStorage:
    return place(tmp_path)


def last(out: str) -> dict:
    found: dict = json.loads(out.splitlines()[-1])
    return found


def test_a_store_is_backed_up_drilled_and_restored(run: Run, store: Path, tmp_path: Path) -> None:
    code, out, _ = run("backup", "--dry-run", "--json")
    planned = last(out)
    assert (code, planned["problems"], (tmp_path / "backups" / "manifests").exists()) == (0, 0, False)
    code, out, _ = run("backup", "--json")
    assert (code, last(out)["sent"]) == (0, planned["sent"])
    code, out, _ = run("backup", "--kind", "full")
    assert code == 0
    assert ".weekly: " in out
    code, out, _ = run("drill")
    assert code == 0, out
    assert "6 days, " in out
    assert "4 sealed days held against the live store; 0 problems" in out
    before = content_of(store)
    code, out, _ = run("restore", "--to", str(tmp_path / "restored"))
    assert (code, "restored and verified in" in out) == (0, True)
    before.pop("journal/LP1/00000000000000000100.journal.zst")
    assert content_of(tmp_path / "restored") == before


def test_a_restore_needs_no_data_folder(run: Run, store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run("backup")
    monkeypatch.setenv("TICKVAULT_DATA_DIR", str(tmp_path / "gone"))
    assert run("drill")[0] == 0
    assert run("restore", "--to", str(tmp_path / "gone"))[0] == 0
    assert run("verify")[0] == 0


def test_a_day_is_restored_and_one_that_is_there_is_not(run: Run, store: Path) -> None:
    run("backup")
    for path in tier_day(store, DAY + 3).files():
        path.unlink()
    assert run("restore", "--day", day_name(DAY + 3))[0] == 0
    assert run("verify")[0] == 0
    some_ticks(tier_day(store, OPEN), 9_000)
    code, _, err = run("restore", "--day", day_name(OPEN))
    assert (code, "move away what is left of it" in err) == (2, True)


@pytest.mark.parametrize("harm", ["object", "manifest"])
def test_damage_to_a_backup_ends_with_1_and_its_name(run: Run, store: Path, tmp_path: Path, harm: str) -> None:
    run("backup")
    path = max((tmp_path / "backups" / {"object": "objects", "manifest": "manifests"}[harm]).iterdir())
    flip(path)
    for command in (("drill",), ("restore", "--to", str(tmp_path / "restored"))):
        code, out, _ = run(*command)
        assert (code, str(path) in out) == (1, True), out
    assert not (tmp_path / "restored" / "ticks").exists()


def test_a_backup_of_a_damaged_file_ends_with_1_and_its_name(run: Run, store: Path) -> None:
    flip(next(store.rglob("bars_2024-10-06.parquet")))
    code, out, _ = run("backup")
    assert (code, "bars_2024-10-06.parquet" in out) == (1, True)
    code, out, _ = run("drill")
    assert (code, "left out of the backup" in out) == (1, True)


def test_damage_is_repaired_and_named(run: Run, store: Path) -> None:
    assert run("repair")[:2] == (0, "nothing to repair\n")
    path = next(store.rglob("ticks_2024-10-07.db"))
    flip(path)
    code, out, _ = run("repair", "--dry-run")
    assert (code, str(path) in out) == (1, True)
    code, out, _ = run("repair", "--day", "2024-10-06")
    assert (code, out) == (0, "nothing to repair\n")
    code, out, _ = run("repair", "--json")
    assert (code, last(out)) == (0, {"repaired": 1, "problems": 0})
    assert run("verify")[0] == 0
    late = tier_day(store, DAY + 2).late
    late.write_bytes(late.read_bytes()[:5_000])
    code, out, _ = run("repair")
    assert (code, "late.db" in out) == (1, True)


@pytest.mark.parametrize(
    ("url", "arguments", "said"),
    [
        ("", ("backup",), "TICKVAULT_BACKUP_URL is not set"),
        ("", ("drill",), "TICKVAULT_BACKUP_URL is not set"),
        ("/srv", ("backup",), "'/srv' is no place for backup storage"),
        (None, ("restore", "--to", "/nowhere"), "has no backup"),
        (None, ("drill", "--at", "yesterday"), "is not a time"),
    ],
)
def test_what_has_to_be_corrected_ends_with_2(
    run: Run, store: Path, monkeypatch: pytest.MonkeyPatch, url: str | None, arguments: tuple[str, ...], said: str
) -> None:
    if url is not None:
        monkeypatch.setenv("TICKVAULT_BACKUP_URL", url)
    code, _, err = run(*arguments)
    assert (code, said in err) == (2, True), err


def test_the_drill_finds_rows_that_are_not_those_that_were_copied(
    store: Path, storage: BackupStorage, cold: ColdStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not only bytes are compared: a copy that lost a tick before its sum was taken is found by what was counted."""
    count = make.series_of

    def count_then_lose_one(path: Path) -> object:
        found = count(path)
        if path.name == tier_day(store, OPEN).db.name:
            connection = sqlite3.connect(path)
            connection.execute("DELETE FROM ticks WHERE seq = 5003 AND symbol_id = 1")
            connection.commit()
            connection.close()
        return found

    monkeypatch.setattr(make, "series_of", count_then_lose_one)
    name = back_up(store, storage, "incremental").backup.name
    (problem,) = drill(storage, name, store, cold, name.at).problems
    assert "not the 50 ticks of EUR/USD from LP1 that were copied" in problem.problem


def test_the_drill_finds_a_live_store_with_other_rows_and_a_day_that_was_missed(
    store: Path, storage: BackupStorage, cold: ColdStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    every = snapshot.tier_days
    monkeypatch.setattr(snapshot, "tier_days", lambda data: every(data)[1:])
    name = back_up(store, storage, "incremental").backup.name
    (problem,) = drill(storage, name, store, cold, name.at).problems
    assert problem.problem == "the day was sealed before the backup began and is not in it"
    monkeypatch.undo()
    name = back_up(store, storage, "incremental").backup.name
    manifest = tier_day(store, DAY + 3).manifest

    manifest.write_bytes(encode_manifest(msgspec.structs.replace(read_manifest(manifest), watermark={"LP1": 7})))
    (problem,) = drill(storage, name, store, cold, name.at).problems
    assert problem.problem == "the live store has other rows of this generation"


@pytest.fixture
def s3(bucket: str) -> BackupStorage:
    return BackupStorage(f"{bucket}/backups")


def test_all_of_it_on_s3(store: Path, s3: BackupStorage, cold: ColdStorage, tmp_path: Path) -> None:
    made = back_up(store, s3, "incremental")
    assert back_up(store, s3, "weekly").sent == made.sent
    assert back_up(store, s3, "incremental").sent == 0
    assert len(s3.backups()) == 3
    assert drill(s3, s3.newest(), store, cold, made.backup.at).problems == []
    assert restore(s3, made.backup, tmp_path / "restored") == []
    assert verify_all(tmp_path / "restored", cold).problems == []
    (name, found), *_ = made.backup.files.items()
    s3.delete(made.backup.name.objects + found.sha256)
    (problem,) = restore(s3, made.backup, tmp_path / "again")
    assert problem.problem.startswith(f"{name}: it is gone from backup storage, s3://bucket/backups")


def test_storage_that_is_away_is_retryable_and_leaves_nothing_behind(
    store: Path, storage: BackupStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    (Path(storage.url.removeprefix("file://")) / "objects").write_bytes(b"no folder")
    with pytest.raises(Retryable, match="backup storage file:"):
        back_up(store, storage, "incremental")
    assert not Layout(store).snapshot().exists()
