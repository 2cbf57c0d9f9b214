"""The dictionaries of the three FIX versions; numbers are those of the FIX session test cases."""

import pytest

from services.gateway.fix.dictionary import dictionary
from services.gateway.fix.wire import FieldError, Message, encode, parse

VERSIONS = ("FIX.4.2", "FIX.4.4", "FIXT.1.1")
NOW_NS = 1_800_000_000 * 10**9
TIME = "20260105-10:00:00"
ORDER = [(11, "id"), (21, "1"), (40, "1"), (54, "1"), (38, "002000.00"), (55, "INTC"), (60, TIME)]
LOGON = {
    "FIX.4.2": [(98, 0), (108, 30)],
    "FIX.4.4": [(98, 0), (108, 30), (141, "Y"), (553, "user"), (554, "secret")],
    "FIXT.1.1": [(98, 0), (108, 30), (141, "Y"), (1137, "9"), (384, 1), (372, "W"), (385, "R")],
}


@pytest.fixture(params=VERSIONS)
def version(request):
    return request.param


def message(version, msg_type, fields=()):
    return parse(encode(version, "LP1", "TICKVAULT", 2, msg_type, fields, now_ns=NOW_NS))


def check(version, msg_type, fields=(), **options):
    dictionary(version).check(message(version, msg_type, fields), **options)


def fault(version, msg_type, fields=()):
    return fault_of(version, message(version, msg_type, fields))


def fault_of(version, of):
    with pytest.raises(FieldError) as raised:
        dictionary(version).check(of)
    return raised.value.reason, raised.value.tag, str(raised.value)


def without(tag, fields):
    return [field for field in fields if field[0] != tag]


def swapped(version, msg_type, fields, tag):
    """The message with one header field behind the body."""
    found = message(version, msg_type, fields).fields
    moved = [field for field in found if field[0] == tag]
    return Message([field for field in found[:-1] if field[0] != tag] + moved + found[-1:])


# ---- names


def test_tags_and_messages_have_names(version):
    found = dictionary(version)
    assert found.tag_name(34) == "MsgSeqNum"
    assert found.tag_name(269) == "MDEntryType"
    assert found.message_name(b"0") == "Heartbeat"
    assert found.message_name(b"W") == "MarketDataSnapshotFullRefresh"


def test_what_a_version_does_not_know_is_named_by_itself(version):
    found = dictionary(version)
    assert found.tag_name(49_999) == "49999"
    assert found.message_name(b"*") == "*"


def test_every_version_has_its_message_types():
    counts = {version: len(dictionary(version).message_types) for version in VERSIONS}
    assert counts == {"FIX.4.2": 46, "FIX.4.4": 93, "FIXT.1.1": 164}
    assert all({b"0", b"5", b"A", b"V", b"W", b"X", b"Y", b"j"} <= dictionary(version).message_types for version in VERSIONS)


def test_a_dictionary_is_read_once(version):
    assert dictionary(version) is dictionary(version)


# ---- what is valid


def test_session_messages_are_valid(version):
    check(version, "A", LOGON[version])
    check(version, "0")
    check(version, "0", [(112, "ping")])
    check(version, "1", [(112, "ping")])
    check(version, "2", [(7, 1), (16, 0)])
    check(version, "3", [(45, 2), (371, 55), (372, "V"), (373, 5), (58, "why")])
    check(version, "4", [(123, "Y"), (36, 9)])
    check(version, "5", [(58, "bye")])


def test_application_messages_are_valid(version):
    check(version, "D", ORDER)
    check(version, "V", [(262, "r1"), (263, 1), (264, 1), (265, 1), (267, 2), (269, 0), (269, 1), (146, 1), (55, "EUR/USD")])
    check(version, "Y", [(262, "r1"), (281, "0")])
    check(version, "j", [(45, 2), (372, "x"), (380, 3)])


def test_15_fields_of_header_and_body_may_stand_in_any_order(version):
    found = message(version, "D", ORDER).fields
    check_of = dictionary(version).check
    check_of(Message(found[:3] + found[3:7][::-1] + found[7:-1][::-1] + found[-1:]))


def test_21_a_count_of_zero_is_a_group_without_entries(version):
    check(version, "D", [*ORDER, (386, 0)])


def test_a_group_inside_a_group_is_read():
    party = [
        (453, 2),
        (448, "A"),
        (447, "D"),
        (452, 1),
        (802, 2),
        (523, "x"),
        (803, 1),
        (523, "y"),
        (448, "B"),
        (447, "D"),
        (452, 3),
    ]
    check("FIX.4.4", "D", [*ORDER, *party])
    check("FIXT.1.1", "D", [*ORDER, *party])
    assert fault("FIX.4.4", "D", [*ORDER, (453, 1), (448, "A"), (802, 3), (523, "x"), (523, "y")])[:2] == (16, 802)


def test_a_group_of_the_header_is_read():
    found = message("FIX.4.4", "0").fields
    hops = [(627, b"2"), (628, b"A"), (629, TIME.encode()), (628, b"B")]
    dictionary("FIX.4.4").check(Message(found[:-1] + hops + found[-1:]))


@pytest.mark.parametrize("fraction", ["", ".123", ".123456", ".123456789"])
def test_a_time_may_have_0_3_6_or_9_decimals(version, fraction):
    check(version, "D", [*without(60, ORDER), (60, TIME + fraction)])


def test_encoded_text_may_hold_the_separator(version):
    text = "日\x01本".encode()
    frame = encode(version, "LP1", "TICKVAULT", 2, "5", [(58, "bye"), (354, len(text)), (355, "@")], now_ns=NOW_NS)
    found = parse(frame.replace(b"355=@", b"355=" + text))
    assert found.get(355) == text
    dictionary(version).check(found)


def test_several_values_of_one_field_are_checked_one_by_one(version):
    check(version, "D", [*ORDER, (18, "1 2")])
    assert fault(version, "D", [*ORDER, (18, "1 ?")])[:2] == (5, 18)


# ---- what is not


def test_a_message_type_of_no_version_is_invalid(version):
    assert fault(version, "*") == (11, None, "Invalid MsgType")


def test_14a_an_undefined_tag_is_invalid(version):
    assert fault(version, "0", [(999, "HI")]) == (0, 999, "Invalid tag number")


def test_14a_an_undefined_user_defined_tag_is_invalid_unless_they_are_accepted(version):
    assert fault(version, "0", [(5000, "HI")]) == (0, 5000, "Invalid tag number")
    check(version, "0", [(5000, "HI")], accept_user_defined=True)
    with pytest.raises(FieldError, match="Invalid tag number"):
        check(version, "0", [(4999, "HI")], accept_user_defined=True)


def test_14b_a_missing_field_of_the_header_is_named(version):
    found = message(version, "0")
    assert fault_of(version, Message(without(56, found.fields))) == (1, 56, "Required tag missing")


def test_14b_a_missing_field_of_the_body_is_named(version):
    missing = 55 if version == "FIX.4.2" else 54
    assert fault(version, "D", without(missing, ORDER)) == (1, missing, "Required tag missing")
    assert fault(version, "1") == (1, 112, "Required tag missing")


def test_14b_a_fixt_logon_needs_the_default_version():
    assert fault("FIXT.1.1", "A", [(98, 0), (108, 30)])[:2] == (1, 1137)


def test_14b_a_missing_field_of_a_group_entry_is_named():
    entries = [(268, 2), (269, 0), (270, "1.1"), (269, 1)]
    assert fault("FIX.4.2", "W", [(55, "EUR/USD"), *entries])[:2] == (1, 270)
    check("FIX.4.2", "W", [(55, "EUR/USD"), *entries, (270, "1.2")])


def test_14c_a_tag_of_another_message_is_refused(version):
    assert fault(version, "0", [(58, "text")]) == (2, 58, "Tag not defined for this message type")


def test_14c_a_tag_of_the_application_is_unknown_to_a_session_message_of_fixt():
    assert fault("FIX.4.4", "0", [(55, "MSFT")])[0] == 2
    assert fault("FIXT.1.1", "0", [(55, "MSFT")])[0] == 0


def test_14c_a_member_of_a_group_outside_of_it_is_refused(version):
    assert fault(version, "V", [(262, "r1"), (263, 1), (264, 1), (269, 0)])[:2] == (2, 269)


def test_14d_an_empty_value_is_found_when_the_frame_is_parsed():
    with pytest.raises(FieldError) as raised:
        parse(b"8=FIX.4.4\x019=5\x0135=0\x0156=\x0110=000\x01")
    assert (raised.value.reason, raised.value.tag) == (4, 56)


def test_14e_a_value_that_is_none_of_the_field_s_is_refused(version):
    text = "Value is incorrect (out of range) for this tag"
    assert fault(version, "D", [*without(21, ORDER), (21, "4")]) == (5, 21, text)
    assert fault(version, "D", [*ORDER, (167, "BOO")]) == (5, 167, text)


@pytest.mark.parametrize(
    ("tag", "value"),
    [
        (38, "+200.00"),
        (38, "1e3"),
        (38, "."),
        (38, "NaN"),
        (40, "11"),
        (60, "20260105-25:00:00"),
        (60, "20261305-10:00:00"),
        (60, "10:00"),
    ],
)
def test_14f_a_value_in_a_wrong_format_is_refused(version, tag, value):
    assert fault(version, "D", [*without(tag, ORDER), (tag, value)]) == (6, tag, "Incorrect data format for value")


def test_14f_formats_of_session_fields(version):
    assert fault(version, "4", [(123, "X"), (36, 9)])[:2] == (6, 123)
    assert fault(version, "2", [(7, "1.5"), (16, 0)])[:2] == (6, 7)
    assert fault(version, "2", [(7, 1), (16, "9" * 5000)])[:2] == (6, 16)


def test_14g_header_body_and_trailer_stand_in_this_order(version):
    assert fault_of(version, swapped(version, "D", ORDER, 34)) == (14, 34, "Tag specified out of required order")
    found = message(version, "0", [(112, "x")]).fields
    assert fault_of(version, Message([*found[:-2], found[-1], found[-2]]))[:2] == (14, 112)


def test_14h_a_repeated_tag_is_refused(version):
    assert fault(version, "D", [*ORDER, (40, "2")]) == (13, 40, "Tag appears more than once")


def test_14i_a_group_has_as_many_entries_as_it_says(version):
    text = "Incorrect NumInGroup count for repeating group"
    sessions = [(336, "1"), (336, "2")]
    assert fault(version, "D", [*ORDER, (386, 3), *sessions]) == (16, 386, text)
    assert fault(version, "D", [*ORDER, (386, 1), *sessions]) == (16, 386, text)
    assert fault(version, "D", [*ORDER, (386, -1)]) == (16, 386, text)
    check(version, "D", [*ORDER, (386, 2), *sessions])


def test_an_entry_begins_with_the_first_tag_of_its_group():
    text = "Repeating group fields out of order"
    assert fault("FIX.4.4", "D", [*ORDER, (386, 1), (625, "2"), (336, "1")]) == (15, 625, text)
    assert fault("FIX.4.4", "D", [*ORDER, (386, 1), (336, "1"), (625, "2"), (625, "3")]) == (15, 625, text)
