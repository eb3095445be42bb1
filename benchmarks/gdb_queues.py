"""Run inside gdb: print every queue of every virtio device, as one would script it with gdb.

Without ``CORES`` it asks the core that gdb has open; with it, each of those in turn. With
``MEMBERS`` it prints every member as a number, for comparison, instead of what ``print`` shows.
"""

import json
import time

import gdb

given = globals()
gdb.execute("set pagination off")


def members(value):
    """Return a structure as nested dictionaries, arrays as lists, and all else as numbers."""
    kind = value.type.strip_typedefs()
    if kind.code in (gdb.TYPE_CODE_STRUCT, gdb.TYPE_CODE_UNION):
        found = {}
        for field in kind.fields():
            part = members(value[field])
            found.update({field.name: part} if field.name else part)
        return found
    if kind.code == gdb.TYPE_CODE_ARRAY:
        first, last = kind.range()
        return [members(value[index]) for index in range(first, last + 1)]
    return int(value)


def queues_of(device):
    """Yield the queues that the device has, up to the first without entries."""
    for index in range(1024):
        queue = device["vq"][index]
        if not int(queue["vring"]["num"]):
            return
        yield members(queue) if given.get("MEMBERS") else str(queue)


def devices():
    """Yield [address, queues] of each virtio device."""
    device_pointer = gdb.lookup_type("VirtIODevice").pointer()
    entry = gdb.parse_and_eval("vm_change_state_head")["tqh_first"]
    while int(entry):
        fields = [f.name for f in entry.dereference().type.fields()]
        callbacks = [entry[name] for name in ("cb", "cb_ret") if name in fields]
        if any("<virtio_vmstate_change>" in str(callback) for callback in callbacks):
            device = entry["opaque"].cast(device_pointer)
            yield [int(device), list(queues_of(device))]
        entry = entry["entries"]["tqe_next"]


for core in given.get("CORES", [None]):
    start = time.perf_counter()
    if core is not None:
        gdb.execute("core-file " + core, to_string=True)
    answer = json.dumps(sorted(devices()))
    print("TOOK %.3f" % ((time.perf_counter() - start) * 1000))
    print("QUEUES " + answer)
