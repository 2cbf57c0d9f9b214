"""/api/pipeline/stats: what came in, what became of it, and how far behind the parts are."""

import asyncio
from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Depends, Query, Response

from libs.common.domain.errors import Rejected, Retryable
from libs.common.domain.moment import NS_PER_DAY, parse_day
from libs.common.store.history import FileSummary, HistoryReader, distinct_gaps, overlaps
from libs.common.telemetry import logger
from services.distribution import schema
from services.distribution.account import account_of
from services.distribution.formats import left_out_warnings
from services.distribution.latest import Latest, Stream
from services.distribution.parameter import only
from services.distribution.problem import bad_parameter

MS_DIGITS = 3  # seconds are shown in whole ms


class Pipeline:
    def __init__(self, reader: HistoryReader, stream: Stream, latest: Latest, *, partitions: int) -> None:
        self._reader = reader
        self._stream = stream
        self._latest = latest
        self._partitions = partitions

    def router(self) -> APIRouter:
        router = APIRouter(prefix="/api/pipeline", tags=["Pipeline"])
        router.add_api_route(
            "/stats",
            self.get_pipeline_stats,
            operation_id="get_pipeline_stats",
            summary="The account, the lag and the rate",
            response_model=schema.PipelineStats,
            dependencies=[Depends(only(schema.StatsQuery))],
        )
        return router

    async def get_pipeline_stats(self, query: Annotated[schema.StatsQuery, Query()]) -> Response:
        """The account of one day or of all days on disk, in ticks: received = stored + duplicates + quarantined + lost.

        `lost` is what the gateway numbered and no file holds. While ticks are on their way it is more than 0 for a moment only if
        they overtook others of their symbol; `lag` says how many entries are on their way.
        """
        overview = await asyncio.to_thread(self._reader.overview)
        files, gaps = overview.files, distinct_gaps(file.gaps for file in overview.files)
        left_out = overview.left_out
        if query.date is not None:
            day = _day(query.date)
            files = [file for file in files if file.day == day]
            gaps = [gap for gap in gaps if overlaps(gap, day * NS_PER_DAY, (day + 1) * NS_PER_DAY)]
            left_out = left_out & {day}
        warnings = left_out_warnings(left_out)
        try:
            lag = await self._lag()
        except Retryable as error:
            logger().warning("lag is not known", reason=str(error))
            lag = None
            warnings.append("lag is not known: Redis does not answer")
        content = {
            **account_of(files),
            "symbols": len(_symbols(files)),
            "gaps": len(gaps),
            "lag": lag,
            "ticks_per_s": round(self._latest.ticks_per_s(), 1),
            "latency_s": self._latency(),
            "warnings": warnings,
        }
        headers = {"Cache-Control": "no-store"}
        return Response(msgspec.json.encode(content), headers=headers, media_type="application/json")

    async def _lag(self) -> dict[str, Any]:
        partitions = []
        for partition in range(self._partitions):
            backlog = await self._stream.backlog(partition)
            age_s = round(backlog.oldest_age_s, MS_DIGITS)
            partitions.append({"partition": partition, "entries": backlog.entries, "oldest_age_s": age_s})
        return {
            "entries": sum(line["entries"] for line in partitions),
            "oldest_age_s": max(line["oldest_age_s"] for line in partitions),
            "partitions": partitions,
        }

    def _latency(self) -> dict[str, Any]:
        samples = self._latest.latencies_s()
        if not samples:
            return {"samples": 0, "p50": None, "p99": None}
        p50, p99 = (round(samples[min(len(samples) - 1, len(samples) * part // 100)], MS_DIGITS) for part in (50, 99))
        return {"samples": len(samples), "p50": p50, "p99": p99}


def _symbols(files: list[FileSummary]) -> set[str]:
    return {symbol for file in files for symbol in file.spans}


def _day(text: str) -> int:
    try:
        return parse_day(text)
    except Rejected as error:
        raise bad_parameter("date", str(error)) from error
