"""Layout bundles made from a program, and held against one.

A bundle made here holds what any question to any core of that build may look up, so that the
program and its debug information can stay where they are.
"""

from __future__ import annotations

from importlib import import_module
from pkgutil import iter_modules
from typing import TYPE_CHECKING

from vringcore import qemu
from vringcore.errors import LayoutError
from vringcore.layout import types
from vringcore.layout.bundle import Bundle, get_type
from vringcore.layout.provider import Layouts
from vringcore.view.declare import View

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from typing import Self

    from vringcore.layout.types import Definition, Symbol, Type

VARIABLES = (
    ("vhost_devices", "hw/virtio/vhost.c", ""),
    ("current_migration", "migration/migration.c", ""),
    ("current_incoming", "migration/migration.c", ""),
    ("root", "qom/object.c", "object_get_root"),
    ("internal_root", "qom/object.c", "object_get_internal_root"),
    ("block_backends", "block/block-backend.c", ""),
    ("all_bdrv_states", "block.c", ""),
    ("bdrv_drain_all_count", "block/io.c", ""),
    ("reader_queue", "block/graph-lock.c", ""),
    ("jobs", "job.c", ""),
    ("aio_source_funcs", "util/async.c", ""),
    ("main_loop_tlg", "util/qemu-timer.c", ""),
    ("qmp_dispatcher_co", "monitor/monitor.c", ""),
)
"""Variables that are asked for by file or function: name, file, function."""


class Program:
    """A program whose layouts are read afresh, nothing being known of it. Close it.

    :param executable: the program, or a separate debug file of it
    :ivar paths: the files that hold its symbols
    :raises FileError, ElfFormatError: if the file cannot be read
    :raises DebugInfoMissingError: if nothing describes its types; the message lists the places
    """

    def __init__(
        self, executable: str, *, debug_files: Sequence[str] = (), debug_dirs: Sequence[str] = ()
    ) -> None:
        from vringcore.debuginfo.elf import ElfFile
        from vringcore.debuginfo.find import FoundFiles
        from vringcore.debuginfo.provider import DebugInfo
        from vringcore.elfcore.registers import machine_name
        from vringcore.version import VERSION

        with ElfFile.open(executable) as elf:
            build_id, header = elf.build_id, elf.header
        files = FoundFiles(build_id, executable, debug_files=debug_files, debug_dirs=debug_dirs)
        self.paths = tuple(dict.fromkeys((executable, files.debug_file())))
        bundle = Bundle(
            build_id=build_id,
            module=executable.rsplit("/", 1)[-1],
            machine=machine_name(header.machine),
            big_endian=header.big_endian,
            pointer_size=header.elf_class // 8,
            producer=f"vringcore {VERSION}",
        )
        self._debug = DebugInfo(files)
        self.layouts = Layouts(bundle, [self._debug])

    def close(self) -> None:
        """Close the files."""
        self._debug.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def build_bundle(program: Program) -> Bundle:
    """Return the layouts of a QEMU build that its cores' questions need.

    :raises LayoutError: if the program has no build-id, or is no QEMU with virtio devices
    """
    layouts = program.layouts
    if not layouts.build_id:
        raise LayoutError(
            "no layouts can be kept of a program without build-id",
            where=program.paths[0],
            hint="link it with --build-id",
        )
    look_up_variables(layouts)
    _look_up_types(layouts)
    bundle = layouts.bundle
    if "struct VirtIODevice" not in bundle.types:
        raise LayoutError(
            "this program has no virtio devices",
            where=program.paths[0],
            expected="a qemu-system-* program with debug information",
        )
    bundle.symbols_at.update(_symbols(program))
    return bundle


def look_up_variables(layouts: Layouts) -> None:
    """Look up every variable that the answers to some question begin with."""
    from vringcore.qemu.structs import ENUMS
    from vringcore.qemu.structs import VARIABLES as GLOBALS

    layouts.hint(GLOBALS)
    for name in (*GLOBALS, *(f"{key.removeprefix('enum ')}_lookup" for key in ENUMS)):
        layouts.find_variable(name)
    for name, unit, function in VARIABLES:
        layouts.find_variable(name, unit, function)
    for name, unit in _tabulated():
        layouts.find_variable(name, unit)


def _tabulated() -> Iterator[tuple[str, str]]:
    """Yield the variables that qemu/ has in tables, with their files."""
    from vringcore.qemu import coroutine_running, lock_structs, loops_places, thread_structs

    yield from thread_structs.CPUS.items()
    yield from loops_places.VARIABLES
    for name in (*coroutine_running.CURRENT, *coroutine_running.LEADER):
        yield name, coroutine_running.UNIT
    for name, (_, units) in lock_structs.VARIABLES.items():
        yield name, units[0]
    yield "throttle_groups", lock_structs.THROTTLE_GROUP[1][0]


def _look_up_types(layouts: Layouts) -> None:
    """Look up every structure that a view declares, and what lies inside them."""
    from vringcore.qemu.structs import ENUMS

    waiting = dict(ENUMS)
    for view in _views():
        waiting[view.c_type] = view.unit
    done = set()
    while waiting:
        key, units = waiting.popitem()
        done.add(key)
        found = layouts.find_definition(key, units)
        if found is not None:
            inside = {name.key for name in _parts(found)}
            waiting |= {name: () for name in inside - done if name not in waiting}


def _views() -> Iterator[type[View]]:
    for module in iter_modules(qemu.__path__):
        if module.name.endswith("structs"):
            import_module(f"vringcore.qemu.{module.name}")
    waiting = [View]
    while waiting:
        view = waiting.pop()
        waiting += view.__subclasses__()
        if view.c_type and view.__module__.startswith("vringcore."):
            yield view


def _parts(definition: Definition | Type) -> Iterator[types.Named]:
    """Return the named types that lie inside a type, not those it points to."""
    match definition:
        case types.Named():
            yield definition
        case types.Typedef(type=inner) | types.Qualified(of=inner) | types.Array(of=inner):
            yield from _parts(inner)
        case types.Record(members=members):
            for member in members:
                yield from _parts(member.type)


def _symbols(program: Program) -> dict[str, Symbol | None]:
    """Return every function and object by its link-time address, as LIEF reads the symbols."""
    names: dict[int, set[tuple[str, int]]] = {}
    for name, address, size in elf_symbols(program.paths):
        names.setdefault(address, set()).add((name, size))
    found: dict[str, Symbol | None] = {}
    for address, candidates in sorted(names.items()):
        if len(candidates) == 1:
            name, size = next(iter(candidates))
            found[format(address, "x")] = types.Symbol(name, address, size)
        else:  # several names for one address: the same choice as without a bundle
            found[format(address, "x")] = program.layouts.symbol_at(address)
    return found


def elf_symbols(paths: Iterable[str]) -> Iterator[tuple[str, int, int]]:
    """Return name, link-time address and size of every symbol that has all three.

    Those of thread-local variables have offsets in place of addresses, and are left out.

    :raises LayoutError: if a file cannot be read
    """
    import lief

    lief.logging.disable()  # it has something to say of every separate debug file
    seen = set()
    for path in paths:
        binary = lief.ELF.parse(path)
        if binary is None:
            raise LayoutError("the symbols cannot be read", where=path)
        for symbol in binary.symbols:
            place = (str(symbol.name), int(symbol.value), int(symbol.size))
            is_local = symbol.type == lief.ELF.Symbol.TYPE.TLS
            if all(place) and place not in seen and symbol.shndx and not is_local:
                seen.add(place)
                yield place


def check_bundle(bundle: Bundle, program: Program) -> tuple[int, int, int, list[str]]:
    """Hold a bundle against the program: types and variables read again, symbols as LIEF has them.

    :return: how many types, variables and symbols were compared, and a line for each difference
    :raises LayoutError: if it is another build's, or damaged
    """
    layouts = program.layouts
    if bundle.build_id != layouts.build_id:
        raise LayoutError(
            "the layout bundle is of another build",
            where=program.paths[0],
            seen=f"build-id {layouts.build_id or 'none'}",
            expected=f"build-id {bundle.build_id or 'none'}",
            hint="build one from this file with `vringcore layout build`",
        )
    differences = []
    for key in bundle.types:
        typed = get_type(bundle, key)
        assert typed is not None
        if layouts.find_definition(key, (typed.unit,)) != typed.definition:
            differences.append(f"{key} is another in the program")
    for key, variable in bundle.variables.items():
        found = layouts.find_variable(variable.name, variable.unit, variable.function)
        if found is None or found.address != variable.address:
            differences.append(f"variable {key} is elsewhere in the program")
    places = set(elf_symbols(program.paths))
    symbols = [*bundle.symbols.values(), *filter(None, bundle.symbols_at.values())]
    differences += [
        f"symbol {symbol.name} is not at {symbol.address:#x} in the program"
        for symbol in symbols
        if (symbol.name, symbol.address, symbol.size) not in places
    ]
    return len(bundle.types), len(bundle.variables), len(symbols), differences
