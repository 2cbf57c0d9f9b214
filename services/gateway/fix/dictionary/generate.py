"""Make the data files from QuickFIX's dictionaries: `python -m services.gateway.fix.dictionary.generate FOLDER`.

FOLDER holds FIX42.xml, FIX44.xml, FIXT11.xml and FIX50SP2.xml as the Python package quickfix 1.16.0 has them (share/quickfix).
They may be changed and passed on under the QuickFIX Software License 1.0, which stands beside this file (LICENSE.quickfix).
"""

import sys
from collections.abc import Iterable
from pathlib import Path
from xml.etree import ElementTree as ET

from services.gateway.fix.dictionary.source import FieldSource, Group, Members, MessageSource, Source, dump

VERSIONS = {"FIX.4.2": "FIX42", "FIX.4.4": "FIX44", "FIXT.1.1": "FIXT11", "FIX.5.0SP2": "FIX50SP2"}


def convert(document: ET.Element) -> Source:
    """A version from its document. That of FIX.5.0SP2 has neither header nor trailer: they are FIXT's."""
    tags = {field.attrib["name"]: int(field.attrib["number"]) for field in document.iterfind("fields/field")}
    fields = {
        tags[field.attrib["name"]]: FieldSource(
            field.attrib["name"], field.attrib["type"], [value.attrib["enum"] for value in field]
        )
        for field in document.iterfind("fields/field")
    }
    return Source(
        fields=fields,
        components={
            component.attrib["name"]: _members(component, tags) for component in document.iterfind("components/component")
        },
        messages={
            message.attrib["msgtype"]: MessageSource(message.attrib["name"], _members(message, tags))
            for message in document.iterfind("messages/message")
        },
        header=_members(document.iterfind("header/*"), tags),
        trailer=_members(document.iterfind("trailer/*"), tags),
    )


def _members(children: Iterable[ET.Element], tags: dict[str, int]) -> Members:
    every: list[int | str | Group] = []
    required: list[int | str] = []
    for child in children:
        name = child.attrib["name"]
        key = name if child.tag == "component" else tags[name]
        every.append(Group(tags[name], _members(child, tags)) if child.tag == "group" else key)
        if child.attrib["required"] == "Y":
            required.append(key)
    return Members(every, required)


def _complete(session: ET.Element, application: ET.Element) -> None:
    """QuickFIX leaves NoMsgTypes(384) out of the Logon of FIXT.1.1: the component is there, but empty."""
    fields = {field.attrib["name"]: field for field in application.iterfind("fields/field")}
    known = {field.attrib["name"] for field in session.iterfind("fields/field")}
    for component in session.iterfind("components/component"):
        full = application.find(f"components/component[@name='{component.attrib['name']}']")
        if len(component) == 0 and full is not None:
            component.extend(full)
            missing = [member.attrib["name"] for member in full.iterfind(".//*") if member.attrib["name"] not in known]
            ET.SubElement(session, "fields").extend(fields[name] for name in missing)


def main() -> None:
    folder = Path(sys.argv[1])
    documents = {version: ET.parse(folder / f"{name}.xml").getroot() for version, name in VERSIONS.items()}  # noqa: S314 - chosen files
    _complete(documents["FIXT.1.1"], documents["FIX.5.0SP2"])
    for version, document in documents.items():
        Path(__file__).with_name(f"{version}.json").write_bytes(dump(convert(document)))


if __name__ == "__main__":
    main()
