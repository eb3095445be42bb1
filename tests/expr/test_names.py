"""What names mean, and what is said of a name that means nothing or too much."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from vringcore.addresses import HostAddress
from vringcore.errors import ExpressionError, LayoutMissingError, VringcoreError
from vringcore.expr.evaluate import evaluate, evaluate_any
from vringcore.expr.scalars import integer_of
from vringcore.layout.bundle import Bundle, from_json, to_json
from vringcore.layout.provider import Layouts
from vringcore.layout.types import Base, Symbol, Variable
from vringcore.view.views import Views

if TYPE_CHECKING:
    from tests.expr.program import Program


def error_of(program: Program, text: str) -> str:
    with pytest.raises(VringcoreError) as caught:
        evaluate(program.views, text)
    return str(caught.value)


def number(program: Program, text: str) -> int:
    return integer_of(evaluate(program.views, text))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("s.delt", "there is delta"),
        ("s.point.z", "this struct has no member z"),
        ("sp->Delta", "delta"),
        ("elments", "there is elements"),
        ("HANDLE", "there is handle"),
        ("(struct Elemnt *)0", "no struct is called Elemnt"),
        ("(struct Elemnt *)0", "there is Element"),
        ("(Opaqe *)0", "there is Opaque"),
        ("(S *)0", "there is struct S"),
        ("(struct Number)1", "there is Number"),
        ("Element", "struct Element is a type"),
        ("Number", "Number is a type"),
        ("current", "'main.c'::current"),
        ("current", "more than one"),
        ("'main.c'::only_here", "other.c has"),
        ("'nosuch.c'::current", "there is one in main.c, other.c"),
        ("'nosuch.c'::s", "main.c has"),
        ("handle::nosuch", "static variables of a function"),
        ("made", "no variable"),
        ("offsetof(struct S, poin)", "there is point"),
        ("offsetof(struct S, delta)", "bit-field"),
        ("&s.delta", "bit-field"),
        ("s.i.x", "only a struct"),
        ("s.v->x", "only a struct"),
        ("s.ld * 2", "long double"),
    ],
)
def test_errors_say_what_may_have_been_meant(program: Program, text: str, said: str) -> None:
    assert said in error_of(program, text)


@pytest.mark.parametrize(
    ("text", "position"),
    [
        ("1 + elments", 4),
        ("s.point.z + 1", 7),
        ("1 + (struct Elemnt *)0", 5),
        ("s.i + s", 4),
        ("1 ? 2 / 0 : 3", 6),
        ("*s.v", 0),
    ],
)
def test_errors_point_at_the_place(program: Program, text: str, position: int) -> None:
    with pytest.raises(ExpressionError) as caught:
        evaluate(program.views, text)
    assert (caught.value.expression, caught.value.position) == (text, position)


def test_static_names_by_file_and_function(program: Program) -> None:
    assert number(program, "'main.c'::current") == 1
    assert number(program, "'other.c'::current") == 2
    assert number(program, "only_here") == 33
    assert number(program, "handle::handled") == 4
    assert number(program, "'main.c'::handle::handled") == 4
    assert number(program, "make_opaque::made") == 9 + 2 + 33


def test_an_opaque_struct_is_the_other_files(program: Program) -> None:
    assert number(program, "s.opaque->next->secret") == 2
    assert number(program, "sizeof(*s.opaque)") == 16


def test_enumerators(program: Program) -> None:
    assert number(program, "BLUE") == 6
    assert number(program, "UNNAMED_CONSTANT") == 77
    assert number(program, "RUN_SECOND") == 1
    assert program.views.layouts.find_enumerator("NO_SUCH_CONSTANT") is None


def test_what_was_learned_is_kept(program: Program) -> None:
    """An enumerator found once is in the bundle, and found again without debug information."""
    assert number(program, "BLUE") == 6
    bundle = from_json(to_json(program.views.layouts.bundle))
    again = Layouts(bundle)
    assert again.find_enumerator("BLUE") == program.views.layouts.find_enumerator("BLUE")


def test_container_of(program: Program) -> None:
    text = "container_of(&elements[1].tail, struct Element, tail)"
    assert number(program, f"{text} == &elements[1]") == 1
    assert number(program, f"{text}->number") == 2
    assert number(program, "container_of(&s.arr[2], struct S, arr[2]) == sp") == 1
    assert number(program, "container_of(&s.point.y, struct S, point.y) == sp") == 1
    assert number(program, "offsetof(struct S, point.y) == (long)&((struct S *)0)->point.y") == 1


def test_types_without_debug_information(program: Program) -> None:
    """Where nothing tells, the error says what is needed; it does not say that there is none."""
    bundle = Bundle(
        variables={"counter": Variable("counter", 0x404000), "number": Variable("number", 16, INT)},
        symbols={"handle": Symbol("handle", 0x1000, 16)},
    )
    views = Views(program.views.space, Layouts(bundle), 0, program.views.symbols)
    for text in ("nosuch", "(struct S *)0", "(Number)1", "sizeof(struct S)"):
        with pytest.raises(LayoutMissingError, match="debug information"):
            evaluate(views, text)
    with pytest.raises(ExpressionError, match="type of counter is not known"):
        evaluate(views, "counter")
    assert evaluate(views, "(int)counter").type == INT
    assert evaluate(views, "*(long *)&number").address == HostAddress(16)


INT = Base("int", 4, "signed")


def test_a_type_or_a_value(program: Program) -> None:
    assert evaluate_any(program.views, "struct S *") == evaluate(program.views, "sp").type
    for text in ("i", "(Number)1", "(i) + 1", "sizeof(Number)"):
        assert evaluate_any(program.views, text) is not None
        assert hasattr(evaluate_any(program.views, text), "address")
    assert not hasattr(evaluate_any(program.views, "Number"), "address")
