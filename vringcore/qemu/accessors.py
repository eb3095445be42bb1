"""Static variables of QEMU, found by the exported functions that read them.

A stripped program keeps the symbols that its modules link against, and static variables have none.
But what a small exported function reads stands in its code: ``object_get_root()`` begins by loading
``root``. On x86-64 that is an operand relative to the next instruction (Intel SDM, volume 2,
2.2.1.6). The first such operand that leads to writable data without a symbol of its own is taken;
whoever follows the variable checks what lies there, as with any other.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vringcore.elfcore.headers import PF_W, PF_X, PT_LOAD

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from vringcore.elfcore.executable import Executable
    from vringcore.layout.types import Symbol

EM_X86_64 = 62

ACCESSORS: dict[str, tuple[str, ...]] = {
    "main_system_bus": ("sysbus_get_default",),
    "object_get_root::root": ("object_get_root",),
    "object_get_internal_root::internal_root": ("object_get_internal_root",),
    "current_run_state": ("runstate_check",),
    "vm_change_state_head": ("vm_state_notify",),
    "current_migration": ("migrate_get_current",),
    "current_incoming": ("migration_incoming_get_current",),
    "block_backends": ("blk_all_next",),
    "all_bdrv_states": ("bdrv_next_all_states",),
    "qemu_aio_context": ("qemu_get_aio_context",),
    "iohandler_ctx": ("iohandler_get_aio_context",),
    "vhost_devices": ("vhost_has_free_slot",),
    "qemu_global_mutex": ("qemu_cond_wait_iothread",),
    "bql": ("qemu_cond_wait_bql",),
}
"""By ``function::variable`` or variable, exported functions whose first static variable it is."""

MAX_CODE = 512
"""Bytes of a function that are looked at."""

_OPCODES = frozenset({0x8B, 0x8D, 0x39, 0x3B})
"""MOV and LEA to a register, CMP with one: nothing stands behind their displacement."""

_RELATIVE, _ADDRESSING = 0x05, 0xC7
"""ModRM: ``mod`` 0 and ``rm`` 5, whatever the register."""


class Accessors:
    """Where an executable's code tells that static variables lie.

    :param find: returns the exported symbol of a name
    :param covering: returns the exported symbol whose bytes hold a link-time address
    """

    def __init__(
        self,
        executable: Executable,
        find: Callable[[str], Symbol | None],
        covering: Callable[[int], Symbol | None],
    ) -> None:
        self._executable = executable
        self._find = find
        self._covering = covering

    def place(self, key: str) -> int | None:
        """Return the link-time address of a variable of :data:`ACCESSORS`, None if none tells."""
        if self._executable.header.machine != EM_X86_64:
            return None
        for name in ACCESSORS.get(key, ()):
            function = self._find(name)
            if function is not None:
                return next(self._static_places(function), None)
        return None

    def _static_places(self, function: Symbol) -> Iterator[int]:
        code = self._code(function)
        for at in range(len(code) - 5):
            if code[at] in _OPCODES and code[at + 1] & _ADDRESSING == _RELATIVE:
                distance = int.from_bytes(code[at + 2 : at + 6], "little", signed=True)
                target = function.address + at + 6 + distance
                if self._is_writable(target) and self._covering(target) is None:
                    yield target

    def _code(self, function: Symbol) -> bytes:
        size = min(function.size, MAX_CODE)
        for each in self._executable.program_headers:
            end = each.vaddr + each.filesz
            if each.type == PT_LOAD and each.flags & PF_X and each.vaddr <= function.address < end:
                offset = each.offset + function.address - each.vaddr
                return self._executable.source.pread(offset, min(size, end - function.address))
        return b""

    def _is_writable(self, address: int) -> bool:
        return any(
            each.type == PT_LOAD and each.flags & PF_W and 0 <= address - each.vaddr < each.memsz
            for each in self._executable.program_headers
        )
