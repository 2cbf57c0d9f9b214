"""The live end of a polled feed.

poll ─▶ a good answer: OPENED where the feed was down, IN where its bytes differ from the ones before ─▶ interval ─▶ poll …
    └▶ anything else: CLOSED ─▶ a pause, longer each time ─▶ poll …
"""

import asyncio
import logging
import time
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import ClassVar

import httpx

from libs.common.domain.feed import FeedKind
from libs.common.runtime import Health
from services.gateway.feeds import RestFeed
from services.gateway.journal import Direction
from services.gateway.recorder import Recorder, now_ns
from services.gateway.web.fold import PolledFold
from services.gateway.web.link import MESSAGE_BYTES_MAX, PATIENCE, Patience, WebLink, tls_context

RETRY_AFTER_MAX_S = 3600.0  # a server that names a later time is asked again after this

logging.getLogger("httpcore").setLevel(logging.INFO)  # its debug lines show the headers, and with them secrets


class NoAnswer(Exception):  # noqa: N818 - it is what the poll came to
    """Why a poll failed, and how long the server wants to be left alone."""

    def __init__(self, why: str, retry_after_s: float = 0.0) -> None:
        super().__init__(why)
        self.retry_after_s = retry_after_s


class RestLink(WebLink):
    """Asks again and again until the service stops."""

    kind: ClassVar[FeedKind] = "rest"
    feed: RestFeed

    def __init__(
        self,
        feed: RestFeed,
        fold: PolledFold,
        recorder: Recorder,
        *,
        health: Health,
        headers: Mapping[str, str],
        patience: Patience = PATIENCE,
    ) -> None:
        super().__init__(feed, fold, recorder, health=health, patience=patience)
        sent = httpx.Headers({"User-Agent": "TickVault", "Accept": "application/json"})
        sent.update(headers)
        # redirects are refused: another host would get our headers
        self._client = httpx.AsyncClient(headers=sent, verify=tls_context(feed), timeout=feed.timeout_s, follow_redirects=False)
        self._previous: bytes | None = None

    async def run(self, stopping: asyncio.Event) -> None:
        """Poll until stopping; then publish what is left."""
        await self.recorder.run(self._poll, stopping)

    async def _poll(self, stopping: asyncio.Event) -> None:
        async with self._client:
            while not stopping.is_set():
                self._health.beat(self._loop_name)
                began = time.monotonic()
                try:
                    body = await self._ask()
                except NoAnswer as failure:
                    self._previous = None
                    await self.closed(str(failure))
                    await self.rest(str(failure), stopping, max(self.feed.interval_s, failure.retry_after_s))
                else:
                    await self._answered(body)
                    await self.idle(began + self.feed.interval_s, stopping)
        await self.closed("stopped")

    async def _answered(self, body: bytes) -> None:
        self._backoff.reset()
        if not self.up:
            await self.opened()
        if body != self._previous:
            await self.recorder.keep(now_ns(), Direction.IN, body)
            self._previous = body

    async def _ask(self) -> bytes:
        """The body of a good answer; NoAnswer."""
        body = bytearray()
        try:
            async with asyncio.timeout(self.feed.timeout_s), self._client.stream("GET", self.feed.url) as answer:
                if answer.status_code != httpx.codes.OK:
                    raise NoAnswer(f"HTTP status {answer.status_code}", retry_after_s(answer.headers.get("Retry-After")))
                async for chunk in answer.aiter_bytes():
                    body += chunk
                    if len(body) > MESSAGE_BYTES_MAX:
                        raise NoAnswer(f"the answer is larger than {MESSAGE_BYTES_MAX} bytes")
        except (TimeoutError, httpx.TimeoutException):
            raise NoAnswer(f"no whole answer within {self.feed.timeout_s:g} s") from None
        except (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError) as error:  # ValueError: a name that cannot be a host's
            raise NoAnswer(f"{type(error).__name__}: {error}") from None
        return bytes(body)


def retry_after_s(text: str | None) -> float:
    """Retry-After of RFC 9110: seconds, or a date; 0 where there is none that can be read."""
    if text is None:
        return 0.0
    if text.strip().isdecimal():
        return min(float(text), RETRY_AFTER_MAX_S)
    try:
        seconds = parsedate_to_datetime(text).timestamp() - time.time()
    except ValueError:
        return 0.0
    return min(max(seconds, 0.0), RETRY_AFTER_MAX_S)
