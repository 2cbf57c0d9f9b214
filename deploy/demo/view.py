"""The demo on the screen: a calm picture once a second on a terminal, one line a second anywhere else."""

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from types import TracebackType
from typing import Protocol, Self

from rich import box
from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from deploy.demo.sample import Quote, Sample

BARS = "▁▂▃▄▅▆▇█"
HEADROOM = 1.15  # above the highest bar: a steady rate is a steady line
STALE_S = 60.0  # an age beyond it stands out
FIXED_LINES = 21  # of the picture, besides the rows of quotes
ROOMY_COLUMNS = 100  # below it the URLs stand alone
ROWS_MIN, ROWS_MAX = 3, 12
STEADY_FACTOR = 4  # a symbol stays on the list of the freshest while it is among this many times the rows


@dataclass(frozen=True, slots=True)
class Facts:
    """What does not change while the demo runs. `ends_at`: monotonic, None where Ctrl-C ends it."""

    providers: tuple[str, ...]
    symbols: int
    urls: tuple[tuple[str, str], ...]  # URL, what it answers
    began_at: float
    ends_at: float | None


class View(Protocol):
    def __enter__(self) -> Self: ...
    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None: ...
    def show(self, sample: Sample) -> None: ...


def open_view(console: Console, facts: Facts) -> "View":
    return Screen(console, facts) if console.is_terminal and not console.is_dumb_terminal else Lines(console, facts)


class Lines:
    """For a log: one line a sample."""

    def __init__(self, console: Console, facts: Facts) -> None:
        self._console = console
        self._facts = facts

    def __enter__(self) -> Self:
        for url, meaning in self._facts.urls:
            self._print(f"  {url}  {meaning}")
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        pass

    def show(self, sample: Sample) -> None:
        rate = f"{sample.ticks_per_s:7,.0f}" if sample.curve else "      –"
        parts = [f"{time.monotonic() - self._facts.began_at:5.0f} s", f"{rate} ticks/s"]
        if sample.durable_s is not None:
            parts.append("durable after p50 {} p99 {}".format(*map(duration, sample.durable_s)))
        parts.append(f"sent {sample.sent:,}")
        if sample.stats is not None:
            account, lag = sample.stats["account"], sample.stats["lag"]
            parts += [f"{name} {account[name]:,}" for name in ("stored", "duplicates", "quarantined", "lost")]
            parts += [f"gaps {sample.stats['gaps']}", "lag unknown" if lag is None else f"lag {lag['entries']} entries"]
        self._print("  ".join([*parts, *sample.obstacles]))

    def _print(self, line: str) -> None:
        self._console.print(line, markup=False, highlight=False, soft_wrap=True)


@dataclass(slots=True)
class Screen:
    """The whole terminal while it runs; the last picture stays in the scroll-back."""

    console: Console
    facts: Facts
    _live: Live = field(init=False)
    _last: Sample = field(default_factory=Sample)
    _fresh: list[str] = field(default_factory=list)  # symbols shown as the freshest
    _decimals: dict[str, int] = field(default_factory=dict)  # most seen of a symbol's prices, so that points stay in line

    def __enter__(self) -> Self:
        self._live = Live(console=self.console, screen=True, auto_refresh=False)
        self._live.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._live.stop()
        if kind is None:
            self.console.print(self._picture(self._last, ending=True))

    def show(self, sample: Sample) -> None:
        self._last = sample
        self._live.update(self._picture(sample, ending=False), refresh=True)

    def _picture(self, sample: Sample, *, ending: bool) -> RenderableType:
        rows = min(ROWS_MAX, max(ROWS_MIN, self.console.size.height - FIXED_LINES - len(sample.obstacles)))
        top = Table.grid(expand=True)
        for ratio in (23, 30, 27):
            top.add_column(ratio=ratio)
        top.add_row(_panel("Ticks per second", self._rates(sample)), _panel("Latency and lag", _latency(sample)),
                    _panel("Account of all runs", _account(sample)))  # fmt: skip
        quotes = Table.grid(expand=True)
        quotes.add_column(ratio=1)
        quotes.add_column(ratio=1)
        quotes.add_row(_panel("Freshest", self._quotes(self._freshest(sample.quotes, rows), rows)),
                       _panel("Stalest", self._quotes(sample.quotes[::-1][:rows], rows)))  # fmt: skip
        urls = Table.grid(padding=(0, 2))
        for url, meaning in self.facts.urls:
            link = Text(url, style=f"cyan link {url}", no_wrap=True)
            urls.add_row(*((link, Text(meaning, style="dim")) if self.console.size.width >= ROOMY_COLUMNS else (link,)))
        warnings = [Text(f" ! {obstacle}", style="yellow", no_wrap=True, overflow="ellipsis") for obstacle in sample.obstacles]
        return Group(self._head(ending=ending), *warnings, top, quotes, _gaps(sample), _panel("Try", urls))

    def _head(self, *, ending: bool) -> RenderableType:
        now = time.monotonic()
        head = Table.grid(expand=True)
        head.add_column(no_wrap=True)
        head.add_column(justify="right", no_wrap=True)
        facts = self.facts
        left = Text(" TickVault", style="bold cyan")
        running = _clock(now - facts.began_at)
        left.append(f"  {len(facts.providers)} providers · {facts.symbols} symbols · {running}", style="default")
        right = "Ctrl-C ends it " if facts.ends_at is None else f"ends in {max(0, facts.ends_at - now):.0f} s "
        head.add_row(left, Text("" if ending else right, style="dim"))
        return head

    def _rates(self, sample: Sample) -> RenderableType:
        table = _figures()
        for provider in self.facts.providers:
            rate = sample.rates.get(provider) if sample.curve else None
            table.add_row(provider, "–" if rate is None else f"{rate:,.0f}")
        table.add_row("together", Text(f"{sample.ticks_per_s:,.0f}" if sample.curve else "–", style="bold"))
        return Group(table, Text(), _Curve(sample.curve))

    def _freshest(self, quotes: tuple[Quote, ...], rows: int) -> list[Quote]:
        """Those shown stay while they are fresh enough: a list that changes every second cannot be read."""
        by_symbol = {quote.symbol: quote for quote in quotes[: rows * STEADY_FACTOR]}
        kept = [symbol for symbol in self._fresh if symbol in by_symbol][:rows]
        added = [symbol for symbol in by_symbol if symbol not in kept][: rows - len(kept)]
        self._fresh = [*kept, *added]
        return [by_symbol[symbol] for symbol in self._fresh]

    def _quotes(self, quotes: list[Quote] | tuple[Quote, ...], rows: int) -> RenderableType:
        table = Table(box=None, expand=True, padding=(0, 1, 0, 0), header_style="dim", pad_edge=False)
        table.add_column("symbol", no_wrap=True, ratio=4)
        for name in ("bid", "ask"):
            table.add_column(name, justify="right", no_wrap=True, ratio=4)
        table.add_column("age", justify="right", no_wrap=True, min_width=6)
        for quote in quotes:
            digits = max(self._decimals.get(quote.symbol, 0), *(len(text.partition(".")[2]) for text in (quote.bid, quote.ask)))
            self._decimals[quote.symbol] = digits
            age = Text(duration(quote.age_s), style="yellow" if quote.age_s > STALE_S else "default")
            table.add_row(quote.symbol, _padded(quote.bid, digits), _padded(quote.ask, digits), age)
        for _ in range(rows - len(quotes)):
            table.add_row("", "", "", "")
        return table


def _latency(sample: Sample) -> RenderableType:
    table = Table.grid(expand=True, padding=(0, 0, 0, 1))
    table.add_column(no_wrap=True)
    for _ in range(2):
        table.add_column(justify="right", no_wrap=True)
    stats = sample.stats or {}
    clients = stats.get("latency_s") or {}
    table.add_row("", Text("p50", style="dim"), Text("p99", style="dim"))
    table.add_row("to clients", *(_seconds(clients.get(name)) for name in ("p50", "p99")))
    table.add_row("to the disk", *map(_seconds, sample.durable_s or (None, None)))
    lag = stats.get("lag")
    lags = _figures()
    lags.add_row("in the stream", "–" if lag is None else f"{lag['entries']:,} entries")
    lags.add_row("oldest", "–" if lag is None else _seconds(lag["oldest_age_s"]))
    lags.add_row("not yet durable", "–" if sample.not_durable_bytes is None else _bytes(sample.not_durable_bytes))
    return Group(table, lags)


def _account(sample: Sample) -> RenderableType:
    table = _figures()
    table.add_row("sent (ledgers)", f"{sample.sent:,}")
    account = (sample.stats or {}).get("account") or {}
    for name in ("received", "stored", "duplicates", "quarantined", "lost"):
        number = account.get(name)
        bad = name == "lost" and number
        style = "bold red" if bad else "bold green" if name in {"stored", "lost"} else "default"
        table.add_row(name, Text("–" if number is None else f"{number:,}", style=style))
    return table


def _gaps(sample: Sample) -> RenderableType:
    number = (sample.stats or {}).get("gaps")
    line = Text(" Gaps  ", style="bold", no_wrap=True, overflow="ellipsis")
    if not number:
        return line.append("none recorded" if number == 0 else "–", style="default")
    line.append(f"{number} recorded", style="default")
    if sample.gaps:
        gap = sample.gaps[0]
        until = "still open" if gap["to"] is None else f"to {gap['to'][11:19]}"
        line.append(f"; the newest: {gap['session']} {gap['cause']} {gap['from'][11:19]} {until}", style="default")
        line.append(f" ({gap['resolved_by']})" if gap["resolved_by"] else "", style="dim")
    return line


def _panel(title: str, content: RenderableType) -> Panel:
    return Panel(content, title=Text(title, style="bold"), title_align="left", border_style="bright_black", box=box.ROUNDED)


def _figures() -> Table:
    """Names on the left, figures on the right."""
    table = Table.grid(expand=True)
    table.add_column(no_wrap=True)
    table.add_column(justify="right", no_wrap=True)
    return table


@dataclass(frozen=True, slots=True)
class _Curve:
    """Bars from 0 to the highest, two lines high, as many of the newest as there is room for."""

    values: tuple[float, ...]

    def __rich_console__(self, _console: Console, options: ConsoleOptions) -> RenderResult:
        levels = " " + BARS
        values = self.values[-options.max_width :]
        top = max(values, default=0.0) * HEADROOM or 1.0
        heights = [round(value / top * 2 * len(BARS)) for value in values]
        for part in ((max(0, height - len(BARS)) for height in heights), (min(height, len(BARS)) for height in heights)):
            yield Text("".join(levels[height] for height in part), style="cyan", no_wrap=True)


def _padded(price: str, digits: int) -> str:
    whole, _, fraction = price.partition(".")
    return f"{whole}.{fraction.ljust(digits, '0')}" if digits and price != "–" else price


def _seconds(value: float | str | None) -> str:
    return "–" if value is None else duration(float(value))


def duration(seconds: float) -> str:
    """Two or three digits: 2.4 ms, 38 ms, 1.2 s, 4.0 min."""
    for unit, size, following in (("ms", 0.001, 1.0), ("s", 1.0, 60.0), ("min", 60.0, 3600.0)):
        if seconds < following * 0.9995:
            value = seconds / size
            text = f"{value:.1f}" if value < 9.95 else f"{value:.0f}"
            return f"{text.removesuffix('.0') if unit == 'ms' else text} {unit}"
    return f"{seconds / 3600:.0f} h"


def _bytes(count: float) -> str:
    for (unit, size), (_, following) in pairwise((("B", 1), ("kB", 1e3), ("MB", 1e6), ("GB", 1e9), ("", 1e12))):
        if count < following:
            return f"{count / size:.0f} {unit}"
    return f"{count / 1e9:,.0f} GB"


def _clock(seconds: float) -> str:
    minutes, second = divmod(int(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02d}:{second:02d}" if hours else f"{minute}:{second:02d}"


@contextlib.contextmanager
def step(console: Console, text: str) -> Iterator[None]:
    """A line that says what is being done, and, when it is done, how long it took."""
    began = time.monotonic()
    on_terminal = console.is_terminal and not console.is_dumb_terminal
    with console.status(f"{text} …") if on_terminal else contextlib.nullcontext():
        yield
    console.print(f"  {text}  [dim]{time.monotonic() - began:.1f} s[/]", highlight=False, soft_wrap=True)
