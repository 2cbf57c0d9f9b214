"""Files to import, written and read back."""

import os
from pathlib import Path

import pytest

from libs.common.domain.price import format_price
from libs.common.imports import ImportFile, Options, Source, find_sources

DATA = Path(os.environ.get("TICKVAULT_TEST_DATA") or Path(__file__).resolve().parents[5] / "shared" / "data")
needs_data = pytest.mark.skipif(
    not DATA.exists(), reason=f"the real market data is not here ({DATA}); set TICKVAULT_TEST_DATA to its folder"
)


def write(folder, name, content):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def opened(path, **options):
    """The one source of a path."""
    (source,) = find_sources([path]).sources
    return ImportFile(source, Options(**options))


def rows_of(file):
    return [row for batch in file.batches() for row in batch.rows]


def read(path, **options):
    """(rows, rejected lines) of the one source of a path."""
    batches = list(opened(path, **options).batches())
    return [row for batch in batches for row in batch.rows], [line for batch in batches for line in batch.rejected]


def plain(rows):
    """(ts in ns, bid, ask) with prices as text."""
    return [(ts, bid and format_price(bid), ask and format_price(ask)) for _, ts, bid, ask, *_ in rows]


def stream(file, **options):
    return ImportFile(Source(Path("-"), stream=file), Options(**options))
