"""Constants: numbers as C writes them."""

from __future__ import annotations

import re

from vringcore.errors import ExpressionError
from vringcore.expr.lexer import Token
from vringcore.expr.syntax import Floating, Integer

_INTEGER = re.compile(
    r"(?:0[xX](?P<hexadecimal>[\da-fA-F]+)|0[bB](?P<binary>[01]+)|(?P<octal>0[0-7]*)"
    r"|(?P<decimal>[1-9]\d*))(?P<suffix>[uU]?(?:l|L|ll|LL)?|(?:l|L|ll|LL)[uU])",
    re.ASCII,
)
_FLOATING = re.compile(
    r"(?:(?P<decimal>(?:\d+\.\d*|\.\d+)(?:[eE][+-]?\d+)?|\d+[eE][+-]?\d+)"
    r"|(?P<hexadecimal>0[xX][\da-fA-F]*\.?[\da-fA-F]*(?:[pP][+-]?\d+)?))(?P<suffix>[fFlL]?)",
    re.ASCII,
)
_RADIX = {"hexadecimal": 16, "binary": 2, "octal": 8, "decimal": 10}


def number(token: Token) -> Integer | Floating:
    """Return the constant that a word stands for.

    :raises ExpressionError: if it is none, or needs more than 64 bits
    """
    match = _INTEGER.fullmatch(token.text)
    if match is not None:
        kind = next(kind for kind in _RADIX if match[kind] is not None)
        digits, suffix = match[kind], match["suffix"].lower()
        # A word of 64 bits has 64 binary digits; leading zeros do not count.
        value = int(digits, _RADIX[kind]) if len(digits.lstrip("0")) <= 64 else 1 << 64
        if value >> 64:
            raise ExpressionError("a constant too large for any integer type", position=token.at)
        return Integer(token.at, value, kind == "decimal", "u" in suffix, suffix.count("l"))
    match = _FLOATING.fullmatch(token.text)
    if match is not None:
        try:
            if match["decimal"] is not None:
                return Floating(token.at, float(match["decimal"]), match["suffix"].lower())
            return Floating(token.at, float.fromhex(match["hexadecimal"]), match["suffix"].lower())
        except (ValueError, OverflowError):
            pass
    raise ExpressionError(f"{token.text} is no number", position=token.at)
