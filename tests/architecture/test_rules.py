"""Rules the layers alone cannot keep."""

import re
import subprocess
import tomllib
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PRODUCTION = [*ROOT.glob("services/**/*.py"), *ROOT.glob("libs/**/*.py")]


def files_with(pattern: str) -> set[str]:
    return {str(path.relative_to(ROOT)) for path in PRODUCTION if re.search(pattern, path.read_text("utf-8"))}


def test_nothing_trims_a_stream_by_length_which_would_delete_what_is_not_yet_stored() -> None:
    lines = [line for path in ROOT.glob("libs/common/bus/*.py") for line in path.read_text("utf-8").splitlines()]
    assert not [line for line in lines if "maxlen" in line.lower() and "ALERTS_KEPT" not in line], "alerts are a log for people"


@pytest.mark.parametrize(
    ("name", "places"),
    [
        (r'"ticks:\{', {"libs/common/bus/keys.py"}),
        (r'"persisted:', {"libs/common/bus/keys.py"}),
        (r"ticks_\{", {"libs/common/store/layout.py"}),
        (r'"journal"', {"libs/common/store/layout.py"}),
    ],
)
def test_a_stream_or_file_name_is_written_in_one_place(name: str, places: set[str]) -> None:
    assert files_with(name) == places


def test_no_sql_is_put_together_from_values() -> None:
    statements = files_with(r"execute\w*\(\s*f[\"']")
    # pragmas of named constants, and statements put together from our own fixed pieces
    assert statements <= {"libs/common/store/day.py", "libs/common/store/reader.py", "libs/common/store/schema.py"}


def test_every_service_says_its_contract() -> None:
    for path in ROOT.glob("services/*/__init__.py"):
        text = path.read_text("utf-8")
        assert all(word in text for word in ("Consumes", "Produces", "Owns", "Scales", "On failure")), path


def test_every_service_has_an_extra_of_its_own() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["optional-dependencies"]
    services = {path.parent.name for path in ROOT.glob("services/*/__main__.py")}
    assert services <= set(extras)


def test_what_systems_do_in_different_ways_is_written_in_one_place() -> None:
    calls = r"\bfcntl\b|\bmsvcrt\b|add_signal_handler|SIGKILL|fdatasync|os\.nice|O_DIRECTORY|sys\.platform|os\.fork"
    assert files_with(calls) == {"libs/common/platform.py"}


def test_no_registry_is_named() -> None:
    hosts = "|".join(("pypi" + r"\.org", "pythonhosted" + r"\.org", "npmjs" + r"\.org", "debian" + r"\.org"))
    tracked = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout.decode().split("\0")
    found = [name for name in tracked if name and re.search(hosts, (ROOT / name).read_text("utf-8", "replace"))]
    assert found == []


def test_no_two_tests_are_of_one_name_since_they_are_collected_together() -> None:
    names = Counter(path.name for path in ROOT.glob("tests/**/test_*.py"))
    assert [name for name, count in names.items() if count > 1] == []
