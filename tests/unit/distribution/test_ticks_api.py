"""What a client may ask of the history, and what it is told where it asks for something else."""

import asyncio

import pytest

from libs.common.domain.moment import NS_PER_DAY, parse_moment
from libs.common.testing.day_writer import DayWriter
from services.distribution.cursor import CURSOR_VERSION, Cursor, digest_of, write_cursor

MIDNIGHT = parse_moment("2026-11-20")
TICKS = "/api/history/ticks/EURUSD"


@pytest.fixture
def filled(vault, tick):
    vault.write(*(tick(ts=MIDNIGHT + n, seq=n) for n in range(4)))
    return vault


def problem_of(answer, status, code):
    assert answer.headers["content-type"] == "application/problem+json", answer.text
    body = answer.json()
    assert (answer.status_code, body["status"], body["code"]) == (status, status, code), answer.text
    assert body["type"] == f"urn:tickvault:problem:{code}"
    assert body["request_id"] == answer.headers["x-request-id"]
    assert body["title"]
    assert body["instance"]
    return body


@pytest.mark.parametrize("symbol", ["EUR/USD", "EUR%2FUSD", "eur/usd", "EURUSD", "eurusd", "EUR-USD", "EUR/USD/"])
def test_a_symbol_is_found_however_it_is_spelled(filled, symbol):
    answer = filled.get(f"/api/history/ticks/{symbol}")
    assert answer.status_code == 200
    assert answer.json()["symbol"] == "EUR/USD"


def test_a_spelling_that_fits_two_symbols_is_not_guessed(filled, tick):
    filled.write(tick(symbol="EUR.USD", ts=MIDNIGHT))
    body = problem_of(filled.get(TICKS), 404, "unknown-symbol")
    assert sorted(body["nearest"]) == ["EUR.USD", "EUR/USD"]


def test_an_unknown_symbol_names_the_nearest(filled):
    body = problem_of(filled.get("/api/history/ticks/EURUSX"), 404, "unknown-symbol")
    assert body["nearest"] == ["EUR/USD"]


@pytest.mark.parametrize(
    "symbol", ["%00", "E%00", "EUR%20USD", "A" * 33, "", "EUR:USD", "%F0%9F%92%A9", "..\\..", "'%20OR%201=1"]
)
def test_what_cannot_be_a_symbol_is_refused(filled, symbol):
    problem_of(filled.get(f"/api/history/ticks/{symbol}"), 400, "invalid-symbol")


@pytest.mark.parametrize("symbol", ["%2e%2e", "%2e%2e%2f%2e%2e%2fetc%2fpasswd", "..%2Fticks", "%23", "A" * 32])
def test_what_looks_like_a_path_is_only_an_unknown_symbol(filled, symbol):
    problem_of(filled.get(f"/api/history/ticks/{symbol}"), 404, "unknown-symbol")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-11-20", "2026-11-20T00:00:00.000Z"),
        ("2026-11-20T00:00:00.000000001", "2026-11-20T00:00:00.000000001Z"),
        ("2026-11-20T02:00:00%2B02:00", "2026-11-20T00:00:00.000Z"),
        (str(MIDNIGHT + 1_000), "2026-11-20T00:00:00.000001Z"),
        ("-1", "1969-12-31T23:59:59.999999999Z"),
    ],
)
def test_a_start_is_rfc_3339_or_nanoseconds(filled, text, expected):
    assert filled.get(f"{TICKS}?start={text}&end=2026-11-21").json()["start"] == expected


@pytest.mark.parametrize("text", ["yesterday", "", "2026-13-01", "20/11/2026", "1.5", "--5", "9" * 30, "2026-11-20T25:00", "NaN"])
@pytest.mark.parametrize("name", ["start", "end"])
def test_anything_else_is_a_400_that_says_what_to_write(filled, name, text):
    body = problem_of(filled.get(TICKS, params={name: text}), 400, "invalid-parameter")
    assert body["errors"][0]["parameter"] == name


def test_a_plus_that_became_a_space_is_explained(filled):
    body = problem_of(filled.get(f"{TICKS}?start=2026-11-20T02:00:00+02:00"), 400, "invalid-parameter")
    assert "%2B" in body["detail"]


def test_without_an_end_a_bare_date_is_that_day_and_a_time_goes_on_until_now(filled):
    assert filled.get(f"{TICKS}?start=2026-11-18").json()["end"] == "2026-11-19T00:00:00.000Z"
    assert filled.get(f"{TICKS}?start=2026-11-18T00:00").json()["end"] == "2026-11-20T12:00:00.000Z"


def test_without_start_and_end_it_is_today_until_now(filled):
    page = filled.get(TICKS).json()
    assert (page["start"], page["end"]) == ("2026-11-20T00:00:00.000Z", "2026-11-20T12:00:00.000Z")
    assert (page["count"], page["complete"]) == (4, True)


@pytest.mark.parametrize("query", ["start=2026-11-20&end=2026-11-20", "start=2026-11-21&end=2026-11-20", "end=2026-11-19"])
def test_a_range_that_is_empty_or_backwards_is_refused(filled, query):
    problem_of(filled.get(f"{TICKS}?{query}"), 400, "invalid-parameter")


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("strt", "start"),
        ("from", "start"),
        ("to", "end"),
        ("Limit", "limit"),
        ("page_token", "cursor"),
        ("tsformat", "ts_format"),
    ],
)
def test_an_unknown_parameter_is_refused_with_what_was_meant(filled, name, meant):
    body = problem_of(filled.get(TICKS, params={name: "1"}), 400, "unknown-parameter")
    assert f"did you mean {meant}?" in body["detail"]


def test_a_parameter_given_twice_is_refused(filled):
    problem_of(filled.get(f"{TICKS}?limit=1&limit=2"), 400, "invalid-parameter")


@pytest.mark.parametrize(
    "query",
    ["limit=0", "limit=50001", "limit=many", "order=up", "format=xml", "ts_format=s", "exclude=spikes", "exclude=spike,odd"],
)
def test_a_value_outside_its_range_is_a_400_that_names_the_parameter(filled, query):
    body = problem_of(filled.get(f"{TICKS}?{query}"), 400, "invalid-parameter")
    assert body["errors"][0]["parameter"] == query.split("=")[0]


def test_an_unknown_provider_is_refused_with_what_was_meant(filled):
    body = problem_of(filled.get(f"{TICKS}?provider=LP2"), 400, "unknown-provider")
    assert "LP1" in body["detail"]


def test_marked_ticks_can_be_left_out(vault, tick):
    vault.write(*(tick(ts=MIDNIGHT + n, seq=n, flags=flags) for n, flags in enumerate([0, 1, 2, 4, 5, 64])))
    page = vault.get(f"{TICKS}?exclude=spike,crossed").json()
    assert [row["flags"] for row in page["data"]] == [0, 2, 64]


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        ("*/*", "application/json"),
        ("text/csv", "text/csv; charset=utf-8; header=present"),
        ("text/html, application/xhtml+xml, */*;q=0.8", "application/json"),
        ("application/json;q=0.5, application/x-ndjson", "application/x-ndjson"),
        ("text/*", "text/csv; charset=utf-8; header=present"),
        ("application/vnd.apache.parquet, */*;q=0.1", "application/vnd.apache.parquet"),
        ("application/vnd.apache.arrow.stream", "application/vnd.apache.arrow.stream"),
    ],
)
def test_accept_chooses_the_format(filled, accept, expected):
    answer = filled.get(TICKS, headers={"accept": accept})
    assert answer.headers["content-type"] == expected
    assert answer.headers["vary"] == "Accept"


def test_the_parameter_overrides_accept(filled):
    answer = filled.get(f"{TICKS}?format=ndjson", headers={"accept": "image/png"})
    assert answer.headers["content-type"] == "application/x-ndjson"


@pytest.mark.parametrize("accept", ["image/png", "application/json;q=0", "nonsense"])
def test_a_format_that_cannot_be_had_is_a_406_that_lists_those_that_can(filled, accept):
    body = problem_of(filled.get(TICKS, headers={"accept": accept}), 406, "not-acceptable")
    assert body["available"] == [
        "application/json",
        "text/csv",
        "application/x-ndjson",
        "application/vnd.apache.arrow.stream",
        "application/vnd.apache.parquet",
    ]


@pytest.mark.parametrize(
    "change",
    [
        {"order": "desc"},
        {"provider": "LP1"},
        {"exclude": "spike"},
        {"start": "2026-11-19"},
        {"end": "2026-11-20T01:00"},
        {"symbol": "GBPUSD"},
    ],
)
def test_a_cursor_of_another_question_is_refused(filled, tick, change):
    filled.write(tick(symbol="GBP/USD", ts=MIDNIGHT))

    async def scenario(client):
        query = {"start": "2026-11-20", "limit": "1"}
        cursor = (await client.get(TICKS, params=query)).json()["next_cursor"]
        symbol = change.get("symbol", "EURUSD")
        changed = {**query, "cursor": cursor, **{name: value for name, value in change.items() if name != "symbol"}}
        return await client.get(f"/api/history/ticks/{symbol}", params=changed)

    problem_of(filled.run(scenario), 400, "cursor-mismatch")


def test_limit_and_format_may_change_between_pages(filled):
    async def scenario(client):
        cursor = (await client.get(f"{TICKS}?limit=1")).json()["next_cursor"]
        return await client.get(f"{TICKS}?limit=2&format=csv&ts_format=ns&cursor={cursor}")

    assert [line.split(",")[2] for line in filled.run(scenario).text.splitlines()[1:]] == ["1", "2"]


def test_a_cursor_that_was_tampered_with_is_refused(filled):
    async def scenario(client):
        cursor = (await client.get(f"{TICKS}?limit=1")).json()["next_cursor"]
        wrong = [cursor[:-1], cursor + "A", "", "abc", "ü", "=" * 8, cursor * 2, " " + cursor]
        wrong += [f"{cursor[:at]}{'A' if cursor[at] != 'A' else 'B'}{cursor[at + 1 :]}" for at in range(len(cursor))]
        return [await client.get(TICKS, params={"limit": "1", "cursor": text}) for text in wrong]

    for answer in filled.run(scenario):
        problem_of(answer, 400, "invalid-cursor")


@pytest.mark.parametrize(
    "forged",
    [{"ts": 2**63 - 1}, {"end": -(2**63)}, {"version": 9}, {"seq": 2**64 - 1}, {"order": "up"}],
)
def test_a_forged_cursor_is_refused_and_never_a_500(filled, forged):
    digest = digest_of(("EUR/USD", None, None, None, "asc", "0"))
    honest = {"version": CURSOR_VERSION, "generation": 0, "ts": MIDNIGHT, "provider": "LP1", "seq": 0, "order": "asc"}
    honest |= {"start": MIDNIGHT, "end": MIDNIGHT + NS_PER_DAY, "digest": digest}
    assert filled.get(TICKS, params={"cursor": write_cursor(Cursor(**honest))}).status_code == 200
    problem_of(filled.get(TICKS, params={"cursor": write_cursor(Cursor(**{**honest, **forged}))}), 400, "invalid-cursor")


def test_an_unknown_path_is_a_problem(vault):
    problem_of(vault.get("/api/history/nothing"), 404, "not-found")


def test_another_method_is_a_problem_that_names_the_allowed(vault):
    async def scenario(client):
        return await client.post("/api/history/symbols")

    answer = vault.run(scenario)
    problem_of(answer, 405, "method-not-allowed")
    assert answer.headers["allow"] == "GET"


def test_the_request_id_is_echoed_or_made(filled):
    assert filled.get(TICKS, headers={"x-request-id": "abc-1"}).headers["x-request-id"] == "abc-1"
    made = filled.get(TICKS, headers={"x-request-id": "a b"}).headers["x-request-id"]
    assert made not in ("", "a b")
    assert problem_of(filled.get("/nope", headers={"x-request-id": "q"}), 404, "not-found")["request_id"] == "q"


def test_a_locked_file_is_a_503_that_says_when_to_come_again(vault, tick):
    with DayWriter(vault.day_path("2026-11-20")) as writer:
        writer.write([tick(ts=MIDNIGHT)])
        writer.lock()
        answer = vault.get(TICKS)
    problem_of(answer, 503, "not-yet")
    assert int(answer.headers["retry-after"]) > 0


def test_a_bug_is_a_500_that_tells_nothing_of_the_inside(vault, stream):
    class Broken(type(stream)):
        async def backlog(self, partition):
            raise ZeroDivisionError("secret inside")

    async def scenario():
        async with vault.serving(Broken()) as client:
            return await client.get("/api/pipeline/stats")

    answer = asyncio.run(scenario())
    problem_of(answer, 500, "internal")
    assert "secret" not in answer.text
