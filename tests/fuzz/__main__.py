"""--minutes M of cases from --seed N on; --case FILE plays one that failed again. Exit code 1 where a case fails."""

import argparse
import dataclasses
import resource
import secrets
import sys
import tempfile
import time
from pathlib import Path
from random import Random

from tests.fuzz.trial import CUTS, Failed, Figures, Trial, check_case, load, save, shrunk

FAILURES_MAX = 5
REPORT_S = 60.0


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--case", type=Path, default=None)
    given = parser.parse_args()
    if given.case is not None:
        return play(given.case)
    seed = secrets.randbelow(10**9) if given.seed is None else given.seed
    print(f"fuzz: --seed {seed}, {given.minutes:g} minutes", flush=True)
    figures, failures = Figures(), 0
    began = reported = time.monotonic()
    while failures < FAILURES_MAX and time.monotonic() - began < given.minutes * 60:
        failures += not passed(seed, figures)
        seed += 1
        if time.monotonic() - reported > REPORT_S:
            reported = time.monotonic()
            print(line(figures, reported - began), flush=True)
    print(line(figures, time.monotonic() - began))
    print(f"{failures} FAILED" if failures else "nothing lost, nothing wrong, nothing slow")
    return 1 if failures else 0


def passed(seed: int, figures: Figures) -> bool:
    trial = Trial(seed)
    try:
        trial.check(figures)
    except Failed as failed:
        print(f"seed {seed} FAILED {failed}", flush=True)
        events = shrunk(trial.settings, trial.events, failed.kind)
        path = Path(tempfile.gettempdir()) / f"fuzz-{seed}.json"
        save(path, trial.settings, events)
        print(
            f"  {sum(len(event.data) for event in events)} bytes of it in {path}; python -m tests.fuzz --case {path}", flush=True
        )
        return False
    return True


def play(path: Path) -> int:
    settings, events = load(path)
    try:
        for seed in range(CUTS):
            check_case(settings, events, Random(seed), None, Figures())
    except Failed as failed:
        print(failed)
        return 1
    print("passed")
    return 0


def line(figures: Figures, seconds: float) -> str:
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    counts = " ".join(f"{name}={count:,}" for name, count in dataclasses.asdict(figures).items())
    return f"{seconds:.0f} s  {counts}  peak memory {peak_mb:.0f} MB"


if __name__ == "__main__":
    sys.exit(main())
