"""The store: one SQLite file a UTC day, its schema, its writer and its readers, and where every file lies."""

from libs.common.store.day import Batch, DayFile, Written
from libs.common.store.layout import Layout
from libs.common.store.reader import StoreReader

__all__ = ["Batch", "DayFile", "Layout", "StoreReader", "Written"]
