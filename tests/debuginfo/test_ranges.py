"""Functions whose code the compiler parted: they start where their symbol is."""

from __future__ import annotations

import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.debuginfo.reading import layouts_of
from vringcore.layout.types import Base, Function, Pointer

if TYPE_CHECKING:
    from pathlib import Path

SOURCE = r"""
struct S { int number; };
int __attribute__((noinline)) whole(struct S *s) { return s->number + 1; }
void __attribute__((cold, noinline)) seldom(int number) { static volatile int n; n += number; }
int __attribute__((noinline)) parted(struct S *s, char c)
{
    if (__builtin_expect(s->number < c, 0)) { seldom(s->number); seldom(c); return whole(s); }
    return s->number * 2;
}
static inline void both(struct S *s) { if (s->number) s->number = parted(s, 1); }
void (*volatile taken)(struct S *) = both;
int main(int argc, char **argv) { struct S s = {argc}; both(&s); taken(&s); return whole(&s); }
"""

needs_gcc = pytest.mark.skipif(
    not (shutil.which("gcc") and shutil.which("nm")), reason="needs gcc and nm"
)


@needs_gcc
@pytest.mark.parametrize("flag", ["-gdwarf-4", "-gdwarf-5", "-gdwarf-3"])
def test_functions_start_where_nm_says(flag: str, tmp_path: Path) -> None:
    (tmp_path / "parted.c").write_text(SOURCE)
    program = tmp_path / "parted"
    command = ["gcc", "-O2", flag, "parted.c", "-o", str(program)]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    said = subprocess.run(["nm", str(program)], check=True, capture_output=True, text=True).stdout
    symbols = {name: int(address, 16) for address, _, name in map(str.split, lines(said))}
    assert "parted.cold" in symbols
    layouts = layouts_of(program)
    for name in ("whole", "parted", "seldom", "both", "main"):
        code = layouts.find_function(name)
        assert code is not None, name
        assert code.address == symbols[name], name
        assert code.size > 0


@needs_gcc
def test_the_copy_of_an_inlined_function_has_its_parameters(tmp_path: Path) -> None:
    (tmp_path / "parted.c").write_text(SOURCE)
    program = tmp_path / "parted"
    command = ["gcc", "-O2", "-g", "parted.c", "-o", str(program)]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    code = layouts_of(program).find_function("both")
    assert code is not None
    assert isinstance(code.type, Function)
    [parameter] = code.type.parameters
    assert isinstance(parameter, Pointer)
    parted = layouts_of(program).find_function("parted")
    assert parted is not None
    assert isinstance(parted.type, Function)
    assert parted.type.parameters[1] == Base("char", 1, "char")


def lines(text: str) -> list[str]:
    """Return the lines of ``nm`` that have an address."""
    return [line for line in text.splitlines() if len(line.split()) == 3]
