"""Which scenarios a run has, in which order: a function of its seed."""

from random import Random

from tests.chaos.scenario import SCENARIOS, Scenario

POINT_HITS_MIN = 3


def least_rounds() -> int:
    """So many rounds have every scenario, and each named point as often as it must be hit."""
    return sum(POINT_HITS_MIN if scenario.point else 1 for scenario in SCENARIOS)


def plan(rounds: int, random: Random) -> list[Scenario]:
    """Every scenario at least once, each named point at least POINT_HITS_MIN times, the rest by their shares."""
    needed = [scenario for scenario in SCENARIOS for _ in range(POINT_HITS_MIN if scenario.point else 1)]
    if rounds < len(needed):
        return random.sample(needed, rounds)
    counts = {scenario.name: needed.count(scenario) for scenario in SCENARIOS}
    order: list[Scenario] = list(needed)
    while len(order) < rounds:  # whoever is furthest behind its share
        order.append(min(SCENARIOS, key=lambda scenario: (counts[scenario.name] / scenario.share, random.random())))
        counts[order[-1].name] += 1
    random.shuffle(order)
    return order
