"""What runs and in which state, against gdb and what QEMU said of itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.qemu.support import Image, NoSymbols
from vringcore.elfcore.core import open_elf_core
from vringcore.errors import CorruptDataError
from vringcore.layout.bundle import Bundle
from vringcore.layout.provider import Layouts
from vringcore.model.values import Absent
from vringcore.qemu import machine
from vringcore.view.views import Views

if TYPE_CHECKING:
    from tests.lab.cases import CoreCase
    from vringcore.qemu.process import Process


def test_a_build_of_which_nothing_is_known() -> None:
    views = Views(Image({}), Layouts(Bundle()), 0, NoSymbols())
    for value in (machine.run_state(views), machine.migration_status(views)):
        assert isinstance(value, Absent)
        assert value.reason == "not-in-this-build"
    version = machine.qemu_version(views, None)
    assert isinstance(version, Absent)
    assert machine.guest_ram_state(views).startswith("unknown")


def test_the_version_is_the_one_that_qemu_said(core: CoreCase, opened: Process) -> None:
    version = machine.qemu_version(opened.views, opened.core.executable)
    assert isinstance(version, str)
    assert version.split()[0] == core.case.manifest["qemu_version"]
    said = core.case.qmp_before
    if said is not None:
        parts = said["query-version"]["qemu"]
        assert version == f"{parts['major']}.{parts['minor']}.{parts['micro']}" + (
            said["query-version"]["package"] and f" ({said['query-version']['package']})"
        )


@pytest.mark.lab
def test_without_the_executable_the_version_names_the_file(lab_core: CoreCase) -> None:
    with open_elf_core(str(lab_core.path)) as core:
        views = Views(core.with_files({}), Layouts(Bundle()), 0, NoSymbols())
        version = machine.qemu_version(views, core.executable)
    # The program's constants are in the core itself.
    if lab_core.kind == "proc" or lab_core.case.for_arm64 or lab_core.unfiltered:
        assert version == lab_core.case.manifest["qemu_version"]
        return
    assert isinstance(version, Absent)
    assert version.reason == "file-needed"
    assert "-e PATH" in version.hint


@pytest.mark.lab
def test_the_machine_equals_gdbs(lab_core: CoreCase, process: Process) -> None:
    state = lab_core.gdb["state"]
    assert (
        f"{machine.machine_type(process.views, process.objects)}-machine" == (state["machine_type"])
    )
    assert machine.accelerator(process.views, process.objects) == "tcg"


def test_the_run_state_equals_gdbs(core: CoreCase, opened: Process) -> None:
    name = core.gdb["state"]["run_state"]["name"]
    expected = name.removeprefix("RUN_STATE_").lower().replace("_", "-")
    assert machine.run_state(opened.views) == expected
    after = core.case.qmp_after
    if after is not None and core.while_alive:
        assert after["query-status"]["status"] == expected


def test_the_migration_status_equals_what_qemu_said(core: CoreCase, opened: Process) -> None:
    status = machine.migration_status(opened.views)
    migrating = core.case.scenario == "fork-stuck" or core.case.scenario.endswith("-migration")
    assert status == ("active" if migrating else "none")
    assert (status == "none") == (core.gdb["state"]["migration_state"] == 0)


@pytest.mark.lab
def test_names_from_qapis_tables_equal_those_of_the_types(process: Process) -> None:
    views = process.views
    for enum, prefix in (("RunState", "RUN_STATE_"), ("MigrationStatus", "MIGRATION_STATUS_")):
        definition = views.layouts.definition(f"enum {enum}")
        names = definition.enumerators  # type: ignore[union-attr]
        for name, value in names.items():
            if name == f"{prefix}_MAX":
                with pytest.raises(CorruptDataError):
                    machine.name_in_table(views, enum, value)
            else:
                expected = machine.name_in_type(definition, prefix, value)  # type: ignore[arg-type]
                assert machine.name_in_table(views, enum, value) == expected


@pytest.mark.lab
def test_whether_guest_ram_is_in_the_core(lab_core: CoreCase, process: Process) -> None:
    state = machine.guest_ram_state(process.views)
    if not lab_core.gdb["state"]["dump_guest_core"]:
        assert state == "absent (dump-guest-core=off)"
    elif lab_core.filtered:
        assert state == "partial (missing: ram0)"
    elif lab_core.while_alive:
        assert state == "present"
    else:
        # The kernel leaves out what was never written.
        assert state in ("present", "partial (missing: pc.rom)")
