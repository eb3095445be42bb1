"""Expressions built at random evaluate as a C compiler evaluates them on the same bytes."""

from __future__ import annotations

import struct
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tests.expr.program import MAIN_C, run
from vringcore.errors import VringcoreError
from vringcore.expr.evaluate import evaluate
from vringcore.expr.parse import parse
from vringcore.expr.scalars import is_float, is_signed

if TYPE_CHECKING:
    from pathlib import Path

    from tests.expr.program import Program

# What gdb has of another type than C is cast: bit-fields, enumerators, characters, sizeof.
INTEGERS = [
    "(int)s.low", "(int)s.delta", "(long)s.wide", "(int)s.flag", "s.c", "s.sc", "s.uc", "s.sh",
    "s.us", "s.i", "s.u", "s.l", "s.ul", "s.ll", "s.ull", "s.b", "s.colour", "s.level",
    "s.address", "number", "state", "fixed", "(int)GREEN", "(int)'a'", "(int)sizeof(s)", "sc", "uc",
    "sh", "us", "i", "minus", "u", "l", "ul", "zero", "one", "yes", "7", "3u", "2l", "5ul",
    "0xffffffff", "2147483648", "0x8000000000000000", "017", "s.point.x", "sp->point.y",
    "s.first", "s.whole", "elements[1].number", "head.lh_first->link.le_next->tail",
    "s.self->self->arr[3]", "s.grid[1][2]", "**s.grid", "s.text[2]", "*words[1]",
    "(*s.indirect)->i", "*s.p", "s.p[1]", "s.p[-1]",
]  # fmt: skip
FLOATS = ["s.f", "s.d", "f", "d", "1.5", "2.5f", "1e3", ".125"]
POINTERS = ["s.p", "s.arr", "&s.arr[3]", "(s.arr + 2)", "&s.p[1]", "*&s.p"]
CASTS = [
    "char", "signed char", "unsigned char", "short", "unsigned short", "int", "unsigned", "long",
    "unsigned long", "long long", "_Bool", "hwaddr", "Number", "enum Level", "enum Colour",
]  # fmt: skip
COMPARISONS = ["==", "!=", "<", "<=", ">", ">="]


def _operators(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    """Combine expressions so that C leaves nothing open: no division by zero, no wild shift."""

    def form(pattern: str, *parts: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
        return st.tuples(*parts).map(lambda found: pattern.format(*found))

    sign = st.sampled_from(["+", "-", "*", "&", "|", "^", *COMPARISONS, "&&", "||", ","])
    compared = st.sampled_from(COMPARISONS)
    pointers = st.sampled_from(POINTERS)
    floats = st.sampled_from(FLOATS)
    return st.one_of(
        form("({} {} {})", inner, sign, inner),
        form("({} / ((({}) & 7) + 1))", inner, inner),
        form("({} % ((int)(({}) & 7) - 9))", inner, inner),
        form("({} {} (({}) & 31))", inner, st.sampled_from(["<<", ">>"]), inner),
        form("{}({})", st.sampled_from(["-", "+", "~", "!", "- -"]), inner),
        form("({})({})", st.sampled_from(CASTS), inner),
        form("({} ? (long)({}) : (long)({}))", inner, inner, inner),
        form("({} {} {})", pointers, compared, pointers),
        form("(int)({} - {})", pointers, pointers),
        form("s.arr[({}) & 3]", inner),
        form("*(s.arr + (({}) & 3))", inner),
        form("({} {} {})", floats, compared, inner),
        form("(({} {} {}) > {})", floats, st.sampled_from(["+", "-", "*"]), inner, floats),
        form("((float)({}) == {})", inner, floats),
    )


expressions = st.recursive(st.sampled_from(INTEGERS), _operators, max_leaves=8)

_PRINT = r"""
#define INTEGER(e) do { __typeof__(e) v = (e); unsigned __int128 w = (unsigned __int128)v; \
    printf("%d %d %llx %llx\n", (int)sizeof v, (__typeof__(v))-1 < 0, \
        (unsigned long long)(w >> 64), (unsigned long long)w); } while (0)
#define FLOATING(e) do { __typeof__(e) v = (e); double w = v; \
    printf("%d %.17g\n", (int)sizeof v, w); } while (0)
"""


def compiled(program: Program, directory: Path, lines: list[str]) -> list[list[str]]:
    """Compile and run statements over the program's variables; return what they printed."""
    main = MAIN_C[: MAIN_C.index("int main(void)")].replace(
        '#include "variables.h"', '#include "variables.h"\n#include <stdio.h>' + _PRINT
    )
    body = "\n".join(lines)
    source = directory / "many.c"
    source.write_text(
        f"{main}int main(void) {{\n s.indirect = &sp; s.opaque = make_opaque();\n{body}\n}}\n"
    )
    # -fwrapv: signed integers wrap, as they do for gdb.
    sources = [str(source), str(program.directory / "other.c")]
    run(["gcc", "-w", "-fwrapv", f"-I{program.directory}", *sources, "-o", "many"], cwd=directory)
    return [line.split() for line in run(["./many"], cwd=directory).splitlines()]


@settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(expressions, min_size=60, max_size=60))
def test_integers_as_compiled(program: Program, tmp_path_factory: Any, asked: list[str]) -> None:
    directory = tmp_path_factory.mktemp("many")
    printed = compiled(program, directory, [f"INTEGER({text});" for text in asked])
    layouts = program.views.layouts
    for text, (size, signed, high, low) in zip(asked, printed, strict=True):
        value = evaluate(program.views, text)
        type_ = layouts.resolve(value.type)
        word = int.from_bytes(value.data(), "little", signed=is_signed(type_)) % (1 << 128)
        assert (value.size, word) == (int(size), int(high, 16) << 64 | int(low, 16)), text
        assert is_signed(type_) == (signed == "1"), text


floats = st.recursive(
    st.sampled_from([*FLOATS, *(f"(float){text}" for text in INTEGERS)]),
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from("+-*/"), inner).map(" ".join).map("({})".format),
        st.tuples(inner, st.sampled_from("+-*/"), st.sampled_from(["s.l", "ul", "s.i", "3u"]))
        .map(" ".join)
        .map("({})".format),
        inner.map("-({})".format),
        inner.map("(double)({})".format),
        inner.map("(float)({})".format),
    ),
    max_leaves=6,
)


@settings(max_examples=6, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(floats, min_size=60, max_size=60))
def test_floating_numbers_as_compiled(
    program: Program, tmp_path_factory: Any, asked: list[str]
) -> None:
    directory = tmp_path_factory.mktemp("many")
    printed = compiled(program, directory, [f"FLOATING({text});" for text in asked])
    for text, (size, number) in zip(asked, printed, strict=True):
        value = evaluate(program.views, text)
        assert is_float(program.views.layouts.resolve(value.type))
        ours = struct.unpack("<f" if value.size == 4 else "<d", value.data())[0]
        assert (value.size, repr(ours)) == (int(size), repr(float(number))), text


WORDS = st.sampled_from(
    ["s", "sp", "i", "head", "elements", "(", ")", "[", "]", ".", "->", "*", "&", "-", "+", "/",
     "%", "<<", ">>", "~", "!", "?", ":", ",", "@", "::", "{", "}", "==", "&&", "||", "sizeof",
     "int", "struct", "S", "unsigned", "char", "void", "const", "...", "0", "1", "9", "1.5", "'a'",
     "'main.c'", "handle", '"x"', "arr", "p", "opaque", "container_of", "offsetof", "Opaque", "="]
)  # fmt: skip


@settings(max_examples=1500, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.one_of(st.lists(WORDS, max_size=24).map(" ".join), st.text(max_size=40)))
@example("s" + ".self" * 149 + ".i")
@example("s" + ".self" * 5000)
@example("(" * 9000)
@example("-" * 9000 + "1")
@example("sizeof " * 1800 + "1")
@example("1" + "+1" * 8000)
@example("(int" + "*" * 9000 + ")0")
@example("(int" + "(*" * 4000)
@example("(int" + "[1]" * 5000 + ")0")
@example("1 ? " * 3000)
@example("s[" * 4000)
@example("1 @ 99999999999999999999")
@example("s.arr[0] @ 1000000")
@example("s.arr[18446744073709551615]")
@example("1.0e308 * 1e308")
@example("(long)(1e308 * 10)")
@example("1e99999999")
@example("0x" + "f" * 9000)
@example("9" * 9000)
@example("container_of(sp, struct S, arr[99999999999999999999])")
@example("sizeof(char[4294967296][4294967296])")
def test_any_text_gives_a_value_or_one_of_our_errors(program: Program, text: str) -> None:
    with suppress(VringcoreError):
        evaluate(program.views, text)


@given(st.one_of(expressions, floats))
def test_every_node_says_where_it_stands(program: Program, text: str) -> None:
    layouts = program.views.layouts
    # Whether `(hwaddr)(x)` is a cast or a call, only the types tell.
    tree = parse(text, lambda name: layouts.find_definition(f"typedef {name}") is not None)
    assert 0 <= tree.at < len(text)
