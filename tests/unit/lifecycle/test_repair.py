"""Repair: each file of a sealed day comes back from the others, from cold storage or from a backup, proven before it counts."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from libs.common.store import Batch, DayFile
from libs.common.store.backup import BackupStorage, Repaired, back_up, repair_day
from libs.common.store.columnar import read_manifest
from libs.common.store.tiers import (
    ColdStorage,
    TierDay,
    amend_day,
    archive_day,
    compress_day,
    plain_day,
    read_receipt,
    seal_day,
    state_of,
    verify_all,
)
from tests.unit.lifecycle.backups import meta_of, place
from tests.unit.lifecycle.days import DAY, NOW, batch, closed_day, flip, late_ticks, rows_of, ticks_of, tier_day
from tests.unit.lifecycle.test_round_trip import QUOTE, numbered


@pytest.fixture
def day(data: Path) -> TierDay:
    """Sealed, of the second generation; some ticks came twice."""
    found = tier_day(data)
    file = DayFile(found.db)
    file.write(batch())
    file.write(Batch(ticks=batch(5).ticks))
    file.close_day(NOW)
    seal_day(found, NOW)
    late_ticks(found)
    amend_day(found, found.late, NOW, None)
    return found


@pytest.fixture
def storage(tmp_path: Path) -> BackupStorage:
    return place(tmp_path)


def repaired(day: TierDay, cold: ColdStorage | None = None, storage: BackupStorage | None = None) -> list[Repaired]:
    """Nothing is wrong any more."""
    done, problems = repair_day(day, cold, storage, NOW + 1)
    assert problems == []
    assert verify_all(day.data_dir, cold).problems == []
    return done


def state(day: TierDay, cold: ColdStorage | None = None) -> tuple[object, ...]:
    """What must be the same afterwards: every row of every kind, there and here, and what readers see."""
    plain = plain_day(day, cold)
    return rows_of(plain), meta_of(plain), ticks_of(day.data_dir), read_manifest(day.manifest).content


def harms() -> dict[str, Callable[[Path], object]]:
    return {"flip": flip, "cut": lambda path: path.write_bytes(path.read_bytes()[:-9]), "delete": Path.unlink}


def test_nothing_to_do_is_nothing_done(day: TierDay) -> None:
    before = {path: path.stat().st_mtime_ns for path in day.files()}
    assert repaired(day) == []
    assert {path: path.stat().st_mtime_ns for path in day.files()} == before


@pytest.mark.parametrize("harm", harms())
@pytest.mark.parametrize("compressed", [False, True])
def test_every_sealed_file_comes_back_from_the_day_file_as_it_was(day: TierDay, harm: str, compressed: bool) -> None:
    before = state(day)
    if compressed:
        compress_day(day)
    named = {file.name for file in read_manifest(day.manifest).files.values()}
    for path in [day.manifest, *(path for path in day.parquet() if path.name in named)]:
        content = path.read_bytes()
        harms()[harm](path)
        damaged = path.read_bytes() if path.exists() else None
        assert [one.path for one in repaired(day)] == [path]
        if path != day.manifest:  # which says when it was made
            assert path.read_bytes() == content
        assert state(day) == before
        aside = path.with_name(path.name + ".damaged")
        assert (aside.read_bytes() if aside.exists() else None) == damaged, "it is set aside, not deleted"
        aside.unlink(missing_ok=True)


def test_several_at_once(day: TierDay) -> None:
    before = state(day)
    for path in (*day.parquet(), day.manifest):
        flip(path)
    assert len(repaired(day)) >= 8
    assert state(day) == before


@pytest.mark.parametrize("harm", harms())
def test_a_day_file_comes_back_from_parquet_with_every_row(day: TierDay, harm: str) -> None:
    before = state(day)
    harms()[harm](day.db)
    (one,) = repaired(day)
    assert (one.path, one.how) == (day.db, "rebuilt from Parquet")
    assert state(day) == before


def test_a_compressed_day_file_comes_back_from_parquet_and_is_compressed_again(day: TierDay) -> None:
    before = state(day)
    compress_day(day)
    flip(day.zst)
    (one,) = repaired(day)
    assert one.how == "rebuilt from Parquet"
    assert state_of(day.data_dir, DAY) == "sealed"
    assert state(day) == before
    compress_day(day)
    assert state(day) == before


@pytest.mark.parametrize("compressed", [False, True])
def test_a_file_comes_back_from_a_backup_byte_by_byte(day: TierDay, storage: BackupStorage, compressed: bool) -> None:
    if compressed:
        compress_day(day)
    back_up(day.data_dir, storage, "incremental")
    for path in (day.zst if compressed else day.db, next(path for path in day.parquet() if ".g2" in path.name)):
        content = path.read_bytes()
        flip(path)
        (one,) = repaired(day, None, storage)
        assert one.how == "from backup storage"
        assert path.read_bytes() == content


def test_what_is_left_here_of_an_archived_day_comes_back_from_cold_storage(day: TierDay, cold: ColdStorage) -> None:
    compress_day(day)
    archive_day(day, cold)
    named = {file.name for file in read_manifest(day.manifest).files.values()}
    for path in [path for path in day.parquet() if path.name in named]:
        content = path.read_bytes()
        flip(path)
        (one,) = repaired(day, cold)
        assert one.how == "from cold storage"
        assert path.read_bytes() == content


@pytest.mark.parametrize("harm", ["flip", "delete"])
def test_an_object_in_cold_storage_is_put_again(
    day: TierDay, cold: ColdStorage, storage: BackupStorage, tmp_path: Path, harm: str
) -> None:
    before = state(day)
    compress_day(day)
    back_up(day.data_dir, storage, "incremental")
    archive_day(day, cold)
    for path in sorted(path for path in (tmp_path / "cold storage").rglob("*") if path.is_file()):
        content = path.read_bytes()
        harms()[harm](path)
        (one,) = repaired(day, cold, storage)
        assert one.path == path
        assert path.read_bytes() == content
        assert path.with_name(path.name + ".damaged").exists() == (harm == "flip")
    assert state(day, cold) == before


def test_a_day_file_that_is_nowhere_any_more_is_rebuilt_and_archived_again(
    day: TierDay, cold: ColdStorage, tmp_path: Path
) -> None:
    before = state(day)
    compress_day(day)
    archive_day(day, cold)
    flip(next((tmp_path / "cold storage").rglob("*.db.zst")))
    (one,) = repaired(day, cold)
    assert "rebuilt from Parquet" in one.how
    assert state(day) == before
    compress_day(day)
    archive_day(day, cold)
    assert state_of(day.data_dir, DAY) == "archived"
    assert state(day, cold) == before
    assert repaired(day, cold) == []


def test_what_cold_storage_may_have_is_not_rebuilt_with_other_bytes(day: TierDay, cold: ColdStorage) -> None:
    compress_day(day)
    archive_day(day, cold)
    late_ticks(day, batch(5, first=2_000))
    amend_day(day, day.late, NOW, cold)
    day.db.unlink()
    done, problems = repair_day(day, None, None, NOW)
    assert done == []
    assert any("set TICKVAULT_COLD_URL" in problem.problem for problem in problems if problem.path == day.db)


@pytest.mark.parametrize("tier", ["sealed", "compressed", "archived"])
@pytest.mark.parametrize("harm", harms())
def test_a_receipt_comes_back(day: TierDay, cold: ColdStorage, tier: str, harm: str) -> None:
    if tier != "sealed":
        compress_day(day)
    if tier == "archived":
        archive_day(day, cold)
    before = read_receipt(day.receipt)
    harms()[harm](day.receipt)
    (one,) = repaired(day, cold)
    assert one.path == day.receipt
    assert read_receipt(day.receipt) == before


def test_a_receipt_is_not_made_for_a_day_file_with_other_rows(day: TierDay) -> None:
    day.receipt.unlink()
    day.db.unlink()
    closed_day(day.data_dir, rows=batch(3))
    done, problems = repair_day(day, None, None, NOW)
    assert done == []
    assert [problem.path for problem in problems] == [day.receipt]
    assert "other rows" in problems[0].problem


def test_what_nothing_is_left_of_is_named_and_left_as_it_is(day: TierDay) -> None:
    files = [day.db, *(path for path in day.parquet() if path.name == "ticks_2024-10-04.g2.parquet")]
    for path in files:
        path.write_bytes(path.read_bytes()[:-9])
    content = [path.read_bytes() for path in files]
    done, problems = repair_day(day, None, None, NOW)
    assert done == []
    assert {problem.path for problem in problems} == set(files)
    assert [path.read_bytes() for path in files] == content


def test_a_closed_day_that_is_not_sealed_has_nothing_to_be_made_from(data: Path) -> None:
    day = closed_day(data)
    content = day.db.read_bytes()
    day.db.write_bytes(content[:4096] + b"\xff" * 4096 + content[8192:])
    done, problems = repair_day(day, None, None, NOW)
    assert done == []
    assert [problem.path for problem in problems] == [day.db]


def test_late_ticks_that_are_sealed_and_not_taken_yet_are_part_of_what_is_rebuilt(data: Path) -> None:
    day = closed_day(data)
    seal_day(day, NOW)
    writer = DayFile(day.late, closed=day.db)
    writer.write(batch(5, first=1_000))
    amend_day(day, day.late, NOW, None)
    assert day.late.exists()
    seen = ticks_of(data)
    assert len(seen) == 110
    flip(next(path for path in day.parquet() if path.name == "ticks_2024-10-04.g2.parquet"))
    repaired(day)
    assert ticks_of(data) == seen
    writer.close()


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])
@given(st.lists(QUOTE, max_size=40), st.lists(QUOTE, max_size=10))
def test_whatever_can_be_written_comes_back_from_parquet(tmp_path: Path, on_time: list, late: list) -> None:
    folder = tmp_path / "any"
    shutil.rmtree(folder, ignore_errors=True)
    day = closed_day(folder, rows=Batch(ticks=[(*one[:3], one[3] * 2, *one[4:]) for one in numbered(on_time, 0)]))
    seal_day(day, NOW)
    if late:
        late_ticks(day, Batch(ticks=[(*one[:3], one[3] * 2 + 1, *one[4:]) for one in numbered(late, 0)]))
        amend_day(day, day.late, NOW, None)
    before = state(day)
    day.db.unlink()
    repaired(day)
    assert state(day) == before


@pytest.mark.parametrize("waiting", ["taken", "imported"])
def test_what_has_still_to_be_made_part_of_the_day_outlives_a_repair(day: TierDay, waiting: str) -> None:
    late_ticks(day, batch(5, first=2_000))
    day.late.rename(getattr(day, waiting))
    before = ticks_of(day.data_dir)
    flip(day.db)
    assert [one.path for one in repaired(day)] == [day.db]
    assert ticks_of(day.data_dir) == before
    amend_day(day, getattr(day, waiting), NOW + 2, None)
    added = [tick for tick in ticks_of(day.data_dir) if tick not in before]
    late = batch(5, first=2_000).ticks
    assert [(*tick[:2], *tick[3:]) for tick in added] == [(*tick[:2], tick[3], *tick[5:7]) for tick in late]
    assert verify_all(day.data_dir, None).problems == []
