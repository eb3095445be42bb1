"""argv from the stack: built stacks, real cores, and no secret in any result."""

from __future__ import annotations

import struct
from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.qemu.support import Image, NoSymbols, views_of
from tests.synth.core import CoreBuilder
from vringcore.elfcore.core import open_elf_core
from vringcore.layout.bundle import Bundle
from vringcore.layout.provider import Layouts
from vringcore.model.values import Absent, encode
from vringcore.qemu import commandline
from vringcore.qemu.commandline import find_argv
from vringcore.view.views import Views

if TYPE_CHECKING:
    import random
    from pathlib import Path

    from tests.lab.cases import CoreCase
    from vringcore.elfcore.core import ElfCore
    from vringcore.model.report import QemuInfo
    from vringcore.qemu.process import Process

ANCHOR = 0x7FFD_0000_1F39
AT_RANDOM, AT_IGNORE = 25, 22

pointers = st.lists(st.integers(ANCHOR, ANCHOR + 0x20000), max_size=40)
entries = st.dictionaries(
    st.integers(1, 60).filter(lambda key: key != AT_RANDOM), st.integers(0, 1 << 48), max_size=20
)


def stack(
    argv: list[int], envp: list[int], auxv: dict[int, int], below: list[int], above: int
) -> list[int]:
    """Lay a stack out as Linux's create_elf_tables does."""
    vector = [number for entry in auxv.items() for number in entry]
    return [*below, len(argv), *argv, 0, *envp, 0, *vector, 0, 0, *([0x5A] * above)]


@given(
    pointers, pointers, entries, st.lists(st.integers(0, 1 << 64), max_size=30), st.integers(0, 40)
)
def test_argv_is_found(
    argv: list[int], envp: list[int], others: dict[int, int], below: list[int], above: int
) -> None:
    auxv = {**others, AT_RANDOM: ANCHOR}
    assert find_argv(stack(argv, envp, auxv, below, above), auxv, ANCHOR) == argv


def test_an_entry_may_come_twice() -> None:
    auxv = {33: 0x7FFD00010000, AT_RANDOM: ANCHOR}
    words = stack([ANCHOR + 8], [ANCHOR + 16], auxv, [9], 2)
    place = words.index(33)
    words[place:place] = [AT_IGNORE, AT_IGNORE, AT_IGNORE, AT_IGNORE]
    assert find_argv(words, {AT_IGNORE: AT_IGNORE, **auxv}, ANCHOR) == [ANCHOR + 8]


@given(pointers, pointers, entries, st.integers(0, 200))
def test_a_stack_that_is_cut_gives_nothing_wrong(
    argv: list[int], envp: list[int], others: dict[int, int], cut: int
) -> None:
    auxv = {**others, AT_RANDOM: ANCHOR}
    words = stack(argv, envp, auxv, [], 3)[cut:]
    found = find_argv(words, auxv, ANCHOR)
    assert found == (argv if cut == 0 else None)


@given(st.lists(st.one_of(st.integers(0, 40), st.just(ANCHOR)), max_size=60))
def test_garbage_is_bounded(words: list[int]) -> None:
    found = find_argv(words, {AT_RANDOM: ANCHOR, 3: 4}, ANCHOR)
    assert found is None or len(found) < len(words)


# Real cores


@pytest.mark.lab
def test_the_arguments_are_those_of_the_process(lab_core: CoreCase, process: Process) -> None:
    argv = commandline.arguments(process.views, process.core)
    assert list(argv) == lab_core.case.manifest["argv"]


@pytest.mark.lab
def test_no_secret_and_no_environment_in_any_result(lab_core: CoreCase, process: Process) -> None:
    manifest = lab_core.case.manifest
    shown = process.qemu_info.command_line
    assert not isinstance(shown, Absent)
    changed = [(a, b) for a, b in zip(manifest["argv"], shown, strict=True) if a != b]
    for before, after in changed:
        assert "CANARY" in before
        assert "<redacted>" in after
    text = encode(process.qemu_info).decode() + encode(process.core_info).decode()
    assert "CANARY" not in text
    for value in manifest.get("environment", {}).values():
        assert value not in text


def test_identity_equals_what_qemu_said(core: CoreCase, opened: Process) -> None:
    info: QemuInfo = opened.qemu_info
    state = core.gdb["state"]
    assert info.pid == core.case.manifest["pid"]
    assert info.vm_name == state["qemu_name"]
    uuid = "" if info.vm_uuid is None else str(info.vm_uuid).replace("-", "")
    assert (uuid or "0" * 32) == state["qemu_uuid"]
    said = core.case.qmp_before
    if said is not None:
        assert said["query-name"].get("name") == info.vm_name
        none = "00000000-0000-0000-0000-000000000000"
        assert said["query-uuid"]["UUID"] == (info.vm_uuid or none)


def test_name_and_uuid_from_the_arguments(core: CoreCase, opened: Process) -> None:
    """The way for builds whose variables are not known gives the same."""
    views, image = opened.views, opened.core
    info = opened.qemu_info
    assert commandline.option(views, image, "-name", "guest") == info.vm_name
    assert commandline.option(views, image, "-uuid") == info.vm_uuid
    assert commandline.option(views, image, "-no-such-option") is None


# Cores without the stack


def core_of(tmp_path: Path, arguments: bytes, auxv: dict[int, int]) -> ElfCore:
    builder = CoreBuilder()
    builder.thread(1)
    builder.process(77, b"qemu", arguments)
    builder.auxv(auxv)
    builder.segment(0x10000, bytes(4096))
    builder.write(tmp_path / "core")
    return open_elf_core(str(tmp_path / "core"))


@pytest.mark.parametrize(
    ("auxv", "reason"),
    [
        ({AT_RANDOM: 0x900000}, "unmapped"),
        ({6: 4096}, "corrupt"),
        ({AT_RANDOM: 0x10010}, "unmapped"),
        ({AT_RANDOM: 8}, "address-overflow"),
    ],
)
def test_without_the_stack_the_note_is_the_hint(
    tmp_path: Path, auxv: dict[int, int], reason: str
) -> None:
    with core_of(tmp_path, b"qemu -m 256 -object secret,id=a,data=CANARY -na", auxv) as core:
        views = Views(core.memory, Layouts(Bundle()), 0, NoSymbols())
        absent = commandline.command_line(views, core)
        assert isinstance(absent, Absent)
        assert absent.reason == reason
        assert "qemu -m 256 -object <redacted>" in absent.hint
        assert "CANARY" not in absent.hint
        assert commandline.pid(core) == 77
        name = commandline.vm_name(views, core)
        assert isinstance(name, Absent)
        assert name.reason == reason


@pytest.mark.parametrize("order", ["<", ">"])
def test_words_are_read_in_the_builds_byte_order(order: str) -> None:
    place = ANCHOR + 16
    strings = b"qemu\0-m\000256\0SECRET=1\0"
    auxv = {6: 4096, AT_RANDOM: ANCHOR}
    words = stack([place, place + 5, place + 8], [place + 12], auxv, [7] * 4000, 1)
    data = struct.pack(f"{order}{len(words)}Q", *words)
    image = Image({(ANCHOR & -8) - len(data): data, place: strings.ljust(512, b"\0")})
    views = views_of(image, big_endian=order == ">")
    core = cast("ElfCore", SimpleNamespace(auxv=auxv, slim=None))
    assert commandline.arguments(views, core) == ("qemu", "-m", "256")


@given(
    st.lists(st.binary(max_size=6).map(lambda text: text.replace(b"\0", b"x")), min_size=1),
    st.lists(st.integers(0, 3), min_size=1),
    st.randoms(),
)
def test_strings_are_read_wherever_they_lie(
    texts: list[bytes], gaps: list[int], choice: random.Random
) -> None:
    """Linux lays them one behind the other; a program may have set other ones since."""
    start = ANCHOR + 16
    memory, places = b"", []
    for index, text in enumerate(texts):
        memory += b"\xff" * gaps[index % len(gaps)]
        places.append(start + len(memory))
        memory += text + b"\0"
    order = list(range(len(texts)))
    if choice.random() < 0.5:
        choice.shuffle(order)
    auxv = {6: 4096, AT_RANDOM: ANCHOR}
    words = stack([places[i] for i in order], [], auxv, [7] * 4000, 1)
    data = struct.pack(f"<{len(words)}Q", *words)
    image = Image({(ANCHOR & -8) - len(data): data, start: memory.ljust(512, b"\0")})
    core = cast("ElfCore", SimpleNamespace(auxv=auxv, slim=None))
    expected = tuple(texts[i].decode("utf-8", "backslashreplace") for i in order)
    assert commandline.arguments(views_of(image), core) == expected
