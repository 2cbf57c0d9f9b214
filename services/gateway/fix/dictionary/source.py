"""The format of the data files: JSON arrays, as short as they can be and still be read by people."""

import msgspec


class Members(msgspec.Struct, array_like=True):
    """Tags, groups, and components by name, in order; and the tags and components of them that are required."""

    all: "list[int | str | Group]"
    required: list[int | str] = []


class Group(msgspec.Struct, array_like=True):
    count_tag: int
    entry: Members


class MessageSource(msgspec.Struct, array_like=True):
    name: str
    body: Members


class FieldSource(msgspec.Struct, array_like=True):
    """`type` as QuickFIX writes it: UTCTIMESTAMP, PRICE, …"""

    name: str
    type: str
    values: list[str] = []


class Source(msgspec.Struct):
    """A version: fields by tag, components by name, messages by type."""

    fields: dict[int, FieldSource]
    components: dict[str, Members]
    messages: dict[str, MessageSource]
    header: Members
    trailer: Members


def load(data: bytes) -> Source:
    return msgspec.json.decode(data, type=Source)


def dump(source: Source) -> bytes:
    """One line a field, component and message, so that two versions of a file can be compared."""
    data = msgspec.json.encode(source)
    return data.replace(b'],"', b'],\n"') + b"\n"
