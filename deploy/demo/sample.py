"""What the view shows, asked of the running processes once a second over their own HTTP ports."""

import http.client
import itertools
import json
import time
import urllib.error
import urllib.request
from collections import defaultdict, deque
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from libs.common.testing.stack import Process

ANSWER_TIMEOUT_S = 2.0
WINDOW = 10  # samples a latency is taken over
HISTORY = 60  # samples of ticks/s kept for the curve
GAPS_EVERY = 3  # samples

_DURABLE = "ticks_end_to_end_latency_seconds_bucket"


@dataclass(frozen=True, slots=True)
class Quote:
    """The newest quote of a symbol from any provider; prices as text, exact."""

    symbol: str
    bid: str
    ask: str
    age_s: float


@dataclass(frozen=True, slots=True)
class Sample:
    """One look at everything. None and empty where nobody answered."""

    rates: dict[str, float] = field(default_factory=dict)  # ticks/s by provider
    curve: tuple[float, ...] = ()  # ticks/s together, oldest first
    sent: int = 0  # lines in the ledgers, of all runs
    stats: dict[str, Any] | None = None  # /api/pipeline/stats
    durable_s: tuple[float, float] | None = None  # p50 and p99 from the socket to the disk
    not_durable_bytes: float | None = None  # of the journals
    quotes: tuple[Quote, ...] = ()
    gaps: tuple[dict[str, Any], ...] = ()  # newest first
    obstacles: tuple[str, ...] = ()  # why something is not ready

    @property
    def ticks_per_s(self) -> float:
        return self.curve[-1] if self.curve else 0.0


class Probe:
    """`sample` may be called as often as wanted; rates are those since the last call."""

    def __init__(self, processes: Mapping[str, Process], ledgers: list[Path]) -> None:
        self._processes = processes
        self._ledgers = [_LineCount(path) for path in ledgers]
        self._threads = ThreadPoolExecutor(8, "probe")
        self._answered = {name: time.monotonic() for name in processes}
        self._published: dict[str, float] = {}
        self._rates: dict[str, float] = {}
        self._published_at = 0.0
        self._curve: deque[float] = deque(maxlen=HISTORY)
        self._buckets: deque[dict[float, float]] = deque(maxlen=WINDOW)
        self._gaps: tuple[dict[str, Any], ...] = ()
        self._number = itertools.count()

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)

    def silent(self, longer_than_s: float) -> str | None:
        """A process that has not answered for that long."""
        now = time.monotonic()
        return next((name for name, at in self._answered.items() if now - at > longer_than_s), None)

    def sample(self) -> Sample:
        questions = {(name, "/readyz") for name in self._processes}
        questions |= {("gateway", "/metrics"), ("persistence", "/metrics")}
        questions |= {("distribution", "/api/pipeline/stats"), ("distribution", "/api/quotes/latest")}
        if next(self._number) % GAPS_EVERY == 0:
            since = (time.time_ns() // 10**9 - 86_400) * 10**9
            questions.add(("distribution", gaps_path := f"/api/history/ticks/EUR/USD?start={since}&limit=1"))
        else:
            gaps_path = ""
        ordered = sorted(questions)
        answers = dict(zip(ordered, self._threads.map(self._ask, ordered), strict=True))
        if page := _json(answers.get(("distribution", gaps_path))):
            self._gaps = tuple(reversed(page.get("gaps", ())))
        gateway = _metrics(answers["gateway", "/metrics"])
        self._count(gateway)
        stats = _json(answers["distribution", "/api/pipeline/stats"])
        return Sample(
            rates=dict(self._rates),
            curve=tuple(self._curve),
            sent=sum(ledger.lines() for ledger in self._ledgers),
            stats=stats if stats and "account" in stats else None,
            durable_s=self._durable(_metrics(answers["persistence", "/metrics"])),
            not_durable_bytes=sum(_of(gateway, "journal_not_durable_bytes").values()) if gateway else None,
            quotes=_newest(_json(answers["distribution", "/api/quotes/latest"])),
            gaps=self._gaps,
            obstacles=tuple(self._obstacles(answers)),
        )

    def settled(self) -> bool:
        """Whether all that the gateway has read is durable, and nothing waits in the stream."""
        gateway = _metrics(self._ask(("gateway", "/metrics")))
        stats = _json(self._ask(("distribution", "/api/pipeline/stats")))
        if not gateway or not stats or not stats.get("lag"):
            return False
        open_ends = [*_of(gateway, "journal_not_durable_bytes").values(), *_of(gateway, "journal_behind").values()]
        return not any(open_ends) and stats["lag"]["entries"] == 0

    def _ask(self, question: tuple[str, str]) -> bytes | None:
        name, path = question
        url = f"http://127.0.0.1:{self._processes[name].http_port}{path}"
        try:
            with urllib.request.urlopen(url, timeout=ANSWER_TIMEOUT_S) as answer:
                body: bytes = answer.read()
        except urllib.error.HTTPError as error:
            body = error.read()
        except (OSError, http.client.HTTPException):
            return None
        self._answered[name] = time.monotonic()
        return body

    def _count(self, gateway: dict[str, float]) -> None:
        """Ticks/s from the gateway's counts since the last sample."""
        published, now = _of(gateway, "ticks_published_total"), time.monotonic()
        if not published:  # no answer: better no figure than an old one
            self._rates = {}
            self._curve.append(0.0)
            return
        self._rates = {
            session: max(0.0, count - self._published.get(session, count)) / (now - self._published_at)
            for session, count in published.items()
        }
        if self._published:
            self._curve.append(sum(self._rates.values()))
        self._published, self._published_at = published, now

    def _durable(self, persistence: dict[str, float]) -> tuple[float, float] | None:
        buckets: defaultdict[float, float] = defaultdict(float)  # of all sessions
        for name, count in persistence.items():
            if name.startswith(_DURABLE):
                buckets[float(name.partition('le="')[2].partition('"')[0])] += count
        if not buckets:
            return None
        first = self._buckets[0] if self._buckets else {}
        self._buckets.append(buckets)
        counts = {bound: count - first.get(bound, 0.0) for bound, count in sorted(buckets.items())}
        return (_quantile(counts, 0.5), _quantile(counts, 0.99)) if max(counts.values()) > 0 else None

    def _obstacles(self, answers: Mapping[tuple[str, str], bytes | None]) -> list[str]:
        found = []
        for name in self._processes:
            state = _json(answers[name, "/readyz"])
            if state is None:
                found.append(f"{name} does not answer")
            else:
                found += [f"{name}: {part}: {why}" for part, why in state.get("obstacles", {}).items()]
        return found


class _LineCount:
    """The lines of a growing file, header left out; each byte is read once."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._position = 0
        self._lines = -1

    def lines(self) -> int:
        if self._path.exists():
            with self._path.open("rb") as file:
                file.seek(self._position)
                while piece := file.read(1 << 20):
                    self._position += len(piece)
                    self._lines += piece.count(b"\n")
        return max(self._lines, 0)


def _json(body: bytes | None) -> Any:
    """Numbers with a point stay text, so that prices are shown as they were written."""
    try:
        return None if body is None else json.loads(body, parse_float=str)
    except ValueError:
        return None


def _metrics(body: bytes | None) -> dict[str, float]:
    lines = (body or b"").decode("utf-8", "replace").splitlines()
    return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines if line and line[0] != "#")}


def _of(metrics: Mapping[str, float], name: str) -> dict[str, float]:
    """Session → value of one metric."""
    begin = f'{name}{{session="'
    return {key[len(begin) :].partition('"')[0]: value for key, value in metrics.items() if key.startswith(begin)}


def _newest(lines: Any) -> tuple[Quote, ...]:
    """Of each symbol the quote that came last, freshest first."""
    found: dict[str, Quote] = {}
    for line in lines if isinstance(lines, list) else ():
        quote = Quote(line["symbol"], str(line["bid"] or "–"), str(line["ask"] or "–"), line["age_ms"] / 1000)
        known = found.get(quote.symbol)
        if known is None or quote.age_s < known.age_s:
            found[quote.symbol] = quote
    return tuple(sorted(found.values(), key=lambda quote: quote.age_s))


def _quantile(cumulative: Mapping[float, float], share: float) -> float:
    """Of a histogram's cumulative counts by upper bound, linear within a bucket, as Prometheus does it."""
    wanted = share * max(cumulative.values())
    below, counted = 0.0, 0.0
    for bound, count in cumulative.items():
        if count >= wanted:
            if bound == float("inf"):
                return below
            return below + (bound - below) * ((wanted - counted) / (count - counted) if count > counted else 1.0)
        below, counted = bound, count
    return below
