"""What the README and the pages below docs/ say about the code is so."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from services.gateway.feeds import FixFeed, load_feeds

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def test_the_readme_s_tables_are_those_of_the_code():
    command = [sys.executable, "-m", "docs.generate", "--check"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\((?!https?:)([^)#]+)[^)]*\)", page.read_text("utf-8")):
        assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_every_key_of_the_feeds_file_is_explained():
    page, *_ = (ROOT / "docs" / "feeds.md").read_text("utf-8").partition("\n## Feeds of JSON")
    explained = set(re.findall(r"^\| `(\w+)`", page, re.MULTILINE))
    assert explained == set(FixFeed.model_fields)


def test_every_example_of_a_feeds_file_is_one(tmp_path):
    page = (ROOT / "docs" / "feeds.md").read_text("utf-8")
    examples = re.findall(r"```toml\n(.*?)```", page, re.DOTALL)
    assert examples
    for example in examples:
        path = tmp_path / "feeds.toml"
        path.write_text(example, "utf-8")
        assert load_feeds(path).all, example


def test_every_metric_is_in_the_runbook():
    page = (ROOT / "docs" / "operations.md").read_text("utf-8")
    for path in (ROOT / "services").rglob("*.py"):
        for kind, name in re.findall(r"\b(gauge|total|histogram)\(\s*\"([\w.]+)\"", path.read_text("utf-8")):
            shown = name.replace(".", "_") + ("_total" if kind == "total" else "")
            assert f"`{shown}" in page, f"{shown} of {path.relative_to(ROOT)} is not in docs/operations.md"


def test_the_make_targets_that_the_readme_names_exist():
    makefile = (ROOT / "Makefile").read_text("utf-8")
    targets = set(re.findall(r"(?:`|^    )make ([a-z]+)", (ROOT / "README.md").read_text("utf-8"), re.MULTILINE))
    assert targets >= {"demo", "test", "check", "bench", "chaos"}
    for target in targets:
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target
