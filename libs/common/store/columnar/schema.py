"""One Parquet schema for all days, so that a program that reads many at once never meets two units in one column.

                        as stored (Parquet)                          as read (Arrow)
    symbol, provider    STRING, dictionary                           dictionary<int32, string>
    ts                  TIMESTAMP(ms, UTC) + ts_sub_ms INT32, ns     timestamp[ns, UTC]
    recv_ts             recv_delay_us INT64: recv_ts in µs minus     timestamp[ns, UTC]
                        ts floored to µs; null for imports
    bid, ask, price     DECIMAL(18,9) as INT64                       int64 in 1e-9, or decimal128(18, 9) if asked for
    bid_size, …         DOUBLE                                       double
    seq, flags          INT64, INT32                                 int64, int32

int64 is what the rest of the system calculates with, half the memory of a decimal128 and exact; a decimal is for those who
hand the table on to people. ns in one column is what a backtest sorts and joins by.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from libs.common.domain.errors import Rejected
from libs.common.domain.moment import NS_PER_MS, NS_PER_US
from libs.common.domain.price import PRICE_MAX
from libs.common.store.columnar.arrays import Int64s, int64s, is_valid, one_chunk, wrapped

ZSTD_LEVEL = 9
ZSTD_LEVEL_OF_PRICES = 14  # 9 % smaller than with 9, for 0.14 µs a price; the other columns gain next to nothing
ROW_GROUP_ROWS = 16_384  # 64 k would save 5 % of the bytes; what stood at a time costs reading one whole row group
TAIL_SHARE = 16  # the newest ticks of a day, which are asked for most, are a row group of their own: this part of a full one
PRICE = pa.decimal128(18, 9)
TIME = pa.timestamp("ns", tz="UTC")
_STORED_TIME = pa.timestamp("ms", tz="UTC")
_TEXT = pa.string()
_NAME = pa.dictionary(pa.int32(), pa.string())
LEVELS = pa.list_(pa.struct([pa.field("price", PRICE, nullable=False), pa.field("size", pa.float64())]))


def _schema(*fields: tuple[str, pa.DataType, bool]) -> pa.Schema:
    return pa.schema([pa.field(name, kind, nullable=nullable) for name, kind, nullable in fields])


_KEY = (
    ("symbol", _NAME, False), ("provider", _NAME, False), ("ts", _STORED_TIME, False), ("ts_sub_ms", pa.int32(), False),
    ("seq", pa.int64(), False),
)  # fmt: skip
_DELAY = ("recv_delay_us", pa.int64(), True)

STORED = {
    "ticks": _schema(
        *_KEY, ("bid", PRICE, True), ("ask", PRICE, True), ("bid_size", pa.float64(), True), ("ask_size", pa.float64(), True),
        _DELAY, ("flags", pa.int32(), False),
    ),
    "trades": _schema(
        *_KEY, ("price", PRICE, False), ("size", pa.float64(), True), ("side", _TEXT, True), ("trade_id", _TEXT, True), _DELAY
    ),
    "books": _schema(*_KEY, ("bids", LEVELS, False), ("asks", LEVELS, False), _DELAY),
    "gaps": _schema(
        ("session", _TEXT, False), ("first_seq", pa.int64(), True), ("last_seq", pa.int64(), True),
        ("from_ts", TIME, False), ("to_ts", TIME, True), ("cause", _TEXT, False), ("resolved_by", _TEXT, True),
    ),
    "quarantine": _schema(
        ("recv_ts", TIME, False), ("session", _TEXT, False), ("provider", _TEXT, False), ("symbol", _TEXT, False),
        ("reason", _TEXT, False), ("raw", pa.binary(), False), ("number", pa.int64(), False),
    ),
    "account": _schema(
        ("provider", _TEXT, False), ("symbol", _TEXT, False), ("numbered", pa.int64(), False), ("stored", pa.int64(), False),
        ("duplicates", pa.int64(), False), ("quarantined", pa.int64(), False),
    ),
    "bars": _schema(
        ("symbol", _NAME, False), ("provider", _NAME, False), ("ts", _STORED_TIME, False),
        *(
            (f"{side}_{name}", pa.int32() if name == "ticks" else PRICE, name != "ticks")
            for side in ("bid", "ask") for name in ("open", "high", "low", "close", "ticks")
        ),
    ),
}  # fmt: skip

LOGICAL = {  # what the digest of a row is made of, and in what order
    kind: tuple({"recv_delay_us": "recv_ts"}.get(name, name) for name in schema.names if name != "ts_sub_ms")
    for kind, schema in STORED.items()
}
_SQLITE_TYPES = {
    pa.string(): ("symbol", "provider", "session", "cause", "resolved_by", "reason", "side", "trade_id", "bids", "asks"),
    pa.float64(): ("size", "bid_size", "ask_size"),
    pa.binary(): ("raw",),
}

_DICTIONARY = {
    "symbol", "provider", "side", "session", "cause", "resolved_by", "reason", "flags", "bid_size", "ask_size", "size",
    "bids.list.element.size", "asks.list.element.size",
}  # fmt: skip
_STATISTICS = {"symbol", "provider", "ts"}  # what readers prune by; the rest would only make the footer larger


def sqlite_type(column: str) -> pa.DataType:
    """The Arrow type of a column of the SQLite file."""
    return next((kind for kind, names in _SQLITE_TYPES.items() if column in names), pa.int64())


def _leaves(path: str, kind: pa.DataType) -> Iterator[tuple[str, pa.DataType]]:
    """The paths of a column's values as Parquet names them."""
    if pa.types.is_list(kind):
        yield from _leaves(f"{path}.list.element", kind.value_type)
    elif pa.types.is_struct(kind):
        for field in kind.fields:
            yield from _leaves(f"{path}.{field.name}", field.type)
    else:
        yield path, kind


def _is_word(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_timestamp(kind) or pa.types.is_decimal(kind))


def open_writer(kind: str, target: Path | IO[bytes], level: int | None = None) -> pq.ParquetWriter:
    """A Parquet file of the kind's schema; each batch written becomes one row group, and one page of every column.

    `level` of zstd, where the file is not to be kept.
    """
    leaves = dict(leaf for field in STORED[kind] for leaf in _leaves(field.name, field.type))
    return pq.ParquetWriter(
        target,
        STORED[kind],
        compression="zstd",
        compression_level=level or {leaf: ZSTD_LEVEL_OF_PRICES if of == PRICE else ZSTD_LEVEL for leaf, of in leaves.items()},
        use_dictionary=[leaf for leaf in leaves if leaf in _DICTIONARY],
        column_encoding={leaf: "DELTA_BINARY_PACKED" for leaf, of in leaves.items() if _is_word(of) and leaf not in _DICTIONARY},
        store_decimal_as_integer=True,
        store_schema=False,
        write_statistics=[leaf for leaf in leaves if leaf in _STATISTICS],
        write_page_checksum=True,
        max_rows_per_page=2**20,
        data_page_size=2**24,
    )


def empty_ticks() -> bytes:
    """A file of ticks without rows whose prices are plain int64.

    Its footer begins as that of a file with decimals does, but for their annotation: through it the same pages are read as the
    int64s that they hold, which takes a tenth off the time of reading all columns.
    """
    plain = pa.schema([field.with_type(pa.int64()) if field.type == PRICE else field for field in STORED["ticks"]])
    sink = pa.BufferOutputStream()
    pq.ParquetWriter(sink, plain, store_schema=False).close()
    return bytes(sink.getvalue())


def to_stored(kind: str, columns: Mapping[str, pa.Array]) -> pa.RecordBatch:
    """Columns as the SQLite file has them (times int64 ns, prices int64 in 1e-9) to the kind's Parquet schema.

    Rejected: a value that the schema cannot hold exactly.
    """
    found = dict(columns)
    schema = STORED[kind]
    if "ts" in found:
        found |= _split_times(found)
    try:
        return pa.record_batch([_to_field(found[field.name], field) for field in schema], schema=schema)
    except pa.ArrowInvalid as error:
        raise Rejected(f"{kind}: a value is out of the range of its column: {error}") from error


def _split_times(columns: Mapping[str, pa.Array]) -> dict[str, pa.Array]:
    ts = int64s(columns["ts"])
    ms = ts // NS_PER_MS
    split = {"ts": wrapped(ms, _STORED_TIME), "ts_sub_ms": wrapped((ts - ms * NS_PER_MS).astype(np.int32), pa.int32())}
    if "recv_ts" in columns:
        received, valid = int64s(columns["recv_ts"]), is_valid(columns["recv_ts"])
        us = received // NS_PER_US
        if np.any((received != us * NS_PER_US) & valid):
            raise Rejected("a recv_ts is not in whole µs")
        split["recv_delay_us"] = wrapped(us - ts // NS_PER_US, pa.int64(), valid)
    return split


def _to_field(array: pa.Array, field: pa.Field) -> pa.Array:
    if field.type == PRICE and array.type == pa.int64():
        return to_decimal(array)
    return array if array.type == field.type else array.cast(field.type)


def to_decimal(prices: pa.Array) -> pa.Array:
    """int64 in 1e-9 to decimal128(18, 9). Rejected: 1e9 or more."""
    words, valid = int64s(prices), is_valid(prices)
    if np.any((np.abs(words) >= PRICE_MAX) & valid):
        raise Rejected("a price is not below 1e9")
    return wrapped(np.stack([words, words >> 63], axis=1), PRICE, valid)


def time_ns(stored: pa.Table) -> Int64s:
    """Each row's ts in ns; without ts_sub_ms, it is known to be 0."""
    ns = int64s(one_chunk(stored, "ts")) * NS_PER_MS
    if "ts_sub_ms" in stored.column_names:
        ns += int64s(one_chunk(stored, "ts_sub_ms"))
    return ns


def received_ns(stored: pa.Table, ts: Int64s) -> pa.Array:
    """Each row's recv_ts as timestamp[ns]; null for imports."""
    delay = one_chunk(stored, "recv_delay_us")
    whole_us = ts - ts % NS_PER_US if "ts_sub_ms" in stored.column_names else ts
    return wrapped(whole_us + int64s(delay) * NS_PER_US, TIME, is_valid(delay) if delay.null_count else None)


def from_stored(kind: str, table: pa.Table) -> dict[str, pa.Array]:
    """The columns of LOGICAL[kind]: what `to_stored` was given, with times as timestamp[ns] and prices as they were read."""
    columns = {}
    for name in LOGICAL[kind]:
        if name == "ts":
            columns[name] = wrapped(time_ns(table), TIME)
        elif name == "recv_ts" and kind != "quarantine":
            columns[name] = received_ns(table, int64s(columns["ts"]))
        else:
            columns[name] = one_chunk(table, name)
    return columns
