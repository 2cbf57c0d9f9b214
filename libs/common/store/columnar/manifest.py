"""The manifest of a sealed day: what its files hold and how to know that they still do. Its rename is the only swap.

{"sha256":"<64 hex>",<the rest>        sha256 is that of every byte after the first 77, up to the end of the file
"""

import hashlib
import os
from pathlib import Path
from typing import TypeVar

import msgspec

from libs.common.domain.errors import Rejected
from libs.common.platform import sync_folder
from libs.common.store.columnar.paths import PARTIAL
from libs.common.telemetry.chaos import point

FORMAT = 1  # of the manifest and of the Parquet schemas; readers refuse a newer one
_HEAD_BYTES = 77  # {"sha256":"…64…",


class Damaged(Rejected):
    """A sealed file is not what its manifest says, or the manifest is not what was written: set the day aside."""

    def __init__(self, path: Path, problem: str) -> None:
        super().__init__(f"{path}: {problem}")
        self.path = path
        self.problem = problem


class RowGroup(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """One row group of the ticks: all of it is of one symbol and provider, in order of (ts, seq). Times in ns."""

    index: int
    rows: int
    first: int
    last: int


class Series(msgspec.Struct, frozen=True):
    """The ticks of one symbol from one provider; `digest` as in `digest.py`. Times in ns.

    `whole_ms`: every ts is one, and ts_sub_ms need not be read.
    `footer`: where the thrift structs of its row groups lie in the file (offset, length), and their CRC-32.
    """

    provider: str
    ticks: int
    first: int
    last: int
    digest: str
    row_groups: list[RowGroup]
    footer: tuple[int, int, int]
    whole_ms: bool = False


class File(msgspec.Struct, frozen=True):
    """`digest` is that of the rows, whatever the bytes; for ticks it stands with each series instead."""

    name: str
    bytes: int
    sha256: str
    rows: int
    digest: str = ""


class Footer(msgspec.Struct, frozen=True):
    """What stands before and after the row groups in the footer of the ticks: with those of a series, a footer of its own.

    In `head` the prices are plain int64, in 1e-9, which is how the pages hold them.
    """

    head: bytes
    tail: bytes


class GapSummary(msgspec.Struct, frozen=True):
    """The gaps of one session and cause. `missing`: messages, where both sequence numbers are known. Times in ns."""

    session: str
    cause: str
    count: int
    unresolved: int
    missing: int
    first: int
    last: int | None  # None: the last of them has no end


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """One generation of one sealed day. `files`: by kind; what has no rows has no file. `created_at`, `closed_at` in ns."""

    format: int = FORMAT
    day: str  # YYYY-MM-DD, UTC day of ts
    generation: int
    schema_version: int  # of the SQLite day file
    created_at: int
    closed_at: int
    files: dict[str, File]
    footer: Footer | None  # None: no ticks
    series: dict[str, list[Series]]  # symbol → by provider; in the order of the file
    gaps: list[GapSummary] = []
    watermark: dict[str, int] = {}

    @property
    def content(self) -> tuple[object, ...]:
        """Equal for two manifests of the same rows."""
        series = [(symbol, one.provider, one.digest) for symbol, found in self.series.items() for one in found]
        return self.format, series, {kind: (file.rows, file.digest) for kind, file in self.files.items()}, self.watermark


def encode_manifest(manifest: Manifest) -> bytes:
    rest = msgspec.json.encode(manifest)[1:]
    return _head(rest) + rest


def read_manifest(path: Path) -> Manifest:
    """FileNotFoundError: the day is not sealed. Damaged: a bit flipped or the tail is cut. Rejected: of a newer program."""
    return decode_checked(path, Manifest)


_Decoded = TypeVar("_Decoded")


def decode_checked(path: Path, kind: type[_Decoded]) -> _Decoded:
    """What `kind` names of a manifest, after a look at its checksum; errors as in `read_manifest`."""
    content = path.read_bytes()
    if content[:_HEAD_BYTES] != _head(content[_HEAD_BYTES:]):
        raise Damaged(path, "the manifest's checksum is not that of its content")
    try:
        if (newer := msgspec.json.decode(content, type=_Format).format) > FORMAT:
            raise Rejected(f"{path} is of format {newer}, newer than {FORMAT}: upgrade this service")
        return msgspec.json.decode(content, type=kind)
    except msgspec.DecodeError as error:
        raise Damaged(path, f"not a manifest: {error}") from error


class _Format(msgspec.Struct):
    format: int


def _head(rest: bytes) -> bytes:
    return b'{"sha256":"' + hashlib.sha256(rest).hexdigest().encode() + b'",'


def swap_manifest(path: Path, manifest: Manifest) -> None:
    """From here on readers see this generation. OSError: they see the old one."""
    partial = path.with_name(path.name + PARTIAL)
    with partial.open("wb") as file:
        file.write(encode_manifest(manifest))
        file.flush()
        os.fsync(file.fileno())
    read_manifest(partial)
    point("verified_not_swapped")
    partial.replace(path)
    sync_folder(path.parent)
