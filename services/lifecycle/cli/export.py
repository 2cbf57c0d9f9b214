"""export: ticks of any days, whichever tier they are in, to a file or a pipe. Prices keep their exact decimals.

csv      header, then a tick a line; absent is empty          parquet   prices as DECIMAL(18,9), times in ns UTC
ndjson   an object a line; absent is null                     arrow     the same as IPC: a file, or a stream where it is a pipe
json     an array of these objects
"""

import argparse
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import msgspec
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from libs.common.domain.errors import Rejected
from libs.common.domain.moment import parse_moment
from libs.common.domain.price import format_price
from libs.common.domain.symbol import normalise_symbol
from libs.common.platform import sync_folder
from libs.common.store.columnar import COLUMNS, Damaged, Query
from libs.common.store.history import HistoryReader
from libs.common.store.tiers import ColdStorage
from services.lifecycle.cli.output import refuse
from services.lifecycle.cli.parser import Commands
from services.lifecycle.cli.progress import Progress
from services.lifecycle.settings import LifecycleSettings

PARTIAL = ".partial"
_TEXT = ("csv", "ndjson", "json")


class Writer(Protocol):
    """Of one file: `open` it, `write` batches of the query's schema, `close` it."""

    def write(self, batch: pa.RecordBatch) -> object: ...
    def close(self) -> object: ...


def add(commands: Commands, shared: argparse.ArgumentParser) -> None:
    command = commands.add_parser("export", help="ticks to CSV, JSON, Parquet or Arrow", parents=[shared])
    command.add_argument("symbols", nargs="+", metavar="SYMBOL")
    command.add_argument("--start", required=True, metavar="TIME", help="RFC 3339 or epoch ns; without a zone: UTC; included")
    command.add_argument("--end", required=True, metavar="TIME", help="as --start; not included")
    command.add_argument("--provider", action="append", metavar="NAME", help="of this one only; may be given again")
    command.add_argument("--format", choices=tuple(_WRITERS), help="default: by the name of the file, or csv")
    command.add_argument("--output", default="-", metavar="FILE", help="default: -, standard output")
    command.add_argument("--columns", metavar="LIST", help=f"default: {','.join(COLUMNS)}")
    command.add_argument("--force", action="store_true", help="write over a file that is there")
    command.set_defaults(run=_export)


def _export(options: argparse.Namespace, settings: LifecycleSettings) -> int:
    path = None if options.output == "-" else Path(options.output)
    named = path.suffix.removeprefix(".") if path is not None else ""
    kind = options.format or (named if named in _WRITERS else "csv")
    query = _query(options, "int64" if kind in _TEXT else "decimal")
    if path is not None and path.exists() and not options.force:
        return refuse(f"{path} is there already: --force writes over it")
    cold = ColdStorage(settings.cold_url) if settings.cold_url else None
    ticks = 0
    started = time.monotonic()
    try:
        with (
            HistoryReader(settings.data_dir, cold=cold) as reader,
            _output(path) as out,
            ExitStack() as closing,
            Progress("exporting", 1) as progress,
        ):
            writer = _WRITERS[kind](out, query, is_pipe=path is None)
            closing.callback(writer.close)
            for batch in reader.read(query):
                writer.write(batch)
                ticks += batch.num_rows
                progress.show(0, f"{ticks:,} ticks")
    except Damaged as damage:
        print(f"tickvault: {damage}: nothing was exported; see tickvault verify and repair", file=sys.stderr)
        return 1
    except BrokenPipeError:  # whoever read it has read enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    print(f"{ticks:,} ticks exported in {time.monotonic() - started:.1f} s", file=sys.stderr)
    return 0


def _query(options: argparse.Namespace, prices: Any) -> Query:
    symbols = [(text, normalise_symbol(text)) for text in options.symbols]
    if wrong := [text for text, symbol in symbols if symbol is None]:
        raise Rejected(f"{wrong[0]!r} cannot be a symbol")
    query = Query(
        symbols=tuple(dict.fromkeys(symbol for _, symbol in symbols if symbol is not None)),
        start=parse_moment(options.start),
        end=parse_moment(options.end),
        providers=tuple(options.provider) if options.provider else None,
        columns=tuple(options.columns.split(",")) if options.columns else COLUMNS,
        prices=prices,
    )
    if query.end <= query.start:
        raise Rejected("--end is not after --start")
    _ = query.schema  # there are such columns
    return query


def _output(path: Path | None) -> AbstractContextManager[BinaryIO]:
    return nullcontext(sys.stdout.buffer) if path is None else _whole(path)


@contextmanager
def _whole(path: Path) -> Iterator[BinaryIO]:
    """A file that has its name once it is complete and durable."""
    partial = path.with_name(path.name + PARTIAL)
    try:
        with partial.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
        sync_folder(path.parent)
    except OSError as error:
        raise Rejected(f"{path}: {error}") from error
    finally:
        with suppress(OSError):
            partial.unlink()


class _Csv:
    def __init__(self, out: BinaryIO, query: Query, *, is_pipe: bool) -> None:  # noqa: ARG002 - as the others
        fields = [(field.name, pa.string()) for field in query.schema]
        options = pa_csv.WriteOptions(quoting_style="none", quoting_header="none")  # no name has a comma or a quote
        self._writer = pa_csv.CSVWriter(_kept_open(out), pa.schema(fields), write_options=options)

    def write(self, batch: pa.RecordBatch) -> None:
        texts = [_texts(column, name, str) for name, column in zip(batch.schema.names, batch.columns, strict=True)]
        self._writer.write_batch(pa.record_batch(texts, names=batch.schema.names))

    def close(self) -> None:
        self._writer.close()


class _Json:
    """`between` objects; `ends`: around all of them."""

    def __init__(self, out: BinaryIO, ends: tuple[bytes, bytes], between: bytes) -> None:
        self._out = out
        self._between = between
        self._begin, self._end = ends
        self._last = self._begin

    def write(self, batch: pa.RecordBatch) -> None:
        pieces: list[Any] = []
        for name, column in zip(batch.schema.names, batch.columns, strict=True):
            pieces += [f'{"," if pieces else "{"}"{name}":', _texts(column, name, _json_text)]
        lines = pc.binary_join_element_wise(*pieces, "}", "", null_handling="replace", null_replacement="null")
        if len(lines):
            self._out.write(self._last + self._between.join(line.encode() for line in lines.to_pylist()))
            self._last = self._between

    def close(self) -> None:
        if self._last == self._begin:  # no tick
            self._out.write(self._begin)
        self._out.write(self._end)


class _Parquet:
    def __init__(self, out: BinaryIO, query: Query, *, is_pipe: bool) -> None:  # noqa: ARG002 - as the others
        self._schema = _plain(query.schema)
        self._writer = pq.ParquetWriter(_kept_open(out), self._schema, compression="zstd")

    def write(self, batch: pa.RecordBatch) -> None:
        self._writer.write_batch(batch.cast(self._schema))

    def close(self) -> None:
        self._writer.close()


class _Arrow:
    def __init__(self, out: BinaryIO, query: Query, *, is_pipe: bool) -> None:
        self._schema = _plain(query.schema)
        self._writer = (pa.ipc.new_stream if is_pipe else pa.ipc.new_file)(_kept_open(out), self._schema)

    def write(self, batch: pa.RecordBatch) -> None:
        self._writer.write_batch(batch.cast(self._schema))

    def close(self) -> None:
        self._writer.close()


_WRITERS: dict[str, Callable[..., Writer]] = {
    "csv": _Csv,
    "ndjson": lambda out, _query, **_: _Json(out, (b"", b"\n"), b"\n"),
    "json": lambda out, _query, **_: _Json(out, (b"[", b"]\n"), b",\n"),
    "parquet": _Parquet,
    "arrow": _Arrow,
}


def _kept_open(out: BinaryIO) -> Any:
    return pa.PythonFile(out, mode="w")


def _plain(schema: pa.Schema) -> pa.Schema:
    """Names as strings: dictionaries that grow are no business of who reads the file."""
    fields = (field.with_type(pa.string()) if pa.types.is_dictionary(field.type) else field for field in schema)
    return pa.schema(list(fields))


def _json_text(value: object) -> str:
    return msgspec.json.encode(value).decode()


def _texts(column: pa.Array, name: str, text_of: Callable[[object], str]) -> pa.Array:
    """Of every value; each value that occurs is formatted once."""
    if name in ("ts", "recv_ts"):
        moments = pc.utf8_replace_slice(column.cast(pa.string()), 10, 11, "T")
        return pc.binary_join_element_wise('"', moments, '"', "") if text_of is _json_text else moments
    if name in ("seq", "flags"):
        return column.cast(pa.string())
    if name in ("bid", "ask"):
        text_of = format_price  # type: ignore[assignment]
    if name.endswith("_size"):
        text_of = _size_text  # type: ignore[assignment]
    encoded = column if pa.types.is_dictionary(column.type) else column.dictionary_encode()
    texts = pa.array([text_of(value) for value in encoded.dictionary.to_pylist()], pa.string())
    return pc.take(texts, encoded.indices)


def _size_text(size: float) -> str:
    """Exact; a whole one without a point."""
    return str(int(size)) if size.is_integer() and abs(size) < 1e15 else repr(size)
