"""Waiting longer after each failure, with jitter so that many do not come back at once."""

import asyncio
import contextlib
import random


class Backoff:
    """Delays of first_s, 2·first_s, 4·first_s … capped at cap_s, each drawn from its upper half."""

    def __init__(self, first_s: float = 0.1, cap_s: float = 30.0) -> None:
        self.first_s = first_s
        self.cap_s = cap_s
        self.failures = 0

    def reset(self) -> None:
        self.failures = 0

    def next_s(self) -> float:
        """The delay after one more failure."""
        delay_s = min(self.cap_s, self.first_s * 2.0 ** min(self.failures, 32))
        self.failures += 1
        return delay_s * random.uniform(0.5, 1.0)  # noqa: S311 - jitter, not a secret

    async def wait(self, stopping: asyncio.Event) -> None:
        """Sleep for the next delay, or until stopping."""
        await pause(stopping, self.next_s())


async def pause(stopping: asyncio.Event, delay_s: float) -> None:
    """Sleep, but wake at once when the service stops."""
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(stopping.wait(), delay_s)
