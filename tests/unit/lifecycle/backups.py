"""A store with a day in each state, places for backups of it, and what a restored store is compared by."""

import sqlite3
from pathlib import Path

from libs.common.store import Batch, DayFile
from libs.common.store.backup import BackupStorage
from libs.common.store.columnar import read_manifest
from libs.common.store.layout import journal_dir
from libs.common.store.tiers import ColdStorage, TierDay, archive_day, compress_day, seal_day, tier_days
from tests.unit.lifecycle.days import DAY, NOW, batch, closed_day, late_ticks, rows_of, tier_day, write

OPEN = DAY + 5


def full_store(data: Path, cold: ColdStorage) -> None:
    """Archived, compressed, sealed with a late file, sealed, closed, open; and two journal segments."""
    for day in range(DAY, OPEN):
        closed_day(data, day)
    days = tier_days(data)
    for day in days[:4]:
        seal_day(day, NOW)
    for day in days[:2]:
        compress_day(day)
    archive_day(days[0], cold)
    late_ticks(days[2])
    write(tier_day(data, OPEN).db, batch(day=OPEN, first=5_000))
    for name in ("00000000000000000100.journal.zst", "00000000000000004000.journal", "00000000000000009000.journal"):
        segment(data, name)


def segment(data: Path, name: str, content: bytes = b"TVJ1\n") -> Path:
    path = journal_dir(data) / "LP1" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content + name.encode())
    return path


def content_of(data: Path) -> dict[str, object]:
    """Every row of every file, by its name; the bytes of what has no rows."""
    found: dict[str, object] = {}
    for path in sorted(path for path in data.rglob("*") if path.is_file()):
        name = path.relative_to(data).as_posix()
        if name.startswith("ticks/scratch/"):
            continue
        if path.suffix in {".db", ".taken"}:
            found[name] = (rows_of(path), meta_of(path))
        elif not name.endswith((".lock", "-wal", "-shm")):
            found[name] = path.read_bytes()
    return found


def meta_of(path: Path) -> list[tuple]:
    connection = sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)
    found = [connection.execute(f"SELECT * FROM {table} ORDER BY 1").fetchall() for table in ("meta", "watermark")]
    connection.close()
    return found


def amended(day: TierDay) -> int:
    return read_manifest(day.manifest).generation


def some_ticks(day: TierDay, first: int, count: int = 10, **own: object) -> None:
    file = DayFile(day.db)
    file.write(Batch(ticks=batch(count, first, day=day.day).ticks, watermarks={"LP1": first}, **own))
    file.close()


def place(tmp_path: Path) -> BackupStorage:
    return BackupStorage((tmp_path / "backups").as_uri())
