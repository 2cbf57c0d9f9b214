"""A session is a fold: the same records give the same, from the beginning or from a snapshot, in any chunks."""

from itertools import pairwise

from gateway_lp import T0, Lp, both_sides, entry, increment, make_feed, quote, snapshot
from hypothesis import given, settings
from hypothesis import strategies as st

from libs.common.domain.record import Tick
from services.gateway.fix.session import Session
from services.gateway.journal import Direction, Record

SYMBOLS = ("EUR/USD", "GBP/USD")
PRICES = st.sampled_from(["1.1", "1.2", "1.3", "9.9", "NaN"])


class Fold:
    """A fresh session fed with records; what came of it."""

    def __init__(self, feed, restored=None):
        self.session = Session(feed)
        if restored is not None:
            self.session.apply(Record(0, 0, Direction.SNAPSHOT, restored))
        self.ticks, self.gaps, self.quarantined = [], [], []

    def apply(self, record):
        self.session.apply(record)
        outcome = self.session.take()
        self.ticks += [Tick(*row) for row in outcome.ticks]
        self.gaps += outcome.gaps
        self.quarantined += outcome.quarantined
        return self

    def result(self):
        return (self.ticks, self.gaps, self.quarantined, self.session.snapshot(0))


BODIES = st.one_of(
    st.builds(lambda s, b, a: ("X", quote(s, b, a)), st.sampled_from(SYMBOLS), PRICES, PRICES),
    st.builds(
        lambda s, b, a, ms: ("X", quote(s, b, a, date="20261120", time=f"09:59:59.{ms:03d}")),
        st.sampled_from(SYMBOLS), PRICES, PRICES, st.integers(0, 3),
    ),
    st.builds(
        lambda s, side, price, action, name: ("X", increment(entry(side, price, action=action, symbol=s, entry_id=name))),
        st.sampled_from([*SYMBOLS, None, "../", "XAU/USD"]), st.sampled_from("012"), PRICES, st.sampled_from("0125"),
        st.sampled_from(["a", "b", None]),
    ),
    st.builds(lambda s, b, a: ("W", both_sides(s, b, a)), st.sampled_from(SYMBOLS), PRICES, PRICES),
    st.builds(lambda b, number: ("S", [(131, number), (117, "q"), (132, b)]), PRICES, st.integers(0, 3)),
    st.builds(lambda s, b: ("W", snapshot(s, entry("0", b, entry_id="a"))), st.sampled_from(SYMBOLS), PRICES),
    st.sampled_from([("0", []), ("1", [(112, "t")]), ("2", [(7, 1), (16, 0)]), ("2", []), ("3", [(45, 1)]), ("D", []), ("*", []),
                     ("X", [(268, 5)]), ("Y", [(262, "?"), (281, "0")]), ("y", [(560, 0), (55, "A")])]),
)  # fmt: skip
STEPS = st.one_of(
    st.tuples(st.just("send"), BODIES),
    st.tuples(st.just("send"), BODIES),
    st.tuples(st.just("send"), BODIES),
    st.tuples(st.just("lose"), st.none()),
    st.tuples(st.just("resend"), st.integers(1, 4)),
    st.tuples(st.just("fill"), st.integers(1, 4)),
    st.tuples(st.just("jump"), st.integers(0, 3)),
    st.tuples(
        st.just("garble"), st.sampled_from([b"noise", b"8=FIX.4.4\x019=12\x0135=0", b"8=FI", b"8=FIX.4.4\x019=5000\x0135=0\x01"])
    ),
    st.tuples(st.just("wait"), st.sampled_from([1, 6, 31, 86_400])),
    st.tuples(st.just("reconnect"), st.booleans()),
    st.tuples(st.just("reset"), st.none()),
    st.tuples(st.just("logout"), st.none()),
    st.tuples(st.just("low"), st.none()),
)
FEEDS = st.fixed_dictionaries({"reset_on_logon": st.booleans(), "symbols": st.sampled_from([SYMBOLS, "all"])})


def play(feed, steps):
    """A conversation; the records of both directions are its journal."""
    lp = Lp(**feed).connect().logon(reset=feed["reset_on_logon"])
    for kind, what in steps:
        lp.wait(ms=1)
        expected = lp.state.next_in
        if kind == "send":
            lp.send(*what)
        elif kind == "lose":
            lp.lose()
        elif kind == "resend":
            for seq in range(expected, min(expected + what, lp.next_out)):
                lp.resend("X", seq, quote("EUR/USD", "1.1", "1.2"))
        elif kind == "fill" and expected < lp.next_out:
            lp.resend("4", expected, [(123, "Y"), (36, min(expected + what, lp.next_out))])
        elif kind == "jump":
            lp.next_out = max(lp.next_out, expected + what)
            lp.send("4", [(36, lp.next_out)], seq=1)
        elif kind == "garble":
            lp.receive(what)
        elif kind == "wait":
            lp.wait(what)
        elif kind == "reconnect":
            (lp.drop() if what else lp).connect().logon(reset=feed["reset_on_logon"])
        elif kind == "reset":
            lp.logon()
        elif kind == "logout":
            lp.send("5")
        elif kind == "low":
            lp.send("X", quote("EUR/USD", "1.1", "1.2"), seq=1)
    return lp


CONVERSATIONS = st.tuples(FEEDS, st.lists(STEPS, max_size=25))


@settings(deadline=None, max_examples=120)
@given(CONVERSATIONS)
def test_folding_the_journal_gives_what_the_live_session_gave(conversation):
    feed, steps = conversation
    lp = play(feed, steps)
    fold = Fold(make_feed(**feed))
    for record in lp.records:
        fold.apply(record)
    assert fold.result() == (lp.ticks, lp.gaps, lp.quarantined, lp.session.snapshot(0))


@settings(deadline=None, max_examples=120)
@given(CONVERSATIONS, st.floats(0, 1))
def test_a_snapshot_at_any_record_and_the_rest_give_what_the_whole_gives(conversation, place):
    feed, steps = conversation
    records = play(feed, steps).records
    cut = int(place * len(records))
    whole = Fold(make_feed(**feed))
    for record in records[:cut]:
        whole.apply(record)
    restored = Fold(make_feed(**feed), whole.session.snapshot(0))
    assert restored.session.snapshot(0) == whole.session.snapshot(0)
    whole.ticks, whole.gaps, whole.quarantined = [], [], []
    for record in records[cut:]:
        whole.apply(record)
        restored.apply(record)
    assert restored.result() == whole.result()


@settings(deadline=None, max_examples=120)
@given(FEEDS, st.lists(STEPS.filter(lambda step: step[0] not in {"wait", "reconnect", "logout"}), max_size=20), st.data())
def test_any_chunks_of_what_was_received_give_the_same_ticks(feed, steps, data):
    lp = play(feed, steps)
    received = b"".join(record.data for record in lp.records if record.direction is Direction.IN)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(received)), max_size=10)))
    bounds = [0, *cuts, len(received)]

    def ticks_of(chunks):
        fold = Fold(make_feed(**feed)).apply(Record(0, T0, Direction.OPENED, b""))
        for chunk in chunks:
            fold.apply(Record(0, T0, Direction.IN, chunk))
        fold.apply(Record(0, T0, Direction.CLOSED, b""))
        return fold.ticks, [item.raw for item in fold.quarantined if b"268=" in item.raw], fold.session.state.next_in

    assert ticks_of(received[start:end] for start, end in pairwise(bounds)) == ticks_of([received])


def test_no_market_data_that_reached_the_socket_is_lost():
    """A message is a tick, a duplicate or in quarantine: whatever else happens between."""

    @settings(deadline=None, max_examples=80)
    @given(
        FEEDS,
        st.lists(
            STEPS.filter(lambda step: step[0] != "send") | st.just(("send", ("X", quote("EUR/USD", "1.1", "1.2")))), max_size=25
        ),
    )
    def conversation(feed, steps):
        lp = play(feed, steps).drop()
        sent = sum(record.data.count(b"\x0135=X\x01") for record in lp.records if record.direction is Direction.IN)
        in_quarantine = sum(item.raw.count(b"\x0135=X\x01") for item in lp.quarantined)
        waiting = sum(b"\x0135=X\x01" in frame for _, frame in lp.state.held.values())
        # a garbled beginning swallows nothing, and what is held survives the connection where numbers do
        assert sent <= len(lp.ticks) + lp.session.counts.dropped_duplicates + in_quarantine + waiting

    conversation()
