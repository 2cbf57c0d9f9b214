"""The simulator put together: a market or a recording, a feed, an acceptor, and the faults."""

import time
from dataclasses import dataclass
from pathlib import Path

from libs.common.domain.errors import Rejected
from libs.common.runtime import Health, StartError, run
from libs.common.runtime.ports import free_port
from libs.common.telemetry import gauge, total
from services.simulator.acceptor import Acceptor
from services.simulator.feed import Feed, Limits, LiveMarket, Recording, Source
from services.simulator.ledger import Ledger
from services.simulator.market import replay
from services.simulator.market.book import BookMarket
from services.simulator.market.synthetic import Market
from services.simulator.market.tape import Tape, TradedMarket
from services.simulator.provider import DepthBy, Fix, Provider, Resend, StreamKind
from services.simulator.routes import FaultApp
from services.simulator.settings import SimulatorSettings


@dataclass(frozen=True, slots=True)
class Options:
    """The command line. `speed` inf: as fast as the sockets take it; `http_port` None: the setting's."""

    port: int = 9878
    http_port: int | None = None
    provider: str = "LP1"
    ledger: Path | None = None
    resend: Resend = "full"
    seed: int = 1
    symbols: int = 128
    rate: float = 1000.0
    entries: int = 2
    replay: tuple[Path, ...] = ()
    timezone: str = "UTC"
    speed: float = 1.0
    count: int | None = None
    duration_s: float | None = None
    exit_when_done: bool = False
    fix: Fix = "FIX.4.4"
    stream: StreamKind = "market_data"
    depth: int = 1
    depth_by: DepthBy = "id"
    trades: float = 0.0
    listing: bool = True
    refuse: tuple[str, ...] = ()


async def main(settings: SimulatorSettings, options: Options) -> int:
    health = Health()
    source, symbols, symbols_per_message = _source(options)
    with _ledger(options) as ledger:
        provider = Provider(
            name=options.provider,
            symbols=symbols,
            snapshot=source.snapshot,
            ledger=ledger,
            now_ns=time.time_ns,
            monotonic_s=time.monotonic,
            fix=options.fix,
            stream=options.stream,
            symbols_per_message=symbols_per_message,
            depth=options.depth,
            depth_by=options.depth_by,
            trades=options.trades > 0,
            resend=options.resend,
            listing=options.listing,
            refused=frozenset(symbol.encode() for symbol in options.refuse),
        )
        acceptor = Acceptor(provider, health)
        limits = Limits(options.count, options.duration_s, options.exit_when_done)
        feed = Feed("replay" if options.replay else "generation", source, acceptor.sessions, limits)
        gauge("simulator_sessions", "connections there are", lambda: [(len(acceptor.sessions), {})])
        total("simulator_quotes_sent", "quotes that reached at least one client", lambda: [(feed.sent, {})])
        await acceptor.open(settings.http_host, options.port)
        http_port = settings.simulator_http_port if options.http_port is None else options.http_port
        return await run(
            {"acceptor": acceptor.run, "feed": feed.run},
            health=health,
            host=settings.http_host,
            port=http_port or free_port(settings.http_host),
            app=FaultApp(acceptor.sessions),
        )


def _source(options: Options) -> tuple[Source, tuple[bytes, ...], int]:
    """Where quotes come from, of which symbols, and how many symbols a message has."""
    tape = Tape(options.seed, options.trades) if options.trades else None
    if not options.replay:
        tops = Market(options.seed, options.symbols, run=options.entries // 2)
        market: Market | BookMarket | TradedMarket = tops
        if options.depth > 1:
            market = BookMarket(tops, options.depth, options.seed, tape)
        elif tape is not None:
            market = TradedMarket(tops, tape)
        return LiveMarket(market, options.rate), tops.symbols, market.run
    try:
        paths = replay.files(options.replay)
        quotes = replay.quotes(paths, replay.parse_zone(options.timezone))
        recording = Recording(quotes if tape is None else map(tape.printed, quotes), options.speed)
        return recording, replay.symbols(paths), 1
    except (Rejected, OSError) as error:
        raise StartError(str(error)) from error


def _ledger(options: Options) -> Ledger:
    try:
        return Ledger(options.ledger, options.provider, depth=options.depth > 1, trades=options.trades > 0)
    except OSError as error:
        raise StartError(f"ledger {options.ledger}: {error.strerror}") from error
