"""How the feeds are, and what was raised and cleared, also while the gateway or Redis says nothing."""

import asyncio

import pytest

from libs.common.domain.feed import Alert, FeedHealth
from libs.common.domain.moment import NS_PER_S, parse_moment
from services.distribution.feed import REPORTING_S, status_of

NOW = parse_moment("2026-11-20T12:00:00Z")
HEALTH = "/api/pipeline/feed-health"
ALERTS = "/api/pipeline/alerts"


def session(name="LP1", state="established", *, up=True, at=NOW, **more):
    return FeedHealth(name, "fix", state, up=up, at=at, since=at - 60 * NS_PER_S, **more)


def alert(number, state="raised"):
    return Alert(NOW + number, "gateway", "LP1", "stale", state, f"no quotes ({number})")


def ask(vault, stream, url):
    async def scenario():
        async with vault.serving(stream) as client:
            return await client.get(url)

    return asyncio.run(scenario())


def test_a_session_is_told_with_its_times_as_rfc_3339(vault, stream):
    stream.sessions = [
        session(
            stale=["FX"], last_quote_at=NOW - 1, next_in=7, next_out=8, messages=6, garbled=1, rejects_received=2,
            resend_requests=3, duplicates_dropped=4, heartbeat_rtt_s=0.25, symbols=128, refused_symbols={"ABC": "unknown symbol"},
            open_gaps=1, retry_at=NOW + NS_PER_S, alarm="look", alerts={"stale": "FX is quiet"},
        )
    ]  # fmt: skip
    answer = ask(vault, stream, HEALTH)
    assert answer.headers["cache-control"] == "no-store"
    assert answer.json() == {
        "status": "degraded",
        "sessions": [
            {
                "session": "LP1", "kind": "fix", "state": "established", "up": True, "reporting": True,
                "at": "2026-11-20T12:00:00.000Z", "since": "2026-11-20T11:59:00.000Z", "alarm": "look", "stale": ["FX"],
                "last_quote_at": "2026-11-20T11:59:59.999999999Z", "next_in": 7, "next_out": 8, "messages": 6, "garbled": 1,
                "rejects_received": 2, "resend_requests": 3, "duplicates_dropped": 4, "heartbeat_rtt_s": 0.25, "symbols": 128,
                "refused_symbols": {"ABC": "unknown symbol"}, "open_gaps": 1, "retry_at": "2026-11-20T12:00:01.000Z",
                "alerts": {"stale": "FX is quiet"},
            }
        ],
    }  # fmt: skip


def test_what_a_gateway_said_last_is_not_taken_for_what_is(vault, stream):
    stream.sessions = [session(at=NOW - REPORTING_S * NS_PER_S), session("LP2", at=NOW - REPORTING_S * NS_PER_S - 1, next_in=7)]
    body = ask(vault, stream, HEALTH).json()
    assert body["status"] == "degraded"
    told = [(line["session"], line["reporting"], line["state"], line["up"]) for line in body["sessions"]]
    assert told == [("LP1", True, "established", True), ("LP2", False, "unknown", False)]
    assert body["sessions"][1]["next_in"] == 7


LONG_AGO = NOW - 3600 * NS_PER_S
DOWN = session("LP2", "disconnected", up=False)
CLOSED = session("LP3", "out_of_schedule", up=False)


@pytest.mark.parametrize(
    ("sessions", "status"),
    [
        ([], "down"),
        ([session()], "ok"),
        ([session(), CLOSED], "ok"),
        ([CLOSED], "ok"),
        ([session(), DOWN], "degraded"),
        ([DOWN], "down"),
        ([DOWN, CLOSED], "down"),
        ([session(at=LONG_AGO)], "down"),
        ([session("LP3", "out_of_schedule", up=False, at=LONG_AGO)], "down"),
        ([session(), session("LP3", "out_of_schedule", up=False, at=LONG_AGO)], "degraded"),
        ([session(stale=["FX"])], "degraded"),
        ([session(alarm="look")], "degraded"),
        ([session(alerts={"journal": "the disk is full"})], "degraded"),
        ([session("LP3", "out_of_schedule", up=False, alerts={"journal": "the disk is full"})], "degraded"),
    ],
)
def test_the_status_over_all_sessions(sessions, status):
    assert status_of(sessions, NOW) == status


def test_alerts_are_told_newest_first_up_to_the_limit(vault, stream):
    stream.log = [alert(1), alert(2, "cleared"), alert(3)]
    body = ask(vault, stream, f"{ALERTS}?limit=2").json()
    assert body == {
        "active": [],
        "alerts": [
            {
                "at": "2026-11-20T12:00:00.000000003Z", "source": "gateway", "session": "LP1", "kind": "stale",
                "state": "raised", "text": "no quotes (3)",
            },
            {
                "at": "2026-11-20T12:00:00.000000002Z", "source": "gateway", "session": "LP1", "kind": "stale",
                "state": "cleared", "text": "no quotes (2)",
            },
        ],
    }  # fmt: skip
    assert len(ask(vault, stream, ALERTS).json()["alerts"]) == 3


def test_active_alerts_are_those_of_the_sessions_also_of_a_silent_gateway(vault, stream):
    stream.sessions = [session(alerts={"stale": "FX", "journal": "full"}), session("LP2", at=LONG_AGO, alerts={"stale": "FX"})]
    assert ask(vault, stream, ALERTS).json()["active"] == [
        {"session": "LP1", "kind": "journal", "text": "full", "reporting": True},
        {"session": "LP1", "kind": "stale", "text": "FX", "reporting": True},
        {"session": "LP2", "kind": "stale", "text": "FX", "reporting": False},
    ]


@pytest.mark.parametrize("url", [HEALTH, ALERTS])
def test_without_redis_the_answer_is_a_503_problem(vault, stream, url):
    stream.fail()
    answer = ask(vault, stream, url)
    assert (answer.status_code, answer.headers["content-type"]) == (503, "application/problem+json")
    assert "retry-after" in answer.headers


@pytest.mark.parametrize("url", [f"{HEALTH}?session=LP1", f"{ALERTS}?limit=0", f"{ALERTS}?limit=10001", f"{ALERTS}?limt=1"])
def test_a_parameter_that_means_nothing_is_a_400_problem(vault, stream, url):
    answer = ask(vault, stream, url)
    assert (answer.status_code, answer.headers["content-type"]) == (400, "application/problem+json")
