"""Layout packs made from a program with debug information, and held against a binary.

A pack holds every named type of the program, and the types of the variables that the binary at hand
can place: exported ones, and those that an exported function reads.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vringcore.cli.bundles import Program, look_up_variables
from vringcore.errors import LayoutError
from vringcore.layout.pack import Pack, PackVariable, Proof, pack_type
from vringcore.layout.types import Array, Function, Named, Pointer, Qualified, Record, Typedef
from vringcore.qemu.accessors import ACCESSORS, THREAD_ACCESSORS

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from vringcore.layout.provider import Layouts
    from vringcore.layout.types import Definition, Type

KINDS = ("struct", "union", "enum", "typedef")

PLACED = {**ACCESSORS, **THREAD_ACCESSORS}

GENERATED = ("_TRACE_", "_trace_events", "qapi_dummy_", "_EVENT", "_DSTATE", "_len", "_feature_map")
"""Parts of exported variables' names that nobody asks for: tables of the build itself."""


def build_pack(program: Program, name: str, serves: Sequence[str], package: str = "") -> Pack:
    """Return the types of a program, for the binaries that have its machine code.

    :param name: what the pack is called
    :param serves: stripped binaries
    :param package: what they are part of
    :raises LayoutError: if the program is no QEMU, or a binary has other machine code
    """
    layouts = program.layouts
    digest = text_digest(program.paths[0])
    _look_up_types(layouts)
    look_up_variables(layouts)
    for exported in sorted(_exported(program.paths[0])):
        layouts.find_variable(exported)
    bundle = layouts.bundle
    if "struct VirtIODevice" not in bundle.types:
        raise LayoutError(
            "this program has no virtio devices",
            where=program.paths[0],
            expected="a qemu-system-* program with debug information",
        )
    pack = Pack(
        name=name,
        build_id=bundle.build_id,
        digest=digest,
        machine=bundle.machine,
        big_endian=bundle.big_endian,
        pointer_size=bundle.pointer_size,
        producer=bundle.producer,
        complete=True,
        variables=_variables(layouts),
    )
    for key in sorted(bundle.types):
        pack.types[key] = bundle.types[key]
    for path in serves:
        build_id, proof = text_proof(path, digest, package)
        pack.serves[build_id] = proof
    return pack


def text_proof(path: str, digest: str, package: str = "") -> tuple[str, Proof]:
    """Return a binary's build-id, and the proof that it has the machine code of a digest.

    :raises LayoutError: if it has other code, or no build-id
    """
    from vringcore.debuginfo.elf import ElfFile

    with ElfFile.open(path) as elf:
        build_id = elf.build_id
    seen = text_digest(path)
    if seen != digest:
        raise LayoutError(
            "the machine code is not that of the program whose types were read",
            where=path,
            seen=f".text of SHA-256 {seen}",
            expected=digest,
            hint="rebuild it from the same source package with the same tools and options"
            " (docs/packs.md)",
        )
    if not build_id:
        raise LayoutError("a binary without build-id cannot be served", where=path)
    program = " ".join(filter(None, (package, path.rsplit("/", 1)[-1])))
    return build_id, Proof(by="text", program=program, digest=digest)


def text_digest(path: str) -> str:
    """Return the SHA-256 of a program's ``.text``, in hex.

    :raises LayoutError: if it has none
    """
    from hashlib import sha256

    from vringcore.debuginfo.elf import ElfFile

    with ElfFile.open(path) as elf:
        text = elf.section(".text")
        if text is None:
            raise LayoutError(
                "no machine code in this file",
                where=path,
                hint="a separate debug file has none; give the program itself",
            )
        return sha256(text.data).hexdigest()


def _exported(path: str) -> Iterator[str]:
    """Yield the names of the exported variables that somebody may ask for."""
    import lief

    binary = lief.ELF.parse(path)
    for symbol in binary.dynamic_symbols if binary is not None else ():
        name = str(symbol.name)
        is_data = symbol.type in (lief.ELF.Symbol.TYPE.OBJECT, lief.ELF.Symbol.TYPE.TLS)
        if is_data and symbol.shndx and not any(part in name for part in GENERATED):
            yield name


def _look_up_types(layouts: Layouts) -> None:
    """Look up every named type, and those of other files with the same name that lie in them."""
    waiting = [f"{kind} {name}" for kind in KINDS for name in layouts.names(kind)]
    done = set(waiting)
    while waiting:
        found = layouts.find_definition(waiting.pop())
        for named in () if found is None else _named_in(found):
            if named.key not in done:
                done.add(named.key)
                waiting.append(named.key)


def _named_in(type_: Definition | Type) -> Iterator[Named]:
    """Yield the named types that a type has in it or points to."""
    match type_:
        case Named():
            yield type_
        case Typedef(type=inner) | Qualified(of=inner) | Array(of=inner) | Pointer(to=inner):
            yield from _named_in(inner)
        case Function(returns=returns, parameters=parameters):
            for each in (returns, *parameters):
                yield from _named_in(each)
        case Record(members=members):
            for member in members:
                yield from _named_in(member.type)


def _variables(layouts: Layouts) -> dict[str, PackVariable]:
    """Return the variables that a stripped binary can place, in the order of their names."""
    found = {}
    for variable in layouts.bundle.variables.values():
        key = "::".join(part for part in (variable.function, variable.name) if part)
        if variable.type is not None and (variable.external or key in PLACED):
            found[key] = PackVariable(variable.type, variable.unit, variable.external)
    return {key: found[key] for key in sorted(found)}


def check_pack(pack: Pack, path: str) -> tuple[str, Proof | None, list[str]]:
    """Hold a pack against a binary that it serves.

    :return: the binary's build-id, its proof if it is served, and a line for each difference
    """
    from vringcore.debuginfo.elf import ElfFile

    with ElfFile.open(path) as elf:
        build_id = elf.build_id
    proof = pack.serves.get(build_id)
    digest = text_digest(path)
    differences = []
    if proof is None and build_id != pack.build_id:
        differences.append(f"build-id {build_id or 'none'} is not among those that it serves")
    expected = pack.digest if proof is None else proof.digest
    if expected and digest != expected:
        differences.append(f".text has the SHA-256 {digest}, not {expected}")
    return build_id, proof, differences


def check_types(pack: Pack, program: Program) -> list[str]:
    """Return a line for each type that a program with debug information has otherwise."""
    layouts = program.layouts
    differences = []
    for key in pack.types:
        ours = pack_type(pack, key)
        assert ours is not None
        if layouts.find_definition(key, (ours.unit,)) != ours.definition:
            differences.append(f"{key} is another in the program")
    return differences
