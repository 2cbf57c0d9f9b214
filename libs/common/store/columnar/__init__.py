"""Sealed days: the Parquet files of a closed day, how they are written, checked and read."""

from libs.common.store.columnar.checks import verify
from libs.common.store.columnar.manifest import Damaged, Manifest, read_manifest
from libs.common.store.columnar.paths import SealedPaths, sealed_days
from libs.common.store.columnar.query import COLUMNS, Query
from libs.common.store.columnar.reader import SealedReader
from libs.common.store.columnar.sealing import Sealed, seal

__all__ = [
    "COLUMNS",
    "Damaged",
    "Manifest",
    "Query",
    "Sealed",
    "SealedPaths",
    "SealedReader",
    "read_manifest",
    "seal",
    "sealed_days",
    "verify",
]
