from __future__ import annotations

from pathlib import Path

import pytest

from tests.unwind.support import compile_c

FUNCTIONS = """
#include <alloca.h>
#include <string.h>
#include <stdarg.h>
int other(void *, long, long, long, long, long, long, long);
int leaf(int a) { return a * 3; }
int frame(int a) { char b[100]; memset(b, a, sizeof b); return other(b, 1, 2, 3, 4, 5, 6, 7) + a; }
int dynamic(int n) { char *b = alloca(n); return other(b, n, 2, 3, 4, 5, 6, n) + b[n / 2]; }
int aligned(int n) {
    char b[64] __attribute__((aligned(64)));
    char *d = alloca(n);
    return other(b, (long)d, 2, 3, 4, 5, 6, n) + b[3] + d[1];
}
int early(int a, int b, int c, int d, int e, int f) {
    if (a) return b;
    for (int i = 0; i < c; i++) a += other(&a, b, c, d, e, f, i, a) * d + e * f;
    if (a > 7) __builtin_trap();
    return other(&b, a, b, c, d, e, f, 1) + a * b * c * d * e * f;
}
int sum(int n, ...) {
    va_list list;
    va_start(list, n);
    int s = 0;
    while (n--) s += other(&s, va_arg(list, int), n, 1, 2, 3, 4, 5);
    va_end(list);
    return s;
}
"""

OPTIONS = {
    "O2": ["-O2"],
    "O2-frame-pointer": ["-O2", "-fno-omit-frame-pointer"],
    "O0": ["-O0"],
    "Os": ["-Os"],
    "O3-no-red-zone": ["-O3", "-mno-red-zone", "-fno-plt"],
}


@pytest.fixture(scope="session", params=OPTIONS)
def library(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A shared object of functions with all kinds of frames."""
    target = tmp_path_factory.mktemp("cfi") / f"{request.param}.so"
    return compile_c(FUNCTIONS, target, "-shared", "-fPIC", *OPTIONS[request.param])


@pytest.fixture(scope="session")
def arm_library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same for aarch64, return addresses signed."""
    import shutil

    compiler = next(filter(None, map(shutil.which, ("clang", "clang-14"))), None)
    if compiler is None or not any(map(shutil.which, ("ld.lld", "ld.lld-14"))):
        pytest.skip("no clang and lld to compile for aarch64")
    source = FUNCTIONS.replace("#include <alloca.h>", "#define alloca __builtin_alloca")
    source = source.replace("#include <string.h>", "void *memset(void *, int, unsigned long);")
    target = tmp_path_factory.mktemp("cfi") / "arm.so"
    return compile_c(
        source,
        target,
        *("--target=aarch64-linux-gnu", "-fuse-ld=lld", "-nostdlib", "-shared", "-fPIC", "-O2"),
        *("-mbranch-protection=standard", "-fasynchronous-unwind-tables"),
        compiler=compiler,
    )
