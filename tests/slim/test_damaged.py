"""A slim core comes from a stranger: whatever its notes say, only our errors, and bounded work."""

from __future__ import annotations

import zlib
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import vringcore
from vringcore.elfcore import slimnote
from vringcore.elfcore.core import open_elf_core
from vringcore.elfcore.notes import SLIM_OWNER
from vringcore.elfcore.slimnote import Lost, Mapped, SlimNote, ThreadFacts
from vringcore.elfcore.writer import write_core
from vringcore.errors import CoreFormatError, VringcoreError
from vringcore.layout.store import LayoutStore
from vringcore.memory.space import Range
from vringcore.model.values import encode

SAMPLE = next((Path(vringcore.__file__).parent / "sample").glob("*.zst"))


@pytest.fixture(scope="module")
def plain() -> bytes:
    """The bundled sample, unpacked."""
    with SAMPLE.open("rb") as file:
        return zstandard.ZstdDecompressor().stream_reader(file).read()


def report_of(path: Path, nowhere: Path) -> Any:
    with vringcore.open_core(str(path), sysroot=str(nowhere), store=LayoutStore()) as core:
        return core.report()


def rewritten(path: Path, out: Path, changed: dict[int, bytes | None]) -> None:
    """Copy a slim core with other descriptions of its own notes; None leaves one out."""
    with open_elf_core(str(path)) as core, out.open("wb") as file:
        notes = []
        for note in core.notes() or ():
            desc = changed.get(note.type, note.desc) if note.owner == SLIM_OWNER else note.desc
            if desc is not None:
                notes.append((note.owner, note.type, desc))
        ranges = [
            Range(r.address, r.readable, r.readable, writable=r.writable)
            for r in core.memory.ranges()
            if r.readable
        ]
        write_core(file, core.memory, ranges, notes, core.header)


PLACES = st.integers(0, (1 << 32) - 1)
"""Taken modulo the size: what is drawn must not hang on a file, nor on what ran before."""


@settings(
    max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.lists(st.tuples(PLACES, st.integers(1, 255)), min_size=1, max_size=6))
def test_flipped_bytes_give_answers_or_our_errors(
    plain: bytes, tmp_path: Path, flips: list[tuple[int, int]]
) -> None:
    changed = bytearray(plain)
    for place, bits in flips:
        changed[place % len(plain)] ^= bits
    path = tmp_path / "core"
    path.write_bytes(changed)
    with suppress(VringcoreError):
        msgspec.json.decode(encode(report_of(path, tmp_path / "nothing")))


@pytest.mark.parametrize("part", [0.02, 0.2, 0.5, 0.9, 0.999])
def test_a_cut_one_gives_answers_or_our_errors(plain: bytes, tmp_path: Path, part: float) -> None:
    path = tmp_path / "core"
    path.write_bytes(plain[: int(len(plain) * part)])
    with suppress(VringcoreError):
        report_of(path, tmp_path / "nothing")


def test_a_bundle_that_unpacks_without_end_is_refused(plain: bytes, tmp_path: Path) -> None:
    (tmp_path / "core").write_bytes(plain)
    bomb = zlib.compress(b" " * (slimnote.MAX_BUNDLE + (1 << 20)), 9)
    rewritten(tmp_path / "core", tmp_path / "bomb", {slimnote.NT_SLIM_LAYOUTS: bomb})
    with pytest.raises(CoreFormatError, match="cut or too large"):
        report_of(tmp_path / "bomb", tmp_path / "nothing")


@pytest.mark.parametrize("data", [b"", b"no zlib", zlib.compress(b"no JSON"), zlib.compress(b"{}")])
def test_a_damaged_bundle_is_told(plain: bytes, tmp_path: Path, data: bytes) -> None:
    (tmp_path / "core").write_bytes(plain)
    rewritten(tmp_path / "core", tmp_path / "other", {slimnote.NT_SLIM_LAYOUTS: data})
    with pytest.raises(VringcoreError):
        report_of(tmp_path / "other", tmp_path / "nothing")


def test_without_its_own_note_it_is_a_core_with_problems(plain: bytes, tmp_path: Path) -> None:
    (tmp_path / "core").write_bytes(plain)
    rewritten(tmp_path / "core", tmp_path / "other", {slimnote.NT_SLIM: b'{"schema":1}'})
    with open_elf_core(str(tmp_path / "other")) as core:
        assert core.slim is None
        assert any("own note is damaged" in str(problem) for problem in core.problems)


def test_a_newer_kind_is_refused_by_name(plain: bytes, tmp_path: Path) -> None:
    (tmp_path / "core").write_bytes(plain)
    note = slimnote.encode(SlimNote(schema="vringcore/slim/2"))
    rewritten(tmp_path / "core", tmp_path / "other", {slimnote.NT_SLIM: note})
    with open_elf_core(str(tmp_path / "other")) as core:
        assert any("unknown kind" in str(problem) for problem in core.problems)


WORDS = st.integers(-(1 << 63), (1 << 64) - 1)


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    st.lists(st.builds(Mapped, WORDS, WORDS, st.sampled_from(["r--", "rwx", ""])), max_size=8),
    st.lists(st.builds(Lost, WORDS, WORDS, st.sampled_from(["not-dumped", "io", "?"])), max_size=8),
)
def test_absurd_maps_give_answers_or_our_errors(
    plain: bytes, tmp_path: Path, mapped: list[Mapped], lost: list[Lost]
) -> None:
    (tmp_path / "core").write_bytes(plain)
    facts = ThreadFacts(lwp=1, name="\x1b[2J", state="D", registers="none")
    note = SlimNote(of="live", mapped=tuple(mapped), lost=tuple(lost), threads=(facts,))
    rewritten(tmp_path / "core", tmp_path / "other", {slimnote.NT_SLIM: slimnote.encode(note)})
    with suppress(VringcoreError):
        report_of(tmp_path / "other", tmp_path / "nothing")


def test_what_it_brings_along_is_neither_cached_nor_shared(
    plain: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or a forged core would make other cores of the same build be misread."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    path = tmp_path / "core"
    path.write_bytes(plain)
    store = LayoutStore.default()
    with vringcore.open_core(str(path), sysroot=str(tmp_path / "nothing"), store=store) as core:
        core.report()
        build_id = core.info.build_id
    assert store.layouts(build_id).find_definition("struct VirtIODevice") is None
    assert not (tmp_path / "cache").exists()
