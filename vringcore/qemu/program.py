"""Is it a QEMU at all? Answered from names and symbols, without debug information."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from vringcore.errors import NotQemuError, VringcoreError

if TYPE_CHECKING:
    from vringcore.elfcore.executable import Executable
    from vringcore.elfcore.image import ProcessImage

EMULATORS = ("qemu-system-", "qemu-kvm", "kvm", "qemu-dm")
"""What system emulators are called: upstream, by Red Hat, by old Debian, by Xen."""

PROGRAM_SYMBOLS = ("current_machine", "qemu_init", "main_system_bus")
"""Of which every emulator has one; stripped, it still exports them where modules or plugins do."""


class Identity(msgspec.Struct, frozen=True):
    """Whether a core is of a system emulator.

    :param is_qemu: None where nothing tells
    :param name: the program's, "" if the core does not tell
    :param why: what the answer rests on
    """

    is_qemu: bool | None
    name: str
    why: str


def identify(core: ProcessImage, executable: Executable | None) -> Identity:
    """Tell whether a core is of a QEMU that runs a machine.

    :param executable: the program's file, where it was found: its symbols decide
    """
    path, info = core.executable_path, core.prpsinfo
    name = path.rpartition("/")[2] or (info.fname if info is not None else "")
    if executable is not None:
        has_symbols = _has_symbols(executable)
        if has_symbols is not None:
            found = "has" if has_symbols else "has none of"
            listed = ", ".join(PROGRAM_SYMBOLS[:2])
            return Identity(has_symbols, name, f"its file {found} the symbols {listed}")
    if not name:
        return Identity(None, "", "the core does not tell which program it is of")
    return Identity(named_like_qemu(name), name, f"the program is called {name}")


def named_like_qemu(name: str) -> bool:
    """Tell whether a program's name is that of a system emulator.

    A wrapper may hide it under a name such as ``.qemu-kvm-wrapped``.
    """
    return name.lstrip(".").startswith(EMULATORS)


def not_qemu(core: ProcessImage, executable: Executable | None) -> NotQemuError | None:
    """Return the error for a core of another program, None for one that may be a QEMU's."""
    found = identify(core, executable)
    if found.is_qemu is not False:
        return None
    sure = executable is not None and _has_symbols(executable) is False
    return NotQemuError(
        "this is not a core of a QEMU",
        where=core.path,
        seen=f"a core of {found.name or 'an unnamed program'}: {found.why}",
        expected="a core of qemu-system-*",
        hint="" if sure else "if it is a QEMU under another name, give its executable with -e PATH",
    )


def _has_symbols(executable: Executable) -> bool | None:
    """Tell whether a file defines what every emulator does; None if its symbols cannot tell.

    That a name is missing proves nothing in a stripped file: a QEMU without modules exports none.
    """
    from vringcore.debuginfo.elf import ElfFile
    from vringcore.debuginfo.symbols import SymbolTable

    try:
        with ElfFile.open(executable.source.path) as elf:
            table = SymbolTable.of(elf)
            if table is None:
                return None
            return any(map(table.find, PROGRAM_SYMBOLS)) or (False if table.complete else None)
    except VringcoreError:
        return None
