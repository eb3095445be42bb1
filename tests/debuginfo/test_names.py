"""Names looked up one by one, without an index of all: the same answers as with one."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.debuginfo.test_qemu_binary import BINARIES, version_of
from vringcore.debuginfo import index as index_module
from vringcore.debuginfo import toplevel as top
from vringcore.debuginfo.find import FoundFiles
from vringcore.debuginfo.occurrences import occurrences
from vringcore.debuginfo.provider import DebugInfo
from vringcore.debuginfo.similar import similar_names

if TYPE_CHECKING:
    from vringcore.debuginfo.search import Search

SOURCES = {
    "a/part.c": """
        enum kind { ONLY_HERE = 5 } kind = ONLY_HERE;
        typedef struct Widget { int size; enum { DEEP = 9 } state; } Widget;
        static int shared_name = 1;
        int global_of_a = 2;
        static int __attribute__((noinline)) helper(int x) { static int calls; return x + calls++; }
        int run_a(Widget *w) {
            enum inner { INSIDE = 3 } inner = w->size;
            return helper(w->size) + shared_name++ + global_of_a + (inner == INSIDE);
        }
    """,
    "b/part.c": """
        typedef int ONLY_THERE;
        static int shared_name = 3;
        static int alone_in_b = 4;
        int the_global = 5;
        int global = 6;
        static int __attribute__((noinline)) helper(int x) { static int calls; return x * calls++; }
        static inline int melted(int x) { static int inside; return x + inside++; }
        int run_b(ONLY_THERE x) { return helper(x) + shared_name++ + alone_in_b++ + melted(x); }
    """,
    "main.c": """
        struct Widget;
        extern int the_global, global, global_of_a;
        int run_a(struct Widget *w); int run_b(int x);
        static int __attribute__((noinline)) only_helper(int calls) { return calls; }
        int main(void) { return run_a(0) + run_b(global + the_global) + only_helper(global_of_a); }
    """,
}

VARIABLES = (
    ("global_of_a", ""), ("the_global", ""), ("global", ""), ("alone_in_b", ""),
    ("shared_name", ""), ("calls", "helper"), ("inside", "melted"), ("calls", ""), ("size", ""),
    ("helper", ""), ("nothing", ""),
)  # fmt: skip
FUNCTIONS = ("run_a", "run_b", "main", "helper", "only_helper", "melted", "global", "nothing")
TYPES = ("struct Widget", "typedef Widget", "typedef ONLY_THERE", "enum Widget", "struct helper")
ENUMERATORS = {
    "ONLY_HERE": True, "DEEP": True, "INSIDE": False, "ONLY_THERE": False, "global": False,
}  # fmt: skip


@pytest.fixture(scope="module", params=["-O0", "-O2", "-O2 -gdwarf-4", "-O2 -gdwarf-3"])
def program(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a program of three files, two of which are called the same."""
    place = tmp_path_factory.mktemp("names")
    for name, text in SOURCES.items():
        (place / name).parent.mkdir(exist_ok=True)
        (place / name).write_text(text)
    command = ["gcc", "-g", *request.param.split(), *SOURCES, "-o", "program"]
    subprocess.run(command, cwd=place, check=True)
    return place / "program"


def search_in(program: Path) -> Search:
    return DebugInfo(FoundFiles("", str(program))).search()


def with_index(program: Path) -> Search:
    """Return look-ups that have an index of all names, and then use nothing else."""
    search = search_in(program)
    assert not search.index.refused
    return search


def addresses(program: Path, name: str) -> list[int]:
    text = subprocess.run(["nm", str(program)], capture_output=True, text=True, check=True).stdout
    rows = [line.split() for line in text.splitlines()]
    return sorted(int(r[0], 16) for r in rows if len(r) == 3 and r[2].split(".")[0] == name)


def test_the_answers_are_those_of_an_index(program: Path) -> None:
    known = with_index(program)
    for name, function in VARIABLES:
        found = search_in(program).variable_anywhere(name, function)
        assert found == known.variable_anywhere(name, function), name
    for name in FUNCTIONS:
        assert search_in(program).function(name, ()) == known.function(name, ()), name
    for key in TYPES:
        assert search_in(program).definition(key, ()) == known.definition(key, ()), key


def test_variables_and_functions_lie_where_nm_says(program: Path) -> None:
    for name in ("global_of_a", "the_global", "global", "alone_in_b"):
        found = search_in(program).variable_anywhere(name, "")
        assert found is not None
        assert [found.address] == addresses(program, name)
    for name in ("run_a", "run_b", "main", "only_helper"):
        function = search_in(program).function(name, ())
        assert function is not None
        assert [function[0].address] == addresses(program, name)


def test_static_names_of_two_files_stay_ambiguous(program: Path) -> None:
    assert len(addresses(program, "shared_name")) == len(addresses(program, "helper")) == 2
    search = search_in(program)
    assert search.variable_anywhere("shared_name", "") is None
    assert search.variable_anywhere("calls", "helper") is None
    assert search.function("helper", ()) is None
    assert len(search.log) == 3
    assert search.files_with("shared_name", "") == ["a/part.c", "b/part.c"]


def test_enumerators_are_those_at_file_scope(program: Path) -> None:
    for name, there in ENUMERATORS.items():
        assert (search_in(program).enumerator(name) is not None) == there, name


def test_no_index_is_made_for_single_names(program: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_dwarf: Any) -> None:
        raise AssertionError("an index was made")

    monkeypatch.setattr(index_module, "UnitIndex", refuse)
    search = search_in(program)
    for name, function in VARIABLES:
        search.variable_anywhere(name, function)
    for key in TYPES:
        search.definition(key, ())
    for name in (*FUNCTIONS, *ENUMERATORS):
        search.function(name, ())
        search.enumerator(name)


@pytest.mark.lab
@pytest.mark.parametrize("qemu", BINARIES or [None], ids=lambda p: version_of(p) if p else "none")
def test_names_of_a_qemu(qemu: Path | None) -> None:
    if qemu is None:
        pytest.skip("no QEMU: run `python -m tests.lab`")
    known = with_index(qemu)
    search = search_in(qemu)
    for name in known.names(top.VARIABLE)[::131]:
        assert search.variable_anywhere(name, "") == known.variable_anywhere(name, ""), name
    for name in known.names(top.FUNCTION)[::311]:
        assert search.function(name, ()) == known.function(name, ()), name


@given(st.binary(min_size=1, max_size=4), st.binary(max_size=40))
def test_every_occurrence_is_found(wanted: bytes, data: bytes) -> None:
    every = [at for at in range(len(data)) if data.startswith(wanted, at)]
    assert list(occurrences(wanted, data)) == every


@given(
    st.text("abcdefgh_", min_size=9, max_size=30),
    st.lists(st.tuples(st.integers(0, 29), st.sampled_from("XYZ")), max_size=2),
)
def test_a_name_with_two_mistakes_is_like_the_right_one(
    name: str, mistakes: list[tuple[int, str]]
) -> None:
    letters = list(name)
    for at, letter in mistakes:
        letters[at % len(name)] = letter
    strings = b"\0first\0" + name.encode() + b"\0last\0"
    assert name.encode() in similar_names(strings, "".join(letters).encode())


def test_a_name_that_is_the_end_of_another_is_like_it() -> None:
    strings = b"\0the_current_machine\0"
    start = strings.index(b"current")
    assert b"current_machine" in similar_names(strings, b"curent_machine", {1, start})
    assert similar_names(strings, b"curent_machine") == [b"the_current_machine"]
