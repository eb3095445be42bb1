"""The rules of the house: who may import whom, and what no file may do."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "vringcore"
MODULES = sorted(PACKAGE.rglob("*.py"))
SOURCES = sorted(
    path
    for folder in ("vringcore", "tests", "benchmarks")
    for path in (ROOT / folder).rglob("*.py")
)
SYNTH = sorted((ROOT / "tests" / "synth").rglob("*.py"))

MAY_IMPORT: dict[str, set[str]] = {
    "version": set(),
    "errors": set(),
    "addresses": {"errors"},
    "ring_math": set(),
    "options": set(),
    "memory": {"errors", "addresses", "ring_math"},
    "model": {"errors"},
    "elfcore": {"memory"},
    "virtio": {"memory"},
    "layout": {"memory", "version"},
    "debuginfo": {"layout", "elfcore"},  # elfcore: one reader of ELF headers in the house
    "view": {"memory", "layout", "model"},  # model: what a value read from a core looks like
    "expr": {"view"},
    "unwind": {"elfcore", "debuginfo", "view"},
    "qemu": {"elfcore", "debuginfo", "view", "unwind", "virtio", "model", "options"},
    "diagnose": {"model", "ring_math"},
    "report": {"model"},
    "slim": {"qemu", "diagnose", "report", "expr", "options", "version"},
    "api": {"qemu", "diagnose", "report", "expr", "options", "version"},
    "scan": {"slim", "api"},
    "cli": {"scan", "vringcore"},
    "vringcore": {"api", "slim", "options", "scan", "report"},
    "__main__": {"cli"},
}
"""What each part may import; what these may import, it may import too."""

ONLY_FOR_TYPES = {("errors", "memory")}
"""Imports against the rule that exist for the type checker alone."""

HEAVY = {"construct", "dask", "duckdb", "elftools", "fsspec", "jinja2", "lief", "lz4"}
HEAVY |= {"pyarrow", "rich", "zstandard"}
"""Libraries whose import costs more than a whole warm run may: only inside functions."""

CATCHES_ALL = {"cli/main.py", "diagnose/engine.py", "scan/worker.py"}
"""Where any exception may be caught: at the top, around one rule, around one core."""

MAX_LINES = 500


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def relative(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@pytest.fixture(params=MODULES, ids=relative)
def module(request: pytest.FixtureRequest) -> Path:
    assert isinstance(request.param, Path)
    return request.param


def part_of(path: Path) -> str:
    """Return the part of the house that a module of the package belongs to."""
    first = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    return "vringcore" if first == "__init__" else first


def reachable(part: str) -> set[str]:
    found, waiting = {part}, [part]
    while waiting:
        new = MAY_IMPORT[waiting.pop()] - found
        found |= new
        waiting += new
    return found


def imported_names(node: ast.AST, package: str) -> list[str]:
    """Return the dotted names that an import statement may bring in."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        parents = package.split(".")[: -node.level + 1 or None] if node.level else []
        base = ".".join([*parents, *([node.module] if node.module else [])])
        return [f"{base}.{alias.name}" for alias in node.names]
    return []


def imported_part(name: str) -> str | None:
    """Return the part of the house that a dotted name lies in, None if it is not ours."""
    root, _, rest = name.partition(".")
    if root != "vringcore":
        return None
    first = rest.partition(".")[0]
    return first if first in MAY_IMPORT else "vringcore"


def typing_nodes(code: ast.Module) -> set[ast.AST]:
    """Return what stands below ``if TYPE_CHECKING:``."""
    return {
        inner
        for node in ast.walk(code)
        if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING")
        for statement in node.body
        for inner in ast.walk(statement)
    }


def forbidden_imports(part: str, code: ast.Module, package: str) -> list[str]:
    """Return the imports of a module of ``part`` that go against the rule."""
    for_types = typing_nodes(code)
    found = []
    for node in ast.walk(code):
        for name in imported_names(node, package):
            other = imported_part(name)
            if other is None or other in reachable(part):
                continue
            if (part, other) not in ONLY_FOR_TYPES or node not in for_types:
                found.append(name)
    return found


def run_at_import(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """Yield the statements that importing a module executes, those for types alone left out."""
    for statement in body:
        yield statement
        if isinstance(statement, ast.If) and ast.unparse(statement.test).endswith("TYPE_CHECKING"):
            yield from run_at_import(statement.orelse)
        elif not isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef):
            inner = [statement, *getattr(statement, "handlers", [])]
            for block in ("body", "orelse", "finalbody"):
                for node in inner:
                    yield from run_at_import(getattr(node, block, []))


def test_every_part_is_known() -> None:
    assert {part_of(path) for path in MODULES} <= MAY_IMPORT.keys()


def test_the_rule_has_no_circles() -> None:
    for part, direct in MAY_IMPORT.items():
        assert all(part not in reachable(other) for other in direct)


@pytest.mark.parametrize(
    ("part", "code", "found"),
    [
        ("virtio", "from vringcore.memory.space import Piece", []),
        ("virtio", "from vringcore.model.values import Flags", ["vringcore.model.values.Flags"]),
        ("virtio", "import vringcore.qemu.qom", ["vringcore.qemu.qom"]),
        ("virtio", "from ..elfcore import core", ["vringcore.elfcore.core"]),
        ("virtio", "from . import blk", []),
        ("virtio", "def f():\n  from vringcore import qemu", ["vringcore.qemu"]),
        ("virtio", "from vringcore import open_core", ["vringcore.open_core"]),
        ("qemu", "from vringcore.expr import parse", ["vringcore.expr.parse"]),
        ("debuginfo", "from vringcore.elfcore.headers import read_header", []),
        ("elfcore", "import vringcore.debuginfo", ["vringcore.debuginfo"]),
        ("errors", "if TYPE_CHECKING:\n  from vringcore.memory.gaps import Gap", []),
        ("errors", "from vringcore.memory.gaps import Gap", ["vringcore.memory.gaps.Gap"]),
        ("virtio", "import os, struct", []),
    ],
)
def test_the_lint_of_imports_finds_them(part: str, code: str, found: list[str]) -> None:
    assert forbidden_imports(part, ast.parse(code), "vringcore.virtio") == found


def test_imports_go_one_way(module: Path) -> None:
    package = ".".join(module.relative_to(ROOT).parts[:-1])
    assert forbidden_imports(part_of(module), tree(module), package) == []


def test_heavy_libraries_are_imported_where_they_are_used(module: Path) -> None:
    package = ".".join(module.relative_to(ROOT).parts[:-1])
    wrong = [
        f"line {node.lineno}: {name} is imported with the module"
        for node in run_at_import(tree(module).body)
        for name in imported_names(node, package)
        if name.partition(".")[0] in HEAVY
    ]
    assert not wrong


def ending(node: ast.expr) -> str:
    """Return the last word of a name, attribute or item: what an operand is called."""
    match node:
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name
        case ast.Subscript(slice=ast.Constant(value=str(name))):
            return name
        case ast.Call(func=ast.Name(id="int"), args=[inner]):
            return ending(inner)
    return ""


def is_index_subtraction(node: ast.AST) -> bool:
    """Tell whether plain ``-`` is used on ring indices, which wrap.

    ``_idx`` is what VirtIO and QEMU call them, so one such operand is enough; ``_index`` names
    other things too, so it takes two.
    """
    match node:
        case ast.BinOp(left=left, op=ast.Sub(), right=right):
            names = ending(left), ending(right)
        case ast.AugAssign(target=left, op=ast.Sub(), value=right):
            names = ending(left), ending(right)
        case _:
            return False
    return any(name.endswith("_idx") for name in names) or all(
        name.endswith(("_idx", "_index")) for name in names
    )


@pytest.mark.parametrize(
    ("code", "found"),
    [
        ("avail_idx - last", True),
        ("ring.used_idx - queue.last_avail_idx", True),
        ("int(fields['used_idx']) - 1", True),
        ("vq.used_idx -= 1", True),
        ("first_index - other.last_index", True),
        ("section_index - 1", False),
        ("distance(a_idx, b_idx) - in_use", False),
        ("avail_idx + 1", False),
    ],
)
def test_the_lint_of_index_subtraction_finds_it(code: str, *, found: bool) -> None:
    assert any(map(is_index_subtraction, ast.walk(ast.parse(code)))) is found


def test_ring_indices_are_subtracted_in_ring_math_only(module: Path) -> None:
    wrong = [ast.unparse(node) for node in ast.walk(tree(module)) if is_index_subtraction(node)]
    assert not wrong or module == PACKAGE / "ring_math.py"


def catches_all(handler: ast.ExceptHandler) -> bool:
    """Tell whether a handler swallows every exception; one that ends in ``raise`` passes it on."""
    kinds = handler.type.elts if isinstance(handler.type, ast.Tuple) else [handler.type]
    names = {ast.unparse(kind) if kind else "BaseException" for kind in kinds}
    last = handler.body[-1]
    passes_on = isinstance(last, ast.Raise) and last.exc is None
    return bool(names & {"Exception", "BaseException"}) and not passes_on


@pytest.mark.parametrize(
    ("handler", "found"),
    [
        ("except Exception: pass", True),
        ("except: pass", True),
        ("except (OSError, BaseException) as e: print(e)", True),
        ("except BaseException:\n  close()\n  raise", False),
        ("except OSError: pass", False),
    ],
)
def test_the_lint_of_handlers_finds_them(handler: str, *, found: bool) -> None:
    [statement] = ast.parse(f"try: work()\n{handler}").body
    assert isinstance(statement, ast.Try)
    assert catches_all(statement.handlers[0]) is found


def test_only_three_places_catch_every_exception(module: Path) -> None:
    handlers = [n for n in ast.walk(tree(module)) if isinstance(n, ast.ExceptHandler)]
    wrong = [f"line {handler.lineno}" for handler in handlers if catches_all(handler)]
    assert not wrong or module.relative_to(PACKAGE).as_posix() in CATCHES_ALL


@pytest.mark.parametrize("path", SOURCES, ids=relative)
def test_no_file_is_longer_than_500_lines(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= MAX_LINES


def test_half_of_the_modules_are_short() -> None:
    lengths = sorted(len(path.read_text(encoding="utf-8").splitlines()) for path in MODULES)
    assert lengths[len(lengths) // 2] < 200


@pytest.mark.parametrize("path", SYNTH, ids=relative)
def test_builders_know_nothing_of_the_library(path: Path) -> None:
    """A builder that used the library's numbers would hide a wrong one."""
    for node in ast.walk(tree(path)):
        assert not any(name.startswith("vringcore") for name in imported_names(node, "tests.synth"))
