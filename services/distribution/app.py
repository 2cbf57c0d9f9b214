"""The HTTP side put together: routes, problems, OpenAPI, and around all of it the request's id and the last resort."""

import re
import uuid
from collections.abc import Sequence
from typing import Any

from fastapi import APIRouter, FastAPI

from libs.common.domain.problem import MEDIA_TYPE
from libs.common.runtime.health import Application, Receive, Scope, Send
from libs.common.telemetry import logger
from services.distribution import problem, schema

_REQUEST_ID = re.compile(rb"[A-Za-z0-9._:-]{1,128}")
_DESCRIPTION = """Every tick of every symbol, from the newest quote to the oldest day on disk.

Times are RFC 3339 or integers of epoch ns on the way in and by `ts_format` on the way out; `start` is inclusive, `end` exclusive.
Errors are RFC 9457 problems; `X-Request-ID` is echoed, or made where it is absent."""
_PROBLEMS = {
    "400": "A parameter is unknown or cannot be understood",
    "404": "Unknown symbol",
    "406": "No format that Accept names can be had",
    "410": "The day that the cursor stands in was amended since",
    "500": "A fault of the service",
    "503": "A part this answer needs is busy: Retry-After says when to come again",
}


def create_app(routers: Sequence[APIRouter]) -> Application:
    app = FastAPI(
        title="TickVault distribution",
        version="1",
        description=_DESCRIPTION,
        docs_url=None,  # both load scripts from a CDN; /openapi.json opens in any viewer
        redoc_url=None,
        redirect_slashes=False,  # a symbol may end in a slash
    )
    for router in routers:
        app.include_router(router)
    problem.install(app)
    plain = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = _with_problems(plain())
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]
    return Requests(app)


def _with_problems(document: dict[str, Any]) -> dict[str, Any]:
    """What FastAPI says about 422 is not so here; what can be answered instead."""
    schemas = document["components"]["schemas"]
    for name in ("HTTPValidationError", "ValidationError"):
        schemas.pop(name, None)
    body = schema.ProblemBody.model_json_schema(ref_template="#/components/schemas/{model}")
    schemas.update(body.pop("$defs", {}))
    schemas["Problem"] = body
    content = {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}
    for path, operations in document["paths"].items():
        for operation in operations.values():
            operation["responses"].pop("422", None)
            for status, description in _PROBLEMS.items():
                if (status != "404" or "{" in path) and (status not in ("406", "410") or operation["operationId"] == "get_ticks"):
                    operation["responses"][status] = {"description": description, "content": content}
    return document


class Requests:
    """ASGI around everything: gives the request its id and logs a bug under it. FastAPI itself measures the request."""

    def __init__(self, inner: Application) -> None:
        self._inner = inner

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._inner(scope, receive, send)
            return
        given = next((value for name, value in scope["headers"] if name == b"x-request-id"), b"")
        request_id = given if _REQUEST_ID.fullmatch(given) else uuid.uuid4().hex.encode()
        scope[problem.REQUEST_ID] = request_id.decode()
        answered = False

        async def identified(message: Any) -> None:
            nonlocal answered
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), (b"x-request-id", request_id)]
            await send(message)
            answered = message["type"] == "http.response.body" and not message.get("more_body", False)

        try:
            await self._inner(scope, receive, identified)
        except Exception:
            logger().exception("request failed", path=scope["path"], request_id=scope[problem.REQUEST_ID])
            if not answered:  # half an answer is out: the server has to break the connection
                raise
