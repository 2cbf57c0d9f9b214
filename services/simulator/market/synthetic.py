"""A synthetic market that looks like one: which symbol quotes next, where its mid goes, how wide it is.

    seed ─▶ every 250 ms of market time: activity = weight × hour of the day × heat ─▶ draw symbols ─▶ move each ─▶ quotes

A function of the seed and of the times and counts asked for: no clock, no I/O.
"""

import math
from itertools import accumulate
from random import Random

from libs.common.domain.moment import NS_PER_DAY, NS_PER_MS, NS_PER_S
from services.simulator.market.instrument import Instrument, Kind, instruments
from services.simulator.market.quote import Quote

_TURN_NS = 250 * NS_PER_MS
_DAY_S = 86_400.0
_YEAR_S = 365 * _DAY_S
_HOUR_NS = 3600 * NS_PER_S

_REGION_HOURS = {"A": (-1.0, 9.0), "L": (6.5, 17.0), "N": (12.0, 21.5)}  # UTC
_QUIET_ACTIVITY = 0.1  # of a listed region's peak, outside its hours
_CLOSED_ACTIVITY = 0.02  # a closed market still shows an indicative quote now and then, so that no symbol stays unseen
_CLOSED_WIDENING = 3.0

_HEAT_DECAY_S = 2.5  # bursts last some seconds
_NEWS_PER_S = 0.03  # a currency or a kind: everything it moves ticks more, faster and wider
_FLURRIES_PER_S = 1.5  # one symbol alone
_HEAT_MAX = 40.0

_REVERSION_S = 6 * 3600.0  # time in which a mid returns towards where it began: no price runs away in a month
_JUMPS_PER_S = 1 / (6 * 3600)
_JUMP_DAYS = 2.0  # a jump is at most this many usual days' moves
_MOVE_MAX = 0.07  # of one quote; stays below the 10 % at which a gateway marks a spike, spread included
_STEP_MIN_S = 0.0002  # several quotes in one ms still move

_SIZES: dict[Kind, tuple[bytes, ...]] = {  # lots; small sizes are the frequent ones
    "fx": (b"1", b"1", b"1", b"2", b"2", b"3", b"5", b"5", b"7.5", b"10", b"15", b"30"),
    "metal": (b"0.5", b"1", b"1", b"2", b"3", b"5", b"10"),
    "index": (b"1", b"1", b"2", b"5", b"5", b"10", b"25", b"50"),
    "energy": (b"1", b"2", b"5", b"10", b"20"),
    "crypto": (b"0.05", b"0.1", b"0.25", b"0.5", b"1", b"1", b"2.5", b"5", b"12"),
    "stock": (b"100", b"100", b"200", b"300", b"500", b"1000"),
}


class _Line:
    """One instrument in motion; mid and spread in points."""

    __slots__ = ("anchor", "digits", "heat", "instrument", "mid", "name", "sigma", "sizes", "spread", "ts", "width")

    def __init__(self, instrument: Instrument) -> None:
        self.instrument = instrument
        self.name = instrument.symbol.encode()
        self.anchor = self.mid = float(instrument.price)
        self.sigma = instrument.volatility / math.sqrt(_YEAR_S)  # relative move of one second
        self.spread = instrument.spread
        self.sizes = _SIZES[instrument.kind]
        self.digits = instrument.digits
        self.width = instrument.digits + 1  # at least one digit before the point
        self.heat = 1.0
        self.ts = 0


class Market:
    """Quotes of the `count` most traded instruments, in runs of `run` different ones (at most all there are)."""

    def __init__(self, seed: int, count: int, run: int = 1) -> None:
        self.run = min(run, count)
        self._random = Random(seed)  # noqa: S311 - a market, not a secret
        self._lines = [_Line(instrument) for instrument in instruments(count)]
        self._by_name = {line.name: line for line in self._lines}
        self._cumulative: list[float] = []
        self._turn_at = 0
        self._turned_at = 0
        self.symbols = tuple(self._by_name)

    def quotes(self, ts: int, count: int) -> list[Quote]:
        """The next `count` quotes, all at `ts` (ns, not before that of the last call). The last run may be a shorter one."""
        if ts >= self._turn_at:
            self._turn(ts)
        drawn = self._random.choices(self._lines, cum_weights=self._cumulative, k=count)
        if self.run > 1:
            drawn = [line for at in range(0, count, self.run) for line in self._different(drawn[at : at + self.run])]
        return [self._move(line, ts) for line in drawn]

    def quote(self, symbol: bytes, ts: int) -> Quote:
        """One symbol's next quote, as for a snapshot."""
        if ts >= self._turn_at:
            self._turn(ts)
        return self._move(self._by_name[symbol], ts)

    def sizes(self, symbol: bytes) -> tuple[bytes, ...]:
        """What a symbol is quoted in, in lots."""
        return self._by_name[symbol].sizes

    def _different(self, drawn: list[_Line]) -> list[_Line]:
        """As many lines as were drawn, none twice; where the busy ones are used up, the quiet ones get their turn."""
        found = dict.fromkeys(drawn)
        redraws = 4 * len(drawn)
        while len(found) < len(drawn) and redraws:
            found[self._random.choices(self._lines, cum_weights=self._cumulative)[0]] = None
            redraws -= 1
        if len(found) < len(drawn):
            quiet = [line for line in self._lines if line not in found]
            found |= dict.fromkeys(self._random.sample(quiet, len(drawn) - len(found)))
        return list(found)

    def _turn(self, ts: int) -> None:
        """Let bursts begin and die down, and weigh who ticks how often until the next turn."""
        random = self._random
        elapsed_s = min(60.0, (ts - self._turned_at) / NS_PER_S) if self._turned_at else 0.0
        decay = math.exp(-elapsed_s / _HEAT_DECAY_S)
        for line in self._lines:
            line.heat = 1.0 + (line.heat - 1.0) * decay
        if random.random() < _NEWS_PER_S * elapsed_s:
            theme = random.choice(sorted(random.choice(self._lines).instrument.themes))
            strength = random.uniform(3.0, 12.0)
            for line in self._lines:
                if theme in line.instrument.themes:
                    line.heat = min(_HEAT_MAX, line.heat + strength * random.uniform(0.3, 1.0))
        if random.random() < _FLURRIES_PER_S * elapsed_s:
            line = random.choice(self._lines)
            line.heat = min(_HEAT_MAX, line.heat + random.uniform(5.0, 25.0))
        weights = []
        for line in self._lines:
            share = activity(line.instrument, ts)
            weights.append(line.instrument.weight * share * line.heat)
            widening = _CLOSED_WIDENING if share <= _CLOSED_ACTIVITY else 1.0 + 0.5 * (1.0 - share)
            line.spread = line.instrument.spread * widening * (1.0 + 0.05 * (line.heat - 1.0))
        self._cumulative = list(accumulate(weights))
        self._turned_at, self._turn_at = ts, ts + _TURN_NS

    def _move(self, line: _Line, ts: int) -> Quote:
        random = self._random.random
        elapsed_s = (ts - line.ts) / NS_PER_S if line.ts else 0.0
        line.ts = ts
        mid = line.mid
        volatile_s = max(elapsed_s, _STEP_MIN_S) * line.heat
        change = mid * line.sigma * math.sqrt(volatile_s) * self._random.gauss(0.0, 1.0)
        change += (line.anchor - mid) * min(1.0, elapsed_s / _REVERSION_S)
        if random() < _JUMPS_PER_S * elapsed_s:
            change += mid * line.sigma * math.sqrt(_DAY_S) * _JUMP_DAYS * (2.0 * random() - 1.0)
        largest = mid * _MOVE_MAX
        line.mid = mid = mid + min(largest, max(-largest, change))
        spread = line.spread * (0.7 + 0.6 * random())
        bid = max(1, round(mid - spread * (0.3 + 0.4 * random())))
        ask = bid + max(1, round(spread))
        digits, width, sizes = line.digits, line.width, line.sizes
        bid_text, ask_text = b"%0*d" % (width, bid), b"%0*d" % (width, ask)
        if digits:
            bid_text = bid_text[:-digits] + b"." + bid_text[-digits:]
            ask_text = ask_text[:-digits] + b"." + ask_text[-digits:]
        bid_size = sizes[int(random() * len(sizes))]
        ask_size = sizes[int(random() * len(sizes))]
        return Quote(line.name, ts, bid_text, ask_text, bid_size, ask_size)


def activity(instrument: Instrument, ts: int) -> float:
    """How busy an instrument is at `ts` (ns), up to 1: its regions' hours, Friday evening to Sunday evening closed."""
    hour = ts % NS_PER_DAY / _HOUR_NS
    open_regions = max(_bump(hour, *_REGION_HOURS[region]) for region in instrument.regions)
    if instrument.kind == "crypto":
        return 0.4 + 0.6 * open_regions  # never closes, and follows the people awake
    week_hour = ((ts // NS_PER_DAY + 3) % 7) * 24 + hour  # the epoch was a Thursday; Monday 00:00 is 0
    if 4 * 24 + 22 <= week_hour < 6 * 24 + 22:
        return _CLOSED_ACTIVITY
    if instrument.kind == "stock" and not open_regions:
        return _CLOSED_ACTIVITY
    return max(_QUIET_ACTIVITY, open_regions)


def _bump(hour: float, begin: float, end: float) -> float:
    """0 outside the hours, 1 in their middle."""
    if hour - 24 >= begin:
        hour -= 24
    return math.sin(math.pi * (hour - begin) / (end - begin)) if begin < hour < end else 0.0
