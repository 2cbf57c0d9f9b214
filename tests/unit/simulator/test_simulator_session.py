"""The acceptor's side of a FIX session, message by message."""

from simulator_desk import NOW_NS, SYMBOLS, make_quote, read_all, seqs, types

from services.simulator.numbers import HISTORY_BYTES_MAX, HISTORY_MESSAGES_MAX, Numbers


def test_a_logon_is_answered_with_its_heartbeat_and_reset_flag(desk):
    (answer,) = desk.log_on((141, "Y"))
    assert [answer.get(tag) for tag in (35, 34, 49, 56, 108, 141)] == [b"A", b"1", b"LP1", b"C", b"30", b"Y"]


def test_a_logon_without_a_reset_flag_is_answered_without_one(desk):
    (answer,) = desk.log_on()
    assert answer.get(141) is None


def test_anything_before_the_logon_ends_the_connection(desk):
    assert desk.say("0") == []
    assert desk.line.ended == "closed"


def test_a_logon_for_another_provider_is_refused(desk):
    reject, logout = desk.say("A", (98, 0), (108, 30), target="LP2")
    assert (reject.get(373), logout.message_type, desk.line.ended) == (b"9", b"5", "closed")


def test_another_fix_version_is_refused(desk):
    (logout,) = desk.say("A", (98, 0), (108, 30), begin="FIX.4.2")
    assert (logout.get(58), desk.line.ended) == (b"Incorrect BeginString", "closed")


def test_a_client_that_never_logs_on_is_disconnected(desk):
    desk.now_s += 11
    desk.session.on_timer()
    assert desk.line.ended == "closed"


def test_numbers_go_on_over_connections(desk):
    desk.log_on()
    desk.say("1", (112, "x"))
    desk.connect()
    (answer,) = desk.log_on()
    assert answer.get(34) == b"3"


def test_a_logon_with_reset_begins_both_numbers_anew(desk):
    desk.log_on()
    desk.say("1", (112, "x"))
    desk.connect()
    desk.seq = 1
    (answer,) = desk.log_on((141, "Y"))
    assert answer.get(34) == b"1"
    assert seqs(desk.say("1", (112, "x"))) == [2]


def test_each_client_has_its_own_numbers(desk):
    desk.log_on()
    desk.connect()
    (answer,) = desk.say("A", (98, 0), (108, 30), seq=1, sender="OTHER")
    assert answer.get(34) == b"1"


def test_a_number_that_is_too_low_ends_the_session(desk):
    desk.log_on()
    (logout,) = desk.say("0", seq=1)
    assert logout.get(58) == b"MsgSeqNum too low, expecting 2 but received 1"
    assert desk.line.ended == "closed"


def test_a_low_number_of_a_possible_duplicate_is_ignored(desk):
    desk.log_on()
    assert desk.say("0", (43, "Y"), (122, "20261118-00:00:00"), seq=1) == []
    assert desk.line.ended is None


def test_a_message_beyond_a_gap_waits_until_the_gap_is_filled(desk):
    desk.log_on()
    (request,) = desk.say("1", (112, "late"), seq=4)
    assert [request.get(tag) for tag in (35, 7, 16)] == [b"2", b"2", b"3"]
    (answer,) = desk.say("4", (43, "Y"), (123, "Y"), (36, 4), seq=2)
    assert (answer.message_type, answer.get(112)) == (b"0", b"late")
    assert types(desk.say("1", (112, "next"), seq=5)) == [b"0"]


def test_a_gap_is_asked_for_once(desk):
    desk.log_on()
    desk.say("0", seq=4)
    assert desk.say("0", seq=5) == []


def test_a_resend_request_beyond_a_gap_is_answered_before_our_own(desk):
    desk.log_on()
    assert types(desk.say("2", (7, 1), (16, 0), seq=3)) == [b"4", b"2"]


def test_a_logon_beyond_a_gap_is_accepted_before_the_gap_is_asked_for(desk):
    assert types(desk.say("A", (98, 0), (108, 30), seq=5)) == [b"A", b"2"]


def test_a_test_request_is_answered_with_its_id(desk):
    desk.log_on()
    (answer,) = desk.say("1", (112, "hello"))
    assert (answer.message_type, answer.get(112)) == (b"0", b"hello")


def test_a_logout_is_answered_and_the_line_closed(desk):
    desk.log_on()
    (answer,) = desk.say("5")
    assert (answer.message_type, desk.line.ended) == (b"5", "closed")


def test_our_own_logout_is_not_answered_twice(desk):
    desk.log_on()
    desk.session.log_out("bye")
    assert desk.say("5") == []
    assert desk.line.ended == "closed"


def test_an_idle_line_carries_a_heartbeat_in_each_interval(desk):
    desk.log_on()
    sent = []
    for _ in range(4):
        desk.now_s += 15
        desk.say("0")
        desk.session.on_timer()
        sent += types(read_all(desk.line.written))
    assert sent == [b"0", b"0"]


def test_a_silent_client_is_tested_once_and_then_disconnected(desk):
    desk.log_on()
    for _ in range(2):
        desk.now_s += 20
        desk.session.on_timer()
    assert desk.line.written.count(b"\x0135=1\x01") == 1
    desk.now_s += 35
    desk.session.on_timer()
    assert desk.line.ended == "aborted"


def test_sequence_reset_moves_the_number_expected(desk):
    desk.log_on()
    desk.say("4", (36, 50), seq=7)
    assert types(desk.say("1", (112, "x"), seq=50)) == [b"0"]


def test_sequence_reset_to_a_lower_number_is_rejected(desk):
    desk.log_on()
    (reject,) = desk.say("4", (36, 1), seq=2)
    assert (reject.message_type, reject.get(373)) == (b"3", b"5")


def test_what_is_not_supported_is_rejected_as_business(desk):
    desk.log_on()
    (reject,) = desk.say("D", (11, "order"))
    assert [reject.get(tag) for tag in (35, 45, 372, 380)] == [b"j", b"2", b"D", b"3"]


def test_the_security_list_comes_in_fragments(new_desk):
    many = tuple(b"S%03d" % number for number in range(120))
    desk = new_desk(symbols=many)
    desk.log_on()
    fragments = desk.say("x", (320, "L"), (559, 4))
    assert [(part.get(146), part.get(893), part.get(320)) for part in fragments] == [
        (b"50", b"N", b"L"), (b"50", b"N", b"L"), (b"20", b"Y", b"L"),
    ]  # fmt: skip
    assert tuple(value for part in fragments for tag, value in part.pairs if tag == b"55") == many


def test_a_subscription_begins_with_a_snapshot(desk):
    desk.quotes[b"EUR/USD"] = make_quote()
    desk.log_on()
    (snapshot,) = desk.subscribe("EUR/USD", "GBP/USD")
    assert [snapshot.get(tag) for tag in (35, 262, 55, 268)] == [b"W", b"R1", b"EUR/USD", b"2"]
    sides = [[snapshot.get(tag, nth) for tag in (269, 270, 271, 272, 273)] for nth in (1, 2)]
    assert sides == [
        [b"0", b"1.08512", b"5", b"20261118", b"11:06:40.123"],
        [b"1", b"1.08518", b"10", b"20261118", b"11:06:40.123"],
    ]


def test_an_increment_is_new_the_first_time_and_a_change_after(desk):
    desk.log_on()
    desk.subscribe("EUR/USD")
    first, second = desk.publish(make_quote(), make_quote(bid=b"1.08510"))
    assert [first.get(tag) for tag in (35, 262, 268, 279, 269, 278, 55, 270, 271)] == [
        b"X", b"R1", b"2", b"0", b"0", b"EUR/USD-B", b"EUR/USD", b"1.08512", b"5",
    ]  # fmt: skip
    assert [second.get(tag, 2) for tag in (279, 269, 278, 55, 270)] == [b"1", b"1", b"EUR/USD-A", b"EUR/USD", b"1.08518"]
    assert (second.get(279), second.get(270)) == (b"1", b"1.08510")


def test_only_what_is_subscribed_is_sent(desk):
    desk.log_on()
    desk.subscribe("EUR/USD")
    desk.subscribe("GBP/USD", request="R2")
    desk.say("V", (262, "R1"), (263, 2), (264, 1))
    sent = desk.publish(*[make_quote(symbol) for symbol in SYMBOLS])
    assert [message.get(55) for message in sent] == [b"GBP/USD"]


def test_a_snapshot_request_is_no_subscription(desk):
    desk.quotes[b"EUR/USD"] = make_quote()
    desk.log_on()
    assert types(desk.subscribe("EUR/USD", kind=0)) == [b"W"]
    assert desk.publish(make_quote()) == []


def test_an_unknown_symbol_refuses_the_request(desk):
    desk.log_on()
    (answer,) = desk.subscribe("EUR/USD", "NO/PE")
    assert [answer.get(tag) for tag in (35, 262, 281)] == [b"Y", b"R1", b"0"]
    assert desk.publish(make_quote()) == []


def test_a_request_id_in_use_is_refused(desk):
    desk.log_on()
    desk.subscribe("EUR/USD")
    (answer,) = desk.subscribe("GBP/USD")
    assert (answer.message_type, answer.get(281)) == (b"Y", b"1")


def test_several_symbols_share_a_message_when_asked_to(new_desk):
    desk = new_desk(symbols_per_message=2)
    desk.log_on()
    desk.subscribe(*[symbol.decode() for symbol in SYMBOLS])
    sent = desk.publish(*[make_quote(symbol) for symbol in SYMBOLS])
    assert [[value for tag, value in message.pairs if tag == b"55"] for message in sent] == [
        [b"EUR/USD", b"EUR/USD", b"GBP/USD", b"GBP/USD"], [b"XAU/USD", b"XAU/USD"],
    ]  # fmt: skip
    assert [message.get(268) for message in sent] == [b"4", b"2"]
    assert [line.split(",")[1:3] for line in desk.ledger_lines()] == [["2", "EUR/USD"], ["2", "GBP/USD"], ["3", "XAU/USD"]]


def test_absent_sizes_are_not_sent(desk):
    desk.log_on()
    desk.subscribe("EUR/USD")
    (sent,) = desk.publish(make_quote(bid_size=b"", ask_size=b""))
    assert sent.get(271) is None
    assert desk.ledger_lines() == [f"LP1,2,EUR/USD,{NOW_NS},1.08512,1.08518,,"]


def test_the_ledger_has_what_was_sent_before_the_line_has_it(desk):
    desk.quotes[b"EUR/USD"] = make_quote()
    desk.log_on()
    desk.subscribe("EUR/USD")
    seen = []
    desk.line.write = lambda data: seen.append((data, desk.ledger_lines()))
    desk.session.publish([make_quote(bid=b"1.08511")])
    assert seen[0][1] == [f"LP1,2,EUR/USD,{NOW_NS},1.08512,1.08518,5,10", f"LP1,3,EUR/USD,{NOW_NS},1.08511,1.08518,5,10"]


def test_a_resend_repeats_market_data_and_fills_the_rest(desk):
    desk.log_on()
    desk.subscribe("EUR/USD")
    desk.publish(make_quote(), make_quote(bid=b"1.08511"))
    desk.say("1", (112, "x"))
    desk.publish(make_quote(bid=b"1.08510"))
    lines = len(desk.ledger_lines())
    resent = desk.say("2", (7, 1), (16, 0))
    assert [(message.message_type, int(message.get(34)), message.get(43)) for message in resent] == [
        (b"4", 1, b"Y"), (b"X", 2, b"Y"), (b"X", 3, b"Y"), (b"4", 4, b"Y"), (b"X", 5, b"Y"),
    ]  # fmt: skip
    assert resent[0].get(36) == b"2"
    assert [message.get(270) for message in resent[1:3]] == [b"1.08512", b"1.08511"]
    assert resent[1].get(122) == b"20261118-11:06:40.123"
    assert len(desk.ledger_lines()) == lines


def test_a_resend_of_a_range_ends_with_it(desk):
    desk.log_on()
    desk.subscribe("EUR/USD")
    desk.publish(*[make_quote(bid=b"1.0850%d" % number) for number in range(5)])
    assert seqs(desk.say("2", (7, 3), (16, 4))) == [3, 4]
    assert seqs(desk.say("2", (7, 6), (16, 99))) == [6]
    assert desk.say("2", (7, 50), (16, 0)) == []


def test_gapfill_mode_resends_nothing(new_desk):
    desk = new_desk(resend="gapfill")
    desk.log_on()
    desk.subscribe("EUR/USD")
    desk.publish(make_quote(), make_quote())
    (fill,) = desk.say("2", (7, 1), (16, 0))
    assert [fill.get(tag) for tag in (35, 34, 43, 123, 36)] == [b"4", b"1", b"Y", b"Y", b"4"]


def test_a_client_is_settled_once_it_has_everything_or_asks_no_more(desk):
    desk.log_on()
    assert not desk.session.settled
    desk.subscribe("EUR/USD")
    assert not desk.session.settled
    desk.now_s += 0.31
    assert desk.session.settled
    desk.subscribe("GBP/USD", "XAU/USD", request="R2")
    assert desk.session.settled


def test_an_answered_number_that_is_expected_needs_no_resend(desk):
    (answer,) = desk.log_on((789, 1))
    assert [answer.get(tag) for tag in (35, 34, 789)] == [b"A", b"1", b"2"]


def test_what_a_logon_says_it_has_not_got_is_resent_at_once_and_filled_over_our_logon(desk):
    desk.log_on()
    desk.subscribe("EUR/USD")
    desk.publish(make_quote(), make_quote(bid=b"1.08511"))
    desk.connect()
    answer, one, two, fill = desk.log_on((789, 2))
    assert [answer.get(tag) for tag in (35, 34, 789)] == [b"A", b"4", b"4"]
    assert [(message.message_type, int(message.get(34)), message.get(43)) for message in (one, two, fill)] == [
        (b"X", 2, b"Y"), (b"X", 3, b"Y"), (b"4", 4, b"Y"),
    ]  # fmt: skip
    assert fill.get(36) == b"5"


def test_a_number_that_we_have_not_reached_is_refused(desk):
    (logout,) = desk.log_on((789, 2))
    assert logout.get(58) == b"NextExpectedMsgSeqNum too high, expecting at most 1 but received 2"
    assert desk.line.ended == "closed"


def test_a_logon_beyond_a_gap_that_names_its_number_is_not_asked_for_but_told_ours(desk):
    (answer,) = desk.say("A", (98, 0), (108, 30), (789, 1), seq=3)
    assert [answer.get(tag) for tag in (35, 789)] == [b"A", b"1"]
    assert desk.say("0", (43, "Y"), (122, "20261118-00:00:00"), seq=1) == []
    desk.say("4", (43, "Y"), (122, "20261118-00:00:00"), (123, "Y"), (36, 4), seq=2)
    assert types(desk.say("1", (112, "x"), seq=4)) == [b"0"]


def test_the_history_is_bounded_in_messages():
    numbers = Numbers()
    numbers.add([b"%d" % seq for seq in range(1, HISTORY_MESSAGES_MAX + 3)])
    kept = list(numbers.kept(1, numbers.next_out))
    assert (kept[0], len(kept)) == ((3, b"3"), HISTORY_MESSAGES_MAX)


def test_the_history_is_bounded_in_bytes():
    numbers = Numbers()
    long = bytes(HISTORY_BYTES_MAX // 4)
    numbers.add([long] * 5)
    assert [seq for seq, _ in numbers.kept(1, 99)] == [2, 3, 4, 5]
    numbers.add([b"short"])
    assert [seq for seq, _ in numbers.kept(1, 99)] == [3, 4, 5, 6]
    assert numbers.sent_bytes == 3 * len(long) + 5
