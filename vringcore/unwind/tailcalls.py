"""Functions that left by a tail call: a jump to another in place of a call and a return.

Such a function has no frame. Where it was can be told if the functions' tail calls allow one chain
only from what the caller called to what runs; of several chains, what all begin and end with. These
are the rules that gdb follows, so that the frames are gdb's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

MAX_FUNCTIONS = 512
"""Functions that are looked at between two frames."""

MAX_STEPS = 4096
"""Tail calls that are followed between two frames, on all chains together."""

Jump = tuple[int, int | None]
"""The address behind a tail call, and where it leads; None where that is not known."""


class TailCalls:
    """The graph of tail calls of one process.

    :param calls_of: gives the tail calls of the function that begins at an address, None where
        nothing tells of such a function; is told which function they are to lead to
    """

    def __init__(self, calls_of: Callable[[int, int], Sequence[Jump] | None]) -> None:
        self._calls_of = calls_of
        self._known: dict[tuple[int, int], Sequence[Jump] | None] = {}
        self._returning: dict[int, bool] = {}

    def between(self, called: int, running: int) -> tuple[int, ...]:
        """Return where functions left between a call and what runs, the last one first.

        :param called: where the function begins that the caller called
        :param running: where the one begins that has the frame
        :return: the addresses behind the jumps, none where they are not known for certain
        """
        if called == running:
            return ()
        graph = self._reached(called, running)
        if graph is None:
            return ()
        leading = _leading_to(running, graph)
        if called not in leading:
            return ()
        return _common(_Chains(graph, leading).between(called, running))

    def may_come_back(self, function: int) -> bool:
        """Tell whether a function may be entered again by a tail call of its own, or of another's.

        What its caller passed is then not what it was entered with last.
        """
        if function not in self._returning:
            graph = self._reached(function, function)
            found = graph is None or any(
                target == function for jumps in graph.values() for _, target in jumps
            )
            self._returning[function] = found
        return self._returning[function]

    def _reached(self, first: int, last: int) -> dict[int, Sequence[Jump]] | None:
        """Return the tail calls of all functions on the way; None if one leads to the unknown."""
        graph: dict[int, Sequence[Jump]] = {}
        waiting = [first]
        while waiting:
            function = waiting.pop()
            jumps = self._jumps(function, last)
            if jumps is None or len(graph) >= MAX_FUNCTIONS:
                return None
            graph[function] = jumps
            for _, target in jumps:
                if target is None:
                    return None
                if target != last and target not in graph and target not in waiting:
                    waiting.append(target)
        return graph

    def _jumps(self, function: int, last: int) -> Sequence[Jump] | None:
        key = function, last
        if key not in self._known:
            self._known[key] = self._calls_of(function, last)
        return self._known[key]


def _leading_to(last: int, graph: dict[int, Sequence[Jump]]) -> set[int]:
    """Return the functions from which chains lead to a function."""
    callers: dict[int, list[int]] = {}
    for function, jumps in graph.items():
        for _, target in jumps:
            if target is not None:
                callers.setdefault(target, []).append(function)
    found, waiting = {last}, [last]
    while waiting:
        for function in callers.get(waiting.pop(), ()):
            if function not in found:
                found.add(function)
                waiting.append(function)
    return found


class _Many(Exception):  # noqa: N818 - there are more chains than are followed
    pass


class _Chains:
    def __init__(self, graph: dict[int, Sequence[Jump]], leading: set[int]) -> None:
        self._graph = graph
        self._leading = leading
        self._steps = 0

    def between(self, first: int, last: int) -> Iterator[list[int]]:
        """Yield each chain of jumps, none of them twice in it.

        :raises _Many: after :data:`MAX_STEPS`
        """
        chain: list[int] = []
        waiting = [iter(self._graph[first])]
        while waiting:
            jump = next(waiting[-1], None)
            if jump is None:
                waiting.pop()
                if chain:
                    chain.pop()
                continue
            back, target = jump
            if target is None or target not in self._leading or back in chain:
                continue
            self._steps += 1
            if self._steps > MAX_STEPS:
                raise _Many
            if target == last:
                yield [*chain, back]
            else:
                chain.append(back)
                waiting.append(iter(self._graph[target]))


def _common(chains: Iterator[list[int]]) -> tuple[int, ...]:
    """Return what all chains begin and end with, the last jump first."""
    try:
        first = next(chains)
        start = end = len(first)
        for chain in chains:
            start = _alike(first[:start], chain)
            end = _alike(first[::-1][:end], chain[::-1])
            if not start and not end:
                return ()
    except (_Many, StopIteration):
        return ()
    end = min(end, len(first) - start) if start < len(first) else 0
    return (*reversed(first[len(first) - end :]), *reversed(first[:start]))


def _alike(one: list[int], other: list[int]) -> int:
    """Return how many jumps two chains have in common from their beginning."""
    count = 0
    for left, right in zip(one, other, strict=False):
        if left != right:
            break
        count += 1
    return count
