"""One process at a time moves the days of a data folder on; others wait for their turn."""

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from libs.common.domain.errors import Retryable
from libs.common.platform import try_lock
from libs.common.store.layout import Layout
from libs.common.store.tiers.disk import disk_may_refuse

RETRY_S = 0.2


@contextlib.contextmanager
def alone(
    data_dir: Path, *, give_up: Callable[[], bool] = lambda: False, on_wait: Callable[[], None] = lambda: None
) -> Iterator[None]:
    """Waits until no other process is at work, asking `give_up` meanwhile, which makes it Retryable."""
    path = Layout(data_dir).lifecycle_lock()
    with disk_may_refuse(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o640)
    try:
        if not try_lock(descriptor):
            on_wait()
            while not try_lock(descriptor):
                if give_up():
                    raise Retryable("another process is at work in this data folder")
                time.sleep(RETRY_S)
        yield
    finally:
        os.close(descriptor)
