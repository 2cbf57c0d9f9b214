"""A run of plain quotes taken straight from the buffer is what the long way, frame by frame, would have made of it."""

from gateway_lp import T0, Lp, build, entry, increment, quote
from hypothesis import given, settings
from hypothesis import strategies as st

from libs.common.domain.moment import NS_PER_S
from services.gateway.fix.quotes import QuoteMatcher
from services.gateway.fix.session import Session


class NoRuns(QuoteMatcher):
    """The long way."""

    run_shape = None


def session(*, with_runs: bool) -> Lp:
    lp = Lp(symbols=("EUR/USD", "XAU/USD", "eur/usd"))
    if not with_runs:
        lp.session._quotes = NoRuns("FIX.4.4", "LP1", "TICKVAULT")
    lp.connect().receive(build("A", 1, [(98, 0), (108, 30), (141, "Y")]))
    return lp.receive(plain(2)).receive(plain(3))  # closes the first gap, then teaches the shape


def plain(seq, bid="1.1", ask="1.2", symbol="EUR/USD", *, at=T0, date="20261120", time="10:00:00.001") -> bytes:
    return build("X", seq, quote(symbol, bid, ask, date=date, time=time), at=at)


def damaged(frame: bytes, at: int) -> bytes:
    return frame[: at % len(frame)] + b"\xfe" + frame[at % len(frame) + 1 :]


PRICES = st.sampled_from(["1.1", "1.2", "1.3", "1.10000", "9", "0.000000001"])
MESSAGES = st.one_of(
    *[st.builds(lambda b, a, s, ms: lambda seq: plain(seq, b, a, s, time=f"10:00:00.{ms:03d}"), PRICES, PRICES,
                st.sampled_from(["EUR/USD", "XAU/USD", "eur/usd"]), st.integers(0, 2))] * 6,
    st.sampled_from([
        lambda seq: plain(seq, "NaN"),
        lambda seq: plain(seq, "1.1", "-1"),
        lambda seq: plain(seq, symbol="GBP/USD"),
        lambda seq: plain(seq, symbol="../" + "x" * 40),
        lambda seq: plain(seq, date="20261121"),  # a day ahead
        lambda seq: plain(seq, date="2026112x"),
        lambda seq: plain(seq, date="20261119", time="23:59:59.999999999"),
        lambda seq: plain(seq, at=T0 - 500 * NS_PER_S),  # beyond the tolerance
        lambda seq: plain(seq).replace(b"9=2", b"9=3", 1),
        lambda seq: plain(seq).replace(b"\x0110=", b"\x0110=0", 1),
        lambda seq: plain(seq)[:-40],
        lambda seq: plain(seq + 1),
        lambda seq: plain(1),
        lambda seq: build("X", seq, quote("EUR/USD", "1.1", "1.2"), header=((43, "Y"), (122, "20261120-10:00:00"))),
        lambda seq: build("0", seq),
        lambda seq: build("1", seq, [(112, "t")]),
        lambda seq: build("X", seq, increment(entry("0", action="2", symbol="EUR/USD"))),
        lambda seq: build("X", seq, quote("EUR/USD", "1.1", "1.2")),
        lambda seq: b"noise",
    ]),
    st.integers(0, 300).map(lambda at: lambda seq: damaged(plain(seq), at)),
)  # fmt: skip


@settings(deadline=None, max_examples=300)
@given(st.lists(MESSAGES, max_size=25), st.lists(st.integers(1, 400), max_size=6))
def test_a_run_gives_the_same_ticks_numbers_flags_quarantine_and_state_as_frame_by_frame(messages, cuts) -> None:
    data = b""
    seq = 4
    for message in messages:
        piece = message(seq)
        data += piece
        seq += 1 if piece.startswith(b"8=FIX") else 0
    chunks = []
    for cut in cuts:
        chunks.append(data[:cut])
        data = data[cut:]
    quick, slow = session(with_runs=True), session(with_runs=False)
    for chunk in (*chunks, data):
        quick.receive(chunk)
        slow.receive(chunk)
    assert (quick.ticks, quick.gaps, quick.quarantined) == (slow.ticks, slow.gaps, slow.quarantined)
    assert quick.session.snapshot(0) == slow.session.snapshot(0)
    assert quick.session.counts == slow.session.counts


def test_the_run_is_really_taken() -> None:
    lp = session(with_runs=True)
    taken = []
    apply_run = lp.session.market.apply_run

    def watched(*arguments):
        taken.append(apply_run(*arguments))
        return taken[-1]

    lp.session.market.apply_run = watched
    data = b"".join(plain(seq, f"1.{seq}", f"2.{seq}") for seq in range(4, 50))
    lp.receive(data)
    assert [(position, next_in) for position, next_in, _ in taken] == [(len(data), 50)]
    assert len(lp.ticks) == 48
    assert isinstance(lp.session, Session)
