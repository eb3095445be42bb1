"""Layouts that grow as they are asked, over a real program."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.synth.programs import BUILD_ID, SAME_ANSWERS, compile_program
from vringcore.debuginfo.find import find_files
from vringcore.debuginfo.provider import DebugInfo
from vringcore.errors import LayoutMissingError
from vringcore.layout.bundle import Bundle, from_json, to_json
from vringcore.layout.cache import LayoutCache
from vringcore.layout.provider import Layouts
from vringcore.layout.store import LayoutStore
from vringcore.layout.types import Named, Record, Symbol
from vringcore.layout.wanted import Wanted

VARIANT = next(v for v in SAME_ANSWERS if v.name == "gcc-dwarf5")

WANTED = Wanted(
    types={"struct VirtQueue": ("queue.c",), "struct Gone": ("queue.c",)},
    variables={"queues": ("queue.c",), "gone": ()},
    symbols=("main",),
)


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    missing = VARIANT.missing_tool()
    if missing:
        pytest.skip(f"needs {missing}")
    return compile_program(VARIANT, tmp_path_factory.mktemp("program"))


def opened(program: Path, cache: LayoutCache | None) -> Layouts:
    provider = DebugInfo(find_files(BUILD_ID, str(program)))
    return LayoutStore(cache).layouts(BUILD_ID, [provider], module="program", machine="x86-64")


def ask(layouts: Layouts) -> tuple[object, ...]:
    record = layouts.definition("struct VirtQueue")
    assert isinstance(record, Record)
    return (
        record,
        layouts.member(record, "vring.desc"),
        layouts.size_of(Named("typedef", "VirtIODevice")),
        layouts.variable("queues"),
        layouts.variable("root", "queue.c", "object_get_root"),
        layouts.find_symbol("main"),
        layouts.symbol_at(layouts.variable("queues").address + 1),
        layouts.symbol_at(1),
        layouts.find_definition("struct Gone"),
        layouts.find_variable("gone"),
    )


def test_a_warm_run_answers_without_the_program(program: Path, tmp_path: Path) -> None:
    cache = LayoutCache(str(tmp_path))
    cold = opened(program, cache)
    cold.prefetch(WANTED)
    answers = ask(cold)
    cold.save()
    warm = opened(Path("/nowhere"), cache)
    warm.prefetch(WANTED)
    assert ask(warm) == answers
    assert warm.log == []
    assert warm.unit_of("struct VirtQueue") == "queue.c"
    before = os.stat(cache.path(BUILD_ID)).st_mtime_ns
    warm.save()
    assert os.stat(cache.path(BUILD_ID)).st_mtime_ns == before


def test_a_cached_build_is_extended(program: Path, tmp_path: Path) -> None:
    cache = LayoutCache(str(tmp_path))
    first = opened(program, cache)
    first.definition("struct VirtQueue")
    first.save()
    second = opened(program, cache)
    second.definition("typedef CoroutineUContext")
    second.save()
    third = opened(Path("/nowhere"), cache)
    assert third.definition("struct VirtQueue")
    assert third.definition("typedef CoroutineUContext")
    with pytest.raises(LayoutMissingError, match="no debug information"):
        third.definition("struct Private")


def test_what_was_not_searched_is_not_absent(tmp_path: Path) -> None:
    layouts = opened(Path("/nowhere"), LayoutCache(str(tmp_path)))
    assert layouts.find_definition("struct VirtQueue") is None
    assert layouts.find_variable("queues") is None
    assert layouts.symbol_at(16) is None
    assert layouts.bundle.searched_absent == []
    assert layouts.bundle.symbols_at == {}
    with pytest.raises(LayoutMissingError) as caught:
        layouts.definition("struct VirtQueue")
    assert "/nowhere: not there" in str(caught.value)
    assert BUILD_ID in str(caught.value)


def test_a_given_bundle_names_what_lies_inside_a_symbol() -> None:
    bundle = Bundle(build_id=BUILD_ID)
    for name, address, size in (("f", 0x100, 0x40), ("table", 0x200, 0x100), ("inner", 0x240, 8)):
        bundle.symbols_at[format(address, "x")] = Symbol(name, address, size)
    layouts = LayoutStore().add(bundle)
    told = {
        at: None if (found := layouts.symbol_at(at)) is None else found.name
        for at in (0xFF, 0x100, 0x13F, 0x140, 0x23F, 0x247, 0x248, 0x2FF, 0x300)
    }
    assert told == {
        0xFF: None, 0x100: "f", 0x13F: "f", 0x140: None, 0x23F: "table", 0x247: "inner",
        0x248: "table", 0x2FF: "table", 0x300: None,
    }  # fmt: skip


def test_a_given_bundle_stands_alone(program: Path) -> None:
    layouts = opened(program, None)
    answers = ask(layouts)
    store = LayoutStore()
    given = store.add(from_json(to_json(layouts.bundle)))
    assert ask(given) == answers
    assert store.layouts(BUILD_ID) is given


def test_cores_of_one_build_share_layouts(program: Path) -> None:
    store = LayoutStore()
    provider = DebugInfo(find_files(BUILD_ID, str(program)))
    first = store.layouts(BUILD_ID, [provider])
    assert store.layouts(BUILD_ID, []) is first
    assert store.layouts("") is not store.layouts("")
    late = store.layouts("ab" * 20)
    assert late.find_definition("struct VirtQueue") is None
    assert store.layouts("ab" * 20, [provider]).find_definition("struct VirtQueue")


def test_threads_get_the_same_answers(program: Path) -> None:
    expected = ask(opened(program, None))
    layouts = opened(program, None)
    with ThreadPoolExecutor(8) as pool:
        assert all(a == expected for a in pool.map(lambda _: ask(layouts), range(32)))


def test_a_bundle_of_the_types_says_where_they_are_from(program: Path) -> None:
    layouts = opened(program, None)
    assert layouts.variable("queues").unit == "queue.c"
    assert layouts.definition("struct Private", ("main.c",))
    assert layouts.unit_of("struct Private") == "main.c"


def test_the_fast_way_imports_little(program: Path, tmp_path: Path) -> None:
    code = f"""
import sys
from vringcore.debuginfo.find import find_files
from vringcore.debuginfo.provider import DebugInfo
from vringcore.layout.cache import LayoutCache
from vringcore.layout.store import LayoutStore
store = LayoutStore(LayoutCache({str(tmp_path)!r}))
layouts = store.layouts({BUILD_ID!r}, [DebugInfo(find_files({BUILD_ID!r}, {str(program)!r}))])
layouts.definition("struct VirtQueue", ("queue.c",))
layouts.variable("queues", "queue.c")
layouts.symbol_at(layouts.variable("queues").address)
layouts.save()
print(*sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    heavy = {"elftools", "lief", "construct", "zlib", "zstandard", "lzma", "json", "dataclasses",
             "rich", "hashlib", "tempfile", "subprocess", "pathlib"}  # fmt: skip
    assert heavy & set(done.stdout.split()) == set()
    again = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "vringcore.debuginfo.dwarf" in done.stdout.split()
    assert "vringcore.debuginfo.dwarf" not in again.stdout.split()
