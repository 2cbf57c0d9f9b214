"""Ticks as Arrow IPC and Parquet, written while they are read: a batch in memory, whatever the range.

A stream has no room at its front for what is known at its end: whether days were left out stands in the metadata of the last
batch of Arrow, and in the footer of Parquet.
"""

from collections.abc import Callable, Iterable, Iterator
from io import BytesIO

import msgspec
import pyarrow as pa

from libs.common.store.columnar import COLUMNS
from libs.common.store.columnar.schema import open_writer, to_stored
from services.distribution.formats import Columnar

ZSTD_LEVEL = 1  # of Parquet that is made for one reader
Metadata = Callable[[], dict[str, str]]
"""Asked for when all was read"""


def metadata(warnings: list[str], *, complete: bool) -> dict[str, str]:
    found = {"tickvault.complete": str(complete).lower()}
    return found | ({"tickvault.warnings": msgspec.json.encode(warnings).decode()} if warnings else {})


def written(batches: Iterable[pa.RecordBatch], schema: pa.Schema, format_: Columnar, at_the_end: Metadata) -> Iterator[bytes]:
    """Batches of all COLUMNS; prices as decimals for Arrow, in 1e-9 for Parquet."""
    return (_arrow if format_ == "arrow" else _parquet)(batches, schema, at_the_end)


def _arrow(batches: Iterable[pa.RecordBatch], schema: pa.Schema, at_the_end: Metadata) -> Iterator[bytes]:
    sink = _Sink()
    last = pa.RecordBatch.from_arrays([pa.nulls(0, field.type) for field in schema], schema=schema)
    with pa.ipc.new_stream(sink, schema) as writer:
        for batch in batches:
            if len(last):
                writer.write_batch(last)
            yield sink.taken()
            last = batch
        writer.write_batch(last, custom_metadata=at_the_end())
    yield sink.taken()


def _parquet(batches: Iterable[pa.RecordBatch], _: pa.Schema, at_the_end: Metadata) -> Iterator[bytes]:
    sink = _Sink()
    with open_writer("ticks", sink, ZSTD_LEVEL) as writer:
        for batch in batches:
            writer.write_batch(to_stored("ticks", dict(zip(COLUMNS, batch.columns, strict=True))))
            yield sink.taken()
        writer.add_key_value_metadata(at_the_end())
    yield sink.taken()


class _Sink(BytesIO):
    """Holds what was written until it is taken; its position goes on, since footers name places in the file."""

    def __init__(self) -> None:
        super().__init__()
        self._taken = 0

    def tell(self) -> int:
        return self._taken + super().tell()

    def taken(self) -> bytes:
        found = self.getvalue()
        self._taken += len(found)
        self.seek(0)
        self.truncate()
        return found
