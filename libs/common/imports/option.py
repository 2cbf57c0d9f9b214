"""What the person who imports may say, and the error that asks for it where a file leaves a question open."""

from dataclasses import dataclass
from typing import Literal

from libs.common.domain.errors import Rejected

Format = Literal["auto", "lean", "csv", "json", "bi5"]
Fold = Literal["earlier", "later"]
DateOrder = Literal["day-first", "month-first"]
SizeUnit = Literal["units", "thousands", "millions"]
Role = Literal["time", "date", "clock", "bid", "ask", "bid_size", "ask_size", "symbol", "-"]

ROLES: tuple[Role, ...] = ("time", "date", "clock", "bid", "ask", "bid_size", "ask_size", "symbol", "-")


class Ambiguous(Rejected):
    """The file can be read in more than one way; `option` settles it. Nothing is guessed."""

    def __init__(self, text: str, option: str) -> None:
        super().__init__(f"{text}: say which with {option}")
        self.option = option


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """Each is asked for by an Ambiguous error where a file needs it; none is needed where the file says it itself.

    symbol     for files that name none; where a file names one, it is imported under this name instead
    timezone   of times that name none: UTC, UTC-5, Europe/Athens, or America/New_York+7 for a server that closes with New York
    fold       which of the two: the hour that comes twice when the clocks go back
    dates      04.02.2019 is the 4th of February (day-first) or the 2nd of April (month-first)
    columns    the role of every column from the left, `-` for what is not read
    size_unit  of the volumes, where the file's own layout does not say it, or says it wrongly
    decimals   digits behind the point of a .bi5 file's prices, which are whole points
    now_ns     ticks more than an hour later than this are rejected; None: no such check
    """

    format: Format = "auto"
    symbol: str | None = None
    timezone: str | None = None
    fold: Fold | None = None
    dates: DateOrder | None = None
    columns: tuple[Role, ...] | None = None
    size_unit: SizeUnit | None = None
    decimals: int | None = None
    now_ns: int | None = None


def parse_columns(text: str) -> tuple[Role, ...]:
    """`time,bid,ask,-` to roles; Rejected for a name that is none, or one named twice."""
    roles: list[Role] = []
    for name in text.split(","):
        role = next((role for role in ROLES if role == name.strip()), None)
        if role is None or (role != "-" and role in roles):
            raise Rejected(f"--columns: {name.strip()!r} is unknown or named twice; there are {', '.join(ROLES)}")
        roles.append(role)
    return tuple(roles)
