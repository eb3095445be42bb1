"""A core of a process that nobody can stop: read from /proc, everything, as simply as possible.

gdb cannot take a core of a process with a thread that sleeps uninterruptibly. This writer stops
nothing: it copies what /proc/PID/mem gives, so the process may change while it is copied. It is the
lab's own outside truth about what vringcore captures, and shares no code with it. x86-64 only.
"""

from __future__ import annotations

import os
import struct
import time
from dataclasses import dataclass
from pathlib import Path

_PAGE = 4096
_CHUNK = 1 << 20

# elf.h
_ET_CORE, _EM_X86_64, _PT_LOAD, _PT_NOTE = 4, 62, 1, 4
_NT_PRSTATUS, _NT_PRPSINFO, _NT_AUXV, _NT_FILE = 1, 3, 6, 0x46494C45
_RIGHTS = {"r": 4, "w": 2, "x": 1}

# sys/user.h, struct user_regs_struct; those that a system call does not use are not known.
_REGISTERS = (
    *("r15", "r14", "r13", "r12", "rbp", "rbx", "r11", "r10", "r9", "r8", "rax", "rcx", "rdx"),
    *("rsi", "rdi", "orig_rax", "rip", "cs", "eflags", "rsp", "ss", "fs_base", "gs_base", "ds"),
    *("es", "fs", "gs"),
)
_ARGUMENTS = ("rdi", "rsi", "rdx", "r10", "r8", "r9")
_MINUS_ONE = (1 << 64) - 1
_ERESTARTSYS = (1 << 64) - 512


@dataclass(frozen=True)
class Mapping:
    """A line of /proc/PID/maps."""

    start: int
    end: int
    rights: str
    offset: int
    path: str


def write(pid: int, target: Path) -> float:
    """Writes a core of a running process; returns the seconds that it took."""
    started = time.monotonic()
    mappings = read_mappings(pid)
    notes = _notes(pid, mappings)
    data_at = _rounded(64 + 56 * (len(mappings) + 1) + len(notes))
    with open(f"/proc/{pid}/mem", "rb", buffering=0) as memory, target.open("wb") as core:
        headers = [
            struct.pack(
                "<IIQQQQQQ", _PT_NOTE, 4, 64 + 56 * (len(mappings) + 1), 0, 0, len(notes), 0, 4
            )
        ]
        place = data_at
        for mapping in mappings:
            size = _copy(memory.fileno(), core.fileno(), mapping, place)
            flags = sum(_RIGHTS.get(letter, 0) for letter in mapping.rights)
            headers.append(
                struct.pack(
                    "<IIQQQQQQ",
                    *(_PT_LOAD, flags, place, mapping.start, 0),
                    *(size, mapping.end - mapping.start, _PAGE),
                )
            )
            place += _rounded(size)
        core.seek(0)
        core.write(_header(len(headers)) + b"".join(headers) + notes)
        core.truncate(place)
    return time.monotonic() - started


def read_mappings(pid: int) -> list[Mapping]:
    """All mappings of a process, in the order of their addresses."""
    found = []
    for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
        extent, rights, offset, _, rest = line.split(" ", 4)
        start, _, end = extent.partition("-")
        path = rest.partition(" ")[2].strip()
        found.append(Mapping(int(start, 16), int(end, 16), rights, int(offset, 16), path))
    return [mapping for mapping in found if mapping.end < 1 << 63]  # not [vsyscall]


def _copy(memory: int, core: int, mapping: Mapping, place: int) -> int:
    """Copies what can be read, up to the first page that cannot; zeros become holes."""
    if "r" not in mapping.rights:
        return 0
    done = mapping.start
    while done < mapping.end:
        try:
            data = os.pread(memory, min(_CHUNK, mapping.end - done), done)
        except OSError:
            break
        if not data:
            break
        _write_sparsely(core, data, place + done - mapping.start)
        done += len(data)
    return done - mapping.start


def _write_sparsely(core: int, data: bytes, place: int) -> None:
    for at in range(0, len(data), 16 * _PAGE):
        block = data[at : at + 16 * _PAGE]
        if block.count(0) != len(block):
            os.pwrite(core, block, place + at)


def _header(segments: int) -> bytes:
    identity = b"\x7fELF\x02\x01\x01".ljust(16, b"\0")
    return identity + struct.pack(
        "<HHIQQQIHHHHHH", _ET_CORE, _EM_X86_64, 1, 0, 64, 0, 0, 64, 56, segments, 0, 0, 0
    )


def _notes(pid: int, mappings: list[Mapping]) -> bytes:
    threads = sorted(map(int, os.listdir(f"/proc/{pid}/task")), key=lambda lwp: (lwp != pid, lwp))
    notes = [_note(_NT_PRPSINFO, _process(pid))]
    notes += [_note(_NT_PRSTATUS, _thread(pid, lwp)) for lwp in threads]
    notes.append(_note(_NT_AUXV, Path(f"/proc/{pid}/auxv").read_bytes()))
    notes.append(_note(_NT_FILE, _files(mappings)))
    return b"".join(notes)


def _note(kind: int, description: bytes) -> bytes:
    padding = -len(description) % 4
    return struct.pack("<III8s", 5, len(description), kind, b"CORE") + description + bytes(padding)


def _process(pid: int) -> bytes:
    """elf_prpsinfo (linux/elfcore.h)."""
    name = Path(f"/proc/{pid}/comm").read_bytes().rstrip(b"\n")
    arguments = Path(f"/proc/{pid}/cmdline").read_bytes().rstrip(b"\0").replace(b"\0", b" ")
    parent = int(_stat(pid, pid)[1])
    return struct.pack(
        "<bcbb4xQIIiiii16s80s", 0, b"S", 0, 0, 0, 0, 0, pid, parent, pid, pid, name, arguments[:79]
    )


def _thread(pid: int, lwp: int) -> bytes:
    """elf_prstatus (linux/elfcore.h)."""
    parent = int(_stat(pid, pid)[1])
    known = registers(Path(f"/proc/{pid}/task/{lwp}/syscall").read_text())
    status = struct.pack("<iiihxxQQiiii", 0, 0, 0, 0, 0, 0, lwp, parent, pid, pid).ljust(112, b"\0")
    return status + struct.pack("<27Qi4x", *(known.get(name, 0) for name in _REGISTERS), 0)


def registers(line: str) -> dict[str, int]:
    """The registers that /proc/PID/task/TID/syscall tells: all that a system call has.

    The result's register is what a debugger would see of a call that it interrupted.
    """
    words = [int(word, 0) for word in line.split() if word != "running"]
    if len(words) < 3:
        return {"orig_rax": _MINUS_ONE}
    number, *arguments, sp, pc = words
    known = {"orig_rax": number & _MINUS_ONE, "rsp": sp, "rip": pc}
    if arguments:
        known |= {"rax": _ERESTARTSYS, **dict(zip(_ARGUMENTS, arguments, strict=True))}
    return known


def _stat(pid: int, lwp: int) -> list[str]:
    """The fields of a thread's stat from its state on."""
    return Path(f"/proc/{pid}/task/{lwp}/stat").read_text().rpartition(")")[2].split()


def _files(mappings: list[Mapping]) -> bytes:
    """NT_FILE: the count, the unit of offsets, extents, then the names."""
    files = [mapping for mapping in mappings if mapping.path.startswith("/")]
    extents = [struct.pack("<QQQ", each.start, each.end, each.offset // _PAGE) for each in files]
    names = [os.fsencode(each.path) + b"\0" for each in files]
    return struct.pack("<QQ", len(files), _PAGE) + b"".join(extents) + b"".join(names)


def _rounded(size: int) -> int:
    return -(-size // _PAGE) * _PAGE
