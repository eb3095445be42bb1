"""A C program with variables of every kind, its core, and what gdb says of expressions over it."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

from vringcore.debuginfo.find import find_files
from vringcore.debuginfo.provider import DebugInfo
from vringcore.elfcore.core import ElfCore, open_elf_core
from vringcore.layout.store import LayoutStore
from vringcore.memory.files import FileSource
from vringcore.view.views import Views

VARIABLES = r"""
#include <stddef.h>
#include <stdint.h>
#include <stdbool.h>

typedef struct Opaque Opaque;            /* complete in other.c only */
typedef uint64_t hwaddr;
typedef int Number;
enum Colour { RED, GREEN = 5, BLUE };
enum Level { LOW = -1, MIDDLE, HIGH };
typedef enum { RUN_FIRST, RUN_SECOND } RunState;

struct Link { struct Element *le_next; struct Element **le_prev; };
struct Element { int number; struct Link link; short tail; };
struct Double { int number; struct { struct Double *sle_next; } all, some; };
struct Doubles { struct Double *slh_first; };
struct Head { struct Element *lh_first; };

struct S {
    unsigned low : 3; int delta : 5; unsigned long wide : 40; _Bool flag : 1;
    char c; signed char sc; unsigned char uc; short sh; unsigned short us;
    int i; unsigned u; long l; unsigned long ul; long long ll; unsigned long long ull;
    float f; double d; long double ld; _Bool b; enum Colour colour; enum Level level;
    int arr[4]; short grid[2][3]; char text[8]; int *p; void *v; char *name;
    __int128 big; unsigned __int128 ubig;
    struct { int x, y; } point;
    union { int whole; struct { short first, second; }; };
    int (*handler)(int);
    struct S *self; struct S **indirect; Opaque *opaque;
    hwaddr address;
};
"""

DATA = r"""
extern Opaque *make_opaque(void);
extern int handle(int x);
struct S s = {
    .low = 5, .delta = -3, .wide = 0x9911223344, .flag = 1, .c = -2, .sc = -100, .uc = 200,
    .sh = -30000, .us = 60000, .i = -123456789, .u = 4000000000u, .l = -5000000000000000L,
    .ul = 0xfedcba9876543210u, .ll = 77, .ull = 0x8000000000000001u, .f = 1.5f, .d = -2.25,
    .ld = 3.25, .b = 1, .colour = BLUE, .level = LOW, .arr = {10, -20, 30, -40},
    .grid = {{1, -2, 3}, {-4, 5, -6}}, .text = "seven", .p = &s.arr[1], .v = &s.sh,
    .name = "a string", .big = -7, .ubig = 9, .point = {11, -12}, .whole = 0x00070009,
    .handler = handle, .self = &s, .address = 0xfee00000,
};
struct S *sp = &s;
signed char sc = -7; unsigned char uc = 250; short sh = -32768; unsigned short us = 65535;
int i = 2147483647; int minus = -2147483647 - 1; unsigned u = 3000000000u;
long l = -9223372036854775807L - 1; unsigned long ul = 18446744073709551615ul;
int zero; int one = 1; float f = 0.1f; double d = 1e10; _Bool yes = 1; enum Colour colour = GREEN;
const volatile int fixed = 42; Number number = 13; RunState state = RUN_SECOND;
const char *const words[] = {"none", "one", "two"};
enum { UNNAMED_CONSTANT = 77 } unnamed_enum = UNNAMED_CONSTANT;
static volatile int current = 1;
struct Element elements[3] = {
    {1, {&elements[1], 0}, -1}, {2, {&elements[2], 0}, -2}, {3, {0, 0}, -3},
};
struct Head head = {&elements[0]};
struct Double doubles[3] = {
    {1, {&doubles[1]}, {&doubles[2]}}, {2, {&doubles[2]}}, {3, {0}, {&doubles[0]}},
};
struct Doubles all_doubles = {&doubles[0]}, no_doubles;
"""

MAIN_C = (
    '#include "variables.h"\n'
    + DATA
    + r"""
int handle(int x) { static int handled = 3; return x + current + handled++; }
static void done(void) { __asm__ volatile(""); }
int main(void)
{
    s.indirect = &sp;
    s.opaque = make_opaque();
    handle(2);
    done();
    return 0;
}
"""
)

OTHER_C = r"""
#include "variables.h"
struct Opaque { int secret; struct Opaque *next; };
static struct Opaque second = {2, 0}, first = {1, &second};
static volatile int current = 2;
static volatile int only_here = 33;
Opaque *make_opaque(void) { static int made = 9; made += current + only_here; return &first; }
"""

HAVE_TOOLS = bool(shutil.which("gdb") and shutil.which("gcc"))


class Program:
    """The program, built and dumped in a directory.

    :ivar views: the library's view of the core
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.executable = directory / "program"
        self.core = directory / "core"
        for name, text in {
            "variables.h": VARIABLES,
            "main.c": MAIN_C,
            "other.c": OTHER_C,
            "dump.gdb": f"break done\nrun\ngenerate-core-file {self.core}\nkill\n",
        }.items():
            (directory / name).write_text(text)
        run(
            ["gcc", "-g", "-O0", "-w", "-no-pie", "main.c", "other.c", "-o", "program"],
            cwd=directory,
        )
        run(
            ["gdb", "-batch", "-nx", "-x", "dump.gdb", str(self.executable)],
            cwd=directory,
        )
        self._opened: ElfCore = open_elf_core(str(self.core))
        provider = DebugInfo(find_files("", str(self.executable)))
        layouts = LayoutStore().layouts("", [provider], pointer_size=8)
        self._file = FileSource.open(str(self.executable))
        space = self._opened.with_files({str(self.executable): self._file})
        self.views = Views(space, layouts, 0, NoNames())

    def close(self) -> None:
        """Close the files."""
        self._file.close()
        self._opened.close()


class NoNames:
    """A process without names."""

    def lookup(self, address: int) -> tuple[str, int] | None:
        return None


def run(command: list[str], *, cwd: Path) -> str:
    """Run a command and return what it printed."""
    return subprocess.run(
        command, cwd=cwd, check=True, capture_output=True, text=True, timeout=300
    ).stdout


_ASK = r"""
import gdb, json

def bits(value):
    kind = value.type.strip_typedefs().code
    if kind == gdb.TYPE_CODE_FLT:
        return {"float": repr(float(value.cast(gdb.lookup_type("double"))))}
    if kind in (gdb.TYPE_CODE_INT, gdb.TYPE_CODE_ENUM, gdb.TYPE_CODE_BOOL, gdb.TYPE_CODE_CHAR,
                gdb.TYPE_CODE_PTR):
        return {"integer": int(value)}
    return {"address": None if value.address is None else int(value.address)}

def answer(text):
    try:
        value = gdb.parse_and_eval(text)
        return {"type": str(value.type), "size": value.type.sizeof, **bits(value)}
    except gdb.MemoryError as error:
        return {"unreadable": str(error)}
    except gdb.error as error:
        return {"error": str(error)}

asked = json.load(open(ASKED))
json.dump([answer(text) for text in asked], open(ANSWERS, "w"))
"""


def ask_gdb(
    executable: Path, core: Path, expressions: list[str], directory: Path
) -> list[dict[str, Any]]:
    """Return what gdb makes of expressions over a core: type and number, place, or an error."""
    asked, answers, script = (directory / n for n in ("asked.json", "answers.json", "ask.py"))
    asked.write_text(json.dumps(expressions))
    script.write_text(f"ASKED, ANSWERS = {str(asked)!r}, {str(answers)!r}\n" + _ASK)
    run(["gdb", "-batch", "-nx", "-x", str(script), str(executable), str(core)], cwd=directory)
    found: list[dict[str, Any]] = json.loads(answers.read_text())
    return found
