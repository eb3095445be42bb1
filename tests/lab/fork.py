"""A private fork of QEMU: what it adds, and how the lines are put into QEMU's sources.

Vendors keep such members and lists for their own monitoring. No upstream QEMU has them, so a reader
of cores can know of them from the debug information alone. Only lines of our own are kept here;
where they go is told by the line they follow or precede.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

VIRTQUEUE_MEMBERS = ("nr_request", "nr_response", "nr_errors", "error_code")
"""The fork's members of `struct VirtQueue`; `handle_aio_output` too, which upstream once had."""

BACKEND_MEMBERS = ("retry_timer", "retry_interval")
"""The fork's members of `struct BlockBackend`."""

CONF_MEMBERS = ("retry_interval", "retry_timeout")
"""The fork's members of `struct BlockConf`, which lies inside `struct VirtIOBlock`."""

DEVICE_LIST = "mon_vblkdevs"
"""The fork's list of all realized virtio-blk devices."""


@dataclass(frozen=True)
class Insertion:
    """Lines that go behind the one line of a file that `anchor` matches, or `before` it."""

    file: str
    anchor: str
    lines: str
    before: bool = False


_VIRTIO = "hw/virtio/virtio.c"
_BLK = "hw/block/virtio-blk.c"

INSERTIONS: tuple[Insertion, ...] = (
    Insertion(
        _VIRTIO,
        r"    unsigned int inuse;$",
        """
    uint64_t nr_request;
    uint64_t nr_response;
    uint64_t nr_errors;
    int error_code;
""",
    ),
    Insertion(
        _VIRTIO,
        r"    VirtIOHandleOutput handle_output;$",
        "    VirtIOHandleOutput handle_aio_output;",
    ),
    Insertion(
        "include/hw/virtio/virtio.h",
        r"void virtqueue_flush\(",
        """
void virtqueue_count_request(VirtQueue *vq);
void virtqueue_count_response(VirtQueue *vq, int error);
""",
    ),
    Insertion(
        _VIRTIO,
        r"void virtqueue_flush\(",
        """
void virtqueue_count_request(VirtQueue *vq)
{
    vq->nr_request++;
}

void virtqueue_count_response(VirtQueue *vq, int error)
{
    vq->nr_response++;
    if (error) {
        vq->nr_errors++;
        vq->error_code = error;
    }
}

""",
        before=True,
    ),
    Insertion(
        _BLK,
        r'#include "qemu/coroutine\.h"$',
        """
#include "qemu/queue.h"

typedef struct MonVblkDev {
    VirtIODevice *vdev;
    QTAILQ_ENTRY(MonVblkDev) next;
} MonVblkDev;

typedef QTAILQ_HEAD(MonVblkHead, MonVblkDev) MonVblkHead;

struct MonVblkDevs {
    MonVblkHead *head;
    int count;
};

static MonVblkHead mon_vblk_head = QTAILQ_HEAD_INITIALIZER(mon_vblk_head);
struct MonVblkDevs mon_vblkdevs = { .head = &mon_vblk_head };

static void mon_vblkdevs_add(VirtIODevice *vdev)
{
    MonVblkDev *added = g_new0(MonVblkDev, 1);

    added->vdev = vdev;
    QTAILQ_INSERT_TAIL(mon_vblkdevs.head, added, next);
    mon_vblkdevs.count++;
}

static void mon_vblkdevs_remove(VirtIODevice *vdev)
{
    MonVblkDev *each;

    QTAILQ_FOREACH(each, mon_vblkdevs.head, next) {
        if (each->vdev == vdev) {
            QTAILQ_REMOVE(mon_vblkdevs.head, each, next);
            mon_vblkdevs.count--;
            g_free(each);
            break;
        }
    }
}
""",
    ),
    Insertion(_BLK, r"    blk_iostatus_enable\(", "    mon_vblkdevs_add(vdev);"),
    Insertion(_BLK, r"    blk_ram_registrar_destroy\(", "    mon_vblkdevs_remove(vdev);"),
    Insertion(
        _BLK, r"        virtio_blk_init_request\(s, vq, req", "        virtqueue_count_request(vq);"
    ),
    Insertion(_BLK, r"    virtqueue_push\(req", "    virtqueue_count_response(req->vq, status);"),
    Insertion(
        "block/block-backend.c",
        r"    BlockDeviceIoStatus iostatus;$",
        """
    QEMUTimer *retry_timer;
    int64_t retry_interval;
""",
    ),
    Insertion(
        "block/block-backend.c",
        r"    block_acct_init\(&blk->stats\);$",
        "    blk->retry_interval = 1000;",
    ),
    Insertion(
        "include/hw/block/block.h",
        r"    BlockdevOnError werror;$",
        """
    int64_t retry_interval;
    int64_t retry_timeout;
""",
    ),
    Insertion(
        "include/hw/block/block.h",
        r'    DEFINE_PROP_BOOL\("share-rw"',
        r"""
    DEFINE_PROP_INT64("retry_interval", _state, _conf.retry_interval, 1000), \
    DEFINE_PROP_INT64("retry_timeout", _state, _conf.retry_timeout, -1), \
""",
    ),
)

COLLECTING = "mon_collecting"
"""The fork's switch, an int: while it is on, its monitoring takes a lock of its own.

The main loop takes that lock while it holds the BQL, an I/O thread takes it first and then the BQL:
so both wait for each other for ever.
"""

LOCKING: tuple[Insertion, ...] = (
    Insertion(
        "util/main-loop.c",
        r"void main_loop_wait\(int nonblocking\)$",
        """
QemuMutex mon_lock;
int mon_collecting;
unsigned int mon_rounds;

static void __attribute__((constructor)) mon_lock_init(void)
{
    qemu_mutex_init(&mon_lock);
}

static void mon_collect(void)
{
    if (mon_collecting) {
        g_usleep(100000);
        qemu_mutex_lock(&mon_lock);
        mon_rounds++;
        qemu_mutex_unlock(&mon_lock);
    }
}

""",
        before=True,
    ),
    Insertion("util/main-loop.c", r"    qemu_clock_run_all_timers\(\);$", "    mon_collect();"),
    Insertion(
        _BLK,
        r"void virtio_blk_handle_vq\(",
        """
extern QemuMutex mon_lock;
extern int mon_collecting;

static void mon_note_kick(void)
{
    if (mon_collecting && !BQL_LOCKED()) {
        qemu_mutex_lock(&mon_lock);
        g_usleep(500000);
        LOCK_BQL();
        UNLOCK_BQL();
        qemu_mutex_unlock(&mon_lock);
    }
}

""",
        before=True,
    ),
    Insertion(
        _BLK,
        r"    bool suppress_notifications = virtio_queue_get_notification\(vq\);$",
        "\n    mon_note_kick();",
    ),
)

# What BQL_LOCKED, LOCK_BQL and UNLOCK_BQL are called, the newest release first.
_BQL_NAMES = (
    ("bql_locked", "bql_lock", "bql_unlock"),
    ("qemu_mutex_iothread_locked", "qemu_mutex_lock_iothread", "qemu_mutex_unlock_iothread"),
)


def apply(source: Path) -> None:
    """Makes a tree of QEMU 7.2's sources the fork's; raises RuntimeError if it does not fit."""
    _apply(source, INSERTIONS)
    apply_locking(source)


def apply_locking(source: Path) -> None:
    """Adds to a tree of QEMU's sources the fork's lock alone; raises as `apply` does."""
    declared = (source / "include/qemu/main-loop.h").read_text()
    names = next(each for each in _BQL_NAMES if f"bool {each[0]}(" in declared)
    _apply(source, LOCKING, dict(zip(("BQL_LOCKED", "LOCK_BQL", "UNLOCK_BQL"), names, strict=True)))


def _apply(
    source: Path, insertions: tuple[Insertion, ...], names: Mapping[str, str] | None = None
) -> None:
    for insertion in insertions:
        path = source / insertion.file
        path.write_text(_inserted(path.read_text(), insertion, names or {}))


def _inserted(text: str, insertion: Insertion, names: Mapping[str, str]) -> str:
    found = list(re.finditer(rf"^{insertion.anchor}.*\n?", text, re.MULTILINE))
    if len(found) != 1:
        raise RuntimeError(
            f"{insertion.file}: {len(found)} lines match {insertion.anchor!r}, expected one"
        )
    at = found[0].start() if insertion.before else found[0].end()
    lines = insertion.lines.removeprefix("\n").removesuffix("\n")
    for name, actual in names.items():
        lines = re.sub(rf"\b{name}\b", actual, lines)
    return f"{text[:at]}{lines}\n{text[at:]}"
