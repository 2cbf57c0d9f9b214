"""Text to prices, sizes and symbols. Each distinct text is read once and remembered; `table[text]` is the whole interface.

Prices go from text to int64 in 1e-9 exactly. What doubles leave behind in vendors' files (`203.14900000000003`) is taken off:
decimals past the ninth that are less than 1e-15 of the price. Any other tenth decimal rejects the line.
"""

import re
from typing import Any

from libs.common.domain.errors import Rejected
from libs.common.domain.price import PRICE_DIGITS, PRICE_MAX, parse_price
from libs.common.domain.symbol import normalise_symbol
from libs.common.imports.option import SizeUnit

MEMO_MAX = 100_000
SYMBOLS_MAX = 20_000
NUMBER_CHARS_MAX = 64
_NOISE = 10**15  # doubles hold 15 to 17 digits
_NUMBER = re.compile(r"([+-]?)(\d*)(?:\.(\d*))?(?:[eE]([+-]?\d{1,2}))?", re.ASCII)
_SIZE = re.compile(r"\+?(\d+\.?\d*|\.\d+)(?:[eE]([+-]?\d{1,2}))?", re.ASCII)
_EXPONENT: dict[SizeUnit, int] = {"units": 0, "thousands": 3, "millions": 6}


class _Memo(dict[Any, Any]):
    """A blank, and JSON's null, is an absent value."""

    def __init__(self, *, decimal_comma: bool = False) -> None:
        super().__init__({"": None, None: None})
        self._comma = decimal_comma

    def __missing__(self, text: object) -> Any:
        if not isinstance(text, str):
            raise Rejected("a value is neither text nor a number")
        if len(text) > NUMBER_CHARS_MAX:
            raise Rejected("a value is too long to be a number")
        plain = text.strip()
        value = self._read(plain.replace(",", ".") if self._comma and "." not in plain else plain) if plain else None
        if len(self) >= MEMO_MAX:
            self.clear()
            self.update({"": None, None: None})
        self[text] = value
        return value

    def _read(self, text: str) -> Any:
        raise NotImplementedError


class Prices(_Memo):
    """To int64 in 1e-9, above 0 and below 1e9; None where blank."""

    def _read(self, text: str) -> int:
        price = exact_price(text)
        if not 0 < price < PRICE_MAX:
            raise Rejected("a price is not above 0" if price <= 0 else "a price is not below 1e9")
        return price


class Sizes(_Memo):
    """To units as float64; None where blank."""

    def __init__(self, unit: SizeUnit, *, decimal_comma: bool = False) -> None:
        super().__init__(decimal_comma=decimal_comma)
        self._exponent = _EXPONENT[unit]

    def _read(self, text: str) -> float:
        match = _SIZE.fullmatch(text)
        if match is None:
            raise Rejected("a size is not a number of 0 or more")
        return float(f"{match[1]}e{int(match[2] or 0) + self._exponent}")


class Symbols(_Memo):
    """To canonical spelling. `wanted`: the name that the file's one symbol is imported under."""

    def __init__(self, wanted: str | None = None, spelt: str | None = None) -> None:
        super().__init__()
        self.clear()
        self._wanted, self._spelt = wanted, spelt

    def __missing__(self, text: object) -> str:
        symbol = normalise_symbol(text.strip()) if isinstance(text, str) else None
        if symbol is None:
            raise Rejected("the symbol is missing or not one")
        if self._wanted is not None:
            if symbol != self._spelt:
                raise Rejected("another symbol than the file's first, and --symbol names one: leave it out")
            symbol = self._wanted
        if len(self) >= SYMBOLS_MAX:
            raise Rejected(f"the file names more than {SYMBOLS_MAX} symbols")
        self[text] = symbol
        return symbol


def exact_price(text: str) -> int:
    """Decimal text, with an exponent or with a double's noise if need be, to units of 1e-9; else Rejected."""
    match = _NUMBER.fullmatch(text)
    if match is None or not (match[2] or match[3]):
        raise Rejected("a price is not a decimal number")
    sign, whole, fraction, exponent = match[1], match[2], match[3] or "", int(match[4] or 0)
    if len(whole) > PRICE_DIGITS * 2:
        raise Rejected("a price is not below 1e9")
    if not exponent and len(fraction) <= PRICE_DIGITS:
        return parse_price(text.encode())
    digits, decimals = int(whole + fraction), len(fraction) - exponent
    if decimals <= PRICE_DIGITS:
        price: int = digits * 10 ** (PRICE_DIGITS - decimals)
    else:
        unit = 10 ** (decimals - PRICE_DIGITS)
        price = (2 * digits + unit) // (2 * unit)
        if abs(price * unit - digits) * _NOISE > digits:
            raise Rejected(f"a price has more than {PRICE_DIGITS} decimals")
    return -price if sign == "-" else price


def is_number(text: str) -> bool:
    match = _NUMBER.fullmatch(text)
    return match is not None and bool(match[2] or match[3])
