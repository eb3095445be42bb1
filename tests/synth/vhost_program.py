"""A C program with vhost devices that the lab has no hardware for, shaped as QEMU has them.

A multiqueue virtio-net device on TAP with vhost in the kernel, one whose vhost-user back-end is
gone, and one on a vDPA device with shadow virtqueues. The structures have the members that matter,
in an order of their own.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

from tests.synth.cross import Machine, compile_c, crash

SOURCE = r"""
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct TypeImpl TypeImpl;
typedef struct ObjectClass { TypeImpl *type; } ObjectClass;
struct TypeImpl {
    const char *name; const char *parent; TypeImpl *parent_type; ObjectClass *class;
};
typedef struct Object { ObjectClass *class; void *properties; struct Object *parent; } Object;

typedef struct VirtIODevice {
    Object parent_obj;
    uint8_t status; bool vm_running; bool vhost_started; uint16_t device_id;
    uint64_t host_features, guest_features;
    struct VirtQueue *vq;
} VirtIODevice;

typedef enum { VHOST_BACKEND_TYPE_NONE, KERNEL, USER, VDPA } VhostBackendType;
typedef struct VhostOps { VhostBackendType backend_type; } VhostOps;
typedef struct EventNotifier { int rfd, wfd; } EventNotifier;
struct vhost_virtqueue { int num; EventNotifier masked_notifier; };
struct vhost_dev {
    VirtIODevice *vdev;
    struct vhost_virtqueue *vqs;
    unsigned int nvqs;
    int vq_index;
    uint64_t features, acked_features, protocol_features;
    bool started, log_enabled;
    const VhostOps *vhost_ops;
    void *opaque;
    struct { struct vhost_dev *le_next, **le_prev; } entry;
};
static struct { struct vhost_dev *lh_first; } vhost_devices;

/* Networks */

typedef enum { NET_CLIENT_DRIVER_NONE, NET_CLIENT_DRIVER_NIC, NET_CLIENT_DRIVER_TAP,
               NET_CLIENT_DRIVER_VHOST_USER = 10, NET_CLIENT_DRIVER_VHOST_VDPA } NetClientDriver;
typedef struct NetClientInfo { NetClientDriver type; size_t size; } NetClientInfo;
typedef struct NetClientState {
    NetClientInfo *info; int link_down; struct NetClientState *peer; char *name;
} NetClientState;
typedef struct NICState { NetClientState *ncs; void *opaque; } NICState;
typedef struct VirtIONet {
    VirtIODevice parent_obj;
    NICState *nic;
    struct { struct { int queues; } peers; } nic_conf;
} VirtIONet;
typedef struct vhost_net { struct vhost_dev dev; NetClientState *nc; } VHostNetState;
typedef struct TAPState { NetClientState nc; int fd; VHostNetState *vhost_net; } TAPState;
typedef struct Chardev { Object parent_obj; char *label; char *filename; int be_open; } Chardev;
typedef struct CharBackend { Chardev *chr; void *chr_event; } CharBackend;
typedef struct NetVhostUserState {
    NetClientState nc; CharBackend chr; VHostNetState *vhost_net;
} NetVhostUserState;
typedef struct VhostVDPAState { NetClientState nc; VHostNetState *vhost_net; } VhostVDPAState;

/* Shadow virtqueues */

typedef struct VirtQueueElement {
    unsigned int index, len, ndescs, out_num, in_num;
} VirtQueueElement;
typedef struct SVQDescState { VirtQueueElement *elem; unsigned int ndescs; } SVQDescState;
typedef struct VhostShadowVirtqueue {
    struct { unsigned int num; void *desc, *avail, *used; } vring;
    struct VirtQueue *vq;
    SVQDescState *desc_state;
    uint16_t shadow_avail_idx, free_head, last_used_idx, num_free;
} VhostShadowVirtqueue;
typedef struct _GPtrArray { void **pdata; unsigned int len; } GPtrArray;
struct vhost_vdpa { int index; bool shadow_vqs_enabled; GPtrArray *shadow_vqs; };

/* What there is */

static TypeImpl net_type, socket_type;
static ObjectClass net_class = {&net_type}, socket_class = {&socket_type};
static TypeImpl net_type = {"virtio-net-device", 0, 0, &net_class};
static TypeImpl socket_type = {"chardev-null", 0, 0, &socket_class};
static const VhostOps kernel_ops = {KERNEL}, user_ops = {USER}, vdpa_ops = {VDPA};
static NetClientInfo tap_info = {NET_CLIENT_DRIVER_TAP};
static NetClientInfo user_info = {NET_CLIENT_DRIVER_VHOST_USER};
static NetClientInfo vdpa_info = {NET_CLIENT_DRIVER_VHOST_VDPA};

#define DEVICE {.parent_obj = {&net_class}, .status = 15, .vm_running = 1, .device_id = 1}
#define NET(nic_, pairs) {DEVICE, &nic_, {{pairs}}}
static struct vhost_virtqueue vqs[6] = {{256, {3, 4}}, {256, {5, 6}}};

static NICState tap_nic, user_nic, vdpa_nic;
VirtIONet tap_net = NET(tap_nic, 2), user_net = NET(user_nic, 2), vdpa_net = NET(vdpa_nic, 1);

static VHostNetState tap_vhost[2] = {
    {{(VirtIODevice *)&tap_net, vqs, 2, 0, 1ull << 32, 1ull << 32, 0, 1, 0, &kernel_ops}},
    {{(VirtIODevice *)&tap_net, vqs, 2, 2, 1ull << 32, 1ull << 32, 0, 1, 0, &kernel_ops}},
};
static TAPState taps[2] = {
    {{&tap_info, 0, 0, "hostnet0"}, 9, &tap_vhost[0]},
    {{&tap_info, 0, 0, "hostnet0"}, 10, &tap_vhost[1]},
};
static NetClientState tap_ncs[2] = {{.peer = &taps[0].nc}, {.peer = &taps[1].nc}};

static VHostNetState user_vhost[2] = {
    {{0, vqs, 2, 0, 0, 0, 0, 0, 0, &user_ops}}, {{0, vqs, 2, 2, 0, 0, 0, 0, 0, &user_ops}},
};
Chardev user_chardev = {{&socket_class}, "char1", "disconnected:unix:/run/net", 0};
static NetVhostUserState users[2] = {
    {{&user_info, 0, 0, "hostnet1"}, {&user_chardev}, &user_vhost[0]},
    {{&user_info, 0, 0, "hostnet1"}, {&user_chardev}, &user_vhost[1]},
};
static NetClientState user_ncs[2] = {{.peer = &users[0].nc}, {.peer = &users[1].nc}};

static VirtQueueElement elements[3] = {{.index = 7, .ndescs = 1}, {.index = 200, .ndescs = 1},
                                       {.index = 9, .ndescs = 1}};
static SVQDescState states[2][4] = {
    {{&elements[0], 2}, {0, 0}, {&elements[1], 1}, {&elements[2], 0}},
};
VhostShadowVirtqueue shadows[2] = {
    {{4}, 0, states[0], 12, 1, 10, 1}, {{4}, 0, states[1], 0, 0, 0, 4},
};
static void *pdata[2] = {&shadows[0], &shadows[1]};
static GPtrArray shadow_vqs = {pdata, 2};
struct vhost_vdpa vdpa = {0, 1, &shadow_vqs};
static VHostNetState vdpa_vhost = {
    {(VirtIODevice *)&vdpa_net, vqs, 2, 0, 0, 0, 0, 1, 0, &vdpa_ops, &vdpa},
};
static VhostVDPAState vdpa_peer = {{&vdpa_info, 0, 0, "hostnet2"}, &vdpa_vhost};
static NetClientState vdpa_ncs = {.peer = &vdpa_peer.nc};

static void insert(struct vhost_dev *dev)
{
    dev->entry.le_next = vhost_devices.lh_first;
    vhost_devices.lh_first = dev;
}

static void done(void) { __asm__ volatile(""); }

int main(void)
{
    tap_nic.ncs = tap_ncs; user_nic.ncs = user_ncs; vdpa_nic.ncs = &vdpa_ncs;
    for (int i = 0; i < 2; i++) {
        insert(&tap_vhost[i].dev);
        insert(&user_vhost[i].dev);
    }
    insert(&vdpa_vhost.dev);
    done();
    return 0;
}
"""


def build(directory: Path) -> tuple[Path, Path]:
    """Compile and run it; return the executable and a core that gdb took at its end."""
    executable, core = directory / "program", directory / "core"
    (directory / "vhost.c").write_text(SOURCE)
    (directory / "dump.gdb").write_text(f"break done\nrun\ngenerate-core-file {core}\nkill\n")
    for command in (
        ["gcc", "-g", "-O0", "-w", "-no-pie", "vhost.c", "-o", "program"],
        ["gdb", "-batch", "-nx", "-x", "dump.gdb", str(executable)],
    ):
        subprocess.run(command, cwd=directory, check=True, capture_output=True, timeout=300)
    return executable, core


def build_for(machine: Machine, directory: Path) -> tuple[Path, Path]:
    """Compile it for another machine; return the executable and the core that it ends in."""
    source = SOURCE.replace('__asm__ volatile("")', "__builtin_trap()")
    executable = compile_c(machine, source, directory, "-O0")
    return executable, crash(machine, executable)
