"""Time one cold `vringcore print` beside gdb for many kinds of expressions, interleaved.

    python -m benchmarks.print_compare EXECUTABLE CORE [--rounds 5]

Nothing is cached for any run of vringcore, and each is a whole process. What both print is compared
first, character by character; where nothing can be printed, both must say so.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from pathlib import Path

import msgspec

from benchmarks.environment import make_environment

VALUES = (
    "1+2",
    "current_machine->ram_size",
    "*current_machine",
    "current_migration",
    "ram_list.dirty_memory",
    "timers_state",
    "nbd_server",
    "all_bdrv_states",
    "'blockdev.c'::block_default_type",
    "vm_change_state_head",
    "'net/net.c'::net_clients",
    "machine_init_done_notifiers",
    "&current_migration->state",
    "bdrv_file",
    "bdrv_file.bdrv_co_preadv",
    "virtio_queue_empty",
    "&blk_co_preadv",
    "*virtio_queue_empty",
    "virtio_blk_info",
    "RUN_STATE_RUNNING",
    "BLOCK_DEVICE_IO_STATUS_NOSPACE",
    "(RunState)1",
    "sizeof(struct VirtQueue)",
    "sizeof(BlockDriverState)",
    "sizeof(struct NBDClientConnection)",
    "all_bdrv_states.tqh_first->node_name",
    "*(BlockDriverState *)all_bdrv_states.tqh_first",
    "((BlockDriverState *)all_bdrv_states.tqh_first)->drv->format_name",
    "(struct NBDClientConnection *)0",
    "main_system_bus",
    "no_such_name_at_all",
    "curent_machine",
)
TYPES = (
    ("ptype", "struct VirtQueue"),
    ("ptype", "struct NBDClientConnection"),
    ("ptype", "BlockBackend"),
    ("ptype", "struct BlockBackend"),
    ("whatis", "current_machine"),
    ("whatis", "bdrv_file"),
    ("whatis", "virtio_queue_empty"),
)
QUESTIONS = (*(("print", text) for text in VALUES), *TYPES)


class Row(msgspec.Struct, frozen=True):
    """One question: the least wall-clock milliseconds that each took."""

    question: str
    ours_ms: float
    gdb_ms: float

    @property
    def ratio(self) -> float:
        """How many times as long gdb took."""
        return self.gdb_ms / self.ours_ms


class Runner:
    """Asks both. Each run of ours has a cache directory that nobody used before."""

    def __init__(self, executable: str, core: str, place: Path) -> None:
        self._executable = executable
        self._core = core
        self._place = place
        self._script = make_environment(place / "environment")
        self._environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
        self._turn = 0

    def ours(self, verb: str, text: str) -> tuple[float, str | None]:
        """Return milliseconds and what is printed, None for an error."""
        self._turn += 1
        environment = self._environment | {"XDG_CACHE_HOME": str(self._place / f"{self._turn}")}
        command = [str(self._script), "print", self._core, "-e", self._executable]
        command += [] if verb == "print" else [f"--{verb}"]
        elapsed, code, output = self._timed([*command, "--", text], environment)
        return elapsed, output if code == 0 else None

    def gdb(self, verb: str, text: str) -> tuple[float, str | None]:
        """The same of gdb."""
        command = ["gdb", "-batch", "-nx", "-ex", f"{verb} {text}", self._executable, self._core]
        elapsed, _, output = self._timed(command, self._environment)
        start = "$1 = " if verb == "print" else "type = "
        _, found, answer = output.rpartition("\n" + start)
        if not found:
            return elapsed, None
        return elapsed, answer if verb == "print" else start + answer

    def _timed(self, command: list[str], environment: dict[str, str]) -> tuple[float, int, str]:
        """Return milliseconds, exit code and standard output; nothing else is done meanwhile."""
        output = self._place / "output"
        actions = [
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_OPEN, 1, str(output), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600),
            (os.POSIX_SPAWN_OPEN, 2, os.devnull, os.O_WRONLY, 0),
        ]
        start = time.perf_counter()
        pid = os.posix_spawnp(command[0], command, environment, file_actions=actions)
        status = os.waitpid(pid, 0)[1]
        elapsed = (time.perf_counter() - start) * 1000
        return elapsed, os.waitstatus_to_exitcode(status), output.read_text(errors="replace")


def measure(
    executable: str,
    core: str,
    rounds: int,
    questions: tuple[tuple[str, str], ...] = QUESTIONS,
) -> list[Row]:
    """Return the least time of each question.

    :raises RuntimeError: if an answer differs from gdb's
    """
    rows = []
    with tempfile.TemporaryDirectory() as directory:
        runner = Runner(executable, core, Path(directory))
        for verb, text in questions:
            answers = runner.ours(verb, text)[1], runner.gdb(verb, text)[1]
            if answers[0] != answers[1]:
                raise RuntimeError(f"{verb} {text}: {answers[0]!r}, but gdb prints {answers[1]!r}")
            times = [(runner.ours(verb, text)[0], runner.gdb(verb, text)[0]) for _ in range(rounds)]
            ours, gdb = (min(column) for column in zip(*times, strict=True))
            rows.append(Row(f"{verb} {text}", ours, gdb))
    return rows


def table(rows: list[Row]) -> str:
    """Return the results as a Markdown table, the slowest last."""
    lines = ["| question | vringcore, cold, ms | gdb, ms | ratio |", "|---|---:|---:|---:|"]
    lines += [
        f"| `{r.question}` | {r.ours_ms:.1f} | {r.gdb_ms:.1f} | {r.ratio:.1f}x |"
        for r in sorted(rows, key=lambda row: -row.ratio)
    ]
    return "\n".join(lines)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description="Time one cold print beside gdb.")
    parser.add_argument("executable")
    parser.add_argument("core")
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    print(table(measure(arguments.executable, arguments.core, arguments.rounds)))


if __name__ == "__main__":
    main()
