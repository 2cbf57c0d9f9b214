"""Rounds: strike ─▶ everything runs again ─▶ all sent until now is durable ─▶ the round's ledger lines against the store."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from redis import RedisError

from libs.common.testing.reckoning import Reckoning
from tests.chaos.disk import NoDisk
from tests.chaos.midnight import run_midnight
from tests.chaos.pipeline import ChaosFailed, Pipeline, Provider
from tests.chaos.scenario import FORGETTING, KEEPING, Scenario

RATES = {KEEPING: 3_000, FORGETTING: 2_500}  # ticks/s
SYMBOLS = {KEEPING: 64, FORGETTING: 96}
FAILURES = (ChaosFailed, NoDisk, AssertionError, OSError, RedisError)
FAILURES_MAX = 5  # after so many the pipeline is beyond telling us anything new


@dataclass(slots=True)
class Round:
    """What came of one; `problems` is empty where it went well."""

    number: int
    scenario: Scenario
    seconds: float = 0.0
    in_flight: int = 0
    reckoning: Reckoning = field(default_factory=Reckoning)
    problems: list[str] = field(default_factory=list)

    def line(self) -> str:
        told = self.reckoning
        outcome = "; ".join(self.problems) or "ok"
        return (
            f"{self.number:4} {self.scenario.name:42} {self.seconds:5.1f} s  {self.in_flight:6} in flight  "
            f"{told.received:6} sent  {told.in_gaps:4} in gaps  {told.lost:2} lost  {told.duplicates:2} twice  {outcome}"
        )


@dataclass(slots=True)
class Run:
    """All rounds, and what the whole came to in the end."""

    rounds: list[Round]
    total: Reckoning
    problems: list[str]  # of the end; those of the rounds are theirs

    @property
    def sound(self) -> bool:
        return not self.problems and not any(done.problems for done in self.rounds)


def run(folder: Path, seed: int, order: Sequence[Scenario], report: bool = True, own_disks: bool = True) -> Run:
    """Rounds in this order on one pipeline, then the whole."""
    random = Random(seed)
    providers = [
        Provider(name, ("--seed", str(seed), "--rate", str(rate), "--symbols", str(SYMBOLS[name])), keeps_numbers=name == KEEPING)
        for name, rate in RATES.items()
    ]
    rounds: list[Round] = []
    with Pipeline(folder / "pipeline", *providers, own_disks=own_disks) as pipeline:
        pipeline.start("gateway", "persistence")
        for number, scenario in enumerate(order, 1):
            done = Round(number, scenario)
            _run_round(done, folder, pipeline, random)
            rounds.append(done)
            if report:
                print(done.line(), flush=True)
            if sum(bool(done.problems) for done in rounds) >= FAILURES_MAX:
                return Run(rounds, Reckoning(), [f"given up after {FAILURES_MAX} failed rounds"])
        try:
            total, errors = pipeline.finish()
        except FAILURES as error:
            return Run(rounds, Reckoning(), [f"the end: {type(error).__name__}: {error}"])
    return Run(rounds, total, errors + _losses(total))


def _run_round(done: Round, folder: Path, pipeline: Pipeline, random: Random) -> None:
    began = time.monotonic()
    pipeline.in_flight = 0
    try:
        pipeline.wait_recovered()
        if done.scenario.strike is None:
            done.reckoning, done.problems, done.in_flight = run_midnight(folder / f"midnight-{done.number}", random)
        else:
            done.scenario.strike(pipeline, random)
            done.reckoning = pipeline.reckon_round(pipeline.wait_recovered())
            done.in_flight = pipeline.in_flight
    except FAILURES as error:
        done.problems.append(f"{type(error).__name__}: {error}")
        pipeline.repair()
    told = done.reckoning
    done.problems += _losses(told)
    if done.scenario.strict and told.in_gaps:
        done.problems.append(f"{told.in_gaps} ticks in gaps, though neither the LPs nor the gateway were hurt")
    elif told.gaps_by_session[KEEPING]:
        done.problems.append(f"{told.gaps_by_session[KEEPING]} ticks of {KEEPING} in gaps, though it resends everything")
    done.seconds = time.monotonic() - began


def _losses(told: Reckoning) -> list[str]:
    if told.sound:
        return []
    return [f"{told.lost} lost, {told.duplicates} stored twice", *told.examples]
