"""A batch of the sink: its form, its ticks, and the key by which it is known again."""

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from libs.common.domain.moment import NS_PER_S, parse_moment
from libs.common.domain.problem import Problem
from libs.common.domain.record import Tick
from services.gateway.feeds import SinkFeed
from services.gateway.journal import SEGMENT_BYTES, Direction, Record
from services.gateway.web import batch as batches
from services.gateway.web.batch import KEYS_MAX, TICKS_MAX, SinkFold, read_batch
from services.gateway.web.fold import digest

T0 = parse_moment("2026-11-20T10:00:00Z")
FEED = SinkFeed(name="DESK", token_env="DESK_TOKEN")
TICK = {"symbol": "EUR/USD", "bid": "1.1", "ask": "1.2"}


def body_of(*ticks, key="k1"):
    return msgspec.json.encode({"key": key, "ticks": ticks})


def problem_of(body, header=None):
    with pytest.raises(Problem) as error:
        read_batch(body, header)
    return error.value


class Sink:
    """A fold of batches; what came of it."""

    def __init__(self):
        self.fold = SinkFold(FEED)
        self.records, self.ticks, self.quarantined = [], [], []

    def post(self, body, header=None):
        batch = read_batch(body, header)
        self.apply(Record(len(self.records) + 1, T0, Direction.IN, batch.data))
        return self.fold.known(batch.key)[1:]

    def apply(self, record):
        self.records.append(record)
        self.fold.apply(record)
        outcome = self.fold.take()
        assert not outcome.gaps
        self.ticks += [Tick(*row) for row in outcome.ticks]
        self.quarantined += outcome.quarantined


# ---- its form


def test_a_batch_is_journaled_as_it_came():
    body = b'{ "key" : "k1",\n"ticks":[ {"symbol":"X","bid":1.10,"ask":"1.2"} ] }'
    assert read_batch(body, None) == batches.Batch("k1", body)
    assert read_batch(body, "k1").data == body


def test_a_bare_list_has_its_key_in_the_header_and_is_journaled_with_it():
    found = read_batch(b'[{"symbol":"X","bid":1.10, "ask":2}]', 'a "key"')
    assert found.key == 'a "key"'
    assert found.data == b'{"key":"a \\"key\\"","ticks":[{"symbol":"X","bid":1.10, "ask":2}]}'
    assert read_batch(found.data, None) == found
    assert read_batch(b'{"ticks":[{"symbol":"X","bid":1.10, "ask":2}]}', 'a "key"') == found


@pytest.mark.parametrize("body", [b"", b"{", b"\xff", b"key=1", b'{"key":"k1","ticks":[}', b"[" * 100_000, b'{"key":NaN}'])
def test_what_is_no_json_is_a_400(body):
    assert problem_of(body).status == 400


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        (b"17", ""),
        (b'"x"', ""),
        (b"{}", "/key"),
        (b'{"key":"k1"}', "/ticks"),
        (b'{"key":"k1","ticks":[]}', "/ticks"),
        (b'{"key":"k1","ticks":{}}', "/ticks"),
        (b'{"key":17,"ticks":[{"symbol":"X"}]}', "/key"),
        (b'{"key":"","ticks":[{"symbol":"X"}]}', "/key"),
        (b'{"key":"a\\nb","ticks":[{"symbol":"X"}]}', "/key"),
        (b'{"key":"\xc3\xa9","ticks":[{"symbol":"X"}]}', "/key"),
        (b'{"key":"%s","ticks":[{"symbol":"X"}]}' % (b"x" * 129), "/key"),
        (b'{"key":"k1","ticks":[{"symbol":"X"}],"tick":1}', "/tick"),
        (b'{"key":"k1","ticks":[17]}', "/ticks/0"),
        (b'{"key":"k1","ticks":[{"symbol":"X"},{"bid":1}]}', "/ticks/1/symbol"),
        (b'{"key":"k1","ticks":[{"symbol":1}]}', "/ticks/0/symbol"),
        (b'{"key":"k1","ticks":[{"symbol":1.5}]}', "/ticks/0/symbol"),
        (b'{"key":"k1","ticks":[{"symbol":"X","bid":true}]}', "/ticks/0/bid"),
        (b'{"key":"k1","ticks":[{"symbol":"X","ask":[1]}]}', "/ticks/0/ask"),
        (b'{"key":"k1","ticks":[{"symbol":"X","bid_size":{}}]}', "/ticks/0/bid_size"),
        (b'{"key":"k1","ticks":[{"symbol":"X","ts":1.5}]}', "/ticks/0/ts"),
        (b'{"key":"k1","ticks":[{"symbol":"X","bidsize":1}]}', "/ticks/0/bidsize"),
    ],
)
def test_another_form_is_a_422_that_points_at_it(body, pointer):
    problem = problem_of(body)
    assert problem.status == 422
    assert problem.members["errors"][0]["pointer"] == pointer
    assert (pointer or "body") in problem.detail


def test_a_key_in_two_places_must_be_the_same():
    assert problem_of(body_of(TICK), "k2").members["errors"][0]["pointer"] == "/key"


def test_too_many_ticks_are_a_413_and_the_most_are_taken():
    assert problem_of(body_of(*[TICK] * (TICKS_MAX + 1))).status == 413
    assert Sink().post(body_of(*[TICK] * TICKS_MAX)) == (TICKS_MAX, 0)


def test_of_many_errors_the_first_are_shown_and_the_rest_counted():
    problem = problem_of(body_of(*[{"symbol": 1}] * 100))
    assert len(problem.members["errors"]) == 10
    assert problem.detail.endswith("; and 90 more")


# ---- its ticks


def test_every_tick_of_a_batch_is_a_tick_of_its_own():
    sink = Sink()
    body = body_of(TICK, TICK | {"ts": "2026-11-20T09:59:59.123456789Z"}, TICK | {"ts": T0 - 5, "bid": 1.25, "bid_size": 3})
    assert sink.post(body) == (3, 0)
    assert [(tick.ts - T0, tick.seq, tick.bid, tick.bid_size) for tick in sink.ticks] == [
        (0, 0, 1_100_000_000, None),
        (-876_543_211, 1, 1_100_000_000, None),
        (-5, 2, 1_250_000_000, 3.0),
    ]


def test_a_tick_that_cannot_be_one_is_quarantined_alone():
    sink = Sink()
    bad = [{"symbol": "X"}, TICK | {"bid": "NaN"}, TICK | {"ts": "soon"}, TICK | {"symbol": "no symbol"}, TICK | {"bid": -1}]
    assert sink.post(body_of(TICK, *bad, TICK)) == (2, 5)
    assert [msgspec.json.decode(item.raw) for item in sink.quarantined] == bad
    assert [item.number for item in sink.quarantined] == [1, 2, 3, 4, 5]


# ---- its key


def test_a_batch_that_stands_in_the_journal_twice_counts_once():
    sink = Sink()
    assert sink.post(body_of(TICK)) == sink.post(body_of(TICK)) == (1, 0)
    assert len(sink.ticks) == 1


def test_a_batch_is_known_by_its_key_with_the_digest_of_its_bytes():
    sink = Sink()
    assert sink.fold.known("k1") is None
    sink.post(body_of(TICK))
    assert sink.fold.known("k1")[0] == digest(body_of(TICK))


def test_the_last_keys_are_remembered_in_a_snapshot_that_is_small_beside_a_segment(monkeypatch):
    sink = Sink()
    for number in range(KEYS_MAX + 3):
        sink.post(body_of(TICK, key=f"{number:0128d}"))
    assert sink.fold.known(f"{2:0128d}") is None
    assert sink.fold.known(f"{3:0128d}") is not None
    assert len(sink.fold.state.batches) == KEYS_MAX
    assert len(sink.fold.snapshot(0)) < SEGMENT_BYTES / 50


BATCHES = st.builds(
    lambda key, ticks: body_of(*ticks, key=key),
    st.sampled_from("abcd"),
    st.lists(
        st.sampled_from([TICK, TICK | {"bid": "no"}, {"symbol": "X", "ask": 2}, TICK | {"ts": T0 - 9 * NS_PER_S}]),
        min_size=1,
        max_size=4,
    ),
)


@settings(deadline=None, max_examples=60)
@given(st.lists(BATCHES, max_size=12), st.data())
def test_a_replay_from_any_snapshot_remembers_the_same(bodies, data):
    original = pytest.MonkeyPatch()
    with original.context() as patch:
        patch.setattr(batches, "KEYS_MAX", 3)
        sink = Sink()
        for body in bodies:
            sink.post(body)
        cut = data.draw(st.integers(0, len(sink.records)))
        first, second = Sink(), Sink()
        for record in sink.records[:cut]:
            first.apply(record)
        second.fold.apply(Record(0, 0, Direction.SNAPSHOT, first.fold.snapshot(0)))
        for record in sink.records[cut:]:
            second.apply(record)
    assert first.ticks + second.ticks == sink.ticks
    assert first.quarantined + second.quarantined == sink.quarantined
    assert second.fold.snapshot(0) == sink.fold.snapshot(0)
    assert len(sink.fold.state.batches) <= 3
