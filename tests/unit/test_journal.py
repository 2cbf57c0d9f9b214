"""The journal: what was written before a crash is there after it, and positions are never used twice."""

import os
import shutil
import subprocess
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from libs.common.domain.errors import Retryable
from services.gateway.journal import Direction, Journal, Record


def journal(folder: Path, **options: int) -> Journal:
    opened = Journal(folder, **options)
    opened.recover()
    opened.begin_segment(b"state", leap=True)
    return opened


def read_all(opened: Journal, position: int = 0) -> list[Record]:
    found = []
    for record in opened.read(position):
        if record is None:
            return found
        found.append(record)
    return found


def data_of(records: list[Record]) -> list[bytes]:
    return [record.data for record in records if record.direction is not Direction.SNAPSHOT]


def test_records_are_read_back_with_their_positions(tmp_path: Path) -> None:
    opened = journal(tmp_path)
    ends = [opened.append(number, Direction.IN, b"x" * number) for number in range(5)]
    records = read_all(opened)[1:]
    assert [record.end for record in records] == ends
    assert [(record.recv_ts, record.data) for record in records] == [(number, b"x" * number) for number in range(5)]
    assert ends[-1] == opened.end


def test_a_reader_goes_on_where_it_was_when_more_is_written_even_across_segments(tmp_path: Path) -> None:
    opened = journal(tmp_path)
    opened.append(1, Direction.IN, b"a")
    reader = opened.read(0)
    seen = [next(reader), next(reader), next(reader)]
    assert seen[2] is None
    opened.append(2, Direction.IN, b"b")
    opened.begin_segment(b"state 2")
    opened.append(3, Direction.IN, b"c")
    assert [record.data for record in (next(reader), next(reader), next(reader)) if record] == [b"b", b"state 2", b"c"]
    assert next(reader) is None


def test_reading_from_a_position_begins_with_the_snapshot_of_its_segment(tmp_path: Path) -> None:
    opened = journal(tmp_path)
    opened.append(1, Direction.IN, b"a")
    opened.begin_segment(b"second")
    middle = opened.append(2, Direction.IN, b"b")
    opened.append(3, Direction.IN, b"c")
    assert [record.data for record in read_all(opened, middle)] == [b"second", b"b", b"c"]


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.binary(max_size=50), min_size=1, max_size=10), st.data())
def test_whatever_happens_to_the_tail_the_records_before_it_stand(
    tmp_path: Path, pieces: list[bytes], data: st.DataObject
) -> None:
    shutil.rmtree(tmp_path)
    opened = journal(tmp_path)
    start = opened.end
    ends = [opened.append(1, Direction.IN, piece) - start for piece in pieces]
    opened.close()
    (path,) = tmp_path.glob("*.journal")
    content = bytearray(path.read_bytes())
    head = len(content) - ends[-1]
    at = data.draw(st.integers(head, len(content) - 1), "damage at")
    if data.draw(st.booleans(), "cut"):
        del content[at:]
    else:
        content[at] ^= 0xFF
    path.write_bytes(content)
    again = Journal(tmp_path)
    again.recover()
    sound = [piece for piece, end in zip(pieces, ends, strict=True) if end <= at - head]
    assert data_of(read_all(again)) == sound
    damaged = list(tmp_path.glob("*.damaged"))
    assert bool(damaged) == (again.damaged_bytes > 0)
    assert sum(file.stat().st_size for file in damaged) == again.damaged_bytes


def test_a_start_leaves_behind_every_position_that_may_have_been_lost(tmp_path: Path) -> None:
    opened = journal(tmp_path)
    opened.append(1, Direction.IN, b"written, then lost with the page cache")
    lost = opened.end
    opened.close()
    (path,) = tmp_path.glob("*.journal")
    os.truncate(path, 60)
    again = journal(tmp_path)
    assert again.end > lost
    assert data_of(read_all(again)) == []


def test_a_journal_folder_that_was_lost_does_not_use_old_positions_again(tmp_path: Path) -> None:
    opened = journal(tmp_path)
    lost = opened.append(1, Direction.IN, b"a")
    opened.close()
    shutil.rmtree(tmp_path)
    assert journal(tmp_path).end > lost


def test_a_segment_without_its_snapshot_is_as_if_it_never_was(tmp_path: Path) -> None:
    opened = journal(tmp_path)
    opened.append(1, Direction.IN, b"a")
    opened.close()
    (tmp_path / f"{opened.end:020d}.journal").write_bytes(b"TVJ1")
    again = Journal(tmp_path)
    again.recover()
    assert data_of(read_all(again)) == [b"a"]


def test_old_durable_segments_are_compressed_then_deleted_and_undurable_ones_kept(tmp_path: Path) -> None:
    opened = journal(tmp_path)
    opened.append(1, Direction.IN, b"a")
    opened.begin_segment(b"second")
    second = opened.end
    opened.append(2, Direction.IN, b"b")
    opened.begin_segment(b"third")
    opened.append(3, Direction.IN, b"c")
    opened.sync()
    for path in tmp_path.glob("*.journal"):
        os.utime(path, (time.time() - 1000, time.time() - 1000))
    opened.tidy(durable=second, keep_s=5000, compress_after_s=500)
    assert [path.suffix for path in sorted(tmp_path.iterdir())] == [".zst", ".journal", ".journal"]
    assert data_of(read_all(opened)) == [b"a", b"b", b"c"]
    opened.tidy(durable=second, keep_s=0, compress_after_s=500)
    assert data_of(read_all(opened, second)) == [b"b", b"c"]


def test_a_full_disk_leaves_the_segment_as_it_was_and_writing_goes_on_when_there_is_room(tmp_path: Path) -> None:
    mount = tmp_path / "small"
    mount.mkdir()
    if (
        shutil.which("mount") is None
        or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", mount], check=False).returncode
    ):
        pytest.skip("needs root and mount(8) for a small tmpfs")
    try:
        opened = journal(mount / "LP1")
        opened.append(1, Direction.IN, b"before")
        with pytest.raises(Retryable, match="No space"):
            opened.append(2, Direction.IN, bytes(2_000_000))
        opened.append(3, Direction.IN, b"after")
        assert data_of(read_all(opened)) == [b"before", b"after"]
        opened.close()
    finally:
        subprocess.run(["umount", mount], check=True)


def test_a_damaged_record_ends_its_segment_and_the_next_one_is_read(tmp_path: Path) -> None:
    opened = journal(tmp_path)
    opened.append(1, Direction.IN, b"a")
    opened.append(2, Direction.IN, b"damaged")
    opened.append(3, Direction.IN, b"behind it")
    opened.begin_segment(b"second")
    opened.append(4, Direction.IN, b"b")
    first = min(tmp_path.glob("*.journal"))
    first.write_bytes(first.read_bytes().replace(b"damaged", b"dAmaged"))
    assert data_of(read_all(opened)) == [b"a", b"b"]
