"""Run inside gdb: print every queue of every virtio device, as one would script it with gdb."""

import json

import gdb

gdb.execute("set pagination off")
head = gdb.parse_and_eval("vm_change_state_head")
device_pointer = gdb.lookup_type("VirtIODevice").pointer()
entry = head["tqh_first"]
found = []
while int(entry):
    fields = [f.name for f in entry.dereference().type.fields()]
    callbacks = [entry[name] for name in ("cb", "cb_ret") if name in fields]
    if any("<virtio_vmstate_change>" in str(callback) for callback in callbacks):
        device = entry["opaque"].cast(device_pointer)
        queues = []
        for index in range(1024):
            queue = device["vq"][index]
            if not int(queue["vring"]["num"]):
                break
            str(queue)  # all its members, as `p` prints them
            queues.append([int(queue[m]) for m in ("last_avail_idx", "used_idx", "inuse")])
        found.append([int(device), queues])
    entry = entry["entries"]["tqe_next"]
print("QUEUES " + json.dumps(sorted(found)))
