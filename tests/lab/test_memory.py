"""The guest's memory from a core, beside QEMU's monitor and its own dump of the same VM."""

from __future__ import annotations

import mmap
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from elftools.elf.elffile import ELFFile

import vringcore
from tests.lab.guest import kernel
from tests.lab.live import live
from tests.lab.paths import guest_directory
from tests.lab.qmp import Monitor
from tests.lab.runner import SYSTEM_EMULATOR, executable
from vringcore.layout.store import LayoutStore
from vringcore.model.memory import GuestRegion, MemoryExport
from vringcore.model.report import Limitation
from vringcore.model.values import Absent
from vringcore.qemu.guest import export_guest, read_guest
from vringcore.qemu.guestmap import GuestMap, guest_blocks
from vringcore.qemu.guestsearch import search
from vringcore.qemu.vcpus import RawCpu, vcpus

pytestmark = pytest.mark.lab

VERSIONS = [v for v in ("7.2", "10.0") if executable(v, SYSTEM_EMULATOR).exists()]

if not VERSIONS or not kernel().exists():
    pytest.skip("no QEMU: run `python -m tests.lab make 7.2 all`", allow_module_level=True)

READ = 64
PHYSICAL = (0x0, 0x9000, 0xBFFF0, 0xC2FF0, 0xF0000, 0x1000000, 0x11C6000, 0xFFFFF000)
"""Low memory, across the border of RAM and ROM, the BIOS, the kernel, the reset vector."""

EHSIZE = slice(52, 54)
"""Where QEMU writes 8 for the size of the ELF header, and we 64, which it is."""


@dataclass(frozen=True)
class Paused:
    """A paused VM: its core, its own dump, and what its monitor said."""

    core: vringcore.Core
    dump: Path
    directory: Path
    registers: list[dict[str, str]]
    tree: str
    blocks: str
    physical: dict[int, bytes]
    virtual: dict[tuple[int, int], bytes]

    def cpus(self) -> list[RawCpu]:
        found, error = vcpus(self.core.process)
        assert error is None
        return found

    def regions(self) -> tuple[GuestRegion, ...]:
        return GuestMap(self.core.process).regions()


@pytest.fixture(scope="module", params=VERSIONS)
def paused(request: pytest.FixtureRequest, tmp_path_factory: Any) -> Iterator[Paused]:
    directory = tmp_path_factory.mktemp("memory")
    with live(request.param, "paused") as vm:
        monitor = vm.monitor
        dump, core = directory / "dump", directory / "core"
        monitor.execute("dump-guest-memory", 120, paging=False, protocol=f"file:{dump}")
        registers = parsed(monitor.human("info registers -a"))
        virtual = {}
        for number, names in enumerate(registers):
            for name in ("RIP", "RSP"):
                place = int(names[name], 16)
                virtual[number, place] = hexadecimal(
                    seen_by(monitor, number, f"x /{READ}xb {place:#x}")
                )
        physical = {at: hexadecimal(monitor.human(f"xp /{READ}xb {at:#x}")) for at in PHYSICAL}
        tree, blocks = monitor.human("info mtree -f"), monitor.human("info ramblock")
        vm.rawcore(core)
        program = str(vm.executable)
    with vringcore.open_core(str(core), executable=program, store=LayoutStore()) as opened:
        yield Paused(opened, dump, directory, registers, tree, blocks, physical, virtual)


def seen_by(monitor: Monitor, cpu: int, line: str) -> str:
    """Return what a command of the human monitor prints as of one vCPU."""
    arguments: dict[str, Any] = {"command-line": line, "cpu-index": cpu}
    return str(monitor.execute("human-monitor-command", **arguments))


def parsed(text: str) -> list[dict[str, str]]:
    """Return the registers of each vCPU by QEMU's names."""
    found = []
    for part in re.split(r"CPU#\d+", text)[1:]:
        values = dict(re.findall(r"\b([A-Z][A-Z0-9]+) ?= ?([0-9a-f]+)\b", part))
        for name, selector, base in re.findall(
            r"\b([A-Z]{2,3}) ?= ?([0-9a-f]{4})? +([0-9a-f]{16})", part
        ):
            values[f"{name}_BASE"] = base
            if selector:
                values[name] = selector
        found.append(values)
    return found


def hexadecimal(text: str) -> bytes:
    """Return the bytes of ``x /64xb``."""
    return bytes(int(byte, 16) for line in text.splitlines() for byte in line.split()[1:])


def test_registers_are_those_of_the_monitor(paused: Paused) -> None:
    names = {"RFL": "rflags"} | {
        name: name.lower() for name in ("RIP", "CR0", "CR2", "CR3", "CR4", "EFER")
    }
    names |= {f"R{n}": f"r{n}" for n in range(8, 16)}
    names |= {f"R{n}": f"r{n.lower()}" for n in ("AX", "BX", "CX", "DX", "SI", "DI", "BP", "SP")}
    names |= {name: name.lower() for name in ("ES", "CS", "SS", "DS", "FS", "GS", "TR", "LDT")}
    names |= {f"{n}_BASE": f"{n.lower()}_base" for n in ("FS", "GS", "TR", "LDT", "GDT", "IDT")}
    cpus = paused.cpus()
    assert len(cpus) == len(paused.registers) > 1
    for cpu, said in zip(cpus, paused.registers, strict=True):
        assert not isinstance(cpu.x86, Absent)
        assert cpu.stale is False
        mine = cpu.x86.named()
        for theirs, ours in names.items():
            if ours == "rflags":
                # The monitor computes the arithmetic flags that TCG keeps elsewhere.
                mask = ~0x8D5
                assert mine[ours] & mask == int(said[theirs], 16) & mask
            else:
                assert mine[ours] == int(said[theirs], 16), theirs
        assert cpu.halted == (said["HLT"] == "1")


def test_regions_are_those_of_the_monitor(paused: Paused) -> None:
    view = next(v for v in paused.tree.split("FlatView #") if ' AS "memory",' in v)
    said = [
        (int(start, 16), int(end, 16) + 1, kind, name, int(offset or "0", 16))
        for start, end, kind, name, offset in re.findall(
            r"^ +([0-9a-f]+)-([0-9a-f]+) \(prio -?\d+, (.+?)\): (.+?)(?: @([0-9a-f]+))?\s*$",
            view,
            re.MULTILINE,
        )
    ]
    names = {"mmio": "i/o", "rom-device": "romd", "ram-device": "ramd", "iommu": "i/o"}
    assert [
        (int(r.start), int(r.end), names.get(str(r.kind), r.kind), r.name, int(r.offset))
        for r in paused.regions()
    ] == said


def test_blocks_are_those_of_the_monitor(paused: Paused) -> None:
    limits: list[Limitation] = []
    blocks = guest_blocks(paused.core.process, limits)
    assert not isinstance(blocks, Absent)
    assert not limits
    rows = [line.split() for line in paused.blocks.splitlines()[1:]]
    assert [(b.id, b.ram_address, b.used_length, b.max_length) for b in blocks] == [
        (row[0], *(int(word, 16) for word in row[3:6])) for row in rows
    ]
    assert all(block.in_core == block.used_length for block in blocks)


def test_reading_is_what_the_monitor_reads(paused: Paused) -> None:
    process = paused.core.process
    assert any(any(data) for data in paused.physical.values())
    for address, data in paused.physical.items():
        found = read_guest(process, address, READ, cpu=None, limits=[])
        assert [piece.data for piece in found.pieces] == [data.hex()], hex(address)
    assert len(paused.virtual) >= len(paused.registers)
    for (cpu, address), data in paused.virtual.items():
        found = read_guest(process, address, READ, cpu=cpu, limits=[])
        assert [piece.data for piece in found.pieces] == [data.hex()], hex(address)


def test_what_is_not_mapped_says_so(paused: Paused) -> None:
    [physical] = read_guest(paused.core.process, 0xFEE00000, 8, cpu=None, limits=[]).pieces
    assert isinstance(physical.data, Absent)
    assert (physical.data.reason, physical.data.hint) == ("not-ram", "it is apic-msi")
    [virtual] = read_guest(paused.core.process, 1 << 48, 8, cpu=0, limits=[]).pieces
    assert isinstance(virtual.data, Absent)
    assert "canonical" in virtual.data.hint


def test_a_search_finds_what_is_in_the_dump(paused: Paused) -> None:
    pattern = b"OSRELEASE="
    with paused.dump.open("rb") as file:
        loads = [s.header for s in ELFFile(file).iter_segments() if s.header.p_type == "PT_LOAD"]
        whole = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    wanted = []
    for load in loads:
        end = load.p_offset + load.p_filesz
        at = whole.find(pattern, load.p_offset, end)
        while at >= 0:
            wanted.append(load.p_paddr + at - load.p_offset)
            at = whole.find(pattern, at + 1, end)
    process = paused.core.process
    found = search(process, GuestMap(process), pattern)
    assert [hit.address for hit in found.hits] == wanted
    assert len(wanted) > 1
    assert (found.complete, found.missing) == (True, 0)
    assert not search(process, GuestMap(process), pattern, limit=1).complete


def exported(paused: Paused, name: str, **how: Any) -> tuple[Path, MemoryExport]:
    path = paused.directory / name
    limits: list[Limitation] = []
    with path.open("wb") as out:
        export = export_guest(paused.core.process, out, str(path), limits=limits, **how)
    assert limits == []
    assert export.missing == ()
    assert path.stat().st_size == export.size
    return path, export


def test_an_export_is_the_dump_of_the_live_guest(paused: Paused) -> None:
    path, _ = exported(paused, "vmcore")
    mine, theirs = path.read_bytes(), paused.dump.read_bytes()
    assert len(mine) == len(theirs)
    assert mine[EHSIZE] == (64).to_bytes(2, "little")
    assert mine[: EHSIZE.start] == theirs[: EHSIZE.start]
    # Compared in one go: an assertion on the bytes would try to show how they differ.
    same = mine[EHSIZE.stop :] == theirs[EHSIZE.stop :]
    assert same
    assert path.stat().st_blocks * 512 < path.stat().st_size / 2


def test_an_export_with_vmcoreinfo_has_the_guests_note(paused: Paused) -> None:
    path, export = exported(paused, "vmcore-with-note", find_note=True)
    assert export.vmcoreinfo == "search"
    with path.open("rb") as file:
        [notes] = [s for s in ELFFile(file).iter_segments() if s.header.p_type == "PT_NOTE"]
        found = {note["n_name"]: note["n_desc"] for note in notes.iter_notes()}
        segments = [s.header for s in ELFFile(file).iter_segments()][1:]
        for segment in export.segments:
            assert any(
                s.p_paddr == segment.address and s.p_offset == segment.offset for s in segments
            )
    text = found["VMCOREINFO"]
    text = text if isinstance(text, str) else bytes(text).decode()
    assert text.startswith("OSRELEASE=")
    assert "\nKERNELOFFSET=" in text


def debug_kernel(path: Path) -> Path:
    """Return the guest kernel with debug information that a core of it needs, or skip."""
    found = re.search(rb"OSRELEASE=([^\n]+)", path.read_bytes()[: 1 << 16])
    assert found is not None
    name = f"vmlinux-{found[1].decode()}"
    for directory in (guest_directory(), Path("/usr/lib/debug/boot")):
        if (directory / name).exists():
            return directory / name
    pytest.skip(f"no {name}: install linux-image-{found[1].decode()}-dbg")


def test_drgn_lists_the_tasks_of_an_export(paused: Paused) -> None:
    drgn = pytest.importorskip("drgn")
    from drgn.helpers.linux.pid import for_each_task

    path, _ = exported(paused, "vmcore-for-drgn", find_note=True)
    vmlinux = debug_kernel(path)
    program = drgn.Program()
    program.set_core_dump(path)
    program.load_debug_info([vmlinux])
    tasks = {task.pid.value_(): task.comm.string_().decode() for task in for_each_task(program)}
    assert tasks[2] == "kthreadd"
    # The guest's script: shells that start readers of the disk, one after the other.
    names = list(tasks.values())
    assert names.count("sh") > 1
    assert "dd" in names
    assert len(tasks) > 50
