"""The lines of docs/formats.md, as they stand there: other programs read exact values from many days mixed in precision."""

import glob
import hashlib
import re
import shutil
import sqlite3
import struct
import subprocess
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pytest
from columnar_days import DAY, MIDNIGHT, NOW, closed_day, tick

from libs.common.domain.moment import NS_PER_DAY, NS_PER_S, parse_moment
from libs.common.store.columnar import read_manifest, seal, sealed_days
from libs.common.store.tiers import TierDay, compress_day, seal_day

PAGE = (Path(__file__).resolve().parents[4] / "docs" / "formats.md").read_text("utf-8")
PARQUET = "data/ticks/columnar/*/*/ticks_*.parquet"
ROWS = [
    tick(0, ts=MIDNIGHT + 1_000_000, bid=1_085_120_000, ask=1_085_130_000),  # five decimals, whole ms
    tick(0, ts=MIDNIGHT + NS_PER_DAY + 1_234_567, bid=1_085_120_001, ask=None, flags=64),  # nine decimals, ns, one-sided
    tick(0, ts=MIDNIGHT + NS_PER_DAY + 1_234_568, provider="LP0", bid=None, ask=2, flags=64),
    tick(0, ts=MIDNIGHT + 2 * NS_PER_DAY, bid=999_999_999_999_999_999, ask=1),
    tick(1, ts=MIDNIGHT + 2 * NS_PER_DAY, bid=1, ask=2, symbol="XAU/USD"),
]
EXPECTED = [
    (ts, provider, seq, *(None if price is None else Decimal(price).scaleb(-9) for price in (bid, ask)), flags)
    for symbol, provider, ts, seq, _, bid, ask, _, _, flags in ROWS
    if symbol == "EUR/USD"
]


def block(name: str) -> str:
    """What stands in the fence below a line."""
    (found,) = re.findall(rf"^{re.escape(name)}\n+```\w+\n(.*?)\n```", PAGE, re.MULTILINE | re.DOTALL)
    return found


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for day in range(3):
        rows = [row for row in ROWS if row[2] // NS_PER_DAY == DAY + day]
        seal(tmp_path / "data", closed_day(tmp_path / "data", *rows, day=DAY + day), now=NOW)
    return tmp_path / "data"


def test_duckdb(data: Path) -> None:
    duckdb = pytest.importorskip("duckdb", reason="duckdb is not installed")
    assert duckdb.sql(block("DuckDB")).fetchall() == EXPECTED


def test_polars(data: Path) -> None:
    polars = pytest.importorskip("polars", reason="polars is not installed")
    found = eval(block("Polars"), {"polars": polars})
    assert found.with_columns(polars.col("ts").to_physical()).rows() == EXPECTED


def test_pandas(data: Path) -> None:
    pandas = pytest.importorskip("pandas", reason="pandas is not installed")
    found = eval(block("pandas"), {"pandas": pandas, "glob": glob})
    found["ts"] = found["ts"].astype("int64")
    rows = [tuple(None if value is pandas.NA else value for value in row) for row in found.itertuples(index=False)]
    assert rows == EXPECTED


def test_clickhouse(data: Path) -> None:
    chdb = pytest.importorskip("chdb", reason="chdb is not installed: pip install '.[peers]'")
    found = str(chdb.query(block("ClickHouse").replace("'data/", f"'{data}/") + " FORMAT TSV"))
    rows = [line.split("\t") for line in found.splitlines()]
    assert [
        (
            parse_moment(ts + "Z"),
            provider,
            int(seq),
            *(None if text == "\\N" else Decimal(text) for text in (bid, ask)),
            int(flags),
        )
        for ts, provider, seq, bid, ask, flags in rows
    ] == EXPECTED


def test_pyarrow_as_a_dataset(data: Path) -> None:
    dataset = pytest.importorskip("pyarrow.dataset")
    table = dataset.dataset(sorted(map(str, Path().glob(PARQUET)))).to_table()
    assert table["bid"].to_pylist()[-1] == Decimal("1E-9")
    assert table["ts"][0].as_py() == datetime.fromtimestamp(MIDNIGHT // NS_PER_S, UTC).replace(microsecond=1000)


def test_the_digest_can_be_taken_without_this_code(data: Path) -> None:
    assert len(sealed_days(data)) == 3
    for paths in sealed_days(data):
        for symbol, found in read_manifest(paths.manifest).series.items():
            for one in found:
                rows = [
                    (ts, seq, bid, ask, bid_size, ask_size, recv_ts, flags)
                    for name, provider, ts, seq, recv_ts, bid, ask, bid_size, ask_size, flags in ROWS
                    if (name, provider) == (symbol, one.provider) and one.first <= ts <= one.last
                ]
                names = {"hashlib": hashlib, "struct": struct, "rows": rows}
                assert eval(block_with("hashlib"), names) == one.digest


def block_with(word: str) -> str:
    (found,) = (text for text in re.findall(r"^```python\n(.*?)\n```", PAGE, re.MULTILINE | re.DOTALL) if word in text)
    return found


@pytest.mark.parametrize("packed", [False, True])
def test_sqlite(data: Path, packed: bool) -> None:
    path = data / "ticks/db/2024/10/ticks_2024-10-05.db"
    assert path.exists()
    if packed:
        if shutil.which("zstd") is None:
            pytest.skip("no zstd command here")
        day = TierDay(DAY + 1, "", data)
        seal_day(day, NOW)
        compress_day(day)
        assert not path.exists()
        (command,) = re.findall(r"^(zstd -d .*) && ", PAGE, re.MULTILINE)
        command = command.replace("2026/11/ticks_2026-11-02", "2024/10/ticks_2024-10-05")
        subprocess.run(command, shell=True, check=True)
        path = Path("day.db")
    (query,) = (text for text in re.findall(r"^```sql\n(.*?)\n```", PAGE, re.MULTILINE | re.DOTALL) if "JOIN" in text)
    connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    found = connection.execute(query).fetchall()
    assert connection.execute("SELECT count(*) FROM quotes").fetchone() == (2,)
    connection.close()
    assert found == [(row[2], row[1], row[3], *row[4:]) for row in ROWS[1:3]]


def test_checksums_of_manifests_are_where_the_page_says(data: Path) -> None:
    for paths in sealed_days(data):
        content = paths.manifest.read_bytes()
        assert content[:77] == b'{"sha256":"' + hashlib.sha256(content[77:]).hexdigest().encode() + b'",'
