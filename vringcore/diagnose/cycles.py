"""Circles in a directed graph, without recursion: a core may make it as deep as it likes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator


def cycles(edges: Iterable[tuple[str, str]]) -> tuple[tuple[str, ...], ...]:
    """Return one circle of each strongly connected component that has one.

    A circle is given once, from its least node on; a node that leads to itself is a circle of one.
    """
    graph: dict[str, list[str]] = {}
    for start, end in edges:
        graph.setdefault(start, []).append(end)
        graph.setdefault(end, [])
    found = [
        _circle(graph, set(component))
        for component in _components(graph)
        if len(component) > 1 or component[0] in graph[component[0]]
    ]
    return tuple(sorted(found))


def _components(graph: dict[str, list[str]]) -> Iterator[list[str]]:
    """Yield strongly connected components (Kosaraju's algorithm with a stack of its own)."""
    backwards: dict[str, list[str]] = {node: [] for node in graph}
    for node, others in graph.items():
        for other in others:
            backwards[other].append(node)
    done: set[str] = set()
    finished = [node for root in graph for node in _finished(graph, root, done)]
    done.clear()
    for root in reversed(finished):
        if root not in done:
            yield list(_finished(backwards, root, done))


def _finished(graph: dict[str, list[str]], root: str, done: set[str]) -> Iterator[str]:
    """Yield what can be reached and is not ``done``, each after all that it leads to."""
    if root in done:
        return
    done.add(root)
    work = [(root, iter(graph[root]))]
    while work:
        node, following = work[-1]
        other = next((each for each in following if each not in done), None)
        if other is None:
            work.pop()
            yield node
        else:
            done.add(other)
            work.append((other, iter(graph[other])))


def _circle(graph: dict[str, list[str]], inside: set[str]) -> tuple[str, ...]:
    """Return a shortest way from a component's least node back to it."""
    start = min(inside)
    came_from: dict[str, str] = {}
    waiting = [start]
    for node in waiting:  # grows as it is walked: breadth first
        for other in graph[node]:
            if other == start:
                path = [node]
                while path[-1] != start:
                    path.append(came_from[path[-1]])
                return tuple(reversed(path))
            if other in inside and other not in came_from:
                came_from[other] = node
                waiting.append(other)
    return (start,)
