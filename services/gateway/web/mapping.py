"""JSON to quotes, by the paths a feed names. A quote is texts: no number of it ever passes through a float."""

from collections.abc import Sequence
from decimal import Decimal
from functools import lru_cache
from typing import Any, NamedTuple

import msgspec

from libs.common.domain.errors import Rejected
from libs.common.domain.moment import NS_PER_MS, NS_PER_S, NS_PER_US, format_moment, parse_moment
from services.gateway.feeds import QuoteFields, TimeUnit

EXPONENT_MAX = 30  # a number written out has at most so many more digits
TEXT_MAX = 60  # of a value, in a reason
_NS_PER: dict[TimeUnit, int] = {"s": NS_PER_S, "ms": NS_PER_MS, "us": NS_PER_US, "ns": 1}
_TS_MAX = 2**63 - 1

Path = tuple[str, ...]


class Number(str):
    """A JSON number with a fraction or an exponent, in its own digits."""

    __slots__ = ()


class Quote(NamedTuple):
    """As the message has it; None is absent or null."""

    symbol: bytes | None
    bid: bytes | None
    ask: bytes | None
    bid_size: bytes | None
    ask_size: bytes | None
    time: bytes | None


class Paths:
    """Where in a message the quotes are, and where in each its parts."""

    def __init__(self, items: str, fields: QuoteFields) -> None:
        self.items = path_of(items)
        names = ("symbol", "bid", "ask", "bid_size", "ask_size", "time")
        self._parts = [(name, None if (path := getattr(fields, name)) is None else path_of(path)) for name in names]

    def quote(self, item: Any) -> Quote | None:
        """None: the item has neither symbol nor price, so it is no quote. Rejected: a part is no text and no number."""
        values = [None if path is None else find(item, path) for _, path in self._parts]
        if values[0] is None and values[1] is None and values[2] is None:
            return None
        return Quote(*[_text(name, value) for (name, _), value in zip(self._parts, values, strict=True)])


def path_of(dotted: str) -> Path:
    return tuple(dotted.split(".")) if dotted else ()


def find(value: Any, path: Path) -> Any:
    """What a path leads to; None where it leads nowhere. A number steps into a list."""
    for step in path:
        if type(value) is dict:
            value = value.get(step)
        elif type(value) is list and step.isdecimal() and int(step) < len(value):
            value = value[int(step)]
        else:
            return None
    return value


def decode(data: bytes) -> Any:
    """JSON with exact numbers: int, or Number. Rejected where it is not JSON."""
    try:
        return _DECODER.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Rejected(f"not JSON: {error}") from error


def raw_items(data: bytes, path: Path) -> list[bytes]:
    """The bytes of each item of the list that `path` leads to, in a message that was decoded before."""
    for step in path:
        data = bytes(_RAW_LIST.decode(data)[int(step)] if data.lstrip()[:1] == b"[" else _RAW_OBJECT.decode(data)[step])
    return [bytes(item) for item in _RAW_LIST.decode(data)]


def moment(text: bytes, unit: TimeUnit) -> int:
    """A time as the feed writes it, in ns; what is finer than a ns is cut. Rejected where it is none."""
    if unit == "rfc3339":
        ts = parse_moment(text.decode("utf-8", "replace"))
    else:
        whole, _, fraction = text.partition(b".")
        if not (whole + fraction).isdigit() or not whole or len(text) > 40:
            raise Rejected(f"time {text[:TEXT_MAX]!r} is not a number of {unit}")
        one = _NS_PER[unit]
        digits = len(str(one)) - 1
        ts = int(whole) * one + int(fraction[:digits].ljust(digits, b"0") or b"0")
    if not 0 <= ts <= _TS_MAX:
        raise Rejected(f"time {text[:TEXT_MAX]!r} in {unit} is not between 1970 and 2262")
    return ts


def fix_time(ts: int) -> bytes:
    """Ns to `YYYYMMDD-HH:MM:SS.nnnnnnnnn`."""
    second, ns = divmod(ts, NS_PER_S)
    return b"%s.%09d" % (_fix_second(second), ns)


@lru_cache(maxsize=1024)
def _fix_second(second: int) -> bytes:
    return format_moment(second * NS_PER_S)[:19].replace("-", "").replace("T", "-").encode()


def _text(name: str, value: Any) -> bytes | None:
    if value is None:
        return None
    if isinstance(value, str) or type(value) is int:
        return str(value).encode()
    raise Rejected(f"{name} is neither a number nor a text")


def _number(text: str) -> Number:
    """An exponent is written out, exactly; one that is too large stays, and is no price."""
    _, _, exponent = text.lower().partition("e")
    if exponent and len(exponent) <= 4 and abs(int(exponent)) <= EXPONENT_MAX:
        return Number(format(Decimal(text), "f"))
    return Number(text)


_DECODER: msgspec.json.Decoder[Any] = msgspec.json.Decoder(float_hook=_number)
_RAW_OBJECT = msgspec.json.Decoder(dict[str, msgspec.Raw])
_RAW_LIST = msgspec.json.Decoder(Sequence[msgspec.Raw])
