"""Everything that can go wrong, as one tree.

    VringcoreError
    ├── UsageError                 the question was wrong (exit 2)
    │   ├── NoSuchDeviceError
    │   ├── AmbiguousDeviceError
    │   ├── NoSuchQueueError
    │   └── ExpressionError        a C expression that cannot be understood
    ├── FileError                  a file could not be opened or read
    ├── ProcessError               a running process could not be read
    │   ├── NoSuchProcessError
    │   ├── ProcessAccessError     the system does not permit it
    │   ├── ProcessEndedError      it ended while it was read
    │   └── ProcessKindError       a zombie, a kernel thread, a 32-bit process, not Linux
    ├── CoreFormatError            the file is no core, or its headers are damaged (exit 3)
    │   └── NotQemuError           a core of a program that has no virtio devices
    ├── ExecutableMismatchError    the executable given is not the core's
    ├── ElfFormatError             an executable or debug file is damaged
    ├── DwarfError                 debug information that cannot be understood
    ├── DebugInfoMissingError      nothing describes the program's types
    ├── LayoutError                a bundle is damaged or does not fit
    │   └── LayoutMissingError     types, members or variables that were not found
    ├── MemoryFault                an address is not readable, and why
    ├── AddressOverflowError       an address computation left the address space
    ├── CorruptDataError           memory was readable and makes no sense
    ├── LimitError                 a walk was cut by one of our limits
    └── AbsentError                an absent value was used as a number

A message says, in this order: what was being done, where, what was seen, what was expected, and
what to do next. Each part is a field too, so that a program need not parse the text. ``code`` is
stable; ``exit_code`` is the command line's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from vringcore.memory.gaps import Gap

EXIT_OK = 0
EXIT_BUG = 1
EXIT_USAGE = 2
EXIT_UNREADABLE = 3
EXIT_PARTIAL = 4
EXIT_STUCK = 5


class VringcoreError(Exception):
    """Root of every error this library raises on purpose.

    :param doing: what was being done or what failed, as the start of a sentence
    :param where: the place: file, ``struct.member``, address, offset
    :param seen: what was found there
    :param expected: what should have been there
    :param hint: what to do next
    """

    code: ClassVar[str] = "vringcore-error"
    exit_code: ClassVar[int] = EXIT_UNREADABLE

    def __init__(
        self, doing: str, *, where: str = "", seen: str = "", expected: str = "", hint: str = ""
    ) -> None:
        self.doing = doing
        self.where = where
        self.seen = seen
        self.expected = expected
        self.hint = hint
        super().__init__(self._message())

    def _message(self) -> str:
        text = self.doing
        if self.where:
            text += f" at {self.where}"
        if self.seen:
            text += f": saw {self.seen}"
        if self.expected:
            text += f"{',' if self.seen else ':'} expected {self.expected}"
        if self.hint:
            text += f"; {self.hint}"
        return text


class UsageError(VringcoreError):
    """The question cannot be asked this way."""

    code = "usage"
    exit_code = EXIT_USAGE


class NoSuchDeviceError(UsageError):
    """No device answers to the given id, path, address, serial or index."""

    code = "no-such-device"


class AmbiguousDeviceError(UsageError):
    """More than one device answers; the candidates are in the message."""

    code = "ambiguous-device"


class NoSuchQueueError(UsageError):
    """The device has no queue of that index."""

    code = "no-such-queue"


class ExpressionError(UsageError):
    """A C expression that cannot be read, or that means nothing in this program.

    :ivar expression: the expression, "" until it is known
    :ivar position: where in it the fault lies, in characters from 0; -1 until that is known
    """

    code = "expression"

    def __init__(
        self, doing: str, *, position: int = -1, seen: str = "", expected: str = "", hint: str = ""
    ) -> None:
        self.expression = ""
        self.position = position
        super().__init__(doing, seen=seen, expected=expected, hint=hint)

    def located(self, expression: str, position: int) -> ExpressionError:
        """Say where the fault lies, unless that is known already; return the error itself."""
        if not self.expression:
            self.expression = expression
            self.position = position if self.position < 0 else self.position
            shown = f" of `{expression}`" if len(expression) <= 100 else ""
            self.where = f"character {self.position + 1}{shown}"
            self.args = (self._message(),)
        return self

    @property
    def pointed(self) -> str:
        """The expression, and below it a caret under the fault; both cut to 78 columns."""
        start = max(0, self.position - 60)
        shown = self.expression[start : start + 78]
        shown = "".join(c if c.isprintable() else " " for c in shown)
        return shown + "\n" + " " * (self.position - start) + "^"


class FileError(VringcoreError):
    """A file could not be opened, is not a regular file, or could not be read."""

    code = "file"


class ProcessError(VringcoreError):
    """A running process could not be read."""

    code = "process"


class NoSuchProcessError(ProcessError):
    """No process has this number."""

    code = "no-such-process"


class ProcessAccessError(ProcessError):
    """The system does not let us read or stop the process; the message says what would."""

    code = "process-access"


class ProcessEndedError(ProcessError):
    """The process ended while it was read."""

    code = "process-ended"


class ProcessKindError(ProcessError):
    """A process without memory that could be read here: a zombie, a kernel thread, 32 bits."""

    code = "process-kind"


class CoreFormatError(VringcoreError):
    """The file is not an ELF core, or its headers or notes are damaged."""

    code = "core-format"


class NotQemuError(CoreFormatError):
    """A sound core of a program that runs no virtio device."""

    code = "not-qemu"


class ExecutableMismatchError(VringcoreError):
    """The executable's build-id is not the one in the core."""

    code = "executable-mismatch"


class ElfFormatError(VringcoreError):
    """An ELF file (executable, library, debug file) is damaged or of an unsupported kind."""

    code = "elf-format"


class DwarfError(VringcoreError):
    """Debug information that is damaged or uses a form that is not supported."""

    code = "dwarf"


class DebugInfoMissingError(VringcoreError):
    """No debug information for the program; the message lists where it was looked for."""

    code = "debuginfo-missing"
    exit_code = EXIT_PARTIAL


class LayoutError(VringcoreError):
    """A layout bundle is damaged, of another build, or of an unknown schema."""

    code = "layout"


class LayoutMissingError(LayoutError):
    """Types, members, variables or functions that no provider knows."""

    code = "layout-missing"
    exit_code = EXIT_PARTIAL


class AddressOverflowError(VringcoreError):
    """An address plus an offset left the 64-bit address space."""

    code = "address-overflow"


class CorruptDataError(VringcoreError):
    """Memory that could be read and cannot mean what it should."""

    code = "corrupt-data"


class LimitError(VringcoreError):
    """A walk was ended by a limit on steps, depth or bytes."""

    code = "limit"


class AbsentError(VringcoreError):
    """An absent value was used as if it were there."""

    code = "absent"


class MemoryFault(VringcoreError):  # noqa: N818 - the field's own word for it
    """An address could not be read; ``gap`` tells which kind of hole it lies in.

    :param address: the first byte that could not be read
    :param gap: the hole around it
    """

    code = "memory-fault"

    def __init__(self, doing: str, address: int, gap: Gap) -> None:
        self.address = address
        self.gap = gap
        super().__init__(doing, where=f"{address:#x}", seen=gap.describe(), hint=gap.hint)
