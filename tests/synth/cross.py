"""Programs for other machines: compiled crosswise, run under user emulation, ending in a core.

The cores are real ones of an emulated Linux process, as qemu-user writes them: no NT_FILE, and of
each ELF file the first segment, with its text, is left out. Debian's cross compilers and
qemu-user-static are all that is needed.
"""

from __future__ import annotations

import resource
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

NEEDED = "gcc-{} libc6-dev-{}-cross qemu-user-static gdb-multiarch"


@dataclass(frozen=True)
class Machine:
    """A machine that this one is not.

    :ivar name: as the library calls it
    :ivar triplet: of the compiler
    :ivar emulator: the word in the emulator's name
    :ivar package: the word in the names of Debian's packages
    :ivar options: of the emulator
    """

    name: str
    triplet: str
    emulator: str
    package: str
    big_endian: bool
    options: tuple[str, ...] = ()

    @property
    def compiler(self) -> str:
        """The C compiler's name."""
        return f"{self.triplet}-gcc"

    @property
    def root(self) -> Path:
        """Where the machine's libraries are."""
        return Path("/usr") / self.triplet

    @property
    def missing(self) -> str:
        """What to install before this machine can be had; "" if all is there."""
        tools = (self.compiler, f"qemu-{self.emulator}-static", "gdb-multiarch")
        if all(map(shutil.which, tools)):
            return ""
        return "apt-get install " + NEEDED.format(self.triplet, self.package)

    @property
    def debugger(self) -> list[str]:
        """A gdb that reads its cores."""
        return ["gdb-multiarch", "-batch", "-nx", "-iex", f"set sysroot {self.root}"]


_ARM_CPU = ("-cpu", "max,sve=off,sme=off")
"""Signs return addresses; gdb 13 reads no further than a signal's frame with vector registers."""

AARCH64 = Machine("aarch64", "aarch64-linux-gnu", "aarch64", "arm64", False, _ARM_CPU)
S390X = Machine("s390x", "s390x-linux-gnu", "s390x", "s390x", True)
PPC64 = Machine("ppc64", "powerpc64-linux-gnu", "ppc64", "ppc64", True)
MACHINES = (AARCH64, S390X, PPC64)


def compile_c(machine: Machine, source: str, directory: Path, *options: str) -> Path:
    """Compile a program, not position-independent: gdb can place no other in such a core."""
    code, program = directory / "program.c", directory / "program"
    code.write_text(source)
    command = [machine.compiler, "-g", "-w", "-no-pie", *options, str(code), "-o", str(program)]
    subprocess.run(command, check=True, capture_output=True, timeout=120)
    return program


def crash(machine: Machine, program: Path, *arguments: str) -> Path:
    """Run a program that ends by a signal; return its core."""
    emulator = [f"qemu-{machine.emulator}-static", *machine.options, "-L", str(machine.root)]
    ended = subprocess.run(
        [*emulator, str(program), *arguments],
        cwd=program.parent,
        capture_output=True,
        timeout=120,
        preexec_fn=_allow_cores,
    )
    # The emulator dies of the same signal and leaves a core of its own.
    for other in program.parent.glob("core*"):
        other.unlink()
    written = list(program.parent.glob("qemu_*.core"))
    assert len(written) == 1, ended.stderr
    return written[0]


def _allow_cores() -> None:
    resource.setrlimit(resource.RLIMIT_CORE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
