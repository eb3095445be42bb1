"""What a core can answer, and what not and why: looked at without any of QEMU's types.

It takes some hundredths of a second, and never needs debug information: it tells whether there is
any.
"""

from __future__ import annotations

import os
from contextlib import closing
from typing import TYPE_CHECKING

import msgspec

from vringcore.elfcore.core import open_elf_core
from vringcore.errors import ExecutableMismatchError, VringcoreError
from vringcore.model.precheck import (
    CheckedFile,
    CheckedModule,
    CheckedProgram,
    GuestRam,
    PrecheckDocument,
)
from vringcore.model.report import Limitation
from vringcore.model.values import Absent
from vringcore.qemu import commandline, precheck_files
from vringcore.qemu.captured import captured_at
from vringcore.qemu.files import ProgramFiles
from vringcore.qemu.precheck_answers import Facts, answers
from vringcore.qemu.precheck_next import next_capture
from vringcore.qemu.precheck_ram import guest_ram
from vringcore.qemu.program import identify

if TYPE_CHECKING:
    from vringcore.elfcore.core import ElfCore
    from vringcore.model.report import Tool
    from vringcore.options import Options

_BLOCK = 512  # of st_blocks
_NO_RAM = GuestRam("unknown", 0, Absent("not-a-qemu"), "it is not a QEMU")


def precheck_core(path: str, options: Options, tool: Tool) -> PrecheckDocument:
    """Return what a core can answer.

    Nothing is refused but what is no core: a core of another program, or one whose executable is
    another build, is told as what it is.

    :param tool: who makes the document
    :param options: as for :func:`vringcore.open_core`
    :raises FileError, UsageError: if the file cannot be opened, or an archive holds several cores
    :raises CoreFormatError: if it is no core, or too little of it is left
    """
    core = open_elf_core(
        path,
        member=options.member,
        tmpdir=options.tmpdir,
        max_unpacked=options.max_unpacked,
        progress=options.progress,
    )
    with core:
        return _document(core, options, tool)


def _document(core: ElfCore, options: Options, tool: Tool) -> PrecheckDocument:
    limits = [Limitation("a part of the core is damaged", str(p)) for p in core.problems]
    module = core.executable
    build_id = module.build_id if module is not None else ""
    with closing(_files(core, options, limits)) as files:
        identity = identify(core, files.executable)
        debug = precheck_files.debug_information(core, files, options, identity.name)
        build_id = build_id or files.build_id
        has_executable = files.executable is not None
    ram, blocks = (_NO_RAM, []) if identity.is_qemu is False else guest_ram(core)
    registers = sum(bool(thread.registers) for thread in core.threads)
    complete = not core.truncated if core.slim is None else core.slim.complete
    facts = Facts(
        is_qemu=identity.is_qemu,
        debug=debug.state,
        guest_ram=ram.state,
        complete=complete,
        threads=len(core.threads),
        registers=registers,
        executable=has_executable,
        code=has_executable or _has_code(core) or core.slim is not None,
        place=module is not None or has_executable,
        slim=core.slim is not None,
        memory=any(r.writable and r.readable for r in core.memory.ranges()),
    )
    taken, source = captured_at(core)
    return PrecheckDocument(
        tool=tool,
        path=core.path,
        core=CheckedFile(
            size=core.size,
            stored=_stored(core),
            written_by=core.kind,
            machine=core.machine,
            complete=complete,
            captured_at=taken,
            captured_at_source=source,
            cut=_cut(core),
        ),
        program=CheckedProgram(
            is_qemu=identity.is_qemu,
            name=identity.name,
            path=core.executable_path,
            why=identity.why,
            pid=commandline.pid(core),
            build_id=build_id,
        ),
        guest_ram=ram,
        debug_information=debug,
        modules=tuple(_modules(core, options, has_executable=has_executable)),
        threads=len(core.threads),
        registers=registers,
        answers=answers(facts),
        next_capture=next_capture(facts, blocks, written_by=core.kind),
        limits=tuple(limits),
    )


def _files(core: ElfCore, options: Options, limits: list[Limitation]) -> ProgramFiles:
    """Return the program's files; an executable of another build is told, and left aside."""
    try:
        return ProgramFiles(core, options)
    except ExecutableMismatchError as error:
        what = f"{error.where}: {error.seen}, the core's is {error.expected}"
        limits.append(Limitation("the executable given is another build", what, error.hint))
        return ProgramFiles(core, msgspec.structs.replace(options, executable=None))


def _modules(core: ElfCore, options: Options, *, has_executable: bool) -> list[CheckedModule]:
    found = []
    for module in core.modules:
        if not module.build_id and not module.is_executable:
            continue  # no ELF file, or nothing tells that it is one
        if module.is_executable and has_executable and options.executable is not None:
            found.append(
                CheckedModule(
                    module.path,
                    module.build_id,
                    "found",
                    options.executable,
                    deleted=module.deleted,
                )
            )
            continue
        found.append(precheck_files.check_module(module, core.path, options))
    return found


def _has_code(core: ElfCore) -> bool:
    """Tell whether the core holds the program's own code, as a core with filter bit 2 does."""
    module = core.executable
    if module is None:
        return False
    ranges = core.memory.ranges_at(module.start, module.end - module.start)
    return any(r.executable and r.readable > 1 << 16 for r in ranges)


def _stored(core: ElfCore) -> int:
    """Return what the file that was given takes on disk."""
    path = core.path
    while path and not os.path.exists(path):  # noqa: PTH110 - ARCHIVE:MEMBER
        path = path.rpartition(":")[0]
    try:
        status = os.stat(path)  # noqa: PTH116
    except OSError as error:
        raise VringcoreError("the core is gone", where=core.path, seen=str(error)) from error
    return getattr(status, "st_blocks", -(-status.st_size // _BLOCK)) * _BLOCK


def _cut(core: ElfCore) -> str:
    if not core.truncated:
        return ""
    ranges = core.memory.ranges()
    lost = [r.address for r in ranges if r.readable < r.size and r.file_offset < 0]
    parts = ["the file ends before its headers say"]
    if not core.threads:
        parts.append("gdb writes registers and names last: they are lost")
    if lost:
        parts.append(f"memory is lost from {min(lost):#x} on")
    return "; ".join(parts)
