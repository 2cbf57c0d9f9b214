"""A symbol is upper-cased and otherwise as the provider spells it; it never becomes part of a path."""

import re

_SYMBOL = re.compile(r"[A-Z0-9._/#-]{1,32}")


def normalise_symbol(text: str) -> str | None:
    """The symbol in canonical spelling, or None where the text cannot be one."""
    # only ASCII is upper-cased: "ß".upper() is "SS", another symbol
    return symbol if text.isascii() and _SYMBOL.fullmatch(symbol := text.upper()) else None


def find_symbol(text: str, known: list[str]) -> str | None:
    """The known symbol that `text` means: itself, or the only one equal to it without separators (EURUSD for EUR/USD)."""
    symbol = text.upper()
    if symbol in known:
        return symbol
    plain = _plain(symbol)
    fitting = [candidate for candidate in known if _plain(candidate) == plain]
    return fitting[0] if len(fitting) == 1 else None


def _plain(symbol: str) -> str:
    return re.sub(r"[._/#-]", "", symbol)
