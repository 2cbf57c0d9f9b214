"""What a store held at a time, kept in a folder of its own while it is sent.

how far each partition is durable ─▶ copy of its busiest file, whose watermark counts ─▶ copies of its other open files, listed
again ─▶ links to the closed ones ─▶ journals from the watermark on

Lifecycle waits meanwhile, so no day is seen between two of its tiers; capture never does.
"""

import contextlib
import json
import os
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from pathlib import Path

from libs.common.domain.errors import Rejected, Retryable
from libs.common.platform import try_lock
from libs.common.store.columnar import read_manifest
from libs.common.store.layout import Layout, journal_dir
from libs.common.store.tiers import Sum, TierDay, alone, read_receipt, require_space, tier_days
from libs.common.store.tiers.database import opened
from libs.common.store.tiers.disk import disk_may_refuse
from libs.common.telemetry.chaos import point

_JOURNAL_TRIES = 5

Watermark = dict[str, dict[str, int]]  # partition's infix → session → position


@dataclass(slots=True)
class Snapshot:
    """Names are paths below the data folder, with slashes. `known`: sums that receipts and manifests give.

    `unsealed`: SQLite files that no manifest speaks for. `problems`: what could not be copied, or is damaged.
    """

    folder: Path
    files: list[str] = field(default_factory=list)
    known: dict[str, Sum] = field(default_factory=dict)
    unsealed: list[str] = field(default_factory=list)
    watermark: Watermark = field(default_factory=dict)
    problems: dict[str, str] = field(default_factory=dict)

    def path(self, name: str) -> Path:
        return self.folder / name


@contextlib.contextmanager
def snapshot(data_dir: Path, reserve_bytes: int, stopping: Callable[[], bool]) -> Iterator[Snapshot]:
    """Retryable: another process makes a backup, `stopping` while lifecycle is at work, or a file is locked or moved.

    DiskReserve: with the copies less than `reserve_bytes` would be free.
    """
    folder = Layout(data_dir).snapshot()
    with only_one(data_dir):
        shutil.rmtree(folder, ignore_errors=True)
        try:
            with disk_may_refuse(folder), alone(data_dir, give_up=stopping):
                taken = _take(data_dir, folder, reserve_bytes)
            point("snapshot_taken")
            yield taken
        finally:
            shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def only_one(data_dir: Path) -> Iterator[None]:
    """Retryable where another process makes a backup of this data folder."""
    path = Layout(data_dir).snapshot_lock()
    with disk_may_refuse(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o640)
    try:
        if not try_lock(descriptor):
            raise Retryable("another process is making a backup of this data folder")
        yield
    finally:
        os.close(descriptor)


def _take(data_dir: Path, folder: Path, reserve_bytes: int) -> Snapshot:
    days = tier_days(data_dir)
    live = _live(days)
    require_space(data_dir, sum(path.stat().st_size for _, path in live), reserve_bytes)
    taken = Snapshot(folder, watermark=_durable(days))
    copied = set()
    for infix, path in dict(reversed(live)).items():  # the busiest of each partition
        copied.add(path)
        _copy_to(data_dir, path, taken, partial(_raise_to, taken.watermark.setdefault(infix, {})))
    days = tier_days(data_dir)  # again: the watermarks of these may cover what is in files that were begun meanwhile
    closed = {path: found for day in days for path, found in _closed(day).items()}  # before what is begun from here on
    for infix, path in (*live, *_live(days)):
        if path not in copied:
            copied.add(path)
            _copy_to(data_dir, path, taken, partial(_set_down, taken.watermark.get(infix, {})))
    for path in sorted(closed.keys() - copied):
        _link(data_dir, path, closed[path], taken)
    partitions = Layout(data_dir).partitions_file()
    if partitions.exists():
        _link(data_dir, partitions, None, taken)
    newest = [taken.watermark.get(day.infix, {}) for day in days if day.day == days[-1].day]
    for journal in sorted(journal_dir(data_dir).glob("*/")):
        durable = min((positions.get(journal.name, 0) for positions in newest), default=0)
        _take_journal(data_dir, journal, durable, taken)
    return taken


def _live(days: list[TierDay]) -> list[tuple[str, Path]]:
    """(partition's infix, path) of files that their writer may have open, the busiest first."""
    found = []
    for day in reversed(days):
        with contextlib.suppress(Rejected):  # a damaged one is kept as it is
            if day.state() == "open":
                found.append((day.infix, day.db))
        if day.late.exists():
            found.append((day.infix, day.late))
    return found


def _durable(days: list[TierDay]) -> Watermark:
    """The highest of each session, in all files of a partition: what is below it is in them already."""
    durable: Watermark = {}
    for day in days:
        for path in (day.db, day.late, day.taken):
            if path.exists():
                with contextlib.suppress(Rejected):
                    _raise_to(durable.setdefault(day.infix, {}), path)
    return durable


def _raise_to(positions: dict[str, int], path: Path) -> None:
    """To what the file says."""
    for session, position in _positions(path):
        positions[session] = max(position, positions.get(session, 0))


def _positions(path: Path) -> list[tuple[str, int]]:
    with opened(path) as connection:
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        return connection.execute("SELECT session, position FROM watermark").fetchall() if version else []


def _copy_to(data_dir: Path, path: Path, taken: Snapshot, settle: Callable[[Path], None]) -> None:
    """`settle`: what its watermark is to say. A problem where the file is damaged."""
    name = _name(data_dir, path)
    target = _target(taken, name)
    try:
        _copy(path, target)
        settle(target)
    except Rejected as error:
        taken.problems[name] = str(error)
        return
    taken.files.append(name)
    taken.unsealed.append(name)


def _copy(path: Path, target: Path) -> None:
    """In one read transaction, however much is written meanwhile."""
    with opened(path) as source, contextlib.closing(sqlite3.connect(target, isolation_level=None)) as copy:
        source.backup(copy)
        copy.execute("PRAGMA synchronous = OFF")  # it is read back before it counts
        copy.execute("PRAGMA journal_mode = DELETE")


def _set_down(durable: dict[str, int], path: Path) -> None:
    """The watermark of a copy, to what was durable before the first: what came between may be missing in that."""
    with opened(path, "rw") as copy:
        if copy.execute("PRAGMA user_version").fetchone()[0]:
            copy.execute("DELETE FROM watermark WHERE session NOT IN (SELECT key FROM json_each(?))", (json.dumps(durable),))
            copy.executemany("UPDATE watermark SET position = min(position, ?2) WHERE session = ?1", list(durable.items()))


def _closed(day: TierDay) -> dict[Path, Sum | None]:
    """Files of the day that never change in place, with their sums where receipt or manifest say; also those that are missing."""
    found: dict[Path, Sum | None] = {path: None for path in day.files() if path.suffix != ".parquet" and path != day.late}
    try:
        manifest = read_manifest(day.manifest)
        found |= {day.manifest.with_name(file.name): Sum(file.bytes, file.sha256) for file in manifest.files.values()}
    except (Rejected, FileNotFoundError):
        found |= dict.fromkeys(day.parquet())
    with contextlib.suppress(Rejected):
        receipt = read_receipt(day.receipt)
        if receipt is None or receipt.deleting or receipt.next_db is not None:
            pass  # the files are all there is to go by
        elif receipt.zst is None:
            found[day.db] = receipt.db
        elif day.zst.exists() or receipt.zst not in receipt.cold.values():
            found[day.zst] = receipt.zst
    return found


def _link(data_dir: Path, path: Path, found: Sum | None, taken: Snapshot) -> None:
    name = _name(data_dir, path)
    target = _target(taken, name)
    try:
        target.hardlink_to(path)
    except FileNotFoundError as error:
        if found is None:
            raise Retryable(f"{path} was moved while a backup began") from error
    except OSError:  # a file system without them
        shutil.copyfile(path, target)
    taken.files.append(name)
    if found is not None:
        taken.known[name] = found
    elif path.suffix in {".db", ".taken"}:
        taken.unsealed.append(name)


def _take_journal(data_dir: Path, folder: Path, durable: int, taken: Snapshot) -> None:
    """The segments with positions that are not durable, and always the newest, which the gateway goes on from."""
    for _ in range(_JOURNAL_TRIES):
        segments = {int(path.name.partition(".")[0]): path for path in sorted(folder.glob("*.journal*"), reverse=True)}
        bases = sorted(segments)
        needed = [base for base, following in pairwise(bases) if following > durable] + bases[-1:]
        try:
            names = [_name(data_dir, segments[base]) for base in needed]
            for base, name in zip(needed, names, strict=True):
                shutil.copyfile(segments[base], _target(taken, name))
        except FileNotFoundError:
            continue  # the gateway has compressed it: list them again
        taken.files += names
        return
    raise Retryable(f"{folder} changes faster than it can be copied")


def _name(data_dir: Path, path: Path) -> str:
    return path.relative_to(data_dir).as_posix()


def _target(taken: Snapshot, name: str) -> Path:
    target = taken.path(name)
    target.parent.mkdir(parents=True, exist_ok=True)
    return target
