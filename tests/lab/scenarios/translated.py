"""A disk behind an IOMMU: the addresses in its rings, and those of the rings, are the device's."""

from __future__ import annotations

from typing import Any

from tests.lab import guest
from tests.lab.machine import GuestError
from tests.lab.scenario import Device, Scenario
from tests.lab.scenarios.parts import IOTHREAD, MEMORY_SERVER, Q35, nbd_node, ready, traffic
from tests.lab.session import Session

_DISK = Device("disk0", "virtio-blk", "00:05.0", "IOMMUSERIAL", "io0", "nbd0", 4, "server0")
_DEVICE = "virtio-blk-pci,id=disk0,drive=nbd0,iothread=io0,num-queues=4,serial=IOMMUSERIAL,addr=5"
_BEHIND = ",iommu_platform=on,disable-legacy=on"
_INTEL = "intel-iommu,intremap=off,device-iotlb=on"
_RING_PACKED = 34
_STRICT = "intel_iommu=on iommu=strict iommu.strict=1"


def _arguments(unit: str, options: str) -> tuple[str, ...]:
    return (
        *Q35,
        *IOTHREAD,
        *("-device", unit),
        *nbd_node("nbd0", "server0"),
        *("-device", f"{_DEVICE}{_BEHIND}{options}"),
    )


def _stop(session: Session) -> None:
    session.stop_server(_DISK)
    session.ask()


def _check_mode(truth: Any, mode: str) -> None:
    device = next(found for found in truth["devices"] if found["id"] == "disk0")
    if device["iommu"] is None or device["iommu"]["mode"] != mode:
        raise GuestError(f"the disk is not behind an IOMMU in mode {mode}: {device['iommu']}")
    if any(None in queue["rings"].values() for queue in device["queues"]):
        raise GuestError("the oracle's walk does not reach every ring")


STUCK_IOMMU = Scenario(
    name="stuck-iommu",
    summary="behind intel-iommu, legacy tables; the NBD server has stopped",
    arguments=_arguments(_INTEL, ",ats=on"),
    script=traffic("vda") + ready(5),
    devices=(_DISK,),
    servers=(MEMORY_SERVER,),
    incident=_stop,
    kernel_arguments=_STRICT,
    check=lambda truth, _: _check_mode(truth, "legacy"),
)


def _check_packed(truth: Any, _servers: Any) -> None:
    _check_mode(truth, "legacy")
    device = next(found for found in truth["devices"] if found["id"] == "disk0")
    if not device["fields"]["guest_features"] >> _RING_PACKED & 1:
        raise GuestError("the guest's driver has not taken packed rings")


STUCK_IOMMU_PACKED = Scenario(
    name="stuck-iommu-packed",
    summary="behind intel-iommu, legacy tables; the rings are packed ones",
    arguments=_arguments(_INTEL, ",ats=on,packed=on"),
    script=traffic("vda") + ready(5),
    devices=(_DISK,),
    servers=(MEMORY_SERVER,),
    incident=_stop,
    kernel_arguments=_STRICT,
    check=_check_packed,
)

STUCK_IOMMU_SCALABLE = Scenario(
    name="stuck-iommu-scalable",
    summary="behind intel-iommu in scalable mode, second-level tables",
    arguments=_arguments(f"{_INTEL},x-scalable-mode=on", ",ats=on"),
    script=traffic("vda") + ready(5),
    devices=(_DISK,),
    servers=(MEMORY_SERVER,),
    incident=_stop,
    kernel_arguments=f"intel_iommu=on,sm_on {_STRICT.partition(' ')[2]}",
    check=lambda truth, _: _check_mode(truth, "second-level"),
)

STUCK_IOMMU_FIRST_LEVEL = Scenario(
    name="stuck-iommu-first-level",
    summary="behind intel-iommu in scalable mode, first-level tables",
    arguments=_arguments(f"{_INTEL},x-scalable-mode=on,x-flts=on", ",ats=on"),
    script=traffic("vda") + ready(5),
    devices=(_DISK,),
    servers=(MEMORY_SERVER,),
    incident=_stop,
    kernel_arguments=f"intel_iommu=on,sm_on {_STRICT.partition(' ')[2]}",
    check=lambda truth, _: _check_mode(truth, "first-level"),
    versions=("10.0", "10.2"),
)

STUCK_AMD_IOMMU_OFF = Scenario(
    name="stuck-amd-iommu-off",
    summary="behind amd-iommu, for which the guest's kernel has no driver",
    arguments=_arguments("amd-iommu,device-iotlb=on", ",ats=on"),
    script=traffic("vda") + ready(5),
    devices=(_DISK,),
    servers=(MEMORY_SERVER,),
    incident=_stop,
    check=lambda truth, _: _check_mode(truth, "off"),
)

STUCK_VIRTIO_IOMMU = Scenario(
    name="stuck-virtio-iommu",
    summary="behind virtio-iommu, whose mappings are kept in QEMU",
    arguments=_arguments("virtio-iommu-pci,id=iommu0,addr=4", ""),
    script=traffic("vda") + ready(5),
    devices=(_DISK, Device("iommu0", "virtio-iommu", "00:04.0", queues=2)),
    servers=(MEMORY_SERVER,),
    incident=_stop,
    guest=guest.NEWER,
    kernel_arguments="iommu.strict=1",
    check=lambda truth, _: _check_mode(truth, "domain"),
)
