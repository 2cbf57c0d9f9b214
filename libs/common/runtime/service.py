"""The run loop of every service.

start(): settings ─▶ logs, metrics ─▶ build ─▶ run() ─▶ exit code
run():   HTTP up ─▶ loops run ─▶ SIGTERM: not ready ─▶ loops finish their batch ─▶ HTTP down ─▶ 0
a loop that raises ─▶ the others drain ─▶ 1: start-up is the only recovery path; 2 where it is a StartError
"""

import asyncio
import contextlib
import os
import sys
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, TypeVar

import uvicorn

from libs.common.platform import ignore_stop, on_stop
from libs.common.runtime.health import Application, Health, HealthApp
from libs.common.settings import Settings, SettingsError
from libs.common.telemetry import configure_logs, configure_metrics, logger

Loop = Callable[[asyncio.Event], Awaitable[None]]  # takes `stopping`; returns when it is set and its work is done

DRAIN_TIMEOUT_S = 30.0

S = TypeVar("S", bound=Settings)


class StartError(Exception):
    """The service cannot start as things are; the text says what to do about it."""


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield  # signals are the run loop's business


async def run(
    loops: dict[str, Loop],
    *,
    health: Health,
    host: str,
    port: int,
    app: Application | None = None,
    drain_timeout_s: float = DRAIN_TIMEOUT_S,
) -> int:
    """Run the loops until SIGTERM or SIGINT, or until one ends by itself; the process's exit code. StartError: exit code 2."""
    log = logger()
    stopping = asyncio.Event()
    on_stop(stopping.set)
    broken: list[BaseException] = []

    def on_broken_callback(_: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """An exception nobody awaits, in a socket's callback for one, is a bug like any other: end, start again."""
        broken.append(context.get("exception") or RuntimeError(context["message"]))
        stopping.set()

    asyncio.get_running_loop().set_exception_handler(on_broken_callback)
    config = uvicorn.Config(
        HealthApp(health, app),
        host=host,
        port=port,
        log_config=None,
        access_log=False,
        lifespan="off",
        server_header=False,
    )
    server = _Server(config)
    serving = asyncio.create_task(_serve(server))
    tasks = {asyncio.create_task(_named(loop, stopping), name=name): name for name, loop in loops.items()}
    stop = asyncio.create_task(stopping.wait())
    health.started = True
    log.info("started", loops=list(loops), http=f"{host}:{port}", pid=os.getpid())
    await asyncio.wait({stop, serving, *tasks}, return_when=asyncio.FIRST_COMPLETED)
    health.draining = True
    stopping.set()
    _, late = await asyncio.wait(tasks, timeout=drain_timeout_s)
    for task in late:
        log.error("loop did not drain", loop=tasks[task], timeout_s=drain_timeout_s)
        task.cancel()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    server.should_exit = True
    http_failure = (await asyncio.gather(serving, return_exceptions=True))[0]
    failures = [failure for failure in (*results, http_failure, *broken) if isinstance(failure, BaseException)]
    for failure in failures:
        if not isinstance(failure, asyncio.CancelledError):
            log.error("failed", exc_info=failure)
    ignore_stop()  # who is asked to stop while it ends by itself ends as it would have
    log.info("stopped", failures=len(failures))
    for failure in failures:
        if isinstance(failure, StartError):
            raise failure
    return 1 if failures else 0


async def _named(loop: Loop, stopping: asyncio.Event) -> None:
    await loop(stopping)


async def _serve(server: uvicorn.Server) -> None:
    try:
        await server.serve()
    except SystemExit:  # uvicorn's way to say that the port cannot be had
        raise StartError(f"HTTP port {server.config.port} on {server.config.host} cannot be opened: is it in use?") from None


def start(service: str, load_settings: Callable[[], S], main: Callable[[S], Awaitable[int]]) -> int:
    """What every `__main__` does: settings in, exit code out. 2 means the environment has to be corrected."""
    configure_logs(service)
    configure_metrics(service)
    try:
        return asyncio.run(_main(main, load_settings()))
    except (SettingsError, StartError) as error:
        print(f"tickvault {service}: {error}", file=sys.stderr)
        return 2


async def _main(main: Callable[[S], Awaitable[int]], settings: S) -> int:
    return await main(settings)
