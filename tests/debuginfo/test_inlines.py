"""Functions, files and lines of every code address of compiled programs, against other readers."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.debuginfo.conftest import Build
from tests.debuginfo.line_oracles import ADDR2LINE, Comparison, code_addresses, our_frames
from tests.debuginfo.line_program import VARIANTS, build_program
from tests.debuginfo.reading import layouts_of
from tests.synth.programs import SPLIT, Variant
from vringcore.debuginfo import inlines
from vringcore.debuginfo.elf import ElfFile
from vringcore.debuginfo.symbols import SymbolTable
from vringcore.layout.bundle import MAX_LINES, Bundle, from_json, to_json
from vringcore.layout.cache import LayoutCache
from vringcore.layout.provider import Layouts
from vringcore.layout.store import LayoutStore
from vringcore.layout.types import SourceFrame, Symbol

PLAIN = Variant("gcc-plain")

needs_gcc = pytest.mark.skipif(shutil.which("gcc") is None, reason="needs gcc")


def address_of(program: Path, name: str) -> int:
    with ElfFile.open(str(program)) as elf:
        table = SymbolTable.of(elf)
        assert table is not None
        symbol = table.find(name)
        assert symbol is not None
        return symbol.address


@pytest.mark.skipif(ADDR2LINE is None, reason="needs addr2line")
@pytest.mark.parametrize("variant", VARIANTS, ids=lambda v: v.name)
def test_every_address_is_where_others_have_it(
    variant: Variant, lined: Build, tmp_path: Path
) -> None:
    program = lined(variant)
    compared = Comparison(program, code_addresses(program), tmp_path)
    print(f"{variant.name}: {compared}")
    assert compared.named > 500
    assert compared.levels > compared.named * 1.3
    assert compared.unconfirmed == []


@needs_gcc
def test_a_debug_file_of_its_own(lined: Build, tmp_path: Path) -> None:
    whole = lined(PLAIN)
    parted = build_program(PLAIN, tmp_path)
    places = {"exe": str(parted), "debug": f"{parted}.debug"}
    for step in SPLIT:
        subprocess.run([word.format(**places) for word in step], cwd=tmp_path, check=True)
    addresses = code_addresses(parted)
    assert [names(f) for f in our_frames(parted, addresses)] == [
        names(f) for f in our_frames(whole, addresses)
    ]


@pytest.mark.skipif(shutil.which("dwz") is None, reason="needs dwz")
@needs_gcc
def test_what_dwz_moved_to_a_common_file_is_found_there(tmp_path: Path) -> None:
    programs = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        programs.append(build_program(PLAIN, tmp_path / name))
    addresses = code_addresses(programs[0])
    before = our_frames(programs[0], addresses)
    common = tmp_path / "common.dwz"
    subprocess.run(["dwz", "-m", str(common), *map(str, programs)], check=True)
    with ElfFile.open(str(programs[0])) as elf:
        assert elf.alternate_link() is not None
    assert our_frames(programs[0], addresses) == before


def names(frames: tuple[SourceFrame, ...]) -> list[tuple[str, str, int]]:
    return [(f.function, f.file, f.line) for f in frames]


@needs_gcc
def test_without_debug_information_the_symbols_name_functions(tmp_path: Path) -> None:
    program = build_program(PLAIN, tmp_path)
    subprocess.run(["strip", "-g", str(program)], check=True)
    address = address_of(program, "parted")
    [frames, none] = our_frames(program, [address + 5, 0x10])
    assert frames == (SourceFrame("parted"),)
    assert none == ()


@needs_gcc
@pytest.mark.parametrize("flag", ["-gdwarf-4", "-gdwarf-5"])
def test_functions_described_in_another_file_have_lines_all_the_same(
    flag: str, tmp_path: Path
) -> None:
    # Unoptimised, because the skeleton does not tell what is inlined.
    split = Variant("gcc-split-dwarf", flags=(flag, "-gsplit-dwarf", "-O0"))
    program = build_program(split, tmp_path)
    address = address_of(program, "never_called")
    layouts = layouts_of(program)
    [frame] = layouts.source_of(address)
    line = (tmp_path / "first.c").read_text().splitlines().index(
        "int never_called(volatile int *place) { return around(place, 3) + twice(place); }"
    ) + 1  # fmt: skip
    assert (frame.function, frame.path, frame.line) == (
        "never_called", f"{tmp_path}/first.c", line,
    )  # fmt: skip


@needs_gcc
@pytest.mark.parametrize("flag", ["-gdwarf-4", "-gdwarf-5"])
def test_assembler_has_lines_and_the_names_of_its_symbols(flag: str, tmp_path: Path) -> None:
    (tmp_path / "code.s").write_text(
        ".text\n.globl main\n.type main, @function\nmain:\n\txorl %eax, %eax\n\n\tret\n"
        ".size main, .-main\n"
    )
    program = tmp_path / "code"
    subprocess.run(["gcc", "-c", f"-Wa,{flag}", "code.s"], cwd=tmp_path, check=True)
    subprocess.run(["gcc", "code.o", "-o", str(program)], cwd=tmp_path, check=True)
    main = address_of(program, "main")
    assert our_frames(program, [main, main + 2]) == [
        (SourceFrame("main", "code.s", 5, str(tmp_path)),),
        (SourceFrame("main", "code.s", 7, str(tmp_path)),),
    ]


@needs_gcc
def test_cplusplus_is_named_for_reading(tmp_path: Path) -> None:
    (tmp_path / "space.cc").write_text(
        "namespace outer { namespace inner {\n"
        "struct S { int n; inline int more() { return n * 3; } int far(int); };\n"
        "__attribute__((noinline)) int S::far(int by) { n += by; return more(); }\n"
        "__attribute__((noinline)) int loose(S *s) { return s->far(3) + s->more(); }\n"
        "} }\n"
        "int main(int c, char **) { outer::inner::S s{c}; return outer::inner::loose(&s); }\n"
    )
    if shutil.which("g++") is None:
        pytest.skip("needs g++")
    program = tmp_path / "space"
    command = ["g++", "-g", "-O2", "space.cc", "-o", str(program)]
    subprocess.run(command, cwd=tmp_path, check=True)
    far = address_of(program, "_ZN5outer5inner1S3farEi")
    found = {f.function for a in range(far, far + 8) for f in layouts_of(program).source_of(a)}
    assert found <= {"far", "more"}
    assert "far" in found


@needs_gcc
def test_more_ranges_than_a_program_has_leave_the_line(
    lined: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = lined(PLAIN)
    start = address_of(program, "parted")
    [whole] = our_frames(program, [start + 60])
    assert len(whole) > 1
    monkeypatch.setattr(inlines, "MAX_RANGES", 3)
    layouts = layouts_of(program)
    line = whole[0].line
    assert layouts.source_of(start + 60) == (
        SourceFrame("parted", whole[0].file, line, whole[0].directory),
    )
    assert any("more ranges of code" in text for text in layouts.log)


# Layouts and their bundles


@needs_gcc
def test_a_bundle_answers_without_the_program(lined: Build, tmp_path: Path) -> None:
    program = lined(PLAIN)
    layouts = layouts_of(program)
    start = address_of(program, "parted")
    answers = {a: layouts.source_of(a) for a in range(start, start + 200)}
    assert max(map(len, answers.values())) > 1
    alone = Layouts(from_json(to_json(layouts.bundle)))
    assert {a: alone.source_of(a) for a in answers} == answers
    assert alone.source_of(start + 0x10000) == ()
    cache = LayoutCache(str(tmp_path))
    assert cache.write(layouts.bundle) == ""
    again = LayoutStore(cache).layouts(layouts.build_id)
    assert again.source_of(start) == answers[start]


@needs_gcc
def test_a_bundle_keeps_a_bounded_number_of_addresses(lined: Build) -> None:
    program = lined(PLAIN)
    layouts = layouts_of(program)
    start = address_of(program, "parted")
    frames = layouts.source_of(start)
    bundle = layouts.bundle
    for number in range(MAX_LINES - 1):
        bundle.lines[f"no {number}"] = ()
    assert len(bundle.lines) == MAX_LINES
    layouts.source_of(start + 1)
    assert len(bundle.lines) == MAX_LINES
    assert format(start, "x") not in bundle.lines
    assert layouts.source_of(start) == frames


def test_symbols_of_a_bundle_name_what_its_lines_do_not() -> None:
    bundle = Bundle(build_id="ab" * 20)
    bundle.symbols_at["1000"] = Symbol("f", 0x1000, 16)
    bundle.lines["1008"] = (SourceFrame("g", "a.h", 3, "/b"), SourceFrame("f", "a.c", 7, "/b"))
    layouts = Layouts(from_json(to_json(bundle)))
    assert layouts.source_of(0x1004) == (SourceFrame("f"),)
    assert layouts.source_of(0x1008) == bundle.lines["1008"]
    assert [f.path for f in layouts.source_of(0x1008)] == ["/b/a.h", "/b/a.c"]
    assert layouts.source_of(0x1010) == ()
