"""A C program of inlined, parted and nested functions in several files, built in many ways."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

from tests.synth.programs import Variant, find_tool

if TYPE_CHECKING:
    from pathlib import Path

INLINES_H = r"""
static inline __attribute__((always_inline)) int twice(volatile int *place)
{
    *place += 2;
    return *place * 2;
}

static inline __attribute__((always_inline)) int around(volatile int *place, int times)
{
    int sum = 0;
    for (int i = 0; i < times; i++) {
        int more = twice(place);
        if (more > 100) {
            sum += more;
        }
        sum += twice(place) + i;
    }
    return sum;
}

static inline int perhaps(volatile int *place, int limit)
{
    if (*place > limit) {
        return around(place, limit);
    }
    return twice(place) - limit;
}

int other(volatile int *place, int number);
int parted(volatile int *place, int number);
extern int (*volatile called)(volatile int *, int);
"""

TEMPLATE_INC = r"""
static __attribute__((noinline)) int NAME(volatile int *place, int number)
{
    int result = perhaps(place, number) TIMES;
    return result + around(place, number & 7);
}
"""

FIRST_C = r"""
#include "inlines.h"

#define NAME by_three
#define TIMES * 3
#include "sub/template.inc"
#undef NAME
#undef TIMES
#define NAME by_shift
#define TIMES << (number & 3)
#include "sub/template.inc"

int (*volatile called)(volatile int *, int) = other;

static __attribute__((cold, noinline)) void seldom(volatile int *place) { *place = 0; }

int parted(volatile int *place, int number)
{
    if (__builtin_expect(*place < number, 0)) {
        seldom(place);
        seldom(place);
        return around(place, number) + called(place, 1);
    }
    switch (number) {
    case 1: return twice(place);
    case 2: return perhaps(place, 2) + by_three(place, number);
    case 3: return called(place, 3);
    case 17: return by_shift(place, 5);
    case 99: return around(place, *place);
    default: break;
    }
    return number;
}

#ifdef NESTED
__attribute__((noinline)) int holds_nested(volatile int *place, int number)
{
    auto int __attribute__((noinline)) nested(int by);
    int nested(int by) { *place += number; return twice(place) + by; }
    return nested(number) + nested(3) + perhaps(place, number);
}
#endif

int never_called(volatile int *place) { return around(place, 3) + twice(place); }

#line 500 "generated/grammar.y"
int from_grammar(volatile int *place, int number)
{
    while (number--) {
        called(place, twice(place));
    }
    return number;
}

int main(int argc, char **argv)
{
    volatile int place = argc;
    int sum = parted(&place, argc) + from_grammar(&place, argc);
#ifdef NESTED
    sum += holds_nested(&place, argc);
#endif
    return sum + other(&place, argv != 0);
}
"""

SECOND_C = r"""
#include "inlines.h"

int other(volatile int *place, int number)
{
    if (number > 1) {
        return other(place, number - 1) + perhaps(place, number);
    }
    return number + around(place, 4);
}
"""

SOURCES = {
    "inlines.h": INLINES_H, "sub/template.inc": TEMPLATE_INC, "first.c": FIRST_C,
    "second.c": SECOND_C,
}  # fmt: skip

BARE = ("-ffreestanding", "-nostdlib", "-static", "-Wl,-e,main")
SECTIONS = ("-ffunction-sections", "-fdata-sections", "-Wl,--gc-sections")

VARIANTS = (
    Variant("gcc-dwarf2", flags=("-gdwarf-2",)),
    Variant("gcc-dwarf3", flags=("-gdwarf-3",)),
    Variant("gcc-dwarf4", flags=("-gdwarf-4", "-DNESTED")),
    Variant("gcc-dwarf5", flags=("-gdwarf-5", "-DNESTED")),
    Variant("gcc-dwarf5-O0", flags=("-gdwarf-5", "-O0", "-DNESTED")),
    Variant("gcc-dwarf5-O3", flags=("-gdwarf-5", "-O3")),
    Variant("gcc-dwarf4-64bit", flags=("-gdwarf-4", "-gdwarf64")),
    Variant("gcc-dwarf5-64bit", flags=("-gdwarf-5", "-gdwarf64")),
    Variant("gcc-internal-tables", flags=("-gdwarf-5", "-gno-as-loc-support")),
    Variant("gcc-sections-4", flags=("-gdwarf-4", *SECTIONS)),
    Variant("gcc-sections-5", flags=("-gdwarf-5", *SECTIONS)),
    Variant("gcc-zlib", flags=("-g", "-gz=zlib")),
    Variant("gcc-zstd", steps=(("objcopy", "--compress-debug-sections=zstd", "{exe}"),)),
    Variant("gcc-lto", flags=("-g", "-flto")),
    Variant("gcc-m32", flags=("-g", "-m32", *BARE)),
    Variant("gcc-dwz", steps=(("dwz", "{exe}"),)),
    Variant("gcc-type-units", flags=("-gdwarf-4", "-fdebug-types-section")),
    Variant("clang-dwarf4", "clang", ("-gdwarf-4",)),
    Variant("clang-dwarf5", "clang", ("-gdwarf-5",)),
    Variant("clang-dwarf5-lld", "clang", ("-gdwarf-5", "-fuse-ld=lld", *SECTIONS), (), ("ld.lld",)),
    Variant("clang-lto", "clang", ("-gdwarf-5", "-flto")),
)

STRICT = Variant("gcc-strict-dwarf2", flags=("-gdwarf-2", "-gstrict-dwarf"))
"""It has no way to say where a function that is in two pieces was inlined."""


def build_program(variant: Variant, directory: Path) -> Path:
    """Build the program in a directory and return its path."""
    (directory / "sub").mkdir(exist_ok=True)
    for name, text in SOURCES.items():
        (directory / name).write_text(text)
    program = directory / "program"
    compiler = find_tool(variant.compiler) or variant.compiler
    commands = [[compiler, "-O2", "-w", *variant.flags, "first.c", "second.c", "-o", str(program)]]
    commands += [[word.format(exe=program) for word in step] for step in variant.steps]
    for command in commands:
        subprocess.run(command, cwd=directory, check=True, capture_output=True, text=True)
    return program
