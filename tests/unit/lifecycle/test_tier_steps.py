"""A day on its way from .db to cold storage, and back again for what came late."""

import contextlib
import shutil
import sqlite3
from pathlib import Path

import pytest
from msgspec.structs import replace

from libs.common.domain.errors import Rejected, Retryable
from libs.common.store import Batch, DayFile
from libs.common.store.columnar import Damaged, read_manifest
from libs.common.store.tiers import (
    ColdStorage,
    TierDay,
    amend,
    amend_day,
    archive_day,
    compact,
    compress_day,
    extras,
    finish,
    frame,
    keeps_position,
    plain_day,
    read_receipt,
    seal_day,
    state_of,
    sweep,
    tier_days,
    verify_all,
)
from libs.common.store.tiers.database import vacuum
from libs.common.store.tiers.receipt import write_receipt
from tests.unit.lifecycle.days import (
    DAY,
    NOW,
    XAU,
    batch,
    closed_day,
    flip,
    late_ticks,
    rows_of,
    tick,
    ticks_of,
    write,
)


def compressed(day: TierDay) -> TierDay:
    seal_day(day, NOW)
    compress_day(day)
    return day


def archived(day: TierDay, cold: ColdStorage) -> TierDay:
    archive_day(compressed(day), cold)
    return day


def test_a_day_goes_through_its_states_by_its_files_alone(data: Path, cold: ColdStorage) -> None:
    assert state_of(data, DAY) is None
    file = DayFile(closed_day(data, DAY - 1).db.parent.parent / "10" / "ticks_2024-10-04.db")
    file.write(batch())
    assert state_of(data, DAY) == "open"
    file.close_day(1)
    assert state_of(data, DAY) == "closed"
    (_, day) = tier_days(data)
    seal_day(day, NOW)
    assert state_of(data, DAY) == "sealed"
    compress_day(day)
    assert state_of(data, DAY) == "compressed"
    archive_day(day, cold)
    assert state_of(data, DAY) == "archived"
    assert [path.suffix for path in day.files()] == [".json", ".json", *[".parquet"] * 7]


def test_a_day_is_as_far_as_the_least_of_its_partitions(data: Path) -> None:
    compressed(closed_day(data, partition=0))
    closed_day(data, partition=1)
    assert state_of(data, DAY) == "closed"
    assert [day.name for day in tier_days(data)] == ["2024-10-04.p00", "2024-10-04.p01"]


def test_every_field_comes_back_from_every_tier(data: Path, cold: ColdStorage) -> None:
    day = closed_day(data)
    written = rows_of(day.db)
    seal_day(day, NOW)
    seen = ticks_of(data)
    assert len(seen) == 100
    compress_day(day)
    assert rows_of(plain_day(day, None)) == written
    archive_day(day, cold)
    assert ticks_of(data) == seen
    assert rows_of(plain_day(day, cold)) == written


def test_every_step_again_changes_nothing(data: Path, cold: ColdStorage) -> None:
    day = closed_day(data)
    seal_day(day, NOW)
    stamps = {path: path.stat().st_mtime_ns for path in day.files()}
    assert seal_day(day, NOW + 1) is None
    assert {path: path.stat().st_mtime_ns for path in day.files()} == stamps
    shutil.copy(day.db, data / "before.db")
    compress_day(day)
    shutil.copy(data / "before.db", day.db)  # as killed before it was deleted
    zst = day.zst.stat()
    compress_day(day)
    assert day.zst.stat().st_mtime_ns == zst.st_mtime_ns
    shutil.copy(day.zst, data / "before.zst")
    archive_day(day, cold)
    shutil.copy(data / "before.zst", day.zst)
    archive_day(day, cold)
    assert state_of(data, DAY) == "archived"


def test_a_late_file_becomes_a_new_generation_and_the_day_file_gets_its_rows(data: Path) -> None:
    day = closed_day(data)
    seal_day(day, NOW)
    late_ticks(day)
    done = amend_day(day, day.late, NOW, None)
    assert done is not None
    assert done.generation == 2
    assert [(change.symbol, change.before, change.after) for change in done.changed] == [("EUR/USD", 50, 55), (XAU, 50, 55)]
    assert not day.late.exists()
    assert not day.taken.exists()
    assert len(ticks_of(data)) == 110
    rows = rows_of(day.db)
    assert len(rows["ticks"]) == 110
    assert [len(rows[table]) for table in ("trades", "books", "gaps", "quarantine")] == [2, 2, 2, 2]
    assert ("LP1", XAU, 1005, 55, 0, 0) in rows["account"]
    assert verify_all(data, None).problems == []
    assert state_of(data, DAY) == "sealed"


@pytest.mark.parametrize("tier", ["compressed", "archived"])
def test_what_comes_late_for_a_day_in_a_lower_tier_goes_the_same_way_again(data: Path, cold: ColdStorage, tier: str) -> None:
    day = archived(closed_day(data), cold) if tier == "archived" else compressed(closed_day(data))
    late_ticks(day)
    assert extras(day) == [day.late]
    amend_day(day, day.late, NOW, cold)
    assert state_of(data, DAY) == "sealed"
    compress_day(day)
    archive_day(day, cold)
    assert len(ticks_of(data)) == 110
    assert len(rows_of(plain_day(day, cold))["ticks"]) == 110
    names = cold.names(day)
    assert "2024/10/ticks_2024-10-04.g2.db.zst" in names
    assert ("2024/10/ticks_2024-10-04.db.zst" in names) == (tier == "archived"), "written once, never over"
    assert verify_all(data, cold).problems == []


def test_a_day_file_begun_anew_for_a_compressed_day_is_made_part_of_it(data: Path) -> None:
    day = compressed(closed_day(data))
    closed_day(data, rows=batch(7, first=45))  # five that the day has already, and two that are new
    assert extras(day) == [day.db]
    done = amend_day(day, day.db, NOW, None)
    assert done is not None
    assert len(ticks_of(data)) == 104
    assert sum(line[4] for line in rows_of(day.db)["account"]) == 10, "duplicates, five of each symbol"
    assert read_manifest(day.manifest).generation == 2
    assert extras(day) == []
    compress_day(day)
    assert verify_all(data, None).problems == []


def test_a_day_file_that_is_begun_while_the_day_is_rebuilt_is_not_written_over(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    day = compressed(closed_day(data))
    late_ticks(day)
    writer: list[DayFile] = []

    def begin(name: str) -> None:
        if name == "rebuilt_not_replaced" and not writer:
            writer.append(DayFile(day.db))
            writer[0].write(Batch(ticks=[tick(3_000)]))

    monkeypatch.setattr(amend, "point", begin)
    with pytest.raises(Retryable, match="begun meanwhile"):
        amend_day(day, day.late, NOW, None)
    assert day.state() == "open"
    writer[0].close_day(1)
    for extra in extras(day):
        amend_day(day, extra, NOW, None)
    assert len(ticks_of(data)) == len(rows_of(day.db)["ticks"]) == 111
    assert sum(line[4] for line in rows_of(day.db)["account"]) == 0, "no duplicates"
    assert verify_all(data, None).problems == []


def test_a_late_file_that_is_open_is_sealed_and_stays(data: Path) -> None:
    day = closed_day(data)
    seal_day(day, NOW)
    writer = DayFile(day.late, closed=day.db)
    writer.write(batch(5, first=1_000))
    assert amend_day(day, day.late, NOW, None) is not None
    assert len(ticks_of(data)) == 110
    writer.write(Batch(ticks=[tick(2_000)]))
    writer.close()
    amend_day(day, day.late, NOW, None)
    assert not day.late.exists()
    assert len(ticks_of(data)) == len(rows_of(day.db)["ticks"]) == 111


def test_who_waits_for_a_late_file_that_is_taken_cannot_write_to_it(data: Path) -> None:
    """The promise of SQLite that taking relies on."""
    day = closed_day(data)
    late_ticks(day)
    connection = sqlite3.connect(day.late)
    connection.execute("SELECT count(*) FROM ticks").fetchall()
    connection.execute("PRAGMA journal_mode = DELETE")
    day.late.rename(day.taken)
    with pytest.raises(sqlite3.OperationalError, match="readonly"):
        connection.execute("PRAGMA journal_mode = WAL")
    connection.close()


def test_a_late_file_that_adds_nothing_changes_nothing(data: Path) -> None:
    day = closed_day(data)
    seal_day(day, NOW)
    write(day.late, Batch(), closed=day.db)
    before = {path: path.read_bytes() for path in day.parquet()}
    assert amend_day(day, day.late, NOW, None) is None
    assert {path: path.read_bytes() for path in day.parquet()} == before
    assert not day.late.exists()


@pytest.mark.parametrize("extra", ["late", "taken", "imported", "begun anew"])
def test_what_adds_nothing_to_an_archived_day_leaves_its_bytes_and_their_names_in_cold_storage(
    data: Path, cold: ColdStorage, extra: str
) -> None:
    day = archived(closed_day(data), cold)
    before = {path: path.read_bytes() for path in day.files()}
    if extra == "begun anew":
        closed_day(data, rows=Batch(watermarks={"LP1": 1_000}))
    else:
        late_ticks(day, Batch(watermarks={"LP1": 1_000}))
        day.late.replace({"late": day.late, "taken": day.taken, "imported": day.imported}[extra])
    (found,) = extras(day)
    assert amend_day(day, found, NOW, cold) is None
    assert {path: path.read_bytes() for path in day.files()} == before
    late_ticks(day)
    amend_day(day, day.late, NOW, cold)
    compress_day(day)
    archive_day(day, cold)
    assert len(ticks_of(data)) == len(rows_of(plain_day(day, cold))["ticks"]) == 110
    assert verify_all(data, cold).problems == []


def test_ticks_that_an_archived_day_has_already_are_counted_and_archived_beside_it(data: Path, cold: ColdStorage) -> None:
    day = archived(closed_day(data), cold)
    closed_day(data, rows=batch(5))
    amend_day(day, day.db, NOW, cold)
    compress_day(day)
    archive_day(day, cold)
    assert sum(line[4] for line in rows_of(plain_day(day, cold))["account"]) == 10
    assert len(ticks_of(data)) == 100
    assert verify_all(data, cold).problems == []


def test_what_comes_while_a_compressed_day_still_has_its_day_file_is_made_part_of_it(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    day = closed_day(data)
    seal_day(day, NOW)
    shutil.copy(day.db, data / "before.db")
    compress_day(day)
    shutil.move(data / "before.db", day.db)  # as killed before it was deleted
    late_ticks(day)
    amend_day(day, day.late, NOW, None)
    assert len(ticks_of(data)) == len(rows_of(day.db)["ticks"]) == 110
    assert verify_all(data, None).problems == []


def test_a_lost_manifest_is_made_again_from_the_day_file_under_a_new_generation(data: Path, cold: ColdStorage) -> None:
    day = archived(closed_day(data), cold)
    late_ticks(day)
    amend_day(day, day.late, NOW, cold)
    day.manifest.unlink()
    assert seal_day(day, NOW) is not None
    assert read_manifest(day.manifest).generation == 3, "nothing but its own content ever has the name of a generation"
    compress_day(day)
    archive_day(day, cold)
    assert len(ticks_of(data)) == 110
    assert verify_all(data, cold).problems == []


def test_a_lost_receipt_is_made_again_from_the_day_file(data: Path) -> None:
    day = closed_day(data)
    seal_day(day, NOW)
    late_ticks(day)
    amend_day(day, day.late, NOW, None)
    day.receipt.unlink()
    assert seal_day(day, NOW) is not None
    assert read_manifest(day.manifest).generation == 2
    assert verify_all(data, None).problems == []


@pytest.mark.parametrize(
    ("tier", "lost"),
    [
        ("compressed", "manifest"),
        ("compressed", "receipt"),
        ("compressed", "manifest and receipt"),
        ("archived", "manifest"),
        ("archived", "receipt"),  # without both nothing here tells it from a first one
    ],
)
def test_a_day_file_begun_anew_is_never_taken_for_the_day(data: Path, cold: ColdStorage, tier: str, lost: str) -> None:
    day = archived(closed_day(data), cold) if tier == "archived" else compressed(closed_day(data))
    for path in (day.manifest, day.receipt):
        if path.name.split(".")[-2] in lost:
            path.unlink()
    closed_day(data, rows=batch(7, first=45), closed_at=NOW)
    before = {path: path.read_bytes() for path in day.files()}
    with pytest.raises(Rejected, match=r"is gone, and ticks_2024-10-04\.db is not the file"):
        seal_day(day, NOW)
    assert {path: path.read_bytes() for path in day.files()} == before


def test_the_same_key_with_other_content_is_kept_in_quarantine(data: Path) -> None:
    day = compressed(closed_day(data))
    late_ticks(day, Batch(ticks=[tick(1, bid=7)]))
    amend_day(day, day.late, NOW, None)
    rows = rows_of(day.db)
    assert len(rows["ticks"]) == 100
    assert [row[4] for row in rows["quarantine"] if "conflict" in row[4]]
    manifest = read_manifest(day.manifest)
    assert manifest.files["quarantine"].rows == 2


def test_a_day_file_that_alone_knows_how_far_a_session_is_durable_is_told_apart(data: Path) -> None:
    first, second = closed_day(data, DAY), closed_day(data, DAY + 1)
    other = closed_day(data, DAY, partition=3)
    imported = closed_day(data, DAY + 1, partition=3, rows=Batch(ticks=[tick(0, day=DAY + 1)]))
    assert [keeps_position(day) for day in (first, second, other, imported)] == [False, True, False, False]


def test_a_damaged_day_file_is_not_sealed_and_not_compressed(data: Path) -> None:
    day = closed_day(data)
    content = day.db.read_bytes()
    day.db.write_bytes(content[:100] + bytes(200) + content[300:])
    with pytest.raises(Rejected):
        seal_day(day, NOW)
    sealed = closed_day(data, DAY + 1)
    seal_day(sealed, NOW)
    flip(sealed.db, 0.7)
    with pytest.raises(Damaged, match=r"ticks_2024-10-05\.db"):
        compress_day(sealed)
    assert sealed.db.exists()
    assert not sealed.zst.exists()


def shuffled(data: Path) -> TierDay:
    """A day whose pages are half full."""
    rows = batch(300)
    rows.ticks.sort(key=lambda row: -row[3])
    return closed_day(data, rows=rows)


def test_a_day_file_is_compacted_before_it_is_compressed_and_only_once(data: Path) -> None:
    day = shuffled(data)
    seal_day(day, NOW)
    written, size = rows_of(day.db), day.db.stat().st_size
    compress_day(day)
    plain = plain_day(day, None)
    assert plain.stat().st_size < 0.95 * size
    assert rows_of(plain) == written
    assert read_manifest(day.manifest).generation == 1
    packed = day.zst.read_bytes()
    shutil.move(plain, day.db)  # as restored
    receipt = read_receipt(day.receipt)
    assert receipt is not None
    write_receipt(day.receipt, replace(receipt, zst=None))
    compress_day(day)
    assert day.zst.read_bytes() == packed, "what cold storage has under the name of this generation"


def test_a_day_file_that_is_not_compacted_right_stays(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    day = shuffled(data)
    seal_day(day, NOW)
    before = day.db.read_bytes()

    def wrong(path: Path, target: Path) -> None:
        vacuum(path, target)
        connection = sqlite3.connect(target)
        connection.execute("UPDATE ticks SET bid = bid + 1 WHERE seq = 7")
        connection.commit()
        connection.close()

    monkeypatch.setattr(compact, "vacuum", wrong)
    with pytest.raises(Damaged, match="does not hold the rows of the day"):
        compress_day(day)
    assert day.db.read_bytes() == before
    assert len(ticks_of(data)) == 600
    assert read_manifest(day.manifest).generation == 1


def test_a_day_file_stays_where_the_compressed_one_beside_it_is_damaged(data: Path) -> None:
    day = closed_day(data)
    seal_day(day, NOW)
    shutil.copy(day.db, data / "before.db")
    compress_day(day)
    shutil.move(data / "before.db", day.db)  # as killed before it was deleted
    flip(day.zst)
    with pytest.raises(Damaged, match=r"db\.zst"):
        compress_day(day)
    assert day.db.exists()


def test_a_frame_whose_bit_flipped_or_whose_tail_is_cut_is_damaged(data: Path) -> None:
    day = compressed(closed_day(data))
    whole = day.zst.read_bytes()
    for content in (whole[:-1], whole[:-5], whole + b"x", whole + whole, b"", whole[: len(whole) // 2]):
        day.zst.write_bytes(content)
        with pytest.raises(Damaged):
            frame.check(day.zst)
    day.zst.write_bytes(whole)
    plain = frame.check(day.zst)
    for at in range(0, len(whole), 97):
        flipped = bytearray(whole)
        flipped[at] ^= 1
        day.zst.write_bytes(flipped)
        with contextlib.suppress(Damaged):
            assert frame.check(day.zst) == plain, "a bit of the header that means nothing"


def test_a_compressed_day_that_is_damaged_is_not_archived(data: Path, cold: ColdStorage) -> None:
    day = compressed(closed_day(data))
    flip(day.zst)
    with pytest.raises(Damaged):
        archive_day(day, cold)
    assert cold.names(day) == []
    assert day.zst.exists()


def test_a_name_in_cold_storage_is_written_once(data: Path, cold: ColdStorage, tmp_path: Path) -> None:
    day = compressed(closed_day(data))
    taken = tmp_path / "cold storage" / "2024" / "10" / "ticks_2024-10-04.db.zst"
    taken.parent.mkdir(parents=True)
    taken.write_bytes(b"other content")
    with pytest.raises(Rejected, match="other content"):
        archive_day(day, cold)
    assert taken.read_bytes() == b"other content"
    assert day.zst.exists()


def test_an_archived_day_without_its_cold_storage_says_what_is_missing(data: Path, cold: ColdStorage) -> None:
    day = archived(closed_day(data), cold)
    late_ticks(day)
    with pytest.raises(Rejected, match="TICKVAULT_COLD_URL"):
        amend_day(day, day.late, NOW, None)
    assert day.late.exists()


@pytest.mark.parametrize("url", ["/srv/archive", "http://example.org/x", "s3:///prefix", "file://host/x", ""])
def test_a_url_that_is_no_cold_storage_is_refused(url: str) -> None:
    with pytest.raises(Rejected, match=r"write file:///folder or s3://bucket/prefix"):
        ColdStorage(url)


def test_a_file_that_somebody_still_writes_is_waited_for(data: Path) -> None:
    day = closed_day(data)
    day.db.with_name(day.db.name + "-journal").write_bytes(b"hot")
    with pytest.raises(Retryable):
        seal_day(day, NOW)
    assert day.state() == "closed" or day.state() == "open"


def test_earlier_generations_linger_and_go(data: Path) -> None:
    day = closed_day(data)
    seal_day(day, NOW)
    late_ticks(day)
    amend_day(day, day.late, NOW, None)
    swapped = day.manifest.stat().st_mtime_ns
    assert sweep(data, swapped + 10**9, 3_600) == []
    gone = sweep(data, swapped + 3_601 * 10**9, 3_600)
    assert sorted(path.name for path in gone) == sorted(path.name for path in gone if ".g" not in path.name)
    assert {path.name for path in day.parquet()} == {file.name for file in read_manifest(day.manifest).files.values()}
    assert len(ticks_of(data)) == 110


def test_nothing_to_finish_changes_nothing(data: Path) -> None:
    day = closed_day(data)
    finish(day, NOW)
    seal_day(day, NOW)
    before = {path: path.stat().st_mtime_ns for path in day.files()}
    finish(day, NOW)
    assert {path: path.stat().st_mtime_ns for path in day.files()} == before
