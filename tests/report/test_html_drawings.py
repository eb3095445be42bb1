"""The drawings of the HTML page as plain geometry: layers, groups, slots, rings, sheets."""

from __future__ import annotations

import itertools
import re

from hypothesis import given
from hypothesis import strategies as st

from tests.report import samples
from vringcore.model.findings import WaitEdge, WaitGraph, WaitNode
from vringcore.model.queues import Counts, Queue
from vringcore.model.report import RingDocument
from vringcore.model.requests import InFlight
from vringcore.model.rings import AvailEntry, PackedRing, PackedSlot, SplitRing, UsedEntry
from vringcore.model.values import Absent, Address
from vringcore.report.html.graph import MOST, Drawing, draw
from vringcore.report.html.groups import groups_of
from vringcore.report.html.layers import order_rows, rows_of, turned_edges, with_waypoints
from vringcore.report.html.ring import CELLS, EDGE, LINE, RingDrawing, draw_ring
from vringcore.report.html.sheet import verb_sheet
from vringcore.report.html.slots import CANDIDATE, FREE, IN_FLIGHT, TAKEN, UNSEEN, slots_of
from vringcore.report.queues import print_queues
from vringcore.report.text import render

COUNT = 9
EDGES = st.lists(
    st.tuples(st.integers(0, COUNT - 1), st.integers(0, COUNT - 1)).filter(lambda e: e[0] != e[1]),
    unique=True,
    max_size=20,
)


def down(edges: list[tuple[int, int]]) -> list[tuple[int, int]]:
    turned = turned_edges(COUNT, edges)
    return [(end, start) if (start, end) in turned else (start, end) for start, end in edges]


@given(EDGES)
def test_every_edge_leads_to_a_later_row(edges: list[tuple[int, int]]) -> None:
    made = down(edges)
    row = rows_of(COUNT, made)
    assert all(row[start] < row[end] for start, end in made)


@given(EDGES)
def test_only_edges_of_circles_are_turned(edges: list[tuple[int, int]]) -> None:
    for start, end in turned_edges(COUNT, edges):
        reached, waiting = {end}, [end]
        while waiting:
            here = waiting.pop()
            new = {to for at, to in edges if at == here} - reached
            reached |= new
            waiting += new
        assert start in reached


@given(EDGES)
def test_waypoints_make_every_step_one_row_long(edges: list[tuple[int, int]]) -> None:
    made = down(edges)
    rows, short, ways = with_waypoints(rows_of(COUNT, made), made)
    assert all(rows[end] == rows[start] + 1 for start, end in short)
    assert [(way[0], way[-1]) for way in ways] == made
    order = order_rows(rows, short)
    assert sorted(box for row in order for box in row) == list(range(len(rows)))
    assert all(rows[box] == at for at, row in enumerate(order) for box in row)


KINDS = ("thread", "lock", "request", "coroutine")


@st.composite
def graphs(draw_: st.DrawFn) -> WaitGraph:
    kinds = draw_(st.lists(st.sampled_from(KINDS), min_size=COUNT, max_size=COUNT))
    nodes = tuple(WaitNode(f"{k}:{at}", k, f"{k} {at}" * 3) for at, k in enumerate(kinds))
    edges = tuple(
        WaitEdge(nodes[start].id, nodes[end].id, draw_(st.sampled_from(["it waits", "slot 7", ""])))
        for start, end in draw_(EDGES)
    )
    return WaitGraph(nodes, edges, ())


@given(graphs())
def test_everybody_with_an_edge_is_in_one_group(graph: WaitGraph) -> None:
    grouped = [node.id for group in groups_of(graph) for node in group.nodes]
    assert sorted(grouped) == sorted(
        {end for edge in graph.edges for end in (edge.waiter, edge.waits_for)}
    )


@given(graphs())
def test_those_of_a_group_wait_for_the_same_groups(graph: WaitGraph) -> None:
    group = {node.id: at for at, each in enumerate(groups_of(graph)) for node in each.nodes}
    for each in groups_of(graph):
        told = {
            (
                frozenset(group[e.waits_for] for e in graph.edges if e.waiter == node.id),
                frozenset(group[e.waiter] for e in graph.edges if e.waits_for == node.id),
                node.kind,
            )
            for node in each.nodes
        }
        assert len(told) == 1


@given(graphs())
def test_boxes_do_not_lie_over_each_other_or_outside(graph: WaitGraph) -> None:
    drawing = draw(graph)
    if drawing is None:
        assert not graph.edges
        return
    boxes = drawing.boxes
    for at, a in enumerate(boxes):
        assert a.x >= 0
        assert a.x + a.width <= drawing.width
        assert a.y + a.height <= drawing.height
        for b in boxes[:at]:
            beside = a.x + a.width < b.x or b.x + b.width < a.x
            assert beside or a.y + a.height < b.y or b.y + b.height < a.y
    for arrow in drawing.arrows:
        numbers = [float(each) for each in re.findall(r"-?[\d.]+", arrow.path)]
        assert all(0 <= x <= drawing.width for x in numbers[::2])
        assert all(0 <= y <= drawing.height for y in numbers[1::2])


def deadlock() -> Drawing:
    nodes = [
        WaitNode(f"{kind}:{n}", kind, f"{kind} {n}") for kind in ("thread", "lock") for n in "12"
    ]
    ends = ["thread:1", "lock:1", "thread:2", "lock:2"]
    edges = [WaitEdge(a, b, "held") for a, b in zip(ends, ends[1:] + ends[:1], strict=True)]
    waiters = [WaitNode(f"thread:{n}", "thread", f"vCPU {n}") for n in range(3, 9)]
    edges += [WaitEdge(each.id, "lock:1", "it waits") for each in waiters]
    drawing = draw(WaitGraph((*nodes, *waiters), tuple(edges), (tuple(ends),)))
    assert drawing is not None
    return drawing


def test_a_circle_is_marked_and_stays_apart_from_those_who_wait_for_it() -> None:
    drawing = deadlock()
    assert [box.group.title for box in drawing.boxes if not box.group.in_cycle] == ["6 threads"]
    assert sum(arrow.in_cycle for arrow in drawing.arrows) == 4
    assert len(drawing.arrows) == 5


def test_too_many_boxes_are_not_drawn() -> None:
    nodes = tuple(WaitNode(f"request:{n}", "request", "") for n in range(MOST + 2))
    edges = tuple(WaitEdge(a.id, b.id, "") for a, b in itertools.pairwise(nodes))
    assert draw(WaitGraph(nodes, edges, ())) is None


# Rings


def queue(**members: object) -> Queue:
    base = samples.queue(0)
    return Queue(**{name: getattr(base, name) for name in base.__struct_fields__} | members)  # type: ignore[arg-type]


def split(
    heads: list[int], *, avail: int, last: int, used: int, held: list[int], source: str = "element"
) -> RingDocument:
    size = len(heads)
    marks: dict[int, tuple[str, ...]] = {}
    for name, index in (("avail.idx", avail), ("last_avail_idx", last)):
        marks[index % size] = (*marks.get(index % size, ()), name)
    entries = tuple(AvailEntry(at, head, marks.get(at, ())) for at, head in enumerate(heads))
    given_back = tuple(
        UsedEntry(at, 0, 0, ("used_idx",) if at == used % size else ()) for at in range(size)
    )
    return RingDocument(
        tool=samples.TOOL,
        device_id="disk0",
        qom_path="/disk0",
        queue=queue(
            in_flight=tuple(InFlight(head, source, "") for head in held),
            counts=Counts((avail - last) & 0xFFFF, 0, 0, None, 0, None),
        ),
        split=SplitRing(
            Address(0), Address(0), Address(0), (), entries, given_back, samples.SPLIT.guest
        ),
        chains=(),
    )


@st.composite
def split_rings(draw_: st.DrawFn) -> tuple[RingDocument, set[int], set[int]]:
    """Return a ring, the slots of requests in flight, and those of requests that are unseen."""
    size = draw_(st.sampled_from([4, 16, 256, 1024]))
    avail = draw_(st.integers(0, 0xFFFF))
    unseen = draw_(st.integers(0, size // 2))
    held = draw_(st.integers(0, size // 2))
    last = (avail - unseen) & 0xFFFF
    heads = list(range(size))  # each head once: no request is there twice
    taken = draw_(st.permutations(range(1, size - unseen + 1)).map(lambda each: each[:held]))
    slots = {(last - back) % size for back in taken}
    new = {(avail - back) % size for back in range(1, unseen + 1)}
    used = (last - held) & 0xFFFF
    made = split(heads, avail=avail, last=last, used=used, held=[heads[at] for at in slots])
    return made, slots, new


@given(split_rings())
def test_slots_of_a_split_ring_are_found(made: tuple[RingDocument, set[int], set[int]]) -> None:
    document, held, unseen = made
    slots = slots_of(document)
    assert {each.slot for each in slots if each.state == IN_FLIGHT} == held
    assert {each.slot for each in slots if each.state == UNSEEN} == unseen


def drawn(document: RingDocument) -> RingDrawing:
    drawing = draw_ring(document)
    assert drawing is not None
    return drawing


@given(split_rings())
def test_arcs_hold_every_slot_once(made: tuple[RingDocument, set[int], set[int]]) -> None:
    document, held, unseen = made
    drawing = drawn(document)
    found: dict[str, list[int]] = {IN_FLIGHT: [], UNSEEN: []}
    for arc in drawing.arcs:
        found[arc.state] += [(arc.first + step) % drawing.size for step in range(arc.count)]
    assert sorted(found[IN_FLIGHT]) == sorted(held)
    assert sorted(found[UNSEEN]) == sorted(unseen)


@given(split_rings())
def test_names_stand_within_the_drawing_and_not_over_each_other(
    made: tuple[RingDocument, set[int], set[int]],
) -> None:
    marks = drawn(made[0]).marks
    assert {name for mark in marks for name, _ in mark.names} == {
        "avail.idx",
        "last_avail_idx",
        "used_idx",
    }
    for right in (True, False):
        lines = [m.y + at * LINE for m in marks if m.right is right for at in range(len(m.names))]
        assert all(abs(y) <= EDGE for y in lines)
        lines.sort()
        assert all(b - a >= LINE - 0.2 for a, b in itertools.pairwise(lines))


@given(split_rings())
def test_strips_have_the_slots_at_which_indices_stand(
    made: tuple[RingDocument, set[int], set[int]],
) -> None:
    document, held, unseen = made
    drawing = drawn(document)
    cells = [cell for strip in drawing.strips for cell in strip]
    assert len(cells) == len({cell.slot for cell in cells}) <= CELLS
    if not held | unseen:
        assert not cells
        return
    assert {mark.slot for mark in drawing.marks} <= {cell.slot for cell in cells}
    for strip in drawing.strips:
        slots = [cell.slot for cell in strip]
        assert all((a + 1) % drawing.size == b for a, b in itertools.pairwise(slots))


def test_a_head_is_in_the_slot_in_which_it_was_published_last() -> None:
    made = split([7, 3, 7, 3], avail=4, last=4, used=2, held=[7])
    assert [each.state for each in slots_of(made)] == [FREE, FREE, IN_FLIGHT, FREE]


def test_requests_that_the_ring_alone_tells_of_are_candidates() -> None:
    made = split([1, 2, 3, 4], avail=2, last=2, used=0, held=[1], source="ring")
    assert [each.state for each in slots_of(made)] == [CANDIDATE, FREE, FREE, FREE]


def test_slots_of_a_packed_ring_are_told_by_their_chains() -> None:
    states = ["used", "taken", "taken", "taken", "available", "left-over"]
    slots = tuple(
        PackedSlot(at, Address(0), 1, at, 0, (), state, ("used_idx",) if at == 1 else ())
        for at, state in enumerate(states)
    )
    chain = samples.Chain(9, "complete", (samples.Descriptor(1, Address(0), 1, 0, id=9),), 0, 0)
    made = RingDocument(
        tool=samples.TOOL,
        device_id=None,
        qom_path="/disk0",
        queue=queue(ring="packed", in_flight=(InFlight(9, "element", "", chain_end="complete"),)),
        packed=PackedRing(Address(0), Address(0), Address(0), slots, samples.LOST),  # type: ignore[arg-type]
        chains=(chain,),
    )
    assert [each.state for each in slots_of(made)] == [FREE, IN_FLIGHT, TAKEN, TAKEN, UNSEEN, FREE]


def test_a_ring_that_cannot_be_read_is_not_drawn() -> None:
    assert draw_ring(samples.LOST_RING) is None
    assert isinstance(samples.LOST_RING.split, Absent)


# Sheets


def test_a_sheet_says_what_the_verb_prints() -> None:
    text = render(
        lambda page: print_queues(page, samples.REPORT, detailed=False), width=None, color=False
    )
    sheet = verb_sheet(print_queues, samples.REPORT, detailed=False)
    told = [
        cell
        for part in sheet.filled
        for block in part.blocks
        for row in (block.header, *block.rows)
        for each in row
        for cell in each.lines
    ]
    told += [block.text for part in sheet.filled for block in part.blocks]
    told += sheet.footnotes
    words = {word for cell in told for word in cell.split()}
    printed = {word for line in text.splitlines()[1:] for word in line.split()}
    limits = {
        word
        for each in samples.REPORT.limits
        for word in f"{each.what}: {each.why}; {each.hint}".split()
    }
    assert printed - words <= limits
