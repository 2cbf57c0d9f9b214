"""The store: one SQLite file a UTC day, its schema and its writer, where every file lies; `history` reads all of it."""

from libs.common.store.day import Batch, DayFile, Written
from libs.common.store.layout import Layout

__all__ = ["Batch", "DayFile", "Layout", "Written"]
