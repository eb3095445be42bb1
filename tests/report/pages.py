"""Pages to be looked at: parsed without a browser, and made from hostile reports."""

from __future__ import annotations

from html.parser import HTMLParser
from typing import Any

import msgspec
from msgspec.structs import replace

from tests.lab.cases import CoreCase, iter_dumps
from vringcore.model.report import Report, RingDocument

VOID = {"meta", "link", "br"}

HOSTILE = (
    "<script>document.title='owned'</script>\"'><img src=x onerror=\"document.title='owned'\">"
    "{{ 7 * 7 }}]]>--></style></title></svg>\x00\u202e&amp;"
)
"""Ends whatever it stands in, runs a script, loads an image, turns text around."""

Element = tuple[str, dict[str, str | None]]


class Parsed(HTMLParser):
    """A page's elements and text; that every element is closed is checked on the way."""

    def __init__(self, page: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[Element] = []
        self.pieces: list[str] = []
        self._open: list[str] = []
        self.feed(page)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.pieces.append(data)

    @property
    def text(self) -> str:
        return "".join(self.pieces)

    @property
    def tags(self) -> set[str]:
        return {tag for tag, _ in self.elements}

    def having(self, tag: str, **attributes: str) -> list[dict[str, str | None]]:
        """Return the attributes of elements of this kind; ``class_`` is one of their classes."""
        wanted = attributes.pop("class_", None)
        return [
            found
            for each, found in self.elements
            if each == tag
            and all(found.get(name) == value for name, value in attributes.items())
            and (wanted is None or wanted in (found.get("class") or "").split())
        ]


def dump(name: str) -> CoreCase:
    """Return a small core by the name of its case: ``7.2/idle``."""
    return next(
        core for core in iter_dumps() if core.case.name == f"dumps/{name}" and core.kind == "gcore"
    )


def report_and_rings(core: CoreCase) -> tuple[Report, list[RingDocument]]:
    """Return what a page of a core is made from."""
    with core.open() as opened:
        report = opened.why()
        rings = [
            opened.ring(str(device.index), queue.index)
            for device in report.devices or ()
            for queue in device.queues or ()
        ]
    return report, rings


KEPT = {"schema", "ring", "ring_state", "state", "severity", "source"}
"""Fields whose words decide what is shown: they stay, so that as much as possible is."""


def poisoned(value: Any) -> Any:
    """Return a report all of whose texts end in what would break a careless page."""
    if isinstance(value, msgspec.Struct):
        fields = {
            name: getattr(value, name) if name in KEPT else poisoned(getattr(value, name))
            for name in value.__struct_fields__
        }
        return replace(value, **fields)
    if isinstance(value, str):
        return value + HOSTILE if value else value
    if isinstance(value, tuple | list):
        return type(value)(poisoned(each) for each in value)
    if isinstance(value, dict):
        return {poisoned(name): poisoned(each) for name, each in value.items()}
    return value
