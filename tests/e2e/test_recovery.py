"""The data disk is lost in the middle of a market, and a backup made while ticks were written brings it back."""

import shutil
from pathlib import Path

import pytest

from libs.common.store.backup import BackupStorage, back_up, restore
from libs.common.store.layout import journal_dir
from libs.common.testing.reckoning import Reckoning
from libs.common.testing.stack import Process, Stack
from tests.chaos.pipeline import Pipeline, Provider, wait_until
from tests.e2e.test_pipeline import provider_ended, sent
from tests.unit.lifecycle.days import closed_day

TICKS = 18_000
MARKET = ("--symbols", "16", "--rate", "6000", "--count", str(TICKS), "--exit-when-done")


def run(folder: Path, *, journals_survive: bool, redis_survives: bool, keeps_numbers: bool) -> Reckoning:
    storage = BackupStorage((folder / "backups").as_uri())
    with Pipeline(folder / "pipeline", Provider("LP1", MARKET, keeps_numbers=keeps_numbers)) as pipeline:
        data, lost = pipeline.stack.data_dir, folder / "lost"
        pipeline.start("gateway", "persistence")
        wait_until(lambda: sent(pipeline) >= TICKS // 4, lambda: f"{sent(pipeline)} sent")
        backup = back_up(data, storage, "incremental").backup
        wait_until(lambda: sent(pipeline) >= TICKS // 2, lambda: f"{sent(pipeline)} sent")
        pipeline.kill("gateway", "persistence")
        at_loss = pipeline.stored()
        data.rename(lost)
        assert restore(storage, backup, data) == []
        assert 0 < pipeline.stored() < at_loss, "the copy is older than what was lost"
        if journals_survive:
            shutil.rmtree(journal_dir(data))
            shutil.copytree(journal_dir(lost), journal_dir(data))
        if not redis_survives:
            assert pipeline.stack.redis is not None
            pipeline.stack.redis.kill()
            pipeline.empty_redis()
            pipeline.stack.redis.start()
        pipeline.start("persistence", "gateway")
        provider_ended(pipeline)
        result, errors = pipeline.finish()
    assert not errors
    assert result.received >= TICKS
    assert result.duplicates == 0, result.examples
    return result


@pytest.mark.parametrize("survives", [True, False])
def test_with_an_lp_that_resends_everything_is_there_once(tmp_path: Path, survives: bool) -> None:
    """What was stored after the copy comes again from the journals, or from the LP, under the numbers that it had."""
    result = run(tmp_path, journals_survive=survives, redis_survives=survives, keeps_numbers=True)
    assert (result.lost, result.in_gaps) == (0, 0), result.examples
    assert result.stored == result.received


def test_with_journals_an_lp_that_does_not_resend_costs_the_time_without_a_gateway(tmp_path: Path) -> None:
    result = run(tmp_path, journals_survive=True, redis_survives=True, keeps_numbers=False)
    assert result.lost == 0, result.examples
    assert result.stored + result.in_gaps == result.received


def test_without_journals_what_came_after_the_copy_lies_in_a_recorded_gap(tmp_path: Path) -> None:
    result = run(tmp_path, journals_survive=False, redis_survives=True, keeps_numbers=False)
    assert result.lost == 0, result.examples
    assert result.stored + result.in_gaps == result.received
    assert result.in_gaps > 0


def test_the_service_makes_backups_by_itself_and_shows_their_age(tmp_path: Path) -> None:
    stack = Stack(tmp_path)
    closed_day(stack.data_dir)
    stack.start_redis()
    try:
        lifecycle = stack.spawn("lifecycle", "lifecycle", TICKVAULT_BACKUP_URL=(tmp_path / "backups").as_uri())
        stack.wait_ready("lifecycle")
        wait_until(lambda: len(ages(lifecycle)) == 3, lambda: lifecycle.log.read_text("utf-8"))
        assert all(age_s < 60 for age_s in ages(lifecycle))
        assert lifecycle.metrics()["lifecycle_backup_failures_total"] == 0
        assert lifecycle.get("/readyz")["ready"]
        lifecycle.kill()
        lifecycle.start()
        stack.wait_ready("lifecycle")
        wait_until(lambda: len(ages(lifecycle)) == 3, lambda: lifecycle.log.read_text("utf-8"))
        assert len(BackupStorage((tmp_path / "backups").as_uri()).backups()) == 3, "what is made is not made again"
    finally:
        assert set(stack.stop().values()) == {0}


def ages(lifecycle: Process) -> list[float]:
    return [value for name, value in lifecycle.metrics().items() if name.startswith("lifecycle_backup_age_seconds{")]
