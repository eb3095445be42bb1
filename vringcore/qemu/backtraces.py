"""Backtraces of a process's stacks: its memory, its files and its modules, put together."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vringcore.qemu.libspace import LibrarySpace
from vringcore.qemu.tailcalls import ProcessTailCalls
from vringcore.unwind.frames import Unwinder
from vringcore.unwind.images import vdso

if TYPE_CHECKING:
    from collections.abc import Mapping

    from vringcore.elfcore.modules import Module
    from vringcore.qemu.process import Process
    from vringcore.unwind.frames import Backtrace


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
        order = "big-endian " if core.header.big_endian else ""
        self._unwinder = Unwinder(self.space, modules, order + core.machine)

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

    def module_at(self, address: int) -> Module | None:
        """Return the module that an address lies in, the vDSO too."""
        kernel = self._kernel_image
        if kernel is not None and kernel.start <= address < kernel.end:
            return kernel
        return self._core.module_at(address)

    def close(self) -> None:
        """Close the libraries' files."""
        self.space.close()
