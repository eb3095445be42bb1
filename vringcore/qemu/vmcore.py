"""A core of the guest, as QEMU's ``dump-guest-memory`` writes one with paging off.

An ELF file of 64 bits: the ELF header, two section headers, program headers, one PT_NOTE with an
NT_PRSTATUS and a ``QEMU`` note for each vCPU (target/i386/arch_dump.c), then a PT_LOAD for each
stretch of RAM that is contiguous in the guest and in the QEMU process (dump/dump.c). RAM that the
core lacks gets no PT_LOAD: a reader must not take it for zeros.
"""

from __future__ import annotations

from struct import Struct
from typing import TYPE_CHECKING

from vringcore.addresses import HostAddress
from vringcore.errors import LimitError, MemoryFault, UsageError
from vringcore.model.memory import ExportSegment, GuestRegion, MemoryGap
from vringcore.model.values import Absent, Address
from vringcore.qemu.guest_structs import CPUX86State
from vringcore.qemu.vcpus import SEGMENTS, WORD

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from typing import BinaryIO

    from vringcore.memory.space import HostSpace
    from vringcore.qemu.process import Process
    from vringcore.qemu.vcpus import RawCpu, Segment, X86Registers

    Progress = Callable[[int, int], None]

_IDENT = b"\x7fELF\x02\x01\x01".ljust(16, b"\0")
_EHDR = Struct("<16sHHIQQQIHHHHHH")
_SHDR = Struct("<IIQQQQIIQQ")
_PHDR = Struct("<IIQQQQQQ")
_NOTE = Struct("<III")
_SEGMENT = Struct("<IIIIQ")

_ET_CORE, _EM_X86_64, _PT_LOAD, _PT_NOTE, _SHT_STRTAB = 4, 62, 1, 4, 3
_NT_PRSTATUS = 1
_PN_XNUM = 0xFFFF
_NAMES = b"\0.shstrtab\0"

_PRSTATUS_SIZE = 336
_PRSTATUS_PID = 32
_PRSTATUS_REGISTERS = 112
_USER_REGISTERS = (
    *("r15", "r14", "r13", "r12", "rbp", "rbx", "r11", "r10", "r9", "r8", "rax", "rcx", "rdx"),
    *("rsi", "rdi", "orig_rax", "rip", "cs", "rflags", "rsp", "ss", "fs_base", "gs_base"),
    *("ds", "es", "fs", "gs"),
)
"""``struct user_regs_struct`` of x86-64 (linux/arch/x86/include/asm/user_64.h)."""

_STATE_VERSION = 1
_STATE_SIZE = 440
_STATE_GENERAL = (
    *("rax", "rbx", "rcx", "rdx", "rsi", "rdi", "rsp", "rbp", "r8", "r9", "r10", "r11", "r12"),
    *("r13", "r14", "r15", "rip", "rflags"),
)
_STATE_SEGMENTS = ("cs", "ds", "es", "fs", "gs", "ss", "ldt", "tr", "gdt", "idt")

BLOCK = 64 * 1024
"""Runs of zeros of this size become holes."""

_ZEROS = bytes(BLOCK)

Stretch = tuple[int, int, int]
"""Guest-physical address, address in the QEMU process, bytes."""


def refuse_other_guests(process: Process) -> None:
    """Raise where no core of the guest can be written.

    :raises UsageError: if it is no x86-64, or the core is a slim one
    """
    if process.core.slim is not None:
        raise UsageError(
            "a slim core has neither the guest's memory nor its registers",
            where=process.core.path,
            hint="ask the full core",
        )
    views = process.views
    if views.layouts.find_definition(CPUX86State.c_type, CPUX86State.unit) is not None:
        slot = views.binding(CPUX86State).type.slots["eip"]
        if slot is not None and slot.size == WORD:
            return
    raise UsageError(
        "a guest core is written of x86-64 guests only",
        where=process.core.executable_path,
        hint="`memory read --raw` writes a part of any guest's memory",
    )


def ram_stretches(regions: Iterable[GuestRegion]) -> list[Stretch]:
    """Return the RAM that QEMU would dump: of the guest, not of flash or of passed-through devices.

    Neighbours are one where they are neighbours in the process too.
    """
    found: list[Stretch] = []
    for region in regions:
        if region.kind not in ("ram", "rom") or not isinstance(region.host, int):
            continue
        start, host, size = int(region.start), int(region.host), region.size
        if found:
            before, at, length = found[-1]
            if before + length == start and at + length == host:
                found[-1] = before, at, length + size
                continue
        found.append((start, host, size))
    return found


def present(
    space: HostSpace, stretches: Iterable[Stretch]
) -> tuple[list[Stretch], list[MemoryGap]]:
    """Return what of the stretches can be read, and what cannot."""
    found: list[Stretch] = []
    missing: list[MemoryGap] = []
    for start, host, size in stretches:
        reach, end = host, host + size
        for part in space.ranges_at(host, size):
            first = max(reach, part.address)
            last = min(end, part.address + part.readable)
            if first >= last:
                continue
            if first > reach:
                missing.append(MemoryGap(Address(start + reach - host), first - reach))
            before = found[-1] if found else (0, 0, 0)
            if reach > host and first == reach == before[1] + before[2]:
                found[-1] = before[0], before[1], last - before[1]
            else:
                found.append((start + first - host, first, last - first))
            reach = last
        if reach < end:
            missing.append(MemoryGap(Address(start + reach - host), end - reach))
    return found, missing


def cpu_notes(cpus: Sequence[RawCpu]) -> bytes:
    """Return the notes of the vCPUs whose registers are known, in QEMU's order."""
    known = [(cpu.index, cpu.x86) for cpu in cpus if not isinstance(cpu.x86, Absent)]
    return b"".join(
        [_note(b"CORE", _NT_PRSTATUS, _prstatus(index, registers)) for index, registers in known]
        + [_note(b"QEMU", 0, _cpu_state(registers)) for _, registers in known]
    )


def _prstatus(index: int, registers: X86Registers) -> bytes:
    """Return ``struct elf_prstatus`` of x86-64; its process number is the vCPU's index plus one."""
    segments = registers.segments
    values = {**registers.general, "orig_rax": 0}
    values |= {name: segments[name].selector for name in SEGMENTS}
    values |= {"fs_base": segments["fs"].base, "gs_base": segments["gs"].base}
    data = bytearray(_PRSTATUS_SIZE)
    data[_PRSTATUS_PID : _PRSTATUS_PID + 4] = (index + 1).to_bytes(4, "little")
    words = b"".join(values[name].to_bytes(WORD, "little") for name in _USER_REGISTERS)
    data[_PRSTATUS_REGISTERS : _PRSTATUS_REGISTERS + len(words)] = words
    return bytes(data)


def _cpu_state(registers: X86Registers) -> bytes:
    """Return ``QEMUCPUState``, which `crash` takes CR3 and the IDT from."""
    parts = [_STATE_VERSION.to_bytes(4, "little"), _STATE_SIZE.to_bytes(4, "little")]
    words = [registers.general[name] for name in _STATE_GENERAL]
    parts += [word.to_bytes(WORD, "little") for word in words]
    parts += [_descriptor(registers.segments[name]) for name in _STATE_SEGMENTS]
    words = [*registers.control, registers.kernel_gs_base]
    parts += [word.to_bytes(WORD, "little") for word in words]
    return b"".join(parts)


def _descriptor(segment: Segment) -> bytes:
    return _SEGMENT.pack(segment.selector, segment.limit, segment.flags, 0, segment.base)


def _note(owner: bytes, kind: int, desc: bytes) -> bytes:
    name = owner + b"\0"
    return _NOTE.pack(len(name), len(desc), kind) + name.ljust(-(-len(name) // 4) * 4, b"\0") + desc


def write_vmcore(
    out: BinaryIO,
    space: HostSpace,
    stretches: Sequence[Stretch],
    notes: bytes,
    progress: Progress | None = None,
) -> tuple[tuple[ExportSegment, ...], int, int]:
    """Write a guest core; return its PT_LOADs, its size, and the bytes that are not in holes.

    Memory is streamed, never held whole.

    :param out: a file open for writing, at its start
    :param progress: called with the bytes of memory done, and their number in all
    :raises LimitError: if there are more stretches than program headers
    :raises MemoryFault: if memory is not there that was
    """
    if len(stretches) + 1 >= _PN_XNUM:
        raise LimitError(
            "the guest's RAM is in too many pieces for a core",
            seen=f"{len(stretches)} stretches",
            expected=f"less than {_PN_XNUM - 1}",
            hint="a core that was taken whole has few",
        )
    at = _EHDR.size + 2 * _SHDR.size
    place = at + (len(stretches) + 1) * _PHDR.size
    headers = [_PHDR.pack(_PT_NOTE, 0, place, 0, 0, len(notes), len(notes), 0)]
    place += len(notes)
    segments = []
    for start, _, size in stretches:
        headers.append(_PHDR.pack(_PT_LOAD, 0, place, start, start, size, size, 0))
        segments.append(ExportSegment(Address(start), size, place))
        place += size
    out.write(
        _EHDR.pack(
            _IDENT, _ET_CORE, _EM_X86_64, 1, 0, at, _EHDR.size, 0,
            _EHDR.size, _PHDR.size, len(headers), _SHDR.size, 2, 1,
        )
    )  # fmt: skip
    out.write(bytes(_SHDR.size))
    out.write(_SHDR.pack(1, _SHT_STRTAB, 0, 0, place, len(_NAMES), 0, 0, 0, 0))
    out.write(b"".join(headers) + notes)
    written = out.tell() + len(_NAMES)
    written += _copy(out, _data(space, stretches), place - out.tell(), progress)
    out.write(_NAMES)
    return tuple(segments), place + len(_NAMES), written


def _data(space: HostSpace, stretches: Iterable[Stretch]) -> Iterator[bytes]:
    for _, host, size in stretches:
        for piece in space.scan(HostAddress(host), size):
            if piece.data is None:
                assert piece.gap is not None
                raise MemoryFault("copying guest memory", piece.address, piece.gap)
            yield piece.data


def _copy(out: BinaryIO, pieces: Iterable[bytes], total: int, progress: Progress | None) -> int:
    """Write memory, leaving holes for zeros; return the bytes that are not in holes."""
    done = written = 0
    for data in pieces:
        for start in range(0, len(data), BLOCK):
            block = data[start : start + BLOCK]
            if block == _ZEROS:
                out.seek(BLOCK, 1)
            else:
                written += out.write(block)
        done += len(data)
        if progress is not None:
            progress(done, total)
    return written
