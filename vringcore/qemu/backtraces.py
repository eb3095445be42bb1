"""Backtraces of a process's stacks: its memory, its files and its modules, put together."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vringcore.elfcore.notes import NT_ARM_PAC_MASK
from vringcore.errors import VringcoreError
from vringcore.qemu.libspace import LibrarySpace
from vringcore.qemu.tailcalls import ProcessTailCalls
from vringcore.unwind.frames import Unwinder
from vringcore.unwind.images import vdso
from vringcore.unwind.registers import code_mask, qualified

if TYPE_CHECKING:
    from collections.abc import Mapping

    from vringcore.elfcore.image import ProcessImage
    from vringcore.elfcore.modules import Module
    from vringcore.qemu.process import Process
    from vringcore.unwind.frames import Backtrace
    from vringcore.unwind.generated import GeneratedCode


_PLACES = {"x86-64": ("rsp", "rbp", "rip"), "aarch64": ("sp", "x29", "pc")}


class Backtraces:
    """Unwinds stacks of one process. Libraries are opened when a stack leads into them. Close it.

    :ivar space: the process's memory, the files of the libraries beneath it
    :ivar tail_calls: the functions that may have left between two frames
    """

    def __init__(self, process: Process) -> None:
        self._process = process
        core, files = process.core, process.files
        self._core = core
        self.space = LibrarySpace(core, files.mapped, files.executable, process.symbols.file_of)
        self.tail_calls = ProcessTailCalls(process)
        self._kernel_image = vdso(core.auxv, core.memory)
        modules = [*core.modules, *([self._kernel_image] if self._kernel_image else [])]
        machine = qualified(core.machine, big_endian=core.header.big_endian)
        self._generated: tuple[GeneratedCode, ...] | None = None
        self._unwinder = Unwinder(
            self.space, modules, machine, _code_mask(core), self._generated_code
        )

    def of(self, registers: Mapping[str, int]) -> Backtrace:
        """Return the frames of a stack from registers by name: at least ``sp`` and ``pc``."""
        return self._unwinder.backtrace(registers)

    def of_coroutine(self, address: int) -> Backtrace:
        """Return the frames of a coroutine that sleeps; of one that runs they are out of date.

        :param address: of the Coroutine
        :raises CorruptDataError, LayoutMissingError, MemoryFault: as
            :func:`~vringcore.qemu.coroutines.saved_context`
        """
        from vringcore.qemu.coroutines import saved_context

        context = saved_context(self._process.views, self._core, address)
        names = _PLACES[self._core.machine]
        place = dict(zip(names, (context.sp, context.fp, context.pc), strict=True))
        return self._unwinder.backtrace({**context.others, **place}, saved=True)

    @property
    def assumed(self) -> bool:
        """Whether signatures were taken from return addresses by rule: nothing told how."""
        return self._unwinder.assumed

    def module_at(self, address: int) -> Module | None:
        """Return the module that an address lies in, the vDSO too."""
        kernel = self._kernel_image
        if kernel is not None and kernel.start <= address < kernel.end:
            return kernel
        return self._core.module_at(address)

    def generated_at(self, address: int) -> str | None:
        """Return the name of the function that an address lies in, of code made at run time."""
        found = (code.function_at(address) for code in self._generated_code())
        return next((function.name for function in found if function is not None), None)

    def _generated_code(self) -> tuple[GeneratedCode, ...]:
        """Return what QEMU tells debuggers of the code that TCG makes; none under KVM."""
        if self._generated is None:
            try:
                self._generated = self._registered()
            except VringcoreError:
                self._generated = ()
        return self._generated

    def _registered(self) -> tuple[GeneratedCode, ...]:
        from vringcore.unwind.generated import DESCRIPTOR, generated_code

        views = self._process.views
        symbol = views.layouts.find_symbol(DESCRIPTOR)
        if symbol is None:
            return ()
        order = self._core.header.byteorder
        return generated_code(self.space, symbol.address + views.bias, order)

    def close(self) -> None:
        """Close the libraries' files."""
        self.space.close()


def _code_mask(core: ProcessImage) -> int | None:
    """Return the bits of signed return addresses that are address, None if no thread's note tells.

    The kernel tells it of each thread, and it is the same for all.
    """
    for thread in core.threads:
        for note in thread.notes:
            if note.type == NT_ARM_PAC_MASK and note.owner == b"LINUX":
                return code_mask(note.desc, core.header.byteorder)
    return None
