"""Print every queue of every virtio device with drgn: argv is executable, then cores."""

import json
import sys
import time

from drgn import Program, cast


def queues_of(device):
    """Yield all members of each queue that the device has, up to the first without entries."""
    for index in range(1024):
        queue = device.vq[index].read_()
        if not queue.vring.num.value_():
            return
        yield queue.value_()


def devices(program):
    """Yield [address, queues] of each virtio device."""
    change = program.function("virtio_vmstate_change").address_of_().value_()
    entry = program["vm_change_state_head"].tqh_first
    while entry:
        members = {m.name for m in entry.type_.type.members}
        if any(entry.member_(n).value_() == change for n in ("cb", "cb_ret") if n in members):
            device = cast("struct VirtIODevice *", entry.opaque)
            yield [device.value_(), list(queues_of(device))]
        entry = entry.entries.tqe_next


for core in sys.argv[2:]:
    start = time.perf_counter()
    program = Program()
    program.set_core_dump(core)
    program.load_debug_info([sys.argv[1]])
    answer = json.dumps(sorted(devices(program)))
    print("TOOK %.3f" % ((time.perf_counter() - start) * 1000))
    print("QUEUES " + answer)
