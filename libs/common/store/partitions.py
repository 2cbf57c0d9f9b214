"""How many partitions the store is written in: settled once in `ticks/db/partitions`, and changed only when all are level.

    same number      ─▶ go on
    another number   ─▶ all old partitions durable up to the same positions? ─▶ close the files only they write ─▶ settle

A new partition has files of other symbols, or none: without the positions settled here its sessions would begin at 0, and
the gateway would publish again what the old partitions have stored. Where the old ones are not level, no one position is right.
"""

import contextlib
import os
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import msgspec

from libs.common.domain.errors import Rejected, Retryable
from libs.common.platform import sync_folder, try_lock
from libs.common.store.day import DayFile, durable_positions, is_closed
from libs.common.store.layout import Layout

LOCK_RETRY_S = 0.05


class _Settled(msgspec.Struct):
    partitions: int
    begin: dict[str, int]  # session → the position that was durable in all partitions when the number was changed


def settle(data_dir: Path, partitions: int, now: int) -> dict[str, int]:
    """Session → where every partition goes on from, if its own files do not say more.

    Rejected: the store was written in another number of partitions and they are not level. Retryable: the disk refuses, or a
    reader holds a file that is to be closed.
    """
    path = Layout(data_dir).partitions_file()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _alone(path.parent):
            settled = _read(path)
            if settled is None or settled.partitions != partitions:
                before = settled or _Settled(_partitions_of_files(data_dir) or partitions, {})
                settled = _Settled(partitions, before.begin if before.partitions == partitions else _level(data_dir, before))
                _close_others(data_dir, partitions, now)
                _write(path, settled)
            return settled.begin
    except OSError as error:
        raise Retryable(f"{path}: {error}") from error


def settled_partitions(data_dir: Path) -> int | None:
    """The number the store is written in; None where nothing has been written yet."""
    settled = _read(Layout(data_dir).partitions_file())
    return settled.partitions if settled is not None else _partitions_of_files(data_dir) or None


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """The first partition's writer settles the number, the others wait for it."""
    descriptor = os.open(folder / "partitions.lock", os.O_RDWR | os.O_CREAT, 0o640)
    try:
        while not try_lock(descriptor):
            time.sleep(LOCK_RETRY_S)
        yield
    finally:
        os.close(descriptor)


def _read(path: Path) -> _Settled | None:
    try:
        return msgspec.json.decode(path.read_bytes(), type=_Settled)
    except FileNotFoundError:
        return None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Rejected(f"{path} is damaged ({error}): restore it") from error


def _write(path: Path, settled: _Settled) -> None:
    partial = path.with_name(path.name + ".partial")
    with partial.open("wb") as file:
        file.write(msgspec.json.encode(settled))
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)
    sync_folder(path.parent)


def _partitions_of_files(data_dir: Path) -> int:
    """As a version wrote them that settled nothing: by the names of the newest day; 0 without any."""
    files = Layout(data_dir).day_files()
    newest = [Layout.partition_of_file(path) for day, path in files if day == files[-1][0]]
    return max((1 if partition is None else partition + 1 for partition in newest), default=0)


def _level(data_dir: Path, before: _Settled) -> dict[str, int]:
    """Session → the position that all partitions have reached; Rejected where one of them is behind."""
    reached: defaultdict[str, list[int]] = defaultdict(lambda: [0] * before.partitions)
    for session, position in before.begin.items():
        reached[session] = [position] * before.partitions
    for partition in range(before.partitions):
        for session, position in durable_positions(Layout(data_dir, partition, before.partitions).own_files()).items():
            reached[session][partition] = max(position, reached[session][partition])
    for session, positions in sorted(reached.items()):
        if len(set(positions)) > 1:
            behind = positions.index(min(positions))
            raise Rejected(
                f"the store was written in {before.partitions} partitions, and in session {session} number {behind} is behind: "
                f"start everything with TICKVAULT_PARTITIONS={before.partitions}, stop the gateway, wait until lag.entries "
                "in /api/pipeline/stats is 0, and change the number then"
            )
    return {session: positions[0] for session, positions in reached.items()}


def _close_others(data_dir: Path, partitions: int, now: int) -> None:
    """Days that no partition goes on writing would stay open for ever."""
    own = {path for partition in range(partitions) for path in Layout(data_dir, partition, partitions).own_files()}
    for _, path in Layout(data_dir).day_files():
        if path not in own and not Layout.is_late(path) and not is_closed(path):
            DayFile(path).close_day(now)
