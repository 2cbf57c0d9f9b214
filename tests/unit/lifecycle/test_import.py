"""`tickvault import`: files become ticks of days in every tier, once, whatever happens meanwhile."""

import re
from collections import Counter
from functools import reduce
from operator import or_
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from libs.common.bus import partition_of
from libs.common.domain.moment import NS_PER_DAY, day_name
from libs.common.domain.price import format_price
from libs.common.ingest.staging import whole_instants
from libs.common.store import DayFile, Layout
from libs.common.store.partitions import settle as settle_partitions
from libs.common.store.tiers import ColdStorage, read_receipt, state_of, tier_days, verify_all
from services.lifecycle.cli.progress import Progress
from tests.unit.common.imports.import_files import DATA, needs_data
from tests.unit.lifecycle.days import DAY, batch, closed_day, late_ticks, rows_of, tick, ticks_of
from tests.unit.lifecycle.importing import csv_of, killed_at, numbers, objects, stored, values

SYMBOL = ("--symbol", "EURUSD", "--provider", "V", "--yes")
INGEST = Path(__file__).resolve().parents[3] / "libs" / "common" / "ingest"
TIERS = INGEST.parent / "store"
EUR = "EUR/USD"  # of `closed_day`


def points(*folders: Path) -> list[str]:
    return sorted(
        {name for folder in folders for path in folder.glob("*.py") for name in re.findall(r'point\("(\w+)"\)', path.read_text())}
    )


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "ticks.csv"
    path.write_text(csv_of(values(300)))
    return path


def test_a_file_becomes_a_sealed_day_and_again_adds_nothing(run, data, file) -> None:
    code, out, _ = run("import", str(file), *SYMBOL)
    assert code == 0
    assert "2024-10-04 EURUSD: 300 new, 0 there already" in out
    assert stored(data) == Counter(values(300))
    assert numbers(data) == list(range(300))
    (day,) = tier_days(data)
    assert day.state() == "sealed"
    before = day.manifest.read_bytes(), day.db.read_bytes()
    code, out, _ = run("import", str(file), *SYMBOL)
    assert (code, stored(data)) == (0, Counter(values(300)))
    assert "2024-10-04 EURUSD: 0 new, 300 there already" in out
    assert (day.manifest.read_bytes(), day.db.read_bytes()) == before
    assert verify_all(data, None).problems == []


def test_an_imported_tick_has_no_time_of_receipt_carries_the_flag_and_stands_in_the_account(run, data, file) -> None:
    run("import", str(file), *SYMBOL)
    (day,) = tier_days(data)
    rows = rows_of(day.db)
    assert {row[4] for row in rows["ticks"]} == {None}
    assert all(row[-1] & 128 for row in rows["ticks"])
    assert rows["account"] == [("V", "EURUSD", 300, 300, 0, 0)]


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 0, 2)])
@pytest.mark.parametrize("together", [True, False])
def test_files_that_overlap_add_each_tick_once_in_any_order(run, data, tmp_path, order, together) -> None:
    parts = [values(120), values(100, first=60), values(140, first=100)]
    paths = []
    for number in order:
        paths.append(tmp_path / f"{number}.csv")
        paths[-1].write_text(csv_of(parts[number]))
    for some in [paths] if together else [[path] for path in paths]:
        assert run("import", *map(str, some), *SYMBOL)[0] == 0
    assert stored(data) == Counter(values(240))
    assert numbers(data) == list(range(240))


FEW = st.tuples(
    st.integers(0, 3).map(lambda at: DAY * NS_PER_DAY + at * NS_PER_DAY // 2),
    st.sampled_from([1_000_000_000, 1_000_000_001]),
    st.just(1_100_000_000),
)


@given(
    files=st.lists(st.lists(FEW, min_size=1, max_size=12), min_size=1, max_size=4),
    together=st.booleans(),
    before=st.lists(FEW, max_size=6),
)
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_tick_stands_in_the_store_as_often_as_in_the_file_that_has_it_most_often(
    tmp_path_factory, run, files, together, before
) -> None:
    folder = tmp_path_factory.mktemp("files")
    data = folder / "data"
    data.mkdir()
    paths = []
    for rows in [*([before] if before else []), *files, files[0]]:
        paths.append(folder / f"{len(paths)}.csv")
        paths[-1].write_text(csv_of(rows))
    parts = [paths] if together else [[path] for path in paths]
    for some in parts:
        assert run("import", *map(str, some), *SYMBOL, "--data-dir", str(data))[0] == 0
    expected = reduce(or_, map(Counter, [before, *files]))
    assert stored(data) == expected
    days = [day.db for day in tier_days(data)]
    account = [line for path in days for line in rows_of(path)["account"]]
    assert sum(line[2] for line in account) == sum(line[3] for line in account) == expected.total()


def test_two_equal_quotes_of_an_instant_stay_two(run, data, tmp_path) -> None:
    (tmp_path / "twice.csv").write_text(csv_of(values(2)[:1] * 2))
    run("import", str(tmp_path / "twice.csv"), *SYMBOL)
    run("import", str(tmp_path / "twice.csv"), *SYMBOL)
    assert stored(data) == Counter(values(2)[:1] * 2)


def test_a_file_in_no_order_over_many_days_arrives_whole(run, data, tmp_path) -> None:
    rows = [value for day in range(DAY, DAY + 5) for value in values(50, day=day)]
    (tmp_path / "mixed.csv").write_text(csv_of(rows[::2] + rows[1::2][::-1]))
    assert run("import", str(tmp_path / "mixed.csv"), *SYMBOL)[0] == 0
    assert stored(data) == Counter(rows)
    assert [state_of(data, day) for day in range(DAY, DAY + 5)] == ["sealed"] * 5


TIERS_OF_A_DAY = {
    "closed": [],
    "sealed": [["seal"]],
    "compressed": [["seal"], ["compress", "--day", day_name(DAY)]],
    "archived": [["seal"], ["compress", "--day", day_name(DAY)], ["archive", "--day", day_name(DAY)]],
}


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("state", TIERS_OF_A_DAY)
def test_a_day_in_any_tier_takes_them_beside_what_it_has(run, data, file, tmp_path, state, late) -> None:
    day = closed_day(data)
    closed_day(data, DAY + 1)
    for command in TIERS_OF_A_DAY[state]:
        assert run(*command)[0] == 0
    assert state_of(data, DAY) == state
    if late:
        late_ticks(day)
    code, out, _ = run("import", str(file), *SYMBOL)
    assert code == 0, out
    captured = 110 if late else 100
    assert stored(data) == Counter(values(300))
    assert len(ticks_of(data)) == captured
    assert len(rows_of(day.db)["ticks"]) == captured + 300
    assert not day.imported.exists()
    run("compress", "--day", day_name(DAY))
    run("archive", "--day", day_name(DAY))
    code, out, _ = run("import", str(file), *SYMBOL)
    assert "0 new, 300 there already" in out
    assert state_of(data, DAY) == "archived"
    assert verify_all(data, ColdStorage((tmp_path / "cold storage").as_uri())).problems == []


def test_a_late_file_that_persistence_has_open_stays_its_own_and_is_seen_beside_the_import(run, data, file) -> None:
    day = closed_day(data)
    late = DayFile(day.late, closed=day.db)
    late.write(batch(5, first=1_000))
    for _ in range(2):
        assert run("import", str(file), *SYMBOL)[0] == 0
        assert (len(ticks_of(data)), stored(data)) == (110, Counter(values(300)))
        assert day.late.exists()
    late.write(batch(5, first=2_000))
    late.close()
    assert run("seal")[0] == 0
    assert (len(ticks_of(data)), stored(data)) == (120, Counter(values(300)))
    assert len(rows_of(day.db)["ticks"]) == 420
    assert not day.late.exists()


def test_ticks_of_the_same_provider_are_numbered_after_those_that_were_captured(run, data, tmp_path) -> None:
    day = closed_day(data)
    captured = [(row[2], row[5], row[6]) for row in (tick(seq, EUR) for seq in range(50)) if row[5] is not None]
    (tmp_path / "more.csv").write_text(csv_of([captured[5], *values(10)]))
    code, out, _ = run("import", str(tmp_path / "more.csv"), "--symbol", EUR, "--provider", "LP1", "--yes")
    assert code == 0
    # what was captured has sizes, and the file has none: these are other ticks
    assert "11 new" in out
    assert numbers(data, EUR, "LP1") == list(range(61))
    assert ("LP1", EUR, 61, 61, 0, 1) in rows_of(day.db)["account"]


def test_an_open_day_is_refused_with_what_to_do_and_the_others_are_imported(run, data, tmp_path) -> None:
    DayFile(Layout(data).day(DAY)).close()
    (tmp_path / "two.csv").write_text(csv_of(values(10) + values(10, day=DAY + 1)))
    code, out, _ = run("import", str(tmp_path / "two.csv"), *SYMBOL, "--json")
    assert code == 1
    *_, refused, taken, total = objects(out)
    assert "open" in refused["error"]
    assert "import the same files again once it is closed" in refused["error"]
    assert (taken["added"], total["not_imported"]) == (10, 10)
    DayFile(Layout(data).day(DAY)).close_day(1)
    assert run("import", str(tmp_path / "two.csv"), *SYMBOL)[0] == 0
    assert stored(data) == Counter(values(10) + values(10, day=DAY + 1))


def test_today_is_open_though_it_has_no_file_yet(run, data, tmp_path) -> None:
    import time

    (tmp_path / "today.csv").write_text(csv_of(values(3, day=time.time_ns() // NS_PER_DAY)))
    code, out, _ = run("import", str(tmp_path / "today.csv"), *SYMBOL)
    assert code == 1
    assert "NOT imported: the day is open" in out
    assert not tier_days(data)


def test_each_symbol_goes_to_the_file_of_its_partition(run, data, tmp_path) -> None:
    settle_partitions(data, 4, 0)
    symbols = ["EURUSD", "GBPUSD", "USDJPY", "AUDUSD"]
    lines = [f"{symbol},2024-10-04T00:00:0{at}Z,1.1,1.2" for at in range(5) for symbol in symbols]
    (tmp_path / "all.csv").write_text("symbol,time,bid,ask\n" + "\n".join(lines))
    assert run("import", str(tmp_path / "all.csv"), "--provider", "V", "--yes")[0] == 0
    for symbol in symbols:
        (symbols_there,) = [
            {row[0] for row in rows_of(day.db)["ticks"]} for day in tier_days(data) if day.partition == partition_of(symbol, 4)
        ]
        assert symbol in symbols_there
        assert sum(stored(data, symbol).values()) == 5


def test_lines_that_are_no_ticks_are_counted_by_reason_and_kept(run, data, tmp_path) -> None:
    text = csv_of(values(10)) + "2024-10-04T01:00:00Z,-1,2\nnonsense,1,2\n2024-10-04T01:00:00Z,1e10,1\n2224-01-01T00:00:00Z,1,2\n"
    (tmp_path / "bad.csv").write_text(text)
    for _ in range(2):
        code, out, _ = run("import", str(tmp_path / "bad.csv"), *SYMBOL, "--json")
        assert code == 0
        found = objects(out)[-1]
        assert found["rejected"] == 4
        assert sum(found["reasons"].values()) == 4
        kept = objects(Path(found["rejected_file"]).read_text())
        assert [line["line"] for line in kept] == [12, 13, 14, 15]
        assert kept[1]["text"] == "nonsense,1,2"
    assert sum(stored(data).values()) == 10
    assert rows_of(tier_days(data)[0].db)["account"] == [("V", "EURUSD", 10, 10, 0, 0)]


def test_without_a_terminal_and_without_yes_it_shows_what_it_found_and_refuses(run, data, file) -> None:
    code, out, err = run("import", str(file), "--symbol", "EURUSD", "--provider", "V")
    assert code == 2
    assert "--yes" in err
    assert "2024-10-04T00:00:00.000Z  1.085  1.0851" in out
    assert not tier_days(data)


class Terminal:
    def __init__(self, answer: str) -> None:
        self.readline = lambda: answer
        self.isatty = lambda: True


@pytest.mark.parametrize(("answer", "code"), [("y\n", 0), ("yes\n", 0), ("\n", 2), ("n\n", 2), ("", 2)])
def test_at_a_terminal_it_asks(run, data, file, monkeypatch, answer, code) -> None:
    monkeypatch.setattr("sys.stdin", Terminal(answer))
    assert run("import", str(file), "--symbol", "EURUSD", "--provider", "V")[0] == code
    assert len(tier_days(data)) == (code == 0)


def test_what_is_not_certain_needs_more_than_yes(run, data, tmp_path) -> None:
    (tmp_path / "bare.csv").write_text(csv_of(values(200)).partition("\n")[2])
    code, out, err = run("import", str(tmp_path / "bare.csv"), *SYMBOL)
    assert code == 2
    assert "--columns" in err
    assert "not certain" in out
    assert run("import", str(tmp_path / "bare.csv"), *SYMBOL, "--columns", "time,bid,ask")[0] == 0
    assert stored(data) == Counter(values(200))


def test_what_is_ambiguous_is_refused_with_the_option_that_settles_it(run, data, tmp_path) -> None:
    (tmp_path / "zone.csv").write_text("time,bid,ask\n2024-10-04 00:00:00,1,2\n")
    code, _, err = run("import", str(tmp_path / "zone.csv"), *SYMBOL)
    assert code == 2
    assert "--timezone" in err
    assert run("import", str(tmp_path / "zone.csv"), *SYMBOL, "--timezone", "UTC-5")[0] == 0
    assert [ts for ts, *_ in stored(data)] == [DAY * NS_PER_DAY + 5 * 3_600 * 10**9]


def test_a_damaged_file_gives_what_came_before_the_damage_and_exit_code_1(run, data, tmp_path) -> None:
    (tmp_path / "cut.json").write_text('[{"symbol":"EURUSD","timestamp":1728000000000,"bid":1.1,"ask":1.2},{"symbol":"EU')
    code, out, _ = run("import", str(tmp_path / "cut.json"), "--provider", "V", "--yes")
    assert code == 1
    assert "cut off" in out
    assert sum(stored(data).values()) == 1


def test_a_dry_run_says_what_would_be_new_and_writes_nothing(run, data, file) -> None:
    code, out, _ = run("import", str(file), "--symbol", "EURUSD", "--provider", "V", "--dry-run")
    assert code == 0
    assert "300 would be new" in out
    assert not tier_days(data)


def test_a_dry_run_knows_what_days_have_that_are_closed_and_not_sealed_yet(run, data, tmp_path) -> None:
    day = closed_day(data)
    before = day.db.read_bytes()
    rows = [tick(seq, EUR, bid=1_085_120_000 + seq) for seq in range(2)]
    lines = [f"{row[2]},{format_price(row[5])},{format_price(row[6])},1000000,\n" for row in rows]
    (tmp_path / "known.csv").write_text("time,bid,ask,bid_size,ask_size\n" + "".join(lines) + f"{DAY * NS_PER_DAY},1,2,,\n")
    code, out, _ = run("import", str(tmp_path / "known.csv"), "--symbol", EUR, "--provider", "LP1", "--dry-run")
    assert code == 0
    assert "1 would be new, 2 there already" in out
    assert (day.db.read_bytes(), state_of(data, DAY)) == (before, "closed")


def test_standard_input_is_read(run, data, file, monkeypatch) -> None:
    with file.open("rb") as stream:
        monkeypatch.setattr("sys.stdin", type("Pipe", (), {"buffer": stream, "isatty": lambda _: False})())
        assert run("import", "-", *SYMBOL)[0] == 0
    assert stored(data) == Counter(values(300))


def test_nothing_of_a_finished_import_is_left_over(run, data, file) -> None:
    run("import", str(file), *SYMBOL)
    assert not list(data.glob("imports/*"))
    assert not [
        path for path in (data / "ticks").rglob("*") if path.is_file() and ("scratch" in path.parts or "late" in path.parts)
    ]


@pytest.mark.parametrize(
    "point", [name for name in points(INGEST, TIERS / "tiers", TIERS / "columnar") if "migrated" not in name]
)
def test_killed_at_any_point_the_same_import_leads_to_the_same_end(run, data, file, point) -> None:
    """A day without a file, a sealed one with late ticks, and a compressed one."""
    first, second, third = values(100), values(100, day=DAY + 1), values(100, day=DAY + 2)
    file.write_text(csv_of(first + second + third))
    sealed, compressed = closed_day(data, DAY + 1), closed_day(data, DAY + 2)
    closed_day(data, DAY + 3)
    run("seal")
    run("compress", "--day", day_name(DAY + 2))
    late_ticks(sealed)
    passes = 1
    while killed_at(data, ["import", str(file), *SYMBOL], point, passes) and passes < 3:
        passes += 1
        for day in (DAY, DAY + 1, DAY + 2):
            assert sum(count for (ts, *_), count in stored(data).items() if ts // NS_PER_DAY == day) in {0, 100}
    assert passes > 1 or not point.startswith("import_")
    assert run("import", str(file), *SYMBOL)[0] == 0
    assert stored(data) == Counter(first + second + third)
    assert [len(ticks_of(data, day)) for day in (DAY, DAY + 1, DAY + 2)] == [0, 110, 100]
    assert len(rows_of(sealed.db)["ticks"]) == 210
    assert read_receipt(compressed.receipt).zst is None
    assert verify_all(data, None).problems == []
    assert not sealed.imported.exists()
    assert not list(data.glob("imports/*"))


def test_an_import_that_was_killed_behind_its_name_is_finished_by_lifecycle(run, data, file) -> None:
    day = closed_day(data)
    run("seal")
    assert killed_at(data, ["import", str(file), *SYMBOL], "import_named_not_sealed")
    assert day.imported.exists()
    assert stored(data) == Counter()
    code, out, _ = run("seal")
    assert code == 0
    assert "amended" in out
    assert stored(data) == Counter(values(300))
    assert not day.imported.exists()


def test_retention_waits_for_an_import_that_is_under_way(run, data, file) -> None:
    day = closed_day(data)
    run("seal")
    killed_at(data, ["import", str(file), *SYMBOL], "import_named_not_sealed")
    run("retain", "--as-of", day_name(DAY + 400))
    assert day.imported.exists()
    assert day.manifest.exists()


def test_parts_end_between_two_instants() -> None:
    rows = [(ts, None, None, None, None, 0, 1) for ts in (1, 1, 1, 2, 3, 3, 3, 3, 4)]
    assert [[row[0] for row in part] for part in whole_instants(rows, 2)] == [[1, 1, 1], [2, 3, 3, 3, 3], [4]]
    assert list(whole_instants([], 2)) == []


def test_progress_is_a_line_on_a_terminal_and_nothing_elsewhere(capsys, monkeypatch) -> None:
    with Progress("days", 2) as progress:
        progress.show(1)
    assert capsys.readouterr().err == ""
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    with Progress("days", 2) as progress:
        progress.show(1, "2024-10-04")
    assert "days [###############               ] 1/2 2024-10-04" in capsys.readouterr().err


ONE_HOUR = DATA / "formats" / "one-hour-every-format"
ZONES = {
    "mt5_EURUSD_ticks_server_EET.csv": ("--timezone", "UTC+2"),
    "mt5_EURUSD_ticks_partial_sides.csv": ("--timezone", "UTC+2"),
}


FORMATS = [path.name for path in ONE_HOUR.glob("*.*") if path.suffix not in {".parquet", ".txt"} and "expected" not in path.name]


@needs_data
@pytest.mark.parametrize("name", sorted(FORMATS))
def test_the_same_hour_in_every_format_is_the_same_ticks_in_the_store(run, data, name) -> None:
    lines = (ONE_HOUR / "expected_canonical.csv").read_text().splitlines()[1:]
    expected = Counter()
    for line in lines:
        ts, bid, ask, *_ = line.split(",")
        expected[int(ts) * 1_000_000, round(float(bid) * 100_000), round(float(ask) * 100_000)] += 1
    options = ZONES.get(name, ())
    code, out, err = run("import", str(ONE_HOUR / name), "--provider", "V", "--yes", *options)
    if code == 2 and "--symbol" in err:
        code, out, err = run("import", str(ONE_HOUR / name), *SYMBOL, *options)
    if code == 2 and "--timezone" in err:
        code, out, err = run("import", str(ONE_HOUR / name), *SYMBOL, *options, "--timezone", "UTC")
    assert code == 0, out + err
    symbol = "EUR/USD" if name.startswith("truefx") else "EURUSD"
    found = Counter({(ts, bid // 10_000, ask // 10_000): count for (ts, bid, ask), count in stored(data, symbol).items()})
    assert found == expected


@needs_data
def test_two_vendors_of_the_same_days_stand_side_by_side(run, data) -> None:
    for vendor in ("oanda", "fxcm"):
        path = DATA / "lean" / vendor / "tick" / "eurusd" / "20140504_quote.zip"
        assert run("import", str(path), "--provider", vendor.upper(), "--yes")[0] == 0
    assert sum(stored(data, provider="OANDA").values()) > 1_000
    assert sum(stored(data, provider="FXCM").values()) > 1_000
