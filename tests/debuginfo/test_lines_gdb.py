"""File and line of code addresses, each equal to gdb's."""

from __future__ import annotations

import os
import random
import subprocess
from pathlib import Path

import pytest

from tests.debuginfo.line_oracles import code_addresses, gdb_frames, our_frames
from tests.lab.paths import lab_root

QEMU = lab_root() / "qemu" / "7.2" / "qemu-system-x86_64"

SAMPLED = 8000

TAIL_CALLS = """
#include <stdlib.h>
typedef int Step(volatile int *, int);
static inline int twice(volatile int *place) { return 2 * *place; }
__attribute__((noinline)) static int last(volatile int *place, int n) {
    if (n < 0) { abort(); }
    return *place += twice(place) + n;
}
__attribute__((noinline)) static int odd(volatile int *, int);
__attribute__((noinline)) static int even(volatile int *place, int n) {
    *place += n;
    return n == 0 ? last(place, n) : odd(place, n - 1);
}
__attribute__((noinline)) static int odd(volatile int *place, int n) {
    for (int i = 0; i < n; i++) { *place -= twice(place); }
    return n == 0 ? last(place, -1) : even(place, n - 1);
}
__attribute__((noinline)) static int deep(volatile int *place, int n) {
    if (n == 0) { return even(place, 3); }
    return deep(place, n - 1) + twice(place);
}
__attribute__((noinline)) static int through(Step *step, volatile int *place) {
    return step(place, 5);
}
int main(int argc, char **argv) {
    volatile int place = argc;
    return through(argv ? deep : odd, &place) + deep(&place, argc);
}
"""


def unequal(program: Path, addresses: list[int], scratch: Path) -> list[object]:
    """Return the addresses whose innermost file and line are not gdb's."""
    found: list[object] = []
    ours = our_frames(program, addresses)
    for address, mine, theirs in zip(
        addresses, ours, gdb_frames(program, addresses, scratch), strict=True
    ):
        file, line = theirs[0][1:] if theirs else ("", 0)
        first = mine[0] if mine else None
        if first is None or not first.line:
            same = not line
        else:
            same = first.line == line and same_file(first.path, first.directory, file)
        if not same:
            found.append((hex(address), mine, theirs))
    return found


def same_file(path: str, directory: str, file: str) -> bool:
    """Tell whether gdb's name, which may count from where the compiler ran, is that path."""
    return os.path.normpath(path) == os.path.normpath(os.path.join(directory, file))


@pytest.mark.usefixtures("gdb")
@pytest.mark.parametrize("flags", ["-O2", "-O2 -gdwarf-4", "-O3", "-O1 -gdwarf-3"])
def test_every_address_of_a_program_of_tail_calls(flags: str, tmp_path: Path) -> None:
    (tmp_path / "calls.c").write_text(TAIL_CALLS)
    program = tmp_path / "calls"
    command = ["gcc", "-g", *flags.split(), "calls.c", "-o", str(program)]
    subprocess.run(command, cwd=tmp_path, check=True)
    addresses = list(code_addresses(program))
    assert len(addresses) > 300
    assert unequal(program, addresses, tmp_path) == []


@pytest.mark.lab
@pytest.mark.usefixtures("gdb")
def test_addresses_of_qemu(tmp_path: Path) -> None:
    if not QEMU.exists():
        pytest.skip(f"no {QEMU}: run `python -m tests.lab`")
    addresses = sorted(random.Random(7).sample(code_addresses(QEMU), SAMPLED))
    assert unequal(QEMU, addresses, tmp_path) == []
    print(f"{SAMPLED} addresses of QEMU 7.2: file and line equal gdb's")
