"""The ticks of a SQLite file, open or closed, as the digest of each symbol and provider that a sealed day's manifest has."""

from pathlib import Path

import msgspec
import pyarrow as pa

from libs.common.store.columnar.checks import SERIES_COLUMNS
from libs.common.store.columnar.digest import Digest
from libs.common.store.columnar.schema import sqlite_type
from libs.common.store.tiers.database import opened

_ROWS = 65_536
_NAMES = """SELECT s.symbol_id, s.symbol, p.provider_id, p.provider FROM symbols s, providers p
    WHERE p.provider_id IN (SELECT DISTINCT provider_id FROM ticks t WHERE t.symbol_id = s.symbol_id)
    ORDER BY s.symbol, p.provider"""
# + keeps SQLite to the order of the key, which is that of (ts, seq) within one provider
_SELECT = f"SELECT {', '.join(SERIES_COLUMNS)} FROM ticks WHERE symbol_id = ? AND +provider_id = ? ORDER BY ts, provider_id, seq"  # noqa: S608


class Series(msgspec.Struct, frozen=True, array_like=True):
    symbol: str
    provider: str
    ticks: int
    digest: str


def series_of(path: Path) -> list[Series]:
    """By (symbol, provider). Damaged: SQLite cannot read it. Retryable: it is locked."""
    found = []
    with opened(path) as connection:
        if not connection.execute("PRAGMA user_version").fetchone()[0]:
            return []  # a crash came before the file had its tables
        for symbol_id, symbol, provider_id, provider in connection.execute(_NAMES).fetchall():
            digest, ticks = Digest(), 0
            cursor = connection.execute(_SELECT, (symbol_id, provider_id))
            while rows := cursor.fetchmany(_ROWS):
                columns = zip(*rows, strict=True)
                digest.update(pa.array(values, sqlite_type(name)) for name, values in zip(SERIES_COLUMNS, columns, strict=True))
                ticks += len(rows)
            found.append(Series(symbol, provider, ticks, digest.hexdigest()))
    return found
