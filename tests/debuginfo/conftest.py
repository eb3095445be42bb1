"""Programs compiled once for all tests of the debug information readers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.debuginfo.line_program import build_program
from tests.debuginfo.oracles import GDB
from tests.synth.programs import Variant, compile_program

Build = Callable[[Variant], Path]


@pytest.fixture(scope="session")
def build(tmp_path_factory: pytest.TempPathFactory) -> Build:
    """Compile a variant, once; skip the test if the machine lacks a tool for it."""
    built: dict[str, Path] = {}

    def get(variant: Variant) -> Path:
        missing = variant.missing_tool()
        if missing:
            pytest.skip(f"needs {missing}")
        if variant.name not in built:
            built[variant.name] = compile_program(variant, tmp_path_factory.mktemp(variant.name))
        return built[variant.name]

    return get


@pytest.fixture(scope="session")
def lined(tmp_path_factory: pytest.TempPathFactory) -> Build:
    """Compile the program of inlined functions, once for each variant."""
    built: dict[str, Path] = {}

    def get(variant: Variant) -> Path:
        missing = variant.missing_tool()
        if missing:
            pytest.skip(f"needs {missing}")
        if variant.name not in built:
            built[variant.name] = build_program(variant, tmp_path_factory.mktemp(variant.name))
        return built[variant.name]

    return get


@pytest.fixture(scope="session")
def gdb() -> None:
    """Skip the test where there is no gdb to ask."""
    if GDB is None:
        pytest.skip("needs gdb")
