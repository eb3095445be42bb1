"""``vringcore layout`` on layout packs: made, shown, held against a binary or a core."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vringcore.errors import EXIT_OK, EXIT_UNREADABLE, LayoutError
from vringcore.layout.pack import Proof, pack_from_json, pack_to_json, pack_type

if TYPE_CHECKING:
    import argparse

    from vringcore.layout.pack import Pack
    from vringcore.model.layout_check import LayoutCheck
    from vringcore.report.page import Page


def make(arguments: argparse.Namespace) -> int:
    """Write a pack of a rebuilt program; return the exit code."""
    from vringcore.cli.bundles import Program
    from vringcore.cli.layout import write_file
    from vringcore.cli.output import write_json, write_text
    from vringcore.cli.packs import build_pack
    from vringcore.slim.output import check_output

    given = (arguments.executable, *arguments.serves, *arguments.debug_file)
    check_output(arguments.output, "the layout pack", given)
    name = arguments.name or arguments.package or arguments.executable.rsplit("/", 1)[-1]
    with Program(
        arguments.executable, debug_files=arguments.debug_file, debug_dirs=arguments.debug_dir
    ) as program:
        pack = build_pack(program, name, arguments.serves, arguments.package)
    _add_proofs_of_cores(arguments, pack)
    data = pack_to_json(pack)
    write_file(arguments.output, data)
    if arguments.json:
        write_json(_head(pack))
    else:
        write_text(
            f"{arguments.output}: {len(data):,} bytes, {_contents(pack)},"
            f" serves {len(pack.serves)} builds beside {pack.build_id or 'its own'}"
        )
    return EXIT_OK


def _add_proofs_of_cores(arguments: argparse.Namespace, pack: Pack) -> None:
    """Let a pack serve the programs of cores in which all that its types lead to fits together.

    :raises LayoutError: if something does not
    """
    from pathlib import Path
    from tempfile import TemporaryDirectory

    from vringcore.layout.store import LayoutStore
    from vringcore.options import Options
    from vringcore.qemu.process import open_process

    with TemporaryDirectory() as scratch:
        tried = Path(scratch) / "pack.json.zst"
        for core in arguments.core:
            tried.write_bytes(pack_to_json(pack))
            options = Options(layout=str(tried), near=True)
            process = open_process(core, options, LayoutStore())
            build_id, checks = process.files.build_id, process.near_checks
            program = " ".join(filter(None, (arguments.package, process.core.executable_path)))
            process.close()
            if checks:  # none: its program is served already
                pack.serves[build_id] = Proof(by="self-checks", program=program, checks=checks)


def show(arguments: argparse.Namespace, data: bytes) -> int:
    """Show a pack, or types of it; return the exit code."""
    from vringcore.cli.output import write_json, write_page

    pack = pack_from_json(data, where=arguments.bundle)
    if arguments.json:
        write_json(pack if arguments.type else _head(pack))
    else:
        write_page(arguments, lambda page: _print_pack(page, pack, arguments.type))
    return EXIT_OK


def check(arguments: argparse.Namespace, data: bytes) -> int:
    """Hold a pack against a binary that it serves or a core; return the exit code."""
    from vringcore.cli.output import write_json, write_page

    pack = pack_from_json(data, where=arguments.bundle)
    compare = _against_core if _is_core(arguments.executable) else _against_binary
    document = compare(arguments, pack)
    if arguments.json:
        write_json(document)
    else:
        write_page(arguments, lambda page: _print_check(page, document))
    return EXIT_UNREADABLE if document.differences else EXIT_OK


def _is_core(path: str) -> bool:
    from vringcore.elfcore.headers import ET_CORE, read_header
    from vringcore.errors import VringcoreError
    from vringcore.memory.files import FileSource

    with FileSource.open(path, what="binary or core") as source:
        try:
            return read_header(source).type == ET_CORE
        except VringcoreError:
            return True  # Of the two only a core may be compressed.


def _against_binary(arguments: argparse.Namespace, pack: Pack) -> LayoutCheck:
    from vringcore.cli.bundles import Program
    from vringcore.cli.packs import check_pack, check_types
    from vringcore.errors import DebugInfoMissingError
    from vringcore.model.layout_check import LayoutCheck

    path = arguments.executable
    build_id, proof, differences = check_pack(pack, path)
    compared = 0
    try:
        with Program(
            path, debug_files=arguments.debug_file, debug_dirs=arguments.debug_dir
        ) as program:
            differences += check_types(pack, program)
            compared = len(pack.types)
    except DebugInfoMissingError:
        pass  # A binary that packs are for; its code has been compared.
    return LayoutCheck(
        bundle=arguments.bundle,
        executable=path,
        build_id=build_id,
        types=compared,
        variables=0,
        symbols=0,
        differences=tuple(differences),
        proof="text" if proof is None else proof.by,
    )


def _against_core(arguments: argparse.Namespace, pack: Pack) -> LayoutCheck:
    from vringcore.layout.store import LayoutStore
    from vringcore.model.layout_check import LayoutCheck
    from vringcore.options import Options
    from vringcore.qemu.near import check_layouts
    from vringcore.qemu.process import open_process

    options = Options(executable=arguments.program, layout=arguments.bundle, near=True)
    differences: tuple[str, ...] = ()
    checks, build_id = 0, ""
    try:
        process = open_process(arguments.executable, options, LayoutStore())
    except LayoutError as error:
        differences = (str(error),)
    else:
        checks, build_id = process.near_checks or check_layouts(process), process.files.build_id
        process.close()
    return LayoutCheck(
        bundle=arguments.bundle,
        executable=arguments.executable,
        build_id=build_id,
        types=len(pack.types),
        variables=0,
        symbols=0,
        differences=differences,
        proof="self-checks",
        checks=checks,
    )


def _print_check(page: Page, document: LayoutCheck) -> None:
    from vringcore.report.cells import clean
    from vringcore.report.page import ALARM

    for difference in document.differences:
        page.line(clean(difference), ALARM)
    name, file = clean(document.bundle), clean(document.executable)
    if document.differences:
        page.line(f"{name} is not {file}'s")
    elif document.proof == "self-checks":
        page.line(f"{name}: {document.checks} checks of {file} passed")
    else:
        compared = f", {document.types} types compared" if document.types else ""
        page.line(f"{name}: {file} has the machine code that its proof names{compared}")


def _print_pack(page: Page, pack: Pack, wanted: list[str]) -> None:
    from vringcore.cli.ctypes import definition_lines
    from vringcore.report.cells import clean

    for key in wanted:
        typed = pack_type(pack, key)
        if typed is None:
            raise LayoutError("not in the layout pack", where=key, seen=_contents(pack))
        if typed.unit:
            page.line(f"/* {clean(typed.unit)} */")
        for line in definition_lines(typed.definition):
            page.line(clean(line))
    if wanted:
        return
    order = "big" if pack.big_endian else "little"
    serves = [
        f"{clean(build_id)} ({clean(' '.join(filter(None, (proof.program, proof.by))))})"
        for build_id, proof in pack.serves.items()
    ]
    page.listing(
        [
            ("layout pack", clean(pack.name)),
            ("serves", ", ".join(serves) or "-"),
            ("types of build-id", clean(pack.build_id)),
            ("SHA-256 of .text", clean(pack.digest)),
            ("machine", f"{clean(pack.machine)}, {pack.pointer_size * 8} bits, {order}-endian"),
            ("made by", clean(pack.producer)),
            ("holds", _contents(pack)),
        ],
        indent=0,
    )


def _contents(pack: Pack) -> str:
    return f"{len(pack.types)} types, {len(pack.variables)} variables' types"


def _head(pack: Pack) -> Pack:
    """Return a pack without its types and variables."""
    from msgspec import structs

    return structs.replace(pack, types={}, variables={})
