"""Real cores, cut anywhere, with holes anywhere, with any byte changed: no wrong number, no crash.

What is left of an answer must be what the whole core says; what is lost must be Absent, or said
among the limits; and it must end soon.
"""

from __future__ import annotations

import json
import random
import struct
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from tests.cli.command import ROOT, vringcore
from tests.lab.cases import CoreCase
from tests.lab.partial import absences, plain, wrong
from tests.lab.reading import Reader, find_core, pages
from tests.lab.scratch import ScratchCore
from vringcore.errors import VringcoreError

pytestmark = pytest.mark.lab

STUCK, NINE = "7.2/stuck/gcore", "10.0/nine-devices/gcore"
CORES = [core for core in map(find_core, (STUCK, NINE)) if core is not None]
NO_CORE = [
    pytest.param(None, marks=pytest.mark.skip("no cores: run `python -m tests.lab make 7.2 stuck`"))
]

SECONDS = 5.0
"""What one report may take, whatever the damage; an undamaged one takes 0.05 s."""


class Damaged:
    """A core, its whole report, and a copy to damage."""

    def __init__(self, core: CoreCase, directory: Path) -> None:
        self.case = core
        self.reader = Reader(core.case.executable)
        self.whole = self.reader.report(core.path)
        self.touched = self.reader.touched(core.path)
        self.scratch = ScratchCore(core.path, directory)

    def report(self, path: str | Path) -> Any:
        """Return a report as JSON says it, None where the core cannot be read at all."""
        start = time.perf_counter()
        try:
            return self.reader.report(path)
        except VringcoreError:
            return None
        finally:
            assert time.perf_counter() - start < SECONDS

    def without(self, *holes: tuple[int, int]) -> Any:
        """Return the report of the core without the memory at some addresses."""
        with self.scratch.without(holes) as path:
            return self.report(path)

    def written(self, *changes: tuple[int, bytes]) -> Any:
        """Return the report of the core with some bytes changed."""
        with self.scratch.written(changes) as path:
            return self.report(path)

    def places_in_file(self) -> list[int]:
        """Return the file offsets at which something that the report reads begins or ends."""
        extents = [(self.scratch.offset_of(a), b - a) for a, b in self.touched]
        return sorted({at for start, size in extents for at in (start, start + 1, start + size)})


@pytest.fixture(
    scope="module",
    params=CORES or NO_CORE,
    ids=lambda core: core.name if core else "none",
)
def damaged(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Damaged:
    return Damaged(request.param, tmp_path_factory.mktemp("core"))


@pytest.fixture(scope="module")
def stuck(tmp_path_factory: pytest.TempPathFactory) -> Damaged:
    core = find_core(STUCK)
    if core is None:
        pytest.skip("no such core: run `python -m tests.lab make 7.2 stuck`")
    return Damaged(core, tmp_path_factory.mktemp("stuck"))


@pytest.fixture
def to_cut(damaged: Damaged, tmp_path: Path) -> ScratchCore:
    """A second copy, for what cannot be undone."""
    return ScratchCore(damaged.case.path, tmp_path)


def validator(name: str) -> jsonschema.Draft202012Validator:
    schema = json.loads((ROOT / "schemas" / f"{name}-1.json").read_text(encoding="utf-8"))
    return jsonschema.Draft202012Validator(schema)


REPORTS, RINGS = validator("report"), validator("ring")


# Cut


def cuts(damaged: Damaged, size: int, count: int) -> list[int]:
    """Return places to cut at, the largest first: where it matters, in the headers, anywhere."""
    chance = random.Random(size)
    read = damaged.places_in_file()
    table_end = damaged.scratch.table_end
    places = {*chance.sample(read, min(count // 2, len(read))), 0, 1, table_end, size - 1}
    places |= {chance.randrange(table_end) for _ in range(count // 10)}
    while len(places) < count:
        places.add(chance.randrange(size))
    return sorted(places, reverse=True)


def test_a_core_cut_anywhere_gives_no_wrong_value(damaged: Damaged, to_cut: ScratchCore) -> None:
    places = cuts(damaged, to_cut.size, 500 if damaged.case.name == STUCK else 100)
    outcomes = set()
    for number, place in enumerate(places):
        to_cut.cut(place)
        part = damaged.report(to_cut.path)
        if part is None:
            outcomes.add("refused")
            continue
        assert wrong(part, damaged.whole) == [], f"cut at {place}"
        assert part["core"]["complete"] is False
        assert "the core is truncated" in {limit["what"] for limit in part["limits"]}
        outcomes.add(f"{len(part['devices'])} devices")
        if number % 50 == 0:
            REPORTS.validate(part)
    # From a whole answer but for the notes to none at all.
    assert {"refused", "0 devices", f"{len(damaged.whole['devices'])} devices"} <= outcomes


def test_the_rings_of_a_cut_core_are_right_or_absent(damaged: Damaged, to_cut: ScratchCore) -> None:
    whole = damaged.reader.rings(damaged.case.path)
    read = damaged.places_in_file()
    seen = 0
    for place in sorted(read[len(read) // 2 :: len(read) // 12], reverse=True):
        to_cut.cut(place)
        for key, part in damaged.reader.rings(to_cut.path).items():
            assert wrong(part, whole[key]) == [], f"cut at {place}"
            if seen % 10 == 0:
                RINGS.validate(part)
            seen += 1
    assert seen > 0


def test_the_command_line_on_a_cut_core(damaged: Damaged, to_cut: ScratchCore) -> None:
    executable = str(damaged.case.case.executable)
    read = damaged.places_in_file()
    table_end = to_cut.table_end
    places = [to_cut.size - 1, read[-1], *read[:: len(read) // 6], table_end, table_end // 2, 64, 0]
    verbs = ("queues", "devices", "requests")
    codes = set()
    for number, place in enumerate(sorted(places, reverse=True)):
        to_cut.cut(place)
        as_json = ["--json"] if number % 2 else []
        run = vringcore(verbs[number % len(verbs)], str(to_cut.path), "-e", executable, *as_json)
        assert "Traceback" not in run.stderr + run.stdout
        assert run.returncode in (0, 2, 3, 4, 5), run.stderr
        codes.add(run.returncode)
        if as_json:
            json.loads(run.stdout)
        if run.returncode == 3 and not as_json:
            assert (run.stdout, len(run.stderr.splitlines())) == ("", 1)
    assert 3 in codes


# Holes


def test_every_page_that_is_read_can_be_missing(damaged: Damaged) -> None:
    """One after the other: all values that are left are right, and what is lost is said."""
    silent = []
    known = set(absences(damaged.whole))
    every = list(pages(damaged.touched))
    for start, end in every if damaged.case.name == STUCK else every[::4]:
        part = damaged.without((start, end))
        if part is None:
            continue
        assert wrong(part, damaged.whole) == [], hex(start)
        new = {path: value for path, value in absences(part).items() if path not in known}
        for path, value in new.items():
            assert value["absent"], path
            assert value["absent"] == "optimized-out" or value["hint"], path
        assert all(limit["what"] and limit["why"] for limit in part["limits"])
        if same_answer(part, damaged.whole):
            silent.append(start)
    # Some pages are only passed over: heap and possible stacks that were searched and held
    # nothing, a string's rest.
    assert len(silent) < len(every) / 3


def test_an_absent_device_leaves_the_others_unharmed(damaged: Damaged) -> None:
    size = damaged.reader.offset(damaged.case.path, "struct VirtIODevice", "dma_as")
    for device in damaged.whole["devices"]:
        start = int(device["address"], 16)
        part = damaged.without((start, start + size))
        assert part is not None
        assert wrong(part, damaged.whole) == []
        others = {d["address"]: d for d in part["devices"] if d["address"] != device["address"]}
        for each in damaged.whole["devices"]:
            if each is not device:
                assert unharmed(others[each["address"]], each)
        left = [d for d in part["devices"] if d["address"] == device["address"]]
        for each in left:
            assert each["status"]["absent"] == "not-dumped"
            assert start <= int(each["status"]["address"], 16) < start + size
        assert left or device["address"][2:] in json.dumps(part["limits"]) or part["limits"]


def test_an_absent_queue_array_leaves_all_else_unharmed(damaged: Damaged) -> None:
    for device in damaged.whole["devices"]:
        start = int(device["queues"][0]["address"], 16)
        part = damaged.without((start, start + 64))
        assert part is not None
        assert wrong(part, damaged.whole) == []
        for mine, its in zip(part["devices"], damaged.whole["devices"], strict=True):
            if its is device:
                rest = [queue["index"] for queue in its["queues"][1:]]
                assert [queue["index"] for queue in mine["queues"]] == rest
                assert unharmed(mine | {"queues": []}, its | {"queues": []})
            else:
                assert unharmed(mine, its)
        assert "queue 0 is not shown" in {m["what"] for m in part["limits"]}


def test_an_absent_queue_is_absent_and_the_others_are_whole(stuck: Damaged) -> None:
    queues = {queue["index"]: queue for queue in stuck.whole["devices"][0]["queues"]}
    start = int(queues[2]["address"], 16)
    part = stuck.without((start, start + 64))
    assert wrong(part, stuck.whole) == []
    assert [queue["index"] for queue in part["devices"][0]["queues"]] == [0, 1, 3]
    for mine in part["devices"][0]["queues"]:
        assert mine["fields"] == queues[mine["index"]]["fields"]
        assert mine["guest"] == queues[mine["index"]]["guest"]
    assert "queue 2 is not shown" in {m["what"] for m in part["limits"]}


def test_absent_guest_memory_takes_the_rings_and_nothing_else(damaged: Damaged) -> None:
    blocks = damaged.case.gdb["ram_blocks"]
    holes = [(block["host"], block["host"] + block["max_length"]) for block in blocks]
    part = damaged.without(*holes)
    assert part is not None
    assert wrong(part, damaged.whole) == []
    assert part["core"]["guest_ram"].startswith("absent")
    ready = 0
    for mine, its in zip(part["devices"], damaged.whole["devices"], strict=True):
        for queue, whole in zip(mine["queues"], its["queues"], strict=True):
            assert queue["fields"] == whole["fields"]
            assert queue["in_use"] == whole["in_use"]
            assert len(queue["in_flight"]) == len(whole["in_flight"])
            if whole["ring_state"] != "ready":
                continue
            ready += 1
            lost = queue["guest"]["avail_idx"]
            assert lost["absent"] == "not-dumped"
            address = int(lost["address"], 16)
            assert any(start <= address < end for start, end in holes)
            assert queue["counts"]["unseen"]["absent"] == "not-dumped"
    assert ready > 0


def test_without_the_heap_or_the_programs_data_nothing_is_invented(damaged: Damaged) -> None:
    heap = max(int(device["address"], 16) for device in damaged.whole["devices"])
    data = damaged.reader.variable(damaged.case.path, "vm_change_state_head")
    for inside in (heap, data):
        holes = [
            (row[3], row[3] + row[6])
            for row in damaged.scratch.rows
            if row[3] <= inside < row[3] + row[6]
        ]
        part = damaged.without(*holes)
        if part is not None:
            assert wrong(part, damaged.whole) == []
            assert part["limits"]


# Changed bytes

WILD = (0, 1, 8, 0x7FFF_FFFF, 0xFFFF_FFFF, 0x7FFF_FFFF_FFFF, 1 << 63, (1 << 64) - 1)


def changes(damaged: Damaged, chance: random.Random) -> list[tuple[int, bytes]]:
    """Return a few changed bytes and words among those that are read."""
    places = [(a, b) for a, b in damaged.touched if b - a >= 8]
    made = []
    for _ in range(chance.choice((1, 1, 1, 2, 4, 16))):
        start, end = chance.choice(places)
        at = chance.randrange(start, end - 7)
        if chance.random() < 0.3:
            made.append((at, bytes([chance.randrange(256)])))
            continue
        other = chance.choice(places)[0]
        word = chance.choice((chance.choice(WILD), other, chance.getrandbits(64)))
        made.append((at - (at - start) % 8, struct.pack("<Q", word)))
    return made


def test_changed_bytes_end_in_a_report_or_our_error(damaged: Damaged) -> None:
    chance = random.Random(2026)
    reports = 0
    for number in range(200 if damaged.case.name == STUCK else 40):
        part = damaged.written(*changes(damaged, chance))
        if part is None:
            continue
        reports += 1
        if number % 10 == 0:
            REPORTS.validate(part)
    assert reports > 20


def test_changed_bytes_and_rings(stuck: Damaged) -> None:
    chance = random.Random(1302)
    for _ in range(25):
        with stuck.scratch.written(changes(stuck, chance)) as path:
            try:
                rings = stuck.reader.rings(path)
            except VringcoreError:
                continue
        for ring in rings.values():
            RINGS.validate(ring)


def hostile(stuck: Damaged) -> Iterator[tuple[str, int, bytes]]:
    """Yield what would hurt a careless reader: name, address, bytes."""

    def word(value: int, size: int = 8) -> bytes:
        return value.to_bytes(size, "little")

    path = stuck.case.path
    device = stuck.case.gdb["devices"][0]
    at = device["address"]
    queue = device["queues"][0]["address"]
    for value in (0, 3, 0x8000, 0x7FFF_FFFF, 0xFFFF_FFFF):
        place = queue + stuck.reader.offset(path, "struct VirtQueue", "vring.num")
        yield f"vring.num {value:#x}", place, word(value, 4)
    for member in ("inuse", "last_avail_idx", "used_idx", "vring.caches", "vdev"):
        place = queue + stuck.reader.offset(path, "struct VirtQueue", member)
        yield f"VirtQueue.{member}", place, b"\xff\xff"
    for member in ("vq", "name", "vmstate", "dma_as", "parent_obj.parent_obj.class"):
        place = at + stuck.reader.offset(path, "struct VirtIODevice", member)
        for value in (1, at, (1 << 64) - 1, 1 << 63):
            yield f"VirtIODevice.{member} {value:#x}", place, word(value)
    head = stuck.reader.variable(path, "vm_change_state_head")
    first = int.from_bytes(stuck.scratch.read(head, 8), "little")
    link = stuck.reader.offset(path, "struct VMChangeStateEntry", "entries")
    yield "a list that is its own first element", first + link, word(first)
    yield "a list that leads out of memory", head, word(0xDEAD_0000_0000)
    space = stuck.reader.variable(path, "address_space_memory")
    flat = space + stuck.reader.offset(path, "struct AddressSpace", "current_map")
    view = int.from_bytes(stuck.scratch.read(flat, 8), "little")
    count = view + stuck.reader.offset(path, "struct FlatView", "nr")
    for value in (1, 0xFFFF, 0x10000, 0xFFFF_FFFF):
        yield f"FlatView.nr {value:#x}", count, word(value, 4)
    blocks = stuck.reader.offset(path, "struct RAMBlock", "next")
    block = stuck.case.gdb["ram_blocks"][0]["address"]
    yield "a RAM block that follows itself", block + blocks, word(block)
    length = stuck.reader.offset(path, "struct RAMBlock", "used_length")
    yield "a RAM block as large as memory", block + length, word((1 << 64) - 1)
    for request in stuck.case.gdb["requests"][:2]:
        for member in ("elem.index", "elem.in_num", "elem.out_num", "qiov.niov", "elem.in_sg"):
            place = request["address"] + stuck.reader.offset(path, "struct VirtIOBlockReq", member)
            yield f"VirtIOBlockReq.{member}", place, word(0xFFFF_FFFF, 4)


def test_hostile_values_are_told_and_bounded(stuck: Damaged) -> None:
    tried = 0
    for name, address, data in hostile(stuck):
        part = stuck.written((address, data))
        assert part is not None, name
        REPORTS.validate(part)
        tried += 1
    assert tried > 30


def test_a_ring_of_hostile_descriptors(stuck: Damaged) -> None:
    """Each chain of the ring made a loop, a jump out of the table, an endless indirect table."""
    queue = stuck.case.gdb["devices"][0]["queues"][0]
    table = next(
        block["host"] + queue["fields"]["vring.desc"] - block["offset"]
        for block in stuck.case.gdb["ram_blocks"]
        if block["idstr"] == "pc.ram"
    )
    assert stuck.scratch.read(table, 32).hex() == queue["rings"]["desc"][:64]
    for end, flags, address, length, following in (
        ("loop", 1, 0x1000, 16, 0),
        ("index-range", 1, 0x1000, 16, 0xFFFF),
        ("nested-indirect", 4, queue["fields"]["vring.desc"], 4096, 0),
        ("fault", 4, 1 << 63, 16, 0),
        ("bad-table-length", 4, 0x1000, 17, 0),
        ("indirect-and-next", 5, 0x1000, 16, 0),
    ):
        row = struct.pack("<QIHH", address, length, flags, following)
        ring = (table, row * queue["fields"]["vring.num"])
        with stuck.scratch.written([ring]) as path, stuck.reader.open(path) as core:
            document = plain(core.ring("0", 0))
        RINGS.validate(document)
        assert document["chains"]
        assert {chain["end"] for chain in document["chains"]} == {end}
        assert all(len(chain["descriptors"]) <= 257 for chain in document["chains"])


def same_answer(part: Any, whole: Any) -> bool:
    """Tell whether two reports say the same of QEMU; the cores themselves differ."""
    return all(part[key] == whole[key] for key in whole.keys() - {"core"})


def unharmed(mine: dict[str, Any], its: dict[str, Any]) -> bool:
    """Tell whether a device is as in the whole core, but for the ways that led to it."""
    kept = its.keys() - {"found_by", "index"}
    return all(mine[key] == its[key] for key in kept)


def test_the_comparison_notices_a_wrong_value(stuck: Damaged) -> None:
    def changed(path: str, value: Any) -> Any:
        document = json.loads(json.dumps(stuck.whole))
        *way, last = path.split(".")
        place = document["devices"][0]
        for step in way:
            place = place[int(step) if step.isdigit() else step]
        place[int(last) if last.isdigit() else last] = value
        return document

    assert wrong(stuck.whole, stuck.whole) == []
    for path, value in (
        ("queues.0.used_idx", 0),
        ("queues.1.fields.vring.num", 1),
        ("queues.2.guest.avail_idx", None),
        ("queues.2.in_flight.0.request.sector", 1),
        ("queues.3.counts.unidentified", -1),
        ("id", None),
        ("serial", "other"),
        ("status.value", "0x0"),
        ("address", "0x1000"),
    ):
        assert len(wrong(changed(path, value), stuck.whole)) >= 1, path
        assert wrong(changed(path, {"absent": "truncated"}), stuck.whole) == [] or path == "address"
