"""Work a byte: whatever an LP sends, eight times as much of it takes about eight times as long."""

import time
from collections.abc import Callable
from typing import Any

from libs.common.domain.moment import NS_PER_MS
from tests.fuzz.conversation import Event
from tests.fuzz.trial import Run
from tests.unit.gateway.gateway_lp import T0, both_sides, build, entry, increment, quote

SMALL, TIMES = 400, 8
FACTOR_MAX = 4  # a byte of the long one may take this many times as long; what is quadratic takes 8 times
TRIES_MAX = 5
READ_BYTES = 65_536

LOGON = build("A", 1, [(98, 0), (108, 30), (141, "Y")])


def quotes(count: int) -> bytes:
    return b"".join(build("X", seq, quote("EUR/USD", f"1.{seq:05d}", "2")) for seq in range(2, count + 2))


def resent(count: int) -> bytes:
    """Everything is held until the one that is missing comes."""
    held = b"".join(build("X", seq, quote("EUR/USD", f"1.{seq:05d}", "2")) for seq in range(3, count + 3))
    return held + build("X", 2, quote("EUR/USD", "1.00002", "2"), header=((43, "Y"), (122, "20261120-09:00:00")))


def holes(count: int) -> bytes:
    """Every other number is missing; each comes when it is asked for."""
    held = b"".join(build("X", 2 * at + 1, quote("EUR/USD", f"1.{at:05d}", "2")) for at in range(1, count + 1))
    original = ((43, "Y"), (122, "20261120-09:00:00"))
    return held + b"".join(
        build("X", 2 * at, quote("EUR/USD", f"2.{at:05d}", "3"), header=original) for at in range(1, count + 1)
    )


def garbled_while_held(count: int) -> bytes:
    return b"".join(build("X", seq, quote("EUR/USD", f"1.{seq:05d}", "2")) + b"noise" for seq in range(3, count + 3))


def symbols(count: int) -> bytes:
    return b"".join(build("W", seq, both_sides(f"S{seq}", "1", "2")) for seq in range(2, count + 2))


def levels(count: int) -> bytes:
    rows = [entry("0", f"1.{number:05d}", "1", entry_id=f"e{number}") for number in range(count)]
    return build("W", 2, [(55, "EUR/USD"), (268, count), *(pair for row in rows for pair in row)])


def changes(count: int) -> bytes:
    """A book of few levels that come and go."""
    rows = [
        increment(entry("0", f"1.{number % 50:05d}", "1", action=str(number // 50 % 2 * 2), symbol="EUR/USD"))
        for number in range(count)
    ]
    return b"".join(build("X", seq, row) for seq, row in enumerate(rows, 2))


PATTERNS: dict[str, tuple[Callable[[int], bytes], dict[str, Any]]] = {
    "quotes": (quotes, {}),
    "held": (resent, {}),
    "holes": (holes, {}),
    "garbled while held": (garbled_while_held, {}),
    "symbols": (symbols, {}),
    "depth": (levels, {"market_depth": 0}),
    "changes": (changes, {"market_depth": 0, "book_interval_s": 0}),
    "list": (lambda count: build("y", 2, [(320, 1), (560, 0), *((55, f"SYMBOL{number}") for number in range(2 * count))]), {}),
    "fills": (lambda count: b"".join(build("4", seq, [(123, "Y"), (36, seq + 1)]) for seq in range(2, count + 2)), {}),
    "requests": (lambda count: b"".join(build("2", seq, [(7, 1), (16, 0)]) for seq in range(2, count + 2)), {}),
    "rejects": (lambda count: b"".join(build("0", seq, [(4999, 1)]) for seq in range(2, count + 2)), {}),
    "not parsed": (lambda count: b"".join(build("X", seq, [(270, "")]) for seq in range(2, count + 2)), {}),
    "noise": (lambda count: b"\x00\x01=8FI" * 20 * count, {}),
    "heads": (lambda count: b"8=FIX" * 20 * count, {}),
    "lying heads": (lambda count: b"8=FIX.4.4\x019=0900000\x0135=X\x01" * 5 * count, {}),
    "sums": (lambda count: b"8=FIX.4.4\x019=5000\x0135=X\x0110=000\x01" * 5 * count, {}),
    "fields": (lambda count: build("X", 2, [(268, 1), *[(58, "x")] * (10 * count)]), {}),
    "sets": (lambda count: build("i", 2, [(117, "q"), (296, count), *[(302, "s"), (304, 0), (295, 0)] * count]), {}),
    "data": (lambda count: build("X", 2, [*[(354, 1), (355, "x")] * (5 * count), *quote("EUR/USD", "1", "2")]), {}),
}


def factor(name: str) -> float:
    """How many times longer a byte takes in the long one; the least of some tries, since the machine is shared."""
    make, settings = PATTERNS[name]
    found = float("inf")
    for _ in range(TRIES_MAX):
        found = min(found, _byte_s(make(SMALL * TIMES), settings) / _byte_s(make(SMALL), settings))
        if found < FACTOR_MAX:
            break
    return found


def _byte_s(data: bytes, settings: dict[str, Any]) -> float:
    reads = [data[at : at + READ_BYTES] for at in range(0, len(data), READ_BYTES)]
    events = [
        Event("opened", T0),
        Event("in", T0, LOGON),
        *(Event("in", T0 + NS_PER_MS, read) for read in reads),
        Event("closed", T0),
    ]
    best = min(_seconds(events, settings) for _ in range(2))
    return best / len(data)


def _seconds(events: list[Event], settings: dict[str, Any]) -> float:
    run = Run({"symbols": "all", **settings})
    began = time.process_time()
    run.play(events)
    return time.process_time() - began
