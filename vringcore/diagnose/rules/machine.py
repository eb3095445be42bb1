"""The machine as a whole: stopped by an error, paused, panicked, or still coming in."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vringcore.diagnose import evidence
from vringcore.diagnose.disks import disks
from vringcore.diagnose.drains import drains
from vringcore.diagnose.rule import rule
from vringcore.diagnose.values import text
from vringcore.diagnose.words import counted, device_name, joined
from vringcore.model.findings import Evidence, Finding

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vringcore.diagnose.facts import Facts

CLEAR = "the VM was not stopped by an error"

BY_ORDER = ("paused", "prelaunch", "save-vm", "restore-vm", "suspended", "debug", "colo")
"""Run states in which a VM stands still because somebody wanted it to."""

ENDING = "shutdown"

BY_ITSELF = {
    "guest-panicked": "the guest has panicked",
    "internal-error": "KVM or QEMU met an internal error",
    "watchdog": "a watchdog of the guest expired",
    ENDING: "it was shut down, by its guest, by `quit` or by a signal",
}
"""Run states that a VM does not leave by itself."""


def _state(facts: Facts) -> Evidence:
    return Evidence("run state", facts.run_state, c_path="current_run_state")


@rule(CLEAR, needs=(), rank=5)
def vm_stopped_on_io_error(facts: Facts) -> Iterator[Finding]:
    """A disk's I/O failed, and QEMU stopped the VM for it, as its error policy says.

    From: the run state ``io-error``, with the disks whose ``iostatus`` is failed.
    Confidence: high.
    Wrong if: never known to be; the requests that failed are kept and tried again on `cont`.
    Source: block/block-backend.c (``blk_error_action``); rerror and werror options.
    """
    if facts.run_state != "io-error":
        return
    failed = [
        disk
        for disk in disks(facts)
        if disk.backend is not None and text(disk.backend.io_status) in ("failed", "nospace")
    ]
    parked = facts.requests_in("retry-list")
    names = joined([device_name(disk.device) for disk in failed])
    full = any(text(disk.backend.io_status) == "nospace" for disk in failed if disk.backend)
    yield Finding(
        code=vm_stopped_on_io_error.code,
        severity="stuck",
        confidence="high",
        summary="QEMU stopped the VM because of an I/O error"
        + (f" of {names}" if names else "")
        + (": no space is left on the host" if full else "")
        + (f"; {counted(len(parked), 'request')} will be tried again on `cont`" if parked else ""),
        device=failed[0].device.index if len(failed) == 1 else None,
        evidence=(
            _state(facts),
            *(
                evidence.member(
                    f"iostatus of {device_name(disk.device)}",
                    text(disk.backend.io_status),
                    "BlockBackend",
                    disk.backend.address,
                    "iostatus",
                )
                for disk in failed
                if disk.backend is not None
            ),
            *map(evidence.of_request, parked[:8]),
        ),
        refuted_by=(),
        next_steps=(
            "mend the storage (space, permissions, the path to it), then `cont` in the monitor",
        ),
    )


@rule(CLEAR, needs=(), rank=5)
def vm_stopped_by_itself(facts: Facts) -> Iterator[Finding]:
    """The VM stands still after a panic, an internal error, a watchdog or its shutdown.

    From: the run state. Of a shutdown that a drain holds up, and with it the end of QEMU, this is
    no more than a note.
    Confidence: high.
    Wrong if: never known to be.
    Source: QAPI's RunState.
    """
    reason = BY_ITSELF.get(facts.run_state)
    if reason is not None:
        is_ending = facts.run_state == ENDING and bool(drains(facts))
        yield Finding(
            code=vm_stopped_by_itself.code,
            severity="note" if is_ending else "stuck",
            confidence="high",
            summary=f"the VM stands still: {reason} (run state {facts.run_state})",
            evidence=(_state(facts),),
            refuted_by=(),
            next_steps=("QEMU's log and the guest's console tell more",),
        )


@rule(CLEAR, needs=(), rank=95)
def vm_paused(facts: Facts) -> Iterator[Finding]:
    """The VM stands still because somebody wanted it to: that is no fault.

    From: the run state.
    Confidence: high.
    Wrong if: it was paused after it had hung: then what was stuck before still shows.
    Source: QAPI's RunState.
    """
    if facts.run_state in BY_ORDER:
        yield Finding(
            code=vm_paused.code,
            severity="note",
            confidence="high",
            summary=f"the VM stands still by order (run state {facts.run_state})",
            evidence=(_state(facts),),
            refuted_by=(),
            next_steps=("`cont` in the monitor lets it run",),
        )


@rule(CLEAR, needs=(), rank=95)
def vm_incoming(facts: Facts) -> Iterator[Finding]:
    """The VM is being moved here: its devices may not have been loaded yet.

    From: the run state ``inmigrate``.
    Confidence: high.
    Wrong if: never known to be.
    Source: migration/migration.c.
    """
    if facts.is_incoming:
        yield Finding(
            code=vm_incoming.code,
            severity="note",
            confidence="high",
            summary="the VM is an incoming one: its queues are not judged before it has arrived",
            evidence=(_state(facts),),
            refuted_by=(),
            next_steps=("look at the source host",),
        )


RULES = (vm_stopped_on_io_error, vm_stopped_by_itself, vm_paused, vm_incoming)
