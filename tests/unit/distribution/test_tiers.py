"""Days of every age behind the same paths: states, generations, cursors, and formats that other programs read."""

import asyncio
import io
import json
import sys
from decimal import Decimal

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from libs.common.domain.moment import NS_PER_DAY, day_of, parse_moment
from libs.common.store import Batch, DayFile
from libs.common.store.columnar.schema import STORED
from libs.common.store.tiers import ColdStorage, TierDay, amend_day, archive_day, compress_day, seal_day

MIDNIGHT = parse_moment("2026-11-18")
DAY = day_of(MIDNIGHT)
URL = "/api/history/ticks/EURUSD?start=2026-11-18&end=2026-11-20"


@pytest.fixture
def day(vault):
    return TierDay(DAY, "", vault.folder)


@pytest.fixture
def late(vault, tick, day):
    """Another tick for the day, made part of it."""

    def amend(seq, at):
        file = DayFile(day.late, closed=day.db if day.db.exists() else None)
        file.write(Batch(ticks=[tick(ts=at, seq=seq)]))
        file.close()
        amend_day(day, day.late, vault.now, ColdStorage((vault.folder / "cold").as_uri()))

    return amend


def moments(answer):
    return [row["seq"] for row in answer.json()["data"]]


def test_a_day_is_the_same_in_every_state(vault, tick, day):
    vault.write(*(tick(ts=MIDNIGHT + n, seq=n) for n in range(5)))
    cold = ColdStorage((vault.folder / "cold").as_uri())
    steps = {
        "open": lambda: None,
        "closed": lambda: vault.write(tick(ts=MIDNIGHT + 5, seq=5), closed=True),
        "sealed": lambda: seal_day(day, vault.now),
        "compressed": lambda: compress_day(day),
        "archived": lambda: archive_day(day, cold),
    }

    async def scenario(client):
        for state, step in steps.items():
            step()
            answer = await client.get(URL)
            assert moments(answer) == list(range(5 if state == "open" else 6))
            (line,) = (await client.get("/api/history/available")).json()
            generation = 0 if state in ("open", "closed") else 1
            assert (line["state"], line["generation"], line["ticks"]) == (state, generation, len(moments(answer)))
            stats = (await client.get("/api/pipeline/stats")).json()["account"]
            assert (stats["stored"], stats["lost"]) == (len(moments(answer)), 0)

    vault.run(scenario)


def test_a_cursor_goes_on_in_a_day_that_is_sealed_and_compressed_meanwhile(vault, tick, day):
    vault.write(*(tick(ts=MIDNIGHT + n, seq=n) for n in range(6)), closed=True)

    async def scenario(client):
        found, cursor = [], None
        for step in (lambda: seal_day(day, vault.now), lambda: compress_day(day), lambda: None):
            page = (await client.get(f"{URL}&limit=2" + (f"&cursor={cursor}" if cursor else ""))).json()
            found += [row["seq"] for row in page["data"]]
            cursor = page["next_cursor"]
            step()
        return found, cursor

    assert vault.run(scenario) == (list(range(6)), None)


@pytest.mark.parametrize("format_", ["json", "parquet"])
def test_a_cursor_into_a_day_that_was_amended_since_is_gone_and_says_what_to_do(vault, tick, day, late, format_):
    vault.write(*(tick(ts=MIDNIGHT + 2 * n, seq=n) for n in range(6)), closed=True)
    vault.write(tick(ts=MIDNIGHT + NS_PER_DAY), closed=True)
    seal_day(day, vault.now)

    async def scenario(client):
        first = await client.get(f"{URL}&limit=2&format={format_}")
        late(100, MIDNIGHT + 1)
        gone = await client.get(first.links["next"]["url"])
        again = await client.get(f"{URL}&limit=7")
        late(101, MIDNIGHT + 3)  # the next page begins on another day
        return gone, again, await client.get(f"{URL}&limit=7&cursor={again.json()['next_cursor']}")

    gone, again, rest = vault.run(scenario)
    answered = gone.status_code, gone.headers["content-type"], gone.json()["code"]
    assert answered == (410, "application/problem+json", "day-amended")
    assert "without cursor" in gone.json()["detail"]
    assert "2026-11-18" in gone.json()["detail"]
    assert moments(again) == [0, 100, 1, 2, 3, 4, 5]
    assert rest.status_code == 410  # of the day its last tick was on


def test_what_came_late_is_shown_before_it_is_amended_in_and_counted_once(vault, tick, day):
    vault.write(tick(ts=MIDNIGHT), tick(ts=MIDNIGHT + 2, seq=1), closed=True)
    seal_day(day, vault.now)
    file = DayFile(day.late, closed=day.db)
    file.write(Batch(ticks=[tick(ts=MIDNIGHT + 1, seq=2)]))
    file.close()

    async def scenario(client):
        for generation in (1, 2):
            assert moments(await client.get(URL)) == [0, 2, 1]
            (line,) = (await client.get("/api/history/available?ts_format=ns")).json()
            assert (line["ticks"], line["state"], line["generation"]) == (3, "sealed", generation)
            assert (await client.get("/api/pipeline/stats")).json()["account"]["stored"] == 3
            if generation == 1:
                amend_day(day, day.late, vault.now, None)

    vault.run(scenario)


def test_a_damaged_sealed_day_is_named_and_the_others_are_served(vault, tick, day):
    vault.write(tick(ts=MIDNIGHT), closed=True)
    vault.write(tick(ts=MIDNIGHT + NS_PER_DAY), closed=True)
    seal_day(day, vault.now)
    (path,) = [path for path in day.parquet() if path.name.startswith("ticks_")]
    path.write_bytes(path.read_bytes()[:100])
    page = vault.get(URL).json()
    assert (page["count"], page["complete"]) == (1, False)
    assert "2026-11-18" in page["warnings"][0]
    table, last = arrow(vault.get(f"{URL}&format=arrow").content)
    assert (len(table), last[b"tickvault.complete"]) == (1, b"false")
    assert b"2026-11-18" in last[b"tickvault.warnings"]
    metadata = pq.read_metadata(io.BytesIO(vault.get(f"{URL}&format=parquet").content)).metadata
    assert metadata[b"tickvault.complete"] == b"false"


def arrow(content):
    """The table and the metadata of the last batch."""
    reader = pa.ipc.open_stream(content)
    batches = []
    while True:
        try:
            batches.append(reader.read_next_batch_with_custom_metadata())
        except StopIteration:
            break
    return pa.Table.from_batches([batch for batch, _ in batches]), dict(batches[-1][1].items())


@pytest.fixture
def varied(vault, tick):
    """Exact to the last decimal, one-sided, to the ns, imported, of providers that come one after the other; sealed and open."""
    vault.write(
        tick(ts=MIDNIGHT, bid=1, ask=999_999_999_999_999_999, bid_size=0.1, ask_size=2.5e6, flags=1),
        tick(ts=MIDNIGHT + 1_001, seq=1, bid=None, ask=100_000_000_000, bid_size=None, flags=64),
        (*tick(ts=MIDNIGHT + 2_000_000, provider="LP2")[:4], None, *tick()[5:]),
        closed=True,
    )
    seal_day(TierDay(DAY, "", vault.folder), vault.now)
    vault.write(*(tick(ts=MIDNIGHT + NS_PER_DAY + n, seq=n, provider=f"LP{n % 4}") for n in range(100)))
    return vault


@pytest.mark.parametrize("more", ["", "&limit=1000", "&order=desc", "&provider=LP2", "&exclude=crossed"])
def test_arrow_and_parquet_hold_what_json_says(varied, more):
    text = varied.get(f"{URL}&ts_format=ns&limit=1000{more.replace('&limit=1000', '')}").text
    data = json.loads(text, parse_float=Decimal)["data"]
    table, metadata = arrow(varied.get(f"{URL}{more}", headers={"accept": "application/vnd.apache.arrow.stream"}).content)
    assert metadata[b"tickvault.complete"] == b"true"
    sealed = pq.read_table(io.BytesIO(varied.get(f"{URL}&format=parquet{more}").content))
    assert sealed.schema.field("bid").type == table.schema.field("bid").type == pa.decimal128(18, 9)
    assert sealed.schema.names == STORED["ticks"].names
    assert len(table) == len(sealed) == len(data) > 0
    for row, found, stored in zip(data, plain(table), plain(sealed), strict=True):
        assert found["ts"] == stored["ts"] * 1_000_000 + stored["ts_sub_ms"] == int(row["ts"])
        for one in (found, stored):
            assert (one["symbol"], one["provider"], one["seq"]) == ("EUR/USD", row["provider"], row["seq"])
            assert {name: one[name] for name in ("bid", "ask", "flags")} == {name: row[name] for name in ("bid", "ask", "flags")}
            for name in ("bid_size", "ask_size"):
                assert one[name] == (None if row[name] is None else float(row[name]))


def plain(table):
    """Rows of plain values, times as integers."""
    columns = {
        name: table[name].cast("int64") if pa.types.is_timestamp(table.schema.field(name).type) else table[name]
        for name in table.schema.names
    }
    return pa.table(columns).to_pylist()


def test_polars_and_duckdb_read_them_with_exact_values(varied):
    pl, duckdb = pytest.importorskip("polars"), pytest.importorskip("duckdb")
    content = {name: varied.get(f"{URL}&format={name}").content for name in ("arrow", "parquet")}
    for frame in (pl.read_ipc_stream(content["arrow"]), pl.read_parquet(content["parquet"])):
        assert len(frame) == 103
        first = frame.row(0, named=True)
        assert (first["bid"], first["ask"]) == (Decimal("0.000000001"), Decimal("999999999.999999999"))
        assert frame["provider"].cast(pl.String).unique().sort().to_list() == ["LP0", "LP1", "LP2", "LP3"]
        assert frame["provider"].cast(pl.String).to_list()[3:7] == ["LP0", "LP1", "LP2", "LP3"]
    path = varied.folder / "answer.parquet"
    path.write_bytes(content["parquet"])
    sealed = TierDay(DAY, "", varied.folder).parquet()
    (ticks,) = [str(found) for found in sealed if found.name.startswith("ticks_")]
    with duckdb.connect() as connection:
        query = "SELECT max(ask), min(bid), count(*) FROM read_parquet(?)"
        right = (Decimal("999999999.999999999"), Decimal("0.000000001"), 106)
        assert connection.execute(query, [[str(path), ticks]]).fetchone() == right  # beside the files of the store


def test_an_empty_range_is_an_empty_table(varied):
    url = "/api/history/ticks/EURUSD?start=2026-11-10&end=2026-11-11"
    table, _ = arrow(varied.get(f"{url}&format=arrow").content)
    assert (len(table), table.schema.field("ask").type) == (0, pa.decimal128(18, 9))
    assert pq.read_table(io.BytesIO(varied.get(f"{url}&format=parquet").content)).num_rows == 0


def test_a_long_range_is_one_stream_and_a_limit_makes_it_pages(vault, tick):
    vault.write(*(tick(ts=MIDNIGHT + n, seq=n) for n in range(3_000)))
    assert len(arrow(vault.get(f"{URL}&format=arrow").content)[0]) == 3_000
    page = vault.get(f"{URL}&format=arrow&limit=2000")
    assert len(arrow(page.content)[0]) == 2_000
    assert page.headers["tickvault-complete"] == "false"
    assert 'rel="next"' in page.headers["link"]


def test_known_at_leaves_out_what_had_not_been_received(vault, tick):
    vault.write(tick(ts=MIDNIGHT), (*tick(ts=MIDNIGHT + 1, seq=1)[:4], MIDNIGHT + 10**10, *tick()[5:]))
    assert moments(vault.get(f"{URL}&known_at=2026-11-18T00:00:05Z")) == [0]
    assert moments(vault.get(URL)) == [0, 1]
    assert vault.get(f"{URL}&known_at=soon").json()["errors"][0]["parameter"] == "known_at"

    async def scenario(client):
        cursor = (await client.get(f"{URL}&limit=1")).json()["next_cursor"]
        return await client.get(f"{URL}&limit=1&cursor={cursor}&known_at=2026-11-19")

    assert vault.run(scenario).json()["code"] == "cursor-mismatch"


def test_quotes_as_of_a_time_are_one_a_provider(vault, tick, day):
    rows = [tick(ts=MIDNIGHT + n * 10**9, seq=n, provider=f"LP{n % 2}") for n in range(6)]
    rows.append((*tick(ts=MIDNIGHT + 10 * 10**9, seq=9, provider="LP1")[:4], MIDNIGHT + 60 * 10**9, *tick()[5:]))
    vault.write(*rows, closed=True)
    seal_day(day, vault.now)
    url = "/api/quotes/history/EUR/USD?ts_format=ns"
    answer = vault.get(f"{url}&at=2026-11-18T00:00:30Z").json()
    assert [(quote["provider"], quote["seq"], quote["age_ms"]) for quote in answer["quotes"]] == [
        ("LP1", 9, 20_000),
        ("LP0", 4, 26_000),
    ]
    known = vault.get(f"{url}&at=2026-11-18T00:00:30Z&known_at=2026-11-18T00:00:30Z").json()
    assert [(quote["provider"], quote["seq"]) for quote in known["quotes"]] == [("LP1", 5), ("LP0", 4)]
    assert vault.get(f"{url}&at=2026-11-17").json()["quotes"] == []
    assert [quote["seq"] for quote in vault.get(f"{url}&at={MIDNIGHT}&provider=LP0").json()["quotes"]] == [0]
    assert len(vault.get("/api/quotes/history/eurusd").json()["quotes"]) == 2  # now
    assert vault.get(f"{url}&at=soon").status_code == 400
    assert vault.get("/api/quotes/history/GBPUSD").status_code == 404


def test_others_are_answered_while_a_long_range_is_streamed(vault, tick):
    vault.write(*(tick(ts=MIDNIGHT + n, seq=n) for n in range(20_000)), closed=True)

    async def scenario(client):
        streams = [client.get(f"{URL}&format={name}") for name in ("arrow", "parquet", "arrow", "parquet")]
        pages = [client.get(f"{URL}&limit=10") for _ in range(10)]
        return await asyncio.gather(*streams, *pages)

    assert {answer.status_code for answer in vault.run(scenario)} == {200}


def test_no_day_file_is_opened_by_anything_but_one_library(vault, tick, day):
    """Another SQLite, or another descriptor, would drop that one's POSIX locks when it is closed."""
    vault.write(*(tick(ts=MIDNIGHT + n, seq=n) for n in range(3)), closed=True)
    vault.write(tick(ts=MIDNIGHT + NS_PER_DAY))
    seal_day(day, vault.now)
    opened = []
    audited = True

    def audit(event, arguments):
        if audited and event in ("open", "sqlite3.connect") and str(arguments[0]).endswith(".db"):
            opened.append((event, arguments[0]))

    sys.addaudithook(audit)
    try:
        for path in (URL, f"{URL}&format=parquet", "/api/history/available", "/api/quotes/history/EURUSD", "/api/pipeline/stats"):
            assert vault.get(path).status_code == 200
    finally:
        audited = False
    assert opened == []
