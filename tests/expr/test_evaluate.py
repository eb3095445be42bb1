"""Every operator on every kind of operand, as gdb evaluates it over the same core."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from tests.expr.expressions import expressions
from tests.expr.program import ask_gdb
from vringcore.errors import AddressOverflowError, MemoryFault, VringcoreError
from vringcore.expr.evaluate import evaluate
from vringcore.expr.scalars import float_of, integer_of, is_float, is_integral
from vringcore.expr.typename import spelled
from vringcore.layout.types import Pointer

if TYPE_CHECKING:
    from pathlib import Path

    from tests.expr.program import Program
    from vringcore.view.views import Views


def our_answer(views: Views, text: str) -> dict[str, Any]:
    """Return our answer in the words of :func:`tests.expr.program.ask_gdb`."""
    layouts = views.layouts
    try:
        value = evaluate(views, text)
        type_ = layouts.resolve(value.type)
        told: dict[str, Any] = {"type": spelled(layouts, value.type), "size": value.size}
        if is_float(type_):
            return {**told, "float": repr(float_of(value))}
        if is_integral(type_) or isinstance(type_, Pointer):
            return {**told, "integer": integer_of(value)}
        return {**told, "address": value.address}
    except (MemoryFault, AddressOverflowError) as error:
        return {"unreadable": str(error)}
    except VringcoreError as error:
        return {"error": str(error)}


def same(ours: dict[str, Any], theirs: dict[str, Any]) -> bool:
    """Tell whether two answers agree; the words of an error are everyone's own."""
    for failure in ("error", "unreadable"):
        if failure in ours or failure in theirs:
            return failure in ours and failure in theirs
    if theirs.get("address", 0) is None:
        return ours["type"] == theirs["type"]  # A cast struct lies nowhere any more, to gdb.
    return ours == theirs


def excluded(text: str) -> bool:
    """Tell whether gdb refuses what C allows, or the other way round, and we follow C.

    gdb has no operators on two bools or by a bool, and does not compare pointers with characters;
    it takes the address of a bit-field. Assignments fail for another reason there.
    """
    return (
        bool(re.fullmatch(r"s\.b \S+ s\.b|.* (<<|>>) s\.b|s\.arr [=!<>]=? 'a'", text))
        or text in ("s.i = 1", "s.i++", "(int unsigned)1")
        or text in ("&s.low", "&s.delta", "&s.wide", "&s.flag")
    )


def test_operators_as_in_gdb(program: Program, tmp_path: Path) -> None:
    asked = [text for text in expressions() if not excluded(text)]
    theirs = ask_gdb(program.executable, program.core, asked, tmp_path)
    wrong = []
    for text, answer in zip(asked, theirs, strict=True):
        ours = our_answer(program.views, text)
        if not same(ours, answer):
            wrong.append(f"{text}\n   we: {ours}\n  gdb: {answer}")
    assert not wrong, f"{len(wrong)} of {len(asked)}:\n" + "\n".join(wrong)
