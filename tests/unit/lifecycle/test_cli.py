"""`tickvault` as an operator types it."""

import json
from pathlib import Path

import pytest

from libs.common.domain.moment import day_name
from libs.common.store.tiers import state_of
from tests.unit.lifecycle.conftest import Run
from tests.unit.lifecycle.days import DAY, closed_day, flip, late_ticks, ticks_of


@pytest.fixture
def days(data: Path) -> list[int]:
    for day in (DAY, DAY + 1, DAY + 2):
        closed_day(data, day)
    return [DAY, DAY + 1, DAY + 2]


def test_each_step_can_be_asked_for_as_of_a_date(run: Run, data: Path, days: list[int]) -> None:
    assert run("seal")[:2] == (
        0,
        "".join(f"{day_name(day)} sealed, generation 1, 100 ticks\n" for day in days) + "3 done, 0 failed\n",
    )
    assert run("compress", "--as-of", day_name(DAY + 7))[0] == 0
    assert run("archive", "--as-of", day_name(DAY + 31))[0] == 0
    assert [state_of(data, day) for day in days] == ["archived", "sealed", "sealed"]
    code, out, _ = run("retain", "--as-of", day_name(DAY + 185))
    assert code == 0
    assert "2024-10-04 deleted" in out
    assert "deleted ticks_2024-10-04.parquet" in out
    assert [state_of(data, day) for day in days] == [None, "sealed", "sealed"]


def test_late_ticks_are_made_part_of_their_day_at_once(run: Run, data: Path, days: list[int]) -> None:
    run("seal")
    late_ticks(closed_day(data, DAY + 5))
    code, out, _ = run("seal")
    assert code == 0
    assert "2024-10-09 amended, generation 2, 110 ticks, EUR/USD LP1 50 to 55, XAU/USD LP1 50 to 55" in out
    assert len(ticks_of(data, DAY + 5)) == 110


def test_a_dry_run_says_what_would_be_deleted_and_deletes_nothing(run: Run, data: Path, days: list[int]) -> None:
    run("seal")
    _, out, _ = run("retain", "--as-of", day_name(DAY + 400), "--dry-run")
    assert "2024-10-04 would be deleted" in out
    assert "3 would be done, 0 failed" in out
    assert [state_of(data, day) for day in days] == ["sealed"] * 3


def test_json_is_one_object_a_line(run: Run, days: list[int]) -> None:
    _, out, _ = run("seal", "--json")
    assert [json.loads(line)["day"] for line in out.splitlines()] == [day_name(day) for day in days]
    _, out, _ = run("stats", "--json")
    *found, total = [json.loads(line) for line in out.splitlines()]
    assert found[0]["state"] == "sealed"
    assert found[0]["ticks"] == 100
    assert total["days"] == 3
    assert total["ticks"] == 300
    assert total["local_bytes"] == sum(day["local_bytes"] for day in found)


def test_verify_ends_with_1_and_the_names_of_what_is_wrong(run: Run, data: Path, tmp_path: Path, days: list[int]) -> None:
    run("seal")
    run("compress", "--as-of", day_name(DAY + 8))
    run("archive", "--as-of", day_name(DAY + 31))
    code, out, _ = run("verify")
    assert code == 0
    assert out.endswith("0 problems, 0 open days not looked at\n")
    flip(next((tmp_path / "cold storage").rglob("*.db.zst")))
    flip(next(data.rglob("bars_2024-10-05.parquet")))
    code, out, _ = run("verify", "--json")
    assert code == 1
    assert [Path(json.loads(line)["file"]).name for line in out.splitlines()[:-1]] == [
        "ticks_2024-10-04.db.zst",
        "bars_2024-10-05.parquet",
    ]


def test_a_day_that_fails_ends_it_with_1_and_the_others_are_done(run: Run, data: Path, days: list[int]) -> None:
    path = next(data.rglob("ticks_2024-10-05.db"))
    path.write_bytes(path.read_bytes()[:5_000])
    code, out, _ = run("seal")
    assert code == 1
    assert "2024-10-05 seal failed" in out
    assert [state_of(data, day) for day in (DAY, DAY + 2)] == ["sealed", "sealed"]


def test_stats_tell_days_and_the_disk(run: Run, days: list[int]) -> None:
    run("seal")
    _, out, _ = run("stats")
    assert "2024-10-04 sealed: 100 ticks, generation 1, " in out
    assert "3 days, 300 ticks, " in out
    assert "the disk lasts" in out


@pytest.mark.parametrize(
    ("environment", "arguments", "said"),
    [
        ({"TICKVAULT_COLD_URL": "/srv"}, ("archive",), "write file:///folder or s3://bucket/prefix"),
        ({"TICKVAULT_COLD_URL": ""}, ("archive",), "TICKVAULT_COLD_URL is not set"),
        ({"TICKVAULT_DATA_DIR": "/nowhere"}, ("stats",), "/nowhere is no data folder"),
        ({"TICKVAULT_RETAIN_DAYS": "0"}, ("retain",), "TICKVAULT_RETAIN_DAYS"),
        ({"TICKVAULT_RETAIN_DAYZ": "1"}, ("retain",), "TICKVAULT_RETAIN_DAYZ is not a setting"),
        ({"TICKVAULT_ARCHIVE_AFTER_DAYS": "3"}, ("compress",), "TICKVAULT_ARCHIVE_AFTER_DAYS is less than"),
        ({"TICKVAULT_LIFECYCLE_RETENTION_FILE": "/nowhere"}, ("retain",), "nothing is deleted until it is corrected"),
        ({}, ("seal", "--as-of", "today"), "write YYYY-MM-DD"),
    ],
)
def test_what_has_to_be_corrected_ends_with_2(
    run: Run, monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], arguments: tuple[str, ...], said: str
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    code, _, err = run(*arguments)
    assert (code, said in err) == (2, True), err
