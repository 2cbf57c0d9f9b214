"""The one-liners that docs promise: other programs read exact values from many days mixed in precision."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest
from columnar_days import DAY, MIDNIGHT, NOW, closed_day, tick

from libs.common.domain.moment import NS_PER_DAY
from libs.common.store.columnar import seal

ROWS = [
    tick(0, ts=MIDNIGHT + 1_000_000, bid=1_085_120_000, ask=1_085_130_000),  # five decimals, whole ms
    tick(0, ts=MIDNIGHT + NS_PER_DAY + 1_234_567, bid=1_085_120_001, ask=None, flags=64),  # nine decimals, ns, one-sided
    tick(0, ts=MIDNIGHT + 2 * NS_PER_DAY, bid=999_999_999_999_999_999, ask=1),
]
BID = [Decimal("1.085120000"), Decimal("1.085120001"), Decimal("999999999.999999999")]
ASK = [Decimal("1.085130000"), None, Decimal("0.000000001")]
TS = [row[2] for row in ROWS]
COUNTED = (sum(BID), 64)


@pytest.fixture
def files(tmp_path: Path) -> str:
    for number, row in enumerate(ROWS):
        seal(tmp_path, closed_day(tmp_path, row, day=DAY + number), now=NOW)
    return str(tmp_path / "ticks/columnar/*/*/ticks_*.parquet")


def test_duckdb(files: str) -> None:
    duckdb = pytest.importorskip("duckdb")
    found = duckdb.sql(f"SELECT epoch_ns(ts) + ts_sub_ms, bid, ask FROM '{files}' ORDER BY ts, ts_sub_ms").fetchall()
    assert found == list(zip(TS, BID, ASK, strict=True))
    (total,) = duckdb.sql(f"SELECT sum(bid), sum(flags) FROM '{files}' WHERE symbol = 'EUR/USD'").fetchall()
    assert total == COUNTED


def test_polars(files: str) -> None:
    polars = pytest.importorskip("polars")
    column = polars.col
    found = (
        polars.scan_parquet(files)
        .filter(column("symbol") == "EUR/USD")
        .sort("ts", "provider", "seq")
        .select((column("ts").dt.cast_time_unit("ns").to_physical() + column("ts_sub_ms")).alias("ns"), "bid", "ask")
        .collect()
    )
    assert found.rows() == list(zip(TS, BID, ASK, strict=True))


def test_pandas(files: str) -> None:
    pandas = pytest.importorskip("pandas")
    folder = Path(files).parents[2]
    paths = sorted(folder.glob("*/*/ticks_*.parquet"))
    found = pandas.concat(map(pandas.read_parquet, paths))
    assert found["bid"].tolist() == BID
    assert found["ask"].tolist()[::2] == ASK[::2]
    times = (found["ts"].astype("datetime64[ns, UTC]") + pandas.to_timedelta(found["ts_sub_ms"], unit="ns")).astype("int64")
    assert times.tolist() == TS


def test_pyarrow_as_a_dataset(files: str) -> None:
    dataset = pytest.importorskip("pyarrow.dataset")
    paths = sorted(map(str, Path(files).parents[2].glob("*/*/ticks_*.parquet")))
    table = dataset.dataset(paths).to_table()
    assert (table["bid"].to_pylist(), table["ask"].to_pylist()) == (BID, ASK)
    assert table["ts"][0].as_py() == datetime.fromtimestamp(MIDNIGHT // 10**9, UTC) + timedelta(milliseconds=1)


def test_clickhouse(files: str) -> None:
    chdb = pytest.importorskip("chdb")
    query = f"""SELECT toUnixTimestamp64Milli(ts) * 1000000 + ts_sub_ms AS at, bid, ask
        FROM file('{files}') ORDER BY at FORMAT TSV"""
    rows = [line.split("\t") for line in str(chdb.query(query)).splitlines()]
    assert [int(ts) for ts, _, _ in rows] == TS
    assert [Decimal(bid) for _, bid, _ in rows] == BID
    assert [None if ask == "\\N" else Decimal(ask) for _, _, ask in rows] == ASK
