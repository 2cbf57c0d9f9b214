"""numpy arrays as Arrow arrays and back, without copies.

Not by `pa.array`, which imports pandas where it is installed: 0.2 s and 60 MB that a first query would wait for.
"""

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

Int64s = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]


def wrapped(values: npt.NDArray[Any], kind: pa.DataType, valid: Mask | None = None) -> pa.Array:
    """An array of a kind as wide as the values; null where not `valid`."""
    bitmap = None if valid is None else pa.py_buffer(np.packbits(valid, bitorder="little"))
    data = pa.py_buffer(np.ascontiguousarray(values))
    return pa.Array.from_buffers(kind, len(values), [bitmap, data])


def texts(values: Sequence[str]) -> pa.Array:
    encoded = [value.encode() for value in values]
    ends = np.fromiter(itertools.accumulate(map(len, encoded), initial=0), np.int32)
    return pa.Array.from_buffers(pa.string(), len(encoded), [None, pa.py_buffer(ends), pa.py_buffer(b"".join(encoded))])


def int64s(array: pa.Array) -> Int64s:
    """The values of an integer, time, double (its bits) or decimal(18) column; anything where one is absent."""
    data = array.buffers()[1]
    if not len(array) or data is None:
        return np.zeros(len(array), np.int64)
    if array.type.bit_width == 32:
        return np.frombuffer(data, np.int32)[array.offset : array.offset + len(array)].astype(np.int64)
    words = np.frombuffer(data, np.int64)
    if array.type.bit_width == 128:
        words = words[::2]  # the low word of a decimal below 1e18 is its int64
    return words[array.offset : array.offset + len(array)]


def is_valid(array: pa.Array) -> Mask:
    bitmap = array.buffers()[0]
    if bitmap is None:
        return np.ones(len(array), np.bool_)
    bits = np.frombuffer(bitmap, np.uint8)
    return np.unpackbits(bits, count=array.offset + len(array), bitorder="little")[array.offset :].astype(np.bool_)


def one_chunk(table: pa.Table, name: str) -> pa.Array:
    column = table.column(name)
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()
