"""Imports merge per instant as multisets: nothing twice, nothing removed, numbered after what is there."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from libs.common.imports import merge

ROW = st.tuples(
    st.just("EURUSD"),
    st.integers(0, 3),
    st.sampled_from([None, 1, 2]),
    st.sampled_from([3, 4]),
    st.sampled_from([None, 0.0, 1.5]),
    st.just(None),
    st.just(128),
)
FILE = st.lists(ROW, max_size=12)


def contents(rows):
    return [row[1:6] for row in rows]


def add(day, file):
    """`day`: rows as stored."""
    next_seq = max((row[3] for row in day), default=-1) + 1
    stored = [(row[2], *row[5:9]) for row in day]
    return day + merge(stored, file, provider="LP1", next_seq=next_seq)


def multiset(day):
    return Counter((row[2], *row[5:9]) for row in day)


@given(FILE)
def test_a_file_gives_all_its_ticks_once_in_time_and_then_in_its_order(file):
    day = add([], file)
    assert multiset(day) == Counter(contents(file))
    assert [row[3] for row in day] == list(range(len(file)))
    assert [(row[2], *row[5:9]) for row in day] == contents(sorted(file, key=lambda row: row[1]))
    assert all(row[:2] == ("EURUSD", "LP1") and row[4] is None and row[9] == 128 for row in day)


@given(FILE, FILE)
def test_the_same_file_again_adds_nothing(first, second):
    day = add(add([], first), second)
    assert add(day, second) == day
    assert add(day, first) == day


@given(FILE, FILE, FILE)
def test_the_order_of_files_does_not_matter_but_for_the_numbers(one, two, three):
    ways = [(one, two, three), (three, two, one), (two, one, three), (one, three, two)]
    results = []
    for files in ways:
        day = []
        for file in files:
            day = add(day, file)
        results.append(multiset(day))
    assert all(result == results[0] for result in results)
    assert results[0] == Counter(contents(one)) | Counter(contents(two)) | Counter(contents(three))


@given(FILE, FILE)
def test_nothing_is_removed_and_no_number_given_twice(first, second):
    day = add([], first)
    after = add(day, second)
    assert after[: len(day)] == day
    assert sorted(row[3] for row in after) == list(range(len(after)))


@given(FILE, st.integers(0, 12), st.integers(0, 12))
def test_overlapping_parts_of_a_file_give_the_file(file, one, two):
    start, end = sorted((min(one, len(file)), min(two, len(file))))
    ordered = sorted(file, key=lambda row: row[1])
    day = add(add([], ordered[:end]), ordered[start:])
    whole = multiset(add([], file))
    assert multiset(day) - whole == Counter()
    cut_within_an_instant = any(ordered[at - 1][1] == ordered[at][1] for at in (start, end) if 0 < at < len(ordered))
    assert cut_within_an_instant or multiset(day) == whole


def test_two_equal_quotes_of_one_instant_are_two_and_stay_two():
    a, b = ("X", 5, 1, 2, None, None, 128), ("X", 5, 1, 3, None, None, 128)
    day = add([], [a, b, a])
    assert [row[6] for row in day] == [2, 3, 2]
    assert add(day, [a, b, a]) == day
    (third,) = add(day, [a, a, a])[3:]
    assert (third[3], third[6]) == (3, 2)


def test_an_absent_size_is_not_a_size_of_zero():
    day = add([], [("X", 5, 1, 2, None, None, 128)])
    assert len(add(day, [("X", 5, 1, 2, 0.0, None, 128)])) == 2
