"""Prices are int64 in units of 1e-9, exact: text becomes a price, and a price text, without passing through a float.

The unit is that of Databento's DBN and of Nautilus Trader; no per-symbol scale has to be kept.
"""

from libs.common.domain.errors import Rejected

PRICE_DIGITS = 9
PRICE_ONE = 10**PRICE_DIGITS
PRICE_MAX = 10**9 * PRICE_ONE  # exclusive: the field keeps below 1e9, which fits an int64 and DECIMAL(18,9)


def parse_price(text: bytes) -> int:
    """Plain decimal text (`1.08512`, `-0.5`, `.5`, `1.`) to units of 1e-9; zeros past the ninth digit are allowed.

    Raises Rejected for anything else: NaN, exponents, spaces, more than nine significant decimals.
    """
    whole, _, fraction = text.partition(b".")
    digits = whole[1:] if whole[:1] in (b"-", b"+") else whole
    if not (digits + fraction).isdigit():
        raise Rejected(f"price {text[:40]!r} is not a decimal number")
    if len(fraction) > PRICE_DIGITS:
        if fraction[PRICE_DIGITS:].strip(b"0"):
            raise Rejected(f"price {text[:40]!r} has more than {PRICE_DIGITS} decimals")
        fraction = fraction[:PRICE_DIGITS]
    if len(digits) > 30:
        raise Rejected(f"price {text[:40]!r} is too long")
    value: int = int(digits or b"0") * PRICE_ONE + int(fraction.ljust(PRICE_DIGITS, b"0"))
    return -value if whole[:1] == b"-" else value


def format_price(price: int) -> str:
    """Units of 1e-9 to the shortest exact decimal text: 1085120000 → `1.08512`."""
    sign = "-" if price < 0 else ""
    whole, fraction = divmod(abs(price), PRICE_ONE)
    if not fraction:
        return f"{sign}{whole}"
    return f"{sign}{whole}.{fraction:09d}".rstrip("0")
