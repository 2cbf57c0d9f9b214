"""CHAOS_SEED repeats a run, CHAOS_ROUNDS (100) shortens it; exit code 1 where a tick is lost, doubled, or never arrives."""

import os
import secrets
import shutil
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from random import Random

from tests.chaos.plan import POINT_HITS_MIN, least_rounds, plan
from tests.chaos.run import RATES, Run, run
from tests.chaos.scenario import SCENARIOS


def main() -> int:
    seed = int(os.environ.get("CHAOS_SEED") or secrets.randbelow(1_000_000))
    rounds = int(os.environ.get("CHAOS_ROUNDS") or 100)
    folder = Path(tempfile.mkdtemp(prefix="tickvault-chaos-"))
    rates = ", ".join(f"{name} {rate}/s" for name, rate in RATES.items())
    print(f"chaos: CHAOS_SEED={seed} CHAOS_ROUNDS={rounds}; {rates}; logs and data in {folder}", flush=True)
    began = time.monotonic()
    done = run(folder, seed, plan(rounds, Random(seed)))
    missed = _missed_points(done) if rounds >= least_rounds() else []
    print(table(done))
    total = done.total
    print(f"in all: {total.line()} in_gaps={total.in_gaps} ({total.gap_share:.3%} of the ledgers)")
    if rounds < least_rounds():
        print(f"not every scenario was run: that takes {least_rounds()} rounds")
    print(f"{len(done.rounds)} rounds in {time.monotonic() - began:.0f} s, CHAOS_SEED={seed}")
    if done.sound and not missed:
        print("nothing lost, nothing stored twice")
        shutil.rmtree(folder)
        return 0
    print("FAILED", *done.problems, *missed, *(finished.line() for finished in done.rounds if finished.problems), sep="\n  ")
    print(f"logs in {folder}; repeat with CHAOS_SEED={seed} CHAOS_ROUNDS={rounds}")
    return 1


def _missed_points(done: Run) -> list[str]:
    """A point counts as hit where ticks were in flight when the process died there."""
    hits = Counter(finished.scenario.point for finished in done.rounds if finished.in_flight > 0)
    return [
        f"point {scenario.point} was hit {hits[scenario.point]} times with ticks in flight, not {POINT_HITS_MIN}"
        for scenario in SCENARIOS
        if scenario.point and hits[scenario.point] < POINT_HITS_MIN
    ]


def table(done: Run) -> str:
    """A line a scenario."""
    lines = [f"\n{'scenario':42} {'rounds':>6} {'in flight':>10} {'sent':>9} {'in gaps':>8}  result"]
    for scenario in SCENARIOS:
        rounds = [finished for finished in done.rounds if finished.scenario is scenario]
        if rounds:
            failed = sum(bool(finished.problems) for finished in rounds)
            lines.append(
                f"{scenario.name:42} {len(rounds):6} {sum(finished.in_flight for finished in rounds):10} "
                f"{sum(finished.reckoning.received for finished in rounds):9} "
                f"{sum(finished.reckoning.in_gaps for finished in rounds):8}  {f'{failed} FAILED' if failed else 'ok'}"
            )
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
