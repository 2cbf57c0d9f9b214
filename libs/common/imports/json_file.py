"""JSON in the forms that ticks are found in. Numbers are taken as the text they are written in: no price passes through a float.

    array of objects    [{"symbol": "EURUSD", "timestamp": 1549267200071, "bid": 1.14425, "ask": 1.14427}, …]   streamed
    lines               {"s": "EURUSD", "t": "2019-02-04T08:00:00.071Z", "b": 1.14425, "a": 1.14427}            streamed
    columns of arrays   {"symbol": "EURUSD", "timestamp": […], "bid": […], "ask": […]}                          whole
    object with rows    {"symbol": "EURUSD", "data": [{…}, …]}                                                  whole
    Dukascopy's v1      {"timestamp": …, "multiplier": …, "ask": …, "times": […], "asks": […], …}               whole

Streamed is what may be of any size; what is held whole may have DOCUMENT_BYTES_MAX.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from itertools import chain
from typing import Any, Literal

from libs.common.domain.errors import Rejected
from libs.common.imports.column import by_names, by_role
from libs.common.imports.detection import Detection, Head, Reading
from libs.common.imports.dukascopy import V1_KEYS, detect_v1
from libs.common.imports.option import Options
from libs.common.imports.source import read_blocks
from libs.common.imports.table import LINE_CHARS_MAX, Block, Quote, RejectedLine, Table, raw_bytes
from libs.common.imports.tabular import tabulate
from libs.common.imports.text import lines, texts

DOCUMENT_BYTES_MAX = 2**25  # of what is held whole: a busy day in columns; it takes ten times that in memory
BLOCK_ITEMS = 5_000
SAMPLE_ITEMS = 1_000
_SPACE = " \t\r\n"
_BETWEEN = _SPACE + ","
_DECODER = json.JSONDecoder(parse_float=str, parse_int=str, parse_constant=str)

Form = Literal["array", "lines", "document"]
Item = tuple[int, str, Any]  # number, as it stands in the file, what it is; None where it is no JSON
Chunk = tuple[list[Any] | None, Callable[[], list[Item]]]  # decoded at once, where that went well; and one by one


@dataclass(slots=True)
class JsonReading:
    """`keys` are the table's columns."""

    detection: Detection
    table: Table
    keys: tuple[str, ...]
    form: Form

    def read(self, blocks: Iterator[bytes]) -> Iterator[Block]:
        if self.form == "document":
            chunks = _document_chunks(_rows_of(load(blocks))[0])
        else:
            chunks = (line_chunks if self.form == "lines" else array_chunks)(texts(blocks))
        for values, items in chunks:
            quotes = None if values is None else self._at_once(values)
            yield self._one_by_one(items()) if quotes is None else Block(quotes, [])

    def _at_once(self, values: list[Any]) -> list[Quote] | None:
        try:
            return self.table.at_once([[value.get(key) for key in self.keys] for value in values]) if values else []
        except AttributeError:
            return None

    def _one_by_one(self, items: list[Item]) -> Block:
        objects = [(number, raw, value) for number, raw, value in items if isinstance(value, dict)]
        block = self.table.one_by_one((number, raw, [value.get(key) for key in self.keys]) for number, raw, value in objects)
        others = [(number, raw) for number, raw, value in items if not isinstance(value, dict)]
        block.rejected.extend(
            RejectedLine(self.table.file, number, "not a JSON object", raw_bytes(raw)) for number, raw in others
        )
        return block


def detect_json(head: Head, options: Options) -> Reading | None:
    """None where it does not begin as JSON does."""
    text = "".join(texts([head.data])).lstrip(_SPACE)
    if text[:1] not in ("[", "{"):
        if options.format == "json":
            raise Rejected("JSON begins with [ or {")
        return None
    form: Form = "array" if text[0] == "[" else "lines"
    named = None
    if form == "array":
        sample = [value for _, _, value in _scan(text[1:], 1, is_all=head.whole)[0]]
    else:
        whole_lines = text if head.whole else text.rpartition("\n")[0]
        sample = [value for _, _, value in _line_items(1, whole_lines.split("\n"))]
        if sum(map(_is_flat, sample)) * 2 <= len(sample):
            form, document = "document", load(_whole(head))
            if isinstance(document, dict) and document.keys() >= V1_KEYS:
                return detect_v1(head, document, options, load)
            sample, named = _rows_of(document)
    objects = [value for value in sample[:SAMPLE_ITEMS] if isinstance(value, dict)]
    if not objects:
        raise Rejected("JSON, but not of objects with a time, a bid and an ask")
    keys = tuple(dict.fromkeys(key for value in objects for key in value))
    if options.columns is not None and len(options.columns) != len(keys):
        raise Rejected(f"--columns names {len(options.columns)} keys, and there are {len(keys)}")
    layout = by_role(options.columns) if options.columns is not None else by_names(keys, "keys", ",")
    rows = [[value if isinstance(value := item.get(key), str) else "" for key in keys] for item in objects]
    lead = {"array": "json, array of objects", "lines": "json, an object a line", "document": "json, one document"}[form]
    detection, table = tabulate(head, "json", lead, rows, layout, options, named=named)
    return JsonReading(detection, table, keys, form)


def _is_flat(value: Any) -> bool:
    return isinstance(value, dict) and not any(isinstance(inner, dict | list) for inner in value.values())


def _whole(head: Head) -> Iterator[bytes]:
    if head.whole:
        return iter([head.data])
    if head.source.stream is not None:
        raise Rejected("a JSON document of this size cannot be read from a stream: give a file, or an object a line")
    return read_blocks(head.source)


def load(blocks: Iterable[bytes]) -> Any:
    """One JSON document; Rejected where it is none, or longer than DOCUMENT_BYTES_MAX."""
    held: list[bytes] = []
    size = 0
    for block in blocks:
        held.append(block)
        size += len(block)
        if size > DOCUMENT_BYTES_MAX:
            raise Rejected(f"one JSON document above {DOCUMENT_BYTES_MAX} bytes: write an object a line, or an array of objects")
    try:
        return _DECODER.decode("".join(texts(held)))
    except (ValueError, RecursionError) as error:
        raise Rejected(f"not a JSON document: {error}") from error


def _rows_of(document: Any) -> tuple[list[Any], tuple[str, str] | None]:
    """The objects of a document, made of its columns where it has those, and the symbol that stands beside them."""
    arrays = {key: value for key, value in document.items() if isinstance(value, list)} if isinstance(document, dict) else {}
    if "data" in arrays:  # a page of our own history, which has gaps beside them
        arrays = {"data": arrays["data"]}
    if not arrays or len(set(map(len, arrays.values()))) != 1:
        raise Rejected("a JSON document without one array of objects, and without arrays of one length")
    symbols = [value for key, value in document.items() if key.lower() == "symbol" and isinstance(value, str)]
    named = (symbols[0], "beside the ticks") if symbols else None
    if len(arrays) == 1:
        return next(iter(arrays.values())), named
    return [dict(zip(arrays, values, strict=True)) for values in zip(*arrays.values(), strict=True)], named


def _decode_all(items: str) -> list[Any] | None:
    """The values of an array's inside; None where anything in it is no JSON."""
    try:
        values: list[Any] = _DECODER.decode(f"[{items}]")
    except (ValueError, RecursionError):
        return None
    return values


def _document_chunks(rows: Sequence[Any]) -> Iterator[Chunk]:
    for at in range(0, len(rows), BLOCK_ITEMS):
        part = list(rows[at : at + BLOCK_ITEMS])
        yield part, partial(_document_items, part, at + 1)


def _document_items(part: Sequence[Any], first: int) -> list[Item]:
    return [(number, json.dumps(row), row) for number, row in enumerate(part, first)]


def line_chunks(pieces: Iterable[str]) -> Iterator[Chunk]:
    """A chunk a piece, of objects that stand in a line each."""
    for first, raws in lines(pieces):
        filled = [raw for raw in raws if raw.strip()]
        values = _decode_all(",".join(filled))
        yield values if values is not None and len(values) == len(filled) else None, partial(_line_items, first, raws)


def _line_items(first: int, raws: Sequence[str]) -> list[Item]:
    return [(number, raw, _decode(raw.strip())) for number, raw in enumerate(raws, first) if raw.strip()]


def _decode(raw: str) -> Any:
    try:
        return _DECODER.decode(raw)
    except (ValueError, RecursionError):
        return None


def array_chunks(pieces: Iterable[str]) -> Iterator[Chunk]:
    """A chunk a piece, of an array's items. What is no JSON goes as far as the next `}`. Rejected where the end is missing."""
    buffer, number, opened = "", 1, False
    for text in chain(pieces, [None]):
        buffer += text or ""
        if not opened:
            buffer = buffer.lstrip(_SPACE)
            opened, buffer = bool(buffer), buffer[1:]
        cut = buffer.rfind("}") + 1
        ends_in_no_object = text is None or (not cut and len(buffer) > LINE_CHARS_MAX)
        values = None if ends_in_no_object else _decode_all(buffer[:cut].strip(_BETWEEN))
        if values is not None:
            yield values, partial(_array_items, buffer[:cut], number)
            number += len(values)
        else:
            items, cut = _scan(buffer, number, is_all=text is None)
            yield None, partial(list, items)
            number += len(items)
        buffer = buffer[cut:]
        if buffer.startswith("]"):
            buffer = buffer.rstrip(_SPACE)
    if buffer.strip(_BETWEEN) != "]":
        raise Rejected(f"cut off: the JSON array does not end, behind item {number - 1}")


def _array_items(text: str, first: int) -> list[Item]:
    return _scan(text, first, is_all=True)[0]


def _scan(text: str, first: int, *, is_all: bool) -> tuple[list[Item], int]:
    """(the items of the inside of an array, where the next one begins); what may go on in the next piece is left."""
    items: list[Item] = []
    at = 0
    while True:
        while at < len(text) and text[at] in _BETWEEN:
            at += 1
        if at == len(text):
            return items, at
        if text[at] == "]":
            if text[at + 1 :].strip(_SPACE):
                raise Rejected(f"there is more behind the end of the JSON array: {text[at + 1 : at + 40]!r}")
            return items, at
        value: Any = None
        end = 0
        with suppress(ValueError, RecursionError):
            value, end = _DECODER.raw_decode(text, at)
        may_go_on = end in (0, len(text))  # a number has no end of its own
        if may_go_on and not is_all and len(text) - at <= LINE_CHARS_MAX:
            return items, at
        end = end or text.find("}", at) + 1 or len(text)
        items.append((first + len(items), text[at:end], value))
        at = end
