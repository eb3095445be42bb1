"""From the text of an expression to its tree.

C's grammar without assignment and calls, and with what gdb adds to it: ``@``, ``'file.c'::name``,
``function::name``, ``{type} address``. ``(name) - 1`` is a cast if the name is that of a type, so
the parser asks where it has to know.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vringcore.errors import ExpressionError
from vringcore.expr.lexer import Token, tokens, unquote
from vringcore.expr.parsetype import TypeParser
from vringcore.expr.syntax import (
    Binary,
    Cast,
    Character,
    Conditional,
    ContainerOf,
    Expression,
    Index,
    Member,
    MemoryAt,
    Name,
    OffsetOf,
    SizeOf,
    String,
    TypeName,
    Unary,
)
from vringcore.expr.typewords import TYPE_WORDS

if TYPE_CHECKING:
    from collections.abc import Callable

MAX_DEPTH = 150
"""Levels of an expression; ``a.b.c`` has three."""

_PRECEDENCE = {
    ",": 1, "||": 4, "&&": 5, "|": 6, "^": 7, "&": 8, "==": 9, "!=": 9,
    "<": 10, ">": 10, "<=": 10, ">=": 10, "<<": 11, ">>": 11, "@": 12,
    "+": 13, "-": 13, "*": 14, "/": 14, "%": 14,
}  # fmt: skip
"""Of the operators between two operands (C11 6.5); ``@`` is where gdb has it."""

_FUNCTIONS = frozenset({"sizeof", "offsetof", "container_of"})
_CONDITIONAL = 3
_UNARY = frozenset("*&+-~!")
_OPERAND_KINDS = frozenset({"number", "name", "dollar", "quoted", "string"})
_OPERAND_SIGNS = frozenset({"~", "!", "{"})
_EITHER = frozenset({"(", "*", "&", "-", "+"})


def parse(text: str, is_type: Callable[[str], bool] = lambda _name: False) -> Expression:
    """Return the tree of an expression.

    :param is_type: tells whether a name is a typedef's, asked where the grammar depends on it
    :raises ExpressionError: where the text is no expression; it says where
    """
    try:
        parser = _Parser(text, is_type)
        tree = parser.expression()
        parser.expect_end()
    except ExpressionError as error:
        raise error.located(text, 0) from None
    return tree


def parse_any(text: str, is_type: Callable[[str], bool]) -> Expression | TypeName:
    """Return the tree of an expression or of a type, ``struct VirtQueue *``.

    :raises ExpressionError: where the text is neither
    """
    try:
        parser = _Parser(text, is_type)
        tree = parser.type_name() if parser.at_type() else parser.expression()
        parser.expect_end()
    except ExpressionError as error:
        raise error.located(text, 0) from None
    return tree


def parse_type(text: str) -> TypeName:
    """Return the tree of a type.

    :raises ExpressionError: where the text is none
    """
    try:
        parser = TypeParser(tokens(text))
        tree = parser.type_name()
        parser.expect_end()
    except ExpressionError as error:
        raise error.located(text, 0) from None
    return tree


class _Parser(TypeParser):
    """Recursive descent, one level of C's grammar of operators per precedence."""

    def __init__(self, text: str, is_type: Callable[[str], bool]) -> None:
        super().__init__(tokens(text))
        self._is_type = is_type
        self._depths: dict[int, int] = {}

    def expression(self, lowest: int = 1) -> Expression:
        """Parse an expression of operators that bind at least so tightly."""
        self.descend()
        left = self._unary()
        while True:
            token = self.token
            precedence = _PRECEDENCE.get(token.text, 0) if token.kind == "operator" else 0
            if token.text == "?" and lowest <= _CONDITIONAL:
                left = self._conditional(left)
            elif precedence >= lowest and precedence:
                self.advance()
                right = self.expression(precedence + 1)
                left = self._made(Binary(token.at, token.text, left, right), left, right)
            else:
                break
        self.ascend()
        return left

    def _conditional(self, condition: Expression) -> Expression:
        at = self.advance().at
        then = self.expression()
        self.expect(":")
        otherwise = self.expression(_CONDITIONAL)
        return self._made(Conditional(at, condition, then, otherwise), condition, then, otherwise)

    def _unary(self) -> Expression:
        token = self.token
        if token.kind == "operator" and token.text in _UNARY:
            self.advance()
            operand = self._nested(self._unary)
            return self._made(Unary(token.at, token.text, operand), operand)
        if token.text == "sizeof":
            return self._sizeof()
        if token.text == "{":
            self.advance()
            type_ = self.type_name()
            self.expect("}")
            address = self._nested(self._unary)
            return self._made(MemoryAt(token.at, type_, address), address)
        if token.text == "(" and self._at_cast():
            self.advance()
            type_ = self.type_name()
            self.expect(")")
            operand = self._nested(self._unary)
            return self._made(Cast(token.at, type_, operand), operand)
        return self._postfix(self._primary())

    def _sizeof(self) -> Expression:
        at = self.advance().at
        if self.token.text == "(" and (self.at_type(1) or self._names_type(1)):
            self.advance()
            type_ = self.type_name()
            self.expect(")")
            return SizeOf(at, type_)
        operand = self._nested(self._unary)
        return self._made(SizeOf(at, operand), operand)

    def _names_type(self, ahead: int) -> bool:
        token = self.peek(ahead)
        follows = self.peek(ahead + 1).text
        return (
            token.kind == "name"
            and follows in (")", "*", "[", "(")
            and (self.is_pointer_to(ahead) or self._is_type(token.text))
        )

    def _at_cast(self) -> bool:
        """Tell whether the parenthesis here holds a type."""
        if self.at_type(1) or self.is_pointer_to(1):
            return True
        name, follows, after = self.peek(1), self.peek(2).text, self.peek(3)
        if name.kind != "name" or name.text == "sizeof":
            return False
        if follows == ")":
            if after.kind in _OPERAND_KINDS or after.text in _OPERAND_SIGNS:
                return True
            return after.text in _EITHER and self._is_type(name.text)
        return follows in ("[", "(") and self._is_type(name.text)

    def at_type(self, ahead: int = 0) -> bool:
        """Tell whether only a type can start here."""
        token = self.peek(ahead)
        if token.kind != "name" or token.text in _FUNCTIONS:
            return False
        if ahead == 0 and token.text not in TYPE_WORDS:
            if self.peek(1).kind == "operator" and self.peek(1).text not in ("*", "(", "["):
                return False
            return self.is_pointer_to(0) or self._is_type(token.text)
        return token.text in TYPE_WORDS

    def _postfix(self, operand: Expression) -> Expression:
        while True:
            token = self.token
            if token.text in (".", "->"):
                self.advance()
                operand = self._made(Member(token.at, operand, self._member_name()), operand)
            elif token.text == "[" and token.kind == "operator":
                self.advance()
                index = self.expression()
                self.expect("]")
                operand = self._made(Index(token.at, operand, index), operand, index)
            elif token.text == "(":
                raise ExpressionError(
                    "nothing can be called in a core", position=token.at, hint="only read"
                )
            else:
                return operand

    def _member_name(self) -> str:
        token = self.token
        if token.kind != "name":
            raise self.unexpected("the name of a member")
        self.advance()
        return token.text

    def _primary(self) -> Expression:
        token = self.token
        if token.kind == "end" or (token.kind == "operator" and token.text not in ("(", "::")):
            raise self.unexpected("a value")
        self.advance()
        match token.kind:
            case "number":
                from vringcore.expr.literal import number

                return number(token)
            case "string":
                return String(token.at, unquote(token))
            case "quoted":
                return self._quoted(token)
            case "dollar":
                raise ExpressionError(
                    "registers and gdb's own variables are not at hand",
                    position=token.at,
                    seen=token.text,
                )
            case "name" if token.text in TYPE_WORDS:
                raise ExpressionError("a type stands where a value should", position=token.at)
            case "name" if token.text in _FUNCTIONS and self.token.text == "(":
                return self._built_in(token)
            case "name":
                return self._scoped(token, unit="")
        if token.text == "(":
            inner = self._nested(self.expression)
            self.expect(")")
            return inner
        return self._scoped(self._named(), unit="")

    def _built_in(self, token: Token) -> Expression:
        self.expect("(")
        if token.text == "offsetof":
            type_ = self.type_name()
            self.expect(",")
            node: Expression = OffsetOf(token.at, type_, self._path())
        else:
            pointer = self.expression(2)
            self.expect(",")
            type_ = self.type_name()
            self.expect(",")
            node = self._made(ContainerOf(token.at, pointer, type_, self._path()), pointer)
        self.expect(")")
        return node

    def _path(self) -> str:
        path = self._member_name()
        while self.token.text in (".", "["):
            if self.advance().text == ".":
                path += "." + self._member_name()
            else:
                path += f"[{self.count()}]"
                self.expect("]")
        return path

    def _quoted(self, token: Token) -> Expression:
        """Parse a character, or a file or symbol in quotes."""
        if self.token.text == "::":
            self.advance()
            return self._scoped(self._named(), unit=token.text[1:-1])
        value = unquote(token)
        if len(value) == 1:
            return Character(token.at, value[0])
        return Name(token.at, token.text[1:-1])

    def _named(self) -> Token:
        if self.token.kind != "name":
            raise self.unexpected("a name")
        return self.advance()

    def _scoped(self, name: Token, unit: str) -> Expression:
        if self.token.text != "::":
            return Name(name.at, name.text, unit)
        self.advance()
        return Name(name.at, self._named().text, unit, name.text)

    # Bounds

    def _nested(self, parse: Callable[[], Expression]) -> Expression:
        self.descend()
        node = parse()
        self.ascend()
        return node

    def _made(self, node: Expression, *parts: Expression) -> Expression:
        """Return a node, having checked that the tree did not become too deep to be walked."""
        depth = 1 + max(self._depths.get(id(part), 0) for part in parts)
        if depth > MAX_DEPTH:
            raise ExpressionError(
                "an expression of too many levels",
                position=node.at,
                expected=f"at most {MAX_DEPTH}",
            )
        self._depths[id(node)] = depth
        return node
