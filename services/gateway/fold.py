"""What all feeds have in common: a fold over the feed's journal, from records to what is published."""

from dataclasses import dataclass, field
from typing import Protocol

from libs.common.bus.entry import TickRow
from libs.common.domain.record import Book, Gap, Quarantined, Trade
from services.gateway.journal import Record


@dataclass(slots=True)
class Outcome:
    """What the records since the last `take` came to."""

    ticks: list[TickRow] = field(default_factory=list)
    trades: list[Trade] = field(default_factory=list)
    books: list[Book] = field(default_factory=list)
    gaps: list[Gap] = field(default_factory=list)
    quarantined: list[Quarantined] = field(default_factory=list)


class Fold(Protocol):
    """No socket, no clock: time is the record's. The same records give the same outcome, from the start or from a snapshot on."""

    @property
    def durable(self) -> int:
        """The journal position known to be stored when the last snapshot was taken."""

    @property
    def at_rest(self) -> bool:
        """Whether a snapshot may be taken now, between two records."""

    def apply(self, record: Record, *, live: bool = False) -> None:
        """Bring the state forward. Not live: what it wants to send was sent, or not, when the record was written."""

    def take(self) -> Outcome: ...

    def snapshot(self, durable: int) -> bytes:
        """The state, as a SNAPSHOT record has it."""
