"""Errors as every HTTP client sees them: RFC 9457 problems that say what is wrong, where, and what to write instead."""

from collections.abc import Mapping
from typing import Any

MEDIA_TYPE = "application/problem+json"


class Problem(Exception):  # noqa: N818 - the word of RFC 9457
    """`code` is stable, `detail` is for people and may change. Further members of the document by name."""

    def __init__(
        self, status: int, code: str, title: str, detail: str, *, headers: Mapping[str, str] | None = None, **members: Any
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.code = code
        self.title = title
        self.detail = detail
        self.headers = dict(headers or {})
        self.members = members

    def body(self, instance: str) -> dict[str, Any]:
        """The document; `instance` is the path that was asked for."""
        return {
            "type": f"urn:tickvault:problem:{self.code}", "title": self.title, "status": self.status, "detail": self.detail,
            "instance": instance, "code": self.code, **self.members,
        }  # fmt: skip
