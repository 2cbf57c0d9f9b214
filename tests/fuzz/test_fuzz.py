"""A short run of `make fuzz`; and that its checks find what they are for."""

import secrets
from random import Random

import pytest

from libs.common.bus.entry import TickRow
from tests.fuzz import trial
from tests.fuzz.conversation import Event, converse
from tests.fuzz.mutation import chunked
from tests.fuzz.reference import Reference, frames
from tests.fuzz.scaling import FACTOR_MAX, PATTERNS, factor
from tests.fuzz.trial import Failed, Figures, Run, Trial, load, save, shrunk

CASES = 120


def run_from(seed: int) -> None:
    figures = Figures()
    for number in range(seed, seed + CASES):
        try:
            Trial(number).check(figures)
        except Failed as failed:
            pytest.fail(f"python -m tests.fuzz --seed {number}: {failed}")
    assert figures.ticks > CASES
    assert figures.quarantined > CASES


def test_conversations_that_were_damaged_break_nothing():
    run_from(1)


def test_conversations_that_were_damaged_in_other_ways_break_nothing():
    run_from(secrets.randbelow(10**9))


@pytest.mark.parametrize("pattern", PATTERNS)
def test_the_work_for_a_byte_does_not_grow_with_their_number(pattern):
    assert factor(pattern) < FACTOR_MAX


# ---- the checks


def played(depth: int = 1):
    """A conversation of that depth, its run, and the reference to it."""
    whole = next(
        found for seed in range(1000) if (found := converse(Random(seed))).settings["market_depth"] == depth and found.quoted
    )
    run = Run(whole.settings)
    outcome = run.play(whole.events)
    reference = Reference(whole.settings["aliases"])
    for stream in trial.streams(whole.events):
        reference.read(stream)
    return whole, run, outcome, reference


def with_tick(outcome, change) -> None:
    """Change the first tick that there is."""
    ticks: list[TickRow] = next(came[0] for came in outcome.at_record if came[0])
    ticks[0] = change(ticks[0])


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        (lambda tick: (*tick[:5], tick[5] + 1, *tick[6:]), "wrong tick"),
        (lambda tick: (*tick[:7], 77.0, *tick[8:]), "wrong tick"),
        (lambda tick: ("XAG/USD", *tick[1:]), "wrong tick"),
        (lambda tick: (*tick[:2], tick[2] + 1, *tick[3:]), "wrong time"),
    ],
)
def test_a_tick_that_no_message_stated_is_found(change, kind):
    _, _, outcome, reference = played()
    trial.check_derivable(outcome, reference)
    with_tick(outcome, change)
    with pytest.raises(Failed, match=kind):
        trial.check_derivable(outcome, reference)


def test_a_level_that_no_message_stated_is_found():
    _, _, outcome, reference = played(depth=0)
    trial.check_derivable(outcome, reference)
    book = next(came[2] for came in outcome.at_record if came[2] and came[2][0].bids)[0]
    book.bids[0] = (book.bids[0][0] + 1, book.bids[0][1])
    with pytest.raises(Failed, match="wrong level"):
        trial.check_derivable(outcome, reference)


def test_a_quote_that_is_lost_or_doubled_is_found():
    whole, run, outcome, reference = played()
    trial.check_account(whole.settings, run.session, outcome, reference)
    frame, symbol, bid = reference.plain[0]
    assert frame in b"".join(trial.streams(whole.events))
    for came in outcome.at_record:
        came[0][:] = [tick for tick in came[0] if (tick[0], tick[5]) != (symbol, bid)]
    run.session.counts.dropped_duplicates = 0
    with pytest.raises(Failed, match="lost"):
        trial.check_account(whole.settings, run.session, outcome, reference)
    with pytest.raises(Failed, match="numbering"):
        trial.check_numbering(outcome)
    whole, _, outcome, _ = played()
    twice = next(came[0] for came in outcome.at_record if came[0])
    twice.append(twice[0])
    with pytest.raises(Failed, match="numbering"):
        trial.check_numbering(outcome)


def test_an_exception_is_a_failure_that_says_where_and_is_shrunk_and_kept(tmp_path, monkeypatch):
    def raises(*_):
        raise ZeroDivisionError

    whole = converse(Random(1))
    monkeypatch.setattr("services.gateway.fix.capture.Capture.went_stale", raises)
    events = [*whole.events, Event("clock", whole.events[-1].at, b"\x90")]
    with pytest.raises(Failed, match=r"raised ZeroDivisionError.*test_fuzz\.py") as caught:
        trial.check_case(whole.settings, events, Random(0), None, Figures())
    least = shrunk(whole.settings, events, caught.value.kind)
    assert [event.kind for event in least] == ["clock"]
    save(tmp_path / "case.json", whole.settings, least)
    assert load(tmp_path / "case.json")[1] == least


def test_a_fault_that_the_session_caught_is_a_failure_too(monkeypatch):
    def raises(*_):
        raise ZeroDivisionError

    whole = converse(Random(1))
    monkeypatch.setattr("services.gateway.fix.capture.Capture.keep", raises)
    with pytest.raises(Failed, match="a fault of the gateway: ZeroDivisionError"):
        Run(whole.settings).play(whole.events)


def test_chunks_are_the_same_bytes():
    for seed in range(50):
        whole = converse(Random(seed))
        assert trial.streams(chunked(Random(seed), whole.events)) == trial.streams(whole.events)


def test_the_reference_takes_intact_messages_only():
    frame = b"8=FIX.4.4\x019=5\x0135=0\x0110=163\x01"
    assert list(frames(b"noise" + frame + frame[:-2] + b"4\x01" + frame[:10] + frame)) == [frame, frame]
