"""Parsing of types, and what every parser of this grammar needs: the words, and where it is."""

from __future__ import annotations

from vringcore.errors import ExpressionError
from vringcore.expr.lexer import Token
from vringcore.expr.syntax import (
    ArrayOf,
    Derivation,
    FunctionOf,
    Integer,
    PointerTo,
    TypeName,
)
from vringcore.expr.typewords import QUALIFIERS, TAGS, TYPE_WORDS, canonical

_CHANGES = frozenset(
    {"=", "+=", "-=", "*=", "/=", "%=", "&=", "|=", "^=", "<<=", ">>=", "++", "--"}
)

MAX_NESTING = 120
"""Parentheses and the like inside one another, each of which counts about twice."""


class TypeParser:
    """A position in a list of words, and the types that may start there."""

    def __init__(self, words: list[Token]) -> None:
        self._words = words
        self._next = 0
        self._nesting = 0

    @property
    def token(self) -> Token:
        """The word here."""
        return self._words[self._next]

    def peek(self, ahead: int) -> Token:
        """Return a word further on; the end goes on for ever."""
        return self._words[min(self._next + ahead, len(self._words) - 1)]

    def advance(self) -> Token:
        """Return the word here and go past it, unless it is the end."""
        token = self._words[self._next]
        if token.kind != "end":
            self._next += 1
        return token

    def expect(self, text: str) -> None:
        """Go past a word that must be here.

        :raises ExpressionError: if another is
        """
        if self.token.text != text:
            raise self.unexpected(f"`{text}`")
        self.advance()

    def expect_end(self) -> None:
        """Check that nothing is left.

        :raises ExpressionError: if something is
        """
        if self.token.kind != "end":
            raise self.unexpected("an operator or the end")

    def unexpected(self, expected: str) -> ExpressionError:
        """Return the error for a word that cannot stand here."""
        if self.token.text in _CHANGES:
            return ExpressionError("nothing can be changed in a core", position=self.token.at)
        seen = f"`{self.token.text}`" if self.token.text else "the end"
        return ExpressionError(
            "no C expression", position=self.token.at, seen=seen, expected=expected
        )

    def descend(self) -> None:
        """Note that the parser calls itself.

        :raises ExpressionError: if it did so too often
        """
        self._nesting += 1
        if self._nesting > MAX_NESTING:
            raise ExpressionError("an expression nested too deeply", position=self.token.at)

    def ascend(self) -> None:
        """Note that a call of the parser by itself has ended."""
        self._nesting -= 1

    # Types

    def is_pointer_to(self, ahead: int) -> bool:
        """Tell whether a name so far ahead starts a type whatever it means: ``T *)``, ``T (*)``."""
        if self.peek(ahead).kind != "name" or self.peek(ahead).text == "sizeof":
            return False
        ahead += 1
        if self.peek(ahead).text in QUALIFIERS:
            return True
        pointer = self.peek(ahead).text == "*"
        after = self._past_stars(ahead)
        text = self.peek(after).text
        if text == "(" and self.peek(after + 1).text == "*":
            return self.peek(self._past_stars(after + 1)).text in (")", "[")
        return pointer and text in (")", "}", ",", "[", "")

    def _past_stars(self, ahead: int) -> int:
        while self.peek(ahead).text == "*" or self.peek(ahead).text in QUALIFIERS:
            ahead += 1
        return ahead

    def type_name(self) -> TypeName:
        """Parse a type without a name in it (C11 6.7.7).

        :raises ExpressionError: if there is none here
        """
        at = self.token.at
        self.descend()
        qualifiers: list[str] = []
        words: list[str] = []
        kind, name = "base", ""
        while self.token.kind == "name":
            text = self.token.text
            if text in QUALIFIERS:
                qualifiers.append(self.advance().text)
            elif text in TAGS and not words and not name:
                kind, name = self._tagged()
            elif text in TYPE_WORDS and not name:
                words.append(self.advance().text)
            elif text not in TYPE_WORDS and not words and not name:
                kind, name = "typedef", self.advance().text
            else:
                break
        if kind == "base":
            name = self._base(words, at)
        derivations = self._declarator()
        self.ascend()
        return TypeName(at, kind, name, tuple(qualifiers), derivations)  # type: ignore[arg-type]

    def _tagged(self) -> tuple[str, str]:
        kind = self.advance().text
        if self.token.kind != "name" or self.token.text in TYPE_WORDS:
            raise self.unexpected(f"the name of a {kind}")
        return kind, self.advance().text

    def _base(self, words: list[str], at: int) -> str:
        name = canonical(words)
        if name is None:
            if not words:
                raise self.unexpected("a type")
            raise ExpressionError(f"{' '.join(words)} is no type of C", position=at)
        return name

    def _declarator(self) -> tuple[Derivation, ...]:
        """Parse what is derived, and return it with the innermost first."""
        self.descend()
        pointers: list[Derivation] = []
        while self.token.text == "*":
            self.descend()  # A pointer to a pointer is a level, too, to who walks the type.
            self.advance()
            qualifiers = []
            while self.token.text in QUALIFIERS:
                qualifiers.append(self.advance().text)
            pointers.append(PointerTo(tuple(qualifiers)))
        inner: tuple[Derivation, ...] = ()
        if self.token.text == "(" and self.peek(1).text in ("*", "(", "["):
            self.advance()
            inner = self._declarator()
            self.expect(")")
        suffixes: list[Derivation] = []
        while self.token.text in ("[", "("):
            self.descend()
            suffixes.append(self._array() if self.token.text == "[" else self._parameters())
        for _ in range(1 + len(pointers) + len(suffixes)):
            self.ascend()
        return (*pointers, *reversed(suffixes), *inner)

    def _array(self) -> ArrayOf:
        self.expect("[")
        count = None if self.token.text == "]" else self.count()
        self.expect("]")
        return ArrayOf(count)

    def count(self) -> int:
        """Parse an integer constant.

        :raises ExpressionError: if something else is here
        """
        token = self.token
        if token.kind != "number":
            raise self.unexpected("a number")
        from vringcore.expr.literal import number

        constant = number(self.advance())
        if not isinstance(constant, Integer):
            raise ExpressionError(f"{token.text} counts nothing", position=token.at)
        return constant.value

    def _parameters(self) -> FunctionOf:
        self.expect("(")
        parameters: list[TypeName] = []
        variadic = False
        prototyped = self.token.text != ")"
        while self.token.text != ")":
            if self.token.text == "." and self.peek(1).text == self.peek(2).text == ".":
                for _ in range(3):
                    self.advance()
                variadic = True
                break
            parameters.append(self.type_name())
            if self.token.text != ",":
                break
            self.advance()
        self.expect(")")
        only = parameters[0] if len(parameters) == 1 else None
        if only is not None and only.name == "void" and not only.derivations:
            parameters = []
        return FunctionOf(tuple(parameters), variadic, prototyped)
