"""The gateway against jspurefix (TypeScript, on Node) as the LP: everything the LP sent is stored once, whatever happens.

npm install --prefix FOLDER jspurefix
TICKVAULT_JSPUREFIX=FOLDER python -m pytest tests/foreign/test_jspurefix.py
"""

import os
import shutil
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.foreign.session import SYMBOLS, Trial
from tests.foreign.wire import Seen

LP = Path(__file__).with_name("jspurefix_lp.js")
FLOW = 400  # messages a second
SETTLED_TICKS = 800
USED_TWICE_MAX = 200  # ticks: jspurefix writes its numbers to disk late, and uses some again after a connection it lost


MODULES = Path(os.environ.get("TICKVAULT_JSPUREFIX", "")) / "node_modules"
pytestmark = pytest.mark.skipif(
    shutil.which("node") is None or not (MODULES / "jspurefix").is_dir(),
    reason="needs node, and jspurefix in the folder TICKVAULT_JSPUREFIX names: npm install --prefix FOLDER jspurefix",
)


def jspurefix(options: str) -> tuple[list[str], Mapping[str, str]]:
    return ["node", str(LP), options], os.environ | {"NODE_PATH": str(MODULES)}


def refusals(trial: Trial) -> list[Seen]:
    """Rejects of either side."""
    return trial.wire.messages("3j")


def test_everything_sent_flat_out_is_stored(tmp_path: Path) -> None:
    with Trial(tmp_path, jspurefix) as trial:
        trial.lp.do("burst", 100_000, 10)
        result = trial.finish()
    assert result.stored == result.received == 100_000 + SYMBOLS
    assert len(trial.wire.messages("A", from_lp=True)) == 1
    assert not refusals(trial)
    assert not trial.wire.messages("2", from_lp=False)


def test_snapshots_single_quotes_and_ten_quotes_a_message_are_stored_and_test_requests_answered(tmp_path: Path) -> None:
    with Trial(tmp_path, jspurefix) as trial:
        trial.lp.do("burst", 500, 1)
        trial.lp.do("burst", 500, 10)
        trial.lp.do("snapshots")
        trial.lp.do("test_request", "ARE-YOU-THERE")
        trial.wait(lambda: any(m.get(112) == "ARE-YOU-THERE" for m in trial.wire.messages("0", from_lp=False)), "the answer")
        result = trial.finish()
    assert result.stored == result.received == 1000 + 2 * SYMBOLS
    assert not refusals(trial)


def test_numbers_that_were_never_used_are_asked_for_once_and_filled(tmp_path: Path) -> None:
    with Trial(tmp_path, jspurefix) as trial:
        trial.lp.do("flow", FLOW, 1)
        trial.wait_sent(SETTLED_TICKS)
        trial.lp.do("jump", 7)
        trial.wait_message("4", from_lp=True)
        trial.wait_sent(SETTLED_TICKS)
        result = trial.finish()
        gaps = trial.gaps()
    assert len(trial.wire.messages("2", from_lp=False)) == 1
    assert result.in_gaps == 0
    first, last, *_ = next(gap for gap in gaps if gap[2] == "gap_fill")
    assert last - first == 6
    assert not refusals(trial)


def test_messages_lost_on_the_way_come_again_as_possible_duplicates(tmp_path: Path) -> None:
    with Trial(tmp_path, jspurefix) as trial:
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


def test_a_damaged_message_is_kept_as_it_was_and_comes_again(tmp_path: Path) -> None:
    with Trial(tmp_path, jspurefix) as trial:
        trial.lp.do("flow", FLOW, 10)
        trial.wait_sent(SETTLED_TICKS)
        trial.wire.damage = 1
        trial.wait(lambda: len(trial.wire.lost) == 1, "one message damaged")
        trial.wait_sent(SETTLED_TICKS)
        result = trial.finish()
    assert result.stored == result.received
    assert result.quarantined == 1


def test_what_an_lp_fills_instead_of_resending_lies_in_a_recorded_gap(tmp_path: Path) -> None:
    with Trial(tmp_path, jspurefix, resends=False) as trial:
        trial.lp.do("flow", FLOW, 2)
        trial.wait_sent(SETTLED_TICKS)
        trial.wire.lose = 5
        trial.wait_message("4", from_lp=True)
        trial.wait_sent(SETTLED_TICKS)
        result = trial.finish()
    assert result.in_gaps >= 10
    assert result.stored + result.in_gaps == result.received


def test_a_sequence_reset_is_followed_without_a_question(tmp_path: Path) -> None:
    with Trial(tmp_path, jspurefix) as trial:
        trial.lp.do("burst", 100, 1)
        trial.lp.do("sequence_reset", 50)
        trial.lp.do("burst", 1000, 10)
        result = trial.finish()
    assert result.stored == result.received
    assert not trial.wire.messages("2", from_lp=False)
    assert len(trial.wire.messages("A", from_lp=True)) == 1


@pytest.mark.parametrize("reset_on_logon", [False, True])
def test_after_a_logout_of_the_lp_the_session_comes_back(tmp_path: Path, reset_on_logon: bool) -> None:
    with Trial(tmp_path, jspurefix, reset_on_logon=reset_on_logon) as trial:
        trial.lp.do("burst", 500, 10)
        trial.lp.do("logout")
        trial.wait_message("5", from_lp=False)
        trial.wait_subscribed(2)
        trial.lp.do("burst", 500, 10)
        result = trial.finish()
    assert result.stored == result.received
    assert not refusals(trial)


@pytest.mark.parametrize("reset_on_logon", [False, True])
def test_after_a_cut_connection_the_session_comes_back(tmp_path: Path, reset_on_logon: bool) -> None:
    with Trial(tmp_path, jspurefix, reset_on_logon=reset_on_logon) as trial:
        trial.lp.do("flow", FLOW, 10)
        trial.wait_sent(SETTLED_TICKS)
        trial.wire.cut()
        trial.wait_subscribed(2)
        trial.wait_sent(SETTLED_TICKS)
        result = trial.finish()
    assert result.stored + result.in_gaps == result.received
    assert result.in_gaps <= USED_TWICE_MAX


def test_an_lp_that_answers_every_logon_with_a_reset_is_taken_back(tmp_path: Path) -> None:
    with Trial(tmp_path, jspurefix, lp_resets=True) as trial:
        trial.lp.do("burst", 500, 10)
        trial.wait_stored()
        trial.wire.cut()
        trial.wait_subscribed(2)
        trial.lp.do("burst", 500, 10)
        result = trial.finish()
    assert result.stored == result.received
    assert not refusals(trial)


def test_a_gateway_that_is_killed_gets_what_it_missed(tmp_path: Path) -> None:
    with Trial(tmp_path, jspurefix) as trial:
        trial.lp.do("flow", FLOW, 10)
        trial.wait_sent(SETTLED_TICKS)
        trial.gateway.kill()
        trial.restart_gateway()
        trial.wait_subscribed(2)
        trial.wait_sent(SETTLED_TICKS)
        result = trial.finish()
    assert result.stored + result.in_gaps == result.received
    assert result.in_gaps <= USED_TWICE_MAX


@pytest.mark.parametrize("reset_on_logon", [False, True])
def test_an_lp_that_is_killed_and_starts_again_is_taken_back(tmp_path: Path, reset_on_logon: bool) -> None:
    with Trial(tmp_path, jspurefix, reset_on_logon=reset_on_logon) as trial:
        trial.lp.do("burst", 2000, 10)
        trial.wait_stored()
        trial.lp.kill()
        trial.lp.start()
        trial.wait_subscribed()
        trial.lp.do("burst", 2000, 10)
        result = trial.finish()
    assert result.stored == result.received
