"""Pages of ticks: every tick once, in order, whatever the page's size and wherever the ticks lie."""

import asyncio
import json
import tempfile
from decimal import Decimal
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from libs.common.domain.moment import NS_PER_DAY, parse_moment

MIDNIGHT = parse_moment("2026-11-20")
RANGE = "start=2026-11-19&end=2026-11-22&ts_format=ns"


async def pages(client, url):
    """All pages' rows, by next_cursor."""
    rows, cursor = [], None
    while True:
        answer = await client.get(f"{url}&cursor={cursor}" if cursor else url)
        assert answer.status_code == 200, answer.text
        page = answer.json()
        assert page["count"] == len(page["data"])
        rows += [(int(row["ts"]), row["provider"], row["seq"]) for row in page["data"]]
        cursor = page["next_cursor"]
        if cursor is None:
            return rows
        assert page["complete"] is False


@st.composite
def histories(draw):
    """Ticks of three days with many ties; whether each came late, and the providers in an order that is not alphabetical."""
    stands = st.tuples(st.integers(0, 2), st.integers(0, 3), st.sampled_from(["LP3", "LP1", "LP2"]), st.booleans(), st.booleans())
    numbers: dict[tuple[int, str], int] = {}
    ticks = []
    for day, offset, provider, late, spike in draw(st.lists(stands, max_size=25)):
        seq = numbers[day, provider] = numbers.get((day, provider), -1) + 1
        ts = MIDNIGHT + (day - 1) * NS_PER_DAY + (offset if offset < 2 else NS_PER_DAY - offset)
        ticks.append((ts, provider, seq, late, 4 if spike else 0))
    return ticks


@given(
    history=histories(),
    limit=st.integers(1, 9),
    order=st.sampled_from(["asc", "desc"]),
    provider=st.sampled_from([None, "LP1"]),
    exclude=st.booleans(),
)
@settings(max_examples=40, deadline=None)
def test_concatenated_pages_equal_the_whole(history, limit, order, provider, exclude, new_vault, tick):
    with tempfile.TemporaryDirectory() as folder:
        vault = new_vault(Path(folder))
        rows = [(tick(provider=name, ts=ts, seq=seq, flags=flags), late) for ts, name, seq, late, flags in history]
        rows.append((tick(provider="LP1", ts=MIDNIGHT - 5 * NS_PER_DAY), False))  # so that LP1 is known
        vault.write(*(row for row, late in rows if not late))
        vault.write(*(row for row, late in rows if late), late=True)
        url = f"/api/history/ticks/EURUSD?{RANGE}&limit={limit}&order={order}"
        url += f"&provider={provider}" if provider else ""
        url += "&exclude=spike" if exclude else ""
        expected = sorted(
            (ts, name, seq) for ts, name, seq, _, flags in history if provider in (None, name) and not (exclude and flags)
        )
        found = vault.run(lambda client: pages(client, url))
    assert found == (expected if order == "asc" else expected[::-1])


def test_ticks_of_one_instant_are_ordered_by_provider_and_number(vault, tick):
    ties = [tick(provider=name, ts=MIDNIGHT, seq=seq) for name, seq in [("LP2", 0), ("LP1", 0), ("LP1", 1), ("LP2", 1)]]
    vault.write(*ties)
    url = f"/api/history/ticks/EUR/USD?{RANGE}&limit=1"
    expected = [(MIDNIGHT, "LP1", 0), (MIDNIGHT, "LP1", 1), (MIDNIGHT, "LP2", 0), (MIDNIGHT, "LP2", 1)]
    assert vault.run(lambda client: pages(client, url)) == expected
    assert vault.run(lambda client: pages(client, url + "&order=desc")) == expected[::-1]


def test_late_ticks_stand_where_their_time_puts_them(vault, tick):
    vault.write(tick(ts=MIDNIGHT, seq=0), tick(ts=MIDNIGHT + 2, seq=1), closed=True)
    vault.write(tick(ts=MIDNIGHT + 1, seq=2), late=True)
    found = vault.run(lambda client: pages(client, f"/api/history/ticks/EURUSD?{RANGE}&limit=2"))
    assert [seq for _, _, seq in found] == [0, 2, 1]


def test_a_tick_that_two_files_of_a_day_hold_is_shown_once(vault, tick):
    vault.write(tick(ts=MIDNIGHT), closed=True)
    vault.write(tick(ts=MIDNIGHT), tick(ts=MIDNIGHT + 1, seq=1), late=True)
    assert vault.get(f"/api/history/ticks/EURUSD?{RANGE}").json()["count"] == 2


def test_a_symbol_is_found_in_its_partition_s_file(vault, tick):
    vault.write(tick(symbol="GBP/USD", ts=MIDNIGHT), partition=0)
    vault.write(tick(symbol="EUR/USD", ts=MIDNIGHT), partition=1)
    assert vault.get(f"/api/history/ticks/EURUSD?{RANGE}").json()["count"] == 1


def test_a_page_crosses_midnight(vault, tick):
    vault.write(tick(ts=MIDNIGHT - 1), closed=True)
    vault.write(tick(ts=MIDNIGHT))
    found = vault.run(lambda client: pages(client, f"/api/history/ticks/EURUSD?{RANGE}"))
    assert found == [(MIDNIGHT - 1, "LP1", 0), (MIDNIGHT, "LP1", 0)]


def test_start_is_inclusive_and_end_exclusive(vault, tick):
    vault.write(*(tick(ts=MIDNIGHT + n, seq=n) for n in range(4)))
    url = f"/api/history/ticks/EURUSD?ts_format=ns&start={MIDNIGHT + 1}&end={MIDNIGHT + 3}"
    assert [row["seq"] for row in vault.get(url).json()["data"]] == [1, 2]


def test_ticks_that_arrive_between_two_pages_are_neither_doubled_nor_skipped(vault, tick):
    vault.write(*(tick(ts=MIDNIGHT + n // 2, seq=n) for n in range(4)))

    async def scenario(client):
        url = "/api/history/ticks/EURUSD?start=2026-11-20&limit=3"
        first = (await client.get(url)).json()
        vault.write(*(tick(ts=MIDNIGHT + 1 + n // 2, seq=n) for n in range(4, 8)))
        second = (await client.get(f"{url.replace('limit=3', 'limit=99')}&cursor={first['next_cursor']}")).json()
        return [row["seq"] for page in (first, second) for row in page["data"]]

    assert vault.run(scenario) == list(range(8))


def test_until_now_means_the_same_instant_on_every_page(vault, tick):
    vault.write(tick(ts=vault.now - 2), tick(ts=vault.now - 1, seq=1), tick(ts=vault.now + 5, seq=2))

    async def scenario(client):
        url = "/api/history/ticks/EURUSD?limit=1"
        first = (await client.get(url)).json()
        vault.now += 10
        second = (await client.get(f"{url}&cursor={first['next_cursor']}")).json()
        return first, second

    first, second = vault.run(scenario)
    assert second["end"] == first["end"]
    assert second["next_cursor"] is None
    assert [row["seq"] for row in second["data"]] == [1]


def test_the_link_header_leads_through_csv_pages(vault, tick):
    ticks = [tick(ts=MIDNIGHT + n, seq=n) for n in range(5)]
    vault.write(*ticks)

    async def scenario(client):
        lines, url = [], "/api/history/ticks/EUR/USD?start=2026-11-20&limit=2&format=csv"
        while url:
            answer = await client.get(url)
            header, *data = answer.text.splitlines()
            assert header == "ts,provider,seq,bid,ask,bid_size,ask_size,flags"
            lines += data
            url = answer.links["next"]["url"] if answer.links else None
        return [line.split(",")[2] for line in lines]

    assert vault.run(scenario) == ["0", "1", "2", "3", "4"]


def test_json_ndjson_and_csv_say_the_same(vault, tick):
    vault.write(
        tick(ts=MIDNIGHT, bid=1, ask=999_999_999_999_999_999, bid_size=0.1, ask_size=2.5e6, flags=1),
        tick(ts=MIDNIGHT + 1_000, seq=1, bid=None, ask=100_000_000_000, bid_size=None, flags=64),
        tick(ts=MIDNIGHT + 1_000_000, seq=2),
    )
    url = "/api/history/ticks/EURUSD?start=2026-11-20"
    for ts_format in ("iso", "ms", "ns"):
        texts = {
            format_: vault.get(f"{url}&ts_format={ts_format}&format={format_}").text for format_ in ("json", "ndjson", "csv")
        }
        rows = json.loads(texts["json"], parse_float=Decimal)["data"]
        assert [json.loads(line, parse_float=Decimal) for line in texts["ndjson"].splitlines()] == rows
        header, *lines = texts["csv"].splitlines()
        as_text = [["" if value is None else f"{value}" for value in row.values()] for row in rows]
        as_text[0][3] = "0.000000001"  # Decimal writes it as 1E-9
        assert header.split(",") == list(rows[0])
        assert [line.split(",") for line in lines] == as_text


def test_prices_keep_their_exact_decimals(vault, tick):
    vault.write(tick(ts=MIDNIGHT, bid=1, ask=999_999_999_999_999_999))
    text = vault.get("/api/history/ticks/EURUSD?start=2026-11-20").text
    assert '"bid":0.000000001,"ask":999999999.999999999,' in text


def test_an_unreadable_day_is_named_and_the_others_are_served(vault, tick):
    vault.write(tick(ts=MIDNIGHT - NS_PER_DAY), closed=True)
    vault.write(tick(ts=MIDNIGHT))
    vault.day_path("2026-11-19").write_bytes(b"no database at all, certainly not" * 200)
    answer = vault.get("/api/history/ticks/EURUSD?start=2026-11-18&end=2026-11-20T06:00:00")
    page = answer.json()
    assert page["count"] == 1
    assert page["complete"] is False
    assert "2026-11-19" in page["warnings"][0]
    assert "2026-11-19" in answer.headers["tickvault-warning"]
    assert str(vault.folder) not in answer.text


def test_the_rest_of_a_page_in_the_past_without_gaps_is_complete(vault, tick):
    vault.write(tick(ts=MIDNIGHT))
    assert vault.get("/api/history/ticks/EURUSD?start=2026-11-20&end=2026-11-20T11:00").json()["complete"] is True
    assert vault.get("/api/history/ticks/EURUSD?start=2026-11-20").json()["complete"] is False  # ends next midnight


def test_a_gap_in_the_range_is_shown_and_makes_it_incomplete(vault, tick, gap):
    vault.write(tick(ts=MIDNIGHT), gaps=[gap("2026-11-20T01:00", "2026-11-20T02:00")])
    url = "/api/history/ticks/EURUSD?start=2026-11-20"
    page = vault.get(f"{url}&end=2026-11-20T03:00").json()
    assert page["complete"] is False
    assert page["gaps"] == [
        {
            "session": "LP1",
            "first_seq": 5,
            "last_seq": 9,
            "from": "2026-11-20T01:00:00.000Z",
            "to": "2026-11-20T02:00:00.000Z",
            "cause": "disconnect",
            "resolved_by": None,
        }
    ]
    before = vault.get(f"{url}&end=2026-11-20T01:00").json()
    assert (before["gaps"], before["complete"]) == ([], True)


def test_a_gap_that_was_resent_in_full_is_shown_but_misses_nothing(vault, tick, gap):
    vault.write(tick(ts=MIDNIGHT), gaps=[gap("2026-11-20T01:00", "2026-11-20T02:00", resolved_by="resend")])
    page = vault.get("/api/history/ticks/EURUSD?start=2026-11-20&end=2026-11-20T03:00").json()
    assert len(page["gaps"]) == 1
    assert page["complete"] is True


def test_a_gap_that_began_on_another_day_is_shown(vault, tick, gap):
    vault.write(tick(ts=MIDNIGHT - NS_PER_DAY), gaps=[gap("2026-11-19T23:00", None)], closed=True)
    vault.write(tick(ts=MIDNIGHT))
    page = vault.get("/api/history/ticks/EURUSD?start=2026-11-20&end=2026-11-20T01:00").json()
    assert [found["to"] for found in page["gaps"]] == [None]


def test_another_provider_s_gap_does_not_concern_a_page_of_one_provider(vault, tick, gap):
    there = [gap("2026-11-20T01:00", "2026-11-20T02:00", session="LP2")]
    vault.write(tick(ts=MIDNIGHT), tick(ts=MIDNIGHT, provider="LP2"), gaps=there)
    url = "/api/history/ticks/EURUSD?start=2026-11-20&end=2026-11-20T03:00"
    assert vault.get(f"{url}&provider=LP1").json()["gaps"] == []
    assert len(vault.get(f"{url}&provider=LP2").json()["gaps"]) == 1
    assert len(vault.get(url).json()["gaps"]) == 1


def test_many_requests_at_once_all_get_their_page(vault, tick):
    for day in range(6):
        vault.write(tick(ts=MIDNIGHT - day * NS_PER_DAY), closed=day > 0)

    async def scenario(client):
        url = "/api/history/ticks/EURUSD?start=2026-11-10&end=2026-11-21"
        return await asyncio.gather(*(client.get(url) for _ in range(20)))

    assert {answer.json()["count"] for answer in vault.run(scenario)} == {6}
