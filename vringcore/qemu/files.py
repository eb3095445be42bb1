"""The files of a core's program: the executable, by build-id, and what describes its types."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vringcore.addresses import HostAddress
from vringcore.debuginfo.find import find_files
from vringcore.elfcore.executable import Executable, read_executable
from vringcore.elfcore.headers import PT_LOAD
from vringcore.elfcore.notes import AT_ENTRY
from vringcore.errors import (
    CoreFormatError,
    DebugInfoMissingError,
    ExecutableMismatchError,
    LayoutError,
    VringcoreError,
)
from vringcore.layout.bundle import Bundle, check_size, from_json, is_bundle
from vringcore.layout.provider import Layouts
from vringcore.memory.files import FileSource

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vringcore.debuginfo.find import FoundFiles
    from vringcore.debuginfo.provider import DebugInfo
    from vringcore.elfcore.headers import ProgramHeader
    from vringcore.elfcore.image import ProcessImage
    from vringcore.elfcore.modules import Module
    from vringcore.layout.pack import Pack
    from vringcore.layout.protocol import Provider
    from vringcore.layout.store import LayoutStore
    from vringcore.options import Options


class ProgramFiles:
    """The executable of a core, and its debug information, which is opened only when needed.

    Close it. What ``layouts`` returned goes on working and opens the files again if it must.

    :ivar executable: the program's file, None if it was not found
    :ivar build_id: of the program: from the core, else from the file given; "" if unknown
    :ivar mapped: files to lay under the core's memory, by module path
    :ivar brought: what a slim core brings along of its libraries, by build-id
    :ivar pack: the layout pack that the types come from; None where it is not needed
    :ivar near: whether it is another build's
    :raises FileError, ElfFormatError: if the executable given cannot be read
    :raises ExecutableMismatchError: if it is another build than the one that ran
    """

    def __init__(self, core: ProcessImage, options: Options) -> None:
        self._core = core
        self._options = options
        module = core.executable
        self._found = self._find(core.executable_path)
        if not self._found.executable:
            self._find_as_told()
        self.executable: Executable | None = None
        self.brought: dict[str, Bundle] = {}
        self.mapped: dict[str, FileSource] = {}
        if self._found.executable:
            source = FileSource.open(self._found.executable, what="executable")
            self.executable = read_executable(source)
            if module is None:
                self._place_by_file(options)
                module = core.executable
            if module is not None:
                self.mapped[module.path] = source
        self.build_id = self._found.build_id or (
            self.executable.build_id if self.executable else ""
        )
        self._found.build_id = self.build_id
        self._debug: DebugInfo | None = None
        self.pack: Pack | None = None
        self.near = False

    def _find(self, path: str) -> FoundFiles:
        core, options = self._core, self._options
        return find_files(
            core.executable.build_id if core.executable else "",
            path,
            executable=options.executable,
            debug_files=options.debug_files,
            debug_dirs=options.debug_dirs,
            sysroot=options.sysroot,
            beside=core.path,
        )

    def _find_as_told(self) -> None:
        """Look where ABRT says that the program was, if the core does not tell or errs."""
        from vringcore.elfcore.crashdir import read_around

        saved = read_around(self._core.path)
        if saved is None or saved.executable in (None, self._core.executable_path):
            return
        found = self._find(saved.executable or "")
        if found.executable:
            self._found = found

    def _place_by_file(self, options: Options) -> None:
        """Find the modules of a core that names no files, by the executable's own file.

        :raises ExecutableMismatchError: if the file given is not the one that ran
        """
        from vringcore.elfcore.linkmap import add_modules, is_same_build

        core, executable = self._core, self.executable
        if executable is None or core.modules or AT_ENTRY not in core.auxv:
            return
        same = is_same_build(core, executable, core.auxv[AT_ENTRY] - executable.header.entry)
        if same is False and options.executable is None:
            self.executable, self._found.executable = None, ""
            executable.source.close()
            return
        if same is False:
            raise ExecutableMismatchError(
                "the executable is another build than the one that ran",
                where=executable.source.path,
                seen="a dynamic section or a number of program headers that is not the process's",
                hint="give the file of the very package that was running",
            )

        def find(path: str) -> Executable | None:
            found = find_files("", path, sysroot=options.sysroot).executable
            if not found:
                return None
            try:
                return read_executable(FileSource.open(found, what="library"))
            except VringcoreError:
                return None

        add_modules(core, executable, find)

    @property
    def bias(self) -> int:
        """The program's load bias.

        :raises CoreFormatError: if neither the core nor the executable tells it
        """
        if self.executable is not None:
            return self._core.executable_bias(
                self.executable.header.entry, self.executable.build_id
            )
        module = self._core.executable
        if module is None or module.load_bias is None:
            from vringcore.qemu.program import not_qemu

            raise not_qemu(self._core, None) or CoreFormatError(
                "the core does not tell where its executable was loaded",
                where=self._core.path,
                seen="a truncated core: gdb writes last what would tell"
                if self._core.truncated
                else "no mapping of it in the core",
                hint="give the executable with -e PATH",
            )
        return module.load_bias

    @property
    def extent(self) -> tuple[int, int]:
        """The program's run-time addresses, from its first segment to behind its last."""
        module = self._core.executable
        segments: list[ProgramHeader] = []
        if self.executable is not None:
            segments = self.executable.program_headers
        elif module is not None:
            segments = module.program_headers
        loads = [p for p in segments if p.type == PT_LOAD]
        if loads:
            bias = self.bias
            return min(p.vaddr for p in loads) + bias, max(p.vaddr + p.memsz for p in loads) + bias
        return (module.start, module.end) if module is not None else (0, 0)

    @property
    def thread_block(self) -> HostAddress | None:
        """Where the first thread of the core has the program's thread-local variables, if known.

        The first is the one that gdb chooses: whose signal ended the process, or the main thread.
        """
        threads = self._core.threads
        if self.executable is None or not threads or threads[0].fs_base is None:
            return None
        from vringcore.elfcore.tls import executable_block

        block = executable_block(
            self._core.machine, threads[0].fs_base, self.executable.program_headers
        )
        return None if block is None or block < 0 else HostAddress(block)

    def layouts(self, store: LayoutStore) -> Layouts:
        """Return the layouts of the program's build.

        :raises FileError, LayoutError: if the bundle given cannot be read or is another build's
        """
        if self._options.layout is not None:
            given = self._given(self._options.layout)
            if given is not None:
                return store.add(given)
        if self._core.slim is not None:
            brought = self._brought_bundle()
            if brought is not None:
                return Layouts(brought, self._providers())
        header = self._core.header
        facts: dict[str, Any] = {
            "module": self._core.executable_path.rsplit("/", 1)[-1],
            "machine": self._core.machine,
            "big_endian": header.big_endian,
            "pointer_size": header.elf_class // 8,
        }
        if self.near:
            # What is learned of another build's types must never be taken for this one's.
            bundle = Bundle(build_id=self.build_id, **facts)
            return Layouts(bundle, self._providers())
        return store.layouts(self.build_id, self._providers(), **facts)

    def _providers(self) -> Iterator[Provider]:
        """Yield what is asked for layouts that are not at hand; nothing is imported before that."""
        from vringcore.debuginfo.provider import DebugInfo

        if self._debug is None:
            self._debug = DebugInfo(self._found)
        if self.pack is None and self.missing_debug_information() is not None:
            from vringcore.layout.pack_store import find_pack

            self.pack = find_pack(self.build_id, self._debug.log)
        if self.pack is not None:
            from vringcore.qemu.packed_layouts import pack_provider

            yield pack_provider(self.pack, self._debug, self.executable)
        yield self._debug

    @property
    def debug_path(self) -> str:
        """The file with the debug information.

        :raises DebugInfoMissingError: if there is none
        """
        return self._found.debug_file()

    def missing_debug_information(self) -> DebugInfoMissingError | None:
        """Return the error that lists the places tried; None if there is debug information."""
        try:
            self._found.debug_file()
        except DebugInfoMissingError as error:
            return error
        return None

    def path_of(self, module: Module) -> str:
        """Return the file that stands for a module on this machine, "" if none does."""
        source = self.mapped.get(module.path)
        return source.path if source is not None else ""

    def close(self) -> None:
        """Close every file."""
        if self._debug is not None:
            self._debug.close()
        if self.executable is not None:
            self.executable.source.close()

    def _brought_bundle(self) -> Bundle | None:
        """Return what a slim core brings along for the program, None if it brings nothing.

        It serves this core alone and is never cached: whoever made the core made it, too.
        """
        own: Bundle | None = None
        for data in self._core.slim_layouts():
            bundle = from_json(data, where=self._core.path)
            if own is None:
                own = bundle
            elif bundle.build_id == own.build_id:
                own.symbols_at.update(bundle.symbols_at)
                own.lines.update(bundle.lines)
                own.scopes.update(bundle.scopes)
            else:
                self.brought[bundle.build_id] = bundle
        return own

    def _given(self, path: str) -> Bundle | None:
        """Return the bundle that the user gave; None if it was a pack, which is in use from now on.

        :raises LayoutError: if it is another build's, and that was not asked for
        """
        with FileSource.open(path, what="layout bundle") as source:
            check_size(source.size, where=path)
            data = source.pread(0, source.size)
        bundle = None
        if is_bundle(data):
            bundle = from_json(data, where=path)
            if not self.build_id or bundle.build_id == self.build_id:
                return bundle
            if not self._options.near:
                raise LayoutError(
                    "the layout bundle is of another build",
                    where=path,
                    seen=f"build-id {bundle.build_id or 'none'}",
                    expected=f"build-id {self.build_id}",
                    hint="build one from this executable with `vringcore layout build`;"
                    " --near tries this one and checks whether it fits",
                )
        from vringcore.qemu.packed_layouts import given_pack

        self.pack = given_pack(data, path, bundle)
        self.near = self.build_id not in self.pack.serves
        if self.near and not self._options.near:
            raise LayoutError(
                "the layout pack is not known to serve this build",
                where=path,
                seen=f"build-id {self.build_id or 'unknown'}",
                expected=f"one of {', '.join(self.pack.serves) or 'none'}",
                hint="--near tries it, and checks whether what it leads to fits together",
            )
        return None
