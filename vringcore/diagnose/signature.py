"""One line that two cores with the same cause share: codes, roles and functions; no addresses."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vringcore.diagnose import stacks

if TYPE_CHECKING:
    from vringcore.diagnose.facts import Facts
    from vringcore.model.findings import Finding

FUNCTIONS = 6
"""Of a stack: those nearest to the wait, without the wait itself."""


def signature_of(facts: Facts, findings: tuple[Finding, ...]) -> str:
    """Return the signature of what is stuck or faulty, "" if nothing is.

    :param findings: the one that decides first
    """
    grave = [each for each in findings if each.severity in ("stuck", "fault")]
    if not grave:
        return ""
    codes = list(dict.fromkeys(each.code for each in grave))
    devices = [facts.device(each.device) for each in grave]
    parts = ["+".join(codes[:1] + sorted(codes[1:]))]
    parts.append(",".join(sorted({device.kind for device in devices if device is not None})))
    parts += [_stack(facts, lwp) for lwp in grave[0].threads]
    return " | ".join(part for part in parts if part)


def _stack(facts: Facts, lwp: int) -> str:
    thread = facts.thread(lwp)
    if thread is None:
        return ""
    return f"{thread.role or 'thread'}: {' < '.join(stacks.path(thread)[:FUNCTIONS])}"
