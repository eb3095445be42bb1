"""The nodes of a wait-for graph in groups: boxes of those who wait alike."""

from __future__ import annotations

from textwrap import wrap
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterable

    from vringcore.model.findings import WaitEdge, WaitGraph, WaitNode

# Lengths are in the drawing's own units, of which a phone shows about 330 side by side.
CHARACTER = 7.0
BOLD = 8.6
"""Widths of characters, on the wide side: a page does not choose the reader's font."""
PADDING = 10
WIDEST = 26
"""Characters in a line of a box."""

NAMED = 3
"""Labels shown in a box of several; the rest are counted."""

PLURALS = {
    "request": "requests",
    "coroutine": "coroutines",
    "thread": "threads",
    "lock": "locks",
    "drain": "drained sections",
    "timer": "timers",
    "server": "servers",
}


class Group(msgspec.Struct, frozen=True):
    """Nodes that wait for the same and are waited for by the same."""

    kind: str
    nodes: tuple[WaitNode, ...]
    in_cycle: bool

    @property
    def title(self) -> str:
        """What the box says first: a node's label, or how many there are."""
        if len(self.nodes) == 1:
            return self.nodes[0].label
        return f"{len(self.nodes)} {PLURALS.get(self.kind, self.kind)}"

    @property
    def title_lines(self) -> int:
        """How many of the box's lines its title takes."""
        return len(wrap(self.title, WIDEST))

    @property
    def shape(self) -> str:
        """The style of the box: a lock's, that of what stands outside QEMU, or the usual one."""
        return {"lock": "lock", "server": "outside", "kernel": "outside"}.get(self.kind, "usual")

    @property
    def lines(self) -> list[str]:
        """The lines of the box, each short enough for it."""
        lines = wrap(self.title, WIDEST)
        if len(self.nodes) > 1 and self.kind != "coroutine":  # whose labels are addresses
            lines += [_cut(each.label) for each in self.nodes[:NAMED]]
            if len(self.nodes) > NAMED:
                lines.append(f"and {len(self.nodes) - NAMED} more")
        return lines

    @property
    def width(self) -> float:
        """What the box needs."""
        title = self.lines[: self.title_lines]
        return max(text_width(title) * BOLD / CHARACTER, text_width(self.lines)) + 2 * PADDING


def groups_of(graph: WaitGraph) -> list[Group]:
    """Return the nodes in groups: those of a group have alike neighbours, as far as kinds go.

    Begins with all of a kind in one group, and parts those whose neighbours are in different
    groups until nothing changes. Nodes of a circle stay alone, and those without edges are left
    out.
    """
    cyclic = {each for cycle in graph.cycles for each in cycle}
    joined = {each for edge in graph.edges for each in (edge.waiter, edge.waits_for)}
    nodes = [node for node in graph.nodes if node.id in joined]
    group: dict[str, object] = {
        node.id: node.id if node.id in cyclic else node.kind for node in nodes
    }
    while True:
        around: dict[str, set[tuple[str, object]]] = {node.id: set() for node in nodes}
        for edge in graph.edges:
            if edge.waiter in around and edge.waits_for in around:
                around[edge.waiter].add(("waits for", group[edge.waits_for]))
                around[edge.waits_for].add(("is waited for by", group[edge.waiter]))
        numbers: dict[tuple[object, frozenset[tuple[str, object]]], int] = {}
        finer: dict[str, object] = {}
        for node in nodes:
            key = (group[node.id], frozenset(around[node.id]))
            finer[node.id] = numbers.setdefault(key, len(numbers))
        if len(numbers) == len(set(group.values())):
            break
        group = finer
    members: dict[object, list[WaitNode]] = {}
    for node in nodes:
        members.setdefault(group[node.id], []).append(node)
    return [Group(each[0].kind, tuple(each), each[0].id in cyclic) for each in members.values()]


def _cut(text: str) -> str:
    """Return as much as a line holds; what stands in parentheses goes as a whole."""
    if len(text) <= WIDEST:
        return text
    short = text[: WIDEST - 1]
    return (short.rpartition(" (")[0] or short.rstrip()) + "…"


def text_width(lines: Iterable[str]) -> float:
    """Return the width of the longest line."""
    return max((len(line) for line in lines), default=0) * CHARACTER


def edges_of(graph: WaitGraph) -> list[tuple[str, WaitEdge, str]]:
    """Return each edge between the labels of its ends, for a table."""
    labels = {node.id: node.label for node in graph.nodes}
    return [
        (labels.get(edge.waiter, edge.waiter), edge, labels.get(edge.waits_for, edge.waits_for))
        for edge in graph.edges
    ]
