"""A small layered layout of directed graphs: boxes in rows, every arrow downwards but in circles.

The usual four steps (K. Sugiyama, S. Tagawa, M. Toda, 1981): arrows that close a circle are turned
for the time being; each box gets the row after the last of those that point to it; rows are put in
an order in which few arrows cross; boxes get their places. The same graph always looks the same.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

SWEEPS = 8
"""Passes over the rows that put them in order."""

Edge = tuple[int, int]
"""Indices of two boxes: from, to."""


def turned_edges(count: int, edges: Sequence[Edge]) -> set[Edge]:
    """Return the edges that close circles: without them, or turned, the graph has none.

    :param count: of boxes, which are numbered from 0
    """
    following = _following(count, edges)
    turned: set[Edge] = set()
    state = [0] * count  # 1: on the way that is being followed, 2: done
    # Those nobody points to come first, so that a circle is entered where the picture begins.
    pointed = {end for _, end in edges}
    for root in sorted(range(count), key=lambda each: (each in pointed, each)):
        if state[root]:
            continue
        state[root] = 1
        way = [(root, iter(following[root]))]
        while way:
            box, rest = way[-1]
            step = next(rest, None)
            if step is None:
                state[box] = 2
                way.pop()
            elif state[step] == 1:
                turned.add((box, step))
            elif not state[step]:
                state[step] = 1
                way.append((step, iter(following[step])))
    return turned


def rows_of(count: int, edges: Sequence[Edge]) -> list[int]:
    """Return each box's row; the edges have no circle, and each leads to a later row."""
    following = _following(count, edges)
    before = [0] * count
    for _, end in edges:
        before[end] += 1
    row = [0] * count
    ready = [box for box in range(count) if not before[box]]
    for box in ready:
        for step in following[box]:
            row[step] = max(row[step], row[box] + 1)
            before[step] -= 1
            if not before[step]:
                ready.append(step)
    return row


def with_waypoints(
    row: list[int], edges: Sequence[Edge]
) -> tuple[list[int], list[Edge], list[list[int]]]:
    """Give an edge over several rows a waypoint in each row that it passes.

    :return: rows of boxes and, numbered on, waypoints; edges from one row to the next; the way of
        each edge, its boxes included
    """
    rows = list(row)
    short: list[Edge] = []
    ways: list[list[int]] = []
    for start, end in edges:
        way = [start]
        for between in range(row[start] + 1, row[end]):
            way.append(len(rows))
            rows.append(between)
        way.append(end)
        ways.append(way)
        short += pairwise(way)
    return rows, short, ways


def order_rows(rows: Sequence[int], edges: Sequence[Edge]) -> list[list[int]]:
    """Return the boxes of each row from left to right, by the middle of those they belong to."""
    order: list[list[int]] = [[] for _ in range(max(rows, default=-1) + 1)]
    for box, at_row in enumerate(rows):
        order[at_row].append(box)
    above: list[list[int]] = [[] for _ in rows]
    below: list[list[int]] = [[] for _ in rows]
    for start, end in edges:
        above[end].append(start)
        below[start].append(end)
    for sweep in range(SWEEPS):
        down = sweep % 2 == 0
        neighbours = above if down else below
        for row in order if down else order[::-1]:
            place = {box: _share(at, each) for each in order for at, box in enumerate(each)}
            middle = {box: _mean([place[each] for each in neighbours[box] or [box]]) for box in row}
            row.sort(key=middle.__getitem__)
    return order


def _following(count: int, edges: Sequence[Edge]) -> list[list[int]]:
    found: list[list[int]] = [[] for _ in range(count)]
    for start, end in edges:
        found[start].append(end)
    return found


def _share(at: int, row: list[int]) -> float:
    """Return a place in a row as a number from 0 to 1, so that rows of any length compare."""
    return (at + 0.5) / len(row)


def _mean(places: list[float]) -> float:
    return sum(places) / len(places)
