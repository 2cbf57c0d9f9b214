"""Cold storage on an S3 endpoint: the same promises as in a folder."""

from pathlib import Path

import obstore.store
import pytest

from libs.common.domain.errors import Rejected, Retryable
from libs.common.store.tiers import (
    ColdStorage,
    Retention,
    amend_day,
    archive_day,
    compress_day,
    plain_day,
    retain_day,
    seal_day,
    state_of,
    verify_all,
)
from libs.common.testing.redis_server import free_port
from tests.unit.lifecycle.days import DAY, NOW, closed_day, late_ticks, rows_of, ticks_of


@pytest.fixture
def s3(bucket: str) -> ColdStorage:
    return ColdStorage(f"{bucket}/tickvault/eu")


def put(name: str, content: bytes) -> None:
    """As somebody else could."""
    store = obstore.store.S3Store.from_url("s3://bucket/tickvault/eu", client_options={"allow_http": True})
    obstore.put(store, name, content)


def test_a_day_goes_there_comes_back_is_amended_and_deleted(data: Path, s3: ColdStorage) -> None:
    day = closed_day(data)
    written = rows_of(day.db)
    seal_day(day, NOW)
    compress_day(day)
    archive_day(day, s3)
    assert state_of(data, DAY) == "archived"
    assert rows_of(plain_day(day, s3)) == written
    late_ticks(day)
    amend_day(day, day.late, NOW, s3)
    compress_day(day)
    archive_day(day, s3)
    assert len(ticks_of(data)) == 110
    assert verify_all(data, s3).problems == []
    assert {name.rpartition(".g2.")[1] for name in s3.names(day)} == {"", ".g2."}
    retain_day(day, Retention(days=184), 200, NOW, s3)
    assert s3.names(day) == []


def test_a_name_is_written_once(data: Path, s3: ColdStorage) -> None:
    day = closed_day(data)
    seal_day(day, NOW)
    compress_day(day)
    put("2024/10/ticks_2024-10-04.db.zst", b"other content")
    with pytest.raises(Rejected, match="other content"):
        archive_day(day, s3)
    assert day.zst.exists()


def test_an_object_that_is_another_is_found_and_named(data: Path, s3: ColdStorage) -> None:
    day = closed_day(data)
    seal_day(day, NOW)
    compress_day(day)
    archive_day(day, s3)
    put("2024/10/ticks_2024-10-04.db.zst", b"rotten")
    (problem,) = verify_all(data, s3).problems
    assert str(problem.path) == "2024/10/ticks_2024-10-04.db.zst"
    assert "s3://bucket/tickvault/eu" in problem.problem


def test_an_endpoint_that_is_away_is_retryable_and_nothing_is_deleted(
    data: Path, monkeypatch: pytest.MonkeyPatch, s3: ColdStorage
) -> None:
    day = closed_day(data)
    seal_day(day, NOW)
    compress_day(day)
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{free_port()}")
    with pytest.raises(Retryable, match="cold storage s3://bucket/tickvault/eu"):
        archive_day(day, ColdStorage("s3://bucket/tickvault/eu"))
    assert day.zst.exists()
