"""A data folder and a folder that is cold storage."""

from pathlib import Path

import pytest

from libs.common.store.tiers import ColdStorage


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    folder.mkdir()
    return folder


@pytest.fixture
def cold(tmp_path: Path) -> ColdStorage:
    return ColdStorage((tmp_path / "cold storage").as_uri())
