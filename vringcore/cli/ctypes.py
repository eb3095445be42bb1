"""C types as C writes them, for ``vringcore layout show``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vringcore.layout import types

if TYPE_CHECKING:
    from vringcore.layout.types import Definition, Type


def declaration(type_: Type, name: str) -> str:
    """Return a declaration of ``name`` with that type: ``int (*call)(void)``."""
    match type_:
        case types.Pointer(to=target):
            wrapped = isinstance(target, (types.Array, types.Function))
            return declaration(target, f"(*{name})" if wrapped else f"*{name}")
        case types.Array(of=element, count=count):
            return declaration(element, f"{name}[{'' if count is None else count}]")
        case types.Function(returns=returns, parameters=parameters, variadic=variadic):
            inner = [declaration(each, "") for each in parameters] + ["..."] * variadic
            return declaration(returns, f"{name}({', '.join(inner) or 'void'})")
        case types.Qualified(qualifier=qualifier, of=inner_type):
            if isinstance(inner_type, types.Pointer):
                return declaration(inner_type, f"{qualifier} {name}".rstrip())
            return f"{qualifier} {declaration(inner_type, name)}"
    return f"{_base(type_)} {name}".rstrip()


def _base(type_: Type) -> str:
    match type_:
        case types.Void():
            return "void"
        case types.Base(name=name):
            return name
        case types.Named(kind="typedef", name=name):
            return name
        case types.Named(kind=kind, name=name):
            return f"{kind} {name}"
        case types.Record(kind=kind, name=record_name):
            return f"{kind} {record_name or '{...}'}"
        case types.Enum(name=enum_name):
            return f"enum {enum_name or '{...}'}"
    return "?"


def definition_lines(definition: Definition) -> list[str]:
    """Return a definition with offsets and sizes in bytes, a member or enumerator a line."""
    match definition:
        case types.Typedef(name=name, type=type_):
            return [f"typedef {declaration(type_, name)};"]
        case types.Enum(name=name, size=size, enumerators=enumerators):
            inner = [f"    {each} = {value}," for each, value in enumerators.items()]
            return [f"enum {name} {{  /* {size} bytes */", *inner, "};"]
        case types.Record():
            head = f"{definition.kind} {definition.name} {{  /* {definition.size} bytes */"
            return [head, *_members(definition, 0, "    "), "};"]


def _members(record: types.Record, base: int, indent: str) -> list[str]:
    lines = []
    for member in record.members:
        offset = base + member.offset
        bits = "" if member.bit_size is None else f" : {member.bit_size}"
        place = f"{offset}" if member.bit_size is None else f"{offset}, bit {member.bit_offset}"
        if isinstance(member.type, types.Record) and member.type.name is None:
            lines.append(f"{indent}{member.type.kind} {{  /* at {place} */")
            lines += _members(member.type, offset, indent + "    ")
            lines.append(f"{indent}}} {member.name or ''}".rstrip() + ";")
        else:
            text = declaration(member.type, member.name or "")
            lines.append(f"{indent}{text}{bits};  /* at {place} */")
    return lines
