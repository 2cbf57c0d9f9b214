"""A data folder, a folder that is cold storage, and `tickvault` on them."""

from collections.abc import Callable
from pathlib import Path

import pytest

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
