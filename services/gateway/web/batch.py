"""What a client posts to a sink: a batch of ticks under an idempotency key, and the fold that remembers the keys.

    {"key": "2026-11-20/17", "ticks": [{"symbol": "EUR/USD", "bid": "1.08512", "ask": 1.08515, "ts": "2026-11-20T10:00:00.123Z"}]}
    [{"symbol": "EUR/USD", …}]    with the key in a header

What is not of this form is refused as a whole. A tick that is, and cannot be one all the same (no price, an unknown symbol), goes
to quarantine alone.
"""

from dataclasses import dataclass
from typing import Any

import msgspec

from libs.common.domain.errors import Rejected
from libs.common.domain.problem import Problem
from services.gateway.feeds import QuoteFields, SinkFeed
from services.gateway.web.fold import JsonFold, Receipt, digest
from services.gateway.web.mapping import Number, decode

TICKS_MAX = 5_000  # in a batch: one stream entry
KEYS_MAX = 10_000  # batches remembered, of 40 bytes each: little beside a journal segment, which begins with them
KEY_CHARACTERS_MAX = 128
ERRORS_SHOWN_MAX = 10
NAME_MAX = 40  # characters of a wrong name, in an answer

FIELDS = QuoteFields(
    symbol="symbol", bid="bid", ask="ask", bid_size="bid_size", ask_size="ask_size", time="ts", time_unit="rfc3339"
)  # fmt: skip
_NUMBERS = ("bid", "ask", "bid_size", "ask_size")
_NAMES = frozenset({"symbol", "ts", *_NUMBERS})


@dataclass(frozen=True, slots=True)
class Batch:
    """`data` is what the journal gets; the key is in it."""

    key: str
    data: bytes


def read_batch(body: bytes, header_key: str | None) -> Batch:
    """A body of the right form; Problem 400, 413 or 422. Whether its ticks are ticks is for the fold to say."""
    try:
        found = decode(body)
    except Rejected as error:
        raise Problem(400, "malformed-json", "Malformed JSON", f"body: {error}") from None
    errors = _Errors()
    if type(found) is list:
        found = {"ticks": found}
        body = b'{"ticks":%s}' % body
    elif type(found) is not dict:
        raise errors.add("", 'write {"key": "…", "ticks": […]}, or a list of ticks with the header Idempotency-Key').problem()
    for name in found.keys() - {"key", "ticks"}:
        errors.add(f"/{name[:NAME_MAX]}", "there is no such member: there are key and ticks")
    key = _key(found.get("key"), header_key, errors)
    ticks = found.get("ticks")
    if type(ticks) is not list or not ticks:
        errors.add("/ticks", f"write a list of 1 to {TICKS_MAX} ticks")
    elif len(ticks) > TICKS_MAX:
        raise Problem(413, "too-large", "Batch too large", f"/ticks: {len(ticks)} ticks; send at most {TICKS_MAX} at a time")
    else:
        for number, tick in enumerate(ticks):
            _check(f"/ticks/{number}", tick, errors)
    if errors.found or key is None:
        raise errors.problem()
    if "key" not in found:
        raw = msgspec.json.decode(body, type=dict[str, msgspec.Raw])["ticks"]
        body = b'{"key":%s,"ticks":%s}' % (msgspec.json.encode(key), bytes(raw))
    return Batch(key, body)


class _Errors:
    def __init__(self) -> None:
        self.found: list[dict[str, str]] = []

    def add(self, pointer: str, detail: str) -> "_Errors":
        self.found.append({"pointer": pointer, "detail": detail})
        return self

    def problem(self) -> Problem:
        shown = self.found[:ERRORS_SHOWN_MAX]
        detail = "; ".join(f"{error['pointer'] or 'body'}: {error['detail']}" for error in shown)
        more = len(self.found) - len(shown)
        return Problem(
            422, "invalid-batch", "Invalid batch", f"{detail}; and {more} more" if more else detail, errors=shown
        )  # fmt: skip


def _key(in_body: Any, in_header: str | None, errors: _Errors) -> str | None:
    key = in_header if in_body is None else in_body
    if type(key) is not str or not 0 < len(key) <= KEY_CHARACTERS_MAX or not (key.isascii() and key.isprintable()):
        errors.add("/key", f"name the batch: 1 to {KEY_CHARACTERS_MAX} printable ASCII characters, here or as Idempotency-Key")
        return None
    if in_header is not None and in_header != key:
        errors.add("/key", "differs from the header Idempotency-Key: send one of them")
    return key


def _check(pointer: str, tick: Any, errors: _Errors) -> None:
    if type(tick) is not dict:
        errors.add(pointer, "a tick is an object")
        return
    for name in tick.keys() - _NAMES:
        errors.add(f"{pointer}/{name[:NAME_MAX]}", f"there is no such member: there are {', '.join(sorted(_NAMES))}")
    if type(tick.get("symbol")) is not str:
        errors.add(f"{pointer}/symbol", "write the symbol as a text")
    for name in _NUMBERS:
        value = tick.get(name)
        if value is not None and type(value) not in (int, str, Number):
            errors.add(f"{pointer}/{name}", "write a number, or a text with the exact decimals")
    if tick.get("ts") is not None and type(tick["ts"]) not in (int, str):
        errors.add(f"{pointer}/ts", "write RFC 3339 (2026-11-20T10:00:00.123Z) or an integer of epoch ns")


class SinkFold(JsonFold):
    """A batch is told from the one before by its key; the last KEYS_MAX are remembered."""

    def __init__(self, feed: SinkFeed) -> None:
        super().__init__(feed, "ticks", FIELDS)

    def known(self, key: str) -> Receipt | None:
        """What the batch of this key came to."""
        return self.state.batches.get(digest(key.encode()))

    def _take_quotes(self, message: Any, data: bytes, recv_ts: int) -> None:
        batches, key = self.state.batches, digest(message["key"].encode())
        if key in batches:
            return
        ticks, refused = len(self._outcome.ticks), len(self._outcome.quarantined)
        super()._take_quotes(message, data, recv_ts)
        if len(batches) >= KEYS_MAX:
            del batches[next(iter(batches))]
        batches[key] = (digest(data), len(self._outcome.ticks) - ticks, len(self._outcome.quarantined) - refused)
