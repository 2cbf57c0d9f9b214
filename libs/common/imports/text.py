"""Bytes to text and lines. Latin-1 gives every byte a character and back: numbers and symbols are ASCII in any encoding.

A byte order mark is believed; UTF-16 without one is refused. CRLF and LF end a line.
"""

import codecs
from collections.abc import Iterable, Iterator

from libs.common.imports.table import LINE_CHARS_MAX

_UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


def texts(blocks: Iterable[bytes]) -> Iterator[str]:
    decoder: codecs.IncrementalDecoder | None = None
    for block in blocks:
        if decoder is None:
            encoding = "utf-16" if block.startswith(_UTF16) else "latin-1"
            decoder = codecs.getincrementaldecoder(encoding)(errors="replace")
            block = block.removeprefix(codecs.BOM_UTF8)  # noqa: PLW2901 - of the first one
        yield decoder.decode(block)


def lines(pieces: Iterable[str]) -> Iterator[tuple[int, list[str]]]:
    """(number of the first, lines). A line longer than LINE_CHARS_MAX is cut behind it, so that it is still seen to be longer."""
    carry, number = "", 1
    for text in pieces:
        found = (carry + text).replace("\r\n", "\n").split("\n")
        carry = found.pop()
        if len(carry) > LINE_CHARS_MAX:
            carry = carry[: LINE_CHARS_MAX + 1]
        if found:
            yield number, found
            number += len(found)
    if carry:
        yield number, [carry]
