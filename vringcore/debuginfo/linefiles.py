"""The files and directories in the header of a line program (section 6.2.4 of DWARF 5 and 4)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vringcore.debuginfo import constants as dw
from vringcore.debuginfo.abbrev import Abbrev
from vringcore.debuginfo.leb import uleb
from vringcore.errors import DwarfError

if TYPE_CHECKING:
    from vringcore.debuginfo.abbrev import Encoding, Values
    from vringcore.debuginfo.units import Unit

_PATH = 1
_DIRECTORY = 2
"""What a column of a table of DWARF 5 holds (DW_LNCT)."""


class FileTable:
    """The files that rows and calls refer to by number; names are put together when asked for.

    :param data: the line program from its header on, the tables at ``pos``
    :param encoding: of the line program, which need not be the unit's
    :raises DwarfError: if the tables are damaged
    """

    __slots__ = ("_directories", "_files", "_first", "_names", "directory")

    def __init__(self, unit: Unit, data: bytes, pos: int, encoding: Encoding) -> None:
        raw = unit.string(*_root_values(unit), dw.AT_COMP_DIR) or b""
        self.directory = _text(raw)
        """Where the compiler ran: what relative names count from."""
        self._names: dict[int, str] = {}
        if encoding.version >= 5:
            self._first = 0
            paths, pos = _columns(unit, data, pos, encoding)
            self._directories = [path for path, _ in paths]
            self._files, _ = _columns(unit, data, pos, encoding)
        else:
            self._first = 1
            self._directories, pos = _strings(data, pos)
            self._directories.insert(0, raw)
            self._files = _named(data, pos)

    def add(self, entry: bytes) -> None:
        """Add what a line program defines on its way (DW_LNE_define_file)."""
        self._files += _named(entry + b"\0", 0)

    def name(self, number: int) -> str:
        """Return a file's name as the compiler was given it, "" if there is no such file.

        Its directory stands before it, unless that is where the compiler ran. A directory that
        -ffile-prefix-map made relative tells something of the file, and always stands there.
        """
        known = self._names.get(number)
        if known is None:
            known = self._names[number] = self._joined(number - self._first)
        return known

    def _joined(self, index: int) -> str:
        if not 0 <= index < len(self._files):
            return ""
        path, directory = self._files[index]
        name = _text(path)
        if name.startswith("/") or not 0 <= directory < len(self._directories):
            return name
        before = _text(self._directories[directory])
        if not before or (directory == 0 and before == self.directory and before[0] == "/"):
            return name
        return f"{before}/{name}"


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "backslashreplace")


def _root_values(unit: Unit) -> tuple[Abbrev, Values]:
    root = unit.root()
    return root.abbrev, root.values


def _columns(
    unit: Unit, data: bytes, pos: int, encoding: Encoding
) -> tuple[list[tuple[bytes, int]], int]:
    """Return path and directory of each entry of a table of DWARF 5, and where the table ends."""
    columns = []
    count = data[pos]
    pos += 1
    for _ in range(count):
        content, pos = uleb(data, pos)
        form, pos = uleb(data, pos)
        columns.append((content, form, 0))
    rows, pos = uleb(data, pos)
    # Attributes of an entry and columns of a row are encoded alike.
    row = Abbrev(b"", 0, False, columns, encoding)
    if rows > len(data) - pos or (rows and row.size == 0):
        raise DwarfError(
            "a table of files is longer than its line program",
            seen=f"{rows} entries",
            expected=f"at most {len(data) - pos} bytes",
        )
    found = []
    for _ in range(rows):
        values, pos = row.read(data, pos)
        found.append((unit.string(row, values, _PATH) or b"", row.get(values, _DIRECTORY) or 0))
    return found, pos


def _strings(data: bytes, pos: int) -> tuple[list[bytes], int]:
    """Return the directories of DWARF 2 to 4, and where the files start."""
    found = []
    while data[pos]:
        end = data.index(0, pos)
        found.append(data[pos:end])
        pos = end + 1
    return found, pos + 1


def _named(data: bytes, pos: int) -> list[tuple[bytes, int]]:
    """Return name and directory of the files of DWARF 2 to 4."""
    found = []
    while data[pos]:
        end = data.index(0, pos)
        directory, after = uleb(data, end + 1)
        _modified, after = uleb(data, after)
        _size, after = uleb(data, after)
        found.append((data[pos:end], directory))
        pos = after
    return found
