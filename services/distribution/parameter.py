"""Query parameters: one spelling each, what they mean, and a 400 that says what to write where they mean nothing."""

import difflib
import re
from collections.abc import Awaitable, Callable

from fastapi import Request
from pydantic import BaseModel

from libs.common.domain.errors import Rejected
from libs.common.domain.moment import NS_PER_DAY, day_of, parse_moment
from libs.common.domain.problem import Problem
from libs.common.domain.record import Flag
from services.distribution.problem import bad_parameter

FLAGS = {str(flag.name).lower(): flag for flag in Flag}
_BARE_DATE = re.compile(r"\d{4}-\d{2}-\d{2}")


def only(*models: type[BaseModel]) -> Callable[[Request], Awaitable[None]]:
    """A dependency that refuses every query parameter that these models do not name, and one given twice."""
    known = [name for model in models for name in model.model_fields]

    async def refuse_others(request: Request) -> None:
        names = [name for name, _ in request.query_params.multi_items()]
        for name in names:
            if name not in known:
                raise _unknown(name, known)
            if names.count(name) > 1:
                raise bad_parameter(name, "it is given more than once")

    return refuse_others


def _unknown(name: str, known: list[str]) -> Problem:
    meant = {"from": "start", "to": "end", "page_token": "cursor", "symbols": "symbol"}.get(name)
    likely = [meant] if meant in known else difflib.get_close_matches(name.lower(), known, n=1, cutoff=0.5)
    hint = f"did you mean {likely[0]}?" if likely else f"there are {', '.join(known)}" if known else "there are none here"
    return bad_parameter(name[:40], f"there is no such parameter: {hint}", code="unknown-parameter")


def moment(name: str, text: str) -> int:
    """RFC 3339 (no zone = UTC, a bare date = its midnight) or an integer of epoch ns, to ns."""
    try:
        return parse_moment(text)
    except (Rejected, ValueError, OverflowError) as error:
        reason = str(error) if isinstance(error, Rejected) else f"{text[:40]!r} is not a time"
        hint = "; a + in a URL is written %2B" if re.search(r" \d\d:\d\d$", text) else ""
        raise bad_parameter(name, f"{reason}{hint}") from error


def span(start: str | None, end: str | None, now: int) -> tuple[int, int]:
    """[start, end) in ns. No start: today's midnight, UTC. No end: the midnight after a start that is a bare date, else now."""
    first = moment("start", start) if start is not None else day_of(now) * NS_PER_DAY
    if end is not None:
        last = moment("end", end)
    elif start is not None and _BARE_DATE.fullmatch(start):
        last = min(first + NS_PER_DAY, 2**63 - 1)
    else:
        last = now if start is not None else max(now, first + 1)
    if first >= last:
        given = "start" if start is not None else "start (absent: today's midnight, UTC)"
        raise bad_parameter("start", f"{given} must be before {'end' if end is not None else 'end (absent: now)'}")
    return first, last


def flags(name: str, text: str | None) -> int:
    """`spike,crossed` to the sum of those flags."""
    total = 0
    for word in (text or "").split(","):
        flag = word.strip().lower()
        if not flag:
            continue
        if flag not in FLAGS:
            raise bad_parameter(name, f"there is no flag {flag[:40]!r}: there are {', '.join(FLAGS)}")
        total |= FLAGS[flag]
    return total
