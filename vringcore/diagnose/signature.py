"""One line that two cores with the same cause share: codes, roles and functions; no addresses.

It must not differ between hosts, builds of QEMU and runs. So functions of libraries are left out,
which have other names in each; a thread that waits in a drain is named by what the drain is for, as
the way from there to the drain changes with QEMU's releases; threads that wait alike are one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vringcore.diagnose import stacks
from vringcore.diagnose.verdict import DRAINED

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vringcore.diagnose.facts import Facts
    from vringcore.model.findings import Finding
    from vringcore.model.threads import Thread

FUNCTIONS = 4
"""Of a stack: those nearest to the wait, without the wait itself."""

_LIBRARIES = ("lib", "ld-", "ld.", "[vdso]")
"""How the names of files begin whose functions say nothing of QEMU."""

_WRAPPERS = ("qemu_thread_start", "worker_thread", "main_loop_wait", "qemu_main_loop", "main")
"""What every thread of a kind has below its work."""


def signature_of(facts: Facts, findings: tuple[Finding, ...]) -> str:
    """Return the signature of what is stuck or faulty, "" if nothing is.

    :param findings: the one that decides first
    """
    grave = [each for each in findings if each.severity in ("stuck", "fault")]
    if not grave:
        return ""
    if grave[0].code in DRAINED:
        # What a drain waits for is stuck with it; of its own it may be too young to be called so.
        grave += [f for f in findings if f.severity == "warning" and f.code.startswith("request-")]
    codes = list(dict.fromkeys(each.code for each in grave))
    devices = [facts.device(each.device) for each in grave]
    parts = ["+".join(codes[:1] + sorted(codes[1:]))]
    parts.append(",".join(sorted({device.kind for device in devices if device is not None})))
    parts += sorted({_stack(facts, lwp) for lwp in grave[0].threads})
    return " | ".join(part for part in parts if part)


def _stack(facts: Facts, lwp: int) -> str:
    thread = facts.thread(lwp)
    if thread is None:
        return ""
    role = thread.role or "thread"
    if role == "worker":
        return role  # which request it has is chance, and the finding's code says the rest
    names = list(_functions(thread))
    if stacks.drain_of(thread):
        purpose = stacks.purpose_of(stacks.names(thread))
        if purpose:
            return f"{role}: drain {purpose}"
    return f"{role}: {' < '.join(names[:FUNCTIONS])}" if names else role


def _functions(thread: Thread) -> Iterator[str]:
    """Yield QEMU's own functions of a stack, innermost first, each once."""
    libraries = {
        stacks.plain(frame.function)
        for frame in thread.frames
        if frame.function and frame.module.rsplit("/", 1)[-1].startswith(_LIBRARIES)
    }
    for name in stacks.path(thread):
        if name in _WRAPPERS:
            return
        if name not in libraries:
            yield name
