"""One real Redis for the whole run; every test that uses it gets it empty."""

import os
from collections.abc import Iterator

import pytest

from libs.common.testing.redis_server import RedisServer, start_redis

KEPT = {"TICKVAULT_TEST_DATA", "TICKVAULT_JSPUREFIX", "TICKVAULT_QUICKFIX_DEFINITIONS"}  # where tests find what is not ours
for name in [name for name in os.environ if name.startswith("TICKVAULT_") and name not in KEPT]:
    del os.environ[name]  # tests never touch what runs on this machine


@pytest.fixture(scope="session")
def _redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    server = start_redis(tmp_path_factory.mktemp("redis"))
    yield server
    server.stop()


@pytest.fixture
def redis_url(_redis_server: RedisServer) -> str:
    """A real Redis, 6.2 or newer, without a key in it."""
    import redis

    with redis.Redis.from_url(_redis_server.url) as client:
        client.flushall()
        client.config_set("maxmemory-policy", "noeviction")
    return _redis_server.url
