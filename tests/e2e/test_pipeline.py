"""FIX session in, history out: simulator → gateway → Redis → persistence → day file → distribution, kill -9 in the middle."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from libs.common.testing.reckoning import Reckoning, read_ledger
from libs.common.testing.stack import STOP_TIMEOUT_S
from tests.chaos.pipeline import Pipeline, Provider, wait_until

TICKS = 9_000
KILLED_AFTER = 3_000
MARKET = ("--symbols", "16", "--rate", "6000", "--count", str(TICKS), "--exit-when-done")


def sent(pipeline: Pipeline) -> int:
    ledger = pipeline.ledgers["LP1"]
    ledger.read()
    return ledger.lines


def provider_ended(pipeline: Pipeline) -> None:
    provider = pipeline.stack.processes["LP1"].popen
    assert provider is not None
    assert provider.wait(STOP_TIMEOUT_S) == 0


def run(folder: Path, hurt: Callable[[Pipeline], None], *, keeps_numbers: bool = True) -> Reckoning:
    """A whole market, hurt in the middle; what came of it."""
    with Pipeline(folder, Provider("LP1", MARKET, keeps_numbers=keeps_numbers)) as pipeline:
        pipeline.start("gateway", "persistence")
        wait_until(lambda: sent(pipeline) >= KILLED_AFTER, lambda: f"{sent(pipeline)} sent")
        hurt(pipeline)
        provider_ended(pipeline)
        result, errors = pipeline.finish()
    assert not errors
    assert result.received >= TICKS
    assert result.lost == 0, result.examples
    assert result.duplicates == 0, result.examples
    return result


def nothing(_pipeline: Pipeline) -> None:
    pass


def kill_gateway(pipeline: Pipeline) -> None:
    pipeline.kill("gateway")
    pipeline.start("gateway")


def kill_persistence(pipeline: Pipeline) -> None:
    pipeline.kill("persistence")
    pipeline.start("persistence")


def kill_redis(pipeline: Pipeline) -> None:
    assert pipeline.stack.redis is not None
    pipeline.stack.redis.kill()
    pipeline.stack.redis.start()


def empty_redis(pipeline: Pipeline) -> None:
    assert pipeline.stack.redis is not None
    pipeline.stack.redis.kill()
    pipeline.empty_redis()
    pipeline.stack.redis.start()


@pytest.mark.parametrize("hurt", [nothing, kill_gateway, kill_persistence, kill_redis, empty_redis])
def test_every_tick_of_an_lp_that_resends_is_stored_once_whatever_is_killed(
    tmp_path: Path, hurt: Callable[[Pipeline], None]
) -> None:
    result = run(tmp_path, hurt)
    assert result.stored == result.received
    assert result.in_gaps == 0


def test_what_an_lp_that_does_not_resend_sent_to_a_dead_gateway_lies_in_a_recorded_gap(tmp_path: Path) -> None:
    result = run(tmp_path, kill_gateway, keeps_numbers=False)
    assert result.stored + result.in_gaps == result.received
    assert result.gap_share < 0.05


def test_an_lp_that_dies_and_forgets_its_numbers_costs_what_was_under_way_and_no_more(tmp_path: Path) -> None:
    def kill_lp(pipeline: Pipeline) -> None:
        process = pipeline.stack.processes["LP1"]
        process.kill()
        process.start()

    result = run(tmp_path, kill_lp, keeps_numbers=False)
    assert result.stored + result.in_gaps == result.received
    assert result.gap_share < 0.05


def test_distribution_serves_what_the_ledger_says_also_after_its_own_kill_9(tmp_path: Path) -> None:
    with Pipeline(tmp_path, Provider("LP1", MARKET, keeps_numbers=True)) as pipeline:
        pipeline.start("gateway", "persistence", "distribution")
        pipeline.stack.wait_ready("distribution")
        wait_until(lambda: sent(pipeline) >= KILLED_AFTER, lambda: f"{sent(pipeline)} sent")
        pipeline.kill("distribution")
        pipeline.start("distribution")
        provider_ended(pipeline)
        pipeline.wait_durable()
        pipeline.stack.wait_ready("distribution")
        lines = list(read_ledger(pipeline.ledgers["LP1"].path))
        symbol = Counter(line.symbol for line in lines).most_common(1)[0][0]
        expected = [
            (int(line.ts_ns), float(line.bid), float(line.ask), float(line.bid_size), float(line.ask_size))
            for line in lines
            if line.symbol == symbol
        ]
        assert history(pipeline, symbol, expected[0][0], expected[-1][0] + 1) == expected


def history(pipeline: Pipeline, symbol: str, start: int, end: int) -> list[tuple[int, float, float, float, float]]:
    """All pages of a symbol: ts, bid, ask, bid_size, ask_size."""
    url = f"/api/history/ticks/{symbol}?start={start}&end={end}&limit=1000&ts_format=ns"
    rows: list[tuple[int, float, float, float, float]] = []
    cursor = ""
    while True:
        page = pipeline.stack.processes["distribution"].get(f"{url}{cursor}")
        rows += [(int(row["ts"]), row["bid"], row["ask"], row["bid_size"], row["ask_size"]) for row in page["data"]]
        if page["next_cursor"] is None:
            return rows
        cursor = f"&cursor={page['next_cursor']}"
