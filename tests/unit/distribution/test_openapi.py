"""The service's description of itself, and that its answers are what it describes."""

import asyncio

from pydantic import TypeAdapter

from libs.common.domain.feed import Alert, FeedHealth
from libs.common.domain.moment import parse_moment
from services.distribution import schema
from services.distribution.formats import MEDIA_TYPES

MIDNIGHT = parse_moment("2026-11-20")


def test_operations_are_named_as_a_client_s_methods(vault):
    document = vault.get("/openapi.json").json()
    names = {operation["operationId"] for path in document["paths"].values() for operation in path.values()}
    assert names == {
        "get_ticks",
        "list_symbols",
        "list_available",
        "get_latest",
        "list_latest",
        "get_quotes_as_of",
        "get_pipeline_stats",
        "get_feed_health",
        "list_alerts",
    }


def test_every_operation_declares_problems_and_none_a_422(vault):
    document = vault.get("/openapi.json").json()
    for path in document["paths"].values():
        for operation in path.values():
            assert "422" not in operation["responses"]
            assert "application/problem+json" in operation["responses"]["400"]["content"]
    assert "HTTPValidationError" not in document["components"]["schemas"]
    assert document["components"]["schemas"]["Problem"]["required"]
    content = document["paths"]["/api/history/ticks/{symbol}"]["get"]["responses"]["200"]["content"]
    assert {media_type.partition(";")[0] for media_type in MEDIA_TYPES.values()} == set(content)
    assert "410" in document["paths"]["/api/history/ticks/{symbol}"]["get"]["responses"]


def test_answers_are_what_the_description_says(vault, tick, gap, stream, until):
    vault.write(tick(ts=MIDNIGHT), gaps=[gap("2026-11-20T01:00", None)])
    stream.add(tick())
    stream.sessions.append(
        FeedHealth(
            "LP1", "fix", "logon_rejected", up=False, at=MIDNIGHT, since=MIDNIGHT, retry_at=MIDNIGHT, alerts={"stale": "FX"}
        )
    )
    stream.log.append(Alert(MIDNIGHT, "gateway", "LP1", "stale", "raised", "no quotes"))

    async def scenario():
        async with vault.serving(stream) as client:
            await until(lambda: "stream" not in client.health.obstacles())
            answers = {
                "/api/history/ticks/EURUSD": schema.TickPage,
                "/api/history/symbols": list[schema.Symbol],
                "/api/history/available": list[schema.Available],
                "/api/quotes/latest/EURUSD": schema.LatestQuotes,
                "/api/quotes/history/EURUSD": schema.QuotesAsOf,
                "/api/quotes/latest": list[schema.SymbolQuote],
                "/api/pipeline/stats": schema.PipelineStats,
                "/api/pipeline/feed-health": schema.FeedHealth,
                "/api/pipeline/alerts": schema.Alerts,
                "/nope": schema.ProblemBody,
            }
            for path, shape in answers.items():
                TypeAdapter(shape).validate_json((await client.get(path)).content)

    asyncio.run(scenario())
