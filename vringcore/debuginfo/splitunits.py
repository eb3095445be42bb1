"""Units that ``-gsplit-dwarf`` left elsewhere: from the skeleton to what it stands for.

A skeleton has the addresses, the lines and the name of a ``.dwo`` file; that, or the ``.dwp`` of
the whole program, has all else (DWARF 5, section 3.1.2; GNU's extension of DWARF 4).
"""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from vringcore.debuginfo import constants as dw
from vringcore.debuginfo.elf import ElfFile
from vringcore.debuginfo.find import NETWORK, in_sysroot, local
from vringcore.debuginfo.splitfile import PackageIndex, SplitFile
from vringcore.errors import DwarfError, VringcoreError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from vringcore.debuginfo.dwarf import Dwarf
    from vringcore.debuginfo.units import Unit

_TYPES = (dw.UT_TYPE, dw.UT_SPLIT_TYPE)

_HINT = (
    "give the directory of the .dwo files or of the program's .dwp (--debug-dir), or make one with"
    " `dwp -e PROGRAM` where it was built"
)


def stands_for(unit: Unit) -> str:
    """Return the name of the ``.dwo`` file that a unit is the skeleton of, "" if it is none."""
    root = unit.root()
    for at in (dw.AT_DWO_NAME, dw.AT_GNU_DWO_NAME):
        name = unit.string(root.abbrev, root.values, at)
        if name:
            return name.decode("utf-8", "surrogateescape")
    return ""


def dwo_id(unit: Unit) -> int:
    """Return the number that a skeleton and its unit have in common."""
    if unit.header.version >= 5:
        return unit.header.signature
    return unit.root().integer(dw.AT_GNU_DWO_ID) or 0


class SplitUnits:
    """Finds the units that the skeletons of one file stand for.

    :param files: the debug file and the executable, beside which the others may lie
    :param debug_dirs: directories that may hold them
    :param sysroot: where absolute paths are looked up instead of at the root
    """

    def __init__(
        self, files: Sequence[str], debug_dirs: Sequence[str] = (), sysroot: str | None = None
    ) -> None:
        self._files = [f for f in dict.fromkeys(files) if f]
        directories = [*(Path(f).parent for f in self._files), *map(Path, local(debug_dirs))]
        self._directories = list(dict.fromkeys(directories))
        self._sysroot = sysroot
        self._package: Package | None = None
        self._searched = False

    def unit(self, skeleton: Unit, name: str) -> Unit:
        """Return the unit that a skeleton stands for.

        :param name: of the ``.dwo``, as :func:`stands_for` tells it
        :raises DwarfError: if it is nowhere; the message lists the places
        """
        package = self._opened_package()
        wanted = dwo_id(skeleton)
        found = package.unit(wanted) if package is not None else None
        tried = [] if package is None else [f"{package.path}: not in it"]
        for path in () if found is not None else self._places(skeleton, name):
            found = self._from_file(path, wanted, tried)
            if found is not None:
                break
        if found is None:
            raise DwarfError(
                "the debug information of a unit is in a file of its own (-gsplit-dwarf)",
                where=name,
                seen="; ".join(tried),
                expected="the .dwo file of the same build, or the program's .dwp",
                hint=_HINT,
            )
        found.skeleton = skeleton
        return found

    def close(self) -> None:
        """Close the package."""
        if self._package is not None:
            self._package.close()

    def _opened_package(self) -> Package | None:
        if not self._searched:
            self._searched = True
            names = [f"{f.removesuffix('.debug')}.dwp" for f in self._files]
            names += [f"{f}.dwp" for f in self._files]
            names += [str(d / Path(n).name) for d in self._directories for n in names]
            path = next((n for n in dict.fromkeys(names) if Path(n).exists()), "")
            self._package = Package(path) if path else None
        return self._package

    def _places(self, skeleton: Unit, name: str) -> Iterator[str]:
        root = skeleton.root()
        built = skeleton.string(root.abbrev, root.values, dw.AT_COMP_DIR) or b""
        # A path of the machine that built it.
        full = str(PurePosixPath(built.decode("utf-8", "surrogateescape"), name))
        if full.startswith("/") and not full.startswith(NETWORK) and "\0" not in full:
            yield in_sysroot(full, self._sysroot)
        for directory in self._directories:
            if not name.startswith("/") and ".." not in name.split("/"):
                yield str(directory / name)
            yield str(directory / PurePosixPath(name).name)

    def _from_file(self, path: str, wanted: int, tried: list[str]) -> Unit | None:
        if not path or not Path(path).exists():
            tried.append(f"{path or 'outside the sysroot'}: not there")
            return None
        from vringcore.debuginfo.dwarf import Dwarf

        try:
            dwarf = Dwarf(SplitFile.whole(path))
            for number in range(len(dwarf.chain)):
                unit = dwarf.unit(number)
                if unit.header.kind not in _TYPES and dwo_id(unit) == wanted:
                    return unit
        except VringcoreError as error:
            tried.append(f"{path}: {error}")
        else:
            tried.append(f"{path}: of another build")
        return None


class Package:
    """A ``.dwp``: the split units of a whole program.

    :raises FileError: if it cannot be read
    :raises ElfFormatError, DwarfError: if it is damaged
    """

    def __init__(self, path: str) -> None:
        self._elf = ElfFile.open(path, what="package of split debug information")
        self.path = path
        self._units = self._index(".debug_cu_index")
        self._types = self._index(".debug_tu_index")

    def unit(self, number: int) -> Unit | None:
        """Return a unit by its DWO id, None if it is not there."""
        dwarf = self._dwarf(self._units, number)
        return None if dwarf is None else dwarf.unit(0)

    def type_unit(self, signature: int) -> Dwarf | None:
        """Return the debug information that has a type unit alone, None if it is not there."""
        return self._dwarf(self._types, signature)

    def close(self) -> None:
        """Close the file."""
        self._elf.close()

    def _index(self, name: str) -> PackageIndex | None:
        section = self._elf.section(name)
        if section is None or not section.size:
            return None
        return PackageIndex(section.data, self._elf.header.byteorder)

    def _dwarf(self, index: PackageIndex | None, number: int) -> Dwarf | None:
        from vringcore.debuginfo.dwarf import Dwarf

        parts = None if index is None else index.parts(number)
        return None if parts is None else Dwarf(SplitFile(self._elf, parts), package=self)
