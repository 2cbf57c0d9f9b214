"""Prices: exact from text and back."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.common.domain.errors import Rejected
from libs.common.domain.price import format_price, parse_price

prices = st.integers(-(10**18) + 1, 10**18 - 1)


@given(prices)
def test_a_price_survives_being_written_and_read(price: int) -> None:
    assert parse_price(format_price(price).encode()) == price


@given(prices)
def test_a_price_text_is_the_exact_decimal_without_trailing_zeros(price: int) -> None:
    text = format_price(price)
    assert Decimal(text) == Decimal(price) / 10**9
    assert "." not in text or not text.endswith("0")


@pytest.mark.parametrize(
    ("text", "price"),
    [(b"1.08512", 1_085_120_000), (b"-0.5", -500_000_000), (b".5", 500_000_000), (b"1.", 10**9), (b"007", 7 * 10**9),
     (b"1.1000000000000", 1_100_000_000), (b"+2", 2 * 10**9), (b"0.000000001", 1)],
)  # fmt: skip
def test_the_spellings_of_fix_are_understood(text: bytes, price: int) -> None:
    assert parse_price(text) == price


@pytest.mark.parametrize("text", [b"", b".", b"-", b"NaN", b"inf", b"1e5", b"1,5", b" 1", b"1 ", b"--1", b"0x1", b"1.0000000001",
                                  b"1.2.3", "１".encode(), b"9" * 200])  # fmt: skip
def test_what_is_not_a_plain_decimal_is_rejected(text: bytes) -> None:
    with pytest.raises(Rejected):
        parse_price(text)


@given(st.binary(max_size=30))
def test_any_bytes_are_a_price_or_rejected(text: bytes) -> None:
    try:
        price = parse_price(text)
    except Rejected:
        return
    assert Decimal(text.decode()) * 10**9 == price
