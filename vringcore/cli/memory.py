"""``vringcore memory regions|read|search|export``."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from vringcore.cli import options
from vringcore.errors import EXIT_OK, EXIT_PARTIAL, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

    from vringcore.api import Core
    from vringcore.model.memory import MemoryDocument, MemorySearch
    from vringcore.model.report import Limitation
    from vringcore.report.page import Page

USAGE = "vringcore memory {regions,read,search,export} CORE [options]"
DESCRIPTION = """\
What is in the guest's memory?

This is the verb that shows the guest's own data: what it prints and writes is
whatever the guest had there, keys and files among it.

  regions  the guest-physical memory map, and the blocks of RAM behind it
  read     bytes at a guest-physical address, or with --cpu at a guest-virtual
           one, by that vCPU's page tables
  search   where in the guest's RAM bytes or a string lie
  export   a core of the guest that crash and drgn open, as QEMU's
           dump-guest-memory writes it from a live VM

Bytes that the core does not hold are never shown as zeros: each says why it is
not there.
"""
EPILOG = """\
examples:
  vringcore memory regions core.20873
  vringcore memory read core.20873 0x100000 256
  vringcore memory read core.20873 0xffffffff81000000 4K --cpu 0 --raw | xxd
  vringcore memory search core.20873 --string OSRELEASE=
  vringcore memory export core.20873 -o vmcore --find-vmcoreinfo

`vringcore memory read --help` and so on list the options of each.
"""
REGIONS = """\
Each line is a range of guest-physical addresses and what answers there, as
`info mtree -f` has it; below it the RAM blocks, with how much of each the core
holds.
"""
READ = """\
Print LENGTH bytes of the guest (256 unless told) at ADDRESS, as hexdump -C
does; lines that repeat are one `*` without -v. This is the guest's own data.
ADDRESS is guest-physical; with --cpu guest-virtual, by the page tables that
CR3 of that vCPU led to (x86-64: 4 and 5 levels, large pages); with --device as
a virtio device uses it, through its IOMMU if there is one. Numbers may be
hexadecimal (0x...), LENGTH also 4K or 2M.
"""
SEARCH = """\
Look through the guest's RAM for BYTES, in hexadecimal (`deadbeef`), or for a
string, and print the guest-physical address of each place.
"""
EXPORT = """\
Write a core of the guest: its RAM by guest-physical address, an NT_PRSTATUS
and QEMU's own note of each vCPU, and VMCOREINFO where the guest gave it to
QEMU's vmcoreinfo device. The file is that of dump-guest-memory, byte for byte
where the core holds all RAM. It is sparse, and holds all of the guest's data.
"""

MAX_SHOWN = 16 << 20
"""Bytes that are shown or put into JSON; --raw has no bound."""

DEFAULT_LENGTH = 256


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the verb's own verbs and their options."""
    verbs = parser.add_subparsers(
        dest="action",
        metavar="{regions,read,search,export}",
        required=True,
        prog="vringcore memory",
    )

    def add(words: str, text: str) -> argparse.ArgumentParser:
        each = options.add_action(verbs, "memory", words, text)
        options.add_core_options(each)
        return each

    add("regions CORE", REGIONS)
    read = add("read CORE ADDRESS [LENGTH]", READ)
    read.add_argument(
        "address", metavar="ADDRESS", type=_number, help="the first byte, such as 0x100000"
    )
    read.add_argument(
        "length",
        metavar="LENGTH",
        type=_length,
        nargs="?",
        default=DEFAULT_LENGTH,
        help="how many bytes, such as 512 or 4K",
    )
    group = read.add_argument_group("what is read")
    group.add_argument(
        "--cpu",
        metavar="N",
        type=options.whole_number,
        help="ADDRESS is virtual, as vCPU N sees it",
    )
    group.add_argument(
        "--device",
        metavar="DEVICE",
        help="ADDRESS is as this device uses it: its id, index, serial, PCI address or QOM path",
    )
    group.add_argument("--raw", action="store_true", help="write the bytes themselves")
    group.add_argument("-o", "--output", metavar="FILE", help="where --raw writes; else stdout")
    search = add("search CORE BYTES | --string S", SEARCH)
    search.add_argument("bytes", metavar="BYTES", nargs="?", help="in hexadecimal")
    group = search.add_argument_group("what is searched")
    group.add_argument("--string", metavar="S", help="look for this text instead (UTF-8)")
    group.add_argument(
        "--limit",
        metavar="N",
        type=options.whole_number,
        default=100,
        help="end after N places (100)",
    )
    export = add("export CORE -o FILE", EXPORT)
    group = export.add_argument_group("the guest's core")
    group.add_argument(
        "-o", "--output", metavar="FILE", required=True, help="it appears when it is whole"
    )
    group.add_argument(
        "--find-vmcoreinfo",
        action="store_true",
        help="without such a device: look for the note in guest RAM",
    )
    for each in verbs.choices.values():
        options.add_help(each)


def _number(text: str) -> int:
    try:
        value = int(text, 0)
    except ValueError:
        value = -1
    if not 0 <= value < 1 << 64:
        raise argparse.ArgumentTypeError(f"{text!r} is no address such as 0x100000")
    return value


def _length(text: str) -> int:
    size = _number(text) if text.lower().startswith("0x") else options.byte_count(text)
    if size < 1:
        raise argparse.ArgumentTypeError("nothing to read: LENGTH is 0")
    return size


def run(arguments: argparse.Namespace) -> int:
    """Answer one question; return the exit code."""
    answer = {"regions": _regions, "read": _read, "search": _search, "export": _export}
    return answer[arguments.action](arguments)


def _regions(arguments: argparse.Namespace) -> int:
    from vringcore.model.values import Absent
    from vringcore.report.memory import print_regions

    with options.open_core(arguments) as core:
        from vringcore.qemu.absence import attempt
        from vringcore.qemu.guestmap import GuestMap, guest_blocks

        limits: list[Limitation] = []
        regions = attempt(lambda: GuestMap(core.process).regions())
        blocks = guest_blocks(core.process, limits)
        document = _document(core, limits, regions=regions, blocks=blocks)
    _write(arguments, document, lambda page: print_regions(page, document))
    lost = isinstance(document.regions, Absent) and isinstance(document.blocks, Absent)
    return EXIT_PARTIAL if lost else EXIT_OK


def _read(arguments: argparse.Namespace) -> int:
    if arguments.raw:
        return _read_raw(arguments)
    from vringcore.model.values import Absent
    from vringcore.report.memory import print_read

    if arguments.output is not None:
        raise UsageError("-o is where --raw writes", hint="add --raw, or redirect the output")
    if arguments.length > MAX_SHOWN:
        raise UsageError(
            "too much memory to show",
            seen=f"{arguments.length} bytes",
            expected=f"at most {MAX_SHOWN}",
            hint="--raw writes any amount",
        )
    with options.open_core(arguments) as core:
        from vringcore.qemu.guest import read_guest

        limits: list[Limitation] = []
        read = read_guest(
            core.process,
            arguments.address,
            arguments.length,
            cpu=arguments.cpu,
            device=_device(core, arguments),
            limits=limits,
        )
        document = _document(core, limits, read=read)
    _write(arguments, document, lambda page: print_read(page, document, whole=arguments.verbose))
    lost = all(isinstance(piece.data, Absent) for piece in read.pieces)
    return EXIT_PARTIAL if lost else EXIT_OK


def _device(core: Core, arguments: argparse.Namespace) -> int | None:
    """Return the index of the device as which to read."""
    if arguments.device is None:
        return None
    if arguments.cpu is not None:
        raise UsageError("an address is either a vCPU's or a device's: --cpu and --device")
    return core.find_device(arguments.device).index


def _read_raw(arguments: argparse.Namespace) -> int:
    from vringcore.cli.output import write_bytes
    from vringcore.slim.output import whole_file

    with options.open_core(arguments) as core:
        from vringcore.qemu.guest import guest_bytes

        pieces = guest_bytes(
            core.process,
            arguments.address,
            arguments.length,
            cpu=arguments.cpu,
            device=_device(core, arguments),
        )
        if arguments.output is None:
            for data in pieces:
                write_bytes(data)
        else:
            path, sources = _plain(arguments.output), options.sources(arguments)
            with whole_file(path, "the guest's memory", sources=sources) as file:
                file.writelines(pieces)
    return EXIT_OK


def _search(arguments: argparse.Namespace) -> int:
    from vringcore.report.memory import print_search

    pattern = _pattern(arguments)
    with options.open_core(arguments) as core:
        from vringcore.qemu.guestmap import GuestMap
        from vringcore.qemu.guestsearch import search

        found = search(
            core.process,
            GuestMap(core.process),
            pattern,
            limit=arguments.limit,
            progress=options.progress_line("searching"),
        )
        document = _document(core, _unsearched(found), search=found)
    _write(arguments, document, lambda page: print_search(page, document))
    return EXIT_OK


def _pattern(arguments: argparse.Namespace) -> bytes:
    if (arguments.bytes is None) == (arguments.string is None):
        raise UsageError("what is looked for is given either as BYTES or with --string")
    if arguments.string is not None:
        return str(arguments.string).encode("utf-8", "surrogateescape")
    try:
        return bytes.fromhex(arguments.bytes.removeprefix("0x"))
    except ValueError:
        raise UsageError(
            "the bytes to look for cannot be read",
            seen=arguments.bytes,
            expected="two hexadecimal digits for each, such as deadbeef",
            hint="--string looks for a text",
        ) from None


def _export(arguments: argparse.Namespace) -> int:
    from vringcore.report.memory import print_export

    path = _plain(arguments.output)
    with options.open_core(arguments) as core:
        from vringcore.qemu.guest import export_guest
        from vringcore.slim.output import whole_file

        limits: list[Limitation] = []
        with whole_file(path, "the guest's core", sources=options.sources(arguments)) as file:
            export = export_guest(
                core.process,
                file,
                path,
                limits=limits,
                find_note=arguments.find_vmcoreinfo,
                progress=options.progress_line("writing"),
                search_progress=options.progress_line("searching"),
            )
        document = _document(core, limits, export=export)
    _write(arguments, document, lambda page: print_export(page, document))
    return EXIT_OK if export.segments else EXIT_PARTIAL


def _plain(path: str) -> str:
    """Return the path of an output that is not packed: packing would hold all of it in memory."""
    if path.endswith(".zst"):
        raise UsageError(
            "the guest's memory is not packed",
            seen=path,
            hint="write it without .zst, and run `zstd` on it",
        )
    return path


def _unsearched(found: MemorySearch) -> list[Limitation]:
    from vringcore.model.report import Limitation

    if not found.missing:
        return []
    why = f"{found.missing} bytes of guest RAM are not in the core"
    return [Limitation("not everything was searched", why, "`memory regions` tells which")]


def _document(core: Core, limits: list[Limitation], **parts: Any) -> MemoryDocument:
    from vringcore.api import TOOL
    from vringcore.model.memory import MemoryDocument

    return MemoryDocument(tool=TOOL, limits=(*core.process.limits, *limits), **parts)


def _write(
    arguments: argparse.Namespace, document: MemoryDocument, write: Callable[[Page], Any]
) -> None:
    from vringcore.cli.output import write_json, write_page

    if arguments.json:
        write_json(document)
    else:
        write_page(arguments, write)
