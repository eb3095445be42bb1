"""BTF: what was put in comes out; damaged, only our errors."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.synth.btf import BtfBuilder
from vringcore.debuginfo.btf import Btf, excerpt, read_btf
from vringcore.errors import LayoutError, VringcoreError
from vringcore.layout.provider import Layouts
from vringcore.layout.types import Enum, Member, Record, Typedef

KEYS = [
    "struct node", "struct outer", "union either", "enum colour", "enum wide", "typedef word",
    "struct tail", "struct nothing",
]  # fmt: skip


def kernel(order: str = "<") -> BtfBuilder:
    """A kernel's types: every kind that a structure's members can be of."""
    build = BtfBuilder(order=order)
    u32 = build.integer("unsigned int", 4)
    char = build.integer("char", 1, 1)
    u64 = build.integer("long unsigned int", 8)
    flag = build.integer("_Bool", 1, 4)
    word = build.add(8, "word", u32)
    node = build.record("node", 16, [("next", 7, 0, 0), ("prev", 7, 64, 0)])
    assert build.pointer(node) == 7
    inner = build.record("", 8, [("a", u32, 0, 0), ("b", u32, 0, 0)], union=True)
    build.record("either", 8, [("whole", u64, 0, 0), ("half", u32, 0, 0)], union=True)
    colour = build.enumeration("colour", {"RED": 0, "BLUE": -2}, signed=True)
    build.wide_enumeration("wide", {"FAR": 1 << 40, "NEAR": 3})
    constant = build.add(10, "", word)  # const
    build.record(
        "outer", 64,
        [
            ("list", node, 0, 0), ("low", u32, 128, 3), ("high", u32, 131, 29), ("", inner, 160, 0),
            ("name", build.array(char, u32, 5), 224, 0), ("ready", flag, 264, 0),
            ("word", constant, 288, 0), ("colour", colour, 320, 0),
            ("call", build.pointer(build.add(13, "", u32, [build.words(0, u64)])), 384, 0),
            ("opaque", build.pointer(build.add(7, "hidden", 0)), 448, 0),
        ],
    )  # fmt: skip
    return build


def read(build: BtfBuilder, base: Btf | None = None) -> Btf:
    return Btf(build.blob(), "built", base)


def members(layouts: Layouts, key: str) -> dict[str, tuple[int, int, int]]:
    """Return offset, first bit and size in bytes of each member."""
    record = layouts.resolve(layouts.definition(key))
    assert isinstance(record, Record)
    found = {}
    for each in record.members:
        assert isinstance(each, Member)
        size = layouts.size_of(each.type)
        found[each.name or ""] = (each.offset, each.bit_offset, each.bit_size or 8 * size)
    return found


@pytest.mark.parametrize("order", ["<", ">"])
def test_what_was_put_in_comes_out(order: str) -> None:
    bundle = excerpt([read(kernel(order))], KEYS)
    assert bundle.big_endian == (order == ">")
    assert set(bundle.searched_absent) == {"struct tail", "struct nothing"}
    layouts = Layouts(bundle)
    found = members(layouts, "struct outer")
    assert found["list"] == (0, 0, 128)
    assert [8 * at + bit for at, bit, _ in (found["low"], found["high"])] == [128, 131]
    assert [found[name][2] for name in ("low", "high", "", "name")] == [3, 29, 64, 40]
    assert found["ready"] == (33, 0, 8)
    assert found["word"] == (36, 0, 32)
    assert found["call"] == (48, 0, 64)
    outer = layouts.resolve(layouts.definition("struct outer"))
    assert isinstance(outer, Record)
    assert layouts.member(outer, "b") is not None
    colour, wide = layouts.definition("enum colour"), layouts.definition("enum wide")
    assert isinstance(colour, Enum)
    assert isinstance(wide, Enum)
    assert colour.enumerators == {"RED": 0, "BLUE": -2}
    assert wide.enumerators == {"FAR": 1 << 40, "NEAR": 3}
    assert isinstance(layouts.definition("typedef word"), Typedef)
    assert members(layouts, "union either") == {"whole": (0, 0, 64), "half": (0, 0, 32)}


def test_a_module_continues_its_kernel() -> None:
    build = kernel()
    base = read(build)
    module = BtfBuilder(build)
    module.record("tail", 24, [("list", 6, 0, 0), ("count", 1, 128, 0)])
    layouts = Layouts(excerpt([base, read(module, base)], KEYS))
    assert members(layouts, "struct tail") == {"list": (0, 0, 128), "count": (16, 0, 32)}
    assert members(layouts, "struct node")["prev"] == (8, 0, 64)


def test_a_module_without_its_kernel_is_refused() -> None:
    module = BtfBuilder(kernel())
    module.record("tail", 24, [("list", 6, 0, 0), ("count", 1, 128, 0)])
    with pytest.raises(LayoutError, match="continues that of a kernel") as caught:
        read(module)
    assert "kernel" in caught.value.hint


def test_a_type_within_itself_ends() -> None:
    build = BtfBuilder()
    build.record("tail", 8, [("again", 2, 0, 0)])
    build.add(9, "", 2)  # volatile of itself
    with pytest.raises(LayoutError, match="without end"):
        excerpt([read(build)], ["struct tail"])


def test_a_file_without_btf_says_what_is_expected(tmp_path: Path) -> None:
    raw = tmp_path / "vmlinux"
    raw.write_bytes(kernel().blob())
    assert read_btf(str(raw)).data == raw.read_bytes()
    raw.write_bytes(b"neither ELF nor BTF, but long enough to be looked at" * 4)
    with pytest.raises(VringcoreError):
        read_btf(str(raw))


@given(data=st.data())
@settings(max_examples=400, deadline=None, suppress_health_check=list(HealthCheck))
def test_damage_ends_in_our_errors(data: st.DataObject) -> None:
    blob = bytearray(kernel().blob())
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, len(blob) - 1))
        blob[place] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(blob)) | st.just(len(blob)))
    with contextlib.suppress(VringcoreError):
        Layouts(excerpt([Btf(bytes(blob[:cut]), "damaged")], KEYS))
