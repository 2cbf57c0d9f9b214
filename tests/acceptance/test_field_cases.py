"""Cases 14, 15 and 21: the rules of fields. Whatever is wrong uses its number, is answered, and the session goes on."""

import time

import pytest
from lp import bid, scenario

from services.gateway.fix.wire import format_sending_time
from tests.unit.gateway.gateway_lp import entry, fields_of, frame_of, quote

X = quote("EUR/USD", "1.1", "1.2")
TEST_REQUEST = [(112, "hello")]
NEWS = [(148, "headline"), (33, 1), (58, "text")]


async def rejected(lp, gateway, msg_type, fields, *, reason, tag, text=None):
    """A Reject with this reason, and nothing else happens: market data goes on."""
    await lp.logs_on()
    lp.send(msg_type, fields)
    found = await lp.expect("3", {45: 2, 371: tag, 372: msg_type, 373: lp.reason(reason)})
    assert found.text(58).startswith(text or "")
    lp.send("X", X)
    await lp.settled()
    assert await gateway.bids() == [1.1]


@pytest.mark.parametrize(("msg_type", "fields"), [("1", [*TEST_REQUEST, (4999, "x")]), ("B", [*NEWS, (4999, "x")])])
@scenario()
async def test_14a_a_tag_that_is_not_defined_is_rejected(lp, gateway, msg_type, fields):
    await rejected(lp, gateway, msg_type, fields, reason=0, tag=4999, text="Invalid tag number")


@scenario()
async def test_14a_user_defined_tags_may_stand_in_session_messages(lp, gateway):
    await lp.logs_on()
    lp.send("1", [*TEST_REQUEST, (5001, "x"), (20_000, "y")])
    await lp.expect("0", {112: "hello"})
    await lp.settled()


@pytest.mark.parametrize("tag", [b"0", b"-1", b"x", b"1.5", b"9999999999"])
@scenario()
async def test_14a_a_tag_that_is_no_number_is_rejected(lp, gateway, tag):
    await lp.logs_on()
    head = fields_of((35, "1"), (34, 2), (49, "LP1"), (52, format_sending_time(time.time_ns())), (56, "TICKVAULT"))
    lp.send_bytes(frame_of(head + tag + b"=hello\x01", lp.begin))
    lp.lose()
    await lp.expect("3", {45: 2, 373: 0})
    await lp.settled()


@pytest.mark.parametrize(
    ("msg_type", "fields", "tag"), [("1", [], 112), ("2", [(16, 0)], 7), ("B", [(33, 1), (58, "text")], 148)]
)
@scenario()
async def test_14b_a_required_tag_that_is_missing_is_rejected(lp, gateway, msg_type, fields, tag):
    await rejected(lp, gateway, msg_type, fields, reason=1, tag=tag)


@pytest.mark.parametrize(("msg_type", "fields"), [("0", [(55, "EUR/USD")]), ("1", [*TEST_REQUEST, (55, "EUR/USD")])])
@scenario()
async def test_14c_a_tag_that_is_not_of_its_message_is_rejected(lp, gateway, msg_type, fields):
    await lp.logs_on()
    lp.send(msg_type, fields)
    found = await lp.expect("3", {45: 2, 371: 55, 372: msg_type})
    reason = 0 if lp.version == "5.0SP2" else 2  # the session's own dictionary, FIXT.1.1, does not know Symbol at all
    assert found.number(373) == reason
    await lp.settled()


@pytest.mark.parametrize("msg_type", ["1", "0", "B", "X", "y"])
@scenario()
async def test_14d_a_tag_without_a_value_is_rejected(lp, gateway, msg_type):
    await lp.logs_on()
    lp.send(msg_type, [(58, "")])
    await lp.expect("3", {45: 2, 371: 58, 373: 4, 58: "Tag specified without a value"})
    lp.send("X", X)
    await lp.settled()
    assert await gateway.bids() == [1.1]
    assert await gateway.reasons() == ["undecodable: Tag specified without a value"], "its bytes are kept"


@pytest.mark.parametrize(
    ("msg_type", "fields", "tag"), [("B", [*NEWS[:1], (61, "9"), *NEWS[1:]], 61), ("3", [(45, 1), (373, 9_999)], 373)]
)
@scenario()
async def test_14e_a_value_that_is_not_in_the_list_is_rejected(lp, gateway, msg_type, fields, tag):
    await rejected(lp, gateway, msg_type, fields, reason=5, tag=tag)


@pytest.mark.parametrize(
    ("msg_type", "fields", "tag"),
    [("B", [(42, "yesterday"), *NEWS], 42), ("B", [(148, "headline"), (33, "x"), (58, "text")], 33), ("3", [(45, "x")], 45)],
)
@scenario()
async def test_14f_a_value_of_the_wrong_format_is_rejected(lp, gateway, msg_type, fields, tag):
    await rejected(lp, gateway, msg_type, fields, reason=6, tag=tag)


@pytest.mark.parametrize("header", [(50, "desk"), (97, "N")])
@scenario()
async def test_14g_a_header_field_in_the_body_is_rejected(lp, gateway, header):
    await rejected(lp, gateway, "1", [*TEST_REQUEST, header], reason=14, tag=header[0])


@scenario()
async def test_14h_a_tag_that_is_repeated_is_rejected(lp, gateway):
    await rejected(lp, gateway, "1", [*TEST_REQUEST, *TEST_REQUEST], reason=13, tag=112)


@pytest.mark.parametrize("count", [0, 2, 9])
@scenario()
async def test_14i_a_group_of_another_size_than_its_count_says_is_rejected(lp, gateway, count):
    await rejected(lp, gateway, "B", [(148, "headline"), (33, count), (58, "text")], reason=16, tag=33)


@scenario()
async def test_14j_a_group_whose_first_tag_is_not_the_first_is_rejected(lp, gateway):
    await rejected(lp, gateway, "B", [(148, "headline"), (33, 1), (354, 1), (355, "x"), (58, "text")], reason=15, tag=354)


@scenario()
async def test_14k_a_value_with_a_separator_in_it_is_rejected(lp, gateway):
    await lp.logs_on()
    lp.send("B", [(148, b"head\x01line"), (33, 1), (58, "text")])
    await lp.expect("3", {45: 2, 373: 0})
    await lp.settled()


@scenario()
async def test_14k_a_data_field_may_hold_separators(lp, gateway):
    await lp.logs_on()
    lp.send("X", [(354, 13), (355, b"a\x01270=9\x01b\x01c=d"), *X])
    lp.send("B", [(148, "headline"), (33, 1), (58, "text"), (354, 3), (355, b"a\x01b")])
    await lp.expect("j", {45: 3, 372: "B"})
    await lp.settled()
    assert await gateway.bids() == [1.1]


BROKEN_QUOTES = {
    "count": ([(268, 3), *X[2:]], "undecodable: NoMDEntries(268) says 3, there are 2"),
    "no count": (X[2:], "undecodable: field 268 is missing"),
    "price twice": ([(268, 1), *entry("0", "1.1", action="0", symbol="EUR/USD"), (270, "9")], "undecodable: field 270 appears"),
    "price": (bid("1,1"), "price b'1,1' is not a decimal number"),
    "symbol": (quote("nobody asked", "1", "2"), "b'nobody asked' is not a symbol"),
    "another symbol": (quote("XAG/USD", "1", "2"), "symbol is not in the feed's list"),
}


@pytest.mark.parametrize("broken", BROKEN_QUOTES)
@scenario()
async def test_14_market_data_that_breaks_a_rule_is_kept_in_quarantine_and_not_rejected(lp, gateway, broken):
    fields, reason = BROKEN_QUOTES[broken]
    await lp.logs_on()
    lp.send("X", fields)
    lp.send("X", X)
    if broken == "symbol":  # whose book it was nobody knows: fresh snapshots are asked for
        await lp.resubscribed()
    await lp.settled()
    assert await gateway.bids() == [1.1]
    (found,) = await gateway.reasons()
    assert found.startswith(reason)


@scenario()
async def test_14_market_data_with_tags_the_standard_does_not_know_is_read(lp, gateway):
    await lp.logs_on()
    lp.send("X", [(4999, "x"), (9_001, "y"), *X])
    await lp.settled()
    assert await gateway.bids() == [1.1]


# ---- 15: fields in another order


@scenario()
async def test_15_header_and_body_may_come_in_any_order(lp, gateway):
    await lp.logs_on()
    sent = format_sending_time(time.time_ns())
    headers = [[(34, None), (49, "LP1"), (56, "TICKVAULT"), (52, sent)], [(52, sent), (56, "TICKVAULT"), (49, "LP1"), (34, None)]]
    entries = [
        [(279, 0), (269, 0), (55, "EUR/USD"), (270, "1.1"), (271, 5)],
        [(279, 0), (271, 5), (270, "1.2"), (55, "EUR/USD"), (269, 0)],
        [(269, 0), (270, "1.3"), (279, 0), (271, 5), (55, "EUR/USD")],
    ]
    bodies = [[(262, "r"), (268, 1), *fields] for fields in entries] + [[(268, 1), *entries[0]]]
    for header in headers:
        for body in bodies:
            numbered = [(tag, lp.next_out if tag == 34 else value) for tag, value in header]
            lp.send_bytes(frame_of(fields_of((35, "X"), *numbered, *body), lp.begin))
            lp.lose()
    await lp.settled()
    assert await gateway.bids() == [1.1, 1.2, 1.3, 1.1] * 2


@scenario()
async def test_15_session_messages_may_have_their_fields_in_any_order(lp, gateway):
    await lp.logs_on()
    lp.send("2", [(16, 0), (7, 1)])
    await lp.expect("4", {34: 1, 36: 3})
    await lp.resubscribed()
    lp.send("3", [(58, "why"), (45, 1)])
    lp.send("4", [(36, 9), (123, "Y")])
    lp.next_out = 9
    await lp.resubscribed()
    await lp.settled()


# ---- 21: a group of no entries


@scenario()
async def test_21_a_group_of_no_entries_is_accepted(lp, gateway):
    await lp.logs_on()
    lp.send("X", [(262, "r"), (268, 0)])
    lp.send("B", [(148, "headline"), (33, 1), (58, "text"), (146, 0)])
    await lp.expect("j", {45: 3, 372: "B"})
    lp.send("X", X)
    await lp.settled()
    assert await gateway.bids() == [1.1]
