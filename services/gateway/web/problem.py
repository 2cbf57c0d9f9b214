"""Errors as RFC 9457 problems: what is wrong, where, and what to do."""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from libs.common.runtime.health import Send

MEDIA_TYPE = b"application/problem+json"


class Problem(Exception):  # noqa: N818 - the word of RFC 9457
    """`code` is stable, `detail` is for people and may change."""

    def __init__(
        self,
        status: int,
        code: str,
        title: str,
        detail: str,
        *,
        headers: Mapping[bytes, bytes] | None = None,
        errors: Sequence[Mapping[str, str]] = (),
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.code = code
        self.title = title
        self.detail = detail
        self.headers = headers
        self.errors = errors

    def body(self, instance: str) -> dict[str, Any]:
        found = {
            "type": f"urn:tickvault:problem:{self.code}", "title": self.title, "status": self.status, "detail": self.detail,
            "instance": instance, "code": self.code,
        }  # fmt: skip
        return found | ({"errors": list(self.errors)} if self.errors else {})


async def respond(
    send: Send, status: int, body: object, content_type: bytes = b"application/json", headers: Mapping[bytes, bytes] | None = None
) -> None:
    """One whole response in JSON."""
    content = msgspec.json.encode(body)
    own = {b"content-type": content_type, b"content-length": b"%d" % len(content), b"cache-control": b"no-store"}
    await send({"type": "http.response.start", "status": status, "headers": list((own | dict(headers or {})).items())})
    await send({"type": "http.response.body", "body": content})
