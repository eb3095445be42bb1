"""``vringcore print``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vringcore.cli import options
from vringcore.errors import EXIT_OK, UsageError, VringcoreError

if TYPE_CHECKING:
    import argparse

    from vringcore.model.value import ValueDocument
    from vringcore.qemu.process import Process

USAGE = "vringcore print CORE EXPRESSION... [options]"
DESCRIPTION = """\
What does any variable, structure or C expression of this QEMU hold?

An expression is C as gdb takes it: variables (also static ones, and
'file.c'::name where a name is not unique), . and ->, [], *, &, casts, sizeof,
@, arithmetic, and container_of(pointer, type, member). `.` and `->` may be
used for each other. One line comes out for each expression: what gdb 13
prints for it, without `$1 = `, its limits of 200 elements and characters
included. Where the core lacks memory, the member says so.

An expression may start with a format, /x as in gdb:
  x hexadecimal, z with leading zeros, d signed, u unsigned, o octal, t binary,
  c character, s string, a address and symbol, f floating point
"""
EPILOG = """\
Quote an expression for the shell. One that starts with a minus goes behind
`--`.

examples:
  vringcore print core.20873 \\
      'mon_vblkdevs.head->tqh_first->next->tqe_next->vdev->vq[8]'
  vringcore print core.20873 '*current_machine' current_machine->ram_size
  vringcore print core.20873 '/x current_machine->ram_size'
  vringcore print core.20873 --offsets 'struct VirtQueue'
  vringcore print core.20873 --symbol 0x5640e1d8db30
  vringcore print core.20873 --json '*current_migration' | jq .value
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the verb's options."""
    options.add_core_options(parser)
    asked = parser.add_argument_group("what is asked")
    asked.add_argument(
        "expressions", metavar="EXPRESSION", nargs="+", help="a C expression; with --ptype a type"
    )
    asked.add_argument(
        "-f", "--format", metavar="LETTER", default="", help="write numbers so: x d u c s o t z a f"
    )
    question = asked.add_mutually_exclusive_group()
    for name, text in (
        ("--ptype", "what the type is: its members, as gdb's ptype"),
        ("--offsets", "the same with offsets, sizes and holes, as ptype /o"),
        ("--whatis", "the name of the type, as gdb's whatis"),
        ("--symbol", "the symbol at an address, as gdb's info symbol"),
    ):
        question.add_argument(
            name, dest="question", action="store_const", const=name[2:], default="value", help=text
        )


def run(arguments: argparse.Namespace) -> int:
    """Print the answers; return the exit code of the last question that has none."""
    from vringcore.cli.failure import report_error

    code = EXIT_OK
    with options.open_core(arguments) as core:
        for text in _with_format(arguments.expressions, arguments.format):
            try:
                _write(arguments, _answer(core.process, text, arguments.question))
            except VringcoreError as error:
                code = report_error(error, as_json=arguments.json)
    return code


def _with_format(words: list[str], letter: str) -> list[str]:
    """Return the expressions, each with its format before it; a lone ``/x`` is for all behind."""
    expressions = []
    for word in words:
        if word.startswith("/") and len(word) == 2:
            letter = word[1]
        elif letter and not word.startswith("/"):
            expressions.append(f"/{letter} {word}")
        else:
            expressions.append(word)
    if not expressions:
        raise UsageError("no expression was given", seen=words[-1], hint="see `print --help`")
    return expressions


def _answer(process: Process, text: str, question: str) -> ValueDocument:
    import sys

    from vringcore.expr.answer import address_of, answer, split_format
    from vringcore.model.value import ValueDocument
    from vringcore.model.values import Address

    if question == "symbol":
        expression = split_format(text)[1]
        address = address_of(process.views, expression)
        place = process.symbols.place(address)
        said = f"No symbol matches {expression}." if place is None else str(place)
        return ValueDocument(expression, "", Address(address), said)
    utf8 = (sys.stdout.encoding or "").lower().replace("-", "") == "utf8"
    return answer(process.views, text, question=question, symbols=process.symbols, utf8=utf8)


def _write(arguments: argparse.Namespace, document: ValueDocument) -> None:
    from vringcore.cli.output import write_json, write_text

    if arguments.json:
        write_json(document)
    else:
        write_text(document.text)
