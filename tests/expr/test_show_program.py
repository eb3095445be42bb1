"""Every variable and type of a program of odd values, as gdb prints it: character for character."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.expr.printing import OddProgram, differences, gdb_lines, names_in, our_line
from tests.expr.program import HAVE_TOOLS

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.skipif(not HAVE_TOOLS, reason="needs gcc and gdb")

FORMATS = ("", "/x", "/d", "/u", "/c", "/s", "/o", "/t", "/z", "/a", "/f")

NOT_TOLD_BY_LAYOUTS = {"vector"}
"""GNU vector types are arrays to a layout: `int [4]` where gdb writes its attribute."""

EXPRESSIONS = """
main
&main
report
*handler
text_pointer->text
*text_pointer
&number
&text
&holes
&holes.inner
&holes.u
&no_ints
&device.text.text
*bad_pointer
bad_string[0]
*&holes
ints[0]@3
*ints@3
(long)&number
handlers[0]
&handlers[0]
*handlers@2
&ints[2]
&text[1]
&pointers.text
holes.bits.b
bits.d
bits.f
&bits_array[1]
&cube[1]
cube[1][1]
&cube[1][1]
*points@2
points[1]
&points[1].y
(char)65
(unsigned char)200
(short)-1
(enum Flags)3
(enum Flags)64
(enum FlagsNone)0
(void *)0x1234
(char *)text
(unsigned char *)text
(uint8_t *)text
(const char *)text
(Name)text
(Handler *)main
(int (*)(void))main
(struct Holes *)0
*(struct Bits *)&bits
*strings@3
strings[3]
*strings[3]
5
1.5
'a'
1 == 1
sizeof(struct Holes)
-1
10000000000
18446744073709551615
1 ? 2 : 3
""".strip().splitlines()

SYMBOLS = ("main", "&number", "&ints[2]", "handler", "1", "&text[3]", "function_void",
           "inside_function", "&constant", "&pointers.text")  # fmt: skip


@pytest.fixture(scope="module")
def odd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OddProgram]:
    made = OddProgram(tmp_path_factory.mktemp("odd"))
    yield made
    made.close()


@pytest.fixture(scope="module")
def names(odd: OddProgram) -> dict[str, list[str]]:
    return names_in(odd.executable)


def compare(odd: OddProgram, commands: list[str], scratch: Path) -> None:
    truth = gdb_lines(odd.executable, odd.path, commands, scratch)
    answered = [line for line in truth.values() if not line.startswith("error:")]
    assert len(answered) > len(commands) * 0.9
    assert differences(odd, truth) == []


def test_every_variable_in_every_format(
    odd: OddProgram, names: dict[str, list[str]], tmp_path: Path
) -> None:
    assert len(names["variable"]) > 150
    compare(odd, [f"p{f} {n}" for n in names["variable"] for f in FORMATS], tmp_path)


def test_addresses_of_every_variable(
    odd: OddProgram, names: dict[str, list[str]], tmp_path: Path
) -> None:
    compare(odd, [f"p &{name}" for name in names["variable"]], tmp_path)


def test_types_of_every_variable(
    odd: OddProgram, names: dict[str, list[str]], tmp_path: Path
) -> None:
    variables = [n for n in names["variable"] if n not in NOT_TOLD_BY_LAYOUTS]
    compare(odd, [f"{w} {n}" for n in variables for w in ("whatis", "ptype")], tmp_path)


def test_every_named_type(odd: OddProgram, names: dict[str, list[str]], tmp_path: Path) -> None:
    keys = [f"{kind} {n}" for kind in ("struct", "union", "enum") for n in names[kind]]
    keys += [n for n in names["typedef"] if n not in ("Vector",)]
    assert len(keys) > 30
    compare(odd, [f"{w} {k}" for k in keys for w in ("whatis", "ptype", "ptype/o")], tmp_path)


def test_expressions(odd: OddProgram, tmp_path: Path) -> None:
    commands = [f"{word} {text}" for text in EXPRESSIONS for word in ("p", "p/x", "whatis")]
    compare(odd, commands, tmp_path)


def test_symbols_of_addresses(odd: OddProgram, tmp_path: Path) -> None:
    compare(odd, [f"info symbol {text}" for text in SYMBOLS], tmp_path)


def test_a_library_function_has_section_and_file(odd: OddProgram) -> None:
    # gdb shows another of memcpy's names here, and the path of the dynamic linker's list.
    line = our_line(odd, "info symbol library_function")
    assert "memcpy" in line
    assert " in section .text of " in line
    assert line.endswith("libc.so.6")
