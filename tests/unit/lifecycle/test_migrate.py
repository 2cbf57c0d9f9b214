"""`tickvault migrate`: legacy JSON becomes ticks, is compared, and only then archived and deleted."""

import json
import re
import shutil
from collections import Counter
from pathlib import Path

import pytest

from libs.common.domain.moment import NS_PER_DAY, NS_PER_MS, day_name
from libs.common.imports import ImportFile, Options, Source
from libs.common.ingest import Migrated, Staging, compare
from libs.common.store import Batch, DayFile, Layout
from libs.common.store.columnar import SealedReader
from libs.common.store.tiers import frame, tier_days, verify_all
from services.persistence.days import Days
from services.persistence.legacy import LegacyJson
from tests.unit.common.imports.import_files import DATA, needs_data
from tests.unit.lifecycle.days import DAY, closed_day, tick
from tests.unit.lifecycle.importing import Value, killed_at, objects, stored, values

INGEST = Path(__file__).resolve().parents[3] / "libs" / "common" / "ingest"
POINTS = sorted({name for path in INGEST.glob("*.py") for name in re.findall(r'point\("(\w+)"\)', path.read_text())})
HOUR = DATA / "formats" / "one-hour-every-format" / "legacy.json"


def legacy(rows: list[Value]) -> str:
    return json.dumps(
        [{"symbol": "EURUSD", "timestamp": ts // NS_PER_MS, "bid": bid / 1e9, "ask": ask / 1e9} for ts, bid, ask in rows]
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two files of one day, which overlap, and one of the next."""
    path = tmp_path / "legacy"
    (path / "deeper").mkdir(parents=True)
    (path / "a.json").write_text(legacy(values(60)))
    (path / "b.json").write_text(legacy(values(60, first=40)))
    (path / "deeper" / "a.json").write_text(legacy(values(30, day=DAY + 1)))
    return path


WHOLE = Counter(values(100) + values(30, day=DAY + 1))


def unpacked(data: Path, tmp_path: Path) -> Counter[bytes]:
    found: Counter[bytes] = Counter()
    for path in (data / "migrated").glob("*.zst"):
        frame.unpack(path, tmp_path / "plain")
        found[(tmp_path / "plain").read_bytes()] += 1
    return found


def test_files_become_ticks_are_compared_archived_and_deleted(run, data, folder, tmp_path) -> None:
    contents = Counter(path.read_bytes() for path in folder.rglob("*.json"))
    code, out, err = run("migrate", str(folder), "--yes")
    assert code == 0, out + err
    assert stored(data, provider="legacy") == WHOLE
    assert "2024-10-04 EURUSD: 100 in the files, 100 in the store" in out
    assert "3 files with 150 ticks migrated, 0 left where they are" in out
    assert not list(folder.rglob("*.json"))
    assert unpacked(data, tmp_path) == contents
    assert run("migrate", str(folder), "--yes")[0] == 0
    assert verify_all(data, None).problems == []


def test_the_provider_can_be_named_and_the_report_read_by_a_program(run, data, folder) -> None:
    code, out, _ = run("migrate", str(folder), "--yes", "--provider", "OLD", "--json")
    assert code == 0
    assert stored(data, provider="OLD") == WHOLE
    found = objects(out)
    assert [one["equal"] for one in found if "equal" in one] == [True, True]
    assert found[-1] == {"migrated": 3, "ticks": 150, "left": 0}


def test_a_dry_run_says_what_would_be_deleted_and_changes_nothing(run, data, folder) -> None:
    (folder / "b.json").write_text("[1]")
    files = sorted(path.name for path in folder.rglob("*.json"))
    code, out, _ = run("migrate", str(folder), "--dry-run")
    assert code == 1
    assert "2024-10-04 EURUSD: 60 would be new" in out
    assert out.count("would be archived and deleted") == 2
    assert sorted(path.name for path in folder.rglob("*.json")) == files
    assert tier_days(data) == []
    (folder / "b.json").unlink()
    assert run("migrate", str(folder), "--dry-run")[0] == 0


def test_without_yes_nothing_happens(run, data, folder) -> None:
    code, out, err = run("migrate", str(folder))
    assert code == 2
    assert "--yes" in err
    assert "EURUSD: time (UTC), bid, ask" in out
    assert len(list(folder.rglob("*.json"))) == 3
    assert not tier_days(data)


@pytest.mark.parametrize("point", POINTS)
def test_killed_anywhere_it_goes_on_and_no_file_is_gone_that_is_not_archived(run, data, folder, tmp_path, point) -> None:
    contents = {path.name + str(path.stat().st_size): path.read_bytes() for path in folder.rglob("*.json")}
    closed_day(data, DAY + 1)
    passes = 0
    while passes < 3 and killed_at(data, ["migrate", str(folder), "--yes"], point, passes + 1):
        passes += 1
        left = {path.read_bytes() for path in folder.rglob("*.json")}
        archived = set(unpacked(data, tmp_path))
        assert set(contents.values()) <= left | archived
    assert passes
    code, out, err = run("migrate", str(folder), "--yes")
    assert code == 0, out + err
    assert stored(data, provider="legacy") == WHOLE
    assert not list(folder.rglob("*.json"))
    assert set(unpacked(data, tmp_path)) == set(contents.values())
    assert not list((data / "migrated").glob("*.partial"))
    assert Migrated(data).finish() == []


def test_a_file_of_an_open_day_stays_until_that_is_closed(run, data, folder) -> None:
    DayFile(Layout(data).day(DAY + 1)).close()
    code, out, _ = run("migrate", str(folder), "--yes")
    assert code == 1
    assert "2 files with 120 ticks migrated, 1 left where they are" in out
    assert [path.parent.name for path in folder.rglob("*.json")] == ["deeper"]
    DayFile(Layout(data).day(DAY + 1)).close_day(1)
    assert run("migrate", str(folder), "--yes")[0] == 0
    assert stored(data, provider="legacy") == WHOLE


@pytest.mark.parametrize(
    "content", [legacy(values(10))[:-30], legacy(values(10)).replace("1.0851", "-1.0851", 1), "no json", "[]"]
)
def test_a_file_that_is_not_ticks_from_end_to_end_stays(run, data, folder, content) -> None:
    (folder / "bad.json").write_text(content)
    code, out, err = run("migrate", str(folder), "--yes")
    assert code == 1
    assert "3 files with 150 ticks migrated, 1 left" in out
    assert "bad.json" in out + err
    assert (folder / "bad.json").read_text() == content


def test_where_the_store_has_other_values_the_file_stays(run, data, folder, monkeypatch) -> None:
    """A store that loses one tick and changes another."""
    from libs.common.ingest import days

    merge = days.merge

    def lossy(*arguments, **named):
        rows = merge(*arguments, **named)
        return [*rows[:-2], (*rows[-2][:5], rows[-2][5] + 1, *rows[-2][6:])] if len(rows) > 30 else rows

    monkeypatch.setattr(days, "merge", lossy)
    code, out, _ = run("migrate", str(folder), "--yes")
    assert code == 1
    assert "only in the files" in out
    assert {path.name for path in folder.glob("*.json")} == {"a.json", "b.json"}
    assert not list((folder / "deeper").glob("*.json")), "what is equal was migrated"


def test_a_file_that_is_written_to_meanwhile_stays(run, data, folder, monkeypatch) -> None:
    from libs.common.ingest import migrated

    pack = frame.pack

    def slow(source, *rest):
        found = pack(source, *rest)
        if source.name == "b.json":
            source.write_text(legacy(values(70, first=40)))
        return found

    monkeypatch.setattr(migrated.frame, "pack", slow)
    code, out, _ = run("migrate", str(folder), "--yes")
    assert code == 1
    assert "was written to meanwhile" in out
    assert [path.name for path in folder.rglob("*.json")] == ["b.json"]
    assert len(list((data / "migrated").glob("*.zst"))) == 2
    monkeypatch.setattr(migrated.frame, "pack", pack)
    assert run("migrate", str(folder), "--yes")[0] == 0
    assert stored(data, provider="legacy") == Counter(values(110) + values(30, day=DAY + 1))


def test_an_archive_that_is_damaged_lets_no_file_go(run, data, folder) -> None:
    assert killed_at(data, ["migrate", str(folder), "--yes"], "migrated_not_deleted")
    (archive,) = (data / "migrated").glob("*.zst")
    archive.write_bytes(archive.read_bytes()[:-1])
    code, _, err = run("migrate", str(folder), "--yes")
    assert code == 2
    assert archive.name in err
    assert len(list(folder.rglob("*.json"))) == 3


def test_copies_that_persistence_writes_are_not_migrated(run, data) -> None:
    (data / "json").mkdir()
    code, _, err = run("migrate", str(data / "json"), "--yes")
    assert code == 2
    assert "--compare" in err


@needs_data
def test_the_real_hour_arrives_value_by_value(run, data, tmp_path) -> None:
    shutil.copy(HOUR, tmp_path / "hour.json")
    rows = json.loads(HOUR.read_text())
    code, out, _ = run("migrate", str(tmp_path / "hour.json"), "--yes")
    assert code == 0
    assert "10,546 in the files, 10,546 in the store" in out
    expected = Counter((one["timestamp"] * NS_PER_MS, round(one["bid"] * 1e9), round(one["ask"] * 1e9)) for one in rows)
    assert stored(data, provider="legacy") == expected


class Dual:
    """What persistence leaves with both backends: a closed day and an open one."""

    def __init__(self, data: Path) -> None:
        self.layout = Layout(data)
        self.days = Days(self.layout, 0, legacy=LegacyJson(self.layout))
        self.days.recover()
        for day in (DAY, DAY + 1):
            ticks = [
                tick(seq, symbol, provider, day=day, bid=None if seq == 3 else 1_085_000_000 + seq)
                for symbol in ("EUR/USD", "XAU/USD") for provider in ("LP1", "LP2") for seq in range(20)
            ]  # fmt: skip
            self.days.write({day: Batch(ticks=ticks)}, {"LP1": day})
        self.days._idle_since.pop(DAY + 1)
        self.days.close_due((DAY + 5) * NS_PER_DAY)


def test_both_backends_compare_equal_in_open_closed_and_sealed_days(run, data) -> None:
    dual = Dual(data)
    code, out, err = run("migrate", "--compare", str(data / "json"))
    assert code == 0, out + err
    assert "160 ticks in 4 days of symbols: files and store are equal" in out
    assert run("seal")[0] == 0
    assert run("migrate", "--compare", str(data / "json"))[0] == 0
    dual.days.close()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda rows: rows[:-1], "only in the files 0, only in the store 1"),
        (lambda rows: [*rows, rows[-1]], "only in the files 1, only in the store 0"),
        (lambda rows: [{**rows[0], "bid": 1.5}, *rows[1:]], "only in the files 1, only in the store 1"),
        (
            lambda rows: [{**rows[0], "timestamp": rows[0]["timestamp"] + 1}, *rows[1:]],
            "only in the files 1, only in the store 1",
        ),
        (lambda rows: [{**rows[0], "bid": None}, *rows[1:]], "only in the files 1, only in the store 1"),
    ],
)
def test_the_comparison_finds_what_differs(run, data, change, says) -> None:
    dual = Dual(data)
    path = dual.layout.legacy_json(DAY)
    path.write_text(json.dumps(change(json.loads(path.read_text()))))
    code, out, _ = run("migrate", "--compare", str(data / "json"))
    assert code == 1
    assert says in out
    assert "NOT equal: 1 days differ" in out
    code, out, _ = run("migrate", "--compare", str(data / "json"), "--json")
    (differing,) = [one for one in objects(out) if one.get("equal") is False]
    assert differing["date"] == day_name(DAY)
    assert differing["examples"]
    dual.days.close()


def test_a_comparison_does_not_hold_a_day_that_has_far_more_in_the_store(data, tmp_path) -> None:
    closed_day(data, rows=Batch(ticks=[tick(seq) for seq in range(2_000)]))
    (tmp_path / "few.json").write_text(
        json.dumps([{"symbol": "EUR/USD", "timestamp": tick(5)[2] // NS_PER_MS, "bid": 1.08512, "ask": 1.085200001}])
    )
    from services.lifecycle.cli import main

    assert main(["seal", "--data-dir", str(data)]) == 0
    with Staging(data, 0) as staging, SealedReader(data) as reader:
        for _ in staging.add(ImportFile(Source(tmp_path / "few.json"), Options())):
            pass
        (found,) = compare(staging, reader, None)
    assert (found.files, found.store, found.only_files, found.only_store) == (1, 2_000, 0, 1_999)
