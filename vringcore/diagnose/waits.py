"""Who waits for whom: threads, coroutines, locks, drains, requests, timers, the world outside.

An edge stands for "goes on only after", and each is there because something in the core says so.
Where that is not known there is none: a graph with a gap is true, one with a guess is not.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vringcore.diagnose import evidence, stacks
from vringcore.diagnose.cycles import cycles
from vringcore.diagnose.drains import drains, requests_of
from vringcore.diagnose.places import server_name
from vringcore.diagnose.values import many, number
from vringcore.diagnose.words import device_name, thread_name
from vringcore.model.findings import WaitEdge, WaitGraph, WaitNode
from vringcore.model.values import Absent

if TYPE_CHECKING:
    from vringcore.diagnose.drains import Drain
    from vringcore.diagnose.facts import Facts
    from vringcore.diagnose.held import Held
    from vringcore.model.findings import Evidence
    from vringcore.model.locks import Lock

KERNEL = "kernel"
OPERATOR = "run-state"

MAX_EDGES = 20_000
"""A report has fewer requests than its queues have entries; a hostile one is cut here."""


def wait_graph(facts: Facts) -> WaitGraph:
    """Return the wait-for graph of a report, with the circles in it."""
    return facts.once("waits", _wait_graph)


def _wait_graph(facts: Facts) -> WaitGraph:
    builder = _Builder(facts)
    builder.locks()
    for drain in drains(facts):
        builder.drain(drain)
    for held in facts.requests:
        builder.request(held)
    builder.coroutines()
    builder.overlaps()
    return builder.graph()


def request_id(held: Held) -> str:
    """Return the id of a request's node."""
    if held.line is None:
        return f"request:{held.device.index}:{held.coroutine or 0:#x}"
    return f"request:{held.device.index}:{held.line.queue.index}:{held.request.head}"


class _Builder:
    def __init__(self, facts: Facts) -> None:
        self._facts = facts
        self._nodes: dict[str, WaitNode] = {}
        self._edges: dict[tuple[str, str], WaitEdge] = {}

    def graph(self) -> WaitGraph:
        edges = tuple(self._edges.values())
        return WaitGraph(
            nodes=tuple(self._nodes.values()),
            edges=edges,
            cycles=cycles((edge.waiter, edge.waits_for) for edge in edges),
        )

    def _node(self, id_: str, label: str) -> str:
        if id_ not in self._nodes:
            self._nodes[id_] = WaitNode(id_, id_.partition(":")[0], label)
        return id_

    def _edge(self, waiter: str, waits_for: str, why: str, *proof: Evidence) -> None:
        if len(self._edges) < MAX_EDGES:
            self._edges.setdefault((waiter, waits_for), WaitEdge(waiter, waits_for, why, proof))

    def _thread(self, lwp: int) -> str:
        thread = self._facts.thread(lwp)
        return self._node(
            f"thread:{lwp}", f"thread {lwp}" if thread is None else thread_name(thread)
        )

    def _coroutine(self, address: int) -> str:
        return self._node(f"coroutine:{int(address):#x}", f"coroutine {int(address):#x}")

    def locks(self) -> None:
        """Add what holds each lock, and who waits for it."""
        for lock in self._facts.locks:
            node = self._node(f"lock:{int(lock.address):#x}", _lock_name(lock))
            for lwp in lock.waiters:
                thread = self._facts.thread(lwp)
                proof = () if thread is None else (evidence.of_thread(thread),)
                self._edge(self._thread(lwp), node, "it is in the call that takes the lock", *proof)
            for co in lock.waiting_coroutines:
                self._edge(self._coroutine(co), node, "it is in the lock's queue")
            self._owner(lock, node)
        self._futex()

    def _owner(self, lock: Lock, node: str) -> None:
        if lock.owner_coroutine is not None:
            proof = evidence.member(
                "holder", lock.owner_coroutine, "CoMutex", lock.address, "holder"
            )
            self._edge(node, self._coroutine(lock.owner_coroutine), "that is who holds it", proof)
        elif (owner := number(lock.owner)) is not None:
            path = "__data.__owner"
            what = f"owner of {_lock_name(lock)}"
            proof = evidence.member(what, owner, "pthread_mutex_t", lock.address, path)
            self._edge(node, self._thread(owner), "that is who holds it", proof)

    def _futex(self) -> None:
        """Add who waits for the big lock by its system call, where no lock was read."""
        if self._facts.big_lock() is not None:
            return
        for thread in self._facts.threads:
            if stacks.waits_for_big_lock(thread, None):
                lock = self._node("lock:BQL", "QEMU's big lock")
                why = "its system call waits for that futex"
                self._edge(self._thread(thread.lwp), lock, why, evidence.of_thread(thread))

    def drain(self, drain: Drain) -> None:
        """Add a thread in a drain, and the requests that the drain waits for."""
        label = f"drain of {drain.whom}" if drain.disks else "a drain"
        node = self._node(drain.id, label)
        proof = evidence.of_thread(drain.thread, *stacks.DRAINS, *dict(stacks.PURPOSES))
        self._edge(self._thread(drain.thread.lwp), node, f"it is in {drain.function}()", proof)
        if not drain.certain:
            return
        for disk in drain.disks:
            for held in requests_of(self._facts, disk):
                self._edge(node, self._request(held), "the drain ends with its last request")

    def _request(self, held: Held) -> str:
        request = held.request
        head = "" if held.line is None else f", head {request.head}"
        label = f"{request.summary} ({device_name(held.device)}{head})"
        return self._node(request_id(held), label)

    def request(self, held: Held) -> None:
        """Add what a request waits for: its coroutine, and the innermost place of it."""
        start = self._request(held)
        tracked = self._facts.coroutine_of_tracked
        owners = [] if held.coroutine is None else [held.coroutine]
        owners += [
            tracked[int(place.address)]
            for place in held.request.waits_in
            if place.place == "tracked-request" and int(place.address) in tracked
        ]
        if owners:
            node = self._coroutine(owners[-1])
            self._edge(start, node, "this coroutine carries it out")
            start = node
        self._place(start, held)

    def _place(self, start: str, held: Held) -> None:
        last = held.last
        if last is None:
            return
        detail = last.detail
        if last.place in ("linux-aio", "io-uring") and detail.startswith("submitted"):
            self._edge(start, self._kernel(), f"{last.place}: {detail}")
        elif last.place == "thread-pool" and last.thread is not None:
            worker = self._thread(last.thread.lwp)
            self._edge(start, worker, "that worker thread serves it")
            if last.thread.result is None:
                self._edge(worker, self._kernel(), f"it is in {last.thread.call}()")
        elif last.place == "nbd" and detail.endswith("waits for the reply"):
            label = f"NBD server {server_name(self._facts, last.node)}"
            name = self._node(f"server:{last.node}", label)
            self._edge(start, name, detail)
        elif last.place == "throttle":
            self._timer(start, int(last.address))
        elif last.place == "drain-queue":
            self._edge(start, self._drained(held), "held back until that section ends")
        elif last.place == "retry-list":
            node = self._node(OPERATOR, "the VM to go on")
            self._edge(start, node, "tried again when the VM goes on")

    def _kernel(self) -> str:
        return self._node(KERNEL, "the host's kernel")

    def _timer(self, start: str, member: int) -> None:
        for group in self._facts.throttle_groups:
            for each in group.members:
                if int(each.address) != member:
                    continue
                for timer in many(each.timers):
                    if timer.expires_ns is not None:
                        id_ = f"timer:{member:#x}:{timer.direction}"
                        label = f"timer of the I/O limit ({timer.direction})"
                        self._edge(start, self._node(id_, label), "held back by that limit")

    def _drained(self, held: Held) -> str:
        """Return the drained section that holds a request back, and who is to end it."""
        device = held.device.index
        node = self._node(f"drained-section:{device}", "the end of the drained section")
        for drain in drains(self._facts):
            if any(disk.device.index == device for disk in drain.disks) and drain.certain:
                why = "that thread began it and has yet to end it"
                self._edge(node, self._thread(drain.thread.lwp), why)
        return node

    def coroutines(self) -> None:
        """Add coroutines that wait for one that they entered."""
        for coroutine in self._facts.coroutines:
            caller = coroutine.caller
            if caller is not None and not isinstance(caller, Absent):
                self._edge(
                    self._coroutine(caller),
                    self._coroutine(coroutine.address),
                    "it entered that one",
                    evidence.member("caller", caller, "Coroutine", coroutine.address, "caller"),
                )

    def overlaps(self) -> None:
        """Add requests of a node that wait for others that they overlap."""
        tracked = self._facts.coroutine_of_tracked
        for node in self._facts.nodes:
            for request in many(node.tracked):
                other = tracked.get(int(request.waiting_for[0])) if request.waiting_for else None
                if other is not None:
                    self._edge(
                        self._coroutine(request.coroutine),
                        self._coroutine(other),
                        f"its {request.kind} overlaps a request of node {node.name}",
                        evidence.member(
                            "waiting_for",
                            request.waiting_for[0],
                            "BdrvTrackedRequest",
                            request.address,
                            "waiting_for",
                        ),
                    )


def _lock_name(lock: Lock) -> str:
    if lock.name == "BQL":
        return "QEMU's big lock"
    return lock.name or f"{lock.kind} {int(lock.address):#x}"
