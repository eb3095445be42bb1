"""``vringcore layout build|show|check|pack``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vringcore.cli import options
from vringcore.errors import EXIT_OK, EXIT_UNREADABLE, FileError, LayoutError
from vringcore.layout.bundle import check_size, from_json, is_bundle
from vringcore.memory.files import FileSource

if TYPE_CHECKING:
    import argparse

    from vringcore.layout.bundle import Bundle
    from vringcore.model.layout_check import LayoutCheck
    from vringcore.report.page import Page

USAGE = "vringcore layout {build,show,check,pack} FILE [options]"
DESCRIPTION = """\
How can a core be read where QEMU's debug information is not at hand?

A layout bundle holds what the other verbs need to know of one build of QEMU:
struct layouts, places of variables, symbols. It is a JSON file of some
megabytes, keyed by the build-id, with nothing of any VM in it. Make it once
where the debug information is, and use it anywhere with --layout; the stripped
binary, where it is at hand, then supplies strings that cores lack. (Layouts are
also cached for the next core of the same build, with no bundle.)

  build  make a bundle from a QEMU binary or its separate debug file
  show   what a bundle is of, and what it holds; with --type a C definition
  check  hold a bundle against a binary: every type and variable is read again,
         every symbol looked up by LIEF; a pack against a binary that it serves,
         or against a core: whether all that its types lead to fits together
  pack   make a layout pack: the types of a program that was rebuilt with debug
         information, for stripped binaries with the same machine code. Packs
         for some distributions come along and are found by build-id.
"""
EPILOG = """\
examples:
  vringcore layout build /usr/bin/qemu-system-x86_64 -o qemu.json
  vringcore queues core.20873 --layout qemu.json
  vringcore layout show qemu.json --type 'struct VirtQueue'
  vringcore layout check qemu.json /usr/bin/qemu-system-x86_64
  vringcore layout pack rebuilt/qemu-system-x86_64 -o qemu.json.zst \\
      --serves /usr/bin/qemu-system-x86_64
"""
BUILD = """\
Make a bundle from a QEMU binary, or from its separate debug file: the types,
variables and symbols that the other verbs ask for.
"""
SHOW = """\
Say what a bundle or pack is of and what it holds; with --type print types as C
definitions, each member with its offset.
"""
CHECK = """\
Hold a bundle against the binary of its build: every type and variable is read
again, every symbol looked up by LIEF. A pack is held against a binary that it
serves (equal .text), or against a core: whether all that its types lead to fits
together. Exit code 3 if anything differs.
"""
PACK = """\
Make a layout pack: all types of a program that was rebuilt with debug
information, for the stripped binaries that it is proven for. docs/packs.md
tells how to rebuild one.
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the verb's own verbs and their options."""
    verbs = parser.add_subparsers(
        dest="action", metavar="{build,show,check,pack}", required=True, prog="vringcore layout"
    )
    build = options.add_action(verbs, "layout", "build FILE", BUILD)
    build.add_argument("executable", metavar="FILE", help="the QEMU binary or its debug file")
    build.add_argument(
        "-o",
        "--output",
        metavar="BUNDLE",
        help="where to write; by default layout-BUILDID.json in this directory",
    )
    options.add_debug_files(build.add_argument_group("where QEMU's types come from"))
    show = options.add_action(verbs, "layout", "show BUNDLE", SHOW)
    show.add_argument("bundle", metavar="BUNDLE", help="a layout bundle or pack")
    show.add_argument(
        "--type",
        metavar="TYPE",
        action="append",
        default=[],
        help="show this type, such as 'struct VirtQueue' (repeatable)",
    )
    check = options.add_action(verbs, "layout", "check BUNDLE FILE", CHECK)
    check.add_argument("bundle", metavar="BUNDLE", help="a layout bundle or pack")
    check.add_argument(
        "executable",
        metavar="FILE",
        help="the QEMU binary or its debug file; of a pack also a core",
    )
    check.add_argument(
        "-e", "--executable", metavar="PATH", dest="program", help="the core's binary"
    )
    options.add_debug_files(check.add_argument_group("where QEMU's types come from"))
    pack = options.add_action(verbs, "layout", "pack FILE -o PACK", PACK)
    pack.add_argument("executable", metavar="FILE", help="the rebuilt program, not stripped")
    pack.add_argument(
        "--serves",
        metavar="BINARY",
        action="append",
        default=[],
        help="a stripped binary with the same machine code, which is checked (repeatable)",
    )
    pack.add_argument("--name", metavar="NAME", help="what the pack is called")
    pack.add_argument(
        "--core",
        metavar="CORE",
        action="append",
        default=[],
        help="a core of a binary with other machine code, which is served if all that the types"
        " lead to in it fits together (repeatable)",
    )
    pack.add_argument("--package", metavar="TEXT", default="", help="what the binaries are part of")
    pack.add_argument("-o", "--output", metavar="PACK", required=True, help="a file.json.zst")
    options.add_debug_files(pack.add_argument_group("where QEMU's types come from"))
    for each in (build, show, check, pack):
        options.add_output_options(each)
        options.add_help(each)


def run(arguments: argparse.Namespace) -> int:
    """Build, show or check a bundle; return the exit code."""
    if arguments.action == "build":
        return _build(arguments)
    if arguments.action == "pack":
        from vringcore.cli.layout_pack import make

        return make(arguments)
    data = _read_file(arguments.bundle)
    if not is_bundle(data):
        from vringcore.cli.layout_pack import check, show

        return (show if arguments.action == "show" else check)(arguments, data)
    bundle = from_json(data, where=arguments.bundle)
    return _show(arguments, bundle) if arguments.action == "show" else _check(arguments, bundle)


def _build(arguments: argparse.Namespace) -> int:
    from vringcore.cli.bundles import Program, build_bundle
    from vringcore.cli.output import write_json, write_text
    from vringcore.layout.bundle import to_json
    from vringcore.slim.output import check_output

    with Program(
        arguments.executable,
        debug_files=arguments.debug_file,
        debug_dirs=arguments.debug_dir,
    ) as program:
        bundle = build_bundle(program)
    data = to_json(bundle) + b"\n"
    if arguments.json and arguments.output is None:
        write_json(bundle)
        return EXIT_OK
    path = arguments.output or f"layout-{bundle.build_id}.json"
    check_output(path, "the layout bundle", (arguments.executable, *arguments.debug_file))
    write_file(path, data)
    if arguments.json:
        write_json(bundle)
    else:
        size = f"{len(data):,} bytes"
        write_text(f"{path}: {size}, {_contents(bundle)}, of build-id {bundle.build_id}")
    return EXIT_OK


def write_file(path: str, data: bytes) -> None:
    """Write a bundle or pack.

    :raises FileError: if it cannot be written
    """
    from pathlib import Path

    try:
        Path(path).write_bytes(data)
    except OSError as error:
        raise FileError(
            "the layout bundle cannot be written", where=path, seen=error.strerror or str(error)
        ) from error


def _read_file(path: str) -> bytes:
    with FileSource.open(path, what="layout bundle") as source:
        check_size(source.size, where=path)
        return source.pread(0, source.size)


def _contents(bundle: Bundle) -> str:
    symbols = sum(symbol is not None for symbol in bundle.symbols_at.values())
    return f"{len(bundle.types)} types, {len(bundle.variables)} variables, {symbols} symbols"


def _show(arguments: argparse.Namespace, bundle: Bundle) -> int:
    from vringcore.cli.output import write_json, write_page

    if arguments.json:
        write_json(bundle)
    else:
        write_page(arguments, lambda page: _print_bundle(page, bundle, arguments.type))
    return EXIT_OK


def _print_bundle(page: Page, bundle: Bundle, wanted: list[str]) -> None:
    from vringcore.cli.ctypes import definition_lines
    from vringcore.layout.bundle import get_type
    from vringcore.report.cells import clean

    for key in wanted:
        typed = get_type(bundle, key)
        if typed is None:
            absent = " (the program has no such type)" if key in bundle.searched_absent else ""
            raise LayoutError(
                "not in the bundle",
                where=key,
                seen=f"{_contents(bundle)}{absent}",
                hint="`layout show` without --type lists them",
            )
        if typed.unit:
            page.line(f"/* {clean(typed.unit)} */")
        for line in definition_lines(typed.definition):
            page.line(clean(line))
    if wanted:
        return
    order = "big" if bundle.big_endian else "little"
    page.listing(
        [
            ("module", clean(bundle.module)),
            ("build-id", clean(bundle.build_id)),
            ("machine", f"{clean(bundle.machine)}, {bundle.pointer_size * 8} bits, {order}-endian"),
            ("made by", clean(bundle.producer)),
            ("holds", _contents(bundle)),
            ("types", ", ".join(map(clean, bundle.types))),
            ("variables", ", ".join(map(clean, bundle.variables))),
            ("not in the program", ", ".join(map(clean, bundle.searched_absent)) or "-"),
        ],
        indent=0,
    )


def _check(arguments: argparse.Namespace, bundle: Bundle) -> int:
    from vringcore.cli.bundles import Program, check_bundle
    from vringcore.cli.output import write_json, write_page
    from vringcore.model.layout_check import LayoutCheck

    with Program(
        arguments.executable, debug_files=arguments.debug_file, debug_dirs=arguments.debug_dir
    ) as program:
        types, variables, symbols, differences = check_bundle(bundle, program)
    document = LayoutCheck(
        bundle=arguments.bundle,
        executable=arguments.executable,
        build_id=bundle.build_id,
        types=types,
        variables=variables,
        symbols=symbols,
        differences=tuple(differences),
    )
    if arguments.json:
        write_json(document)
    else:
        write_page(arguments, lambda page: _print_check(page, document))
    return EXIT_UNREADABLE if differences else EXIT_OK


def _print_check(page: Page, document: LayoutCheck) -> None:
    from vringcore.report.cells import clean
    from vringcore.report.page import ALARM

    for difference in document.differences:
        page.line(clean(difference), ALARM)
    count = len(document.differences)
    verdict = f"{count} difference{'' if count == 1 else 's'}" if count else "all the same"
    page.line(
        f"{clean(document.bundle)}: {document.types} types, {document.variables} variables,"
        f" {document.symbols} symbols compared with {clean(document.executable)}: {verdict}"
    )
