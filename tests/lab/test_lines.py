"""Functions, files and lines of the lab's QEMUs against addr2line, gdb and LLVM, and their time."""

from __future__ import annotations

import random
import re
import shutil
import subprocess
import time
from collections import Counter
from pathlib import Path

import pytest

from tests.debuginfo.line_oracles import ADDR2LINE, Comparison, code_addresses, our_frames
from tests.debuginfo.oracles import GDB
from tests.lab.arm64 import debugger
from tests.lab.cases import CoreCase, iter_cores
from tests.lab.paths import lab_programs, lab_root
from vringcore.debuginfo.elf import ElfFile
from vringcore.debuginfo.find import find_files
from vringcore.debuginfo.provider import DebugInfo
from vringcore.debuginfo.symbols import SymbolTable
from vringcore.layout.cache import LayoutCache
from vringcore.layout.store import LayoutStore
from vringcore.layout.types import SourceFrame
from vringcore.options import Options
from vringcore.qemu.process import open_process

pytestmark = pytest.mark.lab

BINARIES: list[Path | None] = [
    path
    for path in lab_programs()
    if not path.parent.name.endswith("-arm64")  # this machine's addr2line knows it less well
]

ASKED = 3000

IN_BACKTRACES = """
    main_loop_wait qemu_main_loop aio_poll aio_dispatch fdmon_poll_wait virtio_queue_notify_vq
    virtio_blk_handle_output virtio_net_flush_tx kvm_cpu_exec kvm_vcpu_thread_fn qemu_thread_start
    qemu_cond_wait_impl worker_thread coroutine_trampoline bdrv_co_preadv_part bdrv_driver_preadv
    blk_co_do_preadv blk_aio_read_entry raw_co_prw qcow2_co_preadv_part memory_region_dispatch_write
    flatview_write address_space_write iothread_run call_rcu_thread virtio_pci_config_write
    bdrv_aligned_preadv migration_thread qemu_sem_wait monitor_qmp_dispatcher_co qmp_dispatch
    virtio_scsi_handle_cmd_vq scsi_req_enqueue vnc_worker_thread aio_ctx_dispatch
    timerlist_run_timers thread_pool_submit_co object_property_set qdev_realize nvme_process_sq
    pci_default_write_config tcg_exec_loop rcu_init qemu_laio_process_completions visit_type_str
    error_setg_internal cpu_physical_memory_write main qemu_init
"""

PATIENCE = 0.4
"""Seconds of processor time for the lines of all that, from nothing opened."""


@pytest.fixture(params=BINARIES or [None], ids=lambda p: p.parent.name if p else "none")
def qemu(request: pytest.FixtureRequest) -> Path:
    """Return one QEMU with debug information."""
    if request.param is None:
        pytest.skip(f"no QEMU under {lab_root()}: run `python -m tests.lab`")
    program: Path = request.param
    return program


@pytest.mark.skipif(ADDR2LINE is None, reason="needs addr2line")
def test_random_addresses_are_where_others_have_them(qemu: Path, tmp_path: Path) -> None:
    code = code_addresses(qemu)
    addresses = sorted(random.Random(qemu.parent.name).sample(code, ASKED))
    compared = Comparison(qemu, addresses, tmp_path)
    print(f"{qemu.parent.name}: {compared}")
    assert compared.named > 0.9 * ASKED
    assert compared.levels > 1.2 * ASKED
    assert compared.unconfirmed == []
    # Of several rows of one address gdb takes another one than binutils and LLVM: we take gdb's.
    assert compared.equal.get("gdb", ASKED) > 0.99 * ASKED
    assert compared.equal["addr2line"] > 0.9 * ASKED


def test_the_lines_of_all_backtraces_of_a_core_take_a_fraction_of_a_second(qemu: Path) -> None:
    choice = random.Random(1)
    addresses: list[int] = []
    with ElfFile.open(str(qemu)) as elf:
        table = SymbolTable.of(elf)
        assert table is not None
        for name in IN_BACKTRACES.split():
            symbol = table.find(name)
            if symbol is not None and symbol.size:
                addresses += (symbol.address + choice.randrange(symbol.size) for _ in range(3))
    assert len(addresses) > 100
    times = []
    for _ in range(3):
        debug = DebugInfo(find_files("", str(qemu), executable=str(qemu)))
        start = time.process_time()
        found = [debug.source_of(address) for address in addresses]
        times.append(time.process_time() - start)
        debug.close()
        assert all(found)
    print(f"{qemu.parent.name}: {len(addresses)} addresses in {min(times) * 1000:.0f} ms")
    assert min(times) < PATIENCE


REPACKED = {
    "no-aranges": ("objcopy", "--remove-section=.debug_aranges", "{from}", "{to}"),
    "zlib": ("objcopy", "--compress-debug-sections=zlib", "{from}", "{to}"),
    "dwz": ("dwz", "-L", "none", "{from}", "-o", "{to}"),
}


@pytest.mark.parametrize("way", REPACKED)
def test_answers_do_not_depend_on_how_the_file_is_packed(way: str, tmp_path: Path) -> None:
    program = BINARIES[0] if BINARIES else None
    if program is None:
        pytest.skip(f"no QEMU under {lab_root()}: run `python -m tests.lab`")
    if shutil.which(REPACKED[way][0]) is None:
        pytest.skip(f"needs {REPACKED[way][0]}")
    packed = tmp_path / "packed"
    places = {"from": str(program), "to": str(packed)}
    subprocess.run([word.format(**places) for word in REPACKED[way]], check=True)
    addresses = sorted(random.Random(way).sample(code_addresses(program), ASKED))
    assert our_frames(packed, addresses) == our_frames(program, addresses)


CORES = [c for c in iter_cores() if c.case.scenario == "stuck" and c.kind == "gcore"]


@pytest.mark.parametrize("core", CORES, ids=lambda c: c.name)
def test_code_of_a_core_has_its_lines_also_without_the_program(
    core: CoreCase, tmp_path: Path
) -> None:
    def ask(options: Options) -> dict[int, tuple[SourceFrame, ...]]:
        store = LayoutStore(LayoutCache(str(tmp_path)))
        process = open_process(str(core.path), options, store)
        try:
            loop = process.views.layouts.find_symbol("main_loop_wait")
            assert loop is not None
            start = loop.address + process.files.bias
            return {
                address: process.symbols.source_of(address)
                for address in range(start, start + loop.size, 5)
            }
        finally:
            process.close()

    cold = ask(Options(executable=str(core.case.executable)))
    assert {f[-1].function for f in cold.values()} == {"main_loop_wait"}
    assert {f[-1].file for f in cold.values()} == {"../util/main-loop.c"}
    assert any(len(frames) > 1 for frames in cold.values())
    assert ask(Options(sysroot=str(tmp_path))) == cold


@pytest.mark.skipif(GDB is None, reason="needs gdb")
@pytest.mark.parametrize("core", CORES, ids=lambda c: c.name)
def test_the_innermost_frame_of_every_thread_is_as_gdb_shows_it(core: CoreCase) -> None:
    """Most threads wait in a library, whose debug information need not be installed."""
    executable = str(core.case.executable)
    done = subprocess.run(
        [*debugger(core.case.executable), "-batch", "-nx", executable, str(core.path),
         "-ex", "thread apply all -q frame 0"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    shown = re.findall(r"^#0 .*?(\w+) \(.*\)(?: at (\S+):(\d+)| from \S+)?$", done.stdout, re.M)
    process = open_process(str(core.path), core.options, LayoutStore())
    try:
        ours = []
        for thread in process.core.threads:
            pc = thread.registers["pc" if core.case.for_arm64 else "rip"]
            frame = process.symbols.source_of(pc)[0]
            ours.append((frame.function, frame.file, str(frame.line or "")))
        assert process.symbols.source_of(0x10) == ()
    finally:
        process.close()
    # gdb shows the frame of the chosen thread once more when it opens the core.
    assert Counter(ours) <= Counter(shown)
    assert len(ours) == len(shown) - 1
