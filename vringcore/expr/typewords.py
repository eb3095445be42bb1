"""The words that C's own types are spelled with."""

from __future__ import annotations

QUALIFIERS = frozenset({"const", "volatile", "restrict", "_Atomic"})
TAGS = frozenset({"struct", "union", "enum"})

_SPECIFIERS = {
    "void", "char", "short", "int", "long", "float", "double", "signed", "unsigned",
    "_Bool", "bool", "__int128", "_Complex",
}  # fmt: skip

TYPE_WORDS = QUALIFIERS | TAGS | _SPECIFIERS
"""What only a type can start with."""

_INTEGERS = {
    ("short",): "short",
    (): "int",
    ("long",): "long",
    ("long", "long"): "long long",
    ("char",): "char",
    ("__int128",): "__int128",
}

_OTHERS = {
    ("void",): "void",
    ("_Bool",): "_Bool",
    ("bool",): "_Bool",
    ("float",): "float",
    ("double",): "double",
    ("double", "long"): "long double",
    ("_Complex", "float"): "complex float",
    ("_Complex", "double"): "complex double",
    ("_Complex", "double", "long"): "complex long double",
}


def canonical(words: list[str]) -> str | None:
    """Return the one name of a type spelled with keywords in any order; None if it is none.

    ``long unsigned int`` is ``unsigned long``.
    """
    other = _OTHERS.get(tuple(sorted(words)))
    if other is not None:
        return other
    signs = [w for w in words if w in ("signed", "unsigned")]
    if len(signs) > 1 or not words:
        return None
    size = sorted(w for w in words if w not in ("signed", "unsigned"))
    if size.count("int") == 1:
        size.remove("int")
        if "char" in size or "__int128" in size:
            return None
    name = _INTEGERS.get(tuple(size))
    if name is None or not signs:
        return name
    if signs == ["unsigned"]:
        return "unsigned " + name
    return "signed char" if name == "char" else name
