"""Whether a service lives (its loops move) and is ready (its checks pass), and the HTTP answers that say so."""

import time
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any

import msgspec

from libs.common.domain.problem import MEDIA_TYPE, Problem
from libs.common.telemetry import exposition

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]

LOOP_SILENCE_MAX_S = 30.0  # a loop that has not moved for this long is stuck: restart the process


class Health:
    """Loops call `beat`; parts register checks that return None, or why they are not ready."""

    def __init__(self) -> None:
        self.draining = False
        self.started = False
        self._beats: dict[str, float] = {}
        self._checks: dict[str, Callable[[], str | None]] = {}

    def beat(self, loop: str) -> None:
        self._beats[loop] = time.monotonic()

    def end(self, loop: str) -> None:
        """A loop that ended on purpose is not a silent one."""
        self._beats.pop(loop, None)

    def check(self, name: str, why_not: Callable[[], str | None]) -> None:
        self._checks[name] = why_not

    def silent_loops(self) -> list[str]:
        now = time.monotonic()
        return [name for name, beat in self._beats.items() if now - beat > LOOP_SILENCE_MAX_S]

    def obstacles(self) -> dict[str, str]:
        """Why the service is not ready, by check; empty when it is."""
        found = {name: why for name, check in self._checks.items() if (why := check()) is not None}
        if self.draining:
            found["runtime"] = "draining"
        elif not self.started:
            found["runtime"] = "starting"
        return found


class HealthApp:
    """ASGI: /livez, /readyz and /metrics; everything else goes to the service's own application."""

    def __init__(self, health: Health, inner: Application | None = None) -> None:
        self._health = health
        self._inner = inner

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope.get("path", "")
        if scope["type"] == "http" and path == "/livez":
            silent = self._health.silent_loops()
            await respond(send, 503 if silent else 200, {"alive": not silent, "silent_loops": silent})
        elif scope["type"] == "http" and path == "/readyz":
            obstacles = self._health.obstacles()
            await respond(send, 503 if obstacles else 200, {"ready": not obstacles, "obstacles": obstacles})
        elif scope["type"] == "http" and path == "/metrics":
            await respond(send, 200, exposition(), "text/plain; version=0.0.4; charset=utf-8")
        elif self._inner is not None:
            await self._inner(scope, receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1000})
        elif scope["type"] == "http":
            await respond(send, 404, {"detail": f"no such path: {path}"})


async def respond(
    send: Send, status: int, body: object, content_type: str = "application/json", headers: Mapping[str, str] | None = None
) -> None:
    """One whole response: bytes as they are, anything else as JSON."""
    content = body if isinstance(body, bytes) else msgspec.json.encode(body)
    own = {"content-type": content_type, "content-length": str(len(content)), "cache-control": "no-store", **(headers or {})}
    encoded = [(name.encode(), value.encode()) for name, value in own.items()]
    await send({"type": "http.response.start", "status": status, "headers": encoded})
    await send({"type": "http.response.body", "body": content})


async def respond_problem(send: Send, problem: Problem, path: str) -> None:
    await respond(send, problem.status, problem.body(path), MEDIA_TYPE, problem.headers)
