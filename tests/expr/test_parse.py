"""What is read as which tree, and what is said of text that is none."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from vringcore.errors import ExpressionError
from vringcore.expr.lexer import MAX_LENGTH
from vringcore.expr.parse import MAX_DEPTH, parse, parse_any, parse_type
from vringcore.expr.syntax import Cast, Expression, SizeOf, TypeName


def is_type(name: str) -> bool:
    return name in ("T", "hwaddr")


def shape(node: Any) -> Any:
    """Return a tree without its positions, for reading."""
    match node:
        case TypeName(kind=kind, name=name, qualifiers=qualifiers, derivations=derivations):
            start = [*qualifiers, *([] if kind in ("base", "typedef") else [kind]), name]
            return " ".join([*start, *map(step, derivations)])
        case msgspec.Struct():
            values = (shape(getattr(node, f)) for f in node.__struct_fields__ if f != "at")
            return (type(node).__name__, *values)
    return node


def step(derivation: Any) -> str:
    match type(derivation).__name__:
        case "PointerTo":
            return "".join(["*", *derivation.qualifiers])
        case "ArrayOf":
            return "[]" if derivation.count is None else f"[{derivation.count}]"
    parameters = [shape(p) for p in derivation.parameters] + ["..."] * derivation.variadic
    return f"({', '.join(parameters) or ('void' if derivation.prototyped else '')})"


def bracketed(node: Expression) -> str:
    """Return an expression with every operator's operands in brackets."""
    match shape(node):
        case ("Binary", operator, _, _):
            return f"[{bracketed(node.left)}{operator}{bracketed(node.right)}]"  # type: ignore[union-attr]
        case ("Unary", operator, _):
            return f"[{operator}{bracketed(node.operand)}]"  # type: ignore[union-attr]
        case ("Conditional", *_):
            parts = (node.condition, node.then, node.otherwise)  # type: ignore[union-attr]
            return "[{}?{}:{}]".format(*map(bracketed, parts))
        case ("Member", _, name):
            return f"[{bracketed(node.operand)}.{name}]"  # type: ignore[union-attr]
        case ("Index", *_):
            return f"[{bracketed(node.operand)}@{bracketed(node.index)}]"  # type: ignore[union-attr]
        case ("Cast", type_, _):
            return f"[({type_}){bracketed(node.operand)}]"  # type: ignore[union-attr]
        case ("Name", name, unit, function):
            return "::".join(part for part in (unit, function, name) if part)
        case ("SizeOf", operand):
            return f"[sizeof {operand if isinstance(operand, str) else bracketed(node.operand)}]"  # type: ignore[union-attr,arg-type]
        case (_, value, *_):
            return str(value)
    raise AssertionError(node)


@pytest.mark.parametrize(
    ("text", "brackets"),
    [
        ("a + b * c - d", "[[a+[b*c]]-d]"),
        ("a << b + c & d == e | f ^ g && h || i", "[[[[[a<<[b+c]]&[d==e]]|[f^g]]&&h]||i]"),
        ("a < b == c > d", "[[a<b]==[c>d]]"),
        ("a @ b + c", "[a@[b+c]]"),
        ("a << b @ c", "[a<<[b@c]]"),
        ("a, b, c", "[[a,b],c]"),
        ("a ? b : c ? d : e", "[a?b:[c?d:e]]"),
        ("a ? b, c : d", "[a?[b,c]:d]"),
        ("a || b ? c : d, e", "[[[a||b]?c:d],e]"),
        ("*a.b", "[*[a.b]]"),
        ("*a++b", None),
        ("-a->b[c].d", "[-[[[a.b]@c].d]]"),
        ("&*a", "[&[*a]]"),
        ("!~-+a", "[![~[-[+a]]]]"),
        ("sizeof a + b", "[[sizeof a]+b]"),
        ("sizeof (a) + b", "[[sizeof a]+b]"),
        ("sizeof (T) + b", "[[sizeof T]+b]"),
        ("sizeof (T *[3])", "[sizeof T * [3]]"),
        ("(T)a.b", "[(T)[a.b]]"),
        ("(T)-a", "[(T)[-a]]"),
        ("(a)-b", "[a-b]"),
        ("(T)(a)", "[(T)a]"),
        ("(T)*a & b", "[[(T)[*a]]&b]"),
        ("(a)*b", "[a*b]"),
        ("(unknown)b", "[(unknown)b]"),
        ("(unknown *)*b", "[(unknown *)[*b]]"),
        ("(unknown **)-b", "[(unknown * *)[-b]]"),
        ("(a * b)", "[a*b]"),
        ("(a)[b]", "[a@b]"),
        ("((a))", "a"),
        ("(int)(char)a", "[(int)[(char)a]]"),
        ("(long unsigned int)a", "[(unsigned long)a]"),
        ("(T const *)a", "[(const T *)a]"),
        ("(char (*)[16])a", "[(char [16] *)a]"),
        ("(char *[16])a", "[(char * [16])a]"),
        ("(int [2][3])a", "[(int [3] [2])a]"),
        ("(void (*)(int, ...))a", "[(void (int, ...) *)a]"),
        ("(T *(*)(void))a", "[(T * (void) *)a]"),
        ("(int (*(*)(char))[4])a", "[(int [4] * (char) *)a]"),
        ("(struct S *const)a", "[(struct S *const)a]"),
        ("'f.c'::a", "f.c::a"),
        ("'f.c'::g::a.b", "[f.c::g::a.b]"),
        ("g::a", "g::a"),
        ("::a", "a"),
        ("'quoted name'", "quoted name"),
        ("'a' + '\\n'", "[97+10]"),
        ("0x10 + 010 + 0b11 + 1.5", "[[[16+8]+3]+1.5]"),
    ],
)
def test_operators_bind_as_in_c(text: str, brackets: str | None) -> None:
    if brackets is None:
        with pytest.raises(ExpressionError):
            parse(text, is_type)
    else:
        assert bracketed(parse(text, is_type)) == brackets


@pytest.mark.parametrize(
    ("text", "position", "said"),
    [
        ("", 0, "the end"),
        ("a +", 3, "a value"),
        ("a b", 2, "saw `b`"),
        ("a..b", 2, "the name of a member"),
        ("a[1", 3, "`]`"),
        ("(a", 2, "`)`"),
        ("a)", 1, "saw `)`"),
        ("a = 1", 2, "changed"),
        ("a += 1", 2, "changed"),
        ("a++", 1, "changed"),
        ("f(1)", 1, "called"),
        ("$rip", 0, "registers"),
        ("a # b", 2, "written so"),
        ("'a", 0, "no quote"),
        ('"a', 0, "no quote"),
        ("a + 08", 4, "08 is no number"),
        ("1zz", 0, "1zz is no number"),
        ("18446744073709551616", 0, "too large"),
        ("a ? b", 5, "`:`"),
        ("(unsigned float)a", 1, "no type of C"),
        ("(struct)a", 7, "the name of a struct"),
        ("(struct *)a", 8, "the name of a struct"),
        ("sizeof(int", 10, "`)`"),
        ("int", 0, "a type"),
        ("offsetof(T)", 10, "`,`"),
        ("offsetof(T, 1)", 12, "the name of a member"),
        ("container_of(p, T)", 17, "`,`"),
        ("(int[x])a", 5, "a number"),
        ("'\\xfff'", 1, "no byte"),
        ("{int}", 5, "a value"),
    ],
)
def test_errors_point_at_the_place(text: str, position: int, said: str) -> None:
    with pytest.raises(ExpressionError) as caught:
        parse(text)
    error = caught.value
    assert (error.expression, error.position) == (text, position)
    assert said in str(error)
    assert f"character {position + 1}" in str(error)
    shown, caret = error.pointed.splitlines()
    assert shown == text
    assert caret == " " * position + "^"


def test_a_long_expression_is_shown_around_the_fault() -> None:
    with pytest.raises(ExpressionError) as caught:
        parse("a + " * 100 + ")")
    shown, caret = caught.value.pointed.splitlines()
    assert len(shown) <= 78
    assert shown[caret.index("^")] == ")"


def test_bounds() -> None:
    parse(" " * (MAX_LENGTH - 1) + "a")
    with pytest.raises(ExpressionError, match="too long"):
        parse(" " * MAX_LENGTH + "a")
    parse("a" + ".b" * (MAX_DEPTH - 1))
    with pytest.raises(ExpressionError, match="too many levels"):
        parse("a" + ".b" * (MAX_DEPTH + 1))
    parse("(" * 50 + "a" + ")" * 50)
    with pytest.raises(ExpressionError, match="too deeply"):
        parse("(" * 500 + "a" + ")" * 500)


@pytest.mark.parametrize(
    "text", ["T", "T *", "struct S", "unsigned long", "void (*)(int)", "char [4]"]
)
def test_a_type_alone(text: str) -> None:
    assert isinstance(parse_any(text, is_type), TypeName)
    assert parse_any(text, is_type) == parse_type(text)


def test_an_expression_where_a_type_could_be() -> None:
    assert isinstance(parse_any("(T)a", is_type), Cast)
    assert isinstance(parse_any("sizeof(T)", is_type), SizeOf)
    assert not isinstance(parse_any("a", is_type), TypeName)
    with pytest.raises(ExpressionError):
        parse_type("a + b")
