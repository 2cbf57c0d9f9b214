"""`POST /v1/pipeline/sink/tick`: clients hand ticks in, and have a 200 when they are on the disk.

the token names the sink ─▶ the body is of the right form ─▶ its key is new: journal ─▶ fsync ─▶ 200
                                                           └▶ known: the same body ─▶ fsync ─▶ 200, nothing stored
                                                                     another body ─▶ 409
"""

import asyncio
import contextlib
import hashlib
import hmac
from collections.abc import Sequence
from itertools import combinations
from typing import Any, ClassVar

import msgspec

from libs.common.domain.errors import Retryable
from libs.common.domain.feed import FeedKind
from libs.common.domain.problem import Problem
from libs.common.runtime import Health, pause
from libs.common.runtime.health import Receive, Scope, Send, respond, respond_problem
from libs.common.settings import SettingsError
from services.gateway.feeds import SinkFeed
from services.gateway.journal import Direction
from services.gateway.recorder import DISK_RETRY_S, Recorder, now_ns
from services.gateway.web.batch import Batch, SinkFold, read_batch
from services.gateway.web.fold import digest
from services.gateway.web.link import MESSAGE_BYTES_MAX, PATIENCE, TURN_S, WebLink

PATH = "/v1/pipeline/sink/tick"
DISCARDED_BYTES_MAX = 10 * MESSAGE_BYTES_MAX  # so that a client that only writes gets to our refusal
BODY_TIMEOUT_S = 10.0  # a client that sends more slowly would hold up a stop
RETRY_AFTER_S = 2  # the disk is tried twice a second


class SinkLink(WebLink):
    """`up` while batches are taken. A client that had no 200 sends again, so a stop makes no gap."""

    kind: ClassVar[FeedKind] = "sink"
    fold: SinkFold

    def __init__(self, feed: SinkFeed, fold: SinkFold, recorder: Recorder, *, health: Health, token: str) -> None:
        super().__init__(feed, fold, recorder, health=health, patience=PATIENCE)
        self.token_digest = hashlib.sha256(token.encode()).digest()

    def is_named_by(self, token: bytes) -> bool:
        return hmac.compare_digest(self.token_digest, hashlib.sha256(token).digest())

    async def run(self, stopping: asyncio.Event) -> None:
        """Take batches until stopping; then publish what is left."""
        await self.recorder.run(self._take_batches, stopping)

    async def _take_batches(self, stopping: asyncio.Event) -> None:
        self.up = True
        self._staleness.begin()
        try:
            while not stopping.is_set():
                self.look_at_the_clock()
                refuses = self.recorder.refuses is not None
                if refuses:  # no client may come for long: see for ourselves whether the disk is well again
                    self.recorder.write(now_ns(), Direction.CLOCK, msgspec.msgpack.encode([]))
                await pause(stopping, DISK_RETRY_S if refuses else TURN_S)
        finally:
            self.up = False
            self.alarm = "the gateway is stopping"
        with contextlib.suppress(Retryable):  # said where the journal is closed
            await self.recorder.sync()  # first come, first served: every batch before has its answer

    async def take(self, batch: Batch) -> dict[str, Any]:
        """The answer to a batch that is on the disk. Problem 409 or 503."""
        known = self.fold.known(batch.key)
        repeated = known is not None
        if known is None:
            if not self.up:
                raise unavailable(self.alarm or "the gateway is starting")
            if not self.recorder.write(now_ns(), Direction.IN, batch.data):
                raise unavailable("the journal cannot be written")
            known = self.fold.known(batch.key)
            assert known is not None, "the fold remembers every batch"
        elif known[0] != digest(batch.data):
            detail = f"the key {batch.key!r} was used for another body: a new batch needs a new key"
            raise Problem(409, "key-reused", "Key used before", detail)
        _, accepted, quarantined = known
        try:
            await self.recorder.sync()
        except Retryable:
            raise unavailable("the journal cannot be synced") from None
        self.fold.repeated += repeated
        return {"accepted": accepted, "quarantined": quarantined, "duplicate": repeated}


class SinkApp:
    """ASGI. The token of a request says which sink it is for."""

    def __init__(self, links: Sequence[SinkLink]) -> None:
        self._links = links
        for one, other in combinations(links, 2):
            if one.token_digest == other.token_digest:
                raise SettingsError(f"session {one.feed.name} and {other.feed.name} have the same token: it names the sink")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await send({"type": "websocket.close"})
            return
        try:
            link, batch = await self._read(scope, receive)
            await respond(send, 200, await link.take(batch))
        except Problem as problem:
            await respond_problem(send, problem, scope["path"])
        except ConnectionError:
            pass  # the client went away before its body was whole

    async def _read(self, scope: Scope, receive: Receive) -> tuple[SinkLink, Batch]:
        try:
            link = self._addressed(scope)
        except Problem:
            with contextlib.suppress(Problem):
                await _body(receive, kept_bytes=0)
            raise
        key = dict(scope["headers"]).get(b"idempotency-key")
        return link, read_batch(await _body(receive), None if key is None else key.decode("latin-1"))

    def _addressed(self, scope: Scope) -> SinkLink:
        """Who may post what is checked before the body is kept."""
        if scope["path"] != PATH:
            raise Problem(404, "not-found", "Not found", f"{scope['path']}: there is POST {PATH}")
        if scope["method"] != "POST":
            raise Problem(405, "method-not-allowed", "Method not allowed", f"write POST {PATH}", headers={"allow": "POST"})
        link = self._named(dict(scope["headers"]).get(b"authorization", b""))
        if not link.up:
            raise unavailable(link.alarm or "the gateway is starting")
        return link

    def _named(self, authorization: bytes) -> SinkLink:
        scheme, _, token = authorization.partition(b" ")
        named = [link for link in self._links if link.is_named_by(token.strip())]  # all are compared: equal time for each
        if scheme.lower() != b"bearer" or not named:
            detail = "Authorization: write Bearer and the token of a sink in the feeds file"
            raise Problem(401, "unauthorized", "Unauthorized", detail, headers={"www-authenticate": "Bearer"})
        return named[0]


async def _body(receive: Receive, kept_bytes: int = MESSAGE_BYTES_MAX) -> bytes:
    """Problem 408 or 413; ConnectionError: the client went away. What is beyond `kept_bytes` is read and thrown away."""
    body = bytearray()
    size, more = 0, True
    try:
        async with asyncio.timeout(BODY_TIMEOUT_S):
            while more and size <= DISCARDED_BYTES_MAX:
                event = await receive()
                if event["type"] == "http.disconnect":
                    raise ConnectionError
                size += len(event.get("body", b""))
                more = event.get("more_body", False)
                if size <= kept_bytes:
                    body += event.get("body", b"")
    except TimeoutError:
        detail = f"the body did not come within {BODY_TIMEOUT_S:g} s: send it again"
        raise Problem(408, "timeout", "Request timeout", detail, headers={"connection": "close"}) from None
    if size > kept_bytes:
        detail = f"body: send at most {MESSAGE_BYTES_MAX} bytes at a time"
        raise Problem(413, "too-large", "Batch too large", detail, headers={"connection": "close"})
    return bytes(body)


def unavailable(why: str) -> Problem:
    retry_after = {"retry-after": str(RETRY_AFTER_S)}
    return Problem(503, "not-yet", "Try again", f"{why}: send the same batch again", headers=retry_after)
