"""A backup is consistent, sends only what is new, and comes back as it was."""

import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from libs.common.domain.errors import Rejected, Retryable
from libs.common.domain.moment import NS_PER_DAY
from libs.common.store import DayFile
from libs.common.store.backup import Backup, BackupStorage, back_up, forget, restore, restore_day
from libs.common.store.backup import snapshot as snapshots
from libs.common.store.backup.snapshot import only_one
from libs.common.store.columnar import Damaged
from libs.common.store.day import durable_positions
from libs.common.store.tiers import ColdStorage, DiskReserve, alone, amend_day, seal_day, state_of, tier_days, verify_all
from tests.unit.lifecycle.backups import OPEN, amended, content_of, full_store, place, segment, some_ticks
from tests.unit.lifecycle.days import DAY, NOW, batch, closed_day, flip, late_ticks, tier_day, write

NOON = 1_795_262_400 * 10**9  # 2026-11-21T12:00:00Z


@pytest.fixture
def storage(tmp_path: Path) -> BackupStorage:
    return place(tmp_path)


@pytest.fixture
def store(data: Path, cold: ColdStorage) -> Path:
    full_store(data, cold)
    return data


def made(data: Path, storage: BackupStorage, at: int = NOON, kind: str = "incremental") -> Backup:
    found = back_up(data, storage, kind, clock=lambda: at)  # type: ignore[arg-type]
    assert found.problems == {}
    return found.backup


def test_every_file_and_every_field_comes_back(store: Path, storage: BackupStorage, cold: ColdStorage, tmp_path: Path) -> None:
    backup = made(store, storage)
    assert restore(storage, backup, tmp_path / "restored") == []
    before, after = content_of(store), content_of(tmp_path / "restored")
    assert before.pop("journal/LP1/00000000000000000100.journal.zst"), "durable since long"
    assert after == before
    assert [state_of(tmp_path / "restored", day) for day in range(DAY, OPEN + 1)] == [
        "archived", "compressed", "sealed", "sealed", "closed", "open",
    ]  # fmt: skip
    assert verify_all(tmp_path / "restored", cold).problems == []


def test_it_comes_back_without_this_program_as_the_page_of_formats_says(
    store: Path, storage: BackupStorage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    backup = made(store, storage)
    page = (Path(__file__).resolve().parents[3] / "docs" / "formats.md").read_text("utf-8")
    lines = page.partition("## A backup")[2].partition("    import hashlib")[2].partition("\n\n## ")[0]
    monkeypatch.chdir(tmp_path / "backups")
    shutil.copy(backup.name.path, "manifest.json")
    exec(textwrap.dedent("    import hashlib" + lines), {})
    before = content_of(store)
    before.pop("journal/LP1/00000000000000000100.journal.zst")
    assert content_of(tmp_path / "backups" / "restored") == before


def test_what_is_there_already_is_not_sent_again(store: Path, storage: BackupStorage, tmp_path: Path) -> None:
    first = back_up(store, storage, "incremental", clock=lambda: NOON)
    assert first.sent == len(set(first.backup.files.values()))
    again = back_up(store, storage, "incremental", clock=lambda: NOON + 10**9)
    assert (again.sent, again.sent_bytes) == (0, 0)
    some_ticks(tier_day(store, OPEN), 9_000)
    dry = back_up(store, storage, "incremental", clock=lambda: NOON + 2 * 10**9, dry_run=True)
    assert dry.sent == 1
    assert len(storage.backups()) == 2
    third = back_up(store, storage, "incremental", clock=lambda: NOON + 3 * 10**9)
    assert (third.sent, third.sent_bytes) == (1, dry.sent_bytes)


def test_a_full_backup_relies_on_no_other_and_sends_what_has_rotted_again(
    store: Path, storage: BackupStorage, tmp_path: Path
) -> None:
    made(store, storage)
    weekly = back_up(store, storage, "weekly", clock=lambda: NOON)
    assert weekly.sent == len(set(weekly.backup.files.values()))
    quarterly = back_up(store, storage, "quarterly", clock=lambda: NOON)
    assert quarterly.sent == weekly.sent
    assert {path.name for path in (tmp_path / "backups" / "full").iterdir()} == {"2026-W47", "2026-Q4"}
    rotten = next((tmp_path / "backups" / "full" / "2026-W47").iterdir())
    flip(rotten)
    assert back_up(store, storage, "weekly", clock=lambda: NOON + 10**9).sent == 1
    shutil.rmtree(tmp_path / "backups" / "objects")
    shutil.rmtree(tmp_path / "backups" / "full" / "2026-Q4")
    assert restore(storage, weekly.backup, tmp_path / "restored") == []


def test_a_restore_to_a_point_before_an_amendment_has_the_earlier_generation(
    data: Path, storage: BackupStorage, tmp_path: Path
) -> None:
    day = closed_day(data)
    seal_day(day, NOW)
    made(data, storage, NOON)
    late_ticks(day)
    amend_day(day, day.late, NOW, None)
    made(data, storage, NOON + 60 * 10**9)
    for name, at, generation in (("before", NOON + 59 * 10**9, 1), ("after", None, 2)):
        assert restore(storage, storage.read(storage.newest(at)), tmp_path / name) == []
        assert amended(tier_day(tmp_path / name)) == generation
        assert verify_all(tmp_path / name, None).problems == []
    with pytest.raises(Rejected, match="no backup of that time or before"):
        storage.newest(NOON - 1)


WRITER = """
import sys, time
from pathlib import Path
from libs.common.store import Batch, DayFile
from tests.unit.lifecycle.days import DAY
files = [DayFile(Path(path)) for path in sys.argv[1:]]
at, begun = 0, time.monotonic()
while True:
    first = DAY * 86400 * 10**9
    ticks = [(f"S{n % 50:02}", "LP1", first + n * 1000, n, n * 1000, n, n, None, None, 0) for n in range(at, at + 1000)]
    # as the writer does: the earlier file first, and the watermark with the later one, or with the late file where it is alone
    late = at % 3000 == 0
    files[0].write(Batch(ticks=ticks[:500], watermarks={"LP1": at + 1000} if late else {}))
    if not late:
        files[1].write(Batch(ticks=ticks[500:], watermarks={"LP1": at + 1000}))
    at += 1000
    print(at, flush=True)
    time.sleep(max(0, begun + at / 50_000 - time.monotonic()))
"""


def test_copies_made_while_50_000_ticks_a_second_are_written_hold_all_up_to_their_watermark(
    data: Path, storage: BackupStorage, tmp_path: Path
) -> None:
    """Two files of one session, neither of which is copied in the same instant as the other."""
    late, day = tier_day(data).late, tier_day(data, DAY + 1).db
    writer = subprocess.Popen([sys.executable, "-c", WRITER, str(late), str(day)], stdout=subprocess.PIPE, text=True)
    assert writer.stdout is not None
    try:
        for _ in range(50):
            writer.stdout.readline()
        for number in range(3):
            backup = made(data, storage, NOON + number * 10**9)
            restored = tmp_path / f"restored {number}"
            assert restore(storage, backup, restored) == []
            numbers = set()
            for path in (tier_day(restored).late, tier_day(restored, DAY + 1).db):
                rows = snapshot_rows(path)
                numbers |= rows
            watermark = durable_positions([tier_day(restored).late, tier_day(restored, DAY + 1).db])["LP1"]
            assert watermark >= 50_000
            assert backup.watermark[""]["LP1"] == watermark
            missing = expected_below(watermark) - numbers
            assert missing == set()
        assert writer.poll() is None
    finally:
        writer.kill()
        writer.wait()
        writer.stdout.close()


def snapshot_rows(path: Path) -> set[int]:
    file = DayFile(path)  # it opens again, and for writing
    rows = {seq for (seq,) in file._execute("SELECT seq FROM ticks")}
    file.close()
    return rows


def expected_below(watermark: int) -> set[int]:
    return {n for n in range(watermark) if n % 1000 < 500 or (n // 1000 * 1000) % 3000}


def test_a_watermark_never_says_more_than_the_copies_hold(
    data: Path, storage: BackupStorage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is written between the copies of two files is not durable for the restored store."""
    first, second = tier_day(data, DAY).db, tier_day(data, DAY + 1).db
    write(first, batch(10, day=DAY))
    write(second, batch(10, day=DAY + 1))
    copy = snapshots._copy

    def copy_then_write(path: Path, target: Path) -> None:
        copy(path, target)
        if path == second:
            some_ticks(tier_day(data, DAY), 7_000)
            some_ticks(tier_day(data, DAY + 1), 8_000)

    monkeypatch.setattr(snapshots, "_copy", copy_then_write)
    restore(storage, made(data, storage), tmp_path / "restored")
    files = [tier_day(tmp_path / "restored", day).db for day in (DAY, DAY + 1)]
    assert durable_positions(files) == {"LP1": 1_000}


def test_a_file_that_is_begun_while_a_backup_begins_is_in_it_where_the_watermark_covers_it(
    data: Path, storage: BackupStorage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    today = tier_day(data, DAY + 1)
    write(today.db, batch(10, day=DAY + 1))
    copy = snapshots._copy

    def write_then_copy(path: Path, target: Path) -> None:
        if path == today.db:
            late_ticks(tier_day(data, DAY))
            some_ticks(today, 8_000)
        copy(path, target)

    monkeypatch.setattr(snapshots, "_copy", write_then_copy)
    restore(storage, made(data, storage), tmp_path / "restored")
    restored = [tier_day(tmp_path / "restored", DAY + 1).db, tier_day(tmp_path / "restored", DAY).late]
    assert durable_positions(restored) == {"LP1": 8_000}
    assert len(snapshot_rows(restored[1])) == 5


def test_journals_from_the_watermark_on_come_with_it(data: Path, storage: BackupStorage) -> None:
    write(tier_day(data).db, batch(10))  # durable up to 1,000
    names = [f"{base:020d}.journal" for base in (100, 900, 1_000, 2_000)]
    for name in names:
        segment(data, name)
    segment(data, "00000000000000000050.damaged")
    backup = made(data, storage)
    assert [name.rpartition("/")[2] for name in backup.files if name.startswith("journal/LP1")] == names[2:]


def test_partitions_have_watermarks_of_their_own(data: Path, storage: BackupStorage) -> None:
    write(tier_day(data, partition=0).db, batch(10, first=1))
    write(tier_day(data, partition=1).db, batch(10, first=5))
    segment(data, f"{1_001:020d}.journal")
    segment(data, f"{1_003:020d}.journal")
    backup = made(data, storage)
    assert backup.watermark == {".p00": {"LP1": 1_001}, ".p01": {"LP1": 1_005}}
    assert sum(name.startswith("journal") for name in backup.files) == 2


def test_a_backup_waits_for_lifecycle_but_not_to_send(
    store: Path, storage: BackupStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    with alone(store), pytest.raises(Retryable, match="at work"):
        back_up(store, storage, "incremental", stopping=lambda: True)
    with only_one(store), pytest.raises(Retryable, match="making a backup"):
        back_up(store, storage, "incremental")
    send = BackupStorage.send

    def send_while_lifecycle_works(self: BackupStorage, name: str, path: Path, expected: object) -> None:
        with alone(store, give_up=lambda: True):
            for day in tier_days(store):
                if day.state() == "closed":
                    seal_day(day, NOW)
                day.zst.unlink(missing_ok=True)
        send(self, name, path, expected)  # type: ignore[arg-type]

    monkeypatch.setattr(BackupStorage, "send", send_while_lifecycle_works)
    backup = made(store, storage)
    assert [name for name in backup.files if name.endswith(".zst")] == ["ticks/archive/2024/10/ticks_2024-10-05.db.zst"]
    assert not (store / "ticks" / "snapshot").exists()


@pytest.mark.parametrize("name", ["ticks_2024-10-06.parquet", "ticks_2024-10-05.db.zst", "ticks_2024-10-07.db"])
def test_a_file_that_has_rotted_is_left_out_and_named_or_taken_from_before(
    store: Path, storage: BackupStorage, tmp_path: Path, name: str
) -> None:
    whole = tmp_path / "whole"
    path = next(store.rglob(name))
    shutil.copy2(path, whole)
    flip(path)
    found = back_up(store, storage, "incremental", clock=lambda: NOON)
    assert [Path(file).name for file in found.problems] == [name]
    assert name not in {Path(file).name for file in found.backup.files}
    shutil.copy2(whole, path)
    made(store, storage, NOON + 1_000)
    flip(path)
    assert name in {Path(file).name for file in made(store, storage, NOON + 2_000).files}


def test_a_sealed_file_that_is_gone_is_named(store: Path, storage: BackupStorage) -> None:
    next(store.rglob("bars_2024-10-06.parquet")).unlink()
    found = back_up(store, storage, "incremental")
    assert found.problems == {"ticks/columnar/2024/10/bars_2024-10-06.parquet": "it is gone"}


def test_copies_leave_the_reserve_of_the_disk_to_capture(store: Path, storage: BackupStorage) -> None:
    with pytest.raises(DiskReserve):
        back_up(store, storage, "incremental", reserve_bytes=10**18)
    assert not (store / "ticks" / "snapshot").exists()


def test_a_manifest_is_written_once(store: Path, storage: BackupStorage) -> None:
    made(store, storage)
    some_ticks(tier_day(store, OPEN), 9_000)
    with pytest.raises(Rejected, match="other content"):
        back_up(store, storage, "incremental", clock=lambda: NOON)


def test_a_backup_is_restored_into_an_empty_folder_only(store: Path, storage: BackupStorage, tmp_path: Path) -> None:
    backup = made(store, storage)
    (tmp_path / "restored" / "lost+found").mkdir(parents=True)
    (tmp_path / "restored" / "note").touch()
    with pytest.raises(Rejected, match="note is in it"):
        restore(storage, backup, tmp_path / "restored")
    (tmp_path / "restored" / "note").unlink()
    assert restore(storage, backup, tmp_path / "restored") == []
    with pytest.raises(Rejected, match="is not empty"):
        restore(storage, backup, tmp_path / "restored")


@pytest.mark.parametrize("harm", ["flip", "cut", "delete"])
def test_harm_to_any_object_or_manifest_is_found_and_nothing_appears(
    data: Path, storage: BackupStorage, tmp_path: Path, harm: str
) -> None:
    seal_day(closed_day(data), NOW)
    backup = made(data, storage)
    for path in sorted(path for path in (tmp_path / "backups").rglob("*") if path.is_file()):
        content = path.read_bytes()
        if harm == "flip":
            flip(path)
        elif harm == "cut":
            path.write_bytes(content[:-3])
        else:
            path.unlink()
        if path.suffix == ".json":
            with pytest.raises(Damaged) as caught:
                storage.read(backup.name)
            named = [caught.value.path]
        else:
            folder = tmp_path / f"restored {path.name}"
            named = [problem.path for problem in restore(storage, backup, folder)]
            assert [one.name for one in folder.iterdir()] == [f"{backup.name}.partial"]
        assert named == [path]
        path.write_bytes(content)
    assert restore(storage, backup, folder) == [], "it goes on with what it has"


def test_a_day_comes_back_into_a_store_that_has_lost_it(
    store: Path, storage: BackupStorage, cold: ColdStorage, tmp_path: Path
) -> None:
    backup = made(store, storage)
    before = content_of(store)
    for day in (DAY + 1, DAY + 2, DAY + 4):
        for path in tier_day(store, day).files():
            path.unlink()
    for day in (DAY + 1, DAY + 2, DAY + 4):
        assert restore_day(storage, backup, store, day) == []
    assert content_of(store) == before
    assert verify_all(store, cold).problems == []
    restore_day(storage, backup, store, DAY + 2)  # all of it is there, and the same
    flip(tier_day(store, DAY + 2).receipt)
    with pytest.raises(Rejected, match="move away what is left of it"):
        restore_day(storage, backup, store, DAY + 2)
    with pytest.raises(Rejected, match="nothing of 2024-10-24"):
        restore_day(storage, backup, store, DAY + 20)


def test_a_manifest_that_leads_out_of_the_folder_is_refused(store: Path, storage: BackupStorage, tmp_path: Path) -> None:
    backup = made(store, storage)
    (name, *_) = backup.files
    backup.files["../outside"] = backup.files[name]
    with pytest.raises(Rejected, match="outside of a data folder"):
        restore(storage, backup, tmp_path / "restored")


def test_old_backups_go_and_what_kept_ones_name_stays(
    data: Path, storage: BackupStorage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("libs.common.store.backup.keep.KEPT", {"incremental": 3, "weekly": 2, "quarterly": 1})
    day = tier_day(data, OPEN)
    write(day.db, batch(day=OPEN))
    seal_day(closed_day(data), NOW)
    backups = []
    for number in range(12):
        some_ticks(day, 10_000 + 100 * number)
        at = NOON + number * NS_PER_DAY * 3 // 2
        backups += [made(data, storage, at), made(data, storage, at + 10**9)]
        if number % 3 == 0:
            backups += [made(data, storage, at + 2 * 10**9, "weekly"), made(data, storage, at + 3 * 10**9, "quarterly")]
        forget(data, storage)
    kept = storage.backups()
    for name in kept:
        assert restore(storage, storage.read(name), tmp_path / str(name)) == []
    assert len({name.period for name in kept if name.kind == "incremental"}) == 3
    assert sum(name.kind == "incremental" for name in kept) == 6
    named = {name.objects + found.sha256 for name in kept for found in storage.read(name).files.values()}
    assert set(storage.sizes("objects/")) | set(storage.sizes("full/")) == named
    assert len(kept) < len(backups)


def test_nothing_is_collected_where_a_kept_manifest_cannot_be_read(
    data: Path, storage: BackupStorage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("libs.common.store.backup.keep.KEPT", {"incremental": 1, "weekly": 1, "quarterly": 1})
    seal_day(closed_day(data), NOW)
    made(data, storage, NOON)
    newest = made(data, storage, NOON + NS_PER_DAY)
    flip(tmp_path / "backups" / newest.name.path)
    objects = storage.sizes("objects/")
    with pytest.raises(Damaged):
        forget(data, storage)
    assert storage.sizes("objects/") == objects
    assert len(storage.backups()) == 2
