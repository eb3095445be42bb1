"""The command line: ``vringcore VERB CORE``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vringcore.cli.options import HelpFormatter, Parser, add_help
from vringcore.errors import EXIT_USAGE, UsageError, VringcoreError
from vringcore.version import VERSION

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence
    from types import ModuleType

DESCRIPTION = """\
Says why a QEMU virtual machine is stuck, and what each of its virtio queues
was doing, from a core dump of QEMU alone: no running VM, no gdb, nothing
written to the core.
"""

EPILOG = """\
first steps:
  gcore -o core PID                  take a core; the VM goes on afterwards
  vringcore capture PID -o core.PID  a small one, also where gcore hangs
  vringcore why core.PID             why the VM is stuck, in one sentence
  vringcore why core.PID -e FILE     the same, if QEMU's binary is now FILE
  vringcore requests core.PID        the requests that never came back

`vringcore VERB --help` explains a verb's columns. Exit codes: 0 done, 2 wrong
usage, 3 a file cannot be read or written, 4 read in part and no answer, 5
(`why`, `compare`) stuck or faulty, 1 a bug in vringcore.
"""

VERBS = {
    "demo": "the main job on a core that comes along: start here",
    "why": "why the VM is stuck: one sentence, then the evidence",
    "devices": "every virtio device: id, place, status, features, back-end",
    "queues": "every virtqueue: what was published, taken, and given back",
    "ring": "one queue's descriptors and rings, pointers marked",
    "requests": "the requests in flight, and where each one waits",
    "block": "the block layer: back-ends, nodes, limits, engines, jobs",
    "loops": "event loops, run state, vCPUs, migration, interrupts",
    "report": "all of it as one HTML page, to be mailed, printed, read on a phone",
    "print": "any variable or C expression, as gdb's print shows it",
    "backtrace": "each thread and coroutine: what it is at, its frames with lines",
    "driver": "what the guest's own driver has seen, beside QEMU's view",
    "memory": "guest RAM: its map, reading, searching, a core of the guest",
    "precheck": "what a core can answer, and what to set before the next one",
    "capture": "a small core of a running QEMU, hung or not, without stopping it",
    "slim": "a small core of a core: every answer, none of the guest's data",
    "scan": "many cores, archives, stores: one row for each, grouped by cause",
    "groups": "the rows of a scan by what is wrong: how many, since when, an example",
    "compare": "two cores of one VM: what moved, and what is really stuck",
    "layout": "QEMU's types in a small file, for use without debug information",
}

OWN_OPTIONS = ("-h", "--help", "--version")


def main(words: Sequence[str]) -> int:
    """Run one command, given without the program's name, and return its exit code."""
    try:
        if not words:
            _parser().print_help()
            return EXIT_USAGE
        code = _answer(words)
    except VringcoreError as error:
        from vringcore.cli.failure import report_error

        return report_error(error, as_json="--json" in words)
    except BrokenPipeError:
        raise
    except Exception as error:  # noqa: BLE001 - the one place that may: nobody is above it
        from vringcore.cli.failure import report_bug

        return report_bug(error, verbose="-v" in words or "--verbose" in words)
    return code


def _answer(words: Sequence[str]) -> int:
    """Run the verb that comes first. Its own parser alone is built, to save time."""
    verb = words[0]
    if verb not in VERBS:
        if verb[:1] == "-" and not any(each.startswith(verb) for each in OWN_OPTIONS):
            raise UsageError(
                "an option stands before the verb",
                seen=verb,
                expected="the verb first",
                hint="for example `vringcore why CORE -v`; see `vringcore --help`",
            )
        _parser().parse_args(words)  # --help, --version, or what is wrong
        raise UsageError("the verb comes first", hint="see `vringcore --help`")
    module = _module(verb)
    parser = Parser(
        prog=f"vringcore {verb}",
        usage=module.USAGE,
        description=module.DESCRIPTION,
        epilog=module.EPILOG,
        formatter_class=HelpFormatter,
        add_help=False,
    )
    module.configure(parser)
    add_help(parser)
    code: int = module.run(parser.parse_args(words[1:]))
    return code


def _parser() -> argparse.ArgumentParser:
    """Return the parser that knows of the verbs and none of their options."""
    parser = Parser(
        prog="vringcore",
        usage="vringcore VERB CORE [options]",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=HelpFormatter,
        add_help=False,
    )
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True, prog="vringcore")
    group = add_help(parser)
    group.add_argument("--version", action="version", version=f"vringcore {VERSION}")
    for verb, line in VERBS.items():
        verbs.add_parser(verb, help=line)
    return parser


def _module(verb: str) -> ModuleType:
    """Return the module of a verb; none of the others is imported, to save time."""
    module: ModuleType = __import__(f"vringcore.cli.{verb}", fromlist=["run"])
    return module
