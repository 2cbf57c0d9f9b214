"""What only QuickFIX (C++, by its Python package) is made to do as the LP; the rest is in test_scenarios.py."""

import signal
from pathlib import Path

import pytest

from tests.foreign.engines import needs_quickfix, quickfix
from tests.foreign.session import Trial

pytestmark = needs_quickfix

FLOW = 400  # messages a second
SETTLED_TICKS = 800


def test_a_gap_in_our_own_numbers_is_filled_when_the_lp_asks(tmp_path: Path) -> None:
    with Trial(tmp_path, quickfix) as trial:
        trial.lp.do("flow", FLOW, 1)
        trial.lp.do("rewind", 20)
        trial.wait_message("4", from_lp=False)
        trial.wait_sent(SETTLED_TICKS)
        status = trial.lp.do("status")
        result = trial.finish()
    assert status["logged_on"]
    assert result.stored == result.received
    assert len(trial.wire.messages("2", from_lp=True)) == 1


def test_after_a_logon_with_reset_in_mid_session_everything_is_stored(tmp_path: Path) -> None:
    with Trial(tmp_path, quickfix) as trial:
        trial.lp.do("burst", 500, 10)
        trial.wait_stored()
        trial.lp.do("logon_reset")
        trial.wait_message("A", from_lp=False, count=2)
        trial.wait_subscribed()
        trial.lp.do("burst", 500, 10)
        result = trial.finish()
    assert result.stored == result.received
    assert trial.wire.messages("A", from_lp=False)[1].get(141) == "Y"
    assert not trial.refusals()


def test_a_logon_with_reset_in_mid_session_does_not_end_the_session(tmp_path: Path) -> None:
    with Trial(tmp_path, quickfix) as trial:
        trial.lp.do("logon_reset")
        trial.wait_message("A", from_lp=True, count=3)
        trial.wait_message("0", from_lp=False)
    assert not trial.logouts_of_ours()


def test_what_was_sent_to_a_dead_gateway_is_sent_again(tmp_path: Path) -> None:
    with Trial(tmp_path, quickfix) as trial:
        trial.lp.do("flow", FLOW, 10)
        trial.wait_sent(SETTLED_TICKS)
        trial.gateway.kill()
        trial.wait_sent(SETTLED_TICKS)
        trial.restart_gateway()
        trial.wait_subscribed(2)
        trial.wait_sent(SETTLED_TICKS)
        result = trial.finish()
    assert result.stored == result.received
    assert not trial.refusals()


@pytest.mark.parametrize("reset_on_logon", [False, True])
def test_an_lp_that_is_killed_and_starts_again_is_taken_back(tmp_path: Path, reset_on_logon: bool) -> None:
    with Trial(tmp_path, quickfix, reset_on_logon=reset_on_logon) as trial:
        trial.lp.do("burst", 2000, 10)
        trial.lp.kill()
        trial.lp.start()
        trial.wait_subscribed()
        trial.lp.do("burst", 2000, 10)
        result = trial.finish()
    assert result.stored + result.in_gaps == result.received
    if not reset_on_logon:
        assert result.in_gaps == 0


def test_an_lp_that_forgot_its_numbers_is_refused_until_somebody_looks(tmp_path: Path) -> None:
    with Trial(tmp_path, quickfix, reset_on_logon=False) as trial:
        trial.lp.do("burst", 500, 10)
        trial.wait_stored()
        trial.lp.kill()
        for file in (tmp_path / "lp/engine/store").iterdir():
            file.unlink()
        trial.lp.start()
        trial.wait_for(lambda: any("too low" in (text or "") for text in trial.logouts_of_ours()), "a logout that says why")
        ready = trial.gateway.get("/readyz")
        trial.lp.do("status")
    assert not ready["ready"]
    assert "too low" in str(ready)
    assert all(message.get(141) is None for message in trial.wire.messages("A"))


def test_a_silent_lp_is_asked_and_then_left_and_taken_back_when_it_speaks(tmp_path: Path) -> None:
    with Trial(tmp_path, quickfix) as trial:
        trial.lp.do("burst", 500, 10)
        trial.wait_stored()
        trial.lp.signal(signal.SIGSTOP)
        trial.wait_message("1", from_lp=False)
        trial.wait_for(lambda: not trial.up(), "the gateway giving up")
        trial.lp.signal(signal.SIGCONT)
        trial.wait_subscribed(2)
        trial.lp.do("burst", 500, 10)
        result = trial.finish()
    assert result.stored == result.received


def test_a_gap_found_on_both_sides_at_logon_is_filled_without_another_logon(tmp_path: Path) -> None:
    with Trial(tmp_path, quickfix) as trial:
        trial.lp.do("burst", 500, 10)
        trial.wait_stored()
        trial.lp.do("jump", 5)
        trial.lp.do("rewind", 5)
        trial.wire.cut()
        trial.wait_subscribed(2)
        trial.lp.do("burst", 500, 10)
        result = trial.finish()
    assert result.stored == result.received
    assert len(trial.wire.messages("A", from_lp=True)) == 2


def test_subscriptions_arrive_though_the_lp_asks_for_our_numbers_when_they_are_under_way(tmp_path: Path) -> None:
    with Trial(tmp_path, quickfix) as trial:
        trial.lp.do("burst", 500, 10)
        trial.wait_stored()
        trial.lp.do("rewind", 5)
        trial.wire.late["2"] = 0.2
        trial.wire.cut()
        trial.wait_subscribed(2)
        trial.lp.do("burst", 500, 10)
        result = trial.finish()
    assert result.stored == result.received
