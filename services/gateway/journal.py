"""A session's journal: append-only segments of what went over the wire, written before anything is decoded.

    data/journal/SESSION/<position>.journal        the segment that begins at that position
                         <position>.journal.zst    an older one, wholly durable downstream
                         <position>.damaged        a tail that could not be read, kept for people

    segment   magic, then records; the first is a snapshot of the session, so recovery replays one segment
    record    recv_ts ns i64 │ direction u8 │ length u32 │ crc32 of all before and of the bytes u32 │ bytes

A position is a place in this sequence of bytes. Every start begins a new segment at the wall clock in ns, if that is beyond the
end: a journal grows by less than 1 GB/s, so no position is used twice, not even one a power loss took from the tail.
"""

import contextlib
import os
import struct
import time
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum
from itertools import pairwise
from pathlib import Path

from libs.common.domain.errors import Rejected, Retryable
from libs.common.platform import sync_data, sync_folder
from libs.common.store.compression import compress_file, read_compressed
from libs.common.telemetry import logger

MAGIC = b"TVJ1\n"
SEGMENT_BYTES = 32 * 1024 * 1024
RECORD_BYTES_MAX = 128 * 1024  # of received bytes: its ticks fit one stream entry (a tick takes at least 27 bytes)
_HEAD = struct.Struct("<qBI")
_CRC = struct.Struct("<I")
_RECORD_HEAD_BYTES = _HEAD.size + _CRC.size


class Direction(IntEnum):
    SNAPSHOT = 0  # the session's state before the next record; bytes of Session.snapshot
    IN = 1
    OUT = 2  # secrets masked
    OPENED = 3  # the transport connected
    CLOSED = 4
    CLOCK = 5  # nothing came, and that matters; bytes: what the feed's fold makes of it


@dataclass(frozen=True, slots=True)
class Record:
    end: int  # the position behind it
    recv_ts: int
    direction: Direction
    data: bytes


class Journal:
    """The writing end. `recover` first, then `begin_segment`, then `append`."""

    def __init__(self, folder: Path, segment_bytes: int = SEGMENT_BYTES) -> None:
        self.folder = folder
        self.end = 0
        self.segment_bytes = segment_bytes
        self.damaged_bytes = 0
        self._descriptor: int | None = None
        self._retired: list[int] = []  # of finished segments, to be synced and closed
        self._base = 0
        self._written = 0
        self._unsynced = False
        folder.mkdir(parents=True, exist_ok=True)

    def recover(self) -> None:
        """Find the end. A tail that does not check is moved aside: a crash leaves half a record, a power loss more."""
        segments = _segments(self.folder)
        while segments:
            path = segments[-1]
            base = _base(path)
            if path.suffix == ".zst":
                self.end = base + len(read_compressed(path))
                return
            data = path.read_bytes()
            sound = _sound_bytes(data)
            if sound < len(data):
                self.damaged_bytes += len(data) - sound
                path.with_name(f"{base + sound:020d}.damaged").write_bytes(data[sound:])
                os.truncate(path, sound)
            self.end = base + sound
            if any(record.direction is Direction.SNAPSHOT for record in _records(data[:sound], base)):
                return
            path.unlink()  # the crash came between creating the segment and its snapshot: nothing is in it
            segments.pop()

    def begin_segment(self, snapshot: bytes, *, leap: bool = False) -> None:
        """Go on in a new segment. `leap`: the process has just started, so leave behind positions that may have been lost."""
        base = max(self.end, time.time_ns()) if leap else self.end
        path = self.folder / f"{base:020d}.journal"
        with _disk(path):
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o640)
            try:
                _write_all(descriptor, MAGIC + _encode(time.time_ns(), Direction.SNAPSHOT, snapshot), 0)
                os.fsync(descriptor)
                sync_folder(self.folder)
            except OSError:
                os.close(descriptor)
                path.unlink(missing_ok=True)
                raise
        if self._descriptor is not None:
            self._retired.append(self._descriptor)
        self._descriptor = descriptor
        self._base = base
        self._written = os.fstat(descriptor).st_size
        self.end = base + self._written

    @property
    def segment_is_full(self) -> bool:
        return self._written >= self.segment_bytes

    def append(self, recv_ts: int, direction: Direction, data: bytes) -> int:
        """Write one record; the position behind it. Retryable: the disk refuses, and the segment is as it was."""
        assert self._descriptor is not None, "begin_segment comes first"
        with _disk(self.folder):
            written = _write_all(self._descriptor, _encode(recv_ts, direction, data), self._written)
        self._written += written
        self.end += written
        self._unsynced = True
        return self.end

    def sync(self) -> None:
        """Make what was appended survive a power loss. May run in a thread, one at a time."""
        with _disk(self.folder):
            while self._retired:
                sync_data(self._retired[0])
                os.close(self._retired.pop(0))
            if self._unsynced and self._descriptor is not None:
                self._unsynced = False
                try:
                    sync_data(self._descriptor)
                except OSError:
                    self._unsynced = True
                    raise

    def close(self) -> None:
        self.sync()
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def read(self, position: int) -> Iterator[Record | None]:
        """Records from the snapshot at or before `position` on; None whenever the end is reached, then on from there.

        A caller that wants only what is behind `position` skips by `Record.end`, but replays the rest to get the state.
        """
        segments = _segments(self.folder)
        base = max((base for path in segments if (base := _base(path)) <= position), default=min(map(_base, segments), default=0))
        while True:
            path = next(path for path in _segments(self.folder) if _base(path) == base)
            complete = False
            for record in _read_segment(path):
                if record is not None:
                    yield record
                elif complete:
                    break
                elif following := [after for path in _segments(self.folder) if (after := _base(path)) > base]:
                    complete = True  # nothing is added to a segment that has a successor: read the last of it, then go on
                else:
                    yield None
            base = min(following)

    def tidy(self, durable: int, keep_s: float, compress_after_s: float) -> None:
        """Compress, and later delete, segments that are wholly durable downstream. May run in a thread."""
        segments = _segments(self.folder)
        now = time.time()
        for path, following in pairwise(segments):
            if _base(following) > durable:
                break
            age_s = now - path.stat().st_mtime
            if age_s > keep_s:
                path.unlink()
            elif path.suffix == ".journal" and age_s > compress_after_s:
                compress_file(path, path.with_name(path.name + ".zst"))
                path.unlink()


def segments_of(path: Path) -> list[Path]:
    """A segment by itself, or all segments of a session's folder, oldest first. Rejected where there is none."""
    found = _segments(path) if path.is_dir() else [path]
    if not found or not all(segment.is_file() for segment in found):
        raise Rejected(f"{path}: no journal segment; segments are data/journal/SESSION/*.journal and *.journal.zst")
    return found


def read_segment(path: Path) -> Iterator[Record]:
    """The sound records of a segment that nobody has to be writing; a `.damaged` tail has none of its own."""
    data = read_compressed(path) if path.suffix == ".zst" else path.read_bytes()
    if not data.startswith(MAGIC):
        raise Rejected(f"{path}: not a journal segment (it does not begin with {MAGIC!r})")
    yield from _records(data[: _sound_bytes(data)], _base(path))


def _read_segment(path: Path) -> Iterator[Record | None]:
    """The records of one segment, then None as often as it is asked for more and has none.

    A record that does not check ends the segment for us: what follows it cannot be told apart. The next segment begins with
    the state, so only this one's rest is missing; it stays on the disk for people.
    """
    base = _base(path)
    if path.suffix == ".zst":
        yield from _records(read_compressed(path), base)
    else:
        position = len(MAGIC)
        with path.open("rb") as file:
            while True:
                file.seek(position)
                head = file.read(_RECORD_HEAD_BYTES)
                length = _HEAD.unpack_from(head)[2] if len(head) == _RECORD_HEAD_BYTES else -1
                data = file.read(length) if length >= 0 else b""
                if len(data) != length:
                    yield None
                    continue
                position += _RECORD_HEAD_BYTES + length
                if not _checks(head, data):
                    logger().error(
                        "a journal record is damaged; the rest of its segment is left out", segment=str(path), at=position
                    )
                    break
                recv_ts, direction, _ = _HEAD.unpack_from(head)
                yield Record(base + position, recv_ts, Direction(direction), data)
    while True:
        yield None


def _checks(head: bytes, data: bytes) -> bool:
    (crc,) = _CRC.unpack_from(head, _HEAD.size)
    return head[8] <= max(Direction) and bool(crc == zlib.crc32(data, zlib.crc32(head[: _HEAD.size])))


def _records(data: bytes, base: int) -> Iterator[Record]:
    position = len(MAGIC)
    while position < len(data):
        recv_ts, direction, length = _HEAD.unpack_from(data, position)
        start = position + _RECORD_HEAD_BYTES
        position = start + length
        yield Record(base + position, recv_ts, Direction(direction), data[start:position])


def _sound_bytes(data: bytes) -> int:
    """How much of a segment checks."""
    if not data.startswith(MAGIC):
        return 0
    position = len(MAGIC)
    while position + _RECORD_HEAD_BYTES <= len(data):
        length = _HEAD.unpack_from(data, position)[2]
        start = position + _RECORD_HEAD_BYTES
        if start + length > len(data) or not _checks(data[position:start], data[start : start + length]):
            break
        position = start + length
    return position


def _encode(recv_ts: int, direction: Direction, data: bytes) -> bytes:
    head = _HEAD.pack(recv_ts, direction, len(data))
    return head + _CRC.pack(zlib.crc32(data, zlib.crc32(head))) + data


def _write_all(descriptor: int, data: bytes, size_before: int) -> int:
    written = 0
    try:
        while written < len(data):
            written += os.write(descriptor, data[written:] if written else data)
    except OSError:
        os.ftruncate(descriptor, size_before)
        raise
    return written


def _segments(folder: Path) -> list[Path]:
    """Oldest first; of a segment that is there twice (a crash while compressing), the plain one."""
    found: dict[int, Path] = {}
    for path in sorted(folder.glob("*.journal*"), reverse=True):
        if path.suffix in {".journal", ".zst"}:
            found[_base(path)] = path
    return [found[base] for base in sorted(found)]


def _base(path: Path) -> int:
    return int(path.name.split(".", 1)[0])


@contextlib.contextmanager
def _disk(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise Retryable(f"{path}: {error}") from error
