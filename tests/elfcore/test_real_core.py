"""A real process, dumped by gdb and by the kernel, beside readelf, gdb and the process itself."""

from __future__ import annotations

import json
import os
import re
import resource
import shutil
import signal
import subprocess
import textwrap
from dataclasses import dataclass
from pathlib import Path

import pytest

from vringcore.addresses import HostAddress
from vringcore.elfcore.core import ElfCore, open_elf_core
from vringcore.elfcore.executable import Executable, read_executable
from vringcore.elfcore.headers import PT_LOAD, read_program_headers
from vringcore.errors import MemoryFault
from vringcore.memory.files import FileSource
from vringcore.memory.gaps import GapKind

pytestmark = pytest.mark.skipif(
    not (shutil.which("gdb") and shutil.which("gcc")), reason="needs gcc and gdb"
)

PROGRAM = r"""
#include <pthread.h>
#include <stdio.h>
#include <unistd.h>

const char literal[] = "a literal in .rodata";
char written[64] = "data";
static pthread_barrier_t ready;

static void *sleeper(void *number)
{
    snprintf(written + 16 * (long)number, 16, "thread %ld", (long)number);
    pthread_barrier_wait(&ready);
    for (;;) pause();
}

int main(void)
{
    pthread_t threads[3];
    pthread_barrier_init(&ready, 0, 4);
    for (long i = 1; i <= 3; i++)
        pthread_create(&threads[i - 1], 0, sleeper, (void *)i);
    pthread_barrier_wait(&ready);
    usleep(200000);
    printf("{\"main\": %lu, \"literal\": %lu, \"written\": %lu, ", (unsigned long)main,
           (unsigned long)literal, (unsigned long)written);
    printf("\"threads\": [%lu, %lu, %lu, %lu]}\n", (unsigned long)pthread_self(),
           (unsigned long)threads[0], (unsigned long)threads[1], (unsigned long)threads[2]);
    fflush(stdout);
    for (;;) pause();
}
"""

ASK_GDB = """
import gdb, json
result = []
for thread in gdb.selected_inferior().threads():
    thread.switch()
    frame = gdb.newest_frame()
    names = "rip rsp rbp rax orig_rax rbx r15 fs_base cs eflags".split()
    values = {name: int(frame.read_register(name)) & (1 << 64) - 1 for name in names}
    result.append({"lwp": thread.ptid[1], "registers": values})
auxv = gdb.execute("info auxv", to_string=True)
print("ANSWER " + json.dumps({"threads": result, "auxv": auxv}))
"""


@dataclass
class Dumped:
    """A core, and what the process said of itself before."""

    path: Path
    kind: str
    program: Path
    pid: int
    told: dict[str, int]
    threads: list[int]
    maps: str


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("real")
    (folder / "program.c").write_text(PROGRAM)
    path = folder / "program"
    subprocess.run(
        [
            "gcc",
            "-g",
            "-fPIE",
            "-pie",
            "-Wl,--build-id",
            "-pthread",
            "-o",
            path,
            path.with_suffix(".c"),
        ],
        check=True,
    )
    return path


def kernel_names_cores_plainly() -> bool:
    pattern = Path("/proc/sys/kernel/core_pattern").read_text().strip()
    uses_pid = Path("/proc/sys/kernel/core_uses_pid").read_text().strip()
    return pattern == "core" and uses_pid in "01"


@pytest.fixture(scope="module", params=["gcore", "kernel"])
def dumped(
    request: pytest.FixtureRequest, program: Path, tmp_path_factory: pytest.TempPathFactory
) -> Dumped:
    if request.param == "kernel" and not kernel_names_cores_plainly():
        pytest.skip("the kernel hands its cores to a program here")
    folder = tmp_path_factory.mktemp(request.param)
    process = subprocess.Popen(
        [str(program)],
        cwd=folder,
        stdout=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: resource.setrlimit(
            resource.RLIMIT_CORE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
        ),
    )
    try:
        assert process.stdout is not None
        told = json.loads(process.stdout.readline())
        maps = Path(f"/proc/{process.pid}/maps").read_text()
        if request.param == "gcore":
            subprocess.run(
                ["gcore", "-o", folder / "core", str(process.pid)], check=True, capture_output=True
            )
    finally:
        process.send_signal(signal.SIGABRT)
        process.wait()
        process.stdout.close()
    cores = sorted(folder.glob("core*"), key=lambda path: len(path.name))
    if request.param == "kernel" and not cores:
        pytest.skip("the kernel wrote no core here")
    path = folder / f"core.{process.pid}" if request.param == "gcore" else cores[0]
    threads = told.pop("threads")
    return Dumped(path, request.param, program, process.pid, told, threads, maps)


@pytest.fixture
def core(dumped: Dumped) -> ElfCore:
    return open_elf_core(str(dumped.path))


@pytest.fixture
def executable(dumped: Dumped) -> Executable:
    return read_executable(FileSource.open(str(dumped.program), what="executable"))


def run(*command: str | Path) -> str:
    environment = {**os.environ, "LC_ALL": "C"}
    return subprocess.run(
        command, capture_output=True, text=True, check=True, env=environment
    ).stdout


def test_the_program_headers_are_readelfs(dumped: Dumped, core: ElfCore) -> None:
    rows = [
        [int(number, 16) for number in match.groups()[:4]] + [match[5].replace(" ", "")]
        for match in re.finditer(
            r"^ +LOAD +(0x\w+) (0x\w+) 0x\w+ (0x\w+) (0x\w+) ([RWE ]{3})",
            run("readelf", "-lW", dumped.path),
            re.MULTILINE,
        )
    ]
    letters = (("R", 4), ("W", 2), ("E", 1))
    ours = [
        [p.offset, p.vaddr, p.filesz, p.memsz, "".join(c for c, bit in letters if p.flags & bit)]
        for p in read_program_headers(core.source, core.header)
        if p.type == PT_LOAD
    ]
    assert len(rows) > 10
    assert ours == rows
    ranges = [[r.address, r.readable, r.size] for r in core.memory.ranges()]
    assert ranges == [[row[1], row[2], row[3]] for row in sorted(rows, key=lambda row: row[1])]


def test_who_wrote_it_and_that_it_is_whole(dumped: Dumped, core: ElfCore) -> None:
    assert (core.kind, core.machine, core.truncated) == (dumped.kind, "x86-64", False)
    assert core.problems == []
    assert core.prpsinfo is not None
    assert core.prpsinfo.pid == dumped.pid
    assert core.prpsinfo.ppid == os.getpid()
    assert core.prpsinfo.psargs.startswith(str(dumped.program)[:60])
    assert len(core.siginfo) == 128


def test_threads_registers_and_auxiliary_vector_are_gdbs(dumped: Dumped, core: ElfCore) -> None:
    script = dumped.path.with_name("ask.py")
    script.write_text(textwrap.dedent(ASK_GDB))
    output = run("gdb", "-batch", "-nx", "-x", script, dumped.program, dumped.path)
    (line,) = [line for line in output.splitlines() if line.startswith("ANSWER ")]
    answer = json.loads(line.removeprefix("ANSWER "))
    theirs = {thread["lwp"]: thread["registers"] for thread in answer["threads"]}
    assert len(theirs) == 4
    for thread in core.threads:
        ours = {name: thread.registers[name] for name in theirs[thread.lwp]}
        assert ours == theirs[thread.lwp]
    assert {thread.lwp for thread in core.threads} == set(theirs)
    assert sorted(thread.fs_base or 0 for thread in core.threads) == sorted(dumped.threads)
    auxv = {
        int(match[1]): int(match[2], 0)
        for match in re.finditer(
            r'^(\d+) .*?(0x[0-9a-f]+|\d+)(?: ".*")?$', answer["auxv"], re.MULTILINE
        )
    }
    auxv.pop(0)
    assert core.auxv == auxv
    assert core.string_at(core.auxv[31]) == str(dumped.program)


def test_extended_state_is_kept_raw(dumped: Dumped, core: ElfCore) -> None:
    told = re.findall(r"^  (\w+) +(0x\w+)\t", run("readelf", "-nW", dumped.path), re.MULTILINE)
    sizes = [(owner, int(size, 16)) for owner, size in told if int(size, 16) != 0x150]
    kept = [(n.owner.decode(), len(n.desc)) for t in core.threads for n in t.notes]
    kept += [(n.owner.decode(), len(n.desc)) for n in core.raw_notes]
    for note in kept:
        assert note in sizes
    assert all({2, 0x202} <= {note.type for note in thread.notes} for thread in core.threads)


def test_modules_are_the_maps_of_the_process(dumped: Dumped, core: ElfCore) -> None:
    mapped: dict[str, list[tuple[int, int, int]]] = {}
    for line in dumped.maps.splitlines():
        extent, _, offset, _, inode, *path = line.split(None, 5)
        if int(inode):
            start, end = (int(number, 16) for number in extent.split("-"))
            mapped.setdefault(path[0], []).append((start, end, int(offset, 16)))
    ours = {m.path: [(p.start, p.end, p.file_offset) for p in m.mappings] for m in core.modules}
    assert ours == mapped
    assert core.executable is not None
    assert core.executable.path == str(dumped.program)


def build_id_by_readelf(path: str) -> str:
    match = re.search(r"Build ID: (\w+)", run("readelf", "-n", path))
    return match[1] if match else ""


def test_build_ids_and_biases_come_from_the_core_alone(dumped: Dumped, core: ElfCore) -> None:
    for module in core.modules:
        assert module.build_id == build_id_by_readelf(module.path)
        assert module.load_bias == module.start
    symbols = {
        fields[7]: int(fields[1], 16)
        for fields in map(str.split, run("readelf", "-sW", dumped.program).splitlines())
        if len(fields) == 8 and fields[7] in dumped.told
    }
    assert core.executable is not None
    bias = core.executable.load_bias
    assert bias is not None
    assert {name: link + bias for name, link in symbols.items()} == dumped.told


def test_three_ways_to_the_bias_agree(core: ElfCore, executable: Executable) -> None:
    assert core.executable is not None
    bias = core.executable.load_bias
    assert core.executable_bias(executable.header.entry) == bias
    assert executable.phdr_vaddr is not None
    assert core.auxv[3] - executable.phdr_vaddr == bias
    assert core.executable.bias_by(executable.program_headers) == bias
    found = core.image_of(executable.build_id)
    assert found is not None
    assert found.load_bias == bias


def test_literals_come_from_the_file_and_data_from_the_core(
    dumped: Dumped, core: ElfCore, executable: Executable
) -> None:
    literal, written = HostAddress(dumped.told["literal"]), HostAddress(dumped.told["written"])
    with pytest.raises(MemoryFault) as caught:
        core.with_files({}).read(literal, 10)
    gap = caught.value.gap
    assert (gap.kind, gap.file) == (GapKind.FILE_NEEDED, str(dumped.program))
    assert gap.build_id == executable.build_id == build_id_by_readelf(str(dumped.program))
    space = core.with_files({str(dumped.program): executable.source})
    assert space.read(literal, 20) == b"a literal in .rodata"
    assert executable.source.read(gap.file_offset, 10) == b"a literal "
    assert space.read(written, 20) == b"data".ljust(16, b"\0") + b"thre"
    assert space.read(HostAddress(written + 48), 9) == b"thread 3\0"
    offset = core.memory.file_offset_of(written)
    assert offset is not None
    assert dumped.path.read_bytes()[offset : offset + 4] == b"data"


def test_memory_is_what_gdb_dumps(dumped: Dumped, core: ElfCore, executable: Executable) -> None:
    space = core.with_files({str(dumped.program): executable.source})
    module = core.executable
    assert module is not None
    for start, end in [(m.start, m.end) for m in module.mappings]:
        out = dumped.path.with_name(f"memory.{start:x}")
        run(
            "gdb", "-batch", "-nx", "-ex", f"dump binary memory {out} {start:#x} {end:#x}",
            dumped.program, dumped.path,
        )  # fmt: skip
        theirs = out.read_bytes()
        for piece in space.pieces(HostAddress(start), end - start):
            # The file ends before its last page does; gdb shows zeros there.
            inside = piece.address - start
            if piece.data is not None:
                assert theirs[inside : inside + piece.size] == piece.data
            else:
                assert not any(theirs[inside : inside + piece.size])
