"""`POST /faults/{kind}`: what goes wrong is asked for while the LP runs. The kinds are those of fault.py."""

from collections.abc import Collection
from urllib.parse import parse_qs

from libs.common.domain.problem import Problem
from libs.common.runtime.health import Receive, Scope, Send, respond, respond_problem
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
        try:
            clients = self._strike(scope["method"], scope["path"], parse_qs(scope["query_string"].decode("latin-1")))
            await respond(send, 202, clients)
        except Problem as problem:
            await respond_problem(send, problem, scope["path"])

    def _strike(self, method: str, path: str, query: dict[str, list[str]]) -> dict[str, object]:
        kind = next((kind for kind in KINDS if path == f"/faults/{kind}"), None)
        if kind is None:
            raise Problem(404, "not-found", "Not found", f"{path}: there is POST /faults/{{kind}}; kinds are {', '.join(KINDS)}")
        if method != "POST":
            raise Problem(405, "method-not-allowed", "Method not allowed", f"write POST {path}")
        lasts_s = _seconds(query.get("seconds", [str(LASTS_S)])[-1])
        if lasts_s is None:
            raise Problem(
                400, "invalid-parameter", "Invalid parameter", f"seconds: write a number above 0, up to {LASTS_MAX_S:g}"
            )
        named = query.get("client")
        struck = [session for session in self._sessions if session.client and (not named or session.client in named)]
        clients = sorted(session.client for session in struck)
        for session in struck:
            session.inject(kind, lasts_s)
        logger().info("fault requested", fault=kind, clients=clients)
        return {"fault": kind, "clients": clients}


def _seconds(text: str) -> float | None:
    try:
        seconds = float(text)
    except ValueError:
        return None
    return seconds if 0 < seconds <= LASTS_MAX_S else None
