"""Where each thread has the program's thread-local variables."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vringcore.elfcore.tls import executable_block

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vringcore.qemu.process import Process


def thread_blocks(process: Process) -> Iterator[tuple[int, int]]:
    """Yield each thread's number, and where the program's thread-local block of it begins.

    Left out is a thread whose thread pointer is not known. None is yielded if neither the
    executable nor the core has the program's headers.
    """
    core = process.core
    source = process.files.executable or core.executable
    if source is None:
        return
    for thread in core.threads:
        if thread.fs_base:
            block = executable_block(core.machine, thread.fs_base, source.program_headers)
            if block is not None and block >= 0:
                yield thread.lwp, block
