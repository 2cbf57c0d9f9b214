"""What a client calls a symbol or a provider, and what it is called here."""

import asyncio
import time
from collections.abc import Callable

from libs.common.domain.problem import Problem
from libs.common.domain.symbol import find_symbol, normalise_symbol
from libs.common.store.history import HistoryReader
from services.distribution.latest import Latest
from services.distribution.problem import bad_parameter, nearest

ALIAS_S = 10.0  # EURUSD means EUR/USD for this long before it is looked up again: a symbol EURUSD may have come


class Names:
    """Known is what a file or the stream has a tick of. What was known once is not looked up again."""

    def __init__(self, reader: HistoryReader, latest: Latest, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._reader = reader
        self._latest = latest
        self._symbols: set[str] = set()
        self._providers: set[str] = set()
        self._aliases: dict[str, str] = {}
        self._looked = 0.0
        self._monotonic = monotonic

    async def symbol(self, text: str) -> str:
        """The canonical symbol; a Problem of 400 where the text cannot be one, of 404 where it is not known."""
        symbol = spelled(text)
        if symbol in self._symbols:
            return symbol
        if symbol in self._aliases and self._monotonic() < self._looked + ALIAS_S:
            return self._aliases[symbol]
        await self._look()
        found = find_symbol(symbol, list(self._symbols))
        if found is None:
            raise unknown_symbol(symbol, self._symbols)
        self._aliases[symbol] = found
        return found

    async def provider(self, text: str | None) -> str | None:
        """None is all of them."""
        if text is not None and text not in self._providers:
            await self._look()
            if text not in self._providers:
                near = nearest(text, self._providers) or sorted(self._providers)
                known = f"did you mean {', '.join(near[:5])}?" if near else "none has sent a tick yet"
                raise bad_parameter("provider", f"{text[:64]!r} is not known: {known}", code="unknown-provider")
        return text

    def concerns(self, session: str, provider: str | None) -> bool:
        """Whether a session's gap may be one of the provider's ticks: not where the session is named like another provider."""
        return provider in (None, session) or session not in self._providers

    async def _look(self) -> None:
        self._looked = self._monotonic()
        self._aliases.clear()
        overview = await asyncio.to_thread(self._reader.overview)
        for file in overview.files:
            self._symbols.update(file.spans)
            self._providers.update(line.provider for line in file.account)
        for symbol in self._latest.symbols():
            self._symbols.add(symbol)
            self._providers.update(tick.provider for tick in self._latest.quotes(symbol))


def spelled(text: str) -> str:
    """Upper-cased; a Problem where it cannot be a symbol."""
    symbol = normalise_symbol(text)
    if symbol is None:
        raise Problem(
            400,
            "invalid-symbol",
            "Not a symbol",
            f"{text[:40]!r} cannot be a symbol: 1 to 32 of the letters A-Z, digits and . _ / # -",
        )
    return symbol


def unknown_symbol(symbol: str, known: set[str]) -> Problem:
    near = nearest(symbol, known)
    hint = f"did you mean {', '.join(near)}?" if near else "/api/history/symbols lists what there is."
    return Problem(404, "unknown-symbol", "Unknown symbol", f"There are no ticks of {symbol}: {hint}", nearest=near)
