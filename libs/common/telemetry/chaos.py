"""Named points at which a test may end the process as kill -9 would: CHAOS_POINT=name, or name:N for the Nth pass."""

import os

from libs.common.platform import kill_self

_NAME, _, _COUNT = os.environ.get("CHAOS_POINT", "").partition(":")
_passes_left = int(_COUNT or 1)

POINTS = {
    "gateway": ("journaled_not_folded", "folded_not_published", "published_not_noted", "segment_begun"),
    "persistence": ("read_not_written", "inserted_not_committed", "between_days", "committed_not_acknowledged", "acknowledged"),
}


def point(name: str) -> None:
    """Does nothing, or ends the process here."""
    global _passes_left  # noqa: PLW0603 - one process, one point
    if name == _NAME:
        _passes_left -= 1
        if _passes_left == 0:
            kill_self()
