"""/api/history: ticks in pages, the symbols, and the days that can be had."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import chain
from typing import Annotated
from urllib.parse import quote, urlencode

import msgspec
from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi.responses import StreamingResponse

from libs.common.domain.moment import day_of
from libs.common.domain.record import Gap
from libs.common.store.history import COLUMNS, HistoryReader, Page
from libs.common.store.history import Query as Ticks
from services.distribution import schema
from services.distribution.catalogue import days_of, symbols_of
from services.distribution.cursor import CURSOR_VERSION, Cursor, amended, digest_of, read_cursor, write_cursor
from services.distribution.formats import COLUMNS as TEXT_COLUMNS
from services.distribution.formats import (
    MEDIA_TYPES,
    Columnar,
    Format,
    TsFormat,
    gap_json,
    is_columnar,
    left_out_warnings,
    negotiate,
    page_body,
    rows_of,
    ts_json,
)
from services.distribution.name import Names
from services.distribution.parameter import flags, moment, only, span
from services.distribution.problem import bad_parameter
from services.distribution.stream import metadata, written

PAGE_GAPS_MAX = 1_000  # listed with one page; a warning says when there are more


@dataclass(frozen=True, slots=True)
class _Answer:
    body: bytes
    next_cursor: str | None
    complete: bool
    warnings: list[str]
    read_ms: float


class History:
    def __init__(self, reader: HistoryReader, names: Names, *, now: Callable[[], int] = time.time_ns) -> None:
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

        While `next_cursor` is not null, repeat the request with it as `cursor`; other formats carry it in the `Link` header only
        (rel="next"). Ticks that arrive meanwhile are neither doubled nor skipped. Where the day that a cursor stands in has been
        amended since, it is void: 410, `day-amended`.

        `complete` is true when this is the last page, no part of the range is missing (no gap in it but those that were resent in
        full, no file left out), and `end` is not in the future. Other formats carry it as the header `TickVault-Complete`.

        arrow and parquet without `limit` and `cursor` are the whole range as one stream, however long it is; `complete` stands at
        its end then, in the metadata.
        """
        began = time.perf_counter()
        format_ = negotiate(request.headers.get("accept") or "*/*", query.format)
        exclude = flags("exclude", query.exclude)
        known_at = moment("known_at", query.known_at) if query.known_at is not None else None
        canonical = await self._names.symbol(symbol)
        now = self._now()
        asked = (canonical, query.start, query.end, query.provider, query.order, str(exclude))
        digest = digest_of(asked if query.known_at is None else (*asked, query.known_at))
        cursor = read_cursor(query.cursor, digest) if query.cursor is not None else None
        start, end = (cursor.start, cursor.end) if cursor else span(query.start, query.end, now)
        provider = await self._names.provider(query.provider)
        ticks = Ticks(
            (canonical,),
            start,
            end,
            None if provider is None else (provider,),
            columns=COLUMNS if is_columnar(format_) else TEXT_COLUMNS,
            prices="decimal" if format_ == "arrow" else "int64",
            exclude=exclude,
            known_at=known_at,
            descending=query.order == "desc",
        )
        if is_columnar(format_) and query.limit is None and cursor is None:
            return await asyncio.to_thread(self._stream, ticks, provider, format_, now)
        rows = query.limit or schema.LIMIT_DEFAULT
        page = await asyncio.to_thread(self._page, ticks, provider, format_, query.ts_format, rows, cursor, digest, now)
        taken_ms = (time.perf_counter() - began) * 1e3
        headers = {
            "Vary": "Accept",
            "TickVault-Complete": str(page.complete).lower(),
            "Server-Timing": f"store;dur={page.read_ms:.1f}, write;dur={taken_ms - page.read_ms:.1f}",
            **_warned(page.warnings),
        }
        if page.next_cursor is not None:
            headers["Link"] = f'<{_next_url(request, page.next_cursor)}>; rel="next"'
        return Response(page.body, headers=headers, media_type=MEDIA_TYPES[format_])

    def _stream(self, ticks: Ticks, provider: str | None, format_: Columnar, now: int) -> Response:
        gaps, left_out = self._gaps(ticks, provider)

        def at_the_end() -> dict[str, str]:
            return metadata(left_out_warnings(left_out), complete=_misses_nothing(ticks, gaps, now) and not left_out)

        chunks = written(self._reader.read(ticks, left_out=left_out), ticks.schema, format_, at_the_end)
        first = next(chunks)  # what cannot be read at all is a problem, not half an answer
        return StreamingResponse(chain((first,), chunks), headers={"Vary": "Accept"}, media_type=MEDIA_TYPES[format_])

    def _page(
        self,
        ticks: Ticks,
        provider: str | None,
        format_: Format,
        ts_format: TsFormat,
        rows: int,
        cursor: Cursor | None,
        digest: bytes,
        now: int,
    ) -> _Answer:
        began = time.perf_counter()
        gaps, left_out = self._gaps(ticks, provider)
        page = self._reader.page(ticks, rows, after=cursor.position if cursor else None, left_out=left_out)
        # looked at after reading: what is amended from here on, the next page finds
        if cursor and self._reader.generation(ticks.symbols[0], day_of(cursor.ts)) > max(cursor.generation, 1):
            raise amended(cursor)
        read_ms = (time.perf_counter() - began) * 1e3
        warnings = left_out_warnings(left_out)
        if len(gaps) > PAGE_GAPS_MAX:
            warnings.append(f"the first {PAGE_GAPS_MAX} of {len(gaps)} gaps are listed")
        complete = _misses_nothing(ticks, gaps, now) and not page.more and not left_out
        next_cursor = _next(page, ticks, digest) if page.more else None
        if is_columnar(format_):
            known = metadata(warnings, complete=complete)
            body = b"".join(written(page.ticks.to_batches(), page.ticks.schema, format_, lambda: known))
        else:
            envelope = {
                "symbol": ticks.symbols[0],
                "start": ts_json(ticks.start, ts_format),
                "end": ts_json(ticks.end, ts_format),
                "count": len(page.ticks),
                "next_cursor": next_cursor,
                "complete": complete,
                "gaps": [gap_json(gap, ts_format) for gap in gaps[:PAGE_GAPS_MAX]],
                **({"warnings": warnings} if warnings else {}),
            }
            body = page_body(rows_of(page.ticks), format_, ts_format, envelope)
        return _Answer(body, next_cursor, complete, warnings, read_ms)

    def _gaps(self, ticks: Ticks, provider: str | None) -> tuple[list[Gap], set[int]]:
        """Of the whole range, and the days that could not be asked for any."""
        gaps, left_out = self._reader.gaps(ticks.start, ticks.end)
        return [gap for gap in gaps if self._names.concerns(gap.session, provider)], left_out

    async def list_symbols(self, query: Annotated[schema.TsFormatQuery, Query()]) -> Response:
        """Every symbol that has a tick on disk, with its providers, its first and last tick and their number."""
        overview = await asyncio.to_thread(self._reader.overview)
        return _json(symbols_of(overview.files, query.ts_format), overview.left_out)

    async def list_available(self, query: Annotated[schema.AvailableQuery, Query()]) -> Response:
        """One line a symbol and UTC day that has ticks, for the days that [start, end) touches; absent = no bound.

        `gaps` counts the gaps that touch the day, of any session. Ticks are read in every state; `generation` rises when what
        came late, or was corrected, is made part of a sealed day.
        """
        symbol = await self._names.symbol(query.symbol) if query.symbol is not None else None
        start = moment("start", query.start) if query.start is not None else -(2**63)
        end = moment("end", query.end) if query.end is not None else 2**63 - 1
        if start >= end:
            raise bad_parameter("start", "start must be before end")
        overview = await asyncio.to_thread(self._reader.overview)
        days = days_of(overview.files, symbol, day_of(start), day_of(end - 1), query.ts_format)
        return _json(days, overview.left_out)


def _misses_nothing(ticks: Ticks, gaps: list[Gap], now: int) -> bool:
    return ticks.end <= now and all(gap.resolved_by == "resend" for gap in gaps)


def _next(page: Page, ticks: Ticks, digest: bytes) -> str:
    ts, provider, seq = (page.ticks.column(name)[-1] for name in ("ts", "provider", "seq"))
    order: schema.Order = "desc" if ticks.descending else "asc"
    position = ts.value, provider.as_py(), seq.as_py()
    return write_cursor(Cursor(CURSOR_VERSION, page.generation, *position, order, ticks.start, ticks.end, digest))


def _next_url(request: Request, cursor: str) -> str:
    """Relative to the host, so that it is right behind any proxy."""
    others = [(name, value) for name, value in request.query_params.multi_items() if name != "cursor"]
    return f"{quote(request.scope['path'])}?{urlencode([*others, ('cursor', cursor)])}"


def _json(content: object, left_out: set[int]) -> Response:
    return Response(msgspec.json.encode(content), headers=_warned(left_out_warnings(left_out)), media_type="application/json")


def _warned(warnings: list[str]) -> dict[str, str]:
    return {"TickVault-Warning": "; ".join(warnings)} if warnings else {}
