"""Options that several verbs share, and the core that they open."""

from __future__ import annotations

import argparse
import os
import sys
from typing import TYPE_CHECKING, Any, NoReturn

from vringcore.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

    from vringcore.api import Core
    from vringcore.layout.store import LayoutStore

MAX_HELP_WIDTH = 100


def terminal_width() -> int:
    """Return the columns that help may use: ``COLUMNS``, else the terminal's, else 80."""
    columns = os.environ.get("COLUMNS", "")
    if columns.isdecimal() and int(columns) > 0:
        return int(columns)
    try:
        return os.get_terminal_size().columns
    except OSError:
        return 80


class HelpFormatter(argparse.RawDescriptionHelpFormatter):
    """Keeps the layout of our texts, and writes ``-e, --executable PATH`` on every Python."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=26, width=min(terminal_width(), MAX_HELP_WIDTH))

    def _format_action_invocation(self, action: argparse.Action) -> str:
        if not action.option_strings or action.nargs == 0:
            return super()._format_action_invocation(action)
        metavar = self._format_args(action, str(action.metavar or action.dest.upper()))
        return f"{', '.join(action.option_strings)} {metavar}"


class Parser(argparse.ArgumentParser):
    """An argument parser whose mistakes are our errors."""

    def error(self, message: str) -> NoReturn:
        """Raise what argparse would print."""
        raise UsageError(message, hint=f"see `{self.prog} --help`")

    def _print_message(self, message: str, file: object = None) -> None:  # noqa: ARG002
        """Write help or version to stdout; argparse would pass over a full disk."""
        from vringcore.cli.output import write_text

        write_text(message.removesuffix("\n"))

    def _check_value(self, action: argparse.Action, value: str) -> None:
        if action.dest == "verb" and value not in (action.choices or ()):
            _refuse_verb(value)
        super()._check_value(action, value)


def _refuse_verb(word: str) -> None:
    """Say so where the verb was forgotten and a file stands in its place."""
    from pathlib import Path

    if Path(word).exists():
        raise UsageError(
            "no verb was given",
            seen=f"the file {word}",
            expected="a verb before it",
            hint=f"for example `vringcore queues {word}`",
        )


def add_help(parser: argparse.ArgumentParser) -> argparse._ArgumentGroup:
    """Add ``--help`` and return its group.

    To a group because argparse tries the help formatter, regular expressions and all, on whatever
    is added to a parser itself.
    """
    group = parser.add_argument_group("help")
    group.add_argument("-h", "--help", action="help", help="show this text and exit")
    return group


def add_core_options(parser: argparse.ArgumentParser, *, optional: bool = False) -> None:
    """Add the core itself and what every verb on a core takes.

    :param optional: the verb has a use without a core, too
    """
    core = parser.add_argument_group("the core")
    core.add_argument(
        "core",
        nargs="?" if optional else None,
        metavar="CORE",
        help="core dump of the QEMU process, also packed, in a tar archive, or ABRT's directory",
    )
    core.add_argument(
        "--ram-file",
        metavar="PATH",
        action="append",
        default=[],
        help="the file that backs guest RAM which the core left out (memory-backend-file), or"
        " BLOCK=PATH (repeatable); by default the path that the core names",
    )
    add_file_options(parser)
    add_output_options(parser)
    limits = parser.add_argument_group("limits")
    limits.add_argument(
        "--deep", action="store_true", help="allow bounded scans of QEMU's heap for lost requests"
    )
    limits.add_argument(
        "--member",
        metavar="NAME",
        help="the core in a tar archive that holds several; CORE may be ARCHIVE:NAME, too",
    )
    limits.add_argument(
        "--tmpdir",
        metavar="DIR",
        help="where a compressed core is unpacked, for the time it is read",
    )
    limits.add_argument(
        "--max-unpacked",
        metavar="BYTES",
        type=byte_count,
        help="refuse to unpack more than this, such as 20G",
    )


def add_file_options(parser: argparse.ArgumentParser) -> None:
    """Add what says where the program and its debug information are."""
    files = parser.add_argument_group("where QEMU's types come from")
    files.add_argument(
        "-e",
        "--executable",
        metavar="PATH",
        help="the QEMU binary; by default the path that the core names; checked by build-id",
    )
    add_debug_files(files)
    files.add_argument(
        "--sysroot", metavar="DIR", help="look for the files that the core names below DIR"
    )
    files.add_argument(
        "--layout",
        metavar="FILE",
        help="a layout bundle made by `vringcore layout build`, no binary or debug info needed;"
        " or a layout pack",
    )
    files.add_argument(
        "--near",
        action="store_true",
        help="take the types of another build (--layout, or a pack that comes along) if all that"
        " they lead to fits together",
    )
    files.add_argument(
        "--no-cache", action="store_true", help="neither use nor write cached layouts"
    )


def add_debug_files(group: argparse._ArgumentGroup) -> None:
    """Add ``--debug-file`` and ``--debug-dir``."""
    group.add_argument(
        "--debug-file",
        metavar="PATH",
        action="append",
        default=[],
        help="a file with debug information (repeatable); matched by build-id",
    )
    group.add_argument(
        "--debug-dir",
        metavar="DIR",
        action="append",
        default=[],
        help="a directory with .build-id/ beside /usr/lib/debug (repeatable)",
    )
    group.add_argument(
        "--debuginfod",
        dest="debug_dir",
        action=_Servers,
        nargs=0,
        default=[],
        help="fetch what is not here from the servers in DEBUGINFOD_URLS, by build-id",
    )
    group.add_argument(
        "--debuginfod-url",
        metavar="URL",
        dest="debug_dir",
        action="append",
        default=[],
        type=_server,
        help="the same from this server (repeatable)",
    )


class _Servers(argparse.Action):
    """Adds the servers that the environment names to the places to look in."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        *_values: object,
        **_more: object,
    ) -> None:
        from vringcore.debuginfo.debuginfod import servers_of_environment

        servers = servers_of_environment()
        if not servers:
            parser.error("--debuginfod: DEBUGINFOD_URLS names no server; or use --debuginfod-url")
        namespace.debug_dir = [*namespace.debug_dir, *servers]


def _server(text: str) -> str:
    from vringcore.debuginfo.debuginfod import is_server

    if not is_server(text):
        raise argparse.ArgumentTypeError(f"{text!r} is no URL of http or https")
    return text


def add_output_options(parser: argparse.ArgumentParser) -> None:
    output = parser.add_argument_group("output")
    add_json(output)
    output.add_argument(
        "--color",
        choices=("auto", "always", "never"),
        default="auto",
        help="colours; auto: only on a terminal",
    )
    output.add_argument(
        "-v",
        "--verbose",
        action="store_true",
        help="every member, slot and address; after a bug, where it arose",
    )


def add_json(group: argparse._ArgumentGroup) -> None:
    """Add ``--json``."""
    group.add_argument(
        "--json", action="store_true", help="print one JSON document (schemas/ describes it)"
    )


def add_choice(parser: argparse.ArgumentParser, *, queue: bool) -> None:
    """Add ``--device`` and, where a verb speaks of queues, ``--queue``."""
    choice = parser.add_argument_group("choice")
    choice.add_argument(
        "-d",
        "--device",
        metavar="DEVICE",
        help="only this device: its id, index, serial, PCI address or QOM path",
    )
    if queue:
        choice.add_argument("-q", "--queue", metavar="N", type=whole_number, help="only this queue")


def add_action(
    verbs: argparse._SubParsersAction[argparse.ArgumentParser], verb: str, words: str, text: str
) -> argparse.ArgumentParser:
    """Add a verb's own verb; ``--help`` is added last, by :func:`add_help`.

    :param verb: whose it is
    :param words: it and what it is given, as in its usage
    :param text: what it does
    """
    return verbs.add_parser(
        words.split()[0],
        usage=f"vringcore {verb} {words} [options]",
        description=text,
        formatter_class=HelpFormatter,
        add_help=False,
    )


def whole_number(text: str) -> int:
    """Return a number from its digits.

    :raises argparse.ArgumentTypeError: for anything else
    """
    if not (text.isascii() and text.isdecimal()):
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number")
    return int(text)


def byte_count(text: str) -> int:
    """Return a number of bytes from ``4096``, ``512M``, ``20G`` or ``20GiB``.

    :raises argparse.ArgumentTypeError: for anything else
    """
    number = text.upper().removesuffix("IB").removesuffix("B")
    power = "KMGT".find(number[-1]) + 1 if number else 0
    if power:
        number = number[:-1]
    if not (number.isascii() and number.isdecimal()):
        raise argparse.ArgumentTypeError(f"{text!r} is no size such as 4096, 512M or 20G")
    return int(number) << 10 * power


def open_core(arguments: argparse.Namespace) -> Core:
    """Open the core as the options say."""
    from vringcore.api import open_core as open_with

    return open_with(arguments.core, **core_options(arguments), store=store_of(arguments))


def store_of(arguments: argparse.Namespace) -> LayoutStore | None:
    """Return the store of layouts that the options ask for; None is the user's cache."""
    if not arguments.no_cache:
        return None
    from vringcore.layout.store import LayoutStore

    return LayoutStore()


def core_options(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return the fields of :class:`vringcore.options.Options` that the options give."""
    return {
        **file_options(arguments),
        "ram_files": tuple(arguments.ram_file),
        "member": arguments.member,
        "tmpdir": arguments.tmpdir,
        "max_unpacked": arguments.max_unpacked,
        "progress": progress_line(),
        "deep": arguments.deep,
    }


def sources(arguments: argparse.Namespace) -> tuple[str, ...]:
    """Return the files that the options name to be read, which no output may replace."""
    from vringcore.options import Options

    return (arguments.core, *Options(**core_options(arguments)).files())


def progress_line(doing: str = "unpacking") -> Callable[[int, int], None] | None:
    """Return what ``open_core(progress=)`` takes; None where nobody watches."""
    if not sys.stderr.isatty():
        return None
    from vringcore.cli.progress import Line

    return Line(doing)


def file_options(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return those that :func:`add_file_options` is about."""
    return {
        "executable": arguments.executable,
        "debug_files": tuple(arguments.debug_file),
        "debug_dirs": tuple(arguments.debug_dir),
        "sysroot": arguments.sysroot,
        "layout": arguments.layout,
        "near": arguments.near,
    }
