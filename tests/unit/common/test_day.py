"""A day file: exactly once by identity, durable together with its watermark."""

import contextlib
import shutil
import sqlite3
import subprocess
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from libs.common.domain.errors import Rejected, Retryable
from libs.common.domain.moment import NS_PER_DAY
from libs.common.domain.record import Gap, Quarantined
from libs.common.store import Batch, DayFile, Written
from libs.common.store.compression import compress_file, read_compressed
from libs.common.store.day import CONFLICT_REASON, durable_positions, is_closed
from libs.common.store.schema import SCHEMA_VERSION

T0 = 20_000 * NS_PER_DAY


def tick(seq: int, *, symbol: str = "EUR/USD", ts: int | None = None, bid: int | None = 1_085_120_000, flags: int = 0) -> tuple:
    at = T0 + seq * 1000 if ts is None else ts
    return (symbol, "LP1", at, seq, at + 1000, bid, 1_085_200_000, 1e6, None, flags)


def rows(path: Path, sql: str) -> list[tuple]:
    with sqlite3.connect(path) as connection:
        found = connection.execute(sql).fetchall()
    connection.close()
    return found


def test_ticks_are_stored_field_by_field(tmp_path: Path) -> None:
    file = DayFile(tmp_path / "day.db")
    ticks = [tick(0), tick(1, symbol="XAU/USD", bid=None, flags=64), tick(1)]
    assert file.write(Batch(ticks=list(ticks))) == Written(stored=3)
    file.close()
    stored = rows(
        tmp_path / "day.db",
        "SELECT symbol, provider, ts, seq, recv_ts, bid, ask, bid_size, ask_size, flags FROM ticks"
        " JOIN symbols USING (symbol_id) JOIN providers USING (provider_id)",
    )
    assert sorted(stored, key=repr) == sorted(ticks, key=repr)


def test_equal_quotes_in_one_instant_are_two_ticks(tmp_path: Path) -> None:
    file = DayFile(tmp_path / "day.db")
    assert file.write(Batch(ticks=[tick(0, ts=T0), tick(1, ts=T0)])).stored == 2
    file.close()


def test_what_arrives_again_is_counted_as_duplicate_and_stored_once(tmp_path: Path) -> None:
    file = DayFile(tmp_path / "day.db")
    file.write(Batch(ticks=[tick(0), tick(1)]))
    assert file.write(Batch(ticks=[tick(1), tick(2)])) == Written(stored=1, duplicates=1)
    file.close()
    assert rows(tmp_path / "day.db", "SELECT numbered, stored, duplicates, quarantined FROM account") == [(3, 3, 1, 0)]


def test_a_redelivery_of_our_own_is_no_duplicate(tmp_path: Path) -> None:
    file = DayFile(tmp_path / "day.db")
    file.write(Batch(ticks=[tick(0), tick(1)]))
    assert file.write(Batch(redelivered=[tick(1), tick(2)])) == Written(stored=1)
    file.close()
    assert rows(tmp_path / "day.db", "SELECT numbered, stored, duplicates, quarantined FROM account") == [(3, 3, 0, 0)]


def test_the_same_key_with_other_content_is_quarantined_and_the_first_stays(tmp_path: Path) -> None:
    file = DayFile(tmp_path / "day.db")
    file.write(Batch(ticks=[tick(0)]))
    assert file.write(Batch(ticks=[tick(0, bid=1)])) == Written(quarantined=1)
    assert file.write(Batch(ticks=[tick(0, bid=1)])) == Written()
    file.close()
    assert rows(tmp_path / "day.db", "SELECT bid FROM ticks") == [(1_085_120_000,)]
    assert rows(tmp_path / "day.db", "SELECT reason FROM quarantine") == [(CONFLICT_REASON,)]


def test_a_tick_that_is_missing_shows_in_the_account(tmp_path: Path) -> None:
    file = DayFile(tmp_path / "day.db")
    file.write(Batch(ticks=[tick(0), tick(2)]))
    file.close()
    assert rows(tmp_path / "day.db", "SELECT numbered - stored FROM account") == [(1,)]


def test_a_gap_is_updated_when_it_is_resolved_and_never_doubled(tmp_path: Path) -> None:
    file = DayFile(tmp_path / "day.db")
    file.write(Batch(gaps=[Gap("LP1", None, None, T0, None, "disconnect", None)]))
    file.write(Batch(gaps=[Gap("LP1", None, None, T0, T0 + 5, "disconnect", "snapshot")]))
    file.close()
    assert rows(tmp_path / "day.db", "SELECT to_ts, resolved_by FROM gaps") == [(T0 + 5, "snapshot")]


def test_a_quarantine_item_is_kept_once(tmp_path: Path) -> None:
    file = DayFile(tmp_path / "day.db")
    item = Quarantined(T0, "LP1", "LP1", "", "garbled", b"\xff", 1)
    assert file.write(Batch(quarantined=[item, item])).quarantined == 1
    assert file.write(Batch(quarantined=[item])).quarantined == 0
    file.close()


def test_the_watermark_is_committed_with_the_rows_and_never_falls(tmp_path: Path) -> None:
    file = DayFile(tmp_path / "day.db")
    file.write(Batch(ticks=[tick(0)], watermarks={"LP1": 100}))
    file.write(Batch(watermarks={"LP1": 50, "LP2": 7}))
    file.close()
    assert durable_positions([tmp_path / "day.db"]) == {"LP1": 100, "LP2": 7}


def test_a_closed_day_has_left_wal_mode_and_says_so(tmp_path: Path) -> None:
    path = tmp_path / "day.db"
    file = DayFile(path)
    file.write(Batch(ticks=[tick(0)], watermarks={"LP1": 1}))
    assert not is_closed(path)
    file.close_day(T0)
    assert is_closed(path)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["day.db"]
    assert rows(path, "PRAGMA journal_mode") == [("delete",)]


def test_a_day_that_a_reader_holds_is_closed_later(tmp_path: Path) -> None:
    path = tmp_path / "day.db"
    file = DayFile(path)
    file.write(Batch(ticks=[tick(0)]))
    reader = sqlite3.connect(path)
    reader.execute("BEGIN")
    reader.execute("SELECT * FROM ticks").fetchone()
    file._connection.execute("PRAGMA busy_timeout = 1")
    with pytest.raises(Retryable):
        file.close_day(T0)
    assert file.write(Batch(ticks=[tick(1)])).stored == 1
    reader.close()
    file.close_day(T0)
    assert is_closed(path)


def test_a_full_disk_is_retryable_and_the_batch_goes_in_when_there_is_room(tmp_path: Path) -> None:
    mount = tmp_path / "small"
    mount.mkdir()
    if (
        shutil.which("mount") is None
        or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", mount], check=False).returncode
    ):
        pytest.skip("needs root and mount(8) for a small tmpfs")
    try:
        file = DayFile(mount / "day.db")
        file.write(Batch(ticks=[tick(0)], watermarks={"LP1": 1}))
        filler = mount / "filler"
        with filler.open("wb", buffering=0) as handle, contextlib.suppress(OSError):
            while handle.write(bytes(65_536)):
                pass
        batch = Batch(ticks=[tick(seq, symbol="XAU/USD") for seq in range(5000)], watermarks={"LP1": 2})
        for _ in range(2):
            with pytest.raises(Retryable, match="full"):
                file.write(batch)
        filler.unlink()
        assert file.write(batch).stored == 5000
        file.close()
        assert durable_positions([mount / "day.db"]) == {"LP1": 2}
    finally:
        subprocess.run(["umount", mount], check=True)


def test_a_file_of_a_newer_program_is_rejected(tmp_path: Path) -> None:
    DayFile(tmp_path / "day.db").close()
    with sqlite3.connect(tmp_path / "day.db") as connection:
        connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    connection.close()
    with pytest.raises(Rejected, match="upgrade"):
        DayFile(tmp_path / "day.db")


def test_a_damaged_file_is_rejected_with_its_name(tmp_path: Path) -> None:
    (tmp_path / "day.db").write_bytes(b"not a database" * 1000)
    with pytest.raises(Rejected, match=r"day\.db is damaged"):
        DayFile(tmp_path / "day.db")


def test_the_quotes_view_reads_in_plain_sql(tmp_path: Path) -> None:
    file = DayFile(tmp_path / "day.db")
    file.write(Batch(ticks=[tick(0, ts=T0 + 123_456_789)]))
    file.close()
    (row,) = rows(tmp_path / "day.db", "SELECT * FROM quotes")
    assert row[:5] == ("2024-10-04T00:00:00.123456789Z", "EUR/USD", "LP1", 1.08512, 1.0852)


deliveries = st.lists(st.lists(st.integers(0, 30), max_size=8), max_size=12)


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(deliveries, st.booleans())
def test_any_order_of_redelivery_stores_each_tick_once(tmp_path: Path, batches: list[list[int]], redelivered: bool) -> None:
    path = tmp_path / "day.db"
    path.unlink(missing_ok=True)
    file = DayFile(path)
    written = Written()
    for batch in batches:
        ticks = [tick(seq) for seq in batch]
        written += file.write(Batch(redelivered=ticks) if redelivered else Batch(ticks=ticks))
    file.close()
    distinct = {seq for batch in batches for seq in batch}
    assert {seq for (seq,) in rows(path, "SELECT seq FROM ticks")} == distinct
    assert written.stored == len(distinct)
    assert written.duplicates == (0 if redelivered else sum(map(len, batches)) - len(distinct))


@given(st.binary(max_size=2000), st.data())
@settings(deadline=None, max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_compressed_file_reads_back_or_is_found_damaged(tmp_path: Path, plain: bytes, data: st.DataObject) -> None:
    source, packed = tmp_path / "plain", tmp_path / "packed.zst"
    source.write_bytes(plain)
    compress_file(source, packed)
    assert read_compressed(packed) == plain
    damaged = bytearray(packed.read_bytes())
    if data.draw(st.booleans(), "cut"):
        del damaged[data.draw(st.integers(0, len(damaged) - 1), "at") :]
    else:
        damaged[data.draw(st.integers(0, len(damaged) - 1), "byte")] ^= 1 << data.draw(st.integers(0, 7), "bit")
    packed.write_bytes(damaged)
    with contextlib.suppress(Rejected):
        assert read_compressed(packed) == plain  # a flipped bit that means nothing
