"""Layout packs: their form, the provider over one, the proof of the machine code."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import msgspec
import pytest

from tests.synth.programs import SAME_ANSWERS, compile_program
from vringcore.cli.bundles import Program
from vringcore.cli.packs import build_pack, check_pack, check_types, text_digest
from vringcore.errors import LayoutError
from vringcore.layout.bundle import Bundle, Typed, is_bundle, put_type, to_json
from vringcore.layout.pack import (
    Pack,
    PackVariable,
    Proof,
    pack_from_json,
    pack_of_bundle,
    pack_to_json,
    pack_type,
    served_by,
)
from vringcore.layout.pack_provider import PackProvider
from vringcore.layout.pack_store import find_pack, read_file, shipped
from vringcore.layout.provider import NotSearched
from vringcore.layout.types import Base, Enum, Member, Named, Pointer, Record, Symbol, Void
from vringcore.layout.types import Variable as BundleVariable

INT = Base("int", 4, "signed")
RECORD = Record("struct", "S", 8, (Member("a", INT, 0), Member("b", INT, 4)))
STATE = Enum("State", 4, False, {"STATE_IDLE": 0, "STATE_BUSY": 1})
BUILD_ID = "00112233445566778899aabbccddeeff00112233"
MAX_SHIPPED = 500_000


def pack(*, complete: bool = True) -> Pack:
    bundle = Bundle()
    put_type(bundle, "struct S", Typed(RECORD, "s.c"))
    put_type(bundle, "enum State", Typed(STATE))
    return Pack(
        name="ours",
        serves={BUILD_ID: Proof(by="text", digest="abc")},
        digest="abc",
        complete=complete,
        types=bundle.types,
        variables={
            "shared": PackVariable(Pointer(Void()), "s.c", external=True),
            "hidden": PackVariable(INT, "s.c"),
            "f::inner": PackVariable(INT, "s.c"),
            "own": PackVariable(INT, "s.c"),
        },
    )


def provider(of: Pack) -> PackProvider:
    symbols = {"shared": Symbol("shared", 0x100, 8), "hidden": Symbol("hidden", 0x666, 4)}
    places = {"hidden": 0x200, "f::inner": 0x300}
    return PackProvider(of, symbols.get, places.get, {"own": 0x40}.get)


def test_a_pack_is_read_as_it_was_written_packed_or_not() -> None:
    for data in (pack_to_json(pack()), msgspec.json.encode(pack())):
        again = pack_from_json(data)
        assert msgspec.json.encode(again) == msgspec.json.encode(pack())
        assert pack_type(again, "struct S") == Typed(RECORD, "s.c")
        assert served_by(data, where="").serves == pack().serves
        assert not is_bundle(data)
    assert is_bundle(to_json(Bundle()))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b"[]",
        b'{"schema": "vringcore/layout/1"}',
        b'{"schema": "vringcore/layout-pack/2"}',
        b'{"schema": "vringcore/layout-pack/1", "serves": [1]}',
        b"\x28\xb5\x2f\xfd broken",
        pack_to_json(pack())[:-20],
    ],
)
def test_a_damaged_pack_is_refused(data: bytes) -> None:
    with pytest.raises(LayoutError):
        pack_from_json(data)


def test_a_type_with_anothers_name_is_refused() -> None:
    wrong = pack()
    wrong.types["struct T"] = wrong.types["struct S"]
    with pytest.raises(LayoutError, match="another's name"):
        pack_type(wrong, "struct T")
    wrong.types["struct U"] = msgspec.Raw(b'{"definition": 1}')
    with pytest.raises(LayoutError, match="damaged"):
        pack_type(wrong, "struct U")


def test_types_come_from_the_pack_and_are_absent_only_if_it_has_all() -> None:
    assert provider(pack()).definition("struct S", ()) == Typed(RECORD, "s.c")
    assert provider(pack()).definition("struct Gone", ()) is None
    with pytest.raises(NotSearched):
        provider(pack(complete=False)).definition("struct Gone", ())


def test_places_come_from_the_binary_alone() -> None:
    ours = provider(pack())
    shared = ours.variable("shared", (), "")
    assert (shared.address, shared.type, shared.external) == (0x100, Pointer(Void()), True)
    # An exported symbol that happens to have a static variable's name is not that variable.
    assert ours.variable("hidden", (), "").address == 0x200
    assert ours.variable("inner", (), "f").address == 0x300
    own = ours.variable("own", (), "")
    assert (own.address, own.thread_local) == (0x40, True)
    with pytest.raises(NotSearched, match="static"):
        ours.variable("nowhere", (), "")


def test_enumerators_and_names() -> None:
    ours = provider(pack())
    assert ours.enumerator("STATE_BUSY") == Named("enum", "State")
    with pytest.raises(NotSearched):
        ours.enumerator("STATE_GONE")
    assert ours.names("struct") == ["S"]
    assert ours.names("variable") == ["shared", "hidden", "own"]
    assert ours.similar("Stat", "enum") == ["State"]


def test_what_a_pack_has_not_is_left_to_others() -> None:
    ours = provider(pack())
    for ask in (
        lambda: ours.symbol("x"),
        lambda: ours.symbol_at(1),
        lambda: ours.source_of(1),
        lambda: ours.scope_of(1, all_variables=False),
        lambda: ours.tail_calls_of(1),
        lambda: ours.function("f", ()),
        lambda: ours.files_with("x", ""),
    ):
        with pytest.raises(NotSearched):
            ask()


def test_a_bundle_of_another_build_gives_types_without_addresses() -> None:
    bundle = Bundle(build_id=BUILD_ID, module="qemu")
    put_type(bundle, "struct S", Typed(RECORD))
    bundle.variables["inner"] = BundleVariable("inner", 0x1234, INT, function="f")
    made = pack_of_bundle(bundle)
    assert made.variables == {"f::inner": PackVariable(INT)}
    assert not made.complete
    assert made.serves == {}
    assert b"4660" not in msgspec.json.encode(made)


@pytest.mark.parametrize("path", shipped(), ids=lambda path: Path(path).name)
def test_shipped_packs_are_small_sound_and_found(path: str) -> None:
    data = read_file(path)
    assert len(data) < MAX_SHIPPED
    found = pack_from_json(data)
    assert found.complete
    assert found.serves
    for build_id, proof in found.serves.items():
        assert proof.by == "text"
        assert proof.digest == found.digest
        served = find_pack(build_id, [])
        assert served is not None
        assert served.name == found.name
    queue = pack_type(found, "struct VirtQueue")
    assert queue is not None
    assert isinstance(queue.definition, Record)
    assert {"vring", "last_avail_idx", "vdev"} <= {each.name for each in queue.definition.members}
    for key in found.types:
        assert pack_type(found, key) is not None


def test_at_least_one_pack_is_shipped_and_nobody_else_is_served() -> None:
    assert shipped()
    assert find_pack(BUILD_ID, []) is None
    assert find_pack("", []) is None


def test_a_stripped_program_is_served_and_a_changed_one_is_not(tmp_path: Path) -> None:
    variant = next(each for each in SAME_ANSWERS if each.name == "gcc-dwarf5")
    if variant.missing_tool() or shutil.which("strip") is None:
        pytest.skip("needs gcc and strip")
    program = compile_program(variant, tmp_path)
    stripped, changed = tmp_path / "stripped", tmp_path / "changed"
    subprocess.run(["strip", "-o", str(stripped), str(program)], check=True)
    digest = text_digest(str(program))
    assert text_digest(str(stripped)) == digest
    content = bytearray(stripped.read_bytes())
    section = subprocess.run(
        ["readelf", "-SW", str(stripped)], check=True, capture_output=True, text=True
    ).stdout
    text = next(line for line in section.splitlines() if " .text " in line)
    offset = int(text.partition(".text")[2].split()[2], 16)
    content[offset + 1] ^= 0xFF
    changed.write_bytes(content)
    with Program(str(program)) as described:
        made = build_pack(described, "synthetic", [str(stripped)])
        assert check_types(made, described) == []
    build_id, proof, differences = check_pack(made, str(stripped))
    assert (proof, differences) == (made.serves[build_id], [])
    assert check_pack(made, str(changed))[2] != []
    with Program(str(program)) as described, pytest.raises(LayoutError, match="machine code"):
        build_pack(described, "synthetic", [str(changed)])
