"""The threads of the process as reports show them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
from msgspec import UNSET

from vringcore.errors import UsageError
from vringcore.model.report import Limitation
from vringcore.model.threads import Frame, Thread
from vringcore.model.values import Absent, Address
from vringcore.qemu.blocked import blocked_call
from vringcore.qemu.roles import Roles
from vringcore.qemu.variables import StackVariables
from vringcore.unwind.frames import HEURISTIC

if TYPE_CHECKING:
    from collections.abc import Iterator

    from msgspec import UnsetType

    from vringcore.elfcore.notes import Thread as CoreThread
    from vringcore.elfcore.slimnote import ThreadFacts
    from vringcore.model.threads import Variable
    from vringcore.qemu.process import Process
    from vringcore.unwind.frames import Backtrace
    from vringcore.unwind.frames import Frame as StackFrame

_OF_A_CALL = ("rsp", "rip", "rax", "orig_rax", "rdi", "rsi", "rdx", "r10", "r8", "r9")
"""Those that /proc/PID/task/TID/syscall tells, as cores have them that were made of it."""

PLACE_REGISTERS = ("rsp", "rip", "sp", "pc")


_ONLY_LIVE = Absent(
    "not-recorded",
    None,
    "no core holds it; `vringcore capture` notes it of a running process",
)


def thread_models(
    process: Process,
    limits: list[Limitation],
    *,
    only: int | None = None,
    all_variables: bool = False,
) -> tuple[Thread, ...]:
    """Return the threads in the core's order, each with its frames.

    :param only: the number of the one thread to return
    :param all_variables: show local variables, not arguments alone
    :raises UsageError: if there is no such thread
    """
    threads = process.core.threads
    if only is not None:
        threads = [thread for thread in threads if thread.lwp == only]
        if not threads:
            there = ", ".join(str(thread.lwp) for thread in process.core.threads)
            raise UsageError(
                f"the core has no thread {only}", expected=f"one of {there}" if there else ""
            )
    slim = process.core.slim
    facts = {} if slim is None else {each.lwp: each for each in slim.threads}
    roles = Roles(process)
    models = tuple(
        _model(process, roles, thread, facts.get(thread.lwp), all_variables=all_variables)
        for thread in threads
    )
    guessed = sum(any(f.how == HEURISTIC for f in model.frames) for model in models)
    if guessed:
        limits.append(
            Limitation(
                "frames were guessed",
                f"in {guessed} of {len(models)} threads, where nothing describes the stack",
                "files of the very libraries below --sysroot make them certain",
            )
        )
    if process.backtraces.assumed:
        limits.append(
            Limitation(
                "signed return addresses were stripped by rule",
                "the core has no NT_ARM_PAC_MASK: addresses of programs are taken to have 48 bits",
            )
        )
    return models


def _model(
    process: Process,
    roles: Roles,
    thread: CoreThread,
    facts: ThreadFacts | None,
    *,
    all_variables: bool,
) -> Thread:
    backtraces = process.backtraces
    found = backtraces.of(known_registers(thread, facts))
    frames = tuple(frames_of(process, found, all_variables=all_variables))
    # A caller is never known by less than its own name: inlined functions tell roles too.
    role, role_name = roles.of(
        thread.lwp, thread.fs_base, (frame.function for frame in reversed(frames))
    )
    return Thread(
        lwp=thread.lwp,
        pthread=Address(thread.fs_base) if thread.fs_base else None,
        name=_ONLY_LIVE if facts is None else facts.name,
        state=_ONLY_LIVE if facts is None else facts.state,
        role=role,
        role_name=role_name,
        signal=thread.signal,
        system_call=blocked_call(process, thread, facts, backtraces.space),
        kernel_stack=_kernel_stack(facts),
        frames=frames,
        frames_end=found.end,
        frames_end_detail=found.detail,
    )


def known_registers(thread: CoreThread, facts: ThreadFacts | None) -> dict[str, int]:
    """Return the registers that are known: of a thread that was not stopped, only its place."""
    known = thread.registers
    if facts is None or facts.registers == "all":
        # A system call leaves the place to return to in rcx: whoever wrote 0 did not ask.
        asked = known.get("rcx", 1) or known.get("r11", 1) or known.get("orig_rax", 0) >> 63
        return known if asked else {name: known[name] for name in _OF_A_CALL if name in known}
    if facts.registers == "none":
        return {}
    return {name: known[name] for name in PLACE_REGISTERS if name in known}


def _kernel_stack(facts: ThreadFacts | None) -> tuple[str, ...] | Absent:
    if facts is None:
        return _ONLY_LIVE
    if isinstance(facts.kernel_stack, str):
        return Absent("not-readable", None, facts.kernel_stack)
    return facts.kernel_stack


def frames_of(
    process: Process, backtrace: Backtrace, *, all_variables: bool = False
) -> Iterator[Frame]:
    """Yield the functions of a backtrace, those that were inlined before the one they lie in.

    Those that left by a tail call are among them.

    :param all_variables: show local variables, not arguments alone
    """
    variables = StackVariables(process, backtrace, all_variables=all_variables)
    for index, frame in enumerate(variables.frames):
        functions = list(_functions(process, frame))
        found = variables.of(index)
        told = len(found) == len(functions)
        for number, function in enumerate(functions):
            arguments, others = found[number] if told else ((), ())
            local: tuple[Variable, ...] | UnsetType = others if all_variables else UNSET
            yield msgspec.structs.replace(function, arguments=arguments, locals=local)


def _functions(process: Process, frame: StackFrame) -> Iterator[Frame]:
    module = process.backtraces.module_at(frame.pc)
    path = "" if module is None else module.path
    pc, place = Address(frame.pc), frame.code_address
    cfa = None if frame.cfa is None else Address(frame.cfa)
    sources = process.symbols.source_of(place)
    if not sources:
        symbol = process.symbols.lookup(place)
        name = process.backtraces.generated_at(place) if symbol is None else symbol[0]
        yield Frame(pc, name, None, None, False, path, frame.how, cfa)
        return
    *inlined, last = sources
    for each in inlined:
        yield Frame(pc, each.function, each.file or None, each.line or None, True, path, frame.how)
    yield Frame(
        pc, last.function, last.file or None, last.line or None, False, path, frame.how, cfa
    )
