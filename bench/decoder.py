"""Messages a second of our framer and decoder against simplefix's parser, over a fixed mix, in one run, with equal results."""

import random
import time

import simplefix
from wire import frame, increment, symbol_name, utc_stamp

from services.gateway.fix.decoder import ENTRY_TAGS, Decoder, MarketData, decode
from services.gateway.fix.framer import Framer
from services.gateway.fix.wire import parse

MESSAGES = 4000
ROUNDS = 5

# (message kind, entries, field order): W; X with 1, 2 and 20 entries; header and entry orders of QuickFIX and jspurefix
MIX = [("W", 2, "quickfix"), ("X", 1, "quickfix"), ("X", 2, "quickfix"), ("X", 20, "quickfix"),
       ("W", 2, "jspurefix"), ("X", 1, "jspurefix"), ("X", 2, "jspurefix"), ("X", 20, "jspurefix")]  # fmt: skip


def mix(seed: int = 7) -> list[bytes]:
    """The fixed mix, every kind equally often."""
    rng = random.Random(seed)
    stamp = utc_stamp(time.time())
    return [_message(number + 1, *MIX[number % len(MIX)], stamp, rng) for number in range(MESSAGES)]


def _message(seq: int, kind: str, entries: int, order: str, stamp: str, rng: random.Random) -> bytes:
    quotes = []
    for _ in range(max(1, entries // 2)):
        mid = rng.randrange(50_000, 200_000)
        quotes.append((symbol_name(rng.randrange(128)), f"{mid / 1e5:.5f}", f"{(mid + 10) / 1e5:.5f}"))
    if (kind, order) == ("X", "quickfix") and entries > 1:
        return increment(seq, quotes, stamp)
    date, clock = stamp.split("-")
    symbol = f"55={quotes[0][0]}\x01"
    group = ""
    for name, bid, ask in quotes:
        for side, price in ((0, bid), (1, ask))[:entries]:
            fields = {
                "X": [f"279=1\x01269={side}\x01", f"55={name}\x01", f"278={seq}{side}\x01"],
                "W": [f"269={side}\x01", "", ""],
            }[kind]
            values = [f"270={price}\x01", "271=1000000\x01", f"272={date}\x01", f"273={clock}\x01"]
            if order == "jspurefix":
                values.reverse()
            group += "".join(fields + values)
    head = {
        "quickfix": f"35={kind}\x0134={seq}\x0149=LP1\x0152={stamp}\x0156=TICKVAULT\x01",
        "jspurefix": f"35={kind}\x0149=LP1\x0156=TICKVAULT\x0134={seq}\x0152={stamp}\x01",
    }[order]
    return frame(f"{head}262=1\x01{symbol if kind == 'W' else ''}268={entries}\x01{group}")


def ours(data: bytes) -> list[MarketData]:
    decoder, framer, found = Decoder("FIX.4.4", "LP1", "TICKVAULT"), Framer(), []
    for at in range(0, len(data), 131_072):
        frames, garbled = framer.feed(data[at : at + 131_072], 0)
        assert not garbled
        for piece in frames:
            matched = decoder.match(piece)
            if matched is None:
                message = parse(piece)
                decoder.learn(message)
                matched = decode(message)
            found.append(matched)
    return found


def theirs(messages: list[bytes]) -> list[simplefix.FixMessage]:
    """Simplefix's parser alone, without picking entries out of its pairs: that would cost it more."""
    parser, found = simplefix.FixParser(), []
    for message in messages:
        parser.append_buffer(message)
        found.append(parser.get_message())
    return found


def entries_of(message: simplefix.FixMessage) -> list[tuple]:
    """What simplefix read, in the shape of ours."""
    entries: list[dict[int, bytes]] = []
    delimiter = None
    for tag, value in message.pairs:
        number = int(tag)
        if number == 268:
            delimiter = 0
        elif delimiter is not None and number != 10:
            delimiter = delimiter or number
            if number == delimiter:
                entries.append({})
            entries[-1][number] = value
    symbol = message.get(55) if message.get(35) == b"W" else None
    return [tuple(entry.get(tag, symbol if tag == 55 else None) for tag in ENTRY_TAGS) for entry in entries]


def measure() -> dict[str, float]:
    """decoder_to_simplefix: the ratio of messages a second, best of several rounds each, taken in turn."""
    messages = mix()
    data = b"".join(messages)
    for mine, reference in zip(ours(data), theirs(messages), strict=True):
        assert [tuple(entry) for entry in mine.entries] == entries_of(reference), "results differ"
    best_ours = best_theirs = 0.0
    for _ in range(ROUNDS):
        started = time.perf_counter()
        ours(data)
        best_ours = max(best_ours, len(messages) / (time.perf_counter() - started))
        started = time.perf_counter()
        theirs(messages)
        best_theirs = max(best_theirs, len(messages) / (time.perf_counter() - started))
    return {
        "decoder_messages_per_s": round(best_ours),
        "simplefix_messages_per_s": round(best_theirs),
        "decoder_to_simplefix": round(best_ours / best_theirs, 1),
    }
