"""A day file as kill -9 may leave it: the writer that starts next takes it up."""

import os
import sqlite3
import subprocess
import sys
from pathlib import Path

from libs.common.domain.moment import NS_PER_DAY
from libs.common.store import Batch, DayFile, Written
from libs.common.store.day import durable_positions, is_closed

TICK = ("EUR/USD", "LP1", NS_PER_DAY, 0, NS_PER_DAY, 1_085_120_000, 1_085_200_000, 1e6, None, 0)
DIE_WHILE_CLOSING = """
import os, sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("PRAGMA journal_mode = DELETE")
connection.execute("PRAGMA cache_size = 1")
connection.execute("BEGIN IMMEDIATE")
connection.executemany("INSERT INTO meta VALUES (?, ?)", [(f"key {number}", "x" * 3000) for number in range(100)])
os.kill(os.getpid(), 9)
"""


def test_a_file_without_tables_is_open_and_has_no_watermark(tmp_path: Path) -> None:
    path = tmp_path / "day.db"
    sqlite3.connect(path).close()
    assert durable_positions([path]) == {}
    assert not is_closed(path)
    file = DayFile(path)
    assert file.write(Batch(ticks=[TICK])) == Written(stored=1)
    file.close()


def test_a_crash_while_a_day_is_closed_leaves_an_open_day_with_all_it_had(tmp_path: Path) -> None:
    path = tmp_path / "day.db"
    file = DayFile(path)
    file.write(Batch(ticks=[TICK], watermarks={"LP1": 7}))
    file.close()
    subprocess.run([sys.executable, "-c", DIE_WHILE_CLOSING, str(path)], check=False, env=dict(os.environ))
    assert path.with_name("day.db-journal").exists()
    assert not is_closed(path)
    assert durable_positions([path]) == {"LP1": 7}
