"""The account as clients see it, in ticks: received = stored + duplicates + quarantined, and what is missing from that is lost.

A line per provider and symbol of a day, over that day's files: `numbered` is the highest any of them has, the rest adds up.
received = numbered + duplicates + quarantined (what was numbered came once, what came again or could not be a tick came besides).
"""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from libs.common.domain.moment import day_name
from libs.common.store.history import FileSummary

DAYS_MAX = 7  # shown one by one


@dataclass(slots=True)
class Account:
    numbered: int = 0
    stored: int = 0
    duplicates: int = 0
    quarantined: int = 0

    def add(self, other: "Account") -> None:
        self.numbered += other.numbered
        self.stored += other.stored
        self.duplicates += other.duplicates
        self.quarantined += other.quarantined

    def shown(self) -> dict[str, int]:
        received = self.numbered + self.duplicates + self.quarantined
        return {
            "received": received,
            "stored": self.stored,
            "duplicates": self.duplicates,
            "quarantined": self.quarantined,
            "lost": received - self.stored - self.duplicates - self.quarantined,
        }


def lines(files: Iterable[FileSummary]) -> dict[tuple[int, str, str], Account]:
    """(day, provider, symbol) → its account over the day's files."""
    found: defaultdict[tuple[int, str, str], Account] = defaultdict(Account)
    for file in files:
        for line in file.account:
            account = found[file.day, line.provider, line.symbol]
            account.numbered = max(account.numbered, line.numbered)
            account.stored += line.stored
            account.duplicates += line.duplicates
            account.quarantined += line.quarantined
    return found


def account_of(files: list[FileSummary]) -> dict[str, Any]:
    """The members `account`, `per_provider` and `days` of /api/pipeline/stats."""
    total = Account()
    providers: defaultdict[str, Account] = defaultdict(Account)
    days: defaultdict[int, Account] = defaultdict(Account)
    for (day, provider, _), account in lines(files).items():
        total.add(account)
        providers[provider].add(account)
        days[day].add(account)
    return {
        "account": total.shown(),
        "per_provider": {provider: providers[provider].shown() for provider in sorted(providers)},
        "days": [{"date": day_name(day), **days[day].shown()} for day in sorted(days, reverse=True)[:DAYS_MAX]],
    }
