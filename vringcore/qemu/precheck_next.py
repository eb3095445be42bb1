"""What to set before the next core is taken, so that it answers what this one cannot."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vringcore.model.precheck import Advice

if TYPE_CHECKING:
    from collections.abc import Iterable

    from vringcore.qemu.precheck_answers import Facts
    from vringcore.qemu.ram_options import RamBlock

PRIVATE, ANONYMOUS_SHARED, FILE_PRIVATE, FILE_SHARED = 0x1, 0x2, 0x4, 0x8
ELF_HEADERS, HUGE_PRIVATE, HUGE_SHARED = 0x10, 0x20, 0x40
"""The bits of /proc/PID/coredump_filter (core(5))."""

DEFAULT_FILTER = PRIVATE | ANONYMOUS_SHARED | ELF_HEADERS | HUGE_PRIVATE


def filter_needed(blocks: Iterable[RamBlock]) -> int:
    """Return the bits without which RAM of these kinds is left out, beside the default ones."""
    bits = 0
    for block in blocks:
        if block.huge:
            bits |= HUGE_SHARED if block.shared else HUGE_PRIVATE
        elif block.shared and block.file:
            # A directory as mem-path, or a file deleted since, counts as anonymous.
            bits |= FILE_SHARED
        elif block.file:
            bits |= FILE_PRIVATE
        elif block.shared:
            bits |= ANONYMOUS_SHARED
        else:
            bits |= PRIVATE
    return bits & ~DEFAULT_FILTER


def next_capture(
    facts: Facts, blocks: list[RamBlock], *, written_by: str, pid: str = "PID"
) -> tuple[Advice, ...]:
    """Return what would make the next core answer more; empty where this one lacks nothing."""
    found: list[Advice] = []
    if facts.is_qemu is False:
        return ()
    # What a cut core lacks of RAM may be what was cut off, unless the command line says otherwise.
    left_out = facts.complete or filter_needed(blocks) or any(not b.dumped for b in blocks)
    lacking = facts.guest_ram in ("absent", "partial", "unknown") and left_out
    if lacking and written_by != "slim":
        found += ram_advice(blocks, pid)
    if not facts.complete and written_by != "slim":
        found.append(
            Advice(
                "let the core be written whole",
                "this one is cut, by a limit, by a full disk, or in copying",
                "ulimit -c unlimited (LimitCORE=infinity in the unit); ProcessSizeMax= and"
                " ExternalSizeMax= in /etc/systemd/coredump.conf; `cp --sparse=always`",
            )
        )
    if facts.debug in ("missing", "cached", "pack"):
        found.append(
            Advice(
                "keep the debug information of this build",
                "a small file with QEMU's types serves all its cores, for ever",
                "vringcore layout build qemu-system-x86_64 -o qemu.layout.json",
            )
        )
    if not facts.registers and facts.complete:
        found.append(
            Advice(
                "let a debugger or the kernel write the core",
                "threads' registers are not in this one",
                f"gcore -o core {pid}, or vringcore capture --stop {pid} -o vm.core",
            )
        )
    if found:
        found.append(
            Advice(
                "where a thread sleeps uninterruptibly (state D)",
                "gcore waits for it for ever; capture stops nothing and needs no limits set",
                f"vringcore capture {pid} -o vm.core",
            )
        )
    return tuple(found)


def ram_advice(blocks: list[RamBlock], pid: str) -> list[Advice]:
    """Return what lets guest RAM into the next core, by how the command line backs it."""
    found = []
    if any(not block.dumped for block in blocks):
        found.append(
            Advice(
                "start the VM with its memory dumped",
                "the command line keeps guest RAM out of cores (dump-guest-core=off, dump=off)",
                "-machine dump-guest-core=on (libvirt: <memory dumpCore='on'>); of a VM that runs:"
                " gdb's `set dump-excluded-mappings on` before gcore",
            )
        )
    bits = filter_needed(blocks)
    if bits or not found:
        kinds = ", ".join(dict.fromkeys(filter(None, map(_kind, blocks)))) or "guest RAM"
        found.append(
            Advice(
                "let the kernel and gcore dump shared memory",
                f"{kinds}: left out unless coredump_filter has {bits:#x}"
                if bits
                else "shared files and huge pages are left out by default",
                f"echo 0x7f > /proc/{pid}/coredump_filter",
            )
        )
    return found


def _kind(block: RamBlock) -> str:
    words = [
        word for word, holds in (("shared", block.shared), ("huge pages", block.huge)) if holds
    ]
    return f"{block.backend or '-mem-path'} ({', '.join(words)})" if words else ""
