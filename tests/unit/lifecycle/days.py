"""Closed days as persistence leaves them, and what they hold."""

import sqlite3
from pathlib import Path

from libs.common.domain.moment import NS_PER_DAY
from libs.common.domain.record import Book, Gap, Quarantined, Trade
from libs.common.store import Batch, DayFile
from libs.common.store.columnar import Query, SealedReader
from libs.common.store.layout import Layout
from libs.common.store.tiers import TierDay

DAY = 20_000  # 2024-10-04
NOW = (DAY + 400) * NS_PER_DAY
EUR, XAU = "EUR/USD", "XAU/USD"


def tick(seq: int, symbol: str = EUR, provider: str = "LP1", *, day: int = DAY, bid: int | None = 1_085_120_000) -> tuple:
    ts = day * NS_PER_DAY + seq * 1_000_000_123 + len(symbol)
    return (symbol, provider, ts, seq, ts // 1000 * 1000 + 5_000, bid, 1_085_200_001, 1e6, None, 64 if bid is None else 0)


def batch(count: int = 50, first: int = 0, symbols: tuple[str, ...] = (EUR, XAU), day: int = DAY) -> Batch:
    """One of everything."""
    at = day * NS_PER_DAY + first
    return Batch(
        ticks=[
            tick(seq, symbol, day=day, bid=None if seq == 3 else 1_085_120_000 + seq)
            for symbol in symbols
            for seq in range(first, first + count)
        ],
        trades=[Trade(symbols[0], "LP1", at + 7, first, at // 1000 * 1000, 1_085_000_000, None, "buy", "T1")],
        books=[Book(symbols[-1], "LP1", at + 9, first, at // 1000 * 1000, [(5, 1.0), (4, None)], [(6, 2.5)])],
        gaps=[Gap("LP1", first, first + 1, at, None, "reset", None)],
        quarantined=[Quarantined(at, "LP1", "LP1", symbols[0], "not a number", b"8=FIX\x01", first)],
        watermarks={"LP1": 1_000 + first},
    )


def write(path: Path, rows: Batch, *, closed: Path | None = None) -> None:
    file = DayFile(path, closed=closed)
    file.write(rows)
    file.close()


def closed_day(
    data_dir: Path, day: int = DAY, partition: int | None = None, rows: Batch | None = None, closed_at: int | None = None
) -> TierDay:
    found = tier_day(data_dir, day, partition)
    file = DayFile(found.db)
    file.write(rows or batch(day=day))
    file.close_day(closed_at or day * NS_PER_DAY + NS_PER_DAY + 1)
    return found


def late_ticks(day: TierDay, rows: Batch | None = None) -> None:
    """As persistence writes them when it knows that the day is closed."""
    write(day.late, rows or batch(5, first=1_000, day=day.day), closed=day.db if day.db.exists() else None)


def tier_day(data_dir: Path, day: int = DAY, partition: int | None = None) -> TierDay:
    return TierDay(day, "" if partition is None else f".p{partition:02d}", data_dir)


def ticks_of(data_dir: Path, day: int = DAY, symbols: tuple[str, ...] = (EUR, XAU)) -> list[tuple]:
    """What readers of sealed days see."""
    with SealedReader(data_dir) as reader:
        rows = []
        for symbol in symbols:
            query = Query((symbol,), day * NS_PER_DAY, (day + 1) * NS_PER_DAY)
            for found in reader.read(query):
                columns = found.to_pydict()
                rows += list(zip(*(columns[name] for name in ("symbol", "provider", "ts", "seq", "bid", "ask")), strict=True))
        return rows


def rows_of(path: Path) -> dict[str, list[tuple]]:
    """All rows of a SQLite file, names in the place of ids."""
    connection = sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)
    keyed = "SELECT symbol, provider, t.* FROM {} t JOIN symbols USING (symbol_id) JOIN providers USING (provider_id)"
    found = {}
    for table in ("ticks", "trades", "books"):
        rows = connection.execute(keyed.format(table)).fetchall()
        found[table] = sorted((row[0], row[1], row[3], *row[5:]) for row in rows)
    for table in ("gaps", "quarantine", "account"):
        found[table] = sorted(connection.execute(f"SELECT * FROM {table}").fetchall(), key=repr)
    connection.close()
    return found


def flip(path: Path, at: float = 0.5) -> None:
    """One bit, somewhere in the file."""
    content = bytearray(path.read_bytes())
    content[int(len(content) * at)] ^= 4
    path.chmod(0o644)
    path.write_bytes(content)


def layout(day: TierDay) -> Layout:
    return Layout.of(day.data_dir, day.partition)
