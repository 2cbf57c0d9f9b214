"""Footers of a few row groups cut out of the footer of a file: that of a day with hundreds of symbols takes 10 ms and 4 MB to
parse, and a reader of one symbol needs a hundredth of it.

    the file's footer     head │ number of row groups │ row group 0 │ row group 1 │ … │ tail
    that of a series      head │ 2                    │ row group 0 │ row group 1     │ tail

Thrift's compact protocol (parquet-format, `FileMetaData`); row groups are field 4, a list of structs.
"""

import os
from collections.abc import Iterator, Sequence
from typing import BinaryIO, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

_MAGIC = b"PAR1"
_ROW_GROUPS = 4
_BOOLEANS, _BYTE, _DOUBLE, _BINARY, _LISTS, _MAP, _STRUCT = (1, 2), 3, 7, 8, (9, 10), 11, 12
_LONG_LIST = 15


class Cut(NamedTuple):
    """A file's footer without its row groups. `bounds`: where in the file each row group starts, and where the last ends."""

    head: bytes
    bounds: list[int]
    tail: bytes


def cut(file: BinaryIO) -> Cut:
    """ValueError where the file's footer holds no list of row groups."""
    file.seek(-8, os.SEEK_END)  # the length of the footer, and PAR1
    length = int.from_bytes(file.read(4), "little")
    start = file.seek(-8 - length, os.SEEK_END)
    footer = file.read(length)
    for field, kind, at in _fields(footer, 0):
        if field == _ROW_GROUPS and kind in _LISTS:
            size, _, end = _list_header(footer, at)
            bounds = [start + end]
            for _ in range(size):
                end = _skip(footer, end, _STRUCT)
                bounds.append(start + end)
            return Cut(footer[:at], bounds, footer[end:])
    raise ValueError("a Parquet footer without row groups")


def join(head: bytes, row_groups: Sequence[bytes], count: int, tail: bytes) -> pq.FileMetaData:
    """The metadata of `count` row groups, given as runs of bytes; their numbers in it begin at 0."""
    size = bytes([count << 4 | _STRUCT]) if count < _LONG_LIST else bytes([0xF0 | _STRUCT]) + _varint(count)
    footer = b"".join((head, size, *row_groups, tail))
    return pq.read_metadata(pa.BufferReader(_MAGIC + footer + len(footer).to_bytes(4, "little") + _MAGIC))


def _fields(data: bytes, at: int) -> Iterator[tuple[int, int, int]]:
    """(number, type, start of the value) of each field of the struct at `at`; the last is (0, 0, end of the struct)."""
    field = 0
    while header := data[at]:
        at += 1
        if header >> 4:
            field += header >> 4
        else:
            number, at = _read_varint(data, at)
            field = number >> 1 ^ -(number & 1)
        kind = header & 15
        yield field, kind, at
        at = at if kind in _BOOLEANS else _skip(data, at, kind)
    yield 0, 0, at + 1


def _skip(data: bytes, at: int, kind: int) -> int:
    """Where the value at `at` ends."""
    if kind == _BYTE or kind in _BOOLEANS:
        return at + 1
    if kind == _DOUBLE:
        return at + 8
    if kind == _BINARY:
        length, at = _read_varint(data, at)
        return at + length
    if kind in _LISTS:
        size, of, at = _list_header(data, at)
        for _ in range(size):
            at = _skip(data, at, of)
        return at
    if kind == _MAP:
        raise ValueError("a map: no field of Parquet's footer is one")
    if kind == _STRUCT:
        *_, (_, _, end) = _fields(data, at)
        return end
    return _read_varint(data, at)[1]


def _list_header(data: bytes, at: int) -> tuple[int, int, int]:
    """Number of elements, their type, start of the first."""
    size, kind = data[at] >> 4, data[at] & 15
    at += 1
    if size == _LONG_LIST:
        size, at = _read_varint(data, at)
    return size, kind, at


def _read_varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at
        shift += 7


def _varint(value: int) -> bytes:
    encoded = bytearray()
    while value > 127:
        encoded.append(value & 127 | 128)
        value >>= 7
    return bytes([*encoded, value])
