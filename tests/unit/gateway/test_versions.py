"""FIX 4.2, 4.4 and 5.0SP2: what differs on the wire, and what an LP may be asked with."""

import pytest
from gateway_lp import Lp, both_sides, entry, established, increment, make_feed, quote
from pydantic import ValidationError

from libs.common.domain.record import Flag
from services.gateway.fix.session import Session
from services.gateway.journal import Direction, Record

VERSIONS = {
    "4.2": {"begin_string": "FIX.4.2"},
    "4.4": {},
    "5.0SP2": {"begin_string": "FIXT.1.1", "default_appl_ver_id": "9"},
}
each_version = pytest.mark.parametrize("version", VERSIONS.values(), ids=VERSIONS)


@each_version
def test_the_same_quotes_give_the_same_ticks(version):
    lp = established(**version)
    lp.send("W", both_sides("EUR/USD", "1.1", "1.2")).send("X", quote("EUR/USD", "1.15", "1.25")).send(
        "X", quote("EUR/USD", "2", "3")
    )
    assert [(tick.bid, tick.ask, tick.seq) for tick in lp.ticks] == [
        (1_100_000_000, 1_200_000_000, 0), (1_150_000_000, 1_250_000_000, 1), (2_000_000_000, 3_000_000_000, 2),
    ]  # fmt: skip


def test_6_the_logon_names_the_application_version_and_so_must_the_answer():
    lp = Lp(**VERSIONS["5.0SP2"]).connect()
    assert [lp.got[0].get(tag) for tag in (8, 1137)] == [b"FIXT.1.1", b"9"]
    lp.next_out = 1
    lp.send("A", [(98, 0), (108, 30), (141, "Y")])
    assert [message.text(35) for message in lp.got[1:]] == ["3", "5"]
    assert [lp.last("3").get(tag) for tag in (371, 373)] == [b"1137", b"1"]
    assert "1137" not in str(Lp().connect().got[0].fields)


@pytest.mark.parametrize("fields", [{"begin_string": "FIXT.1.1"}, {"default_appl_ver_id": "9"}, {"begin_string": "FIX.4.3"}])
def test_a_version_that_cannot_be_is_refused(fields):
    with pytest.raises(ValidationError):
        make_feed(**fields)


@each_version
def test_the_list_of_symbols_is_asked_for_in_the_words_of_the_version(version):
    lp = Lp(symbols="all", **version).connect().logon()
    asked = lp.got[-1]
    if lp.begin == b"FIX.4.2":
        assert (asked.text(35), asked.text(321)) == ("c", "3")
        for number, symbol in enumerate(("EUR/USD", "GBP/USD")):
            lp.send("d", [(320, asked.text(320)), (322, number), (323, 4), (55, symbol)])
    else:
        assert (asked.text(35), asked.text(559)) == ("x", "4")
        lp.send("y", [(320, asked.text(320)), (322, 1), (560, 0), (146, 2), (55, "EUR/USD"), (55, "GBP/USD")])
    assert [message.text(55) for message in lp.got if message.text(35) == "V"] == ["EUR/USD", "GBP/USD"]


def test_a_security_definition_may_list_its_symbols_as_underlyings():
    lp = Lp(symbols="all", **VERSIONS["4.2"]).connect().logon()
    lp.send("d", [(320, "1"), (322, 1), (323, 4), (146, 2), (311, "EUR/USD"), (311, "GBP/USD")])
    assert lp.session.subscriptions.symbols == ["EUR/USD", "GBP/USD"]


@each_version
def test_an_lp_that_lists_nothing_makes_an_alarm_that_says_what_to_do(version):
    lp = Lp(symbols="all", **version).connect().logon()
    lp.send("j", [(45, 2), (372, lp.got[-1].text(35)), (380, 3), (58, "not supported")])
    assert lp.session.alarms["no_list"] == (
        'the LP does not list its symbols (not supported): name them in the feed\'s `symbols` instead of "all"'
    )


def test_4_2_leaves_out_the_reject_reasons_it_does_not_know():
    twice = [(112, "a"), (112, "a")]
    for version, reason in (("4.2", None), ("4.4", b"13")):
        lp = established(**VERSIONS[version]).send("1", twice)
        assert [lp.last("3").get(tag) for tag in (45, 371, 372, 373)] == [b"2", b"112", b"1", reason]


# ---- quotes


def streaming(**settings) -> tuple[Lp, str]:
    lp = Lp(subscribe_by="quote_request", **settings).connect().logon()
    asked = lp.last("R")
    assert (asked.text(146), asked.text(55)) == ("1", "EUR/USD")
    return lp, asked.text(131)


@each_version
def test_an_lp_that_only_streams_quotes_is_asked_with_quote_requests(version):
    lp, request = streaming(**version)
    lp.send(
        "S",
        [(131, request), (117, "q1"), (55, "EUR/USD"), (132, "1.1"), (133, "1.2"), (134, "1000"), (60, "20261120-09:59:59.5")],
    )
    lp.send("S", [(131, request), (117, "q2"), (132, "1.15")])
    first, second = lp.ticks
    assert (first.bid, first.ask, first.bid_size, first.ask_size) == (1_100_000_000, 1_200_000_000, 1000.0, None)
    assert lp.now - first.ts == 500_000_000
    assert (second.symbol, second.bid, second.ask, second.flags) == ("EUR/USD", 1_150_000_000, None, Flag.ONE_SIDED)


def test_a_quote_that_names_our_request_alone_is_known_from_a_snapshot_too():
    lp, request = streaming()
    lp.send("S", [(131, request), (117, "q1"), (132, "1.1"), (133, "1.2")])
    again = Session(lp.session.feed)
    again.apply(Record(0, lp.now, Direction.SNAPSHOT, lp.session.snapshot(0)))
    again.apply(Record(0, lp.now, Direction.IN, lp.message("S", [(131, request), (117, "q2"), (132, "1.3"), (133, "1.4")])))
    assert [(tick[0], tick[3], tick[5]) for tick in again.take().ticks] == [("EUR/USD", 1, 1_300_000_000)]


@each_version
def test_a_mass_quote_gives_one_tick_a_symbol_and_is_acknowledged_where_that_is_wanted(version):
    lp = established(symbols="all", **version)
    entries = [(299, 0), (55, "EUR/USD"), (132, "1.1"), (133, "1.2"), (299, 1), (55, "GBP/USD"), (132, "1.3"), (133, "1.4")]
    lp.send("i", [(117, "q"), (301, 2), (296, 1), (302, "s"), (304, 2), (295, 2), *entries])
    assert [(tick.symbol, tick.bid) for tick in lp.ticks] == [("EUR/USD", 1_100_000_000), ("GBP/USD", 1_300_000_000)]
    assert [lp.last("b").text(tag) for tag in (117, 297)] == ["q", "0"]


def test_a_refused_quote_request_is_not_repeated():
    for version, refusal in (("4.4", ("AG", [(658, 1)])), ("4.2", ("b", [(297, 5)]))):
        lp, request = streaming(**VERSIONS[version])
        lp.send(refusal[0], [(131, request), *refusal[1], (58, "unknown symbol")])
        assert list(lp.session.subscriptions.refused) == ["EUR/USD"]
        assert lp.session.alarms["symbols_refused"].endswith("unknown symbol")


# ---- (10) NextExpectedMsgSeqNum, (17) resend in chunks


def test_10_the_next_expected_number_fills_both_directions_without_a_resend_request():
    lp = (
        established(reset_on_logon=False, next_expected_seq_num=True, symbols=("EUR/USD",))
        .lose("X", quote("EUR/USD", "1", "2"))
        .drop()
    )
    expected = lp.state.next_in
    lp.connect()
    assert lp.last("A").get(789) == b"%d" % expected
    lp.send("A", [(98, 0), (108, 30), (789, 2)])
    fill = next(message for message in lp.got if message.text(35) == "4")
    assert [fill.text(tag) for tag in (34, 123, 43)] == ["2", "Y", "Y"]
    assert ("2" in lp.types(), lp.state.status) == (False, "established")
    lp.resend("X", expected, quote("EUR/USD", "1", "2"))
    assert (lp.state.next_in, len(lp.ticks), lp.state.resend_deadline) == (expected + 2, 1, 0)


def test_10_a_number_too_high_ends_the_session():
    lp = Lp(next_expected_seq_num=True).connect()
    lp.next_out = 1
    lp.send("A", [(98, 0), (108, 30), (141, "Y"), (789, 9)])
    assert (lp.types()[-1], lp.last("5").text(58)) == ("5", "NextExpectedMsgSeqNum(789) is too high, expecting 2 but received 9")


def test_10_an_lp_that_does_not_know_it_is_asked_as_usual():
    lp = established(reset_on_logon=False, next_expected_seq_num=True).lose().drop().connect().logon(reset=False)
    assert [lp.last("2").text(tag) for tag in (7, 16)] == ["2", "0"]


def test_17_a_resend_is_asked_for_in_chunks_also_where_a_gap_fill_jumps_past_the_end_of_one():
    lp = established(resend_chunk=2)
    for _ in range(7):
        lp.lose()
    lp.send("X", quote("EUR/USD", "1", "2"))

    def asked():
        return [(message.text(7), message.text(16)) for message in lp.got if message.text(35) == "2"]

    assert asked() == [("2", "3")]
    lp.resend("X", 2, quote("EUR/USD", "3", "4"))
    assert asked() == [("2", "3")]
    lp.resend("X", 3, quote("EUR/USD", "3", "4"))
    assert asked() == [("2", "3"), ("4", "5")]
    lp.resend("4", 4, [(123, "Y"), (36, 8)])
    assert asked()[2:] == [("8", "8")]
    lp.resend("X", 8, quote("EUR/USD", "3", "4"))
    assert (lp.state.next_in, lp.state.resend_deadline, len(lp.ticks)) == (10, 0, 4)


def test_an_answer_goes_back_the_way_its_question_came():
    lp = established().send("1", [], header=((115, "DESK"), (116, "trader"), (128, "HUB")))
    assert [lp.last("3").text(tag) for tag in (128, 129, 115)] == ["DESK", "trader", "HUB"]


def test_depth_and_trades_are_asked_for():
    lp = Lp(market_depth=0, trades=True).connect().logon()
    asked = lp.last("V")
    assert (asked.text(264), asked.text(267)) == ("0", "3")
    assert [value for tag, value in asked.fields if tag == 269] == [b"0", b"1", b"2"]
    lp.send(
        "W", [(262, "r"), (55, "EUR/USD"), (268, 3), *entry("0", "1.1", "5"), *entry("0", "1.0", "6"), *entry("1", "1.2", "7")]
    )
    lp.send("X", increment(entry("2", "1.15", "3", action="0", symbol="EUR/USD", entry_id="t1")))
    assert [(book.bids, book.asks) for book in lp.books] == [
        ([(1_100_000_000, 5.0), (1_000_000_000, 6.0)], [(1_200_000_000, 7.0)])
    ]
    assert [(trade.price, trade.size, trade.trade_id, trade.seq) for trade in lp.trades] == [(1_150_000_000, 3.0, "t1", 0)]
    assert len(lp.ticks) == 1
