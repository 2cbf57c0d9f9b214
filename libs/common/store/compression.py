"""zstd files that notice damage: the frame carries its plain size and a checksum, and both are required when reading."""

import contextlib
import os
from pathlib import Path

import zstandard

from libs.common.domain.errors import Rejected

LEVEL = 9
WINDOW_BYTES_MAX = 2**27  # zstd's own limit for level 22; a damaged header may ask for more
_STEP_BYTES = 2**16


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
        partial.replace(target)
    finally:
        with contextlib.suppress(FileNotFoundError):
            partial.unlink()


def read_compressed(path: Path) -> bytes:
    """The plain bytes; Rejected where a bit flipped or the tail is cut.

    zstandard's own decompress() takes the frame's word for an empty content, and for how much memory to ask for: so the
    bytes are counted here, and the end of the frame, where the checksum is compared, must have been reached.
    """
    packed = path.read_bytes()
    plain = bytearray()
    try:
        parameters = zstandard.get_frame_parameters(packed)
        frame = zstandard.ZstdDecompressor(max_window_size=WINDOW_BYTES_MAX).decompressobj()
        for at in range(0, len(packed), _STEP_BYTES):
            plain += frame.decompress(packed[at : at + _STEP_BYTES])
            if len(plain) > parameters.content_size:
                break
    except (zstandard.ZstdError, EOFError) as error:
        raise Rejected(f"{path} is damaged: {error}") from error
    whole = frame.eof and not frame.unused_data and len(plain) == parameters.content_size
    if not (whole and parameters.has_checksum):
        raise Rejected(f"{path} is damaged: its tail, size or checksum is not what the frame says")
    return bytes(plain)
