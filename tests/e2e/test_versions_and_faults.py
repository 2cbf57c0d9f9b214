"""Three LPs of three FIX versions at once, and everything that goes wrong with an LP: what their ledgers say is stored, once.

The sessions run in this process, so that they reconnect without the pauses that a real LP deserves; all else is real.
"""

import asyncio
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from libs.common.bus import RedisBus
from libs.common.store.layout import journal_dir
from libs.common.testing.reckoning import numbering_errors, reckon
from services.gateway.fix.connection import Patience
from services.simulator.fault import KINDS
from tests.chaos.pipeline import Pipeline, Provider
from tests.integration.test_connection import Gateway

QUICK = Patience(logon_s=1, logout_s=1, farewell_s=1, close_s=1, reconnect_first_s=0.02, reconnect_cap_s=0.2)
VERSIONS = {
    "LP42": ("FIX.4.2", {"begin_string": "FIX.4.2"}),
    "LP44": ("FIX.4.4", {}),
    "LP50": ("FIX.5.0SP2", {"begin_string": "FIXT.1.1", "default_appl_ver_id": "9"}),
}
OUTAGE_S = 0.5
FLOWING_TICKS = 20
PATIENCE_S = 30.0


def providers() -> list[Provider]:
    market = ("--symbols", "16", "--rate", "300")
    return [Provider(name, (*market, "--fix", fix), keeps_numbers=True) for name, (fix, _) in VERSIONS.items()]


async def until(reached: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not reached():
        assert time.monotonic() < deadline, f"{what} did not come"
        await asyncio.sleep(0.01)


async def flows(pipeline: Pipeline, gateway: Gateway, after: str) -> None:
    """Return when the session stands, waits for nothing, and has got what its LP sent from now on."""
    ledger, session = pipeline.ledgers[gateway.feed.name], gateway.session
    ledger.read()
    sent, got = ledger.lines, session.counts.messages

    def goes_on() -> bool:
        ledger.read()
        stands = session.state.status == "established" and not session.state.held
        return stands and ledger.lines > sent + FLOWING_TICKS and session.counts.messages > got + FLOWING_TICKS

    await until(goes_on, f"{gateway.feed.name} to go on after {after}: {session.alarms}")


@pytest.mark.timeout(400)
def test_whatever_goes_wrong_with_three_versions_at_once_nothing_is_lost_and_nothing_is_twice(tmp_path: Path) -> None:
    with Pipeline(tmp_path, *providers()) as pipeline:
        pipeline.start("persistence")
        pipeline.stack.wait_ready("persistence")
        asyncio.run(strike_all(pipeline))
        pipeline.wait_durable()
        pipeline.terminate("persistence")
        result = reckon([ledger.path for ledger in pipeline.ledgers.values()], pipeline.stack.data_dir)
        errors = numbering_errors(pipeline.stack.data_dir)
    print(result.line(), f"in_gaps={result.in_gaps}", dict(result.gaps_by_session))
    assert (result.lost, result.duplicates, errors) == (0, 0, []), result.examples
    assert result.received > len(VERSIONS) * len(KINDS) * FLOWING_TICKS
    assert result.gap_share < 0.05, "the LPs keep their numbers and resend, but where they say that they will not"


async def strike_all(pipeline: Pipeline) -> None:
    """Every LP has every fault, and no two the same at once."""
    bus = RedisBus(pipeline.stack.redis_url)
    gateways = []
    async with AsyncExitStack() as running:
        for name, (_, version) in VERSIONS.items():
            feed = {"name": name, "target_comp_id": name, "symbols": "all", "reset_on_logon": False, "heartbeat_s": 2, **version}
            folder = journal_dir(pipeline.stack.data_dir)
            gateway = Gateway(folder, pipeline.ports[name], bus=bus, patience=QUICK, **feed)
            gateways.append(await running.enter_async_context(gateway))
        for gateway in gateways:
            await flows(pipeline, gateway, "the logon")
        for number in range(len(KINDS)):
            struck = [KINDS[(number + at * len(KINDS) // 3) % len(KINDS)] for at in range(3)]
            for gateway, kind in zip(gateways, struck, strict=True):
                await asyncio.to_thread(pipeline.fault, gateway.feed.name, kind, seconds=OUTAGE_S)
            for gateway, kind in zip(gateways, struck, strict=True):
                await flows(pipeline, gateway, kind)
        for name in VERSIONS:
            await asyncio.to_thread(pipeline.terminate, name)
        await until(lambda: all(gateway.publisher.level for gateway in gateways), "all to be published")
    await bus.close()
