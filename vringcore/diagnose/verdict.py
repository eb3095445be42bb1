"""The one answer: which finding decides, and the sentence that an operator can act on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vringcore.diagnose import stacks
from vringcore.diagnose.chain import chain_of
from vringcore.diagnose.drains import drains, in_use_of, requests_of
from vringcore.diagnose.scope import hidden_lines, looked_at
from vringcore.diagnose.words import counted, device_name, has, thread_name, was
from vringcore.model.findings import Verdict

if TYPE_CHECKING:
    from vringcore.diagnose.drains import Drain
    from vringcore.diagnose.facts import Facts
    from vringcore.model.findings import Finding, WaitGraph

STUCK, FAULTY, HEALTHY, UNKNOWN = "stuck", "faulty", "healthy", "unknown"

DRAINED = ("migration-waits-for-drain", "drain-waits-for-requests")
MONITOR = ("main-loop-waits-for-bql",)


def verdict_of(
    facts: Facts,
    findings: tuple[Finding, ...],
    graph: WaitGraph,
    checked: tuple[str, ...],
    unchecked: tuple[str, ...],
) -> Verdict:
    """Return the verdict.

    :param findings: the one that decides first
    """
    first = findings[0] if findings else None
    if first is None or first.severity == "note":
        return _nothing(facts, findings, checked, unchecked)
    states = {"stuck": STUCK, "fault": FAULTY}
    cause = _cause(facts, first, findings)
    reasons = (first,) if cause is None else (first, cause)
    return Verdict(
        state=states.get(first.severity, UNKNOWN),
        code=first.code,
        summary=_sentence(_summary(facts, first, cause, findings)),
        confidence=first.confidence,
        chain=chain_of(facts, first, graph),
        checked=checked,
        unchecked=unchecked,
        refuted_by=tuple(dict.fromkeys(each for f in reasons for each in f.refuted_by)),
        next_steps=tuple(dict.fromkeys(each for f in reversed(reasons) for each in f.next_steps)),
    )


def _nothing(
    facts: Facts,
    findings: tuple[Finding, ...],
    checked: tuple[str, ...],
    unchecked: tuple[str, ...],
) -> Verdict:
    """Return the verdict where no rule found anything wrong."""
    paused = next((f.summary for f in findings if f.code in ("vm-paused", "vm-incoming")), "")
    why = _too_little(facts)
    if why:
        state, summary = UNKNOWN, f"whether anything is stuck cannot be told: {why}"
    else:
        state, summary = HEALTHY, f"nothing is stuck ({looked_at(facts)})"
        if paused:
            summary = f"{paused}; nothing is stuck"
        limited = [f.summary for f in findings if f.code == "throttled"]
        if limited:
            summary += f"; {limited[0]}, as it was set"
    return Verdict(
        state=state,
        code="",
        summary=_sentence(summary),
        confidence="low" if why else "medium" if unchecked else "high",
        chain=(),
        checked=checked,
        unchecked=unchecked,
        refuted_by=(
            "the VM's users say that it hangs: take a second core some seconds later and compare",
        ),
        next_steps=(),
    )


def _too_little(facts: Facts) -> str:
    """Return what keeps a report without findings from being a clean bill of health."""
    missing = facts.missing("queues")
    if missing:
        return f"of the devices' queues nothing is known ({missing})"
    if not facts.devices:
        return "no virtio device was found"
    if not facts.report.core.complete:
        return "the core is cut short, and what is stuck may lie in the part that is missing"
    if facts.report.threads == ():
        return "the core tells of no thread"
    hidden = hidden_lines(facts)
    if hidden and len(hidden) == len(facts.own_lines):
        where = "encrypted" if any(line.is_scrambled for line in hidden) else "not in the core"
        return (
            f"QEMU holds no request, but the rings, where the guest's may wait, are {where}"
            if not facts.requests
            else f"the rings are {where}"
        )
    return ""


def _cause(facts: Facts, first: Finding, findings: tuple[Finding, ...]) -> Finding | None:
    """Return the finding that says why the requests of a drain have not ended."""
    if first.code not in DRAINED:
        return None
    drain = _drain_of(facts, first)
    devices = {disk.device.index for disk in drain.disks} if drain is not None else set()
    later = (f for f in findings if f.device in devices and f.code not in DRAINED)
    return next((f for f in later if f.code != "request-held-by-drain"), None)


def _drain_of(facts: Facts, finding: Finding) -> Drain | None:
    return next((d for d in drains(facts) if d.thread.lwp in finding.threads), None)


def _summary(
    facts: Facts, first: Finding, cause: Finding | None, findings: tuple[Finding, ...]
) -> str:
    drain = _drain_of(facts, first) if first.code in DRAINED else None
    text = first.summary if drain is None else _of_drain(facts, drain, cause)
    if drain is not None and any(f.code in MONITOR for f in findings):
        text += "; meanwhile the main loop waits for the big lock, and the monitor does not answer"
    return text


def _of_drain(facts: Facts, drain: Drain, cause: Finding | None) -> str:
    """Return the sentence from the thread that waits down to who has to answer."""
    thread = drain.thread
    names = stacks.names(thread)
    subject = "the migration" if thread.role == "migration" else f"the {thread_name(thread)}"
    if drain.purpose != stacks.ENDING and ("vm_stop" in names or "do_vm_stop" in names):
        text = f"{subject} waits in vm_stop"
    elif drain.purpose:
        text = f"{subject}, {drain.purpose}, waits"
    else:
        text = f"{subject} waits"
    if not drain.disks:
        return f"{text} in {drain.function}() for requests of a disk; of which is not known"
    said = _predicate(facts, cause)
    text += f" for the drain of {_whom(drain, said)}"
    count = sum(len(requests_of(facts, disk)) for disk in drain.disks)
    count = count or sum(disk.in_flight or 0 for disk in drain.disks)
    count = count or sum(in_use_of(facts, disk) for disk in drain.disks)
    if not count:
        return text
    whose = f"{text}, whose {counted(count, 'request')}"
    if said and not cause_is_lost(cause):
        return f"{whose} {said}"
    return f"{whose} {was(count)} given to the back-end and {has(count)} not returned"


def _whom(drain: Drain, said: str) -> str:
    """Return the disks of a drain, a node that is named further on without it."""
    (disk, *others) = drain.disks
    if not others and disk.node and f"of node {disk.node}" in said:
        return device_name(disk.device)
    return drain.whom


def cause_is_lost(cause: Finding | None) -> bool:
    """Tell whether a cause only says that the place was not found."""
    return cause is None or cause.code == "request-not-returned"


def _predicate(facts: Facts, cause: Finding | None) -> str:
    """Return what a finding says of a device's requests, without naming them again."""
    device = None if cause is None else facts.device(cause.device)
    if cause is None or device is None:
        return ""
    return cause.summary.partition(f"{device_name(device)} ")[2]


def _sentence(text: str) -> str:
    """Return a text as a sentence; the name of a device that it begins with stays as it is."""
    named = text.partition(" ")[2].startswith("(")
    start = text[:1] if named else text[:1].upper()
    return f"{start}{text[1:]}." if not text.endswith(".") else text
