"""Debian's own stripped QEMU, read with the layout pack that comes along."""

from __future__ import annotations

import json
import re
import subprocess
from bisect import bisect_right
from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec import UNSET, structs

import vringcore
from tests.lab.cases import CoreCase, iter_cores
from tests.lab.partial import plain
from tests.lab.paths import lab_programs, lab_root
from tests.lab.qmp_compare import compare_core
from tests.lab.stock import debug_file, stock_cores
from tests.lab.test_qmp import FACTS_OF_A_DEVICE, FACTS_OF_A_QUEUE_AT_REST
from tests.lab.test_slim import alone, documents
from vringcore.addresses import HostAddress
from vringcore.cli.bundles import Program
from vringcore.cli.main import main
from vringcore.cli.packs import build_pack, check_pack, check_types
from vringcore.elfcore.executable import read_executable
from vringcore.errors import LayoutError, VringcoreError
from vringcore.layout.bundle import Bundle, put_type
from vringcore.layout.cache import LayoutCache
from vringcore.layout.pack import Pack, pack_from_json, pack_type
from vringcore.layout.pack_store import read_file, shipped
from vringcore.layout.store import LayoutStore
from vringcore.layout.types import Record, Symbol
from vringcore.memory.files import FileSource
from vringcore.model.findings import Verdict
from vringcore.model.requests import BlockRequest
from vringcore.options import Options
from vringcore.qemu.accessors import ACCESSORS, THREAD_ACCESSORS, Accessors
from vringcore.qemu.guestmap import GuestMap, guest_blocks
from vringcore.qemu.process import Process, open_process
from vringcore.slim.slim import slim_core

pytestmark = pytest.mark.lab

MAKE = "`python -m tests.lab make 7.2-stock all`"
NONE = [pytest.param(None, marks=pytest.mark.skip(f"no cores: {MAKE}"))]
STOCK = [pytest.param(core, id=core.name) for core in stock_cores()] or NONE
LIVE = [pytest.param(core, id=core.name) for core in stock_cores() if core.while_alive] or NONE
STUCK = [
    pytest.param(core, id=core.name)
    for core in stock_cores()
    if core.while_alive and core.case.scenario.startswith("stuck")
] or NONE
PROGRAMS = lab_programs("qemu-system-x86_64")
NO_PROGRAMS = [
    pytest.param(None, marks=pytest.mark.skip("no programs: `python -m tests.lab build 7.2`"))
]


# What QMP, the disk's server and gdb say


@pytest.mark.parametrize("core", STOCK)
def test_qemu_says_the_same_of_itself(core: CoreCase) -> None:
    facts = compare_core(core)
    assert facts.differing == []
    devices = core.case.qmp_before["virtio"]
    assert facts.count >= FACTS_OF_A_DEVICE * len(devices)
    if core.while_alive and core.case.qmp_after is not None and core.case.scenario == "stuck":
        queues = [queue for device in devices for queue in device["queues"]]
        assert facts.count >= FACTS_OF_A_DEVICE + FACTS_OF_A_QUEUE_AT_REST * len(queues)
        assert facts.chains == sum(queue["inuse"] for queue in queues) > 0


@pytest.mark.parametrize("core", STUCK)
def test_the_server_holds_exactly_what_is_in_flight(core: CoreCase) -> None:
    with core.open() as opened:
        report = opened.report(["requests"])
    assert isinstance(report.devices, tuple)
    queues = [queue for device in report.devices for queue in device.queues or ()]
    requests = [
        (each.request.operation, int(each.request.sector) * 512, each.request.length)
        for queue in queues
        for each in queue.in_flight or ()
        if isinstance(each.request, BlockRequest)
    ]
    held = [
        (each["type"], each["offset"], each["length"])
        for server in core.case.servers
        for each in server["held"]
    ]
    assert sorted(requests) == sorted(held) != []


GDB = """
import gdb, json, os
def number(text):
    return int(gdb.parse_and_eval(text))
out = {
    "run_state": str(gdb.parse_and_eval("current_run_state")),
    "bql_owner": number("qemu_global_mutex.lock.__data.__owner"),
    "bql": number("(long)&qemu_global_mutex"),
    "main_loop": number("(long)qemu_aio_context"),
    "iohandler": number("(long)iohandler_ctx"),
    "currents": {},
    "own_loops": {},
    "pools": number("(long)&throttle_groups"),
    "jobs": number("(long)&jobs"),
}
for thread in gdb.selected_inferior().threads():
    thread.switch()
    out["currents"][str(thread.ptid[1])] = number("(long)co_tls_current")
    out["own_loops"][str(thread.ptid[1])] = number("(long)co_tls_my_aiocontext")
open(os.environ["OUT"], "w").write(json.dumps(out))
"""


@pytest.mark.parametrize("core", LIVE)
def test_gdb_with_the_rebuilt_program_sees_the_same_static_variables(
    core: CoreCase, tmp_path: Path
) -> None:
    rebuilt = debug_file(core.case.executable)
    if rebuilt is None:
        pytest.skip("needs the program rebuilt with debug information (docs/packs.md)")
    script, out = tmp_path / "truth.py", tmp_path / "truth.json"
    script.write_text(GDB)
    command = ["gdb", "-batch", "-nx", "-x", str(script), str(rebuilt), str(core.path)]
    subprocess.run(command, env={"OUT": str(out)}, check=True, capture_output=True)
    truth = json.loads(out.read_text())
    with core.open() as opened:
        report = opened.report()
        views = opened.process.views
        assert views.find_address_of("jobs", "job.c") == truth["jobs"]
        place = views.find_address_of("throttle_groups", "block/throttle-groups.c")
        assert place == truth["pools"]
    state = truth["run_state"].removeprefix("RUN_STATE_").lower().replace("_", "-")
    assert report.qemu.run_state == state
    bql = next(lock for lock in report.locks if lock.name == "BQL")  # type: ignore[union-attr]
    assert (int(bql.address), bql.owner or 0) == (truth["bql"], truth["bql_owner"])
    loops = {loop.name: int(loop.address) for loop in report.event_loops}  # type: ignore[union-attr]
    assert loops["main"] == truth["main_loop"]
    assert loops["iohandler"] == truth["iohandler"]
    running = {
        (str(each.lwp), int(each.address))
        for each in report.coroutines  # type: ignore[union-attr]
        if each.state == "running"
    }
    assert running <= set(truth["currents"].items())


# Static variables by the functions that read them


class Exported:
    """Global symbols alone, as readelf prints them: what a stripped program would keep."""

    def __init__(self, program: Path) -> None:
        command = ["readelf", "-W", "--syms", str(program)]
        listed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        rows = [line.split() for line in listed.splitlines()]
        symbols = [
            (int(row[1], 16), int(row[2], 0), row[7].split("@")[0], row[4])
            for row in rows
            if len(row) > 7 and row[3] in ("FUNC", "OBJECT", "TLS") and row[6] != "UND"
        ]
        self.local: dict[str, set[int]] = {}
        for address, _, name, binding in symbols:
            if binding == "LOCAL":
                self.local.setdefault(name.partition(".")[0], set()).add(address)
        self.rows = sorted(row[:3] for row in symbols if row[3] == "GLOBAL")
        self.by_name = {name: Symbol(name, address, size) for address, size, name in self.rows}

    def find(self, name: str) -> Symbol | None:
        return self.by_name.get(name)

    def covering(self, address: int) -> Symbol | None:
        end = bisect_right(self.rows, (address, 1 << 62, ""))
        for start, size, name in self.rows[max(0, end - 8) : end]:
            if start <= address < start + size:
                return self.by_name[name]
        return None


@pytest.mark.parametrize(
    "program", [pytest.param(path, id=path.parent.name) for path in PROGRAMS] or NO_PROGRAMS
)
def test_functions_tell_where_their_static_variables_lie(program: Path) -> None:
    case, program = program.parent.name, debug_file(program) or program
    exported = Exported(program)
    if not exported.local:
        pytest.skip("stripped: nothing to hold it against")
    if exported.find("object_get_root") is None:
        pytest.skip("-flto has made its functions local: nothing leads to its variables")
    with FileSource.open(str(program), what="executable") as source:
        executable = read_executable(source)
        if executable.header.machine != 62:
            pytest.skip("accessors are read on x86-64")
        places = Accessors(executable, exported.find, exported.covering)
        compared = 0
        for key in ACCESSORS:
            truth = exported.local.get(key.rpartition("::")[2])
            if truth and any(exported.find(name) for name in ACCESSORS[key]):
                assert places.place(key) in truth, key
                compared += 1
        for key in THREAD_ACCESSORS:
            if key in exported.local:
                place = places.thread_place(key)
                # clang compiles their getters otherwise: not found, but never mistaken.
                inlined = place is None and case.endswith("-clang")
                assert inlined or place in exported.local[key], key
                compared += 1
    assert compared >= len(ACCESSORS) + len(THREAD_ACCESSORS) - 7


# The pack that comes along


def pack_and_path() -> tuple[Pack, str]:
    path = next(path for path in shipped() if "debian-12-qemu-system-x86-7.2" in path)
    return pack_from_json(read_file(path)), path


@pytest.mark.parametrize("core", STOCK)
def test_the_pack_is_found_by_build_id_and_named_in_the_report(
    core: CoreCase, tmp_path: Path
) -> None:
    pack, _ = pack_and_path()
    for _ in range(2):  # the second time from the cache
        store = LayoutStore(LayoutCache(str(tmp_path)))
        process = open_process(str(core.path), core.options, store)
        assert process.files.build_id in pack.serves
        assert [limit.what for limit in process.limits] == ["no debug information is at hand"]
        assert pack.name in process.limits[0].why
        assert "same machine code" in process.limits[0].why
        assert process.core_info.near_match is UNSET
        process.close()


@pytest.mark.parametrize("core", LIVE)
def test_a_pack_is_true_of_the_binary_that_it_serves(core: CoreCase) -> None:
    pack, _ = pack_and_path()
    program = str(core.case.executable)
    build_id, proof, differences = check_pack(pack, program)
    assert (proof, differences) == (pack.serves[build_id], [])
    assert proof is not None
    assert proof.by == "text"
    rebuilt = debug_file(core.case.executable)
    if rebuilt is not None:
        with Program(str(rebuilt)) as described:
            again = build_pack(described, pack.name, [program], "")
            assert list(again.serves) == [build_id]
            assert check_types(pack, described) == []


@pytest.mark.parametrize("core", STOCK)
def test_slim_cores_answer_the_same_and_say_so(core: CoreCase, tmp_path: Path) -> None:
    small = tmp_path / "small"
    slim_core(str(core.path), str(small), options=core.options, store=LayoutStore())
    with core.open() as whole:
        expected = dict(documents(whole))
    with alone(small, tmp_path) as opened:
        for name, document in documents(opened):
            assert document == expected.pop(name), name
        limits = opened.process.limits
    assert expected == {}
    assert any("layout pack" in limit.why for limit in limits)


@pytest.mark.parametrize("core", LIVE)
def test_what_is_asked_for_with_more_words_is_in_slim_cores_too(
    core: CoreCase, tmp_path: Path
) -> None:
    small = tmp_path / "small"
    slim_core(str(core.path), str(small), options=core.options, store=LayoutStore())
    with core.open() as whole, alone(small, tmp_path) as opened:
        locals_ = [plain(each.report(("threads", "locals")))["threads"] for each in (whole, opened)]
        maps = [plain_map(each.process) for each in (whole, opened)]
        why = [without_offsets(plain(each.why())) for each in (whole, opened)]
    shown = [frame["locals"] for thread in locals_[0] for frame in thread["frames"]]
    assert locals_[1] == locals_[0]
    assert any(shown)  # of the C library, whose debug information is at hand
    assert maps[1] == maps[0]
    assert len(maps[0]) > 20
    assert why[1] == why[0]


def plain_map(process: Process) -> list[tuple[object, ...]]:
    """Return the guest's memory map, without how much of each range a core holds, and where."""
    regions = GuestMap(process).regions()
    blocks = guest_blocks(process, [])
    assert isinstance(blocks, tuple)
    rows = [(each.start, each.end, each.kind, each.name, each.block) for each in regions]
    return rows + [(each.id, each.host, each.used_length, each.max_length) for each in blocks]


def without_offsets(document: Any) -> Any:
    """Return a document without what is of the file: its name, its size, the places in it."""
    own = {"file_offset", "core", "limits"}
    if isinstance(document, dict):
        return {k: without_offsets(each) for k, each in document.items() if k not in own}
    return [without_offsets(x) for x in document] if isinstance(document, list) else document


@pytest.mark.parametrize("core", LIVE)
def test_a_core_proves_what_machine_code_does_not(core: CoreCase, tmp_path: Path) -> None:
    rebuilt = debug_file(core.case.executable)
    if rebuilt is None:
        pytest.skip("needs the program rebuilt with debug information (docs/packs.md)")
    path = str(tmp_path / "pack.json.zst")
    assert main(["layout", "pack", str(rebuilt), "--core", str(core.path), "-o", path]) == 0
    made = pack_from_json(read_file(path))
    (proof,) = made.serves.values()
    assert (proof.by, proof.checks > 500) == ("self-checks", True)
    options = Options(executable=str(core.case.executable), layout=path)
    process = open_process(str(core.path), options, LayoutStore())
    assert process.near_checks == 0
    assert f"{proof.checks} checks a core of this build has passed" in process.limits[0].why
    process.close()


# The types of another build


def another(core: CoreCase, pack: Pack, tmp_path: Path, *, near: bool = True) -> Process:
    """Open a core with types that are not said to be its own."""
    path = tmp_path / "another.json"
    pack.serves = {}
    path.write_bytes(msgspec.json.encode(pack))
    options = Options(executable=str(core.case.executable), layout=str(path), near=near)
    return open_process(str(core.path), options, LayoutStore())


@pytest.mark.parametrize("core", STOCK)
def test_types_that_fit_are_used_only_when_asked_for(core: CoreCase, tmp_path: Path) -> None:
    pack, _ = pack_and_path()
    with pytest.raises(LayoutError, match="not known to serve this build"):
        another(core, pack, tmp_path, near=False)
    process = another(core, pack, tmp_path)
    assert process.near_checks > 500
    assert [limit.what for limit in process.limits] == ["the types are of another build"]
    assert f"{process.near_checks:,} checks of the core passed" in process.limits[0].why
    assert pack.name in str(process.core_info.near_match)
    process.close()


@pytest.mark.parametrize("core", LIVE)
@pytest.mark.parametrize(
    "key",
    [
        *("struct Object", "struct DeviceState", "struct BusState", "struct TypeImpl"),
        *("struct VirtIODevice", "struct VirtQueue", "struct VRingMemoryRegionCaches"),
        *("struct VirtIOBlock", "struct VMChangeStateEntry", "struct RAMBlock", "struct CPUState"),
        *("struct BlockBackend", "struct BlockDriverState", "struct BdrvChild"),
    ],
)
def test_a_shifted_structure_is_noticed(core: CoreCase, key: str, tmp_path: Path) -> None:
    pack, _ = pack_and_path()
    typed = pack_type(pack, key)
    assert typed is not None
    record = typed.definition
    assert isinstance(record, Record)
    first, *others = record.members
    members = (first, *(structs.replace(each, offset=each.offset + 8) for each in others))
    shifted = structs.replace(record, members=members, size=record.size + 8)
    if key == "struct Object":
        members = tuple(structs.replace(each, offset=each.offset + 8) for each in record.members)
        shifted = structs.replace(record, members=members, size=record.size + 8)
    bundle = Bundle()
    put_type(bundle, key, structs.replace(typed, definition=shifted))
    pack.types |= bundle.types
    with pytest.raises(VringcoreError, match=r"do not fit this core|too little of the core"):
        another(core, pack, tmp_path)


CHECKS = {
    "VirtQueue 1 of virtio-blk: vdev": "&((struct VirtQueue *){queue})->vdev",
    "VirtQueue 1 of virtio-blk: queue_index": "&((struct VirtQueue *){queue})->queue_index",
    "Caches desc of virtio-blk 1": "&((struct VirtQueue *){queue})->vring.caches->desc.ptr",
    "Caches avail of virtio-blk 1": "&((struct VirtQueue *){queue})->vring.caches->avail.ptr",
    "Caches used of virtio-blk 1": "&((struct VirtQueue *){queue})->vring.caches->used.ptr",
    "link struct CPUState.node back": "&cpus.tqh_first->node.tqe_circ.tql_prev",
    "struct CPUState.cpu_index": "&cpus.tqh_first->cpu_index",
    "link struct RAMBlock.next back": "&ram_list.blocks.lh_first->next.le_prev",
}
"""By words of the refusal, what in a core is changed for it."""


@pytest.mark.parametrize(
    "core", [core for core in STUCK if str(core.id).endswith("/stuck/gcore")] or NONE
)
def test_each_check_refuses_a_core_that_contradicts_itself(core: CoreCase, tmp_path: Path) -> None:
    changed = tmp_path / "core"
    subprocess.run(["cp", "--sparse=always", core.path, changed], check=True)
    places = {}
    with core.open() as opened:
        queues: Any = opened.virtio_devices()[0].queues
        for words, expression in CHECKS.items():
            address = HostAddress(int(opened.eval(expression.format(queue=queues[1].address))))
            offset = opened.process.core.memory.file_offset_of(address)
            assert offset is not None, words
            places[words] = offset
    pack, _ = pack_and_path()
    again = CoreCase(core.case, core.kind, changed)
    another(again, pack, tmp_path).close()
    with changed.open("r+b") as file:
        for words, offset in places.items():
            file.seek(offset)
            before = file.read(1)
            file.seek(offset)
            file.write(bytes([before[0] ^ 0x08]))
            file.flush()
            with pytest.raises(LayoutError, match=re.escape(words)):
                another(again, pack, tmp_path)
            file.seek(offset)
            file.write(before)
            file.flush()
    another(again, pack, tmp_path).close()


FORKS = [
    pytest.param(core, id=core.name)
    for core in iter_cores()
    if core.case.version in ("7.2-fork", "10.0")
    and core.case.scenario.startswith(("fork", "stuck"))
][:4] or [pytest.param(None, marks=pytest.mark.skip("no cores: `python -m tests.lab all`"))]


MIGRATION = [
    pytest.param(core, id=core.name)
    for core in (*stock_cores(), *iter_cores())
    if core.case.scenario == "stuck-migration" and core.kind == "gcore"
] or NONE


@pytest.mark.parametrize("core", MIGRATION)
def test_one_incident_has_one_verdict_in_every_build(core: CoreCase) -> None:
    """Stripped, without debug information, or of another release: the cause and its signature."""
    with vringcore.open_core(core.path, executable=core.case.executable) as opened:
        found = opened.why()
        threads = opened.report(("threads",)).threads
    assert isinstance(found.verdict, Verdict)
    assert found.verdict.code == "migration-waits-for-drain"
    assert "vm_stop" in found.verdict.summary
    assert "the monitor does not answer" in found.verdict.summary
    assert found.signature == (
        "migration-waits-for-drain+main-loop-waits-for-bql+request-not-answered-by-nbd-server"
        " | virtio-blk | migration: drain to stop the VM (vm_stop)"
    )
    assert isinstance(threads, tuple)
    assert [thread.role for thread in threads].count("migration") == 1


@pytest.mark.parametrize("core", FORKS)
def test_a_fork_and_another_release_are_refused(core: CoreCase, tmp_path: Path) -> None:
    pack, _ = pack_and_path()
    with pytest.raises(LayoutError, match="do not fit this core"):
        another(core, pack, tmp_path)


def test_a_pack_of_the_release_is_refused_for_its_fork(tmp_path: Path) -> None:
    upstream = lab_root() / "qemu" / "7.2" / "qemu-system-x86_64"
    forks = [core for core in iter_cores() if core.case.version == "7.2-fork"]
    if not forks or not upstream.exists():
        pytest.skip("no fork: `python -m tests.lab make 7.2-fork all`")
    with Program(str(upstream)) as program:
        pack = build_pack(program, "7.2", ())
    for core in forks:
        with pytest.raises(LayoutError, match=r"do not fit this core at .*struct Virt"):
            another(core, pack, tmp_path)
    own = next(core for core in iter_cores() if core.case.version == "7.2" and core.while_alive)
    process = another(own, pack, tmp_path)
    assert process.near_checks > 500
    process.close()


def test_other_machine_code_is_not_served() -> None:
    if len(PROGRAMS) < 2:
        pytest.skip("needs two programs")
    pack, _ = pack_and_path()
    for program in PROGRAMS:
        if debug_file(program) is None:
            _, proof, differences = check_pack(pack, str(program))
            assert proof is None
            assert any(".text" in difference for difference in differences)
