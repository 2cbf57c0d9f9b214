"""What goes wrong with an LP on request, and what a right client does about it.

None of it touches the ledgers: what stands there was numbered, and what is damaged or lost on its way can be resent. "Recovers":
notices the hole at the next number, sends a ResendRequest and gets the message whole. "Leaves": sends a Logout that says why,
disconnects and logs on again without a reset, to be resent what it missed. "Ends": the same without its Logout. "Asks anew":
its books are stale, it subscribes again.

Armed: strikes the next market data, or after a second without any a heartbeat (but a price or a group):
drop                   messages are numbered, and the connection ends without them         reconnects, recovers
cut                    the connection ends in the middle of a message                      drops the half, reconnects, recovers
gap                    five messages are numbered and not sent                             recovers
garble                 a byte is damaged                                                   ignores the message, recovers
checksum               CheckSum(10) is one too high                                        ignores the message, recovers
length_short           BodyLength(9) is five too low                                       ignores the message, recovers
length_long            BodyLength(9) is five too high                                      ignores the message, recovers
length_text            BodyLength(9) is "abc"                                              ignores the message, recovers
length_huge            BodyLength(9) is 999999999                                          waits for no such length, recovers
no_msg_type            MsgType(35) is missing: 8, 9, 35 are not the first three            ignores the message, recovers
split                  a message comes in pieces of one and of three bytes                 puts it together
garbage                bytes that are no FIX stand before a message                        skips them
http                   an HTTP answer stands before a message                              skips it
reorder                a message comes behind the next one                                 asks for it, takes both in order
duplicate              a message comes again as a possible duplicate (43=Y, 122)           ignores the second
poss_dup_late          an older message comes again as a possible duplicate, unasked       ignores it
no_orig_sending_time   a possible duplicate has no OrigSendingTime(122)                    Reject 373=1, goes on
late_orig_sending_time a possible duplicate has 122 after SendingTime(52)                  Reject 373=10, leaves
duplicate_plain        a message comes again without 43: its number is too low             leaves
low_sequence           a message has MsgSeqNum(34) 1, without 43                           leaves
no_sequence            MsgSeqNum(34) is missing                                            leaves
wrong_begin_string     BeginString(8) is FIX.4.1                                           leaves
wrong_sender           SenderCompID(49) is NOBODY                                          Reject 373=9, leaves
wrong_target           TargetCompID(56) is NOBODY                                          Reject 373=9, leaves
old_sending_time       SendingTime(52) is an hour old                                      Reject 373=10, leaves
no_sending_time        SendingTime(52) is missing                                          Reject 373=1, goes on, quarantines
unknown_msg_type       MsgType(35) is "*"                                                  Reject 373=11, goes on, quarantines
empty_value            a price is empty                                                    goes on, quarantines
bad_price              a price is NaN                                                      goes on, quarantines
bad_group              a group counts one entry more than there are                        goes on, quarantines
gap_fill               up to five messages are replaced by a GapFill                       goes on, records a gap, asks anew

At once:
reset                  SequenceReset-Reset to a number 100 higher                          goes on, records a gap, asks anew
reset_lower            SequenceReset-Reset to 1, with a number not used up                 Reject 373=5, goes on
logon_reset            a Logon with 141=Y; market data waits for the answer                Logon 141=Y with number 1, asks anew
logout                 a Logout with a text                                                answers it, reconnects later
test_request_flood     100 TestRequests                                                    answers each with its 112
resend_request         a ResendRequest for all there was                                   GapFill instead of old requests
stall                  nothing is sent for ?seconds=5, not a Heartbeat; the market waits   TestRequest, then ends
heartbeat_silence      the same, but the market goes on for others                         TestRequest, then ends
blackhole              the connection ends; for ?seconds=5 no Logon is answered            gives up, backs off
refuse_logon           the connection ends; for ?seconds=5 Logons get a Logout             says why, backs off
"""

import re
from collections.abc import Callable
from random import Random
from typing import Literal, get_args

from libs.common.domain.moment import NS_PER_S
from services.simulator.wire import byte_sum, resent, seal, sending_time, unseal

Damage = Literal[
    "garble", "checksum", "length_short", "length_long", "length_text", "length_huge", "no_msg_type",
    "duplicate_plain", "duplicate", "no_orig_sending_time", "late_orig_sending_time", "garbage", "http",
    "low_sequence", "no_sequence", "wrong_begin_string", "wrong_sender", "wrong_target", "old_sending_time", "no_sending_time",
    "unknown_msg_type", "empty_value", "bad_price", "bad_group",
]  # fmt: skip
Fault = Literal[
    "drop", "cut", "gap", "split", "reorder", "poss_dup_late", "gap_fill",
    "reset", "reset_lower", "logon_reset", "logout", "test_request_flood", "resend_request",
    "stall", "heartbeat_silence", "blackhole", "refuse_logon",
    Damage,
]  # fmt: skip

KINDS: tuple[Fault, ...] = get_args(Fault)
PRICE_FAULTS: frozenset[Fault] = frozenset({"empty_value", "bad_price", "bad_group"})  # no heartbeat can have these
GARBAGE_BYTES = 200
OLD_NS = 3600 * NS_PER_S
_HTTP = b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\nContent-Length: 11\r\nConnection: close\r\n\r\nBad Request"
_PRICE = re.compile(rb"(?<=\x01)(270|132)=[^\x01]+")
_COUNT = re.compile(rb"(?<=\x01)(268|295)=([0-9]+)")


def damaged(kind: Damage, frame: bytes, now_ns: int) -> bytes:
    """What is sent in place of a frame of ours; the frame itself where there is nothing to damage."""
    return _DAMAGES[kind](frame, now_ns)


def pieces(frame: bytes) -> list[bytes]:
    """A third of it byte by byte, the rest by three."""
    third = len(frame) // 3
    return [frame[at : at + 1] for at in range(third)] + [frame[at : at + 3] for at in range(third, len(frame), 3)]


def _garble(frame: bytes, _now_ns: int) -> bytes:
    changed = bytearray(frame)
    changed[len(frame) // 2] ^= 0x01
    return bytes(changed)


def _checksum(frame: bytes, _now_ns: int) -> bytes:
    return frame[:-4] + b"%03d\x01" % ((int(frame[-4:-1]) + 1) % 256)


def _length(change: Callable[[int], bytes]) -> Callable[[bytes, int], bytes]:
    """With another BodyLength and the CheckSum that belongs to it."""

    def damage(frame: bytes, _now_ns: int) -> bytes:
        begin_string, body = unseal(frame)
        changed = b"8=%b\x019=%b\x01%b" % (begin_string, change(len(body)), body)
        return b"%b10=%03d\x01" % (changed, byte_sum(changed))

    return damage


def _header(tag: int, value: bytes | None) -> Callable[[bytes, int], bytes]:
    """With another value in the header, or without the field."""

    def damage(frame: bytes, _now_ns: int) -> bytes:
        begin_string, body = unseal(frame)
        return seal(begin_string, _with(body, tag, value))

    return damage


def _begin_string(frame: bytes, _now_ns: int) -> bytes:
    return seal(b"FIX.4.1", unseal(frame)[1])


def _old_sending_time(frame: bytes, now_ns: int) -> bytes:
    begin_string, body = unseal(frame)
    return seal(begin_string, _with(body, 52, sending_time(now_ns - OLD_NS)))


def _price(value: bytes) -> Callable[[bytes, int], bytes]:
    def damage(frame: bytes, _now_ns: int) -> bytes:
        begin_string, body = unseal(frame)
        return seal(begin_string, _PRICE.sub(rb"\1=" + value, body, count=1))

    return damage


def _bad_group(frame: bytes, _now_ns: int) -> bytes:
    """A Quote has no group: it gets an empty NoPartyIDs(453) that says 1."""
    begin_string, body = unseal(frame)
    if body.startswith(b"35=S\x01"):
        return seal(begin_string, body + b"453=1\x01")
    return seal(begin_string, _COUNT.sub(lambda match: b"%b=%d" % (match[1], int(match[2]) + 1), body, count=1))


def _duplicate(frame: bytes, now_ns: int) -> bytes:
    return frame + resent(frame, sending_time(now_ns))


def _no_orig_sending_time(frame: bytes, now_ns: int) -> bytes:
    begin_string, body = unseal(resent(frame, sending_time(now_ns)))
    return frame + seal(begin_string, _with(body, 122, None))


def _late_orig_sending_time(frame: bytes, now_ns: int) -> bytes:
    begin_string, body = unseal(resent(frame, sending_time(now_ns)))
    return frame + seal(begin_string, _with(body, 122, sending_time(now_ns + NS_PER_S)))


def _garbage(frame: bytes, now_ns: int) -> bytes:
    return Random(now_ns).randbytes(GARBAGE_BYTES) + frame  # noqa: S311 - noise, not a secret


_DAMAGES: dict[Damage, Callable[[bytes, int], bytes]] = {
    "garble": _garble,
    "checksum": _checksum,
    "length_short": _length(lambda length: b"%d" % (length - 5)),
    "length_long": _length(lambda length: b"%d" % (length + 5)),
    "length_text": _length(lambda _length: b"abc"),
    "length_huge": _length(lambda _length: b"999999999"),
    "no_msg_type": _header(35, None),
    "duplicate_plain": lambda frame, _now_ns: frame + frame,
    "duplicate": _duplicate,
    "no_orig_sending_time": _no_orig_sending_time,
    "late_orig_sending_time": _late_orig_sending_time,
    "garbage": _garbage,
    "http": lambda frame, _now_ns: _HTTP + frame,
    "low_sequence": _header(34, b"1"),
    "no_sequence": _header(34, None),
    "wrong_begin_string": _begin_string,
    "wrong_sender": _header(49, b"NOBODY"),
    "wrong_target": _header(56, b"NOBODY"),
    "old_sending_time": _old_sending_time,
    "no_sending_time": _header(52, None),
    "unknown_msg_type": _header(35, b"*"),
    "empty_value": _price(b""),
    "bad_price": _price(b"NaN"),
    "bad_group": _bad_group,
}


def _with(body: bytes, tag: int, value: bytes | None) -> bytes:
    """The first field of that tag with another value, or without it."""
    field = b"" if value is None else b"%d=%b\x01" % (tag, value)
    return re.sub(rb"(?:^|(?<=\x01))%d=[^\x01]*\x01" % tag, lambda _match: field, body, count=1)
