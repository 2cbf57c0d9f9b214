"""`tickvault export`: what is stored, with its exact decimals, out of every tier."""

import io
import json
import sys
from collections import Counter
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from libs.common.domain.moment import NS_PER_DAY, day_name, parse_moment
from libs.common.store import Batch, DayFile
from services.lifecycle import cli
from tests.unit.lifecycle.days import DAY, closed_day, tick
from tests.unit.lifecycle.importing import csv_of, stored, values

COLUMNS = ("symbol", "provider", "ts", "seq", "recv_ts", "bid", "ask", "bid_size", "ask_size", "flags")
FORMATS = ("csv", "ndjson", "json", "parquet", "arrow")
RANGE = ("--start", day_name(DAY), "--end", day_name(DAY + 10))


def tick_day(day: int) -> list[tuple]:
    """Two providers, in one instant too, a side and sizes absent."""
    return [
        tick(seq, provider=provider, day=day, bid=None if seq == 3 else 1_085_000_000 + seq)
        for provider in ("LP1", "LP2")
        for seq in range(20)
    ]


def ns(value: Any) -> int | None:
    return None if value in (None, "") else parse_moment(value) if isinstance(value, str) else value.value


def price(value: Any) -> int | None:
    return None if value in (None, "") else int(Decimal(value) * 10**9)


def size(value: Any) -> float | None:
    return None if value in (None, "") else float(value)


READ = {"ts": ns, "recv_ts": ns, "bid": price, "ask": price, "bid_size": size, "ask_size": size, "seq": int, "flags": int}


def read(kind: str, content: bytes, *, stream: bool = False) -> list[tuple]:
    """As any reader would, but for prices, which stay text where JSON would make floats of them."""
    if kind == "csv":
        head, *lines = content.decode().split("\n")[:-1]
        rows: list[dict] = [dict(zip(head.split(","), line.split(","), strict=True)) for line in lines]
    elif kind == "ndjson":
        rows = [json.loads(line, parse_float=str) for line in content.decode().splitlines() if line]
    elif kind == "json":
        rows = json.loads(content, parse_float=str)
    elif kind == "parquet":
        rows = pq.read_table(pa.BufferReader(content)).to_pylist()
    else:
        rows = (pa.ipc.open_stream if stream else pa.ipc.open_file)(pa.BufferReader(content)).read_all().to_pylist()
    return [tuple(READ.get(name, str)(value) for name, value in row.items()) for row in rows]


def in_order(rows: list[tuple]) -> list[tuple]:
    return sorted(rows, key=lambda row: (row[2], row[1], row[3]))


NS = st.integers(0, NS_PER_DAY - 1)
PRICE = st.none() | st.integers(1, 10**18 - 1) | st.sampled_from([1, 10**9, 1_085_120_000, 10**18 - 1, 123])
SIZE = st.none() | st.floats(0, 1e15, allow_nan=False) | st.sampled_from([0.0, 1e6, 0.1])


@st.composite
def days(draw: st.DrawFn) -> list[tuple]:
    found = []
    for provider in draw(st.sets(st.sampled_from(["LP1", "LP2"]), min_size=1)):
        for seq in range(draw(st.integers(1, 12))):
            ts = DAY * NS_PER_DAY + draw(NS)
            bid, ask = draw(PRICE), draw(PRICE)
            recv = draw(st.none() | NS.map(lambda at: DAY * NS_PER_DAY + at // 1000 * 1000))
            if bid is not None or ask is not None:
                found.append(("EUR/USD", provider, ts, seq, recv, bid, ask, draw(SIZE), draw(SIZE), draw(st.integers(0, 255))))
    return found


@given(rows=days(), kind=st.sampled_from(FORMATS))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_what_is_exported_is_what_is_stored(tmp_path_factory: pytest.TempPathFactory, monkeypatch, rows, kind) -> None:
    folder = tmp_path_factory.mktemp("export")
    data = folder / "data"
    data.mkdir()
    closed_day(data, rows=Batch(ticks=rows))
    monkeypatch.setattr(cli, "configure_logs", lambda _: None)
    out = folder / f"out.{kind}"
    assert cli.main(["export", "EUR/USD", *RANGE, "--output", str(out), "--data-dir", str(data)]) == 0
    assert read(kind, out.read_bytes()) == in_order(rows)


@pytest.mark.parametrize("kind", FORMATS)
def test_every_tier_is_in_it(run, data, tmp_path, kind) -> None:
    """Archived, compressed, sealed, closed and open; the open one has its log still."""
    expected = []
    for at in range(5):
        rows = tick_day(DAY + at)
        expected += rows
        if at < 4:
            closed_day(data, DAY + at, rows=Batch(ticks=rows))
        else:
            opened = DayFile(closed_day(data, DAY + 9).db.with_name(f"ticks_{day_name(DAY + at)}.db"))
            opened.write(Batch(ticks=rows))
    for at, steps in enumerate((["seal", "compress", "archive"], ["seal", "compress"], ["seal"])):
        for step in steps:
            assert run(step, "--day", day_name(DAY + at))[0] == 0
    out = tmp_path / f"out.{kind}"
    code, _, err = run("export", "EUR/USD", *RANGE[:3], day_name(DAY + 9), "--output", str(out))
    assert code == 0
    assert f"{len(expected)} ticks exported" in err
    assert read(kind, out.read_bytes()) == in_order(expected)
    opened.close()


@pytest.mark.parametrize("kind", FORMATS)
def test_the_same_goes_to_a_pipe(data, monkeypatch, kind) -> None:
    monkeypatch.setattr(cli, "configure_logs", lambda _: None)
    pipe = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", type("Pipe", (), {"buffer": pipe, "flush": lambda _: None})())
    closed_day(data, rows=Batch(ticks=tick_day(DAY)))
    pipe.close = lambda: None  # type: ignore[method-assign]
    assert cli.main(["export", "EUR/USD", *RANGE, "--format", kind, "--data-dir", str(data)]) == 0
    assert read(kind, pipe.getvalue(), stream=True) == in_order(tick_day(DAY))


@pytest.mark.parametrize("kind", ["csv", "ndjson", "json"])
def test_what_was_exported_can_be_imported_and_is_the_same(run, data, tmp_path, kind) -> None:
    (tmp_path / "in.csv").write_text(csv_of(values(200)))
    run("import", str(tmp_path / "in.csv"), "--symbol", "EURUSD", "--provider", "V", "--yes")
    out = tmp_path / f"out.{kind}"
    assert run("export", "EURUSD", *RANGE, "--output", str(out))[0] == 0
    code, text, err = run("import", str(out), "--provider", "V", "--yes")
    assert code == 0, err
    assert "0 new, 200 there already" in text
    assert run("import", str(out), "--provider", "AGAIN", "--yes")[0] == 0
    assert stored(data, provider="AGAIN") == stored(data) == Counter(values(200))


def test_columns_and_providers_can_be_chosen(run, data, tmp_path) -> None:
    closed_day(data, rows=Batch(ticks=tick_day(DAY)))
    out = tmp_path / "out.csv"
    code, *_ = run("export", "eur/usd", *RANGE, "--output", str(out), "--columns", "ts,bid", "--provider", "LP2")
    assert code == 0
    assert out.read_text().splitlines()[0] == "ts,bid"
    assert len(out.read_text().splitlines()) == 1 + sum(row[1] == "LP2" for row in tick_day(DAY))
    code, _, err = run("export", "EUR/USD", *RANGE, "--columns", "price")
    assert code == 2
    assert "no column price" in err


def test_a_file_is_written_over_only_by_force(run, data, tmp_path) -> None:
    closed_day(data)
    out = tmp_path / "out.csv"
    out.write_text("mine")
    code, _, err = run("export", "EUR/USD", *RANGE, "--output", str(out))
    assert (code, out.read_text()) == (2, "mine")
    assert "--force" in err
    assert run("export", "EUR/USD", *RANGE, "--output", str(out), "--force")[0] == 0
    assert out.read_text().startswith("symbol,")


def test_where_a_day_is_damaged_there_is_no_file_and_the_day_is_named(run, data, tmp_path) -> None:
    day = closed_day(data)
    run("seal")
    path = day.sealed.parquet("ticks", 1)
    path.write_bytes(path.read_bytes()[:500])
    code, _, err = run("export", "EUR/USD", *RANGE, "--output", str(tmp_path / "out.csv"))
    assert code == 1
    assert "ticks_2024-10-04.parquet" in err
    assert not list(tmp_path.glob("out*"))


def test_without_ticks_it_is_a_whole_file_without_rows(run, data, tmp_path) -> None:
    for kind in FORMATS:
        out = tmp_path / f"out.{kind}"
        assert run("export", "EUR/USD", *RANGE, "--output", str(out))[0] == 0
        assert read(kind, out.read_bytes()) == []


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["EUR USD", *RANGE], "cannot be a symbol"),
        (["EURUSD", "--start", "yesterday", "--end", "2024-10-05"], "is not a time"),
        (["EURUSD", "--start", "2024-10-05", "--end", "2024-10-05"], "--end is not after --start"),
    ],
)
def test_what_cannot_be_asked_is_refused_in_words(run, arguments, says) -> None:
    code, _, err = run("export", *arguments)
    assert code == 2
    assert says in err
