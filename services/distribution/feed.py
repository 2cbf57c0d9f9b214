"""/api/pipeline/feed-health and /api/pipeline/alerts: how the sessions with providers are, as the gateway reports it."""

import time
from collections.abc import Callable, Sequence
from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Depends, Query, Response

from libs.common.domain.feed import FeedHealth
from libs.common.domain.moment import NS_PER_S, format_moment
from services.distribution import schema
from services.distribution.latest import Stream
from services.distribution.parameter import only

REPORTING_S = 10  # the gateway reports once a second; a restart of Redis or a long pause of one host stays below this

_TIMES = ("at", "since", "last_quote_at", "retry_at")


class Feeds:
    def __init__(self, stream: Stream, *, now: Callable[[], int] = time.time_ns) -> None:
        self._stream = stream
        self._now = now

    def router(self) -> APIRouter:
        router = APIRouter(prefix="/api/pipeline", tags=["Pipeline"])
        router.add_api_route(
            "/feed-health",
            self.get_feed_health,
            operation_id="get_feed_health",
            summary="The sessions with providers",
            response_model=schema.FeedHealth,
            dependencies=[Depends(only())],
        )
        router.add_api_route(
            "/alerts",
            self.list_alerts,
            operation_id="list_alerts",
            summary="The log of alerts, and those that are active",
            response_model=schema.Alerts,
            dependencies=[Depends(only(schema.AlertsQuery))],
        )
        return router

    async def get_feed_health(self) -> Response:
        """Each session by name: its state, sequence numbers, quiet groups and alerts. 200, whatever `status` says."""
        sessions = await self._stream.feed_health()
        now = self._now()
        return _json({"status": status_of(sessions, now), "sessions": [_shown(health, now) for health in sessions]})

    async def list_alerts(self, query: Annotated[schema.AlertsQuery, Query()]) -> Response:
        """What was raised and cleared, newest first, about the last 10,000; and what is raised now."""
        sessions = await self._stream.feed_health()
        now = self._now()
        active = [
            {"session": health.session, "kind": kind, "text": text, "reporting": _reporting(health, now)}
            for health in sessions
            for kind, text in sorted(health.alerts.items())
        ]
        log = [{**msgspec.to_builtins(alert), "at": format_moment(alert.at)} for alert in await self._stream.alerts(query.limit)]
        return _json({"active": active, "alerts": log})


def status_of(sessions: Sequence[FeedHealth], now: int) -> str:
    """ok, degraded or down; a session that is out of its schedule need not be up."""
    due = [health for health in sessions if not (_reporting(health, now) and health.state == "out_of_schedule")]
    up = [health for health in due if _reporting(health, now) and health.up]
    if not sessions or (due and not up):
        return "down"
    well = not any(health.alarm or health.stale or health.alerts for health in sessions)
    return "ok" if len(up) == len(due) and well else "degraded"


def _reporting(health: FeedHealth, now: int) -> bool:
    return now - health.at <= REPORTING_S * NS_PER_S


def _shown(health: FeedHealth, now: int) -> dict[str, Any]:
    shown: dict[str, Any] = msgspec.to_builtins(health)
    for name in _TIMES:
        if shown[name] is not None:
            shown[name] = format_moment(shown[name])
    reporting = _reporting(health, now)
    return {**shown, "reporting": reporting, **({} if reporting else {"state": "unknown", "up": False})}


def _json(content: object) -> Response:
    return Response(msgspec.json.encode(content), headers={"Cache-Control": "no-store"}, media_type="application/json")
