"""What only jspurefix (TypeScript, on Node) is made to do as the LP; the rest is in test_scenarios.py.

npm install --prefix FOLDER jspurefix
TICKVAULT_JSPUREFIX=FOLDER python -m pytest tests/foreign
"""

from pathlib import Path

import pytest

from tests.foreign.engines import jspurefix, needs_jspurefix
from tests.foreign.session import Trial

pytestmark = needs_jspurefix

FLOW = 400  # messages a second
SETTLED_TICKS = 800
USED_TWICE_MAX = 200  # ticks: jspurefix writes its numbers to disk late, and uses some again after a connection it lost


def test_an_lp_that_answers_every_logon_with_a_reset_is_taken_back(tmp_path: Path) -> None:
    with Trial(tmp_path, jspurefix, lp_resets=True) as trial:
        trial.lp.do("burst", 500, 10)
        trial.wait_stored()
        trial.wire.cut()
        trial.wait_subscribed(2)
        trial.lp.do("burst", 500, 10)
        result = trial.finish()
    assert result.stored == result.received
    assert not trial.refusals()


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
