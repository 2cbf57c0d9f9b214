"""What the synthetic provider quotes: real names with prices, spreads and volatilities of their usual order."""

from dataclasses import dataclass
from typing import Literal

Kind = Literal["fx", "metal", "index", "energy", "crypto", "stock"]


@dataclass(frozen=True, slots=True)
class Instrument:
    """`price` in points (units of the last decimal), `spread` in points, `volatility` of a year, `weight` as share of ticks."""

    symbol: str
    kind: Kind
    digits: int
    price: int
    spread: float
    volatility: float
    weight: float
    regions: str  # where it is traded: Asia, London, New York

    @property
    def themes(self) -> frozenset[str]:
        """What news moves it: its currencies, or its kind."""
        return frozenset(self.symbol.split("/")) if "/" in self.symbol else frozenset({self.kind})


# symbol, price, spread in points, volatility in % a year, share of ticks, regions
_TABLE: dict[Kind, str] = {
    "fx": """
        EUR/USD 1.08512 4 7 100 ALN      USD/JPY 151.234 5 10 90 ALN      GBP/USD 1.26841 7 8 75 ALN
        AUD/USD 0.65712 5 10 50 ALN      USD/CAD 1.36205 7 6 45 LN        USD/CHF 0.89134 7 8 40 ALN
        NZD/USD 0.60125 8 10 30 ALN      EUR/JPY 164.105 9 9 45 ALN       GBP/JPY 191.822 14 10 45 ALN
        EUR/GBP 0.85547 6 5 35 LN        EUR/CHF 0.96723 9 6 25 LN        EUR/AUD 1.65134 13 9 22 ALN
        EUR/CAD 1.47798 13 7 20 LN       EUR/NZD 1.80478 20 9 16 ALN      GBP/CHF 1.13057 15 8 18 LN
        GBP/AUD 1.93027 20 9 18 ALN      GBP/CAD 1.72764 20 8 16 LN       GBP/NZD 2.10962 28 9 14 ALN
        AUD/JPY 99.381 10 11 24 AL       AUD/CAD 0.89503 13 8 14 AL       AUD/CHF 0.58571 12 9 10 AL
        AUD/NZD 1.09292 14 6 14 A        CAD/JPY 111.034 12 10 14 ALN     CAD/CHF 0.65441 13 8 8 LN
        CHF/JPY 169.671 16 9 12 AL       NZD/JPY 90.929 14 11 12 AL       NZD/CAD 0.81893 16 8 8 AL
        NZD/CHF 0.53592 16 9 7 AL        USD/SGD 1.34812 18 5 9 A         USD/HKD 7.82345 25 1 3 A
        USD/CNH 7.24512 30 4 10 A        USD/MXN 16.95340 350 13 14 N     USD/ZAR 18.72110 900 16 12 L
        USD/TRY 32.35120 2500 18 5 L     USD/PLN 3.98214 180 11 7 L       USD/HUF 364.212 210 12 5 L
        USD/CZK 23.41210 180 10 4 L      USD/SEK 10.48230 350 11 8 L      USD/NOK 10.71120 380 12 8 L
        USD/DKK 6.87412 60 7 3 L         USD/THB 36.35100 300 7 3 A       EUR/SEK 11.37410 320 7 6 L
        EUR/NOK 11.62210 350 9 6 L       EUR/PLN 4.32112 150 6 6 L        EUR/HUF 395.211 210 9 4 L
    """,
    "metal": """
        XAU/USD 2331.45 18 15 95 ALN     XAG/USD 27.412 14 27 40 ALN      XPT/USD 965.20 140 24 8 LN
        XPD/USD 1012.50 350 38 5 LN      XAU/EUR 2148.30 35 15 10 LN      XAG/EUR 25.261 25 27 5 LN
    """,
    "index": """
        US500 5211.4 4 14 70 ALN         US100 18241.5 10 18 80 ALN       US30 39127.0 20 13 45 ALN
        US2000 2070.3 4 20 18 N          DE40 18175.5 9 15 45 L           UK100 7935.2 8 12 22 L
        FR40 8151.6 8 14 18 L            EU50 5063.2 9 15 18 L            JP225 39773.0 60 19 20 A
        AU200 7896.5 12 13 12 A          HK50 16541.0 50 25 14 A          CN50 12213.0 55 24 7 A
    """,
    "energy": """
        WTI.OIL 82.412 28 32 30 LN       BRENT.OIL 86.913 28 30 22 LN     NATGAS 1.7634 40 55 12 N
    """,
    "crypto": """
        BTC/USD 68412.50 900 50 85 ALN   ETH/USD 3512.40 90 60 60 ALN     SOL/USD 172.350 30 80 35 ALN
        XRP/USD 0.61532 25 75 25 ALN     BNB/USD 582.40 25 55 18 ALN      DOGE/USD 0.17412 15 95 22 ALN
        ADA/USD 0.58210 20 75 14 ALN     AVAX/USD 47.120 25 85 12 ALN     DOT/USD 8.6120 35 75 10 ALN
        LINK/USD 17.8410 60 75 11 ALN    LTC/USD 98.410 40 60 12 ALN      BCH/USD 612.30 30 75 9 ALN
        TRX/USD 0.12134 6 50 8 ALN       MATIC/USD 0.91230 30 80 9 ALN    UNI/USD 11.2340 60 85 7 ALN
        ATOM/USD 11.4120 60 75 7 ALN     XLM/USD 0.13412 12 70 6 ALN      ETC/USD 33.410 30 75 6 ALN
        FIL/USD 8.9120 60 85 5 ALN       NEAR/USD 7.0120 50 90 7 ALN      APT/USD 16.2310 90 85 5 ALN
        ARB/USD 1.51230 60 85 6 ALN      OP/USD 3.5120 30 90 5 ALN        INJ/USD 36.210 40 90 4 ALN
        SUI/USD 1.81230 70 95 6 ALN      ICP/USD 17.9120 90 85 4 ALN      HBAR/USD 0.10812 10 80 4 ALN
        VET/USD 0.04512 6 80 3 ALN       ALGO/USD 0.25312 16 80 3 ALN     AAVE/USD 121.340 90 80 4 ALN
        MKR/USD 3712.50 300 75 2 ALN     GRT/USD 0.37412 25 90 3 ALN      SAND/USD 0.64512 35 85 3 ALN
        MANA/USD 0.61210 35 85 3 ALN     AXS/USD 10.9120 80 85 2 ALN      EOS/USD 1.04512 45 75 3 ALN
        XMR/USD 138.420 110 60 3 ALN     ZEC/USD 29.410 60 80 2 ALN       BTC/EUR 63051.20 950 50 14 ALN
        ETH/EUR 3237.15 110 60 10 ALN
    """,
    "stock": """
        AAPL.US 171.48 4 26 20 N         MSFT.US 420.72 7 24 18 N         NVDA.US 903.56 18 50 28 N
        AMZN.US 180.38 5 30 16 N         GOOGL.US 150.93 4 28 14 N        META.US 485.58 10 36 14 N
        TSLA.US 175.79 5 55 24 N         AMD.US 180.49 6 50 14 N          NFLX.US 607.33 16 36 8 N
        JPM.US 200.30 5 20 7 N           V.US 279.08 6 18 5 N             KO.US 61.18 2 13 4 N
        DIS.US 122.36 4 26 5 N           BA.US 192.99 7 32 6 N            XOM.US 116.24 4 22 6 N
        PFE.US 27.75 2 24 4 N            INTC.US 44.17 2 38 7 N           COIN.US 265.12 14 75 8 N
        SAP.DE 180.46 6 24 5 L           SIE.DE 176.96 6 25 4 L           BMW.DE 106.94 5 26 3 L
        HSBA.UK 619.10 20 20 3 L
    """,
}


def instruments(count: int) -> list[Instrument]:
    """The `count` most traded ones; beyond the table, as many small stocks as are missing."""
    table = [instrument for kind, text in _TABLE.items() for instrument in _read(kind, text.split())]
    table.sort(key=lambda instrument: -instrument.weight)
    small_stocks = (
        _instrument("stock", f"S{number:05d}.US", f"{20 + number * 37 % 280}.50", "6", "30", "2", "N")
        for number in range(len(table) + 1, count + 1)
    )
    return [*table, *small_stocks][:count]


def _read(kind: Kind, words: list[str]) -> list[Instrument]:
    return [_instrument(kind, *words[at : at + 6]) for at in range(0, len(words), 6)]


def _instrument(kind: Kind, symbol: str, price: str, spread: str, percent: str, weight: str, regions: str) -> Instrument:
    digits = len(price.partition(".")[2])
    points = int(price.replace(".", ""))
    return Instrument(symbol, kind, digits, points, float(spread), float(percent) / 100, float(weight), regions)
