"""The rules: each a function from facts to findings, its docstring what its code means."""

from __future__ import annotations

from vringcore.diagnose.rules import (
    coroutines,
    inside,
    interrupts,
    jobs,
    kicks,
    known,
    ledger,
    limits,
    machine,
    outside,
    peers,
    placement,
    rings,
    sections,
    vhost,
    waiting,
)

RULES = (
    *waiting.RULES,
    *machine.RULES,
    *outside.RULES,
    *peers.RULES,
    *limits.RULES,
    *inside.RULES,
    *sections.RULES,
    *jobs.RULES,
    *coroutines.RULES,
    *ledger.RULES,
    *vhost.RULES,
    *kicks.RULES,
    *placement.RULES,
    *interrupts.RULES,
    *rings.RULES,
    *known.RULES,
)
"""All rules, in the order in which their findings are listed among equals."""
