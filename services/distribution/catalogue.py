"""Which symbols there are and which days of them, from the summaries of the files."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from libs.common.domain.moment import NS_PER_DAY, day_name
from libs.common.store.history import FileSummary, distinct_gaps, overlaps
from libs.common.store.tiers.day import STATES
from services.distribution.formats import TsFormat, ts_json


@dataclass(slots=True)
class _Holding:
    """What some files hold of one symbol."""

    first: int | None = None
    last: int | None = None
    ticks: int = 0
    providers: set[str] = field(default_factory=set)

    def span(self, first: int, last: int) -> None:
        self.first = first if self.first is None else min(first, self.first)
        self.last = last if self.last is None else max(last, self.last)


def symbols_of(files: Iterable[FileSummary], ts_format: TsFormat) -> list[dict[str, Any]]:
    """Every symbol that has a tick, in alphabetical order."""
    return [
        {
            "symbol": symbol,
            "providers": sorted(held.providers),
            "first": ts_json(held.first, ts_format),
            "last": ts_json(held.last, ts_format),
            "ticks": held.ticks,
        }
        for symbol, held in sorted(_holdings(files).items())
        if held.first is not None and held.last is not None
    ]


def days_of(
    files: list[FileSummary], symbol: str | None, first_day: int, last_day: int, ts_format: TsFormat
) -> list[dict[str, Any]]:
    """Every day from first_day to last_day that holds ticks of the symbol, or of any, by symbol and date."""
    gaps = distinct_gaps(file.gaps for file in files)
    by_day: defaultdict[int, list[FileSummary]] = defaultdict(list)
    for file in files:
        if first_day <= file.day <= last_day:
            by_day[file.day].append(file)
    found: list[tuple[str, int, dict[str, Any]]] = []
    for day, of_day in by_day.items():
        state = min((file.state for file in of_day), key=STATES.index)
        generations = [file.generation for file in of_day if file.generation]
        generation = 1 + sum(found - 1 for found in generations) if generations else 0
        day_gaps = sum(overlaps(gap, day * NS_PER_DAY, (day + 1) * NS_PER_DAY) for gap in gaps)
        for name, held in _holdings(of_day).items():
            if held.first is None or held.last is None or symbol not in (None, name):
                continue
            line = {
                "symbol": name,
                "date": day_name(day),
                "ticks": held.ticks,
                "first": ts_json(held.first, ts_format),
                "last": ts_json(held.last, ts_format),
                "gaps": day_gaps,
                "state": state,
                "generation": generation,
            }
            found.append((name, day, line))
    return [line for _, _, line in sorted(found, key=lambda item: item[:2])]


def _holdings(files: Iterable[FileSummary]) -> dict[str, _Holding]:
    found: defaultdict[str, _Holding] = defaultdict(_Holding)
    for file in files:
        for symbol, (first, last) in file.spans.items():
            found[symbol].span(first, last)
        for line in file.account:
            if line.stored:
                found[line.symbol].ticks += line.stored
                found[line.symbol].providers.add(line.provider)
    return found
