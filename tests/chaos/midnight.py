"""Persistence dies between two days of one batch: a replay of ticks around many midnights, on a pipeline of its own."""

from pathlib import Path
from random import Random

from libs.common.domain.moment import NS_PER_DAY, NS_PER_MS, day_number
from libs.common.testing.reckoning import Reckoning
from tests.chaos.pipeline import ChaosFailed, Pipeline, Provider

DAYS = 40  # more than the writer keeps open
TICKS_A_SIDE = 60  # of each midnight
PASSES_MAX = 10
POINT_TIMEOUT_S = 30.0
FIRST_DAY = day_number(2024, 2, 1)
GRACES_S = ("300", "0.1")  # with the shorter one, days close meanwhile and the rest of their ticks is late


def run_midnight(folder: Path, random: Random) -> tuple[Reckoning, list[str], int]:
    """What the ledger and the account say, and the ticks in flight when persistence died."""
    folder.mkdir(parents=True)
    recording = folder / "EURUSD.csv"
    recording.write_text(_ticks_around_midnights(random), "ascii")
    provider = Provider("LP3", ("--replay", str(recording), "--speed", "max", "--exit-when-done"))
    passes = random.randint(1, PASSES_MAX)
    with Pipeline(folder, provider, TICKVAULT_ROTATE_GRACE_S=random.choice(GRACES_S)) as pipeline:
        pipeline.start("persistence", chaos_point=f"between_days:{passes}")
        pipeline.start("gateway")
        if not pipeline.wait_for_death("persistence", POINT_TIMEOUT_S):
            raise ChaosFailed(f"persistence did not die at between_days:{passes}")
        pipeline.start("persistence")
        result, errors = pipeline.finish()
        return result, errors, pipeline.in_flight


def _ticks_around_midnights(random: Random) -> str:
    lines = ["ts,bid,ask,bid_size,ask_size"]
    for day in range(FIRST_DAY, FIRST_DAY + DAYS):
        midnight = day * NS_PER_DAY
        for at in range(-TICKS_A_SIDE, TICKS_A_SIDE):
            bid = random.randint(107_000, 109_000)
            lines.append(f"{midnight + at * NS_PER_MS},{bid / 1e5:.5f},{(bid + 2) / 1e5:.5f},1,{random.randint(1, 9)}")
    return "\n".join(lines) + "\n"
