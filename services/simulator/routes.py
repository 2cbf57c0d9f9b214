"""`POST /faults/{kind}`: what goes wrong is asked for while the LP runs. The kinds are those of fault.py."""

from collections.abc import Collection
from urllib.parse import parse_qs

import msgspec

from libs.common.runtime.health import Receive, Scope, Send
from libs.common.telemetry import logger
from services.simulator.fault import KINDS
from services.simulator.session import Session

LASTS_S = 5.0
LASTS_MAX_S = 3600.0


class FaultApp:
    """ASGI. A fault strikes every client that is logged on, or the one named by ?client=; what lasts lasts for ?seconds=."""

    def __init__(self, sessions: Collection[Session]) -> None:
        self._sessions = sessions

    async def __call__(self, scope: Scope, _receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        status, body = self._answer(scope["method"], scope["path"], parse_qs(scope["query_string"].decode("latin-1")))
        content_type = b"application/json" if status == 202 else b"application/problem+json"
        content = msgspec.json.encode(body)
        headers = [(b"content-type", content_type), (b"content-length", b"%d" % len(content))]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": content})

    def _answer(self, method: str, path: str, query: dict[str, list[str]]) -> tuple[int, dict[str, object]]:
        kind = next((kind for kind in KINDS if path == f"/faults/{kind}"), None)
        if kind is None:
            return _problem(404, "Not found", f"{path}: there is POST /faults/{{kind}}; kinds are {', '.join(KINDS)}")
        if method != "POST":
            return _problem(405, "Method not allowed", f"write POST {path}")
        lasts_s = _seconds(query.get("seconds", [str(LASTS_S)])[-1])
        if lasts_s is None:
            return _problem(400, "Invalid parameter", f"seconds: write a number above 0, up to {LASTS_MAX_S:g}")
        named = query.get("client")
        struck = [session for session in self._sessions if session.client and (not named or session.client in named)]
        clients = sorted(session.client for session in struck)
        for session in struck:
            session.inject(kind, lasts_s)
        logger().info("fault requested", fault=kind, clients=clients)
        return 202, {"fault": kind, "clients": clients}


def _seconds(text: str) -> float | None:
    try:
        seconds = float(text)
    except ValueError:
        return None
    return seconds if 0 < seconds <= LASTS_MAX_S else None


def _problem(status: int, title: str, detail: str) -> tuple[int, dict[str, object]]:
    code = title.lower().replace(" ", "-")
    return status, {"type": f"urn:tickvault:problem:{code}", "title": title, "status": status, "detail": detail, "code": code}
