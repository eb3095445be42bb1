"""What a core of a running process would answer: from /proc alone, stopping nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from vringcore.debuginfo.find import find_debug_file
from vringcore.errors import ProcessAccessError, VringcoreError
from vringcore.model.precheck import (
    CheckedProcess,
    CheckedProgram,
    DebugInformation,
    GuestRam,
    PrecheckDocument,
)
from vringcore.model.report import Limitation, Tool
from vringcore.model.values import Absent
from vringcore.qemu.precheck_answers import Facts, answers
from vringcore.qemu.precheck_files import package_of, tried_places
from vringcore.qemu.precheck_next import next_capture
from vringcore.qemu.precheck_ram import held
from vringcore.qemu.program import named_like_qemu
from vringcore.qemu.ram_options import RamBlock, ram_of
from vringcore.slim import precheck_dump, precheck_limits, procfs
from vringcore.version import VERSION

if TYPE_CHECKING:
    from collections.abc import Callable

    from vringcore.model.precheck import Advice
    from vringcore.options import Options
    from vringcore.slim.precheck_dump import DumpedMemory
    from vringcore.slim.procfs import ProcessDirectory

DISK_SLEEP = "D"

_T = TypeVar("_T")


def precheck_process(pid: int, options: Options) -> PrecheckDocument:
    """Return what a core of a process would answer if the kernel wrote one now. Linux only.

    Nothing is stopped and no memory is read. The process's own user may ask; what only root is told
    is absent, with what would help.

    :param options: debug directories, as for :func:`vringcore.open_core`
    :raises NoSuchProcessError: if there is no such process
    :raises ProcessAccessError: if the system hides it
    """
    with procfs.ProcessDirectory(pid) as directory:
        return _Check(directory, options).document()


class _Check:
    """Asks for one fact after the other; what is refused becomes a limit."""

    def __init__(self, directory: ProcessDirectory, options: Options) -> None:
        self._directory = directory
        self._options = options
        self._limits: list[Limitation] = []

    def document(self) -> PrecheckDocument:
        directory = self._directory
        status = procfs.read_status(directory)
        threads = self._asked("threads", lambda: precheck_limits.thread_states(directory)) or {}
        exe = self._asked("the executable", lambda: directory.link("exe")) or ""
        arguments = self._asked("the command line", lambda: procfs.read_arguments(directory)) or ()
        program = self._program(status.name, exe)
        blocks = ram_of(arguments) if program.is_qemu is not False else []
        filter_ = precheck_limits.coredump_filter(directory)
        dumped = self._asked(
            "the sizes of its memory", lambda: precheck_dump.read_memory(directory, filter_)
        )
        ram = _guest_ram(dumped, blocks, filter_)
        debug = self._debug_information(program)
        asleep = tuple(lwp for lwp, state in threads.items() if state == DISK_SLEEP)
        target = precheck_limits.destination(directory)
        facts = Facts(
            is_qemu=program.is_qemu,
            debug=debug.state,
            guest_ram=ram.state,
            complete=True,
            threads=len(threads),
            registers=len(threads),
            executable=bool(exe),
            code=True,
            place=True,
            memory=True,
            slim=False,
        )
        limit = precheck_limits.core_limit(directory)
        process = CheckedProcess(
            pid=directory.pid,
            user=status.uid,
            state=status.state,
            threads=len(threads),
            threads_in_d=asleep,
            coredump_filter=filter_,
            core_limit=limit,
            core_pattern=target.pattern,
            destination=target.place,
            free_space=target.free,
            core_apparent=dumped.apparent if dumped else _REFUSED,
            core_stored=dumped.stored if dumped else _REFUSED,
            executable_deleted=exe.endswith(" (deleted)") if exe else _REFUSED,
        )
        advice = precheck_limits.advice(process, dumpable=precheck_limits.is_dumpable(directory))
        further = next_capture(facts, blocks, written_by="kernel", pid=str(directory.pid))
        return PrecheckDocument(
            tool=Tool("vringcore", VERSION),
            path=directory.path,
            process=process,
            program=program,
            guest_ram=ram,
            debug_information=debug,
            answers=answers(facts),
            next_capture=() if program.is_qemu is False else _once((*advice, *further)),
            limits=tuple(self._limits),
        )

    def _asked(self, what: str, ask: Callable[[], _T]) -> _T | None:
        try:
            return ask()
        except ProcessAccessError as error:
            self._limits.append(Limitation(f"{what} cannot be read", error.seen, error.hint))
        return None

    def _program(self, name: str, exe: str) -> CheckedProgram:
        path = exe.removesuffix(" (deleted)")
        called = path.rpartition("/")[2] or name
        return CheckedProgram(
            is_qemu=named_like_qemu(called),
            name=called,
            path=path,
            why=f"the program is called {called}",
            pid=self._directory.pid,
            build_id=self._build_id(),
        )

    def _build_id(self) -> str:
        """Return the build-id of the very file that runs, be it deleted or replaced."""
        from vringcore.elfcore.executable import read_executable
        from vringcore.memory.files import FileSource

        try:
            with FileSource.open(f"{self._directory.path}/exe", what="executable") as source:
                return read_executable(source).build_id
        except VringcoreError:
            return ""

    def _debug_information(self, program: CheckedProgram) -> DebugInformation:
        if self._options.layout is not None:
            return DebugInformation("given", self._options.layout)
        found = find_debug_file(
            program.build_id,
            f"{self._directory.path}/exe" if program.build_id else "",
            debug_files=self._options.debug_files,
            debug_dirs=self._options.debug_dirs,
            sysroot=self._options.sysroot,
        )
        if found.path:
            own = found.path.endswith("/exe")
            return DebugInformation(
                "executable" if own else "separate", program.path if own else found.path
            )
        return tried_places(program.build_id, package_of(program.name), found.log)


_REFUSED = Absent("refused", None, "only the process's own user and root are told")


def _once(advice: tuple[Advice, ...]) -> tuple[Advice, ...]:
    return tuple(dict.fromkeys(advice))


def _guest_ram(
    dumped: DumpedMemory | None, blocks: list[RamBlock], filter_: int | Absent
) -> GuestRam:
    """Return how much of RAM a core would have: the mappings of its size, by the kernel's rules."""
    if not blocks:
        return GuestRam("unknown", 0, _REFUSED, "it is not a QEMU, or its command line is hidden")
    wanted = sum(block.size for block in blocks)
    if dumped is None or isinstance(filter_, Absent):
        return GuestRam("unknown", 0, wanted, "what is mapped cannot be read")
    there = sum(held(dumped.writable, block.size) for block in blocks)
    state = "absent" if not there else "present" if there >= wanted else "partial"
    return GuestRam(
        state, there, wanted, f"by the mappings of that size and coredump_filter {filter_:#x}"
    )
