"""Run inside gdb: writes the shapes of named types, and addresses of variables, as JSON.

``gdb -batch -nx -ex 'python request = "in.json"; answer = "out.json"' -x gdb_dump.py PROGRAM``
"""

import json

import gdb

RECORDS = (gdb.TYPE_CODE_STRUCT, gdb.TYPE_CODE_UNION)


def size_of(type_):
    # gdb gives the type of a flexible array one element in `ptype /o`; sizeof says none.
    return type_.sizeof


def record(type_):
    members = []
    for field in type_.fields():
        inner = field.type.strip_typedefs()
        nested = size_of(inner)
        element = inner
        while element.code == gdb.TYPE_CODE_ARRAY:
            element = element.target().strip_typedefs()
        if element.code in RECORDS and element.tag is None:
            nested = [nested, record(element)]
        members.append([field.name or "", field.bitpos, field.bitsize, nested])
    return [type_.sizeof, members]


def shape(key):
    kind, _, name = key.partition(" ")
    type_ = gdb.lookup_type(name if kind == "typedef" else key).strip_typedefs()
    if type_.code in RECORDS:
        return record(type_)
    if type_.code == gdb.TYPE_CODE_ENUM:
        return [type_.sizeof, {f.name: f.enumval for f in type_.fields()}]
    return [size_of(type_), []]


def attempt(function, argument):
    try:
        return function(argument)
    except gdb.error as error:
        return str(error)


def address_of(expression):
    return int(gdb.parse_and_eval(f"(unsigned long)&{expression}"))


def symbol_at(address):
    text = gdb.execute(f"info symbol {address:#x}", to_string=True)
    return text.split(" in section ")[0].split(" + ")[0] if " in section " in text else None


def source_of(address):
    """Return [function, file, line] of every level of inlining, the innermost first."""
    sal = gdb.find_pc_line(address)
    place = [sal.symtab.filename, sal.line] if sal.symtab and sal.line else ["", 0]
    block = gdb.block_for_pc(address)
    frames = []
    while block is not None:
        function = block.function
        if function is not None:
            frames.append([function.name, *place])
            # Of an inlined function gdb keeps the place of the call as that of the function.
            place = [function.symtab.filename, function.line]
        block = block.superblock
    return frames or ([["", *place]] if place[0] else [])


gdb.execute("set confirm off")
gdb.execute("set max-value-size unlimited")
with open(request) as file:  # noqa: F821 - set on gdb's command line
    asked = json.load(file)
result = {
    "types": {key: attempt(shape, key) for key in asked.get("types", [])},
    "variables": {name: attempt(address_of, name) for name in asked.get("variables", [])},
    "sources": [source_of(address) for address in asked.get("sources", [])],
    "symbols": {str(address): symbol_at(address) for address in asked.get("symbols", [])},
}
with open(answer, "w") as file:  # noqa: F821
    json.dump(result, file)
