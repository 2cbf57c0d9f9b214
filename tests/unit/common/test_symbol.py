"""Symbols: what may be one, and which one a client means."""

import pytest

from libs.common.domain.symbol import find_symbol, normalise_symbol


@pytest.mark.parametrize(
    ("text", "symbol"), [("eurusd", "EURUSD"), ("EUR/USD", "EUR/USD"), ("aapl.us", "AAPL.US"), ("#Ger40_x", "#GER40_X")]
)
def test_a_symbol_is_upper_cased_and_otherwise_as_spelt(text: str, symbol: str) -> None:
    assert normalise_symbol(text) == symbol


@pytest.mark.parametrize(
    "text", ["", "A" * 33, "EUR USD", "EUR\x01USD", "EUR\x00", "é", "EUR%2FUSD", "A\n", "A\\B", "ＥＵＲ", "ß"]
)
def test_what_cannot_be_a_symbol_is_none(text: str) -> None:
    assert normalise_symbol(text) is None


def test_a_client_may_leave_out_separators_where_only_one_symbol_fits() -> None:
    known = ["EUR/USD", "BTC-USD", "BTC/USD", "US500"]
    assert find_symbol("eurusd", known) == "EUR/USD"
    assert find_symbol("EUR/USD", known) == "EUR/USD"
    assert find_symbol("btcusd", known) is None
    assert find_symbol("GBPUSD", known) is None
