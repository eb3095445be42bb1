"""Chains of tail calls between a call and what runs: functions are numbers, jumps lead on."""

from __future__ import annotations

from collections.abc import Sequence

from vringcore.unwind.tailcalls import Jump, TailCalls

Graph = dict[int, list[Jump]]


def graph(calls: Graph) -> TailCalls:
    def calls_of(function: int, last: int) -> Sequence[Jump] | None:
        return calls.get(function)

    return TailCalls(calls_of)


def test_the_only_chain_is_told_the_last_jump_first() -> None:
    assert graph({1: [(11, 2)], 2: [(21, 3), (22, 4)], 4: []}).between(1, 3) == (21, 11)


def test_a_direct_call_leaves_nothing_out() -> None:
    assert graph({1: [(11, 2)]}).between(1, 1) == ()


def test_of_several_chains_only_what_they_have_in_common() -> None:
    calls: Graph = {1: [(11, 2)], 2: [(21, 3), (22, 4)], 3: [(31, 5)], 4: [(41, 5)], 5: [(51, 6)]}
    assert graph(calls).between(1, 6) == (51, 11)
    assert graph({1: [(11, 3), (12, 3)]}).between(1, 3) == ()


def test_a_jump_to_the_unknown_spoils_all() -> None:
    assert graph({1: [(11, 2), (12, None)]}).between(1, 2) == ()
    assert graph({1: [(11, 2), (12, 3)]}).between(1, 2) == ()


def test_functions_that_jump_in_circles() -> None:
    calls: Graph = {1: [(11, 2)], 2: [(21, 1), (22, 3)], 3: []}
    assert graph(calls).between(1, 3) == (22, 11)  # no jump twice: gdb's rule
    assert graph(calls).may_come_back(1)
    assert not graph({1: [(11, 2)], 2: []}).may_come_back(1)
    assert graph({1: [(11, None)]}).may_come_back(1)


def test_more_chains_than_can_be_followed() -> None:
    calls: Graph = {n: [(10 * n, n + 1), (10 * n + 1, n + 1)] for n in range(40)}
    assert graph(calls).between(0, 40) == ()
    endless: Graph = {n: [(10 * n, n + 1)] for n in range(100_000)}
    assert graph(endless).between(0, 99_999) == ()
