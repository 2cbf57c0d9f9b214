"""A few rounds of `make chaos`, always the same ones: the whole takes minutes."""

from pathlib import Path

from tests.chaos.run import run
from tests.chaos.scenario import SCENARIOS

SEED = 20
NAMES = (
    "gateway dies at folded_not_published",
    "persistence dies at inserted_not_committed",
    "persistence dies at between_days",
    "Redis back empty, both killed",
    "Redis out of memory",
    "gateway and persistence killed",
    "LP1 fault drop",
    "LP2 fault garble",
)


def test_nothing_is_lost_or_stored_twice_in_a_few_rounds_of_chaos(tmp_path: Path) -> None:
    by_name = {scenario.name: scenario for scenario in SCENARIOS}
    done = run(tmp_path, SEED, [by_name[name] for name in NAMES], report=False, own_disks=False)
    assert done.sound, [*done.problems, *(finished.line() for finished in done.rounds if finished.problems)]
    assert all(finished.in_flight > 0 for finished in done.rounds if finished.scenario.point)
    assert done.total.received > 10_000
