"""The document of ``vringcore precheck``: what a core, or one to be taken, can answer."""

from __future__ import annotations

import msgspec
from msgspec import UNSET, UnsetType

from vringcore.model.report import Limitation, Tool
from vringcore.model.values import Absent


class CheckedFile(msgspec.Struct, frozen=True, omit_defaults=True):
    """The core file.

    ``size`` is that of the core in bytes, unpacked; ``stored`` what the file that was given takes
    on disk, packed or sparse as it is. ``written_by`` is ``gcore``, ``kernel``, ``slim`` or
    ``unknown``. ``complete`` is False for a file that is cut, and ``cut`` says where.
    """

    size: int
    stored: int
    written_by: str
    machine: str
    complete: bool
    captured_at: str | Absent
    captured_at_source: str = ""
    cut: str = ""


class CheckedProgram(msgspec.Struct, frozen=True):
    """The program. ``is_qemu`` is null where nothing tells; ``why`` is what the answer rests on."""

    is_qemu: bool | None
    name: str
    path: str
    why: str
    pid: int | Absent
    build_id: str


class CheckedModule(msgspec.Struct, frozen=True, omit_defaults=True):
    """An ELF file that was mapped.

    ``state`` is ``found`` (``file`` is of the same build), ``missing``, ``other-build`` or
    ``unknown`` (the core does not hold its build-id). ``refused`` says which files were looked at
    and why they are not it.
    """

    path: str
    build_id: str
    state: str
    file: str = ""
    deleted: bool = False
    refused: tuple[str, ...] = ()


class GuestRam(msgspec.Struct, frozen=True):
    """Guest RAM in the core, or in a core if one were taken now.

    ``state`` is ``present``, ``partial``, ``absent`` or ``unknown``. ``bytes`` are there, of
    ``configured`` that the command line asks for. ``why`` is what the answer rests on: no debug
    information is used, so RAM is known by its size.
    """

    state: str
    bytes: int
    configured: int | Absent
    why: str


class DebugInformation(msgspec.Struct, frozen=True, omit_defaults=True):
    """What describes QEMU's types.

    ``state`` is ``in-core`` (a slim core's), ``given`` (--layout), ``executable``, ``separate``,
    ``cached`` (what earlier runs learned), ``pack`` or ``missing``. ``package`` names what to
    install where it is missing.
    """

    state: str
    file: str = ""
    package: str = ""
    tried: tuple[str, ...] = ()


class VerbAnswer(msgspec.Struct, frozen=True):
    """Whether a verb can answer: ``yes``, ``partly`` or ``no``, and why not wholly."""

    verb: str
    answer: str
    why: str


class Advice(msgspec.Struct, frozen=True, omit_defaults=True):
    """What to do, why, and the command or setting that does it."""

    what: str
    why: str
    how: str = ""


class CheckedProcess(msgspec.Struct, frozen=True):
    """A running process, and what a core of it would meet.

    Sizes are in bytes. ``core_apparent`` and ``core_stored`` are those of a core by the kernel with
    the filter as it is: with holes and without. ``destination`` is the directory it would go to, or
    the program that ``core_pattern`` pipes it to.
    """

    pid: int
    user: int
    state: str
    threads: int
    threads_in_d: tuple[int, ...]
    coredump_filter: int | Absent
    core_limit: int | Absent | None
    core_pattern: str | Absent
    destination: str | Absent
    free_space: int | Absent
    core_apparent: int | Absent
    core_stored: int | Absent
    executable_deleted: bool | Absent


class PrecheckDocument(msgspec.Struct, frozen=True, kw_only=True):
    """``vringcore/precheck/1``: what can be answered, what cannot, and why.

    Of a core ``core``, ``modules`` and ``registers`` are there, of a process ``process``.
    ``threads`` counts those that the core has, ``registers`` those of them whose registers it has.
    """

    schema: str = "vringcore/precheck/1"
    tool: Tool
    path: str
    core: CheckedFile | UnsetType = UNSET
    process: CheckedProcess | UnsetType = UNSET
    program: CheckedProgram
    guest_ram: GuestRam
    debug_information: DebugInformation
    modules: tuple[CheckedModule, ...] | UnsetType = UNSET
    threads: int | UnsetType = UNSET
    registers: int | UnsetType = UNSET
    answers: tuple[VerbAnswer, ...]
    next_capture: tuple[Advice, ...]
    limits: tuple[Limitation, ...] = ()
