"""C values from Python: they read when they are told to."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from vringcore.errors import CorruptDataError, ExpressionError, MemoryFault
from vringcore.expr.evaluate import evaluate
from vringcore.expr.pyvalue import Value
from vringcore.memory.trace import TracingSpace
from vringcore.model.values import Absent, Address
from vringcore.view.views import Views

if TYPE_CHECKING:
    from tests.expr.program import Program


def value(program: Program, text: str) -> Value:
    return Value(evaluate(program.views, text))


def test_members_and_elements(program: Program) -> None:
    s = value(program, "s")
    assert int(s.i) == -123456789
    assert int(s.self.self.point.y) == -12
    assert int(s["i"]) == -123456789
    assert "handler" in dir(s)
    assert [int(x) for x in s.arr] == [10, -20, 30, -40]
    assert [[int(x) for x in row] for row in s.grid] == [[1, -2, 3], [-4, 5, -6]]
    assert int(s.p[1]) == 30
    assert int(s.p[-1]) == 10
    assert int(value(program, "words")[2][0]) == ord("t")
    assert int(s.arr[value(program, "one")]) == -20
    assert len(s.arr) == 4
    assert int(s.opaque.next.secret) == 2
    assert int(s.p.dereference()) == -20
    assert int(s.p) == int(s.arr[1].address_of()) == s.arr[1].address
    assert int(s.v.cast("short *")[0]) == -30000
    assert s.self.cast("long") != s.self


def test_conversions(program: Program) -> None:
    s = value(program, "s")
    assert float(s.d) == -2.25
    assert int(s.d) == -2
    assert bool(s.flag) is True
    assert bool(value(program, "zero")) is False
    assert bool(s.opaque) is True
    assert int(s.delta) == -3
    assert s.name.string() == "a string"
    assert s.text.string() == "seven"
    assert str(s.point) == "{x = 11, y = -12}"
    assert f"{s.i}" == "-123456789"
    assert s.address_of().type == "struct S *"
    assert (s.i.type, s.i.size, s.i.address) == ("int", 4, int(s.address_of().i.address_of()))


def test_fields_and_json(program: Program) -> None:
    assert value(program, "s.point").fields() == {"x": 11, "y": -12}
    assert value(program, "1 + 1").fields() == 2
    assert value(program, "s.delta").fields() == -3
    assert json.loads(value(program, "elements").to_json())[1]["number"] == 2


def test_lists(program: Program) -> None:
    assert [int(e.number) for e in value(program, "head")] == [1, 2, 3]
    assert [int(e.number) for e in value(program, "&head")] == [1, 2, 3]
    assert [int(e.number) for e in value(program, "head").elements("link")] == [1, 2, 3]
    doubles = value(program, "all_doubles")
    assert [int(e.number) for e in doubles.elements("all")] == [1, 2, 3]
    assert list(value(program, "no_doubles").elements("all")) == []
    with pytest.raises(ExpressionError, match=r'elements\("all"\), elements\("some"\)'):
        list(doubles)
    with pytest.raises(ExpressionError, match="links no elements"):
        list(doubles.elements("number"))
    with pytest.raises(CorruptDataError, match="runs into itself"):
        list(doubles.elements("some"))
    with pytest.raises(ExpressionError, match="no head"):
        list(value(program, "s").elements())
    with pytest.raises(TypeError, match="neither an array nor a list"):
        iter(value(program, "s"))


def test_nothing_is_read_before_it_is_asked_for(program: Program) -> None:
    space = TracingSpace(program.views.space)
    views = Views(space, program.views.layouts, 0, program.views.symbols)
    s = Value(evaluate(views, "s"))
    parts = [s.i, s.point.x, s.arr[2], s.arr, s.name, s.delta]
    assert all("C value" in repr(part) for part in parts)
    assert s.i == Value(evaluate(views, "s.i"))
    assert len({s.i, s.i, s.point}) == 2
    assert (s.i.size, s.i.type, len(s.arr), s.i.address_of().type) == (4, "int", 4, "int *")
    assert not space.touched()
    int(s.i)
    assert space.touched() == [(s.i.address, s.i.address + 4)]


def test_what_is_missing_is_never_zero(program: Program) -> None:
    gone = value(program, "*(struct S *)16")
    for read in (int, float, bool):
        with pytest.raises(MemoryFault):
            read(gone.i)
    assert gone.i.fields() == Absent("unmapped", Address(16 + s_offset(program, "i")))
    with pytest.raises(MemoryFault):
        gone.self.i  # noqa: B018 - the pointer itself is missing
    with pytest.raises(CorruptDataError, match="NULL"):
        value(program, "(char *)0").string()


def s_offset(program: Program, member: str) -> int:
    return int(value(program, f"offsetof(struct S, {member})"))


def test_what_python_would_do_silently_is_refused(program: Program) -> None:
    s = value(program, "s")
    for wrong in (
        lambda: s.i == 3,
        lambda: s.i < 3,
        lambda: int(s),
        lambda: bool(s.point),
        lambda: bool(s.arr),
        lambda: len(s.i),
        lambda: s.i.string(),
        lambda: [1, 2][s.i],  # type: ignore[call-overload]
    ):
        with pytest.raises(TypeError):
            wrong()
    with pytest.raises(AttributeError, match="no member delt; there is delta"):
        s.delt  # noqa: B018
    with pytest.raises(ExpressionError, match="no member delt"):
        s["delt"]
    with pytest.raises(IndexError):
        s.arr[4]
    assert not hasattr(s, "__fspath__")
