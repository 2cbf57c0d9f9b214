"""/api/quotes: the newest, out of the stream and from memory; and those of any time, out of the store."""

import asyncio
import time
from collections.abc import Callable
from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Depends, Query, Response

from libs.common.domain.moment import NS_PER_MS
from libs.common.domain.record import Tick
from libs.common.domain.symbol import find_symbol
from libs.common.store.history import HistoryReader
from services.distribution import schema
from services.distribution.formats import TsFormat, left_out_warnings, price_json, rows_of, size_json, ts_json
from services.distribution.latest import Follower, Latest
from services.distribution.name import Names, spelled, unknown_symbol
from services.distribution.parameter import moment, only
from services.distribution.problem import not_yet

AS_OF_COLUMNS = ("provider", "ts", "recv_ts", "seq", "bid", "ask", "bid_size", "ask_size", "flags")


class Quotes:
    def __init__(
        self,
        latest: Latest,
        follower: Follower,
        reader: HistoryReader,
        names: Names,
        *,
        now: Callable[[], int] = time.time_ns,
    ) -> None:
        self._latest = latest
        self._follower = follower
        self._reader = reader
        self._names = names
        self._now = now

    def router(self) -> APIRouter:
        router = APIRouter(prefix="/api/quotes")
        router.add_api_route(
            "/latest",
            self.list_latest,
            operation_id="list_latest",
            summary="The newest quotes of all symbols",
            response_model=list[schema.SymbolQuote],
            tags=["Live"],
            dependencies=[Depends(only(schema.LatestQuery))],
        )
        router.add_api_route(
            "/latest/{symbol:path}",
            self.get_latest,
            operation_id="get_latest",
            summary="The newest quotes of one symbol",
            response_model=schema.LatestQuotes,
            tags=["Live"],
            dependencies=[Depends(only(schema.LatestQuery))],
        )
        router.add_api_route(
            "/history/{symbol:path}",
            self.get_quotes_as_of,
            operation_id="get_quotes_as_of",
            summary="The quotes of one symbol as they stood at a time",
            response_model=schema.QuotesAsOf,
            tags=["History"],
            dependencies=[Depends(only(schema.AsOfQuery))],
        )
        return router

    async def list_latest(self, query: Annotated[schema.LatestQuery, Query()]) -> Response:
        """One line a symbol and provider, by symbol, newest first; of one provider or all."""
        self._refuse_until_read()
        now = self._now()
        return _json(
            [
                {"symbol": symbol, **_shown(tick, now, query.ts_format)}
                for symbol in sorted(self._latest.symbols())
                for tick in self._latest.quotes(symbol)
                if query.provider in (None, tick.provider)
            ]
        )

    async def get_latest(self, symbol: schema.SymbolPath, query: Annotated[schema.LatestQuery, Query()]) -> Response:
        """One quote a provider, newest first. A symbol the stream has nothing of is a 404; its older ticks are in the history."""
        self._refuse_until_read()
        known = self._latest.symbols()
        text = spelled(symbol)
        canonical = find_symbol(text, known)
        if canonical is None:
            raise unknown_symbol(text, set(known))
        now = self._now()
        quotes = [tick for tick in self._latest.quotes(canonical) if query.provider in (None, tick.provider)]
        return _json({"symbol": canonical, "quotes": [_shown(tick, now, query.ts_format) for tick in quotes]})

    async def get_quotes_as_of(self, symbol: schema.SymbolPath, query: Annotated[schema.AsOfQuery, Query()]) -> Response:
        """Of each provider the last tick with ts <= `at`, newest first; with `known_at` the last of those received by then.

        A provider that sent nothing in the 31 days before has no line.
        """
        canonical = await self._names.symbol(symbol)
        provider = await self._names.provider(query.provider)
        at = moment("at", query.at) if query.at is not None else self._now()
        known_at = moment("known_at", query.known_at) if query.known_at is not None else None
        left_out: set[int] = set()

        def read() -> list[tuple[Any, ...]]:
            providers = None if provider is None else (provider,)
            found = self._reader.as_of(
                canonical, at, known_at=known_at, providers=providers, columns=AS_OF_COLUMNS, left_out=left_out
            )
            return rows_of(found, AS_OF_COLUMNS)

        rows = await asyncio.to_thread(read)
        content = {
            "symbol": canonical,
            "at": ts_json(at, query.ts_format),
            "known_at": None if known_at is None else ts_json(known_at, query.ts_format),
            "quotes": [_as_of(row, at, query.ts_format) for row in reversed(rows)],
            **({"warnings": left_out_warnings(left_out)} if left_out else {}),
        }
        return _json(content)

    def _refuse_until_read(self) -> None:
        if not self._follower.tail_read.is_set():
            raise not_yet("The stream has not been read yet.")


def _shown(tick: Tick, now: int, ts_format: TsFormat) -> dict[str, Any]:
    return {
        "provider": tick.provider,
        "ts": ts_json(tick.ts, ts_format),
        "recv_ts": ts_json(tick.recv_ts, ts_format),
        "age_ms": max(0, now - tick.recv_ts) // NS_PER_MS,
        "seq": tick.seq,
        "bid": price_json(tick.bid),
        "ask": price_json(tick.ask),
        "bid_size": size_json(tick.bid_size),
        "ask_size": size_json(tick.ask_size),
        "flags": tick.flags,
    }


def _as_of(row: tuple[Any, ...], at: int, ts_format: TsFormat) -> dict[str, Any]:
    provider, ts, recv_ts, seq, bid, ask, bid_size, ask_size, flags = row
    return {
        "provider": provider,
        "ts": ts_json(ts, ts_format),
        "recv_ts": None if recv_ts is None else ts_json(recv_ts, ts_format),
        "age_ms": (at - ts) // NS_PER_MS,
        "seq": seq,
        "bid": price_json(bid),
        "ask": price_json(ask),
        "bid_size": size_json(bid_size),
        "ask_size": size_json(ask_size),
        "flags": flags,
    }


def _json(content: object) -> Response:
    return Response(msgspec.json.encode(content), headers={"Cache-Control": "no-store"}, media_type="application/json")
