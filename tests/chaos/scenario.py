"""What goes wrong: one function a scenario. Each strikes, lasts, and leaves everything running again, not yet recovered.

LP1  keeps its sequence numbers and resends in full: whatever happens, nothing of it may be missing
LP2  begins anew at every logon: what is under way when its connection ends is gone, and must lie in a recorded gap
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from random import Random

import redis

from libs.common.telemetry.chaos import POINTS
from libs.common.testing.redis_server import RedisServer
from services.simulator.session import Fault
from tests.chaos.disk import Disk, NoDisk
from tests.chaos.pipeline import ChaosFailed, Pipeline

LP_FAULTS: tuple[Fault, ...] = (
    "drop",
    "cut",
    "garble",
    "gap",
    "reset",
    "stall",
)  # all there are: tests/e2e/test_versions_and_faults.py
KEEPING, FORGETTING = "LP1", "LP2"
POINT_TIMEOUT_S = 20.0
PASSES_MAX = {"segment_begun": 3}  # a segment takes seconds; the other points are passed hundreds of times a second
PASSES_MAX_USUAL = 300
AOF_CUT_BYTES_MAX = 60_000


@dataclass(frozen=True, slots=True)
class Scenario:
    """`strict`: the gateway and its LPs are not hurt, so no gap can excuse a missing tick. No strike: see midnight.py."""

    name: str
    strike: Callable[[Pipeline, Random], None] | None
    strict: bool
    share: int  # of the rounds, roughly per cent
    point: str = ""


def _die_at(service: str, point: str, pipeline: Pipeline, random: Random) -> None:
    """In place of a process that is killed, one that will end in the middle of its work."""
    passes = random.randint(1, PASSES_MAX.get(point, PASSES_MAX_USUAL))
    pipeline.kill(service)
    pipeline.start(service, chaos_point=f"{point}:{passes}")
    if not pipeline.wait_for_death(service, POINT_TIMEOUT_S):
        raise ChaosFailed(f"{service} did not die at {point}:{passes}")
    pipeline.start(service)


def _kill(services: tuple[str, ...], pipeline: Pipeline, random: Random) -> None:
    pipeline.kill(*services)
    pipeline.lasting(random.uniform(0.0, 1.5))
    pipeline.start(*services)


def _terminate(service: str, pipeline: Pipeline, random: Random) -> None:
    pipeline.terminate(service)
    pipeline.lasting(random.uniform(0.0, 1.0))
    pipeline.start(service)


def _redis(pipeline: Pipeline) -> RedisServer:
    assert pipeline.stack.redis is not None
    return pipeline.stack.redis


def _redis_killed(pipeline: Pipeline, random: Random) -> None:
    _redis(pipeline).kill()
    pipeline.lasting(random.uniform(0.0, 3.0))
    _redis(pipeline).start()


def _redis_emptied(pipeline: Pipeline, random: Random) -> None:
    _redis(pipeline).kill()
    pipeline.empty_redis()
    pipeline.lasting(random.uniform(0.0, 2.0))
    _redis(pipeline).start()


def _redis_emptied_and(services: tuple[str, ...], pipeline: Pipeline, random: Random) -> None:
    """Nobody is there to remember what Redis had."""
    pipeline.kill(*services)
    pipeline.lasting(random.uniform(0.0, 1.0))
    _redis_emptied(pipeline, random)
    pipeline.start(*services)


def _redis_tail_lost(pipeline: Pipeline, random: Random) -> None:
    """What a power loss does to an append-only file: acknowledged entries are gone, the last one is cut.

    Where persistence is away, too, they are entries that nobody has read.
    """
    persistence_away = random.random() < 0.5
    if persistence_away:
        pipeline.kill("persistence")
    pipeline.lasting(random.uniform(0.2, 1.5))
    _redis(pipeline).kill()
    newest = max(pipeline.redis_folder.rglob("*.aof"), key=lambda path: path.stat().st_mtime_ns)
    size = newest.stat().st_size
    with newest.open("r+b") as file:
        file.truncate(max(0, size - random.randint(1, AOF_CUT_BYTES_MAX)))
    _redis(pipeline).start()
    if persistence_away:
        pipeline.start("persistence")


def _gateway_killed_catching_up(pipeline: Pipeline, random: Random) -> None:
    """While it publishes out of its journal what Redis missed."""
    _redis(pipeline).kill()
    pipeline.lasting(random.uniform(1.0, 3.0))
    _redis(pipeline).start()
    pipeline.lasting(random.uniform(0.0, 0.5))
    pipeline.kill("gateway")
    pipeline.start("gateway")


def _redis_refuses(name: str, value: str, usual: str, pipeline: Pipeline, random: Random) -> None:
    with redis.Redis.from_url(_redis(pipeline).url) as client:
        client.config_set(name, value)
        pipeline.lasting(random.uniform(1.0, 4.0))
        client.config_set(name, usual)


def _disk_full(choose: Callable[[Pipeline], Disk], pipeline: Pipeline, random: Random) -> None:
    if pipeline.no_disk:
        raise NoDisk(pipeline.no_disk)
    disk = choose(pipeline)
    disk.fill()
    try:
        pipeline.lasting(random.uniform(1.0, 6.0))
    finally:
        disk.free()


def _lp_fault(provider: str, kind: str, pipeline: Pipeline, random: Random) -> None:
    pipeline.fault(provider, kind, seconds=random.uniform(1.0, 8.0))
    pipeline.lasting(random.uniform(0.5, 2.0))


_BOTH = ("gateway", "persistence")

SCENARIOS = (
    *(
        Scenario(f"{service} dies at {point}", partial(_die_at, service, point), service == "persistence", 4, point)
        for service, points in POINTS.items()
        for point in points
        if point != "between_days"
    ),
    Scenario("persistence dies at between_days", None, strict=True, share=4, point="between_days"),
    Scenario("gateway killed", partial(_kill, ("gateway",)), strict=False, share=3),
    Scenario("persistence killed", partial(_kill, ("persistence",)), strict=True, share=3),
    Scenario("gateway and persistence killed", partial(_kill, _BOTH), strict=False, share=3),
    Scenario("gateway SIGTERM", partial(_terminate, "gateway"), strict=True, share=3),
    Scenario("persistence SIGTERM", partial(_terminate, "persistence"), strict=True, share=3),
    Scenario("Redis killed", _redis_killed, strict=True, share=4),
    Scenario("Redis back empty", _redis_emptied, strict=True, share=4),
    Scenario("Redis back empty, persistence killed", partial(_redis_emptied_and, ("persistence",)), strict=True, share=3),
    Scenario("Redis back empty, gateway killed", partial(_redis_emptied_and, ("gateway",)), strict=False, share=3),
    Scenario("Redis back empty, both killed", partial(_redis_emptied_and, _BOTH), strict=False, share=3),
    Scenario("Redis killed, gateway killed catching up", _gateway_killed_catching_up, strict=False, share=3),
    Scenario("Redis lost its tail", _redis_tail_lost, strict=True, share=4),
    Scenario("Redis out of memory", partial(_redis_refuses, "maxmemory", "1000000", "0"), strict=True, share=4),
    Scenario("Redis without replicas", partial(_redis_refuses, "min-replicas-to-write", "1", "0"), strict=True, share=3),
    Scenario("Redis disk full", partial(_disk_full, lambda pipeline: pipeline.redis_disk), strict=True, share=4),
    Scenario("data disk full", partial(_disk_full, lambda pipeline: pipeline.data_disk), strict=False, share=5),
    *(
        Scenario(f"{provider} fault {kind}", partial(_lp_fault, provider, kind), strict=False, share=2)
        for provider in (KEEPING, FORGETTING)
        for kind in LP_FAULTS
    ),
)
