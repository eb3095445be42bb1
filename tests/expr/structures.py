"""What is printed of a real QEMU: its own structures, those of each device, those of the fork."""

from __future__ import annotations

from tests.lab import fork

STRUCTURES = """
current_machine
*current_machine
current_machine->parent_obj
*block_backends.tqh_first
*block_backends.tqh_first->root
*block_backends.tqh_first->root->bs
*block_backends.tqh_first->root->bs->drv
*all_bdrv_states.tqh_first
*qemu_aio_context
*qemu_aio_context->fdmon_ops
*iohandler_ctx
main_loop_tlg
*vm_change_state_head.tqh_first
*current_migration
cpus_queue
*cpus_queue.tqh_first
*(X86CPU *)cpus_queue.tqh_first
address_space_memory
*address_space_memory.root
*address_space_memory.current_map
ram_list
*ram_list.blocks.lh_first
*main_system_bus
""".strip().splitlines()

OF_DEVICES = (
    "*{}",
    "*{}->vq",
    "{}->vq[0]",
    "*{}->vq@3",
    "{}->vq[1].vring",
    "*{}->vq[0].vring.caches",
    "{}->vq[0].handle_output",
    "*{}->dma_as",
    "*{}->parent_obj.parent_bus",
    "*{}->parent_obj.parent_obj.class",
)
"""Of each virtio device, written as a pointer to it."""

SECOND = f"{fork.DEVICE_LIST}.head->tqh_first->next->tqe_next->vdev"
"""The second virtio-blk device by the fork's own list."""

QUEUES_OF_FORK = tuple(f"{SECOND}->vq[{index}]" for index in (8, 0, 1, 2, 3, 4))

COMMANDS_OF_FORK = (
    f"p {fork.DEVICE_LIST}",
    f"p *{fork.DEVICE_LIST}.head",
    f"p *{fork.DEVICE_LIST}.head->tqh_first",
    f"p *{fork.DEVICE_LIST}.head->tqh_first->next->tqe_next",
    f"p {fork.DEVICE_LIST}.head->tqh_first->next->tqe_next->next->tqe_next",
    f"p {fork.DEVICE_LIST}.count",
    f"p {SECOND}->vq[4].nr_request - {SECOND}->vq[4].nr_response == {SECOND}->vq[4].inuse",
    f"p &{SECOND}->vq[4].nr_errors",
    f"p {SECOND}->vq[0]@2",
    f"p/x {SECOND}->vq[8]",
    f"p ((VirtIOBlock *){SECOND})->conf",
    f"p *(VirtIOBlock *){SECOND}",
    f"p *((VirtIOBlock *){SECOND})->blk",
    "p sizeof(struct BlockBackend)",
    f"whatis {fork.DEVICE_LIST}",
    f"whatis {SECOND}->vq[0].handle_aio_output",
    "ptype struct VirtQueue",
    "ptype BlockConf",
    "ptype/o struct VirtQueue",
)


def pointers(addresses: list[int]) -> list[str]:
    """Return virtio devices as expressions."""
    return [f"((struct VirtIODevice *){address:#x})" for address in addresses]


def of_devices(devices: list[str]) -> list[str]:
    """Return what is printed of each device."""
    return [form.format(device) for form in OF_DEVICES for device in devices]


def symbols(device: str) -> list[str]:
    """Return expressions whose address has a symbol, some in several ways."""
    return [
        f"{device}->vq[0].handle_output",
        "vm_change_state_head.tqh_first->cb",
        "&current_machine",
        "&vm_change_state_head",
        "main",
        "current_machine",
    ]
