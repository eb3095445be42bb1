"""Who waits for whom, as a drawing: boxes of those who wait alike, arrows with their reasons."""

from __future__ import annotations

from itertools import pairwise
from textwrap import wrap
from typing import TYPE_CHECKING

import msgspec

from vringcore.report.html.groups import CHARACTER, PADDING, Group, groups_of, text_width
from vringcore.report.html.layers import order_rows, rows_of, turned_edges, with_waypoints

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from vringcore.model.findings import WaitGraph

LINE = 17
BETWEEN = 26
WAYPOINT = 12
GAP = 34
MARGIN = 6
SMALL = 6.2
"""Width of a character of a reason."""

REASON = 30
"""Characters in a line of a reason."""

MOST = 80
"""Boxes in a drawing: one of more is no help."""


class Box(msgspec.Struct, frozen=True):
    """A group in its place; ``x`` and ``y`` are its upper left corner."""

    group: Group
    x: float
    y: float
    width: float
    height: float


class Arrow(msgspec.Struct, frozen=True):
    """An arrow from who waits to what is waited for: an SVG path, and its reason beside it."""

    path: str
    in_cycle: bool
    reason: tuple[str, ...]
    x: float
    y: float
    width: float


class Drawing(msgspec.Struct, frozen=True):
    """The whole drawing."""

    width: float
    height: float
    boxes: tuple[Box, ...]
    arrows: tuple[Arrow, ...]


def draw(graph: WaitGraph) -> Drawing | None:
    """Return the drawing of a graph, None where nobody waits, or it would have too many boxes."""
    groups = groups_of(graph)
    if not 0 < len(groups) <= MOST:
        return None
    number = {node.id: at for at, group in enumerate(groups) for node in group.nodes}
    reasons: dict[tuple[int, int], list[str]] = {}
    for edge in graph.edges:
        if edge.waiter in number and edge.waits_for in number:
            ends = number[edge.waiter], number[edge.waits_for]
            if ends[0] != ends[1]:
                reasons.setdefault(ends, []).append(edge.why)
    edges = list(reasons)
    cyclic = _cyclic(graph.cycles, number)
    return _Layout(groups, edges, [_reason(reasons[each]) for each in edges], cyclic).drawing()


def _cyclic(cycles: Iterable[Sequence[str]], number: dict[str, int]) -> set[tuple[int, int]]:
    """Return the edges that are part of a circle."""
    found = set()
    for cycle in cycles:
        at = [number[each] for each in cycle if each in number]
        found |= set(zip(at, [*at[1:], *at[:1]], strict=True))
    return found


def _reason(reasons: list[str]) -> tuple[str, ...]:
    """Return what all edges of an arrow have in common, in lines; their numbers may differ."""
    told = dict.fromkeys(reasons)
    if len(told) > 1:
        told = dict.fromkeys(_without_numbers(each) for each in reasons)
    if len(told) > 1:
        return (f"{len(reasons)} for {len(told)} reasons",)
    return tuple(wrap(next(iter(told)), REASON))


def _without_numbers(text: str) -> str:
    return " ".join("…" if any(map(str.isdecimal, word)) else word for word in text.split(" "))


class _Layout:
    """The places of boxes, waypoints and reasons."""

    def __init__(
        self,
        groups: list[Group],
        edges: list[tuple[int, int]],
        reasons: list[tuple[str, ...]],
        cyclic: set[tuple[int, int]],
    ) -> None:
        turned = turned_edges(len(groups), edges)
        down = [(end, start) if (start, end) in turned else (start, end) for start, end in edges]
        rows, short, self._ways = with_waypoints(rows_of(len(groups), down), down)
        self._groups, self._edges, self._reasons = groups, edges, reasons
        self._turned, self._cyclic = turned, cyclic
        self._rows, self._order = rows, order_rows(rows, short)
        self._widths = [each.width for each in groups]
        self._heights = [len(each.lines) * LINE + 2 * PADDING for each in groups]
        waypoints = len(rows) - len(groups)
        self._widths += [WAYPOINT] * waypoints
        self._heights += [0] * waypoints
        self._left, self._whole = self._across(short)
        self._leaving, self._arriving = self._ports()
        self._shelf, self._lines = self._shelves()
        self._top, self._bottom = self._down()

    def drawing(self) -> Drawing:
        """Return boxes and arrows."""
        boxes = tuple(
            Box(
                group,
                self._left[at],
                self._top[self._rows[at]],
                self._widths[at],
                self._heights[at],
            )
            for at, group in enumerate(self._groups)
        )
        height = self._bottom[-1] + MARGIN
        return Drawing(self._whole, height, boxes, tuple(self._arrows()))

    def _across(self, short: Sequence[tuple[int, int]]) -> tuple[list[float], float]:
        """Return the left edge of each box, and the width of the whole.

        A row stands in the middle, each box under the middle of those above it where there is room.
        """
        left = [0.0] * len(self._rows)
        above: dict[int, list[int]] = {}
        for start, end in short:
            above.setdefault(end, []).append(start)
        widths = self._widths
        totals = [sum(widths[box] + BETWEEN for box in row) - BETWEEN for row in self._order]
        widest = max((text_width(reason) for reason in self._reasons), default=0.0)
        whole = max(*totals, widest) + 2 * MARGIN
        if self._turned:  # arrows upwards pass beside the boxes, and their reasons too
            whole += widest
        for row, total in zip(self._order, totals, strict=True):
            wished = []
            x = (whole - total) / 2
            for box in row:
                over = [left[each] + widths[each] / 2 for each in above.get(box, ())]
                wished.append(sum(over) / len(over) if over else x + widths[box] / 2)
                x += widths[box] + BETWEEN
            centres = _apart(wished, [widths[box] for box in row], whole)
            for box, centre in zip(row, centres, strict=True):
                left[box] = centre - widths[box] / 2
        return left, whole

    def _shelves(self) -> tuple[list[int], list[list[int]]]:
        """Return the shelf of each arrow's reason, and the lines of the shelves under each row.

        Reasons that would lie over each other, between the same rows, stand on different shelves.
        """
        shelf = [0] * len(self._ways)
        lines: list[list[int]] = [[] for _ in self._order]
        taken: dict[tuple[int, int], list[tuple[float, float]]] = {}
        for number, (way, reason) in enumerate(zip(self._ways, self._reasons, strict=True)):
            row, half = self._rows[way[self._step(number)]], text_width(reason) / 2 + CHARACTER
            middle = self._reason_at(number, 0.5)
            while any(
                low < middle + half and middle - half < high
                for low, high in taken.get((row, shelf[number]), ())
            ):
                shelf[number] += 1
            at = shelf[number]
            taken.setdefault((row, at), []).append((middle - half, middle + half))
            lines[row] += [0] * (at + 1 - len(lines[row]))
            lines[row][at] = max(lines[row][at], len(reason))
        return shelf, lines

    def _down(self) -> tuple[list[float], list[float]]:
        """Return the upper and the lower edge of each row; between rows reasons have room."""
        top, bottom = [], []
        y = float(MARGIN)
        for row, lines in zip(self._order, self._lines, strict=True):
            top.append(y)
            bottom.append(y + max(self._heights[box] for box in row))
            y = bottom[-1] + GAP + sum(lines) * LINE
        return top, bottom

    def _arrows(self) -> Iterable[Arrow]:
        for number, (edge, way) in enumerate(zip(self._edges, self._ways, strict=True)):
            x = self._leaving[number]
            strokes = []
            y = self._top[self._rows[way[0]]] + self._heights[way[0]]
            for start, end in pairwise(way):
                bottom, top = self._bottom[self._rows[start]], self._top[self._rows[end]]
                x2 = self._arriving[number] if end == way[-1] else self._middle(end)
                strokes += [(x, y, x, bottom), (x, bottom, x2, top)]
                x, y = x2, top
            row, at = self._rows[way[self._step(number)]], self._shelf[number]
            lines = self._lines[row]
            before = GAP / 2 + sum(lines[:at]) * LINE
            share = (before + lines[at] * LINE / 2) / (GAP + sum(lines) * LINE)
            reason = self._reasons[number]
            yield Arrow(
                _path(strokes, backwards=edge in self._turned),
                edge in self._cyclic,
                reason,
                self._reason_at(number, share),
                self._bottom[row] + before + (lines[at] - len(reason)) * LINE / 2,
                text_width(reason) * SMALL / CHARACTER,
            )

    def _step(self, number: int) -> int:
        """Return on which step of an arrow's way its reason stands: where it begins."""
        return len(self._ways[number]) - 2 if self._edges[number] in self._turned else 0

    def _reason_at(self, number: int, share: float) -> float:
        """Return the middle of a reason that stands on its arrow so far on to the next row."""
        way, step = self._ways[number], self._step(number)
        x1 = self._middle(way[step]) if step else self._leaving[number]
        last = step == len(way) - 2
        x2 = self._arriving[number] if last else self._middle(way[step + 1])
        x = x1 + (x2 - x1) * (3 - 2 * share) * share * share
        half = text_width(self._reasons[number]) / 2 + MARGIN
        return max(half, min(x, self._whole - half))

    def _ports(self) -> tuple[list[float], list[float]]:
        """Return where each edge leaves its upper box and enters its lower one, side by side."""
        leaving, arriving = [0.0] * len(self._ways), [0.0] * len(self._ways)
        for ports, at, toward in ((leaving, 0, 1), (arriving, -1, -2)):
            by_box: dict[int, list[int]] = {}
            for number, way in enumerate(self._ways):
                by_box.setdefault(way[at], []).append(number)
            for box, numbers in by_box.items():
                numbers.sort(key=lambda each: self._middle(self._ways[each][toward]))
                step = self._widths[box] / (len(numbers) + 1)
                for place, number in enumerate(numbers, 1):
                    ports[number] = self._left[box] + step * place
        return leaving, arriving

    def _middle(self, box: int) -> float:
        return self._left[box] + self._widths[box] / 2


def _apart(wished: list[float], widths: list[float], whole: float) -> list[float]:
    """Return centres near the wished ones, in their order, none over another, within the whole."""
    centres = []
    edge = float(MARGIN)
    for wish, width in zip(wished, widths, strict=True):
        centres.append(max(wish, edge + width / 2))
        edge = centres[-1] + width / 2 + BETWEEN
    edge = whole - MARGIN
    for at in reversed(range(len(centres))):
        centres[at] = min(centres[at], edge - widths[at] / 2)
        edge = centres[at] - widths[at] / 2 - BETWEEN
    return centres


def _path(strokes: list[tuple[float, float, float, float]], *, backwards: bool) -> str:
    """Return an SVG path of lines down and of curves; an arrow that was turned begins at its end.

    The strokes that do not lead straight down are curves, which begin and end upright.
    """
    if backwards:
        strokes = [(x2, y2, x1, y1) for x1, y1, x2, y2 in reversed(strokes)]
    text = f"M{strokes[0][0]:.1f} {strokes[0][1]:.1f}"
    for x1, y1, x2, y2 in strokes:
        if y1 == y2:
            continue  # an arrow's head takes its direction from the last stroke
        half = (y1 + y2) / 2
        curve = f"C{x1:.1f} {half:.1f} {x2:.1f} {half:.1f}" if x1 != x2 else "L"
        text += f"{curve} {x2:.1f} {y2:.1f}"
    return text
