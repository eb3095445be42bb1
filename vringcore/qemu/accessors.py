"""Static variables of QEMU, found by the exported functions that read them.

A stripped program keeps the symbols that its modules link against, and static variables have none.
But what a small exported function reads stands in its code: ``object_get_root()`` begins by loading
``root``. On x86-64 that is an operand relative to the next instruction (Intel SDM, volume 2,
2.2.1.6). The first such operand that leads to writable data without another's symbol is taken;
whoever follows the variable checks what lies there, as with any other.
"""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING

from vringcore.elfcore.headers import PF_W, PF_X, PT_LOAD
from vringcore.elfcore.tls import PT_TLS

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
    "vhost_devices": ("vhost_has_free_slot", "vhost_get_free_memslots"),
    "jobs": ("job_next",),
    "throttle_groups": ("throttle_group_exists",),
    "qemu_global_mutex": ("qemu_cond_wait_iothread",),
    "bql": ("qemu_cond_wait_bql",),
}
"""By ``function::variable`` or variable, exported functions whose first static variable it is."""

THREAD_ACCESSORS: dict[str, tuple[str, int]] = {
    "co_tls_current": ("qemu_coroutine_self", 0),
    "co_tls_leader": ("qemu_coroutine_self", 1),
    "co_tls_my_aiocontext": ("qemu_get_current_aio_context", 0),
}
"""Thread-local variables: which of those that an exported function calls reads it (since 7.0).

``include/qemu/coroutine-tls.h`` gives each a function of its own that is not inlined.
"""

MAX_CODE = 512
"""Bytes of a function that are looked at."""

_OPCODES = frozenset({0x8B, 0x8D, 0x39, 0x3B})
"""MOV and LEA to a register, CMP with one: nothing stands behind their displacement."""

_RELATIVE, _ADDRESSING = 0x05, 0xC7
"""ModRM: ``mod`` 0 and ``rm`` 5, whatever the register."""


_CALL = 0xE8
_MOV_FS = b"\x64\x48\x8b\x04\x25"
"""MOV RAX, FS:[disp32]; of an address, FS:[0], to which the next instruction adds."""
_ADD, _LEA = b"\x48\x05", b"\x48\x8d\x80"
_ENDBR = b"\xf3\x0f\x1e\xfa"
_MAX_GETTER = 24


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
                return next(self._static_places(function, key.rpartition("::")[2]), None)
        return None

    def thread_place(self, key: str) -> int | None:
        """Return where a variable of :data:`THREAD_ACCESSORS` lies in the thread-local block."""
        name, number = THREAD_ACCESSORS.get(key, ("", 0))
        function = self._find(name) if name else None
        if function is None or self._executable.header.machine != EM_X86_64:
            return None
        return next(islice(self._thread_places(function), number, None), None)

    def _thread_places(self, function: Symbol) -> Iterator[int]:
        segments = self._executable.program_headers
        tls = next((each for each in segments if each.type == PT_TLS), None)
        if tls is None:
            return
        # The block ends at the thread pointer (ELF TLS, variant II).
        size = -(-tls.memsz // (tls.align or 1)) * (tls.align or 1)
        code = self._code(function)
        for at in range(len(code) - 4):
            if code[at] == _CALL:
                distance = int.from_bytes(code[at + 1 : at + 5], "little", signed=True)
                below = self._below_thread_pointer(function.address + at + 5 + distance)
                if below is not None and 0 < below <= size:
                    yield size - below

    def _below_thread_pointer(self, function: int) -> int | None:
        """Return how far below the thread pointer lies what a function begins by reading."""
        code = self._bytes(function, _MAX_GETTER).removeprefix(_ENDBR)
        if not code.startswith(_MOV_FS):
            return None
        rest = code[len(_MOV_FS) :]
        distance, rest = int.from_bytes(rest[:4], "little", signed=True), rest[4:]
        if not distance:
            added = next((x for x in (_ADD, _LEA) if rest.startswith(x)), None)
            if added is None:
                return None
            number = rest[len(added) : len(added) + 4]
            distance = int.from_bytes(number, "little", signed=True)
        return -distance

    def _static_places(self, function: Symbol, variable: str) -> Iterator[int]:
        code = self._code(function)
        for at in range(len(code) - 5):
            if code[at] in _OPCODES and code[at + 1] & _ADDRESSING == _RELATIVE:
                distance = int.from_bytes(code[at + 2 : at + 6], "little", signed=True)
                target = function.address + at + 6 + distance
                if self._is_writable(target) and self._may_be(target, variable):
                    yield target

    def _may_be(self, address: int, variable: str) -> bool:
        """Tell whether no other variable is known to lie there; compilers number static ones."""
        symbol = self._covering(address)
        return symbol is None or symbol.name.partition(".")[0] == variable

    def _code(self, function: Symbol) -> bytes:
        return self._bytes(function.address, min(function.size, MAX_CODE))

    def _bytes(self, address: int, size: int) -> bytes:
        """Return code from the file, less where its segment ends."""
        for each in self._executable.program_headers:
            end = each.vaddr + each.filesz
            if each.type == PT_LOAD and each.flags & PF_X and each.vaddr <= address < end:
                offset = each.offset + address - each.vaddr
                return self._executable.source.pread(offset, min(size, end - address))
        return b""

    def _is_writable(self, address: int) -> bool:
        return any(
            each.type == PT_LOAD and each.flags & PF_W and 0 <= address - each.vaddr < each.memsz
            for each in self._executable.program_headers
        )
