"""Where imports come from: files, folders, zips, gzip, zstd and streams, in bounded memory however large they are.

    find_sources(paths) ─▶ Source, Source, …      a folder's files by name, a zip's members by name
    read_blocks(source) ─▶ bytes, bytes, …        unpacked, about BLOCK_BYTES each

What packs to almost nothing, and unpacks without end, is refused before it fills anything.
"""

import os
import sys
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Protocol

import zstandard

from libs.common.domain.errors import Rejected

BLOCK_BYTES = 2**18
MEMBERS_MAX = 10_000  # of one zip
EXPANSION_MAX = 250  # ticks as text pack 5 to 20 times smaller; deflate ends at 1,032, zstd far beyond
EXPANSION_FREE_BYTES = 2**26  # so much may come out of anything
_PIECE_BYTES = 2**10  # 1 KiB of zstd unpacks to 32 MiB at most: the memory one step may take
_WINDOW_BYTES_MAX = 2**27
SUFFIXES = (".csv", ".tsv", ".json", ".jsonl", ".ndjson", ".bi5", ".zip")
_PACKED = (".gz", ".zst")
_ZIPS, _GZIP, _ZSTD = (b"PK\x03\x04", b"PK\x05\x06"), b"\x1f\x8b", b"\x28\xb5\x2f\xfd"


@dataclass(frozen=True, slots=True)
class Source:
    """One file, one member of a zip, or a stream, which can be read once."""

    path: Path
    member: str | None = None
    stream: BinaryIO | None = field(default=None, compare=False)

    @property
    def name(self) -> str:
        """For a person, and for formats that keep symbol and day in the path."""
        return self.path.as_posix() if self.member is None else f"{self.path.as_posix()}/{self.member}"


@dataclass(frozen=True, slots=True)
class Found:
    """`skipped`: files in folders and zips that are not read, with the reason."""

    sources: list[Source]
    skipped: list[tuple[str, str]]


def standard_input() -> Source:
    return Source(Path("-"), stream=sys.stdin.buffer)


def find_sources(paths: Sequence[Path]) -> Found:
    """What there is to import: the paths in the order given, folders and zips sorted. Rejected where a path holds nothing."""
    found = Found([], [])
    known: set[tuple[Path, str | None]] = set()
    for path in paths:
        if not path.exists():
            raise Rejected(f"{path}: there is no such file or folder")
        files = list(_walk(path, found.skipped)) if path.is_dir() else [path]
        sources = [source for file in files for source in _sources(file, found.skipped)]
        if not sources:
            raise Rejected(f"{path}: there is no tick file in it; read are {', '.join(SUFFIXES)}, also with {', '.join(_PACKED)}")
        for source in sources:
            if (key := (source.path.resolve(), source.member)) not in known:
                known.add(key)
                found.sources.append(source)
    return found


def _walk(folder: Path, skipped: list[tuple[str, str]]) -> Iterator[Path]:
    for path, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            if _is_tick_name(name):
                yield Path(path) / name
            elif not name.startswith("."):
                skipped.append((str(Path(path) / name), "not named as tick files are: name it itself to import it"))


def _is_tick_name(name: str) -> bool:
    plain = name.lower()
    for suffix in _PACKED:
        plain = plain.removesuffix(suffix)
    return not name.startswith(".") and plain.endswith(SUFFIXES)


def _sources(path: Path, skipped: list[tuple[str, str]]) -> Iterator[Source]:
    with path.open("rb") as file:
        is_zip = file.read(4) in _ZIPS
    if not is_zip:
        yield Source(path)
        return
    with _open_zip(path) as archive:
        members = sorted((info for info in archive.infolist() if not info.is_dir()), key=lambda info: info.filename)
    if len(members) > MEMBERS_MAX:
        raise Rejected(f"{path}: {len(members)} members, more than the {MEMBERS_MAX} that one zip may have")
    if sum(info.compress_size for info in members) > path.stat().st_size:
        raise Rejected(f"{path}: its members overlap, which is how zip bombs are made")
    for info in members:
        name = info.filename.rpartition("/")[2]
        if len(members) == 1 or (_is_tick_name(name) and not name.lower().endswith(".zip")):
            yield Source(path, info.filename)
        elif not name.startswith("."):
            skipped.append((f"{path}/{info.filename}", "not named as tick files are: unpack it to import it"))


def _open_zip(path: Path) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(path)
    except (zipfile.BadZipFile, NotImplementedError, ValueError, OSError) as error:
        raise Rejected(f"{path}: not a whole zip: {error}") from error


def read_blocks(source: Source) -> Iterator[bytes]:
    """The unpacked bytes. Rejected where they are cut off or damaged, or where they expand past EXPANSION_MAX."""
    return _regrouped(_member_blocks(source) if source.member is not None else _file_blocks(source))


def _regrouped(blocks: Iterable[bytes]) -> Iterator[bytes]:
    parts: list[bytes] = []
    size = 0
    for block in blocks:
        parts.append(block)
        size += len(block)
        if size >= BLOCK_BYTES:
            yield from _cut(b"".join(parts))
            parts, size = [], 0
    yield from _cut(b"".join(parts))


def _cut(data: bytes) -> Iterator[bytes]:
    return (data[at : at + 2 * BLOCK_BYTES] for at in range(0, len(data), 2 * BLOCK_BYTES))


def _member_blocks(source: Source) -> Iterator[bytes]:
    assert source.member is not None
    with _open_zip(source.path) as archive:
        try:
            info = archive.getinfo(source.member)
            if info.compress_type not in {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}:
                raise Rejected(f"{source.name}: packed by method {info.compress_type}; read are deflated and stored members")
            with archive.open(info) as member:
                yield from _bounded(source, iter(lambda: member.read(BLOCK_BYTES), b""), lambda: info.compress_size)
        except (zipfile.BadZipFile, zlib.error, EOFError, KeyError, RuntimeError, NotImplementedError, OSError) as error:
            raise Rejected(f"{source.name}: damaged, cut off or encrypted: {error}") from error


class _Frame(Protocol):
    @property
    def eof(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, /) -> bytes: ...


def _file_blocks(source: Source) -> Iterator[bytes]:
    try:
        with nullcontext(source.stream) if source.stream else source.path.open("rb") as file:
            first = _read(file, BLOCK_BYTES)
            if first.startswith(_ZIPS):
                raise Rejected(f"{source.name}: a zip has to be a file, and in none other")
            pieces = _pieces(first, file)
            if first.startswith(_GZIP):
                yield from _unpacked(source, pieces, lambda: zlib.decompressobj(wbits=31))
            elif first.startswith(_ZSTD):
                yield from _unpacked(source, pieces, zstandard.ZstdDecompressor(max_window_size=_WINDOW_BYTES_MAX).decompressobj)
            else:
                yield first
                yield from iter(lambda: file.read(BLOCK_BYTES), b"")
    except OSError as error:
        raise Rejected(f"{source.name}: {error}") from error


def _read(file: BinaryIO, size: int) -> bytes:
    """`size` bytes, less only at the end: a pipe gives what it has."""
    found = b""
    while len(found) < size and (more := file.read(size - len(found))):
        found += more
    return found


def _pieces(first: bytes, file: BinaryIO) -> Iterator[bytes]:
    block = first
    while block:
        for at in range(0, len(block), _PIECE_BYTES):
            yield block[at : at + _PIECE_BYTES]
        block = file.read(BLOCK_BYTES)


def _unpacked(source: Source, pieces: Iterator[bytes], new_frame: Callable[[], _Frame]) -> Iterator[bytes]:
    """Frames follow each other, as they do where packed files were put behind each other."""
    packed = 0

    def frames() -> Iterator[bytes]:
        nonlocal packed
        frame = new_frame()
        for piece in pieces:
            packed += len(piece)
            rest = piece
            while rest:
                if frame.eof:
                    rest = rest.lstrip(b"\0")  # padding, as on tapes
                    if not rest:
                        break
                    frame = new_frame()
                yield frame.decompress(rest)
                rest = frame.unused_data if frame.eof else b""
        if not frame.eof:
            raise Rejected(f"{source.name}: cut off: the packed data ends in the middle")

    try:
        yield from _bounded(source, frames(), lambda: packed)
    except (zlib.error, zstandard.ZstdError) as error:
        raise Rejected(f"{source.name}: damaged: {error}") from error


def _bounded(source: Source, blocks: Iterator[bytes], packed: Callable[[], int]) -> Iterator[bytes]:
    plain = 0
    for block in blocks:
        plain += len(block)
        if plain > EXPANSION_FREE_BYTES and plain > EXPANSION_MAX * packed():
            raise Rejected(f"{source.name}: unpacks to more than {EXPANSION_MAX} times its size; ticks never do")
        yield block
