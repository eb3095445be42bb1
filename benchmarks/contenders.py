"""The programs that are compared: how each is run, timed and weighed.

vringcore runs in an environment of its own, as a user has it; drgn in this one; gdb is the
system's. ``cold`` has nothing cached about the build, ``warm`` has its layouts in the cache.
"""

from __future__ import annotations

import importlib.util
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from benchmarks import stacks
from benchmarks.answers import Answer, answers_of, difference, times_of
from benchmarks.environment import make_environment

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from types import TracebackType
    from typing import Self

HERE = Path(__file__).parent

GDB_STACKS = "gdb bt"
"""`thread apply all bt`, as one types it in gdb."""

DONE = (0, 5)
"""Exit codes; 5 is of ``why`` where something is stuck."""

TIME_LIMIT = 300
"""Seconds that one run of any program may take."""


class Cost(msgspec.Struct, frozen=True):
    """What one program took: wall-clock milliseconds, and peak resident memory if measured."""

    median_ms: float
    min_ms: float
    peak_kib: int = 0


class AnswersDifferError(RuntimeError):
    """The programs do not say the same about a core; nothing is timed then."""


class Contenders:
    """vringcore cold and warm, gdb and drgn, over cores of one executable.

    ``why``, ``backtrace`` (both vringcore's, warm) and ``gdb bt`` may be timed, too.

    Use it in a ``with`` statement. gdb and drgn are left out where they are not installed.

    :ivar names: those that run, in the order of the tables
    :ivar stack_names: those of the tables of ``why``
    """

    def __init__(self, executable: Path) -> None:
        self._executable = str(executable)
        self._directory = tempfile.TemporaryDirectory()
        place = Path(self._directory.name)
        self._place = place
        self._script = make_environment(place / "environment")
        self._base = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
        self._turns = 0
        self.names = ["cold", "warm"]
        self.stack_names = ["why", "backtrace"]
        self.stack_names += [GDB_STACKS] * (shutil.which("gdb") is not None)
        self.names += ["gdb"] * (shutil.which("gdb") is not None)
        self.names += ["drgn"] * (importlib.util.find_spec("drgn") is not None)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._directory.cleanup()

    def whole(self, name: str, core: Path) -> list[str]:
        """Return the command that a user would give to ask one core."""
        if name in ("cold", "warm"):
            return [str(self._script), "queues", str(core), "-e", self._executable, "--json"]
        if name in ("why", "backtrace"):
            return [str(self._script), name, str(core), "-e", self._executable]
        if name == GDB_STACKS:
            every = ("-ex", "thread apply all bt")
            return ["gdb", "-batch", "-nx", *every, self._executable, str(core)]
        if name == "gdb":
            return ["gdb", "-batch", "-nx", *self._gdb_script(), self._executable, str(core)]
        return self.series(name, [core])

    def series(self, name: str, cores: Sequence[Path], *, members: bool = False) -> list[str]:
        """Return the command that asks several cores in one process.

        :param members: let gdb print numbers to compare, not what its ``print`` shows; the others
            print all members anyway
        """
        paths = [str(core) for core in cores]
        if name == "gdb":
            script = [*self._gdb_script(f"CORES={paths!r}", f"MEMBERS={members}")]
            return ["gdb", "-batch", "-nx", *script, self._executable]
        python = sys.executable if name == "drgn" else str(self._script.with_name("python"))
        script_name = "drgn_queues.py" if name == "drgn" else "our_queues.py"
        return [python, str(HERE / script_name), self._executable, *paths]

    def verify(self, cores: Sequence[Path]) -> list[Answer]:
        """Compare all members of every queue of every device, and fill caches on the way.

        :return: what all say of each core
        :raises AnswersDifferError: if any program says something else than another
        """
        series = {
            name: answers_of(self.output(name, self.series(name, cores, members=True)))
            for name in self.names
            if name != "cold"
        }
        for index, core in enumerate(cores):
            answers: dict[str, Answer] = {n: each[index] for n, each in series.items()}
            for name in ("cold", "warm"):
                output = self.output(name, self.whole(name, core))
                answers[f"the command line, {name}"] = answers_of(output)[0]
            found = difference(answers)
            if found or not any(answers["warm"].values()):
                raise AnswersDifferError(f"{core}: {found or 'no queues'}")
        return series["warm"]

    def output(self, name: str, command: Sequence[str]) -> str:
        """Return what a command prints.

        :raises RuntimeError: if it fails
        """
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            env=self._environment(name),
            stdin=subprocess.DEVNULL,
            timeout=TIME_LIMIT,
        )
        if done.returncode not in DONE:
            raise RuntimeError(f"{command}: exit {done.returncode}\n{done.stderr[-2000:]}")
        return done.stdout

    def wall(self, name: str, core: Path) -> float:
        """Return the milliseconds from start to exit of one program asking one core."""
        command = self.whole(name, core)
        start = time.perf_counter()
        self.output(name, command)
        return (time.perf_counter() - start) * 1000

    def cpu(self, name: str, core: Path) -> float:
        """Return the processor's milliseconds, user and system, of one program over one core.

        Other programs on the machine change this less than the time on the wall.
        """
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        self.output(name, self.whole(name, core))
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        return used * 1000

    def verify_stacks(self, core: Path) -> int:
        """Compare the functions of all threads' frames with gdb's, and fill caches on the way.

        :return: the number of threads
        :raises AnswersDifferError: if any differs
        """
        output = self.output("backtrace", [*self.whole("backtrace", core), "--json"])
        ours = stacks.ours(output)
        if GDB_STACKS in self.stack_names:
            found = stacks.difference(ours, stacks.gdbs(Path(self._executable), core))
            if found:
                raise AnswersDifferError(f"{core}: {found}")
        return len(ours)

    def per_further_core(self, name: str, cores: Sequence[Path]) -> float:
        """Return (time of N cores - time of the first) / (N - 1) within one process, in ms."""
        _, *further = times_of(self.output(name, self.series(name, cores)))
        return statistics.fmean(further)

    def anew(self, name: str, cores: Sequence[Path]) -> float:
        """Return the mean milliseconds of cores but the first, with a process for each."""
        return statistics.fmean(self.wall(name, core) for core in cores[1:])

    def peak_kib(self, name: str, core: Path) -> int:
        """Return the largest resident size of one run in KiB; errors as in :meth:`output`.

        A small process of its own starts it: on Linux the figure never falls below what the
        starting process had, so a large one, such as a test runner, would be measured instead.
        """
        done = subprocess.run(
            [sys.executable, "-S", "-c", _STARTER, *self.whole(name, core)],
            env=self._environment(name),
            capture_output=True,
            text=True,
            timeout=TIME_LIMIT,
        )
        if done.returncode not in DONE:
            raise RuntimeError(f"{name} of {core}: exit {done.returncode}")
        return int(done.stdout)

    def _gdb_script(self, *settings: str) -> list[str]:
        words = [word for setting in settings for word in ("-ex", f"python {setting}")]
        return [*words, "-x", str(HERE / "gdb_queues.py")]

    def _environment(self, name: str) -> dict[str, str]:
        self._turns += 1
        cache = f"empty-{self._turns}" if name == "cold" else "cache"
        return self._base | {"XDG_CACHE_HOME": str(self._place / cache)}


_STARTER = """
import os, sys
quiet = os.open(os.devnull, os.O_RDWR)
files = [(os.POSIX_SPAWN_DUP2, quiet, number) for number in (0, 1, 2)]
pid = os.posix_spawnp(sys.argv[1], sys.argv[1:], os.environ, file_actions=files)
_, status, usage = os.wait4(pid, 0)
print(usage.ru_maxrss)
sys.exit(os.waitstatus_to_exitcode(status))
"""


def interleaved(
    runs: Mapping[str, Callable[[], float]], rounds: int, peaks: Mapping[str, int] | None = None
) -> dict[str, Cost]:
    """Run each in turn, ``rounds`` times, so that what else the machine does falls on all."""
    times: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(rounds):
        for name, run in runs.items():
            times[name].append(run())
    return {
        name: Cost(statistics.median(each), min(each), (peaks or {}).get(name, 0))
        for name, each in times.items()
    }
