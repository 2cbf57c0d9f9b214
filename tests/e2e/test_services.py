"""Every service lives and dies by the same rules: start, answer, drain at SIGTERM, come back after kill -9."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from libs.common.settings import Settings
from libs.common.testing.stack import READY_TIMEOUT_S, Process, Stack
from services.distribution.settings import DistributionSettings
from services.gateway.settings import GatewaySettings
from services.persistence.settings import PersistenceSettings
from services.simulator.settings import SimulatorSettings
from tests.chaos.pipeline import wait_until

SERVICES: dict[str, type[Settings]] = {
    settings.service: settings for settings in (GatewaySettings, PersistenceSettings, DistributionSettings, SimulatorSettings)
}
ARGUMENTS = {"simulator": ("--port", "0")}


@pytest.fixture
def stack(tmp_path: Path, redis_url: str) -> Iterator[Stack]:
    found = Stack(tmp_path, redis_url=redis_url)
    yield found
    for process in found.processes.values():
        if process.running:
            process.kill()


def start(stack: Stack, service: str, **settings: str) -> Process:
    return stack.spawn(service, service, *ARGUMENTS.get(service, ()), **settings)


def refusal(process: Process) -> str:
    """What a process says that ends with 2."""
    assert process.popen is not None
    assert process.popen.wait(READY_TIMEOUT_S) == 2
    return process.log.read_text("utf-8")


@pytest.fixture
def evicting_redis(redis_url: str) -> Iterator[None]:
    with redis.Redis.from_url(redis_url) as client:
        client.config_set("maxmemory-policy", "allkeys-lru")
        yield
        client.config_set("maxmemory-policy", "noeviction")


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_answers_for_itself_and_ends_with_0_at_sigterm(stack: Stack, service: str) -> None:
    process = start(stack, service)
    stack.wait_ready(service)
    assert process.get("/livez") == {"alive": True, "silent_loops": []}
    assert process.get("/readyz") == {"ready": True, "obstacles": {}}
    assert process.metrics()
    assert process.stop() == 0


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_comes_up_again_after_kill_9(stack: Stack, service: str) -> None:
    start(stack, service)
    stack.wait_ready(service)
    stack.processes[service].kill()
    process = start(stack, service)
    stack.wait_ready(service)
    assert process.stop() == 0


@pytest.mark.parametrize("service", SERVICES)
def test_a_name_nobody_knows_ends_a_service_with_2_and_is_named(stack: Stack, service: str) -> None:
    said = refusal(start(stack, service, TICKVAULT_RETAIN_DAYZ="31"))
    assert "TICKVAULT_RETAIN_DAYZ is not a setting of TickVault" in said


@pytest.mark.parametrize("service", ["gateway", "persistence"])
@pytest.mark.usefixtures("evicting_redis")
def test_a_redis_that_may_evict_is_refused_with_2(stack: Stack, service: str) -> None:
    said = refusal(start(stack, service))
    assert "maxmemory-policy allkeys-lru" in said
    assert "noeviction" in said


@pytest.mark.usefixtures("evicting_redis")
def test_on_a_redis_that_may_evict_distribution_serves_history_and_is_not_ready(stack: Stack) -> None:
    process = start(stack, "distribution")
    wait_until(lambda: "allkeys-lru" in str(process.get("/readyz")), lambda: str(process.get("/readyz")))
    assert process.get("/api/history/symbols") == []
    assert process.stop() == 0


def test_a_port_in_use_ends_a_service_and_is_named(stack: Stack) -> None:
    first = start(stack, "persistence")
    stack.wait_ready("persistence")
    second = stack.spawn("other", "gateway", TICKVAULT_GATEWAY_HTTP_PORT=str(first.http_port))
    assert second.popen is not None
    assert second.popen.wait(READY_TIMEOUT_S) != 0
    assert f"HTTP port {first.http_port}" in second.log.read_text("utf-8")


def test_a_second_persistence_waits_for_the_lock_and_takes_over_after_kill_9_of_the_first(stack: Stack) -> None:
    first = stack.spawn("first", "persistence")
    stack.wait_ready("first")
    second = stack.spawn("second", "persistence")
    wait_until(lambda: "another process writes this partition" in str(second.get("/readyz")), lambda: str(second.get("/readyz")))
    assert second.get("/livez")["alive"]
    first.kill()
    stack.wait_ready("second")
    assert second.stop() == 0
