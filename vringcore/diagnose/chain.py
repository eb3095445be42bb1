"""The way from the symptom to the cause: the wait-for graph told as a few steps."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vringcore.diagnose.waits import request_id
from vringcore.diagnose.words import counted, joined

if TYPE_CHECKING:
    from vringcore.diagnose.facts import Facts
    from vringcore.model.findings import Finding, WaitEdge, WaitGraph, WaitNode

MAX_STEPS = 16

SHOWN = 3
"""Nodes of one kind that are named in a step; of more, their number is given."""

NOUNS = {"request": "request", "coroutine": "coroutine", "thread": "thread"}


def chain_of(facts: Facts, finding: Finding, graph: WaitGraph) -> tuple[str, ...]:
    """Return the steps from what an operator sees to what all of it waits for."""
    nodes = {node.id: node for node in graph.nodes}
    following: dict[str, list[WaitEdge]] = {}
    for edge in graph.edges:
        following.setdefault(edge.waiter, []).append(edge)
    level = _start(facts, finding, nodes, graph)
    seen = set(level)
    steps: list[str] = []
    standing_for = ""
    while level and len(steps) < MAX_STEPS:
        edges = [edge for node in level for edge in _onward(following.get(node, []))]
        level = list(dict.fromkeys(e.waits_for for e in edges if e.waits_for not in seen))
        seen.update(level)
        if not edges:
            continue
        waiters = _named([nodes[each] for each in dict.fromkeys(e.waiter for e in edges)])
        waiters, standing_for = standing_for or waiters, ""
        if all(nodes[e.waits_for].kind == "coroutine" for e in edges):
            standing_for = waiters  # the coroutine of a request is the request
            continue
        whom = _named([nodes[each] for each in dict.fromkeys(e.waits_for for e in edges)])
        reasons = list(dict.fromkeys(edge.why for edge in edges))
        why = f" ({reasons[0]})" if len(reasons) == 1 else ""
        steps.append(f"{waiters} -> {whom}{why}")
    return tuple(steps)


def _onward(edges: list[WaitEdge]) -> list[WaitEdge]:
    """Return the edges of a node to follow: not how it takes turns, if it waits for others, too."""
    outside = [each for each in edges if not each.waits_for.startswith(("lock:", "coroutine:"))]
    return outside or edges


def _start(
    facts: Facts, finding: Finding, nodes: dict[str, WaitNode], graph: WaitGraph
) -> list[str]:
    """Return where to begin: with the main loop if it waits for the threads of the finding."""
    threads = [f"thread:{lwp}" for lwp in finding.threads if f"thread:{lwp}" in nodes]
    if threads:
        before = {e.waiter for e in graph.edges if e.waits_for in threads}
        locks = {each for each in before if nodes[each].kind == "lock"}
        waiting = [e.waiter for e in graph.edges if e.waits_for in locks]
        loops = {f"thread:{thread.lwp}" for thread in facts.with_role("main-loop")}
        return [each for each in dict.fromkeys(waiting) if each in loops] or threads
    ids = [
        request_id(held)
        for held in facts.requests
        if held.device.index == finding.device
        and (finding.queue is None or held.line is None or finding.queue == held.line.queue.index)
    ]
    return [each for each in ids if each in nodes]


def _named(nodes: list[WaitNode]) -> str:
    kinds: dict[str, list[str]] = {}
    for node in nodes:
        kinds.setdefault(node.kind, []).append(node.label)
    parts = []
    for kind, labels in kinds.items():
        if len(labels) > SHOWN or kind == "coroutine":
            parts.append(counted(len(labels), NOUNS.get(kind, kind)))
        else:
            parts += labels
    return joined(parts)
