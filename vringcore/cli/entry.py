"""The console script: one command, and the end of the process."""

from __future__ import annotations

import gc
import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

EXIT_INTERRUPTED = 130


def entry() -> NoReturn:
    """Run the command line and end the process with its exit code.

    The process ends at once: taking the interpreter down in order costs a fifth of a short run and
    does nothing for anybody, since every file was closed and every buffer written.
    """
    # A short run that holds what it made: collecting costs time, from the first import on, so
    # nothing that matters is imported above.
    gc.disable()
    # Closed by the caller (`>&-`): what is printed goes nowhere, the exit code still tells.
    sys.stdout = sys.stdout or open(os.devnull, "w", encoding="utf-8")  # noqa: PTH123, SIM115
    sys.stderr = sys.stderr or open(os.devnull, "w", encoding="utf-8")  # noqa: PTH123, SIM115
    code = _run()
    try:
        sys.stderr.flush()
    finally:  # also where what was said cannot be written
        os._exit(code)


def _run() -> int:
    """Run the command; return the exit code also where it was cut short from outside."""
    try:
        from vringcore.cli.startup import import_lightly

        import_lightly()
        from vringcore.cli.main import main

        try:
            code = main(sys.argv[1:])
        except SystemExit as end:  # argparse, after --help or --version
            code = end.code if isinstance(end.code, int) else 0
        sys.stdout.flush()
    except BrokenPipeError:
        code = 0  # the reader (`head`) has had enough, which is no failure
    except KeyboardInterrupt:
        code = EXIT_INTERRUPTED
    return code
