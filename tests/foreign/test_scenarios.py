"""The gateway against foreign engines as the LP: everything the LP sent is stored once, whatever happens."""

from pathlib import Path

import pytest

from tests.foreign.engines import jspurefix, needs_jspurefix, needs_quickfix, quickfix
from tests.foreign.faults import FLIPPED, LOST
from tests.foreign.session import SYMBOLS, Engine, Trial

pytestmark = pytest.mark.parametrize(
    "engine", [pytest.param(quickfix, marks=needs_quickfix), pytest.param(jspurefix, marks=needs_jspurefix)]
)

FLOW = 400  # messages a second
SETTLED_TICKS = 800
USED_TWICE_MAX = {
    quickfix: 0,
    jspurefix: 200,
}  # ticks: jspurefix writes its numbers late, and uses some again after a lost connection


def test_everything_sent_flat_out_is_stored(tmp_path: Path, engine: Engine) -> None:
    with Trial(tmp_path, engine) as trial:
        trial.lp.do("burst", 100_000, 10)
        result = trial.finish()
    assert result.stored == result.received == 100_000 + SYMBOLS
    assert len(trial.wire.messages("A", from_lp=True)) == 1
    assert not trial.refusals()
    assert not trial.wire.messages("2", from_lp=False)


def test_snapshots_single_quotes_and_ten_quotes_a_message_are_stored_and_test_requests_answered(
    tmp_path: Path, engine: Engine
) -> None:
    with Trial(tmp_path, engine) as trial:
        trial.lp.do("burst", 500, 1)
        trial.lp.do("burst", 500, 10)
        trial.lp.do("snapshots")
        trial.lp.do("test_request", "ARE-YOU-THERE")
        trial.wait_for(lambda: any(m.get(112) == "ARE-YOU-THERE" for m in trial.wire.messages("0", from_lp=False)), "the answer")
        result = trial.finish()
    assert result.stored == result.received == 1000 + 2 * SYMBOLS
    assert not trial.refusals()


def test_numbers_that_were_never_used_are_asked_for_once_and_filled(tmp_path: Path, engine: Engine) -> None:
    with Trial(tmp_path, engine) as trial:
        trial.lp.do("flow", FLOW, 1)
        trial.wait_sent(SETTLED_TICKS)
        trial.lp.do("jump", 7)
        trial.wait_message("4", from_lp=True)
        trial.wait_sent(SETTLED_TICKS)
        result = trial.finish()
        gaps = trial.gaps()
    (request,) = trial.wire.messages("2", from_lp=False)
    assert request.get(16) == "0"
    assert result.in_gaps == 0
    first, last, *_ = next(gap for gap in gaps if gap[2] == "gap_fill")
    assert last - first == 6
    assert not trial.refusals()


def test_messages_lost_on_the_way_come_again_as_possible_duplicates(tmp_path: Path, engine: Engine) -> None:
    with Trial(tmp_path, engine) as trial:
        trial.lp.do("flow", FLOW, 2)
        trial.wait_sent(SETTLED_TICKS)
        trial.wire.strike(LOST, 5)
        trial.wait_for(lambda: len(trial.wire.struck) == 5, "five messages lost")
        trial.wait_sent(SETTLED_TICKS)
        result = trial.finish()
    again = [message for message in trial.wire.messages("X", from_lp=True) if message.get(43) == "Y"]
    assert len(again) >= 5
    assert all(message.get(122) for message in again)
    assert result.stored == result.received


def test_a_damaged_message_is_kept_as_it_was_and_comes_again(tmp_path: Path, engine: Engine) -> None:
    with Trial(tmp_path, engine) as trial:
        trial.lp.do("flow", FLOW, 10)
        trial.wait_sent(SETTLED_TICKS)
        trial.wire.strike(FLIPPED)
        trial.wait_for(lambda: len(trial.wire.struck) == 1, "one message damaged")
        trial.wait_sent(SETTLED_TICKS)
        result = trial.finish()
    assert result.stored == result.received
    assert result.quarantined == 1


def test_what_an_lp_fills_instead_of_resending_lies_in_a_recorded_gap(tmp_path: Path, engine: Engine) -> None:
    with Trial(tmp_path, engine, resends=False) as trial:
        trial.lp.do("flow", FLOW, 2)
        trial.wait_sent(SETTLED_TICKS)
        trial.wire.strike(LOST, 5)
        trial.wait_message("4", from_lp=True)
        trial.wait_sent(SETTLED_TICKS)
        result = trial.finish()
    assert result.in_gaps >= 10
    assert result.stored + result.in_gaps == result.received


def test_a_sequence_reset_is_followed_without_a_question(tmp_path: Path, engine: Engine) -> None:
    with Trial(tmp_path, engine) as trial:
        trial.lp.do("burst", 100, 1)
        trial.lp.do("sequence_reset", 50)
        trial.lp.do("burst", 1000, 10)
        result = trial.finish()
    assert result.stored == result.received
    assert not trial.wire.messages("2", from_lp=False)
    assert len(trial.wire.messages("A", from_lp=True)) == 1


@pytest.mark.parametrize("reset_on_logon", [False, True])
def test_after_a_logout_of_the_lp_the_session_comes_back(tmp_path: Path, engine: Engine, reset_on_logon: bool) -> None:
    with Trial(tmp_path, engine, reset_on_logon=reset_on_logon) as trial:
        trial.lp.do("burst", 500, 10)
        trial.lp.do("logout", "maintenance")
        trial.wait_message("5", from_lp=False)
        trial.lp.do("logon")
        trial.wait_subscribed(2)
        trial.lp.do("burst", 500, 10)
        result = trial.finish()
    assert result.stored == result.received
    assert not trial.refusals()


@pytest.mark.parametrize("reset_on_logon", [False, True])
def test_after_a_cut_connection_the_session_comes_back(tmp_path: Path, engine: Engine, reset_on_logon: bool) -> None:
    with Trial(tmp_path, engine, reset_on_logon=reset_on_logon) as trial:
        trial.lp.do("flow", FLOW, 10)
        trial.wait_sent(SETTLED_TICKS)
        trial.wire.cut()
        trial.wait_subscribed(2)
        trial.wait_sent(SETTLED_TICKS)
        result = trial.finish()
    assert result.stored + result.in_gaps == result.received
    if not reset_on_logon:
        assert result.in_gaps <= USED_TWICE_MAX[engine]
