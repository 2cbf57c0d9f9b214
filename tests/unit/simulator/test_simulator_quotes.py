"""Quotes by QuoteRequest: S, or i for several at once."""

import pytest
from simulator_desk import NOW_NS, SYMBOLS, groups, make_quote, seqs, types

NAMES = [symbol.decode() for symbol in SYMBOLS]
SAID = {
    132: "1.08512", 133: "1.08518", 134: "5", 135: "10", 60: "20261118-11:06:40.123",
}  # fmt: skip


@pytest.fixture
def quoting(new_desk):
    desk = new_desk(stream="quote")
    desk.log_on()
    return desk


def test_a_quote_request_is_answered_with_the_quote_as_it_stands_and_then_all_that_follow(quoting):
    quoting.quotes[b"EUR/USD"] = make_quote()
    sent = quoting.ask_quotes("EUR/USD", "GBP/USD") + quoting.publish(
        make_quote(), make_quote(b"GBP/USD"), make_quote(b"XAU/USD")
    )
    assert types(sent) == [b"S"] * 3
    assert [(message.get(131), message.get(55)) for message in sent] == [
        (b"Q1", b"EUR/USD"), (b"Q1", b"EUR/USD"), (b"Q1", b"GBP/USD"),
    ]  # fmt: skip
    assert {tag: sent[0].get(tag).decode() for tag in SAID} == SAID
    assert len({message.get(117) for message in sent}) == 3
    assert [line.split(",")[1:3] for line in quoting.ledger_lines()] == [["2", "EUR/USD"], ["3", "EUR/USD"], ["4", "GBP/USD"]]


def test_the_event_time_has_the_decimals_it_needs_and_absent_sizes_are_left_out(quoting):
    quoting.ask_quotes("EUR/USD")
    (quote,) = quoting.publish(make_quote(ts=NOW_NS + 1, bid_size=b"", ask_size=b""))
    assert [quote.get(tag) for tag in (60, 134, 135)] == [b"20261118-11:06:40.123000001", None, None]


def test_quotes_are_resent(quoting):
    quoting.ask_quotes("EUR/USD")
    quoting.publish(make_quote(), make_quote())
    assert seqs(quoting.say("2", (7, 2), (16, 0))) == [2, 3]


@pytest.mark.parametrize("fix", ["FIX.4.2", "FIX.4.4", "FIX.5.0SP2"])
def test_a_mass_quote_has_a_set_for_each_request(new_desk, fix):
    desk = new_desk(stream="mass_quote", symbols_per_message=3, fix=fix)
    desk.log_on()
    desk.ask_quotes("EUR/USD", "XAU/USD", request="A")
    desk.ask_quotes("GBP/USD", request="B")
    (message,) = desk.publish(*[make_quote(symbol) for symbol in SYMBOLS])
    assert [message.get(tag) for tag in (35, 296)] == [b"i", b"2"]
    sets = groups(message, 302)
    assert [(found[302], found[304], found[295]) for found in sets] == [("A", "2", "2"), ("B", "1", "1")]
    assert [found.get(311) for found in sets] == (["EUR/USD", "GBP/USD"] if fix == "FIX.4.2" else [None, None])
    entries = groups(message, 299)
    assert [(entry[299], entry[55]) for entry in entries] == [("1", "EUR/USD"), ("2", "XAU/USD"), ("1", "GBP/USD")]
    assert {tag: entries[0][tag] for tag in SAID} == SAID
    assert [line.split(",")[1:3] for line in desk.ledger_lines()] == [["2", "EUR/USD"], ["2", "XAU/USD"], ["2", "GBP/USD"]]
    assert message.get(117) != desk.publish(make_quote())[0].get(117)


def test_a_mass_quote_answers_the_request(new_desk):
    desk = new_desk(stream="mass_quote")
    desk.quotes[b"EUR/USD"] = make_quote()
    desk.log_on()
    (message,) = desk.ask_quotes("EUR/USD")
    assert [message.get(tag) for tag in (35, 302, 299, 55)] == [b"i", b"Q1", b"1", b"EUR/USD"]
    assert desk.say("b", (117, "Q1"), (297, 0)) == []


@pytest.mark.parametrize(
    ("fix", "symbol", "said"),
    [
        ("FIX.4.4", "NO/PE", {35: b"AG", 131: b"Q1", 658: b"1", 146: b"1", 55: b"NO/PE", 58: b"unknown symbol NO/PE"}),
        ("FIX.5.0SP2", "GBP/USD", {35: b"AG", 131: b"Q1", 658: b"6", 55: b"GBP/USD", 58: b"no permission for GBP/USD"}),
        ("FIX.4.2", "NO/PE", {35: b"b", 131: b"Q1", 297: b"5", 300: b"1", 58: b"unknown symbol NO/PE"}),
        ("FIX.4.2", "GBP/USD", {35: b"b", 131: b"Q1", 297: b"5", 300: b"9"}),
    ],
)
def test_a_quote_request_may_be_refused(new_desk, fix, symbol, said):
    desk = new_desk(stream="quote", fix=fix, refused=frozenset({b"GBP/USD"}))
    desk.log_on()
    (refusal,) = desk.ask_quotes("EUR/USD", symbol)
    assert {tag: refusal.get(tag) for tag in said} == said
    assert desk.publish(*[make_quote(name) for name in SYMBOLS]) == []


def test_an_id_in_use_and_a_request_for_nothing_are_refused(quoting):
    quoting.ask_quotes("EUR/USD")
    assert types(quoting.ask_quotes("GBP/USD")) == [b"AG"]
    assert types(quoting.ask_quotes(request="Q2")) == [b"3"]
    assert types(quoting.say("R", (146, 1), (55, "EUR/USD"))) == [b"3"]


@pytest.mark.parametrize(("stream", "request_type"), [("quote", "V"), ("mass_quote", "V"), ("market_data", "R")])
def test_an_lp_has_one_way_to_subscribe(new_desk, stream, request_type):
    desk = new_desk(stream=stream)
    desk.log_on()
    (reject,) = desk.say(request_type, (262, "R1"), (131, "Q1"), (263, 1), (146, 1), (55, "EUR/USD"))
    assert (reject.get(35), reject.get(380)) == (b"j", b"3")


def test_market_data_may_be_refused_too(new_desk):
    desk = new_desk(refused=frozenset({b"GBP/USD"}))
    desk.log_on()
    (refusal,) = desk.subscribe("EUR/USD", "GBP/USD")
    assert [refusal.get(tag) for tag in (35, 262, 281, 58)] == [b"Y", b"R1", b"3", b"no permission for GBP/USD"]
    assert desk.subscribe("EUR/USD") == []
    assert types(desk.publish(make_quote())) == [b"X"]
