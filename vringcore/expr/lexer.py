"""From the text of an expression to its words."""

from __future__ import annotations

import re
from typing import Literal

import msgspec

from vringcore.errors import ExpressionError

MAX_LENGTH = 1 << 14
"""Characters in an expression."""

_TOKEN = re.compile(
    r"""
      (?P<number> 0[xX][\da-fA-F]*(?:\.[\da-fA-F]*)?(?:[pP][+-]?\d+)?\w*
                | (?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?\w* )
    | (?P<name> [A-Za-z_]\w* )
    | (?P<dollar> \$\w* )
    | (?P<quoted> '(?:[^'\\]|\\.)*' )
    | (?P<string> "(?:[^"\\]|\\.)*" )
    | (?P<operator> <<=|>>=|->|\+\+|--|<<|>>|<=|>=|==|!=|&&|\|\||::|[-+*/%&|^]=
                  | [-\[\](){}.&*+~!/%<>^|?:=,@] )
    """,
    re.VERBOSE | re.ASCII,
)
_SPACE = re.compile(r"[ \t\r\n]*")

_ESCAPES = {
    "n": 10, "t": 9, "r": 13, "a": 7, "b": 8, "f": 12, "v": 11, "e": 27,
    "\\": 92, "'": 39, '"': 34, "?": 63,
}  # fmt: skip

Kind = Literal["number", "name", "dollar", "quoted", "string", "operator", "end"]


class Token(msgspec.Struct, frozen=True):
    """A word of an expression and where it starts."""

    kind: Kind
    text: str
    at: int


def tokens(text: str) -> list[Token]:
    """Return the words of an expression, the last one of kind ``end``.

    :raises ExpressionError: at what is no word of C, and for an expression too long to be meant
    """
    if len(text) > MAX_LENGTH:
        raise ExpressionError(
            "an expression too long to be read",
            seen=f"{len(text)} characters",
            expected=f"at most {MAX_LENGTH}",
        )
    found = []
    at = _after_space(text, 0)
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None or match.lastgroup is None:
            raise ExpressionError(
                "no quote ends this one" if text[at] in "'\"" else "nothing in C is written so",
                position=at,
            )
        found.append(Token(match.lastgroup, match.group(), at))  # type: ignore[arg-type]
        at = _after_space(text, match.end())
    found.append(Token("end", "", len(text)))
    return found


def _after_space(text: str, at: int) -> int:
    match = _SPACE.match(text, at)
    return match.end() if match is not None else at


def unquote(token: Token) -> bytes:
    """Return what stands between quotes, its escapes resolved.

    :raises ExpressionError: for an escape that C does not have, or one that is no byte
    """
    body = token.text[1:-1]
    out = bytearray()
    at = 0
    while at < len(body):
        if body[at] != "\\":
            out += body[at].encode("utf-8", "surrogateescape")
            at += 1
            continue
        value, size = _escape(body, at + 1, token.at + 1)
        out.append(value)
        at += 1 + size
    return bytes(out)


def _escape(body: str, at: int, base: int) -> tuple[int, int]:
    """Return the byte that an escape stands for, and its length without the backslash."""
    simple = _ESCAPES.get(body[at])
    if simple is not None:
        return simple, 1
    match = re.compile(r"[0-7]{1,3}", re.ASCII).match(body, at)
    radix, skip = 8, 0
    if match is None and body[at] == "x":
        match = re.compile(r"[\da-fA-F]+", re.ASCII).match(body, at + 1)
        radix, skip = 16, 1
    if match is not None and (value := int(match.group(), radix)) < 256:
        return value, skip + len(match.group())
    raise ExpressionError("an escape that stands for no byte", position=base + at - 1)
