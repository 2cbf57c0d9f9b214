"""`POST /faults/{kind}`: what goes wrong with an LP, on request, while it runs.

drop    messages are numbered, then the TCP connection ends without them and without a Logout
cut     the TCP connection ends in the middle of a message
garble  a message arrives with a damaged byte: its checksum is wrong
gap     messages are numbered and not sent
reset   SequenceReset-Reset to a higher number
stall   nothing is sent for ?seconds=5, no heartbeat either; the market waits
"""

from collections.abc import Collection
from typing import get_args
from urllib.parse import parse_qs

import msgspec

from libs.common.runtime.health import Receive, Scope, Send
from libs.common.telemetry import logger
from services.simulator.session import Fault, Session

KINDS: tuple[Fault, ...] = get_args(Fault)
STALL_S = 5.0
STALL_MAX_S = 3600.0


class FaultApp:
    """ASGI. A fault strikes every client that is logged on, or the one named by ?client=."""

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
        stall_s = _seconds(query.get("seconds", [str(STALL_S)])[-1])
        if stall_s is None:
            return _problem(400, "Invalid parameter", f"seconds: write a number above 0, up to {STALL_MAX_S:g}")
        named = query.get("client")
        struck = [session for session in self._sessions if session.client and (not named or session.client in named)]
        for session in struck:
            session.inject(kind, stall_s)
        clients = sorted(session.client for session in struck)
        logger().info("fault requested", fault=kind, clients=clients)
        return 202, {"fault": kind, "clients": clients}


def _seconds(text: str) -> float | None:
    try:
        seconds = float(text)
    except ValueError:
        return None
    return seconds if 0 < seconds <= STALL_MAX_S else None


def _problem(status: int, title: str, detail: str) -> tuple[int, dict[str, object]]:
    code = title.lower().replace(" ", "-")
    return status, {"type": f"urn:tickvault:problem:{code}", "title": title, "status": status, "detail": detail, "code": code}
