"""The verdict: what is stuck and why, the evidence for it, and what would refute it."""

from __future__ import annotations

from typing import Any

import msgspec

from vringcore.model.values import Hex


class Evidence(msgspec.Struct, frozen=True, omit_defaults=True):
    """A fact that anyone can check by hand.

    :param what: what it is, in words
    :param value: as the report shows it elsewhere
    :param address: where it was read
    :param c_path: the C expression that `vringcore print` (and gdb) show the same for
    :param file_offset: of ``address`` in the core, where the core itself holds it
    """

    what: str
    value: Any
    address: Hex | None = None
    c_path: str = ""
    file_offset: int | None = None


class Finding(msgspec.Struct, frozen=True, omit_defaults=True):
    """A conclusion.

    :param code: the conclusion in kebab-case; one code means one conclusion, for ever
    :param severity: ``stuck`` (it explains why something does not go on), ``fault``, ``warning``,
        ``note``
    :param confidence: ``high``, ``medium``, ``low``
    :param summary: one sentence
    :param device: index of the device that it is about
    :param queue: and of its queue
    :param threads: numbers of the threads that it is about
    :param evidence: what it rests on
    :param against: facts in the core that speak against it
    :param refuted_by: what would prove it wrong
    :param next_steps: what to do now
    """

    code: str
    severity: str
    confidence: str
    summary: str
    device: int | None = None
    queue: int | None = None
    threads: tuple[int, ...] = ()
    evidence: tuple[Evidence, ...] = ()
    against: tuple[Evidence, ...] = ()
    refuted_by: tuple[str, ...] = ()
    next_steps: tuple[str, ...] = ()


class WaitNode(msgspec.Struct, frozen=True):
    """Somebody or something in the wait-for graph.

    :param id: ``thread:20881``, ``coroutine:0x55…``, ``lock:0x55…``, ``drain:node0``,
        ``request:0:3:17`` (device, queue, head), ``kernel``, ``server:…``, ``timer:0x55…``
    :param kind: the part of ``id`` before the colon
    :param label: for people
    """

    id: str
    kind: str
    label: str


class WaitEdge(msgspec.Struct, frozen=True, omit_defaults=True):
    """``waiter`` goes on only after ``waits_for`` does. ``why`` says what shows it."""

    waiter: str
    waits_for: str
    why: str
    evidence: tuple[Evidence, ...] = ()


class WaitGraph(msgspec.Struct, frozen=True):
    """Who waits for whom; ``cycles`` are lists of nodes' ids, each a deadlock."""

    nodes: tuple[WaitNode, ...]
    edges: tuple[WaitEdge, ...]
    cycles: tuple[tuple[str, ...], ...]


class Verdict(msgspec.Struct, frozen=True):
    """The one answer.

    :param state: ``stuck``, ``faulty`` (wrong, and nothing waits for it yet), ``healthy``
        (nothing is stuck), ``unknown`` (too little of the core is there to tell)
    :param code: of the finding that decides, "" if none does
    :param summary: one sentence that an operator can act on
    :param chain: the way from the symptom to the cause, a step each
    :param checked: what was looked at, and found in order
    :param unchecked: what could not be looked at, and why
    """

    state: str
    code: str
    summary: str
    confidence: str
    chain: tuple[str, ...]
    checked: tuple[str, ...]
    unchecked: tuple[str, ...]
    refuted_by: tuple[str, ...]
    next_steps: tuple[str, ...]
