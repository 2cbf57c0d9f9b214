"""The gateway against QuickFIX (C++, by its Python package) as the LP: what the LP sent is stored once, whatever happens."""

import os
import signal
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.foreign.session import SYMBOLS, Trial
from tests.foreign.wire import Seen

pytest.importorskip("quickfix", reason="QuickFIX is not installed: pip install quickfix (it compiles for minutes)")

LP = Path(__file__).with_name("quickfix_lp.py")
FLOW = 400  # messages a second
SETTLED_TICKS = 800


def quickfix(options: str) -> tuple[list[str], Mapping[str, str]]:
    return [sys.executable, str(LP), options], os.environ


def refusals(trial: Trial) -> list[Seen]:
    """Rejects of either side."""
    return trial.wire.messages("3j")


def logouts_of_ours(trial: Trial) -> list[str | None]:
    return [message.get(58) for message in trial.wire.messages("5", from_lp=False)]


def test_everything_sent_flat_out_is_stored(tmp_path: Path) -> None:
    with Trial(tmp_path, quickfix) as trial:
        trial.lp.do("burst", 100_000, 10)
        result = trial.finish()
    assert result.stored == result.received == 100_000 + SYMBOLS
    assert len(trial.wire.messages("A", from_lp=True)) == 1
    assert not refusals(trial)
    assert not trial.wire.messages("2")


def test_snapshots_single_quotes_and_ten_quotes_a_message_are_stored_and_test_requests_answered(tmp_path: Path) -> None:
    with Trial(tmp_path, quickfix) as trial:
        trial.lp.do("burst", 500, 1)
        trial.lp.do("burst", 500, 10)
        trial.lp.do("snapshots")
        trial.lp.do("test_request", "ARE-YOU-THERE")
        trial.wait(lambda: any(m.get(112) == "ARE-YOU-THERE" for m in trial.wire.messages("0", from_lp=False)), "the answer")
        result = trial.finish()
    assert result.stored == result.received == 1000 + 2 * SYMBOLS
    assert not refusals(trial)


def test_numbers_that_were_never_used_are_asked_for_once_and_filled(tmp_path: Path) -> None:
    with Trial(tmp_path, quickfix) as trial:
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
    assert not refusals(trial)


def test_messages_lost_on_the_way_come_again_as_possible_duplicates(tmp_path: Path) -> None:
    with Trial(tmp_path, quickfix) as trial:
        trial.lp.do("flow", FLOW, 2)
        trial.wait_sent(SETTLED_TICKS)
        trial.wire.lose = 5
        trial.wait(lambda: len(trial.wire.lost) == 5, "five messages lost")
        trial.wait_sent(SETTLED_TICKS)
        result = trial.finish()
    again = [message for message in trial.wire.messages("X", from_lp=True) if message.get(43) == "Y"]
    assert len(again) >= 5
    assert all(message.get(122) for message in again)
    assert result.stored == result.received
    assert len(trial.wire.messages("2", from_lp=False)) == 1


def test_a_damaged_message_is_kept_as_it_was_and_comes_again(tmp_path: Path) -> None:
    with Trial(tmp_path, quickfix) as trial:
        trial.lp.do("flow", FLOW, 10)
        trial.wait_sent(SETTLED_TICKS)
        trial.wire.damage = 1
        trial.wait(lambda: len(trial.wire.lost) == 1, "one message damaged")
        trial.wait_sent(SETTLED_TICKS)
        result = trial.finish()
    assert result.stored == result.received
    assert result.quarantined == 1
    assert not refusals(trial)


def test_what_an_lp_fills_instead_of_resending_lies_in_a_recorded_gap(tmp_path: Path) -> None:
    with Trial(tmp_path, quickfix, resends=False) as trial:
        trial.lp.do("flow", FLOW, 2)
        trial.wait_sent(SETTLED_TICKS)
        trial.wire.lose = 5
        trial.wait_message("4", from_lp=True)
        trial.wait_sent(SETTLED_TICKS)
        trial.lp.do("flow", 0, 1)
        result = trial.finish()
    assert result.in_gaps >= 10
    assert result.stored + result.in_gaps == result.received


def test_a_sequence_reset_is_followed_without_a_question(tmp_path: Path) -> None:
    with Trial(tmp_path, quickfix) as trial:
        trial.lp.do("burst", 100, 1)
        trial.lp.do("sequence_reset", 50)
        trial.lp.do("burst", 1000, 10)
        result = trial.finish()
    assert result.stored == result.received
    assert not trial.wire.messages("2")
    assert not refusals(trial)
    assert len(trial.wire.messages("A", from_lp=True)) == 1


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
    assert not refusals(trial)


def test_a_logon_with_reset_in_mid_session_does_not_end_the_session(tmp_path: Path) -> None:
    with Trial(tmp_path, quickfix) as trial:
        trial.lp.do("logon_reset")
        trial.wait_message("A", from_lp=True, count=3)
        trial.wait_message("0", from_lp=False)
    assert not logouts_of_ours(trial)


@pytest.mark.parametrize("reset_on_logon", [False, True])
def test_after_a_logout_of_the_lp_the_session_comes_back(tmp_path: Path, reset_on_logon: bool) -> None:
    with Trial(tmp_path, quickfix, reset_on_logon=reset_on_logon) as trial:
        trial.lp.do("burst", 500, 10)
        trial.lp.do("logout", "maintenance")
        trial.wait_message("5", from_lp=False)
        trial.lp.do("logon")
        trial.wait_subscribed(2)
        trial.lp.do("burst", 500, 10)
        result = trial.finish()
    assert result.stored == result.received
    assert not refusals(trial)


@pytest.mark.parametrize("reset_on_logon", [False, True])
def test_after_a_cut_connection_the_session_comes_back(tmp_path: Path, reset_on_logon: bool) -> None:
    with Trial(tmp_path, quickfix, reset_on_logon=reset_on_logon) as trial:
        trial.lp.do("flow", FLOW, 10)
        trial.wait_sent(SETTLED_TICKS)
        trial.wire.cut()
        trial.wait_subscribed(2)
        trial.wait_sent(SETTLED_TICKS)
        result = trial.finish()
    assert result.stored + result.in_gaps == result.received
    if not reset_on_logon:
        assert result.in_gaps == 0


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
    assert not refusals(trial)


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
        for file in (tmp_path / "lp/store").iterdir():
            file.unlink()
        trial.lp.start()
        trial.wait(lambda: any("too low" in (text or "") for text in logouts_of_ours(trial)), "a logout that says why")
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
        trial.wait(lambda: not trial.up(), "the gateway giving up")
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
