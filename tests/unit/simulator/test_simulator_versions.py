"""What differs between FIX 4.2, 4.4 and 5.0SP2."""

import pytest
from simulator_desk import SYMBOLS, make_quote, seqs, types

VERSIONS = {"FIX.4.2": b"FIX.4.2", "FIX.4.4": b"FIX.4.4", "FIX.5.0SP2": b"FIXT.1.1"}


@pytest.mark.parametrize(("fix", "begin"), VERSIONS.items())
def test_all_that_is_sent_begins_with_the_version(new_desk, fix, begin):
    desk = new_desk(fix=fix)
    desk.quotes[b"EUR/USD"] = make_quote()
    sent = [*desk.log_on(), *desk.subscribe("EUR/USD"), *desk.publish(make_quote()), *desk.say("2", (7, 1), (16, 0))]
    assert types(sent) == [b"A", b"W", b"X", b"4", b"W", b"X"]
    assert {message.get(8) for message in sent} == {begin}


def test_5_0_says_its_application_version_and_wants_it_said(new_desk):
    desk = new_desk(fix="FIX.5.0SP2")
    (answer,) = desk.log_on()
    assert answer.get(1137) == b"9"


@pytest.mark.parametrize("version", [[], [(1137, 7)]])
def test_a_logon_without_the_application_version_is_refused(new_desk, version):
    desk = new_desk(fix="FIX.5.0SP2")
    (logout,) = desk.say("A", (98, 0), (108, 30), *version)
    assert (logout.get(35), logout.get(56), logout.get(58)) == (b"5", b"C", b"DefaultApplVerID(1137) must be 9")
    assert desk.line.ended == "closed"
    desk.connect()
    desk.seq = 1
    assert seqs(desk.log_on()) == [1]


@pytest.mark.parametrize("fix", ["FIX.4.2", "FIX.4.4"])
def test_before_5_0_there_is_no_application_version(new_desk, fix):
    (answer,) = new_desk(fix=fix).log_on()
    assert answer.get(1137) is None


def test_in_4_2_symbols_are_listed_by_security_definitions(new_desk):
    desk = new_desk(fix="FIX.4.2")
    desk.log_on()
    listed = desk.say("c", (320, "L"), (321, 3))
    assert [tuple(message.get(tag) for tag in (35, 320, 323, 393, 55)) for message in listed] == [
        (b"d", b"L", b"4", b"3", symbol) for symbol in SYMBOLS
    ]
    assert len({message.get(322) for message in listed}) == 3


@pytest.mark.parametrize(
    ("fix", "listing", "msg_type"),
    [
        ("FIX.4.2", True, "x"), ("FIX.4.4", True, "c"), ("FIX.5.0SP2", True, "c"),
        ("FIX.4.2", False, "c"), ("FIX.4.4", False, "x"), ("FIX.5.0SP2", False, "x"),
    ],
)  # fmt: skip
def test_where_there_is_no_list_the_request_is_rejected(new_desk, fix, listing, msg_type):
    desk = new_desk(fix=fix, listing=listing)
    desk.log_on()
    (reject,) = desk.say(msg_type, (320, "L"))
    assert [reject.get(tag) for tag in (35, 45, 372, 380)] == [b"j", b"2", msg_type.encode(), b"3"]
    assert desk.subscribe("EUR/USD") == []
    assert types(desk.publish(make_quote())) == [b"X"]
