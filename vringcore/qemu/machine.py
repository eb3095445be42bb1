"""What machine QEMU runs and in which state: version, type, accelerator, run state, migration."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vringcore.addresses import HostAddress
from vringcore.errors import CorruptDataError, VringcoreError
from vringcore.layout.types import Enum
from vringcore.memory.space import Coverage
from vringcore.model.values import Absent, Address
from vringcore.qemu.absence import NOT_IN_THIS_BUILD, attempt
from vringcore.qemu.ramblocks import ram_blocks
from vringcore.qemu.structs import (
    ENUMS,
    MachineClass,
    MachineState,
    MigrationState,
    Object,
    QEnumLookup,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vringcore.elfcore.modules import Module
    from vringcore.memory.gaps import Gap
    from vringcore.memory.space import Piece
    from vringcore.qemu.qom import ObjectModel
    from vringcore.view.views import Views

VERSION_MARK = b"QEMU emulator version "
VERSION_FACT = "qemu-version"
MAX_SEARCHED = 256 << 20
SEARCH_STEP = 64 << 10
MAX_ENUMERATORS = 1024
MAX_NAMED = 4

NOT_SET_UP = "not-set-up"
"""The process had not come so far, or was past it: a pointer that is NULL."""


def qemu_version(views: Views, executable: Module | None) -> str | Absent:
    """Return what ``qemu-system-… --version`` prints behind "QEMU emulator version".

    It is a literal of ``version()`` (system/vl.c). The executable's mappings are searched for it;
    as cores seldom hold them, that means reading a megabyte or more of its file.
    """
    known = views.layouts.find_fact(VERSION_FACT)
    if known is not None:
        return known
    if executable is None:
        return Absent("not-in-core", None, "the core does not tell which file was executed")
    found = _search_version(views, executable)
    if isinstance(found, str):
        views.layouts.learn(VERSION_FACT, found)
    return found


def _search_version(views: Views, executable: Module) -> str | Absent:
    missing: list[Gap] = []
    searched = 0
    for start, end in _constants_first(views, executable):
        searched += end - start
        if searched > MAX_SEARCHED:
            break
        previous = b""
        for piece in _in_steps(views, start, end):
            if piece.gap is not None:
                missing.append(piece.gap)
            # A mark at the end of one piece goes on in the next.
            data = previous + (piece.data or b"")
            at = data.find(VERSION_MARK)
            if at >= 0:
                return _version_at(views, piece.address - len(previous) + at)
            previous = data[1 - len(VERSION_MARK) :] if piece.data else b""
    if missing:
        return Absent(missing[0].kind.value, Address(missing[0].address), missing[0].hint)
    return Absent("not-found", None, "no version string in the executable")


def _in_steps(views: Views, start: int, end: int) -> Iterator[Piece]:
    """Yield memory in pieces for which the same few pages are used again and again."""
    for at in range(start, end, SEARCH_STEP):
        yield from views.space.scan(HostAddress(at), min(SEARCH_STEP, end - at))


def machine_type(views: Views, objects: ObjectModel) -> str | Absent:
    """Return the machine type as ``-machine`` takes it (``MachineClass.name``): ``pc-q35-7.2``."""

    def read() -> str | Absent:
        machine = _current_machine(views)
        if isinstance(machine, Absent):
            return machine
        try:
            class_ = views.at(Object, machine).class_
            return views.string(views.at(MachineClass, class_).name)
        except VringcoreError:
            name = objects.type_name(machine)
            if name is None:
                raise
            return name.removesuffix("-machine")

    return attempt(read)


def accelerator(views: Views, objects: ObjectModel) -> str | Absent:
    """Return ``kvm``, ``tcg`` … by the type of ``MachineState.accelerator``."""

    def read() -> str | Absent:
        machine = _current_machine(views)
        if isinstance(machine, Absent):
            return machine
        address = views.at(MachineState, machine).accelerator
        if not address:
            return Absent(NOT_SET_UP, None, "MachineState.accelerator is NULL")
        name = objects.type_name(address)
        if name is None:
            raise CorruptDataError(
                "the accelerator is no object",
                where="MachineState.accelerator",
                seen=f"{address:#x}",
            )
        return name.removesuffix("-accel")

    return attempt(read)


def run_state(views: Views) -> str | Absent:
    """Return the run state in QMP's words: ``running``, ``paused``, ``finish-migrate`` …

    From ``current_run_state`` (system/runstate.c).
    """

    def read() -> str | Absent:
        place = views.address_of("current_run_state")
        return qapi_name(views, "RunState", "RUN_STATE_", views.integer(place, 4))

    return attempt(read)


def migration_status(views: Views) -> str | Absent | None:
    """Return the status of the outgoing migration in QMP's words: ``active``, ``none`` …

    From ``current_migration->state`` (migration/migration.c); None if there is no such object yet.
    The numbers were renumbered between releases: names come from the build itself.
    """

    def read() -> str | Absent | None:
        state = views.pointer(views.address_of("current_migration"))
        if not state:
            return None
        return qapi_name(
            views, "MigrationStatus", "MIGRATION_STATUS_", views.at(MigrationState, state).state
        )

    return attempt(read)


def guest_ram_state(views: Views) -> str:
    """Tell whether guest RAM is in the core, by the RAM blocks and what can be read of them.

    A block that was never written is one that the kernel leaves out of its cores.

    :return: ``present``, ``partial (missing: …)``, ``absent``, ``absent (dump-guest-core=off)`` or
        ``unknown (…)``
    """
    try:
        blocks = [(block.idstr, block.host, block.used_length) for block in ram_blocks(views)]
    except VringcoreError as error:
        return f"unknown ({error.doing})"
    coverage = Coverage(views.space)
    found = [(name, size, coverage.total(host, size)) for name, host, size in blocks]
    if not found:
        return "unknown (no RAM blocks)"
    if not any(readable for _, _, readable in found):
        excluded = attempt(lambda: _is_excluded(views)) is True
        return "absent (dump-guest-core=off)" if excluded else "absent"
    missing = [
        name if not readable else f"{size - readable} bytes of {name}"
        for name, size, readable in found
        if readable < size
    ]
    return f"partial (missing: {', '.join(missing[:MAX_NAMED])})" if missing else "present"


def _is_excluded(views: Views) -> bool:
    machine = _current_machine(views)
    return not isinstance(machine, Absent) and not views.at(MachineState, machine).dump_guest_core


def _current_machine(views: Views) -> HostAddress | Absent:
    address = views.pointer(views.address_of("current_machine"))
    return address or Absent(NOT_SET_UP, None, "current_machine is NULL")


def qapi_name(views: Views, enum: str, prefix: str, value: int) -> str | Absent:
    """Return an enumerator's name as QAPI has it: from the type, else from QAPI's own table."""
    key = f"enum {enum}"
    definition = views.layouts.find_definition(key, ENUMS[key])
    if isinstance(definition, Enum):
        return name_in_type(definition, prefix, value)
    return name_in_table(views, enum, value)


def name_in_type(definition: Enum, prefix: str, value: int) -> str:
    """Return the name of a value by the enumerators of the build.

    :raises CorruptDataError: if it has none
    """
    for name, number in definition.enumerators.items():
        if number == value and name != f"{prefix}_MAX":
            return name.removeprefix(prefix).lower().replace("_", "-")
    raise _no_such(definition.name or prefix, value)


def name_in_table(views: Views, enum: str, value: int) -> str | Absent:
    """Return the name of a value by ``X_lookup`` (scripts/qapi/types.py), an array of strings.

    :raises CorruptDataError: if it has none
    :raises MemoryFault: if the names, which lie among the executable's constants, are not at hand
    """
    place = views.find_address_of(f"{enum}_lookup")
    if place is None:
        return Absent(NOT_IN_THIS_BUILD, None, f"neither enum {enum} nor {enum}_lookup is known")
    table = views.at(QEnumLookup, place)
    if not 0 <= value < min(table.size, MAX_ENUMERATORS):
        raise _no_such(enum, value)
    return views.string(views.pointer(table.array + value * views.pointer_size))


def _no_such(enum: str, value: int) -> CorruptDataError:
    return CorruptDataError(f"a value that {enum} does not have", seen=str(value))


def _constants_first(views: Views, executable: Module) -> list[tuple[int, int]]:
    """Return the executable's mappings in the order of how likely they hold string literals.

    Linkers put ``.rodata`` behind the code, or, in old layouts, into the same segment.
    """
    code = [r for r in views.space.ranges() if r.executable]
    likely: list[tuple[int, int]] = []
    others: list[tuple[int, int]] = []
    code_itself: list[tuple[int, int]] = []
    behind_code = False
    for mapping in sorted(executable.mappings, key=lambda m: m.start):
        start, end = mapping.start, mapping.end
        is_code = any(r.address < end and start < r.address + r.size for r in code)
        (code_itself if is_code else likely if behind_code else others).append((start, end))
        behind_code = is_code
    return likely + others + code_itself


def _version_at(views: Views, address: int) -> str | Absent:
    line = attempt(lambda: views.string(address + len(VERSION_MARK)))
    return line if isinstance(line, Absent) else line.split("\n", 1)[0].strip()
