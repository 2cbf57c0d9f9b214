"""The number of partitions a store is written in: changed only where nothing can be lost or stored twice by it."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from libs.common.domain.errors import Rejected
from libs.common.domain.moment import NS_PER_DAY
from libs.common.store import Batch, DayFile, Layout
from libs.common.store.day import is_closed
from libs.common.store.partitions import settle

DAY = 20_000
NOW = DAY * NS_PER_DAY


def write(folder: Path, partition: int, partitions: int, position: int, *, day: int = DAY, session: str = "LP1") -> Path:
    path = Layout(folder, partition, partitions).day(day)
    file = DayFile(path)
    file.write(Batch(watermarks={session: position}))
    file.close()
    return path


def test_a_new_store_begins_at_the_beginning_in_any_number(tmp_path: Path) -> None:
    assert settle(tmp_path, 4, NOW) == {}
    assert settle(tmp_path, 4, NOW) == {}


def test_a_partition_that_has_written_nothing_yet_does_not_begin_where_others_are(tmp_path: Path) -> None:
    settle(tmp_path, 4, NOW)
    write(tmp_path, 0, 4, 100)
    assert settle(tmp_path, 4, NOW) == {}


@pytest.mark.parametrize(("before", "after"), [(1, 4), (4, 1), (2, 3), (3, 2)])
def test_drained_partitions_hand_their_position_on_whoever_comes_first(tmp_path: Path, before: int, after: int) -> None:
    settle(tmp_path, before, NOW)
    for partition in range(before):
        write(tmp_path, partition, before, 50 + partition, day=DAY - 1)
        write(tmp_path, partition, before, 100)
    assert settle(tmp_path, after, NOW) == {"LP1": 100}
    write(tmp_path, 0, after, 200)
    assert settle(tmp_path, after, NOW) == {"LP1": 100}


def test_a_store_of_a_version_that_settled_nothing_tells_its_number_by_its_files(tmp_path: Path) -> None:
    write(tmp_path, 0, 1, 50, day=DAY - 1)
    for partition in range(3):
        write(tmp_path, partition, 3, 100)
    assert settle(tmp_path, 2, NOW) == {"LP1": 100}


def test_partitions_that_are_not_level_are_refused_with_what_to_do_and_can_go_on(tmp_path: Path) -> None:
    settle(tmp_path, 3, NOW)
    for partition, position in enumerate((100, 90, 100)):
        path = write(tmp_path, partition, 3, position)
    with pytest.raises(Rejected, match=r"3 partitions, and in session LP1 number 1 is behind: .*TICKVAULT_PARTITIONS=3"):
        settle(tmp_path, 1, NOW)
    assert not is_closed(path)
    assert settle(tmp_path, 3, NOW) == {}
    write(tmp_path, 1, 3, 100)
    assert settle(tmp_path, 1, NOW) == {"LP1": 100}


def test_a_session_that_one_partition_never_heard_of_is_not_level(tmp_path: Path) -> None:
    settle(tmp_path, 2, NOW)
    write(tmp_path, 1, 2, 100, session="LP2")
    with pytest.raises(Rejected, match="in session LP2 number 0 is behind"):
        settle(tmp_path, 1, NOW)


def test_files_that_nobody_goes_on_writing_are_closed(tmp_path: Path) -> None:
    settle(tmp_path, 3, NOW)
    paths = [write(tmp_path, partition, 3, 100) for partition in range(3)]
    settle(tmp_path, 2, NOW)
    assert [is_closed(path) for path in paths] == [False, False, True]


def test_there_and_back_again_no_session_goes_back(tmp_path: Path) -> None:
    settle(tmp_path, 2, NOW)
    for partition in range(2):
        write(tmp_path, partition, 2, 100)
    settle(tmp_path, 1, NOW)
    write(tmp_path, 0, 1, 200)
    assert settle(tmp_path, 2, NOW) == {"LP1": 200}
    assert settle(tmp_path, 1, NOW) == {"LP1": 200}


def test_writers_that_start_together_agree(tmp_path: Path) -> None:
    settle(tmp_path, 1, NOW)
    write(tmp_path, 0, 1, 100)

    def begin(partition: int) -> dict[str, int]:
        found = settle(tmp_path, 4, NOW)
        write(tmp_path, partition, 4, 150 + partition)
        return found

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(begin, range(4))) == [{"LP1": 100}] * 4


def test_a_damaged_record_is_refused(tmp_path: Path) -> None:
    settle(tmp_path, 1, NOW)
    Layout(tmp_path).partitions_file().write_bytes(b"{")
    with pytest.raises(Rejected, match="damaged"):
        settle(tmp_path, 1, NOW)
