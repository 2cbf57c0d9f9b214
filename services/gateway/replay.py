"""A journal folded again: recovery at a start."""

from services.gateway.fold import Fold
from services.gateway.journal import Journal


def recover(journal: Journal, fold: Fold) -> None:
    """Replay the last segment, so that the fold stands where it stood; what comes out is left to the publisher."""
    journal.recover()
    if not journal.end:
        return
    for record in journal.read(journal.end):
        if record is None:
            break
        fold.apply(record)
        fold.take()
