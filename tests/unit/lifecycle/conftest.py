"""A data folder, a folder that is cold storage, an S3 endpoint, and `tickvault` on them."""

import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from moto.server import ThreadedMotoServer

from libs.common.store.tiers import ColdStorage
from services.lifecycle import cli

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    folder.mkdir()
    return folder


@pytest.fixture
def cold(tmp_path: Path) -> ColdStorage:
    return ColdStorage((tmp_path / "cold storage").as_uri())


@pytest.fixture
def run(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Exit code, standard output, standard error."""
    monkeypatch.setattr(cli, "configure_logs", lambda _: None)
    monkeypatch.setenv("TICKVAULT_DATA_DIR", str(data))
    monkeypatch.setenv("TICKVAULT_COLD_URL", (tmp_path / "cold storage").as_uri())
    monkeypatch.setenv("TICKVAULT_LIFECYCLE_DISK_RESERVE_BYTES", "0")

    def typed(*arguments: str) -> tuple[int, str, str]:
        code = cli.main(arguments)
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return typed


@pytest.fixture(scope="session")
def endpoint() -> Iterator[str]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def bucket(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """Empty; the environment says how to get there."""
    for name, value in {
        "ACCESS_KEY_ID": "key",
        "SECRET_ACCESS_KEY": "secret",
        "REGION": "us-east-1",
        "ENDPOINT_URL": endpoint,
    }.items():
        monkeypatch.setenv(f"AWS_{name}", value)
    urllib.request.urlopen(urllib.request.Request(f"{endpoint}/moto-api/reset", method="POST")).close()
    urllib.request.urlopen(urllib.request.Request(f"{endpoint}/bucket", method="PUT")).close()
    return "s3://bucket"
