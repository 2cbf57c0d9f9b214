"""The content digest: equal for equal rows, whatever file, row groups, encoding or program holds them.

    digest = SHA-256( SHA-256(column 1) ‖ SHA-256(column 2) ‖ … ), hex; the inner ones as 32 bytes each

A column is the bytes of its values, rows in order, each value as 8 bytes little-endian:

    integer, time (ns), price (1e-9)     two's complement int64
    size                                 the bits of the IEEE 754 double
    absent                               2^63 - 1: no price, time or sequence number; as a double it is not a number
    text, bytes                          two columns: the lengths in bytes as int64, then the bytes one after the other
    list                                 its lengths as int64, then the columns of its elements

The columns of a series of ticks: ts, seq, bid, ask, bid_size, ask_size, recv_ts, flags; its rows in order of (ts, seq).
"""

import hashlib
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from libs.common.store.columnar.arrays import Int64s, int64s, is_valid

ABSENT = 2**63 - 1


class Digest:
    """Fed with chunks of any length: the same rows give the same digest."""

    def __init__(self) -> None:
        self._columns: list[Any] = []

    def update(self, columns: Iterable[pa.Array]) -> None:
        streams = [stream for column in columns for stream in _streams(column)]
        if not self._columns:
            self._columns = [hashlib.sha256() for _ in streams]
        for column, stream in zip(self._columns, streams, strict=True):
            column.update(stream)

    def hexdigest(self) -> str:
        return hashlib.sha256(b"".join(column.digest() for column in self._columns)).hexdigest()


def _streams(array: pa.Array) -> Iterator[Any]:
    kind = array.type
    if pa.types.is_dictionary(kind):
        yield from _streams(array.cast(kind.value_type))
    elif pa.types.is_list(kind):
        yield _words(pc.list_value_length(array).cast(pa.int64()))
        yield from _streams(array.flatten())
    elif pa.types.is_struct(kind):
        for element in array.flatten():
            yield from _streams(element)
    elif pa.types.is_string(kind) or pa.types.is_binary(kind):
        yield _words(pc.binary_length(array).cast(pa.int64()))
        yield _text(array)
    else:
        yield _words(array)


def _text(array: pa.Array) -> Any:
    if array.null_count:
        array = array.drop_null()
    _, offsets, data = array.buffers()
    if data is None or not len(array):
        return b""
    ends = np.frombuffer(offsets, np.int32)
    return data[int(ends[array.offset]) : int(ends[array.offset + len(array)])]


def _words(array: pa.Array) -> Int64s:
    """Every value as an int64."""
    words = int64s(array)
    if array.null_count:
        words = np.where(is_valid(array), words, ABSENT)
    return np.ascontiguousarray(words)
