"""A layout, once its columns are known, to the table that reads it and the line that says what was found."""

from collections.abc import Sequence
from typing import Any

from libs.common.domain.errors import Rejected
from libs.common.domain.symbol import normalise_symbol
from libs.common.imports.column import Layout
from libs.common.imports.detection import Detection, Head
from libs.common.imports.number import Prices, Sizes, Symbols
from libs.common.imports.option import Ambiguous, Format, Options
from libs.common.imports.table import Table, latest_ts
from libs.common.imports.times import Times


def tabulate(
    head: Head,
    kind: Format,
    lead: str,
    rows: Sequence[Sequence[str]],
    layout: Layout,
    options: Options,
    *,
    times: Times | None = None,
    named: tuple[str, str] | None = None,
    width: int | None = None,
    may_have_comma: bool = False,
) -> tuple[Detection, Table]:
    """`rows`: the sample; `times`, `named` (symbol, how): where no column has them."""
    times = times or layout.times(rows, options)
    symbols, seen, said = _symbols(rows, layout, options, named)
    comma = may_have_comma and _has_decimal_comma(rows, layout)
    unit, unit_text = (options.size_unit, "--size-unit") if options.size_unit else (layout.size_unit, layout.size_text)
    parts = [lead, layout.text, times.text, said]
    if comma:
        parts.append("decimal comma")
    if {"bid_size", "ask_size"} & set(layout.at):
        parts.append(f"sizes in {unit} ({unit_text})")
    if not {"bid", "ask"} <= set(layout.at):
        parts.append("one side only")
    detection = Detection(kind, ", ".join(parts), seen, layout.certain, tuple(_warnings(rows, layout)))
    prices, sizes = Prices(decimal_comma=comma), Sizes(unit, decimal_comma=comma)
    width = len(rows[0]) if width is None else width
    return detection, Table(head.source.name, width, layout, times.moment, prices, sizes, symbols, latest_ts(options))


def wanted_symbol(options: Options) -> str | None:
    """--symbol in canonical spelling."""
    if options.symbol is None:
        return None
    symbol = normalise_symbol(options.symbol)
    if symbol is None:
        raise Rejected(f"--symbol: {options.symbol[:40]!r} is not a symbol")
    return symbol


def one_symbol(options: Options, named: tuple[str, str] | None) -> tuple[str, str]:
    """The symbol of a file that holds one, and the words for it. `named`: what the file calls it, and where."""
    wanted = wanted_symbol(options)
    if wanted is not None:
        return wanted, f"symbol {wanted} (--symbol)"
    if named is None:
        raise Ambiguous("nothing in it tells the symbol", "--symbol")
    symbol = normalise_symbol(named[0])
    if symbol is None:
        raise Ambiguous(f"{named[0][:40]!r} is not a symbol", "--symbol")
    return symbol, f"symbol {symbol} ({named[1]})"


def _symbols(
    rows: Sequence[Sequence[str]], layout: Layout, options: Options, named: tuple[str, str] | None
) -> tuple[dict[Any, str], tuple[str, ...], str]:
    """The symbol of each text, those of the sample as the file spells them, and the words for it."""
    if "symbol" not in layout.at:
        only, said = one_symbol(options, named)
        return {"": only}, ((normalise_symbol(named[0]) if named else None) or only,), said
    at, wanted = layout.at["symbol"], wanted_symbol(options)
    seen = tuple(dict.fromkeys(symbol for row in rows if (symbol := normalise_symbol(row[at].strip()))))
    if not seen:
        raise Rejected(f"column {at + 1} holds no symbols")
    if wanted is None:
        return Symbols(), seen, f"symbol {', '.join(seen[:5])} (its column)"
    if len(seen) > 1:
        raise Rejected(f"--symbol names one, and the file has {', '.join(seen[:5])}: leave it out")
    return Symbols(wanted, seen[0]), seen, f"symbol {wanted} (--symbol) for {seen[0]}"


def _has_decimal_comma(rows: Sequence[Sequence[str]], layout: Layout) -> bool:
    prices = [row[layout.at[role]] for row in rows for role in ("bid", "ask") if role in layout.at]
    return sum("," in price for price in prices) * 2 > sum(bool(price.strip()) for price in prices)


def _warnings(rows: Sequence[Sequence[str]], layout: Layout) -> list[str]:
    found = []
    if {"bid", "ask"} <= set(layout.at):
        prices = Prices(decimal_comma=True)
        known = crossed = 0
        for row in rows:
            try:
                bid, ask = prices[row[layout.at["bid"]]], prices[row[layout.at["ask"]]]
            except Rejected:
                continue
            known += bid is not None and ask is not None
            crossed += bid is not None and ask is not None and bid > ask
        if crossed * 2 > known:
            found.append(
                f"the bid is above the ask in {crossed} of the first {known} quotes: are the columns the wrong way round?"
            )
    return found
