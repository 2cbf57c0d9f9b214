"""Every error a client sees is an RFC 9457 problem: what is wrong, where, and what to write instead."""

import difflib
from collections.abc import Iterable
from typing import Any

import msgspec
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from libs.common.domain.errors import Retryable
from libs.common.domain.problem import MEDIA_TYPE, Problem
from libs.common.telemetry import logger

REQUEST_ID = "tickvault.request_id"  # where the ASGI scope keeps it
RETRY_AFTER_S = 2  # as long as a locked file is waited for; Redis needs about as long to start
NEAREST_MAX = 5


def bad_parameter(name: str, detail: str, *, code: str = "invalid-parameter") -> Problem:
    return Problem(400, code, "Invalid parameter", f"{name}: {detail}", errors=[{"parameter": name, "detail": detail}])


def not_yet(detail: str) -> Problem:
    return Problem(503, "not-yet", "Try again", detail, headers={"Retry-After": str(RETRY_AFTER_S)})


def nearest(text: str, known: Iterable[str]) -> list[str]:
    """What somebody may have meant, best first."""
    return difflib.get_close_matches(text, sorted(known), n=NEAREST_MAX, cutoff=0.5)


def answer(problem: Problem, request_id: str, instance: str) -> Response:
    body = problem.body(instance) | {"request_id": request_id}
    return Response(msgspec.json.encode(body), problem.status, {"Cache-Control": "no-store", **problem.headers}, MEDIA_TYPE)


def unexpected() -> Problem:
    """A bug: the log has it, and the client the id to find it by. Starlette raises the error again after the answer."""
    return Problem(500, "internal", "Internal error", "This is a fault of the service: its log names it by the request_id.")


def install(app: FastAPI) -> None:
    """Turn everything that Starlette and FastAPI would answer in their own way into a problem."""

    async def problem(request: Request, error: Exception) -> Response:
        assert isinstance(error, Problem)
        return _answer(error, request)

    async def http(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        title = {404: "Not found", 405: "Method not allowed"}.get(error.status_code, str(error.detail))
        code = title.lower().replace(" ", "-")
        detail = {
            404: f"There is no such path: {request.scope['path']}. /openapi.json lists what there is.",
            405: f"{request.method} is not possible here.",
        }.get(error.status_code, str(error.detail))
        return _answer(Problem(error.status_code, code, title, detail, headers=dict(error.headers or {})), request)

    async def validation(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        errors = [{"parameter": str(item["loc"][-1]), "detail": _reason(item)} for item in error.errors()]
        detail = "; ".join(f"{item['parameter']}: {item['detail']}" for item in errors)
        return _answer(Problem(400, "invalid-parameter", "Invalid parameter", detail, errors=errors), request)

    async def retryable(request: Request, error: Exception) -> Response:
        logger().warning("answered 503", path=request.scope["path"], reason=str(error))
        return _answer(not_yet("A part this answer needs is busy for a moment."), request)

    async def bug(request: Request, _error: Exception) -> Response:
        return _answer(unexpected(), request)

    app.add_exception_handler(Exception, bug)
    app.add_exception_handler(Problem, problem)
    app.add_exception_handler(HTTPException, http)
    app.add_exception_handler(RequestValidationError, validation)
    app.add_exception_handler(Retryable, retryable)


def _answer(problem: Problem, request: Request) -> Response:
    return answer(problem, request.scope.get(REQUEST_ID, ""), request.scope["path"])


def _reason(item: dict[str, Any]) -> str:
    text = str(item["msg"])
    return text.replace("Input should be", "must be").replace("unable to parse string as an integer", "not an integer")
