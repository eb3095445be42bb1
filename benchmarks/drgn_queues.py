"""Print every queue of every virtio device with drgn: argv is executable, then cores."""

import json
import sys

from drgn import Program, cast

for core in sys.argv[2:]:
    program = Program()
    program.set_core_dump(core)
    program.load_debug_info([sys.argv[1]])
    entry = program["vm_change_state_head"].tqh_first
    found = []
    change = program.function("virtio_vmstate_change").address_of_().value_()
    while entry:
        members = {m.name for m in entry.type_.type.members}
        if any(entry.member_(n).value_() == change for n in ("cb", "cb_ret") if n in members):
            device = cast("struct VirtIODevice *", entry.opaque)
            queues = []
            for index in range(1024):
                queue = device.vq[index].read_()
                if not queue.vring.num.value_():
                    break
                queue.value_()  # all its members
                queues.append(
                    [queue.member_(m).value_() for m in ("last_avail_idx", "used_idx", "inuse")]
                )
            found.append([device.value_(), queues])
        entry = entry.entries.tqe_next
    print("QUEUES " + json.dumps(sorted(found)))
