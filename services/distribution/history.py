"""/api/history: ticks in pages, the symbols, and the days that can be had."""

import asyncio
import time
from collections.abc import Callable
from typing import Annotated, Any
from urllib.parse import quote, urlencode

import msgspec
from fastapi import APIRouter, Depends, Query, Request, Response

from libs.common.domain.moment import day_of
from libs.common.store import StoreReader
from libs.common.store.reader import LeftOut, Selection, TickRow
from services.distribution import schema
from services.distribution.catalogue import days_of, symbols_of
from services.distribution.cursor import CURSOR_VERSION, Cursor, digest_of, read_cursor, write_cursor
from services.distribution.formats import MEDIA_TYPES, gap_json, negotiate, page_body, ts_json
from services.distribution.name import Names
from services.distribution.parameter import flags, moment, only, span
from services.distribution.problem import bad_parameter

PAGE_GAPS_MAX = 1_000  # listed with one page; a warning says when there are more
OFF_LOOP_ROWS = 2_000  # a page larger than this is written in a thread, so that others are not kept waiting


class History:
    def __init__(self, reader: StoreReader, names: Names, *, now: Callable[[], int] = time.time_ns) -> None:
        self._reader = reader
        self._names = names
        self._now = now

    def router(self) -> APIRouter:
        router = APIRouter(prefix="/api/history", tags=["History"])
        router.add_api_route(
            "/ticks/{symbol:path}",
            self.get_ticks,
            operation_id="get_ticks",
            summary="Ticks of one symbol",
            response_model=schema.TickPage,
            responses=schema.TICKS,
            dependencies=[Depends(only(schema.TickQuery))],
        )
        router.add_api_route(
            "/symbols",
            self.list_symbols,
            operation_id="list_symbols",
            summary="All symbols",
            response_model=list[schema.Symbol],
            dependencies=[Depends(only(schema.TsFormatQuery))],
        )
        router.add_api_route(
            "/available",
            self.list_available,
            operation_id="list_available",
            summary="Days that can be had",
            response_model=list[schema.Available],
            dependencies=[Depends(only(schema.AvailableQuery))],
        )
        return router

    async def get_ticks(
        self, request: Request, symbol: schema.SymbolPath, query: Annotated[schema.TickQuery, Query()]
    ) -> Response:
        """Ticks with start <= ts < end in the order (ts, provider, seq), page by page, of all providers merged or of one.

        While `next_cursor` is not null, repeat the request with it as `cursor`; csv and ndjson carry it in the `Link` header only
        (rel="next"). Ticks that arrive meanwhile are neither doubled nor skipped.

        `complete` is true when this is the last page, no part of the range is missing (no gap in it but those that were resent in
        full, no file left out), and `end` is not in the future. csv and ndjson carry it as the header `TickVault-Complete`.
        """
        began = time.perf_counter()
        format_ = negotiate(request.headers.get("accept") or "*/*", query.format)
        exclude = flags("exclude", query.exclude)
        canonical = await self._names.symbol(symbol)
        now = self._now()
        digest = digest_of((canonical, query.start, query.end, query.provider, query.order, str(exclude)))
        cursor = read_cursor(query.cursor, digest) if query.cursor is not None else None
        start, end = (cursor.start, cursor.end) if cursor else span(query.start, query.end, now)
        selection = Selection(canonical, start, end, await self._names.provider(query.provider), exclude, query.order == "desc")
        page = await self._reader.ticks(selection, cursor.position if cursor else None, query.limit)
        found, gaps_left_out = await self._reader.gaps(start, end)
        gaps = [gap for gap in found if self._names.concerns(gap.session, query.provider)]
        left_out = page.left_out | gaps_left_out
        warnings = sorted(map(str, left_out))
        if len(gaps) > PAGE_GAPS_MAX:
            warnings.append(f"the first {PAGE_GAPS_MAX} of {len(gaps)} gaps are listed")
        complete = not page.more and not left_out and end <= now and all(gap.resolved_by == "resend" for gap in gaps)
        next_cursor = self._next(page.rows[-1], query.order, (start, end), digest) if page.more else None
        envelope = {
            "symbol": canonical,
            "start": ts_json(start, query.ts_format),
            "end": ts_json(end, query.ts_format),
            "count": len(page.rows),
            "next_cursor": next_cursor,
            "complete": complete,
            "gaps": [gap_json(gap, query.ts_format) for gap in gaps[:PAGE_GAPS_MAX]],
            **({"warnings": warnings} if warnings else {}),
        }
        read = time.perf_counter()
        body = await _write(page.rows, format_, query.ts_format, envelope)
        headers = {
            "Vary": "Accept",
            "TickVault-Complete": str(complete).lower(),
            "Server-Timing": f"store;dur={(read - began) * 1e3:.1f}, write;dur={(time.perf_counter() - read) * 1e3:.1f}",
            **_warned(warnings),
        }
        if next_cursor is not None:
            headers["Link"] = f'<{_next_url(request, next_cursor)}>; rel="next"'
        return Response(body, headers=headers, media_type=MEDIA_TYPES[format_])

    async def list_symbols(self, query: Annotated[schema.TsFormatQuery, Query()]) -> Response:
        """Every symbol that has a tick on disk, with its providers, its first and last tick and their number."""
        overview = await self._reader.overview()
        return _json(symbols_of(overview.files, query.ts_format), overview.left_out)

    async def list_available(self, query: Annotated[schema.AvailableQuery, Query()]) -> Response:
        """One line a symbol and UTC day that has ticks, for the days that [start, end) touches; absent = no bound.

        `gaps` counts the gaps that touch the day, of any session. `state`: open = still being written, closed = final.
        """
        symbol = await self._names.symbol(query.symbol) if query.symbol is not None else None
        start = moment("start", query.start) if query.start is not None else -(2**63)
        end = moment("end", query.end) if query.end is not None else 2**63 - 1
        if start >= end:
            raise bad_parameter("start", "start must be before end")
        overview = await self._reader.overview()
        days = days_of(overview.files, symbol, day_of(start), day_of(end - 1), query.ts_format)
        return _json(days, overview.left_out)

    @staticmethod
    def _next(last: TickRow, order: schema.Order, between: tuple[int, int], digest: bytes) -> str:
        ts, provider, seq = last[:3]
        return write_cursor(Cursor(CURSOR_VERSION, 0, ts, provider, seq, order, *between, digest))


async def _write(rows: list[TickRow], *arguments: Any) -> bytes:
    if len(rows) <= OFF_LOOP_ROWS:
        return page_body(rows, *arguments)
    return await asyncio.to_thread(page_body, rows, *arguments)


def _next_url(request: Request, cursor: str) -> str:
    """Relative to the host, so that it is right behind any proxy."""
    others = [(name, value) for name, value in request.query_params.multi_items() if name != "cursor"]
    return f"{quote(request.scope['path'])}?{urlencode([*others, ('cursor', cursor)])}"


def _json(content: object, left_out: set[LeftOut]) -> Response:
    return Response(msgspec.json.encode(content), headers=_warned(sorted(map(str, left_out))), media_type="application/json")


def _warned(warnings: list[str]) -> dict[str, str]:
    return {"TickVault-Warning": "; ".join(warnings)} if warnings else {}
