"""What lifecycle says on lifecycle.events, and what it is asked for on admin.commands: JSON in `d`.

Fields are only ever added, with a default. Times are int64 ns since the epoch, UTC.
"""

from typing import Literal

import msgspec

from libs.common.domain.errors import Rejected
from libs.common.domain.moment import day_name, parse_day
from libs.common.store.tiers import Done, SeriesChange, Step
from services.lifecycle.schedule import STEPS, Failed, Order

What = Literal["sealed", "amended", "compressed", "archived", "retained", "backed_up", "failed", "done"]
PAST: dict[Step, What] = {
    "seal": "sealed",
    "amend": "amended",
    "compress": "compressed",
    "archive": "archived",
    "retain": "retained",
}


class Event(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One day, or the end of a command (`event` is done). `changed`: the series whose rows are others now, in ticks.

    `written` and `deleted` are names of files and objects. `command`: the id of the command that asked for it.
    """

    at: int
    event: What
    step: str
    day: str = ""
    partition: int | None = None
    generation: int = 0
    ticks: int = 0
    bytes_before: int = 0
    bytes_after: int = 0
    changed: tuple[SeriesChange, ...] = ()
    written: tuple[str, ...] = ()
    deleted: tuple[str, ...] = ()
    error: str = ""
    damaged: bool = False
    dry_run: bool = False
    command: str = ""
    days: int = 0
    failures: int = 0


class Command(msgspec.Struct, frozen=True, kw_only=True):
    """What may be asked for: `day` for one day, `as_of` for what is due on that date; both YYYY-MM-DD."""

    command: str
    id: str = ""
    day: str | None = None
    as_of: str | None = None
    dry_run: bool = False


def read_command(content: bytes) -> Command | None:
    """None: it is for another service. Rejected: it cannot be read."""
    try:
        found = msgspec.json.decode(content, type=_Named)
        return msgspec.json.decode(content, type=Command) if found.command in STEPS else None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Rejected(f"{content[:200]!r} is not a command: {error}") from error


class _Named(msgspec.Struct):
    command: str


def order_of(command: Command, today: int) -> Order:
    """Rejected: a date that is none."""
    steps: dict[str, Step] = {step: step for step in STEPS}
    day = parse_day(command.day) if command.day is not None else None
    as_of = parse_day(command.as_of) if command.as_of is not None else today
    return Order((steps[command.command],), as_of, day, dry_run=command.dry_run, asked=True)


def event_of(outcome: Done | Failed, at: int, *, dry_run: bool = False, command: str = "") -> Event:
    if isinstance(outcome, Failed):
        day = outcome.day
        return Event(
            at=at,
            event="failed",
            step=outcome.step,
            day=day_name(day.day) if day is not None else "",
            partition=day.partition if day is not None else None,
            error=outcome.error,
            damaged=outcome.damaged,
            dry_run=dry_run,
            command=command,
        )
    return Event(
        at=at,
        event=PAST[outcome.step],
        step=outcome.step,
        day=day_name(outcome.day.day),
        partition=outcome.day.partition,
        generation=outcome.generation,
        ticks=outcome.ticks,
        bytes_before=outcome.bytes_before,
        bytes_after=outcome.bytes_after,
        changed=outcome.changed,
        written=outcome.written,
        deleted=outcome.deleted,
        dry_run=dry_run,
        command=command,
    )
