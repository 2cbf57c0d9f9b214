"""zstd files that notice damage: the frame carries its plain size and a checksum, and both are required when reading."""

import contextlib
import os
from pathlib import Path

import zstandard

from libs.common.domain.errors import Rejected

LEVEL = 9


def compress_file(source: Path, target: Path) -> None:
    """Write `target`, verified by reading it back; it appears whole under its name or not at all. `source` stays."""
    plain = source.read_bytes()
    packed = zstandard.ZstdCompressor(level=LEVEL, write_checksum=True, write_content_size=True).compress(plain)
    partial = target.with_name(target.name + ".partial")
    try:
        with partial.open("wb") as file:
            file.write(packed)
            file.flush()
            os.fsync(file.fileno())
        if read_compressed(partial) != plain:
            raise Rejected(f"{partial} does not read back as it was written: check the disk")
        partial.rename(target)
    finally:
        with contextlib.suppress(FileNotFoundError):
            partial.unlink()


def read_compressed(path: Path) -> bytes:
    """The plain bytes; Rejected where a bit flipped or the tail is cut (zstandard's own defaults notice neither)."""
    packed = path.read_bytes()
    try:
        parameters = zstandard.get_frame_parameters(packed)
        plain = zstandard.ZstdDecompressor().decompress(packed)
    except zstandard.ZstdError as error:
        raise Rejected(f"{path} is damaged: {error}") from error
    if not parameters.has_checksum or len(plain) != parameters.content_size:
        raise Rejected(f"{path} is damaged: size or checksum is missing")
    return plain
