"""Imported ticks are marked as captured ones are; late is never one of the marks."""

from hypothesis import given
from hypothesis import strategies as st
from import_files import opened, rows_of, write

from libs.common.domain.moment import NS_PER_DAY, NS_PER_S
from libs.common.domain.price import format_price
from libs.common.domain.record import Flag
from services.gateway.fix.decoder import MarketData
from services.gateway.fix.wire import Clock, format_sending_time
from services.gateway.market.top import Market

T0 = 1549267200 * NS_PER_S
QUOTES = st.lists(
    st.tuples(
        st.sampled_from([b"EURUSD", b"GBPUSD"]),
        st.integers(0, 200_000),
        st.none() | st.integers(90, 130),
        st.none() | st.integers(90, 130),
    ).filter(lambda quote: quote[2] is not None or quote[3] is not None),
    min_size=1,
    max_size=20,
)


def captured(quotes):
    market, ticks = Market("LP1", {}, None, Clock()), []
    for symbol, seconds, bid, ask in quotes:
        date, time = format_sending_time(T0 + seconds * NS_PER_S).encode().split(b"-")
        entries = [
            (None, side, None, None, str(price).encode(), None, date, time)
            for side, price in ((b"0", bid), (b"1", ask))
            if price is not None
        ]
        message = MarketData(1, date + b"-" + time, None, symbol, snapshot=True, entries=entries)
        market.apply(message, T0 + seconds * NS_PER_S, T0 + 10 * NS_PER_DAY, 0, ticks, [])
    return ticks


@given(QUOTES)
def test_the_marks_are_those_of_the_gateway(tmp_path_factory, quotes):
    expected = captured(quotes)
    lines = [f"{T0 // NS_PER_S + seconds},{symbol.decode()},{bid or ''},{ask or ''}" for symbol, seconds, bid, ask in quotes]
    path = write(tmp_path_factory.mktemp("x"), "x.csv", "time,symbol,bid,ask\n" + "\n".join(lines))
    rows = rows_of(opened(path))
    assert [(row[0], row[1], row[6]) for row in rows] == [(tick[0], tick[2], tick[9] | Flag.IMPORTED) for tick in expected]


def test_the_summary_of_a_day_counts_what_was_read_and_rejected(tmp_path):
    ticks = [
        (0, "1.1", "1.2"),
        (60, "1.3", "1.2"),
        (30, "1.1", "1.2"),
        (86_400 * 2, "1.1", "1.1"),
        (61, "x", "1"),
        (62, "1", "y"),
    ]
    lines = "".join(f"{T0 // NS_PER_S + at},EURUSD,{bid},{ask}\n" for at, bid, ask in ticks)
    file = opened(write(tmp_path, "x.csv", f"time,symbol,bid,ask\n{lines}what is this\n"))
    rows = rows_of(file)
    assert [Flag(row[6]) ^ Flag.IMPORTED for row in rows] == [
        Flag(0), Flag.CROSSED | Flag.SPIKE, Flag.OUT_OF_ORDER | Flag.SPIKE, Flag.LOCKED,
    ]  # fmt: skip
    days = {(symbol, day - T0 // NS_PER_DAY): summary for (symbol, day), summary in file.summary.days.items()}
    first, third = days["EURUSD", 0], days["EURUSD", 2]
    assert (first.count, first.first, first.last, first.crossed, first.rejected) == (3, T0, T0 + 60 * NS_PER_S, 1, 2)
    assert (third.count, third.first, third.last, third.crossed, third.rejected) == (1, third.last, third.first, 0, 0)
    assert file.summary.reasons == {"a price is not a decimal number": 2, "1 columns where the others have 4": 1}
    assert (file.summary.rows, file.summary.rejected, format_price(rows[0][2])) == (4, 3, "1.1")
