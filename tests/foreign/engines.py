"""The foreign engines, as commands; tests of one that is not installed are skipped and say what to do."""

import importlib.util
import os
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

_HERE = Path(__file__).parent
_MODULES = Path(os.environ.get("TICKVAULT_JSPUREFIX", "")) / "node_modules"

needs_quickfix = pytest.mark.skipif(
    importlib.util.find_spec("quickfix") is None,
    reason="QuickFIX is not installed: pip install quickfix (it compiles for minutes)",
)
needs_jspurefix = pytest.mark.skipif(
    shutil.which("node") is None or not (_MODULES / "jspurefix").is_dir(),
    reason="needs node, and jspurefix in the folder TICKVAULT_JSPUREFIX names: npm install --prefix FOLDER jspurefix",
)


def quickfix(options: str) -> tuple[list[str], Mapping[str, str]]:
    """C++, by its Python package."""
    return [sys.executable, str(_HERE / "quickfix_lp.py"), options], os.environ


def jspurefix(options: str) -> tuple[list[str], Mapping[str, str]]:
    """TypeScript, on Node."""
    return ["node", str(_HERE / "jspurefix_lp.js"), options], os.environ | {"NODE_PATH": str(_MODULES)}
