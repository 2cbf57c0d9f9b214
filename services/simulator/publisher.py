"""Market data on its way to one client, and the faults that befall it there.

    quotes ─▶ bodies of the stream ─▶ numbers ─▶ ledgers ─▶ the line
                                                         └▶ an armed fault: damaged, in another order, or not at all

A number is given, the ledgers written and the bytes handed to the line in one piece without a wait in between: the order of the
ledger is the order of the wire. A fault damages that last step only, so the ledger never knows of it.
"""

from itertools import islice
from typing import cast

from services.simulator.channel import Channel
from services.simulator.fault import PRICE_FAULTS, Damage, Fault, damaged, pieces
from services.simulator.ledger import Lines
from services.simulator.market.quote import Quote
from services.simulator.provider import Provider
from services.simulator.stream.depth import DepthStream
from services.simulator.stream.quote import MassQuoteStream, QuoteStream
from services.simulator.stream.subscription import Request, Stream, TradeEntries
from services.simulator.stream.top import TopStream, TradedTopStream
from services.simulator.wire import resent, seal, sending_time

FAULT_PATIENCE_S = 1.0  # a fault waits this long for market data to strike, then takes a heartbeat
GAP_MESSAGES = 5
LATE_MESSAGES = 50  # how far back an older message is that comes again


class Publisher:
    def __init__(self, provider: Provider, channel: Channel) -> None:
        self.stream = _stream(provider)
        self._provider = provider
        self._channel = channel
        self._armed: Fault | None = None
        self._armed_at = 0.0

    def publish(self, quotes: list[Quote]) -> int:
        """Send those that are subscribed to; how many these were."""
        numbers, lines = self._channel.numbers, Lines()
        bodies = self.stream.updates(quotes, numbers.next_out, lines)
        if not bodies:
            return 0
        begin, msg_type, header_end = self._provider.begin_string, self.stream.update_type, self._channel.header_end()
        frames = [
            seal(begin, b"35=%b\x0134=%d%b%b" % (msg_type, seq, header_end, body))
            for seq, body in enumerate(bodies, numbers.next_out)
        ]
        numbers.add(frames)
        self._provider.ledger.append(lines)
        if self._armed is None:
            self._channel.write(b"".join(frames))
        else:
            self._strike(self._armed, frames)
        return len(lines.quotes)

    def show(self, request: Request, quote: Quote) -> None:
        """How things stand, in answer to a request."""
        numbers, lines = self._channel.numbers, Lines()
        body = self.stream.snapshot(request, quote, numbers.next_out, lines)
        header = b"35=%b\x0134=%d%b" % (self.stream.snapshot_type, numbers.next_out, self._channel.header_end())
        frame = seal(self._provider.begin_string, header + body)
        numbers.add([frame])
        self._provider.ledger.append(lines)
        self._channel.write(frame)

    def arm(self, fault: Fault) -> None:
        """With the next market data."""
        self._armed, self._armed_at = fault, self._provider.monotonic_s()

    def strike_late(self) -> bool:
        """Whether a fault has waited in vain for market data and has had a heartbeat."""
        if self._armed is None or self._armed in PRICE_FAULTS:
            return False
        if self._provider.monotonic_s() - self._armed_at < FAULT_PATIENCE_S:
            return False
        self._strike(self._armed, [self._channel.number("0", [])])
        return True

    def _strike(self, fault: Fault, frames: list[bytes]) -> None:
        """On messages that have their numbers and stand in the ledger."""
        self._armed = None
        channel = self._channel
        match fault:
            case "drop":
                channel.close("fault: drop", abort=True)
            case "cut":
                whole, half = frames[: len(frames) // 2], frames[len(frames) // 2]
                channel.write(b"".join(whole) + half[: len(half) // 2])
                channel.close("fault: cut")
            case "gap":
                channel.write(b"".join(frames[GAP_MESSAGES:]))
            case "gap_fill":
                first = channel.numbers.next_out - len(frames)
                filled = len(frames[:GAP_MESSAGES])
                fill = channel.encode("4", first, [(123, "Y"), (36, first + filled)])
                channel.write(fill + b"".join(frames[filled:]))
            case "reorder":
                channel.withhold(frames[0])
                channel.write(*frames[1:2])
                channel.write(b"".join(frames[2:]))
            case "split":
                channel.write(*pieces(frames[0]), b"".join(frames[1:]))
            case "poss_dup_late":
                sent = channel.numbers.sent
                late = islice(sent, max(0, len(sent) - LATE_MESSAGES), None)
                older = next((frame for frame in late if frame), frames[0])
                channel.write(b"".join(frames) + resent(older, sending_time(self._provider.now_ns())))
            case _:
                self._damage(cast("Damage", fault), frames)

    def _damage(self, kind: Damage, frames: list[bytes]) -> None:
        """The first message that has what can be damaged; where there is none, the fault waits for the next."""
        now_ns = self._provider.now_ns()
        for index, frame in enumerate(frames):
            changed = damaged(kind, frame, now_ns)
            if changed != frame:
                self._channel.write(b"".join([*frames[:index], changed, *frames[index + 1 :]]))
                return
        self._channel.write(b"".join(frames))
        self.arm(kind)


def _stream(provider: Provider) -> Stream:
    if provider.stream == "quote":
        return QuoteStream()
    if provider.stream == "mass_quote":
        return MassQuoteStream(provider.symbols_per_message, underlying=provider.fix == "FIX.4.2")
    trade_entries = TradeEntries(aggressor=provider.fix == "FIX.5.0SP2")
    if provider.depth > 1:
        return DepthStream(provider.depth_by, trade_entries)
    if provider.trades:
        return TradedTopStream(provider.symbols_per_message, trade_entries)
    return TopStream(provider.symbols_per_message)
