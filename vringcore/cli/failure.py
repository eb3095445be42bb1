"""What a verb says when it cannot answer."""

from __future__ import annotations

import sys
from contextlib import suppress

from vringcore.errors import EXIT_BUG, ExpressionError, VringcoreError


def report_error(error: VringcoreError, *, as_json: bool) -> int:
    """Print an error in one sentence, and as a document for ``--json``; return the exit code."""
    _print(error)
    if as_json:
        from vringcore.cli.output import write_json
        from vringcore.model.error import ErrorDetail, ErrorDocument

        detail = ErrorDetail(
            error.code, str(error), error.where, error.seen, error.expected, error.hint
        )
        try:
            write_json(ErrorDocument(error=detail))
        except VringcoreError as second:
            _print(second)
    return error.exit_code


def _print(error: VringcoreError) -> None:
    _say(f"vringcore: error: {_printable(str(error))}")
    if isinstance(error, ExpressionError) and error.expression:
        for line in error.pointed.splitlines():
            _say(f"  {_printable(line)}")


def _say(line: str) -> None:
    with suppress(OSError):  # `2>/dev/full`: the exit code still tells
        print(line, file=sys.stderr)


def report_bug(error: Exception, *, verbose: bool) -> int:
    """Print an exception that should not have come this far; return the exit code."""
    if verbose:
        import traceback

        traceback.print_exception(error)
    what = _printable(f"{type(error).__name__}: {error}")
    advice = "" if verbose else "; -v shows where"
    _say(f"vringcore: this is a bug in vringcore, not in your core: {what}{advice}")
    return EXIT_BUG


def _printable(text: str) -> str:
    """Return text as one line that cannot steer the terminal."""
    if text.isprintable():
        return text
    from vringcore.report.cells import clean

    return clean(" ".join(text.split()))
