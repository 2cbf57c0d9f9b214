"""Sequence numbers, and what can be resent under them."""

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice

HISTORY_MESSAGES_MAX = 100_000  # what can be resent; older ones are gap-filled
HISTORY_BYTES_MAX = 192 * 1024 * 1024  # … and of long ones fewer


@dataclass(slots=True)
class Numbers:
    """What outlives a connection, by client. `sent` ends with message next_out − 1; an empty one is not resent."""

    next_in: int = 1
    next_out: int = 1
    sent: deque[bytes] = field(default_factory=deque)
    sent_bytes: int = 0
    unheard_until_s: float = 0.0  # Logons get no answer …
    refused_until_s: float = 0.0  # … or a Logout

    def reset(self) -> None:
        self.next_in = self.next_out = 1
        self.forget()

    def forget(self) -> None:
        """Nothing can be resent any more."""
        self.sent.clear()
        self.sent_bytes = 0

    def add(self, frames: list[bytes]) -> None:
        """These have been numbered, from next_out on."""
        sent = self.sent
        sent.extend(frames)
        self.next_out += len(frames)
        self.sent_bytes += sum(map(len, frames))
        while len(sent) > HISTORY_MESSAGES_MAX or self.sent_bytes > HISTORY_BYTES_MAX:
            self.sent_bytes -= len(sent.popleft())

    def kept(self, first: int, end: int) -> Iterator[tuple[int, bytes]]:
        """What can be resent of first … end − 1, with its number."""
        oldest = self.next_out - len(self.sent)
        begin = max(first, oldest)
        numbered: Iterable[tuple[int, bytes]] = enumerate(islice(self.sent, begin - oldest, max(begin, end) - oldest), begin)
        return ((seq, frame) for seq, frame in numbered if frame)
