"""A report as a stuck VM gives it, built by hand: two disks, a network card, a lost ring."""

from __future__ import annotations

from msgspec import UNSET, structs

from vringcore.model.devices import Backend, Device
from vringcore.model.queues import Counts, EventSuppression, PackedGuest, Queue, SplitGuest
from vringcore.model.report import (
    CoreInfo,
    Limitation,
    Module,
    QemuInfo,
    Report,
    RingDocument,
    Tool,
)
from vringcore.model.requests import (
    Age,
    BlockRequest,
    Buffer,
    Descriptor,
    DeviceRequest,
    InFlight,
    Waiting,
)
from vringcore.model.rings import AvailEntry, Chain, SplitRing, UsedEntry
from vringcore.model.values import Absent, Address, EnumValue, Flags, Pointer

TOOL = Tool("vringcore", "0.1.0")
LOST = Absent("not-dumped", Address(0x7F0012345000), "set dump-guest-core=on")

CORE = CoreInfo(
    path="core.20873",
    size=940808544,
    kind="gcore",
    machine="x86-64",
    build_id="01bb8bebb51bd28c3075be9af838a172d287e316",
    captured_at=Absent("not-reachable"),
    complete=True,
    guest_ram="dumped",
    threads=9,
    modules=(Module("/usr/bin/qemu-system-x86_64", Address(0x55C3A0000000)),),
)
QEMU = QemuInfo(
    version="7.2.22",
    machine_type="pc-q35-7.2",
    command_line=("qemu-system-x86_64", "-m", "256"),
    pid=20873,
    vm_name="lab-vm",
    vm_uuid="6c61622d-7672-696e-6763-6f7265303031",
    run_state="finish-migrate",
    migration="active",
)
BLOCK_REQUEST = BlockRequest(
    kind="virtio-blk",
    address=Address(0x7F2BE4001B30),
    operation="write",
    type=1,
    sector=2048,
    length=65536,
    started_ns=1795386839006580000,
    buffers=(Buffer(Address(0x7F2BD3A00000), 65536),),
)
DESCRIPTORS = (
    Descriptor(12, Address(0x3FF1000), 16, 1, 13, ("next",)),
    Descriptor(13, Address(0x3A00000), 65536, 1, 14, ("next",)),
    Descriptor(14, Address(0x3FF1010), 1, 2, 0, ("write",)),
)
REQUEST = InFlight(
    head=12,
    source="element",
    summary="write of 64 KiB at sector 2048",
    chain_end="complete",
    descriptors=DESCRIPTORS,
    request=BLOCK_REQUEST,
    waits_in=(
        Waiting("tracked-request", Address(0x7F2BE4002000), "nbd0", "write [1048576, 1114112)"),
        Waiting("nbd", Address(0x55C3A1234000), "nbd0", "slot 0"),
    ),
    age=Age(15_200_000_000, False),
)
DEVICE_REQUEST = DeviceRequest(
    kind="virtio-scsi",
    address=Address(0x7F2BE4001B30),
    c_type="VirtIOSCSIReq",
    element=Address(0x7F2BE4001B30),
    operation="read(10)",
    header={"lun": "0100400000000000", "id": 7, "task_attr": EnumValue(0, "simple"), "lba": 64},
    length=4096,
    lengths={"header": 51, "readable": 51, "writable": 4204},
    qemu={"sreq": Address(0x55C3A1234000), "SCSIRequest": {"tag": 7, "enqueued": True}},
    buffers_in=(Buffer(Address(0x7F2BD3A00000), 4096),),
)
DEVICE_IN_FLIGHT = InFlight(
    head=3,
    source="element",
    summary="read(10) target 0 lun 0 lba 64 blocks 8",
    chain_end="complete",
    request=DEVICE_REQUEST,
    age=Age(15_200_000_000, False),
)
FIELDS = {
    "vring": {"num": 256, "desc": Address(0x3FF0000), "caches": Pointer(Address(0x7F2BE4000010))},
    "last_avail_idx": 46481,
    "signalled_used_valid": True,
    "handle_output": Pointer(Address(0x55C3A0312345), "virtio_blk_handle_output"),
    "kind": EnumValue(2, "KIND_TWO"),
    "padding": [0, 0, 0, 7],
    "node": {"le_next": LOST, "le_prev": Pointer(Address(0x55C3A2222222), "table", 8)},
}


def queue(index: int, *, inuse: int = 0, unseen: int = 0, role: str = "requests0") -> Queue:
    """Return a queue of 256 slots that has given back 46479 requests."""
    taken = 46479 + inuse
    return Queue(
        index=index,
        address=Address(0x55C3A2000000 + 152 * index),
        role=role,
        ring="split",
        ring_state="ready",
        size=256,
        last_avail_idx=taken,
        shadow_avail_idx=taken,
        used_idx=46479,
        signalled_used=46479,
        signalled_used_valid=True,
        notification=True,
        in_use=inuse,
        vector=index + 1,
        handle_output="virtio_blk_handle_output",
        fields=FIELDS,
        guest=SplitGuest(taken + unseen, 0, 46479, 0, 46478, taken),
        counts=Counts(unseen, inuse, inuse, 0, 0, 1),
        in_flight=(REQUEST,) if inuse else (),
    )


def lost_queue(index: int) -> Queue:
    """Return a queue whose ring lies in memory that the core does not hold."""
    return Queue(
        index=index,
        address=Address(0x55C3A2000000),
        role="requests0",
        ring="split",
        ring_state="unreadable",
        size=256,
        last_avail_idx=7,
        shadow_avail_idx=7,
        used_idx=7,
        signalled_used=0,
        signalled_used_valid=False,
        notification=True,
        in_use=0,
        vector=1,
        handle_output=Absent("not-in-this-build"),
        guest=LOST,
        counts=Counts(LOST, 0, 0, None, 0, LOST),
        in_flight=(),
    )


def packed_queue(index: int) -> Queue:
    """Return a queue with a packed ring."""
    return Queue(
        index=index,
        address=Address(0x55C3A2000000),
        role="tx0",
        ring="packed",
        ring_state="ready",
        size=256,
        last_avail_idx=7,
        shadow_avail_idx=7,
        used_idx=7,
        signalled_used=0,
        signalled_used_valid=False,
        notification=False,
        in_use=0,
        vector=1,
        handle_output="virtio_net_handle_tx_bh",
        guest=PackedGuest(EventSuppression(0x8003, 3, True, 2, "desc"), LOST),
        counts=Counts(LOST, 0, 0, None, 0, None),
        in_flight=(),
        last_avail_wrap_counter=True,
        used_wrap_counter=True,
    )


def device(index: int, identity: str | None, kind: str, queues: tuple[Queue, ...]) -> Device:
    """Return a device on PCI that is served by QEMU itself."""
    disk = kind == "virtio-blk"
    return Device(
        index=index,
        id=identity,
        kind=kind,
        type_name=f"{kind}-device",
        qom_path=f"/machine/peripheral-anon/device[{index}]/virtio-backend",
        address=Address(0x55C3A1F00000 + index),
        transport="pci",
        pci_address=f"0000:00:0{index}.0",
        serial=f"SERIAL{index}" if disk else None,
        device_id=2 if disk else 1,
        status=Flags(0xF, ("ACKNOWLEDGE", "DRIVER", "DRIVER_OK", "FEATURES_OK")),
        host_features=Flags(0x130006E54, ("VIRTIO_BLK_F_SEG_MAX", "bit 40")),
        guest_features=Flags(0x54, ("VIRTIO_BLK_F_SEG_MAX",)),
        broken=False,
        vm_running=True,
        ring_owner="qemu" if disk else "vhost-kernel",
        iothread="io0" if disk else None,
        queue_iothreads=(),
        backend=Backend(
            Address(0x55C3A1000000), "", "nbd0", "nbd", "nbd+unix:///?socket=/run/nbd.sock", 4, 1
        )
        if disk
        else None,
        disks=(),
        found_by=("virtio_list", "qom-tree"),
        queues=queues,
    )


DISK = device(0, "disk0", "virtio-blk", (queue(0), queue(1, inuse=2), queue(2, unseen=3)))
NET = device(1, None, "virtio-net", (queue(0, unseen=256, role="rx0"), packed_queue(1)))
LOST_DISK = device(2, "disk2", "virtio-blk", (lost_queue(0),))

REPORT = Report(
    tool=TOOL,
    core=CORE,
    qemu=QEMU,
    devices=(DISK, NET, LOST_DISK),
    limits=(Limitation("guest RAM", "the core does not hold it", "set dump-guest-core=on"),),
)
NOTHING_ASKED = Report(tool=TOOL, core=CORE, qemu=QEMU)

SPLIT = SplitRing(
    descriptor_address=Address(0x7F0000000000),
    avail_address=Address(0x7F0000001000),
    used_address=Address(0x7F0000002000),
    descriptors=(
        Descriptor(0, Address(0), 0, 0, 0),
        Descriptor(1, Address(0x3FF3000), 48, 4, 0, ("indirect",)),
        *DESCRIPTORS,
    ),
    available=(AvailEntry(0, 12, ("used_idx",)), AvailEntry(1, 1, ("last_avail_idx",))),
    used=(UsedEntry(0, 0, 0), UsedEntry(1, 12, 1, ("used.idx", "used_event"))),
    guest=SplitGuest(2, 0, 1, 1, 1, 2),
)
CHAINS = (
    Chain(12, "complete", DESCRIPTORS, 65552, 1),
    Chain(
        1,
        "loop",
        (
            Descriptor(1, Address(0x3FF3000), 48, 4, 0, ("indirect",)),
            Descriptor(0, Address(0x1000), 16, 1, 0, ("next",), Address(0x3FF3000)),
        ),
        16,
        0,
        "descriptor 0 was visited before",
    ),
)
RING = RingDocument(
    tool=TOOL,
    device_id="disk0",
    qom_path=DISK.qom_path,
    queue=queue(1, inuse=2),
    split=SPLIT,
    chains=CHAINS,
)
LOST_RING = RingDocument(
    tool=TOOL,
    device_id=None,
    qom_path=DISK.qom_path,
    queue=lost_queue(0),
    split=LOST,
    chains=(),
)
QUEUE_WITHOUT_COUNTS = Queue(
    **{
        **{name: getattr(queue(0), name) for name in Queue.__struct_fields__},
        "counts": UNSET,
        "guest": UNSET,
        "in_flight": UNSET,
    }
)


def vhost_queue() -> Queue:
    """Return a queue that vhost runs, with 5 requests outstanding."""
    away = Absent("run-by-vhost")
    return structs.replace(
        queue(0),
        last_avail_idx=0,
        used_idx=0,
        in_use=0,
        guest=SplitGuest(46484, 0, 46479, 0, 46479, 46482),
        counts=Counts(away, away, away, None, away, 0, 5),
        ring_owner="vhost-kernel",
        stale=("last_avail_idx", "used_idx", "in_use"),
    )


VHOST_REPORT = structs.replace(
    REPORT, devices=(structs.replace(DISK, ring_owner="vhost-kernel", queues=(vhost_queue(),)),)
)
