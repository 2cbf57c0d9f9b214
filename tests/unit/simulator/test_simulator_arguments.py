"""The command line."""

import math
from pathlib import Path

import pytest

from libs.common.settings import SettingsError, load
from services.simulator.__main__ import parse_arguments
from services.simulator.service import Options
from services.simulator.settings import SimulatorSettings


def test_without_arguments_the_defaults_stand():
    assert parse_arguments([]) == Options()


def test_every_option_reaches_its_field():
    line = (
        "--port 0 --http-port 0 --provider LP-2 --ledger l.csv --resend gapfill --seed 9 --symbols 5 --rate 0.5 --entries 20"
        " --replay a b --timezone UTC-5 --speed max --count 7 --duration-s 1.5 --exit-when-done"
    )
    assert parse_arguments(line.split()) == Options(
        0, 0, "LP-2", Path("l.csv"), "gapfill", 9, 5, 0.5, 20, (Path("a"), Path("b")), "UTC-5", math.inf, 7, 1.5, True
    )
    line = "--fix FIX.5.0SP2 --depth 20 --depth-by price --trades 0.25 --no-listing --refuse A/B --refuse C"
    assert parse_arguments(line.split()) == Options(
        fix="FIX.5.0SP2", depth=20, depth_by="price", trades=0.25, listing=False, refuse=("A/B", "C")
    )
    assert parse_arguments(["--stream", "mass_quote"]) == Options(stream="mass_quote")


@pytest.mark.parametrize(
    "line",
    [
        "--port 70000",
        "--rate -1",
        "--rate nan",
        "--symbols 0",
        "--entries 3",
        "--speed 0",
        "--speed fast",
        "--count 0",
        "--provider a,b",
        "--fix FIX.4.3",
        "--stream trades",
        "--depth 0",
        "--depth-by name",
        "--trades 1.1",
        "--depth 2 --replay a.csv",
        "--depth 2 --entries 4",
        "--stream quote --trades 0.1",
        "--stream mass_quote --depth 2",
    ],
)
def test_what_cannot_be_is_refused(line, capsys):
    with pytest.raises(SystemExit) as error:
        parse_arguments(line.split())
    assert error.value.code == 2
    assert line.split()[0] in capsys.readouterr().err


def test_the_http_port_is_a_setting(monkeypatch):
    assert load(SimulatorSettings).simulator_http_port == 8085
    monkeypatch.setenv("TICKVAULT_SIMULATOR_HTTP_PORT", "9000")
    assert load(SimulatorSettings).simulator_http_port == 9000


def test_a_misspelt_setting_stops_the_simulator(monkeypatch):
    monkeypatch.setenv("TICKVAULT_SIMULATOR_HTTPPORT", "9000")
    with pytest.raises(SettingsError):
        load(SimulatorSettings)
