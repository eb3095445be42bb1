"""C programs shaped like QEMU's structures, compiled when a test asks for them.

Every variant is the same two sources, so that a reader must give the same answers for all of them.
"""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

QUEUE_H = """
#include <stddef.h>
#include <stdint.h>
#include <stdbool.h>

#define QTAILQ_HEAD(name, type) \
    union name { struct type *tqh_first; struct Link tqh_circ; }
#define QTAILQ_ENTRY(type) \
    union { struct type *tqe_next; struct Link tqe_circ; }
#define QLIST_HEAD(name, type) struct name { struct type *lh_first; }

struct Link { void *tql_next; struct Link *tql_prev; };

typedef uint64_t hwaddr;
typedef struct VirtQueue VirtQueue;      /* complete in queue.c only */
typedef struct VirtIODevice VirtIODevice;
typedef void (*VirtIOHandleOutput)(VirtIODevice *, VirtQueue *);
typedef int Reported(const char *, ...);

typedef enum { RUN_PRELAUNCH, RUN_RUNNING = 4, RUN_PAUSED } RunState;
enum Signed { MINUS = -2, ZERO, BIG = 0x7fffffff };
enum Wide { WIDE = 0xffffffffu, WIDER = 0x1ffffffffLL };
enum __attribute__((packed)) Narrow { NARROW = 200 };

typedef struct Object {
    struct ObjectClass *class;
    void (*free)(void *obj);
    uint32_t ref;
    struct Object *parent;
} Object;

struct VirtIODevice {
    Object parent_obj;
    const char *name;
    uint8_t status;
    _Bool broken : 1, started : 1;
    unsigned phase : 3;
    int : 0;
    signed delta : 5;
    uint64_t wide : 40;
    uint64_t top : 24;
    union {
        uint64_t guest_features;
        uint32_t guest_features_array[2];
        struct { uint16_t low, high; };
    };
    struct { int32_t a; union { char b; short c; }; } named;
    VirtQueue *vq;
    VirtIOHandleOutput handle;
    Reported *report;
    Reported *const reports[3];
    RunState state;
    enum Signed sign;
    enum Wide word;
    enum Narrow narrow;
    volatile int32_t const_volatile;
    _Atomic(int) counter;
    const char *const *restrict names;
    int matrix[2][3][4];
    char tag[16];
    unsigned char mac[6];
    __int128 big;
    long double precise;
    double complex_[2];
    float ratio;
    QTAILQ_HEAD(DeviceHead, VirtIODevice) children;
    QTAILQ_ENTRY(VirtIODevice) next;
    struct VirtIODevice *table[];
};

struct __attribute__((packed)) Packed { uint8_t a; uint32_t b; uint16_t c : 9; uint16_t d : 7; };
struct Empty { };
struct ZeroLength { int n; struct Link none[0]; };
struct Aligned { char c; } __attribute__((aligned(64)));
typedef int Vector __attribute__((vector_size(16)));
struct Vectors { Vector v; };

/* Only behind a typedef of an anonymous struct, as CoroutineUContext is. */
typedef struct {
    Object base;
    void *stack;
    size_t stack_size;
    struct { long env[8]; } jump;
} CoroutineUContext;
typedef union { int64_t i; double d; } Anonymous;
typedef const volatile CoroutineUContext *ContextPointer;

extern VirtIODevice first_device;
extern VirtQueue *queues;
extern _Thread_local int thread_number;
VirtQueue *make_queue(int index);
Object *object_get_root(void);
int step(int by);
"""

QUEUE_C = """
#include "queue.h"

typedef struct VRing { unsigned int num, num_default, align; hwaddr desc, avail, used; } VRing;
struct VirtQueue {
    VRing vring;
    uint16_t last_avail_idx;
    bool last_avail_wrap_counter;
    uint16_t queue_index;
    unsigned int inuse;
    VirtIODevice *vdev;
    QLIST_HEAD(, VirtQueue) node;
};
struct Private { int only_here; char queue; };   /* another file has one of the same name */

static VirtQueue storage[4];
VirtQueue *queues = storage;
static int current = 1;
static volatile int folded = 1;
static volatile QTAILQ_HEAD(, VirtIODevice) virtio_list = { 0 };
_Thread_local int thread_number = 7;
static _Thread_local long local_number;
struct Private private_queue = { 3, 'q' };

__attribute__((noinline)) VirtQueue *make_queue(int index)
{
    static int made;
    made++;
    local_number += index;
    current += made + folded;
    return &storage[index & 3];
}

static inline Object *root_of(int which)
{
    static Object *root;
    static Object objects[2];
    if (!root) {
        int again = which + current;
        root = &objects[again & 1];
    }
    return root;
}

Object *object_get_root(void)
{
    static Object *root;
    if (!root) {
        static Object only;
        root = root_of(1) ? &only : NULL;
    }
    return root;
}

void *first_in_list(void) { return virtio_list.tqh_first; }
"""

MAIN_C = """
#include "queue.h"

struct Private { double other_file; };
static volatile struct Private secret;
static volatile int current = 2;
static int folded = 2;   /* never written: a constant to the compiler */
static volatile struct { int x, y; } unnamed_variable = { 1, 2 };
CoroutineUContext context;
Anonymous anonymous;
ContextPointer context_pointer = &context;
struct Packed packed;
struct Empty empty;
struct ZeroLength zero_length;
struct Aligned aligned;
struct Vectors vectors;
VirtIODevice first_device = { .name = "virtio-blk" };
extern int weak_name __attribute__((weak));
int strong_name = 5;
extern int alias_name __attribute__((alias("strong_name")));

__attribute__((noinline)) int step(int by)
{
    static int total;
    { static char total_in_block; total_in_block += by; total += total_in_block; }
    return total + current + folded;
}

int main(int argc, char **argv)
{
    struct Local { int in_function; } local = { argc };
    secret.other_file = argc;
    unnamed_variable.x = step(argc);
    first_device.vq = make_queue(argc);
    thread_number += local.in_function;
    return object_get_root() == 0 && argv == 0 && &weak_name != 0 && alias_name;
}
"""

SOURCES = {"queue.h": QUEUE_H, "queue.c": QUEUE_C, "main.c": MAIN_C}

BUILD_ID = "0123456789abcdef0123456789abcdef01234567"


@dataclass(frozen=True)
class Variant:
    """One way to build the program.

    ``steps`` run after linking; ``{exe}`` is the program, ``{debug}`` a file for its debug
    information, ``{dir}`` the directory. ``needs`` are tools beside the compiler and the steps'.
    """

    name: str
    compiler: str = "gcc"
    flags: tuple[str, ...] = ("-g",)
    steps: tuple[tuple[str, ...], ...] = ()
    needs: tuple[str, ...] = ()

    def missing_tool(self) -> str:
        """Return the name of a tool that this machine lacks, "" if it has them all."""
        tools = [self.compiler, *(step[0] for step in self.steps), *self.needs]
        return next((tool for tool in tools if find_tool(tool) is None), "")


def find_tool(name: str) -> str | None:
    """Return the path of a tool; a compiler may be installed under its versioned name only."""
    versions = (name, *(f"{name}-{number}" for number in range(22, 10, -1)))
    return next((path for v in versions if (path := shutil.which(v)) is not None), None)


BARE = ("-ffreestanding", "-nostdlib", "-static", "-Wl,-e,main")
"""Without a C library: the machine may have none for the other word size."""

SPLIT = (
    ("objcopy", "--only-keep-debug", "{exe}", "{debug}"),
    ("objcopy", "--strip-debug", "--add-gnu-debuglink={debug}", "{exe}"),
)

SAME_ANSWERS = (
    Variant("gcc-dwarf3", flags=("-gdwarf-3",)),
    Variant("gcc-dwarf4", flags=("-gdwarf-4",)),
    Variant("gcc-dwarf5", flags=("-gdwarf-5",)),
    Variant("gcc-dwarf5-O0", flags=("-gdwarf-5", "-O0")),
    Variant("gcc-strict-dwarf2", flags=("-gdwarf-2", "-gstrict-dwarf")),
    Variant("gcc-zlib", flags=("-g", "-gz=zlib")),
    Variant("gcc-zlib-gnu", flags=("-g", "-gz=zlib-gnu")),
    Variant("gcc-zstd", steps=(("objcopy", "--compress-debug-sections=zstd", "{exe}"),)),
    Variant("gcc-ffunction-sections", flags=("-g", "-ffunction-sections", "-fdata-sections")),
    Variant("gcc-m32", flags=("-g", "-m32", "-D__int128=long", *BARE)),
    Variant("gcc-static-pie", flags=("-g", "-fpie", "-pie")),
    Variant("gcc-dwz", steps=(("dwz", "{exe}"),)),
    Variant("gcc-split-file", steps=SPLIT),
    Variant("clang-dwarf3", "clang", ("-gdwarf-3", "-fno-eliminate-unused-debug-types")),
    Variant("clang-dwarf4", "clang", ("-gdwarf-4", "-fno-eliminate-unused-debug-types")),
    Variant("clang-dwarf5", "clang", ("-gdwarf-5", "-fno-eliminate-unused-debug-types")),
)
"""All of these describe the same types and variables."""


TYPE_UNITS = (
    Variant("gcc-dwarf4-type-units", flags=("-gdwarf-4", "-fdebug-types-section")),
    Variant("gcc-dwarf5-type-units", flags=("-gdwarf-5", "-fdebug-types-section")),
)
"""Types by signature, in units without a name: a file's private type cannot be told by file."""

MORE_FORMATS = (
    Variant("gcc-dwarf4-64bit", flags=("-gdwarf-4", "-gdwarf64")),
    Variant("gcc-dwarf5-64bit", flags=("-gdwarf-5", "-gdwarf64")),
    Variant(
        "clang-dwarf5-type-units",
        "clang",
        ("-gdwarf-5", "-fdebug-types-section", "-fno-eliminate-unused-debug-types"),
    ),
)

OTHER_MACHINES = tuple(
    Variant(
        f"clang-{machine}-{dwarf}",
        "clang",
        (
            f"--target={machine}-linux-gnu",
            f"-gdwarf-{dwarf}",
            "-D__int128=long",
            "-fuse-ld=lld",
            *BARE,
        ),
        needs=("ld.lld",),
    )
    for machine in ("mips64", "mips", "powerpc64", "aarch64")
    for dwarf in ("3", "5")
)
"""64 and 32 bits with the most significant byte first, and another machine of our own order."""

LINK_TIME = (
    Variant("gcc-lto", flags=("-g", "-flto")),
    Variant("clang-lto", "clang", ("-gdwarf-5", "-flto")),
)
"""Variables may be merged or gone; what is left must be right."""

SPLIT_UNITS = (
    Variant("gcc-dwarf4-split-dwarf", flags=("-gdwarf-4", "-gsplit-dwarf")),
    Variant("gcc-dwarf5-split-dwarf", flags=("-gdwarf-5", "-gsplit-dwarf")),
    Variant(
        "clang-dwarf4-split-dwarf",
        "clang",
        ("-gdwarf-4", "-gsplit-dwarf", "-fno-eliminate-unused-debug-types"),
    ),
    Variant(
        "clang-dwarf5-split-dwarf",
        "clang",
        ("-gdwarf-5", "-gsplit-dwarf", "-fno-eliminate-unused-debug-types"),
    ),
)
"""The types are in ``.dwo`` files."""

_PACKAGES = {
    "gcc-dwarf4-split-dwarf": ("dwp", "-e", "{exe}"),
    "clang-dwarf4-split-dwarf": ("dwp", "-e", "{exe}"),
    "clang-dwarf5-split-dwarf": ("llvm-dwp", "-e", "{exe}", "-o", "{exe}.dwp"),
}

PACKAGED = tuple(
    Variant(
        f"{v.name}-dwp",
        v.compiler,
        v.flags,
        (_PACKAGES[v.name], ("sh", "-c", "rm {dir}/*.dwo")),
    )
    for v in SPLIT_UNITS
    if v.name in _PACKAGES
)
"""The same in one ``.dwp``. Of GCC's DWARF 5 there is none: binutils 2.40's dwp crashes on it, and
llvm-dwp 14 does not end."""


def compile_program(variant: Variant, directory: Path) -> Path:
    """Build a variant in a directory and return the program's path."""
    for name, text in SOURCES.items():
        (directory / name).write_text(text)
    program = directory / "program"
    compiler = find_tool(variant.compiler) or variant.compiler
    command = [compiler, "-O1", "-w", "-fno-common", *variant.flags, f"-Wl,--build-id=0x{BUILD_ID}"]
    subprocess.run(
        [*command, "queue.c", "main.c", "-o", str(program)],
        cwd=directory, check=True, capture_output=True, text=True,
    )  # fmt: skip
    places = {"exe": str(program), "debug": str(program) + ".debug", "dir": str(directory)}
    for step in variant.steps:
        subprocess.run(
            [word.format(**places) for word in step],
            cwd=directory, check=True, capture_output=True, text=True, timeout=60,
        )  # fmt: skip
    return program
