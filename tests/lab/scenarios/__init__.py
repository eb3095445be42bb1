"""The lab's scenarios, a few per module; `ALL` in the order in which they are made."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from tests.lab import arm64_case, runner
from tests.lab.forms import is_form
from tests.lab.scenario import Scenario
from tests.lab.scenarios import (
    aio,
    engines,
    failing,
    forked,
    held,
    idle,
    late,
    mmio,
    nine,
    others,
    plan9,
    requests,
    rings,
    shared,
    stuck,
    translated,
    verdicts,
    vhost,
)

ALL: tuple[Scenario, ...] = (
    stuck.STUCK_MIGRATION,
    stuck.STUCK_RESET,
    stuck.GUEST_RESET,
    stuck.STUCK_QUIT,
    stuck.STUCK,
    idle.IDLE,
    nine.NINE_DEVICES,
    held.OUT_OF_ORDER,
    held.HELD_KINDS,
    idle.PAUSED,
    stuck.NO_GUEST_RAM,
    failing.STUCK_THROTTLE,
    failing.IO_ERROR,
    aio.STUCK_NATIVE,
    aio.STUCK_IO_URING,
    aio.STUCK_THREADS,
    late.DRAIN_QUEUE,
    late.MERGED,
    engines.SLOW_THREADS,
    engines.DRIVE_THROTTLE,
    engines.QCOW2_TASKS,
    rings.STUCK_PACKED,
    rings.STUCK_PACKED_DIRECT,
    rings.STUCK_PLAIN,
    rings.STUCK_LEGACY,
    rings.STUCK_IN_ORDER,
    rings.STUCK_IN_ORDER_PACKED,
    rings.IN_ORDER_HELD,
    nine.NINE_PACKED,
    mmio.MICROVM,
    mmio.MICROVM_LEGACY,
    translated.STUCK_IOMMU,
    translated.STUCK_IOMMU_PACKED,
    translated.STUCK_IOMMU_SCALABLE,
    translated.STUCK_IOMMU_FIRST_LEVEL,
    translated.STUCK_AMD_IOMMU_OFF,
    translated.STUCK_VIRTIO_IOMMU,
    vhost.STUCK_VHOST_USER,
    vhost.STUCK_VHOST_INFLIGHT,
    vhost.VHOST_USER_GONE,
    vhost.VHOST_GONE_INFLIGHT,
    aio.NATIVE_MIGRATION,
    aio.IO_URING_MIGRATION,
    aio.THREADS_MIGRATION,
    verdicts.BUSY,
    verdicts.ONE_OF_TWO,
    verdicts.BROKEN,
    verdicts.BQL_HELD,
    verdicts.STUCK_SCSI,
    verdicts.SCSI_RESET,
    verdicts.SCSI_MIGRATION,
    requests.HELD_DEVICES,
    plan9.STUCK_9P,
)
OF_STOCK: tuple[Scenario, ...] = (stuck.STUCK, stuck.STUCK_MIGRATION, nine.NINE_DEVICES)
"""Of a distribution's own binary: nothing is compiled, so these are made in a minute each."""
OF_FORMS: tuple[Scenario, ...] = (stuck.STUCK_MIGRATION, stuck.STUCK)
"""Of the same QEMU compiled otherwise."""
OF_FORKS: tuple[Scenario, ...] = (forked.FORK_STUCK, forked.FORK_DEADLOCK)
OF_SHARED_RAM: tuple[Scenario, ...] = (shared.SHARED_RAM, shared.HUGE_RAM)
"""Made by name alone: what most tests compare is not in their cores, and pages are set aside."""

NAMES = (*(scenario.name for scenario in (*ALL, *OF_FORKS, *OF_SHARED_RAM)), *others.NAMES)


def names_for(version: str) -> tuple[str, ...]:
    """The scenarios that are made of a version; of a fork only its own."""
    if version.endswith("-stock"):
        return tuple(scenario.name for scenario in OF_STOCK)
    if is_form(version):
        return tuple(scenario.name for scenario in OF_FORMS)
    if version.endswith("-arm64"):
        return tuple(arm64_case.SCENARIOS)
    if version.endswith("-fork"):
        return tuple(scenario.name for scenario in OF_FORKS if version in scenario.versions)
    return (*(scenario.name for scenario in ALL if version in scenario.versions), *others.NAMES)


def guests_of(names: Iterable[str]) -> tuple[str, ...]:
    """The suites whose kernels the guests of scenarios run."""
    return tuple(
        sorted({each.guest for each in (*ALL, *OF_FORKS, *OF_SHARED_RAM) if each.name in names})
    )


def make(version: str, name: str) -> Path:
    """Makes one case and returns its directory."""
    if version.endswith("-arm64"):
        return arm64_case.make(version, name)
    if name in others.NAMES:
        return others.make(version, name)
    scenario = next(
        scenario for scenario in (*ALL, *OF_FORKS, *OF_SHARED_RAM) if scenario.name == name
    )
    return runner.make_case(version, scenario)
