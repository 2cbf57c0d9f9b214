"""/api/quotes/latest: the newest quotes, out of the stream and from memory."""

import time
from collections.abc import Callable
from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Depends, Query, Response

from libs.common.domain.moment import NS_PER_MS
from libs.common.domain.record import Tick
from libs.common.domain.symbol import find_symbol
from services.distribution import schema
from services.distribution.formats import TsFormat, price_json, size_json, ts_json
from services.distribution.latest import Follower, Latest
from services.distribution.name import spelled, unknown_symbol
from services.distribution.parameter import only
from services.distribution.problem import not_yet


class Quotes:
    def __init__(self, latest: Latest, follower: Follower, *, now: Callable[[], int] = time.time_ns) -> None:
        self._latest = latest
        self._follower = follower
        self._now = now

    def router(self) -> APIRouter:
        router = APIRouter(prefix="/api/quotes", tags=["Live"], dependencies=[Depends(only(schema.LatestQuery))])
        router.add_api_route(
            "/latest",
            self.list_latest,
            operation_id="list_latest",
            summary="The newest quotes of all symbols",
            response_model=list[schema.SymbolQuote],
        )
        router.add_api_route(
            "/latest/{symbol:path}",
            self.get_latest,
            operation_id="get_latest",
            summary="The newest quotes of one symbol",
            response_model=schema.LatestQuotes,
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


def _json(content: object) -> Response:
    return Response(msgspec.json.encode(content), headers={"Cache-Control": "no-store"}, media_type="application/json")
