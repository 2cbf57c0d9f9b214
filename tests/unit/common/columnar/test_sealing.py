"""A sealed day holds what its day file held, in every field, and what came late for it."""

import hashlib
import sqlite3
import struct
import tempfile
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from columnar_days import (
    DAY,
    EVER,
    MIDNIGHT,
    NOW,
    SYMBOLS,
    closed_day,
    fetch,
    in_order,
    late_file,
    plain,
    stored_ticks,
    tick,
    ticks,
)  # fmt: skip
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from libs.common.domain.errors import Rejected
from libs.common.domain.moment import NS_PER_DAY
from libs.common.domain.record import Book, Gap, Quarantined, Trade
from libs.common.store import Batch, DayFile, Layout
from libs.common.store.columnar import Query, SealedReader, read_manifest, seal, sealed_days, verify
from libs.common.store.day import CONFLICT_REASON
from libs.common.store.schema import MIGRATIONS

few = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def everything(data_dir: Path) -> list[tuple]:
    with SealedReader(data_dir) as reader:
        return plain(reader.read(Query(SYMBOLS, *EVER)))


def table(data_dir: Path, kind: str) -> list[dict]:
    (path,) = data_dir.glob(f"ticks/columnar/*/*/{kind}_*.parquet")
    found = pq.read_table(path)
    return [dict(zip(found.column_names, row, strict=True)) for row in plain(found)]


def manifest_of(data_dir: Path):
    (paths,) = sealed_days(data_dir)
    return read_manifest(paths.manifest)


@few
@given(rows=ticks())
def test_every_field_of_every_tick_comes_back(rows) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = closed_day(Path(folder), *rows)
        assert seal(Path(folder), path, now=NOW, row_group_rows=16).changed
        assert everything(Path(folder)) == stored_ticks(path)
        assert verify(sealed_days(Path(folder))[0].manifest) == []


@few
@given(rows=ticks(), split=st.integers(0, 60), shared=st.integers(0, 10))
def test_a_late_file_is_merged_in_and_what_both_hold_counts_once(rows, split, shared) -> None:
    early, late = rows[:split], rows[max(0, split - shared) :]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        sealed = seal(folder, closed_day(folder, *early), late=late_file(folder, *late), now=NOW, row_group_rows=16)
        assert everything(folder) == in_order(rows)
        assert sealed.duplicates == len(early) + len(late) - len(rows)


def test_the_same_key_with_other_content_stays_as_it_was_and_the_other_goes_to_quarantine(tmp_path: Path) -> None:
    kept, other = tick(1), tick(1, bid=None)
    path = closed_day(tmp_path, tick(0), kept)
    seal(tmp_path, path, late=late_file(tmp_path, other, tick(2)), now=NOW)
    assert everything(tmp_path) == [tick(0), kept, tick(2)]
    (item,) = table(tmp_path, "quarantine")
    assert item["reason"] == CONFLICT_REASON
    assert item["raw"] == f"ticks {other!r}".encode()
    (line,) = table(tmp_path, "account")
    assert (line["stored"], line["duplicates"], line["quarantined"]) == (3, 0, 1)


def test_ticks_that_both_files_hold_are_duplicates_in_the_account(tmp_path: Path) -> None:
    seal(tmp_path, closed_day(tmp_path, tick(0), tick(1)), late=late_file(tmp_path, tick(1), tick(2)), now=NOW)
    (line,) = table(tmp_path, "account")
    assert (line["numbered"], line["stored"], line["duplicates"], line["quarantined"]) == (3, 3, 1, 0)


def test_a_merge_that_adds_nothing_changes_nothing(tmp_path: Path) -> None:
    path = closed_day(tmp_path, tick(0), tick(1))
    first = seal(tmp_path, path, now=NOW)
    before = sorted((tmp_path / "ticks/columnar").rglob("*"))
    again = seal(tmp_path, path, now=NOW + 1)
    assert (first.changed, again.changed, again.manifest) == (True, False, first.manifest)
    assert sorted((tmp_path / "ticks/columnar").rglob("*")) == before


def test_an_amended_day_is_a_new_generation_beside_the_old(tmp_path: Path) -> None:
    path = closed_day(tmp_path, tick(0))
    old = seal(tmp_path, path, now=NOW).manifest
    new = seal(tmp_path, path, late=late_file(tmp_path, tick(1)), now=NOW).manifest
    assert (old.generation, new.generation) == (1, 2)
    folder = sealed_days(tmp_path)[0].folder
    assert {file.name for file in old.files.values()} | {file.name for file in new.files.values()} <= {
        found.name for found in folder.iterdir()
    }
    assert new.files["ticks"].name == old.files["ticks"].name.replace(".parquet", ".g2.parquet")
    assert everything(tmp_path) == [tick(0), tick(1)]


def test_a_partition_keeps_its_name(tmp_path: Path) -> None:
    layout = Layout(tmp_path, 1, 2)
    file = DayFile(layout.day(DAY))
    file.write(Batch(ticks=[tick()]))
    file.close_day(NOW)
    manifest = seal(tmp_path, layout.day(DAY), now=NOW).manifest
    assert manifest.files["ticks"].name == "ticks_2024-10-04.p01.parquet"
    assert sealed_days(tmp_path)[0].manifest.name == "ticks_2024-10-04.p01.manifest.json"


def test_trades_books_gaps_quarantine_and_watermark_are_kept_beside(tmp_path: Path) -> None:
    trade = Trade("EUR/USD", "LP1", MIDNIGHT + 5, 0, MIDNIGHT + 1000, 1_085_000_001, None, "buy", "T'1")
    book = Book("EUR/USD", "LP1", MIDNIGHT, 0, MIDNIGHT, [(1_085_000_000, 1e6), (1_084_000_000, None)], [])
    gap = Gap("LP1", 4, 6, MIDNIGHT, None, "gap_fill", None)
    bad = Quarantined(MIDNIGHT + 1, "LP1", "LP1", "", "not a number", b"8=FIX\x00\xff", 0)
    day = closed_day(tmp_path, trades=[trade], books=[book], gaps=[gap], quarantined=[bad])
    late = Trade("EUR/USD", "LP1", MIDNIGHT + 5, 1, MIDNIGHT + 1000, 1, 2.5, None, None)
    ended = Gap("LP1", 4, 6, MIDNIGHT, MIDNIGHT + 9, "gap_fill", "resend")
    manifest = seal(tmp_path, day, late=late_file(tmp_path, trades=[trade, late], gaps=[ended]), now=NOW).manifest
    assert verify(sealed_days(tmp_path)[0].manifest) == []
    assert [(row["seq"], str(row["price"]), row["size"], row["trade_id"]) for row in table(tmp_path, "trades")] == [
        (0, "1.085000001", None, "T'1"),
        (1, "1E-9", 2.5, None),
    ]
    (depth,) = table(tmp_path, "books")
    assert [(str(level["price"]), level["size"]) for level in depth["bids"]] == [("1.085000000", 1e6), ("1.084000000", None)]
    assert depth["asks"] == []
    assert [row["resolved_by"] for row in table(tmp_path, "gaps")] == ["resend"]
    assert [(row["raw"], row["reason"]) for row in table(tmp_path, "quarantine")] == [(bad.raw, bad.reason)]
    assert manifest.watermark == {"LP1": 9}
    (summary,) = manifest.gaps
    assert (summary.count, summary.unresolved, summary.missing, summary.last) == (1, 0, 3, MIDNIGHT + 9)
    assert manifest.series == {}


def test_a_day_file_of_the_first_schema_is_sealed_too(tmp_path: Path) -> None:
    path = Layout(tmp_path).day(DAY)
    path.parent.mkdir(parents=True)
    connection = sqlite3.connect(path)
    connection.executescript(f"{MIGRATIONS[0]} PRAGMA user_version = 1;")
    connection.execute("INSERT INTO symbols VALUES (1, 'EUR/USD')")
    connection.execute("INSERT INTO providers VALUES (1, 'LP1')")
    connection.execute("INSERT INTO ticks VALUES (1, ?, 1, 0, ?, 5, 6, NULL, NULL, 0)", (MIDNIGHT, MIDNIGHT))
    connection.execute("INSERT INTO meta VALUES ('closed_at', ?)", (NOW,))
    connection.commit()
    connection.close()
    manifest = seal(tmp_path, path, now=NOW).manifest
    assert (manifest.schema_version, manifest.series["EUR/USD"][0].ticks) == (1, 1)


def test_an_empty_day_is_sealed_as_one(tmp_path: Path) -> None:
    manifest = seal(tmp_path, closed_day(tmp_path), now=NOW).manifest
    assert (manifest.files, manifest.series) == ({}, {})
    assert everything(tmp_path) == []


def test_an_open_day_is_refused(tmp_path: Path) -> None:
    path = Layout(tmp_path).day(DAY)
    file = DayFile(path)
    file.write(Batch(ticks=[tick()]))
    with pytest.raises(Rejected, match="not closed"):
        seal(tmp_path, path, now=NOW)
    file.close()


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (tick(ts=MIDNIGHT + NS_PER_DAY), "not of 2024-10-04"),
        (tick(recv_ts=MIDNIGHT + 1), "not in whole µs"),
        (tick(bid=10**18), "not below 1e9"),
        (tick(flags=2**40), "out of the range"),
    ],
)
def test_what_the_format_cannot_hold_is_refused_and_leaves_nothing(tmp_path: Path, row, reason) -> None:
    path = closed_day(tmp_path, tick(5), row)
    with pytest.raises(Rejected, match=reason):
        seal(tmp_path, path, now=NOW)
    assert [found for found in (tmp_path / "ticks/columnar").rglob("*") if found.is_file()] == []


def test_a_damaged_day_file_is_refused(tmp_path: Path) -> None:
    path = closed_day(tmp_path, *(tick(seq) for seq in range(2000)))
    content = bytearray(path.read_bytes())
    content[len(content) // 2 : len(content) // 2 + 4096] = bytes(4096)
    path.write_bytes(content)
    with pytest.raises(Rejected, match="damaged"):
        seal(tmp_path, path, now=NOW)


def test_the_digest_can_be_recomputed_from_its_description(tmp_path: Path) -> None:
    rows = [tick(0), tick(1, bid=None, flags=64), ("EUR/USD", "LP1", MIDNIGHT + 1, 2, None, 3, None, 0.5, None, 128)]
    path = closed_day(tmp_path, *rows)
    (series,) = seal(tmp_path, path, now=NOW).manifest.series["EUR/USD"]
    in_file = fetch(path, "SELECT ts, seq, bid, ask, bid_size, ask_size, recv_ts, flags FROM ticks ORDER BY ts, seq")
    digests = b""
    for values, size in zip(zip(*in_file, strict=True), (0, 0, 0, 0, 1, 1, 0, 0), strict=True):
        words = [
            struct.pack("<q", 2**63 - 1) if value is None else struct.pack("<d" if size else "<q", value) for value in values
        ]
        digests += hashlib.sha256(b"".join(words)).digest()
    assert series.digest == hashlib.sha256(digests).hexdigest()


@few
@given(rows=ticks(rows_max=40))
def test_the_content_digest_does_not_depend_on_the_layout_of_the_file(rows) -> None:
    found = []
    for row_group_rows in (3, 1000):
        with tempfile.TemporaryDirectory() as folder:
            path = closed_day(Path(folder), *rows)
            found.append(seal(Path(folder), path, now=NOW, row_group_rows=row_group_rows).manifest.content)
    assert found[0] == found[1]


def test_the_row_group_index_is_that_of_the_file(tmp_path: Path) -> None:
    rows = [tick(seq, ts=MIDNIGHT + seq * 10**9, symbol=symbol) for symbol in SYMBOLS for seq in range(100)]
    path = closed_day(tmp_path, *rows)
    seal(tmp_path, path, now=NOW, row_group_rows=32)
    manifest = manifest_of(tmp_path)
    file = pq.ParquetFile(sealed_days(tmp_path)[0].parquet("ticks", 1))
    for symbol, (series,) in manifest.series.items():
        assert [group.rows for group in series.row_groups] == [32, 32, 32, 4]
        for group in series.row_groups:
            found = file.read_row_group(group.index)
            assert found["symbol"].unique().to_pylist() == [symbol]
            assert (found.num_rows, found["ts"][0].value * 10**6, found["ts"][-1].value * 10**6) == (
                group.rows, group.first, group.last,
            )  # fmt: skip
