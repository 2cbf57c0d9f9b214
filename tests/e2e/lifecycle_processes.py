"""`tickvault` in processes of their own, forked from one that has imported everything; killed on request, or watched."""

import multiprocessing
import os
import sys
from collections.abc import Iterable
from pathlib import Path

from libs.common.telemetry import chaos
from services.lifecycle import cli
from tests.unit.lifecycle.days import ticks_of

View = tuple[str, list[tuple]]  # the name of a point, what readers see there
Views = multiprocessing.Queue  # of a list[View]

forkserver = multiprocessing.get_context("forkserver")
forkserver.set_forkserver_preload([__name__, "pytest", "pandas", "pyarrow.dataset"])


Run = tuple[dict[str, str], list[list[str]], str, int]  # environment, commands in a row, killed at this pass of a point


def run(runs: Iterable[Run]) -> list[int | None]:
    """All at once; their exit codes."""
    processes = [forkserver.Process(target=_obey, args=one) for one in runs]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    return [process.exitcode for process in processes]


def run_watching(environment: dict[str, str], commands: list[list[str]]) -> list[View]:
    """What readers see whenever the commands pass a point."""
    views: Views = forkserver.Queue()
    process = forkserver.Process(target=_watch, args=(environment, commands, views))
    process.start()
    found = views.get(timeout=120)
    process.join()
    assert process.exitcode == 0
    return found


def _obey(environment: dict[str, str], commands: list[list[str]], point: str, passes: int) -> None:
    os.environ.update(environment)
    chaos._NAME, chaos._passes_left = point, passes
    sys.exit(max(cli.main(one) for one in commands))


def _watch(environment: dict[str, str], commands: list[list[str]], views: Views) -> None:
    os.environ.update(environment)
    found: list[View] = []
    point = chaos.point
    for module in list(sys.modules.values()):
        if getattr(module, "point", None) is point:
            module.point = lambda name: found.append((name, ticks_of(Path(environment["TICKVAULT_DATA_DIR"]))))
    code = max(cli.main(one) for one in commands)
    views.put(found)
    sys.exit(code)
