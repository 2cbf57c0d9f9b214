"""QuickFIX in FIX 4.2, 4.4 and 5.0SP2, all at once against one gateway, and faults of every kind on the wire.

Of each version there are two LPs, one that keeps its numbers and one that begins at 1 with each logon. In the end every
ledger line is stored once, or lies in a recorded gap or in quarantine. With kept numbers nothing is missing but what cannot be
healed: a good frame whose content is none (Outcome.KEPT), since the LP would send the same again. What ends a session by the
rules is healed by the next logon, which asks for what the gateway did not take.
"""

import random
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path

import pytest

from libs.common.testing.reckoning import read_ledger
from tests.foreign.engines import needs_quickfix, quickfix
from tests.foreign.faults import FAULTS, Fault, Outcome
from tests.foreign.session import SYMBOLS, ForeignLp, Status, Venue

pytestmark = [needs_quickfix, pytest.mark.timeout(600)]

VERSIONS: dict[str, dict[str, object]] = {
    "FIX42": {"begin_string": "FIX.4.2"},
    "FIX44": {"begin_string": "FIX.4.4"},
    "FIX50SP2": {"begin_string": "FIXT.1.1", "default_appl_ver_id": "9"},
}
FLOW = 150, 2  # messages a second, symbols a message
SETTLED_TICKS = 100
METRICS_S = 0.2
HEARTBEAT_S = 2  # shorter than the proxy's pause
STABLE_S = 11.0  # the gateway forgets how often it failed when a session was up for ten seconds
ENDS_IN_A_ROW = 5  # before the pauses between connections grow long
GAP_SHARE_MAX = 0.2  # of what LPs sent that begin at 1 with each logon: most of it is said to a line that is silent for 5 s


@dataclass(frozen=True)
class Command:
    """What the LP does itself, so that numbers stay right."""

    name: str
    outcome: Outcome
    lines: tuple[str, ...]

    def __str__(self) -> str:
        return self.name


COMMANDS = (
    Command("a message of an unknown type", Outcome.PASSED, ("send U9 58=what",)),
    Command("a message of an unsupported type", Outcome.PASSED, ("send B 33=1 58=line 148=headline",)),
    Command("a Reject", Outcome.PASSED, ("send 3 45=1 58=no",)),
    Command("a BusinessMessageReject", Outcome.PASSED, ("send j 45=1 58=no 372=V 380=0",)),
    Command("a ResendRequest", Outcome.PASSED, ("rewind 5", "test_request HERE")),
    Command("a SequenceReset", Outcome.PASSED, ("sequence_reset 7",)),
    Command("numbers left out", Outcome.ASKED, ("jump 7",)),
    Command("the LP ends the connection", Outcome.ENDED, ("drop",)),
)
KINDS: tuple[Fault | Command, ...] = FAULTS + COMMANDS


def quickfix_lp(folder: Path, version: str, suffix: str = "", **options: object) -> ForeignLp:
    name = version + suffix
    return ForeignLp(quickfix, folder / name, name, begin_string=VERSIONS[version]["begin_string"], **options)


class Storm:
    """One LP and what strikes it."""

    def __init__(self, venue: Venue, lp: ForeignLp) -> None:
        self.struck: Counter[Fault | Command] = Counter()
        self._venue = venue
        self._lp = lp
        self._status: Status = {}

    def run(self) -> None:
        """All kinds, in any order; those that end the session a few at a time."""
        self._wait_subscribed(1)
        self._lp.do("flow", *FLOW)
        ends = [kind for kind in KINDS if kind.outcome is Outcome.ENDED]
        others = [kind for kind in KINDS if kind.outcome is not Outcome.ENDED]
        random.shuffle(ends)
        random.shuffle(others)
        following = cycle(others)
        for at in range(0, len(ends), ENDS_IN_A_ROW):
            began = time.monotonic()
            while time.monotonic() - began < STABLE_S:
                self.strike(next(following))
            for kind in ends[at : at + ENDS_IN_A_ROW]:
                self.strike(kind)
        while len(self.struck) < len(KINDS):
            self.strike(next(following))

    def strike(self, kind: Fault | Command) -> None:
        """Return when what has to come of it has come: the session is established, and data flows."""
        lp, wire = self._lp, self._lp.wire
        connections, asked, struck = wire.connections, wire.resend_requests, len(wire.struck)
        logons = lp.do("status")["logons"]
        if isinstance(kind, Fault):
            wire.strike(kind)
            self._wait(lambda: len(wire.struck) > struck, f"{kind} on the wire")
        else:
            for line in kind.lines:
                lp.do(line)
        if kind.outcome is Outcome.ENDED:
            self._wait_subscribed(logons + 1, f" after {kind}")
        elif kind.outcome is Outcome.ASKED:
            self._wait(lambda: wire.resend_requests > asked, f"a ResendRequest after {kind}")
        enough = self._ticks() + SETTLED_TICKS
        self._venue.wait(lambda: self._ticks() >= enough, f"data after {kind}", lp, poll_s=METRICS_S)
        if kind.outcome is not Outcome.ENDED:
            assert wire.connections == connections, f"{lp.name}: {kind} has ended the session\n{lp.talk(40)}"
        if kind.outcome in {Outcome.PASSED, Outcome.KEPT}:
            assert wire.resend_requests == asked, f"{lp.name}: {kind} makes a ResendRequest\n{lp.talk(40)}"
        self.struck[kind] += 1

    def unusable_lines(self) -> int:
        """Ledger lines of messages that came with spoilt content, of an LP that keeps its numbers."""
        numbers = {str(number) for fault, taken in self._lp.wire.struck if fault.outcome is Outcome.KEPT for number in taken}
        return sum(line.msg_seq_num in numbers for line in read_ledger(self._lp.ledger))

    def _wait(self, reached: Callable[[], bool], what: str) -> None:
        self._venue.wait(reached, what, self._lp, self._status)

    def _wait_subscribed(self, logons: int, why: str = "") -> None:
        def reached() -> bool:
            self._status.update(self._lp.do("status"))
            return self._status["logons"] >= logons and self._status["subscribed"] == SYMBOLS

        self._wait(reached, f"logon {logons} with all subscriptions{why}")

    def _ticks(self) -> float:
        return self._venue.gateway.metrics().get(f'ticks_published_total{{session="{self._lp.name}"}}', 0)


def test_faults_of_every_kind_cost_three_versions_nothing_that_is_not_recorded(tmp_path: Path) -> None:
    kept = {version: quickfix_lp(tmp_path, version) for version in VERSIONS}
    resetting = {version: quickfix_lp(tmp_path, version, "-reset", lp_resets=True) for version in VERSIONS}
    venue = Venue(tmp_path, *kept.values(), *resetting.values())
    for version, feed in VERSIONS.items():
        venue.add_feed(kept[version], heartbeat_s=HEARTBEAT_S, reset_on_logon=False, **feed)
        by = "quote_request" if version == "FIX44" else "market_data"
        venue.add_feed(resetting[version], heartbeat_s=HEARTBEAT_S, reset_on_logon=True, subscribe_by=by, **feed)
    storms = {lp.name: Storm(venue, lp) for lp in venue.lps}
    with venue:
        with ThreadPoolExecutor(len(storms)) as threads:
            runs = [threads.submit(storm.run) for storm in storms.values()]
        assert not [str(error) for run in runs if (error := run.exception())]
        result = venue.finish()
    assert all(storm.struck[kind] for storm in storms.values() for kind in KINDS)
    assert result.stored + result.in_gaps == result.received
    for lp in kept.values():
        assert 0 < result.gaps_by_session[lp.name] <= storms[lp.name].unusable_lines()
    for lp in resetting.values():
        assert result.gaps_by_session[lp.name] < GAP_SHARE_MAX * lp.ledger_lines()


def test_lps_that_answer_quote_requests_are_stored_in_all_versions(tmp_path: Path) -> None:
    lps = {version: quickfix_lp(tmp_path, version) for version in VERSIONS}
    venue = Venue(tmp_path, *lps.values())
    for version, lp in lps.items():
        venue.add_feed(lp, subscribe_by="quote_request", **VERSIONS[version])
    with venue:
        for lp in lps.values():
            venue.wait(lambda lp=lp: lp.do("status")["subscribed"] == SYMBOLS, "all subscriptions", lp)
            lp.do("burst", 1000, 10)
        result = venue.finish()
    assert result.stored == result.received == len(lps) * (1000 + SYMBOLS)
    assert not [message for lp in lps.values() for message in lp.wire.messages("23j")]


def test_an_lp_that_does_not_list_its_symbols_raises_an_alert_unless_they_are_named(tmp_path: Path) -> None:
    asked = [quickfix_lp(tmp_path, version, lists=False) for version in VERSIONS]
    named = [quickfix_lp(tmp_path, version, "-named", lists=False) for version in VERSIONS]
    venue = Venue(tmp_path, *asked, *named)
    symbols = [f"S{number:03d}/USD" for number in range(SYMBOLS)]
    for version, one, other in zip(VERSIONS, asked, named, strict=True):
        venue.add_feed(one, reset_on_logon=False, **VERSIONS[version])
        venue.add_feed(other, reset_on_logon=False, symbols=symbols, **VERSIONS[version])

    def alerts(lp: ForeignLp) -> list[str]:
        log = venue.gateway.log.read_text("utf-8").splitlines()
        return [line for line in log if "no_list" in line and f'"{lp.name}"' in line]

    with venue:
        for lp in named:
            venue.wait(lambda lp=lp: lp.do("status")["subscribed"] == SYMBOLS, "all subscriptions", lp)
        for lp in asked:
            venue.wait(lambda lp=lp: bool(alerts(lp)), "an alert", lp)
            assert lp.do("status")["subscribed"] == 0
        result = venue.finish()
    assert result.stored == result.received == len(named) * SYMBOLS
    assert not any(alerts(lp) for lp in named)
