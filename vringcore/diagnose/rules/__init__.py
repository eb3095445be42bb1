"""The rules: each a function from facts to findings, its docstring what its code means."""

from __future__ import annotations

from vringcore.diagnose.rules import (
    inside,
    interrupts,
    kicks,
    known,
    ledger,
    limits,
    machine,
    outside,
    rings,
    vhost,
    waiting,
)

RULES = (
    *waiting.RULES,
    *machine.RULES,
    *outside.RULES,
    *limits.RULES,
    *inside.RULES,
    *ledger.RULES,
    *vhost.RULES,
    *kicks.RULES,
    *interrupts.RULES,
    *rings.RULES,
    *known.RULES,
)
"""All rules, in the order in which their findings are listed among equals."""
