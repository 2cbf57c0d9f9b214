"""What a command says: a line of text, or with --json one object a line."""

import sys
from typing import Any

import msgspec


def say(found: Any, text: str, *, as_json: bool) -> None:
    print(msgspec.json.encode(found).decode() if as_json else text, flush=True)


def refuse(text: str) -> int:
    """The exit code where arguments or environment have to be corrected."""
    print(f"tickvault: {text}", file=sys.stderr)
    return 2
