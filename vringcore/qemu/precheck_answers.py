"""Which questions can be answered, from what a core, or a core to come, holds."""

from __future__ import annotations

import msgspec

from vringcore.model.precheck import VerbAnswer

YES, PARTLY, NO = "yes", "partly", "no"


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """What decides.

    :param debug: the state of :class:`~vringcore.model.precheck.DebugInformation`
    :param guest_ram: the state of :class:`~vringcore.model.precheck.GuestRam`
    :param executable: its file is at hand
    :param code: the program's code and unwind tables are at hand, in the core or in a file
    :param place: it is known where the program was loaded
    :param memory: the core holds writable memory
    :param slim: it is a small core, which keeps of guest RAM what answers need
    """

    is_qemu: bool | None
    debug: str
    guest_ram: str
    complete: bool
    threads: int
    registers: int
    executable: bool
    code: bool
    place: bool
    memory: bool
    slim: bool


def answers(facts: Facts) -> tuple[VerbAnswer, ...]:
    """Return, for the verbs that people ask first, whether they can answer."""
    hindrance = _hindrance(facts)
    if hindrance:
        return tuple(VerbAnswer(verb, NO, hindrance) for verb in _VERBS)
    return tuple(VerbAnswer(verb, *judge(facts)) for verb, judge in _VERBS.items())


def _hindrance(facts: Facts) -> str:
    if facts.is_qemu is False:
        return "it is not a QEMU"
    if not facts.memory:
        return "the core holds none of the process's memory"
    if facts.debug == "missing":
        return "nothing describes QEMU's types: debug information is missing"
    if not facts.place:
        return "the core does not tell where the program was loaded: give it with -e"
    return ""


def _cut(facts: Facts) -> str:
    return "" if facts.complete else "the core is cut: what lies behind is lost"


def _qemus_side(facts: Facts) -> tuple[str, str]:
    """Answer for what QEMU's own structures tell."""
    cut = _cut(facts)
    return (PARTLY, cut) if cut else (YES, "")


def _queues(facts: Facts) -> tuple[str, str]:
    if facts.guest_ram == "absent":
        return PARTLY, "QEMU's indices; the guest's lie in guest RAM, which is not there"
    return _with_ram(facts)


def _rings(facts: Facts) -> tuple[str, str]:
    if facts.guest_ram == "absent":
        return NO, "rings lie in guest RAM, which is not there"
    return _with_ram(facts)


def _with_ram(facts: Facts) -> tuple[str, str]:
    if facts.guest_ram in ("partial", "unknown"):
        return PARTLY, f"guest RAM is {facts.guest_ram}"
    return _qemus_side(facts)


def _memory(facts: Facts) -> tuple[str, str]:
    if facts.guest_ram == "absent":
        return NO, "guest RAM is not there"
    if facts.slim:
        return PARTLY, "a small core keeps of guest RAM what the other answers need"
    return _with_ram(facts)


def _why(facts: Facts) -> tuple[str, str]:
    missing = []
    if facts.guest_ram == "absent":
        missing.append("what the rings would tell")
    if not facts.registers:
        missing.append("what threads are at")
    if missing:
        return PARTLY, f"without {' and '.join(missing)}"
    return _qemus_side(facts)


def _backtrace(facts: Facts) -> tuple[str, str]:
    if not facts.registers:
        return NO, "no thread's registers are in the core"
    if not facts.code:
        return PARTLY, "the program's file is not at hand: its frames cannot be unwound"
    if facts.registers < facts.threads:
        return PARTLY, f"{facts.registers} of {facts.threads} threads have registers"
    return _qemus_side(facts)


_VERBS = {
    "why": _why,
    "devices": _qemus_side,
    "queues": _queues,
    "ring": _rings,
    "requests": _qemus_side,
    "block": _qemus_side,
    "loops": _qemus_side,
    "backtrace": _backtrace,
    "memory": _memory,
}
