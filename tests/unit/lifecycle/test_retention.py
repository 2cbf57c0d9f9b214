"""What is deleted, when, and what nothing deletes."""

import json
from pathlib import Path

import pytest

from libs.common.domain.errors import Rejected
from libs.common.store.columnar import read_manifest
from libs.common.store.tiers import (
    ColdStorage,
    Done,
    Retention,
    TierDay,
    archive_day,
    compress_day,
    plain_day,
    read_receipt,
    read_retention,
    retain_day,
    seal_day,
    sweep,
    tier_days,
    verify_all,
)
from libs.common.store.tiers.retain import Hold
from tests.unit.lifecycle.days import DAY, EUR, NOW, XAU, closed_day, rows_of, ticks_of


def archived(data: Path, cold: ColdStorage | None, day: int = DAY) -> TierDay:
    found = closed_day(data, day)
    seal_day(found, NOW)
    compress_day(found)
    if cold is not None:
        archive_day(found, cold)
    return found


def retain(day: TierDay, retention: Retention, age: int, cold: ColdStorage | None, *, dry_run: bool = False) -> Done | None:
    return retain_day(day, retention, age, NOW, cold, dry_run=dry_run)


def test_a_day_is_kept_up_to_its_age_and_then_goes_from_every_tier(data: Path, cold: ColdStorage) -> None:
    day = archived(data, cold)
    assert retain(day, Retention(days=184), 184, cold) is None
    listed = retain(day, Retention(days=184), 185, cold, dry_run=True)
    assert listed is not None
    assert len(ticks_of(data)) == 100
    done = retain(day, Retention(days=184), 185, cold)
    assert done is not None
    assert done.deleted == listed.deleted
    assert done.ticks == 100
    assert cold.names(day) == []
    assert day.files() == []
    assert tier_days(data) == []
    assert ticks_of(data) == []


def test_a_symbol_that_is_kept_longer_stays_alone_as_a_new_generation(data: Path, cold: ColdStorage) -> None:
    day = archived(data, cold)
    eur = ticks_of(data, symbols=(EUR,))
    retention = Retention(days=184, symbols={EUR: 2_557})
    listed = retain(day, retention, 185, cold, dry_run=True)
    assert listed is not None
    assert [(change.symbol, change.before, change.after) for change in listed.changed] == [(XAU, 50, 0)]
    done = retain(day, retention, 185, cold)
    assert done is not None
    assert done.changed == listed.changed
    assert done.generation == 2
    assert ticks_of(data) == eur
    compress_day(day)
    archive_day(day, cold)
    assert {name for name in cold.names(day) if ".g2." not in name}, "the earlier generation goes when the new one is there"
    assert retain(day, retention, 186, cold) is not None
    assert {name for name in cold.names(day) if ".g2." not in name} == set()
    assert retain(day, retention, 187, cold) is None
    sweep(data, day.manifest.stat().st_mtime_ns + 1, 0)
    plain = plain_day(day, cold)
    assert {row[0] for row in rows_of(plain)["ticks"]} == {EUR}
    assert XAU.encode() not in plain.read_bytes()
    assert {path.name for path in day.parquet()} == {file.name for file in read_manifest(day.manifest).files.values()}
    assert verify_all(data, cold).problems == []
    assert retain(day, retention, 2_558, cold) is not None
    assert tier_days(data) == []


def test_a_symbol_that_is_kept_for_less_goes_first(data: Path) -> None:
    day = archived(data, None)
    done = retain(day, Retention(days=184, symbols={XAU: 30}), 31, None)
    assert done is not None
    assert {row[0] for row in ticks_of(data)} == {EUR}


@pytest.mark.parametrize(
    ("hold", "kept"),
    [
        (Hold(reason="all"), {EUR, XAU}),
        (Hold(reason="these days", first="2024-10-04", last="2024-10-04"), {EUR, XAU}),
        (Hold(reason="since", first="2024-10-05"), set()),
        (Hold(reason="until", last="2024-10-03"), set()),
        (Hold(reason="one symbol", symbols=(XAU,)), {XAU}),
    ],
)
def test_nothing_under_a_hold_is_deleted_at_any_age(data: Path, hold: Hold, kept: set[str]) -> None:
    day = archived(data, None)
    retain(day, Retention(days=1, hold=(hold,)), 5_000, None)
    assert {row[0] for row in ticks_of(data)} == kept


def test_what_only_trades_or_quarantine_name_is_kept_by_its_own_rules(data: Path) -> None:
    day = archived(data, None)
    kept = Retention(days=1).kept(DAY, 10, {"", EUR})
    assert kept == set()
    retain(day, Retention(days=10, symbols={XAU: 20}), 15, None)
    rows = rows_of(plain_day(day, None))
    assert rows["trades"] == []
    assert rows["quarantine"] == []
    assert [row[0] for row in rows["books"]] == [XAU]
    assert [row[1] for row in rows["account"]] == [XAU]
    assert rows["gaps"], "gaps are of a session, and tell what may be missing of any symbol"


def test_a_day_that_is_not_sealed_is_not_deleted(data: Path) -> None:
    day = closed_day(data)
    with pytest.raises(Rejected, match="not sealed"):
        retain(day, Retention(days=184), 1_000, None)
    assert day.db.exists()


def test_a_day_whose_manifest_was_lost_is_not_deleted(data: Path) -> None:
    day = archived(data, None)
    day.manifest.unlink()
    with pytest.raises(Rejected, match=r"manifest.json is gone"):
        retain(day, Retention(days=184), 1_000, None)
    assert day.zst.exists()


def test_an_archived_day_is_not_deleted_here_alone(data: Path, cold: ColdStorage) -> None:
    day = archived(data, cold)
    with pytest.raises(Rejected, match="TICKVAULT_COLD_URL"):
        retain(day, Retention(days=184), 1_000, None)
    assert len(ticks_of(data)) == 100


def test_a_hold_that_comes_while_a_day_is_being_deleted_stops_it(data: Path, cold: ColdStorage) -> None:
    from msgspec.structs import replace

    from libs.common.store.tiers.receipt import write_receipt

    day = archived(data, cold)
    receipt = read_receipt(day.receipt)
    assert receipt is not None
    write_receipt(day.receipt, replace(receipt, deleting=True))
    with pytest.raises(Rejected, match="under a hold while it was being deleted"):
        retain(day, Retention(days=184, hold=(Hold(reason="case"),)), 1_000, cold)
    assert retain(day, Retention(days=184), 1_000, cold) is not None
    assert tier_days(data) == []


def test_the_file_is_read_as_toml_and_as_json(tmp_path: Path) -> None:
    toml, plain = tmp_path / "retention.toml", tmp_path / "retention.json"
    toml.write_text('[symbols]\n"EUR/USD" = 2557\n[[hold]]\nreason = "case"\nfrom = "2026-01-01"\nsymbols = ["XAU/USD"]\n')
    plain.write_text(json.dumps({"symbols": {EUR: 2557}, "hold": [{"reason": "case", "from": "2026-01-01", "symbols": [XAU]}]}))
    expected = Retention(days=184, symbols={EUR: 2557}, hold=(Hold(reason="case", first="2026-01-01", symbols=(XAU,)),))
    assert read_retention(toml, 184) == read_retention(plain, 184) == expected
    assert read_retention(None, 31) == Retention(days=31)


@pytest.mark.parametrize(
    "text",
    [
        "[symbols]\neurusd = 2557",
        '[symbols]\n"EUR/USD" = 2558',
        '[symbols]\n"EUR/USD" = 0',
        '[[hold]]\nreason = "case"\nform = "2026-01-01"',
        '[[hold]]\nreason = "case"\nfrom = "2026-13-01"',
        '[[hold]]\nreason = "case"\nfrom = "2026-02-01"\nto = "2026-01-01"',
        '[[hold]]\nfrom = "2026-01-01"',
        '[[holds]]\nreason = "case"',
        "not toml",
    ],
)
def test_a_file_that_is_wrong_anywhere_deletes_nothing(tmp_path: Path, text: str) -> None:
    path = tmp_path / "retention.toml"
    path.write_text(text)
    with pytest.raises(Rejected, match="nothing is deleted"):
        read_retention(path, 184)


def test_a_file_that_is_gone_deletes_nothing(tmp_path: Path) -> None:
    with pytest.raises(Rejected, match="nothing is deleted"):
        read_retention(tmp_path / "retention.toml", 184)
