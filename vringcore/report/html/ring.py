"""A virtqueue's ring as a drawing: slots in a circle, what is in them, and where indices stand."""

from __future__ import annotations

from math import cos, pi, sin
from typing import TYPE_CHECKING

import msgspec

from vringcore.report.html.slots import (
    CANDIDATE,
    FREE,
    IN_FLIGHT,
    TAKEN,
    WORDS,
    SlotCell,
    slots_of,
)
from vringcore.report.queues import filled_by_device

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Iterator, Sequence

    from vringcore.model.report import RingDocument

# Lengths in the drawing's own units; its middle is 0, 0.
RADIUS = 84.0
THICK = 22.0
LABELS = RADIUS + 30.0
LINE = 16.0
EDGE = 120.0
"""Half the height that labels may use."""
LEAST = 6.0
"""Degrees that a run of slots takes at least, so that one of 1024 can be seen."""
DIVIDED = 64
"""The largest ring whose slots are drawn apart."""

AROUND = 2
"""Slots shown on either side of one that matters, in the strip of slots."""
CELLS = 32
"""Slots in the strip, at most."""

GLANCE = 16
"""Slots in the strip that are shown without being asked for, at most."""

SHAPES = {
    "avail.idx": "triangle",
    "avail_event": "bar",
    "driver_event": "bar",
    "device_event": "bar",
    "used_event": "bar",
    "last_avail_idx": "diamond",
    "used.idx": "circle",
    "used_idx": "circle",
}
"""What stands at the slot of each index: a shape tells them apart where colours do not."""


class Arc(msgspec.Struct, frozen=True):
    """A run of slots in one state, as an SVG path along the middle of the ring."""

    state: str
    first: int
    count: int
    path: str

    @property
    def title(self) -> str:
        """What is said when it is pointed at."""
        slots = f"slot {self.first}" if self.count == 1 else f"{self.count} slots from {self.first}"
        return f"{slots}: {WORDS[self.state]}"


class Mark(msgspec.Struct, frozen=True):
    """The indices that stand at one slot: a notch there, and a line that leads to their names.

    :param names: with the shape that stands before each
    :param x: where the shapes stand, the first at ``y``
    :param right: names are to the right of the shapes, else to the left
    """

    slot: int
    names: tuple[tuple[str, str], ...]
    notch: str
    leader: str
    x: float
    y: float
    right: bool


class RingDrawing(msgspec.Struct, frozen=True):
    """One ring. ``strips`` are runs of neighbouring slots; between them slots are left out."""

    size: int
    arcs: tuple[Arc, ...]
    span: str
    marks: tuple[Mark, ...]
    ticks: tuple[tuple[int, float, float], ...]
    divided: bool
    counts: dict[str, int]
    strips: tuple[tuple[SlotCell, ...], ...]
    left_out: int

    @property
    def short(self) -> bool:
        """Whether the strips are short enough to be read at a glance."""
        return sum(map(len, self.strips)) <= GLANCE


def draw_ring(document: RingDocument) -> RingDrawing | None:
    """Return the drawing of a queue's ring, None where there is none or it cannot be read."""
    slots = slots_of(document)
    if not slots:
        return None
    told = {IN_FLIGHT, TAKEN, CANDIDATE} if filled_by_device(document.queue.role) else WORDS
    return _drawing(slots, told)


def _drawing(slots: list[SlotCell], told: Container[str]) -> RingDrawing:
    """Return the drawing of slots; those in a state that is to be told are in the strips, too."""
    size = len(slots)
    runs = [run for run in _runs(slots) if run[0] != FREE]
    counts: dict[str, int] = {}
    for state, _, count in runs:
        counts[state] = counts.get(state, 0) + count
    shown = [cell for cell in slots if cell.state in told]
    strips, left_out = _strips(slots, shown) if shown else ((), 0)
    return RingDrawing(
        size=size,
        arcs=tuple(Arc(*run, _arc(run[1], run[2], size, RADIUS)) for run in runs),
        span=_span(slots),
        marks=tuple(_marks(slots)),
        ticks=tuple(_ticks(size)),
        divided=size <= DIVIDED,
        counts=counts,
        strips=strips,
        left_out=left_out,
    )


def _runs(slots: Sequence[SlotCell]) -> Iterator[tuple[str, int, int]]:
    """Yield runs of one state: the state, the first slot, the number; also across slot 0."""
    size = len(slots)
    changes = [at for at in range(size) if slots[at].state != slots[at - 1].state]
    if not changes:
        yield slots[0].state, 0, size
        return
    for at, start in enumerate(changes):
        end = changes[(at + 1) % len(changes)]
        yield slots[start].state, start, (end - start) % size


def _place(slot: float, size: int, radius: float) -> tuple[float, float]:
    """Return the point of a slot: slot 0 is on top, and they go round as a clock does."""
    angle = 2 * pi * slot / size
    return radius * sin(angle), -radius * cos(angle)


def _arc(first: float, count: float, size: int, radius: float) -> str:
    """Return an SVG path along slots; a full circle as two halves, which SVG needs."""
    least = LEAST * size / 360
    if count < least:
        first, count = first + (count - least) / 2, least
    if count >= size:
        return (
            f"M0 {-radius:.1f}A{radius:.1f} {radius:.1f} 0 1 1 0 {radius:.1f}"
            f"A{radius:.1f} {radius:.1f} 0 1 1 0 {-radius:.1f}"
        )
    x1, y1 = _place(first, size, radius)
    x2, y2 = _place(first + count, size, radius)
    large = int(2 * count > size)
    return f"M{x1:.1f} {y1:.1f}A{radius:.1f} {radius:.1f} 0 {large} 1 {x2:.1f} {y2:.1f}"


def _span(slots: Sequence[SlotCell]) -> str:
    """Return the inner arc from where the device gives back to where it takes: what it holds."""
    place = {name: cell.slot for cell in slots for name in cell.marks}
    start, end = place.get("used_idx"), place.get("last_avail_idx")
    if start is None or end is None or start == end:
        return ""
    size = len(slots)
    return _arc(start, (end - start) % size, size, RADIUS - THICK / 2 - 6)


def _ticks(size: int) -> Iterator[tuple[int, float, float]]:
    """Yield the quarters of the ring with their slots' numbers."""
    for quarter in range(4 if size >= 4 else 1):
        slot = size * quarter // 4
        x, y = _place(slot, size, RADIUS - THICK / 2 - 18)
        yield slot, round(x, 1), round(y + 4, 1)


def _marks(slots: Sequence[SlotCell]) -> Iterator[Mark]:
    """Yield the marks with their names beside the ring, none over another.

    Names go to the side of the ring that they are on, in the order of height, pushed apart.
    """
    size = len(slots)
    marked = [cell for cell in slots if cell.marks]
    for right in (True, False):
        side = [cell for cell in marked if (_place(cell.slot, size, 1)[0] >= 0) is right]
        side.sort(key=lambda cell: (_place(cell.slot, size, 1)[1], cell.slot))
        wished = [_place(cell.slot, size, LABELS)[1] for cell in side]
        heights = [len(cell.marks) * LINE + 6 for cell in side]
        for cell, y in zip(side, _spread(wished, heights), strict=True):
            yield _mark(cell, size, y, right=right)


def _mark(cell: SlotCell, size: int, y: float, *, right: bool) -> Mark:
    x1, y1 = _place(cell.slot, size, RADIUS + THICK / 2 + 1)
    x2, y2 = _place(cell.slot, size, RADIUS + THICK / 2 + 9)
    x = LABELS + 14 if right else -LABELS - 14
    end = x - 9 if right else x + 9
    return Mark(
        slot=cell.slot,
        names=tuple((name, SHAPES.get(name, "bar")) for name in cell.marks),
        notch=f"M{x1:.1f} {y1:.1f}L{x2:.1f} {y2:.1f}",
        leader=f"M{x2:.1f} {y2:.1f}L{end:.1f} {y:.1f}",
        x=x,
        y=round(y - (len(cell.marks) - 1) * LINE / 2, 1),
        right=right,
    )


def _spread(wished: list[float], heights: list[float]) -> list[float]:
    """Return middles near the wished ones, in their order, none over another or outside."""
    middles = []
    edge = -EDGE
    for wish, height in zip(wished, heights, strict=True):
        middles.append(max(wish, edge + height / 2))
        edge = middles[-1] + height / 2
    edge = EDGE
    for at in reversed(range(len(middles))):
        middles[at] = min(middles[at], edge - heights[at] / 2)
        edge = middles[at] - heights[at] / 2
    return middles


def _strips(
    slots: Sequence[SlotCell], told: Sequence[SlotCell]
) -> tuple[tuple[tuple[SlotCell, ...], ...], int]:
    """Return the slots near an index and those to be told as runs, and how many are left out.

    Slots at which an index stands come first where there is not room for all.
    """
    size = len(slots)

    def near(cells: Iterable[SlotCell]) -> list[int]:
        steps = range(-AROUND, AROUND + 1)
        return [(cell.slot + step) % size for cell in cells for step in steps]

    marked = near(cell for cell in slots if cell.marks)
    wanted = list(dict.fromkeys(marked + [cell.slot for cell in told]))
    kept = sorted(wanted[:CELLS])
    strips: list[list[SlotCell]] = []
    for slot in kept:
        if strips and strips[-1][-1].slot == slot - 1:
            strips[-1].append(slots[slot])
        else:
            strips.append([slots[slot]])
    if len(strips) > 1 and kept[0] == 0 and kept[-1] == size - 1:
        strips = [strips[-1] + strips[0], *strips[1:-1]]  # neighbours across the ring's end
    return tuple(map(tuple, strips)), len(wanted) - len(kept)
