"""Requests for files: 9P (9P2000.L) and the file system device's FUSE (VirtIO 1.3, 5.11.6).

Names, paths and contents lie behind these headers and are not read.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vringcore.virtio.fields import Table, named, words

if TYPE_CHECKING:
    from vringcore.virtio.fields import Header, Request

_9P_TYPES = {
    6: "Tlerror",
    8: "Tstatfs",
    12: "Tlopen",
    14: "Tlcreate",
    16: "Tsymlink",
    18: "Tmknod",
    20: "Trename",
    22: "Treadlink",
    24: "Tgetattr",
    26: "Tsetattr",
    30: "Txattrwalk",
    32: "Txattrcreate",
    40: "Treaddir",
    50: "Tfsync",
    52: "Tlock",
    54: "Tgetlock",
    70: "Tlink",
    72: "Tmkdir",
    74: "Trenameat",
    76: "Tunlinkat",
    100: "Tversion",
    102: "Tauth",
    104: "Tattach",
    106: "Terror",
    108: "Tflush",
    110: "Twalk",
    112: "Topen",
    114: "Tcreate",
    116: "Tread",
    118: "Twrite",
    120: "Tclunk",
    122: "Tremove",
    124: "Tstat",
    126: "Twstat",
}
"""What a client sends; the answer to message N is N + 1."""

_9P = Table("size:I type:B tag:H", type=_9P_TYPES)
_9P_ARGUMENTS = {
    **dict.fromkeys((8, 12, 14, 24, 26, 30, 32, 50, 52, 54, 110, 120, 122), Table("fid:I")),
    **dict.fromkeys((40, 116, 118), Table("fid:I offset:Q count:I")),
    108: Table("oldtag:H"),
}
"""What follows in those messages that begin with the file they are about, or with another's tag."""

_9P_ANSWER = {40: 11, 116: 11}
"""Bytes of an answer before its data; others are no more than seven and what the message asks."""

_FUSE_OPCODES = {
    1: "lookup",
    2: "forget",
    3: "getattr",
    4: "setattr",
    5: "readlink",
    6: "symlink",
    8: "mknod",
    9: "mkdir",
    10: "unlink",
    11: "rmdir",
    12: "rename",
    13: "link",
    14: "open",
    15: "read",
    16: "write",
    17: "statfs",
    18: "release",
    20: "fsync",
    21: "setxattr",
    22: "getxattr",
    23: "listxattr",
    24: "removexattr",
    25: "flush",
    26: "init",
    27: "opendir",
    28: "readdir",
    29: "releasedir",
    30: "fsyncdir",
    31: "getlk",
    32: "setlk",
    33: "setlkw",
    34: "access",
    35: "create",
    36: "interrupt",
    37: "bmap",
    38: "destroy",
    39: "ioctl",
    40: "poll",
    41: "notify-reply",
    42: "batch-forget",
    43: "fallocate",
    44: "readdirplus",
    45: "rename2",
    46: "lseek",
    47: "copy-file-range",
    48: "setupmapping",
    49: "removemapping",
    50: "syncfs",
    51: "tmpfile",
    52: "statx",
}
_FUSE = Table(
    "len:I opcode:I unique:Q nodeid:Q uid:I gid:I pid:I total_extlen:H _:H", opcode=_FUSE_OPCODES
)


def plan9(request: Request) -> Header:
    """Read a 9P message's type, tag and file; 9P is little-endian whoever the guest is."""
    fields = request.take(_9P, little=True)
    kind = fields["type"].value if "type" in fields else 0
    arguments = _9P_ARGUMENTS.get(kind)
    if arguments is not None and not request.short:
        fields |= request.take(arguments, little=True)
    told = words(fields, "tag", "fid", "offset", "count", "oldtag")
    return request.header(named(fields.get("type")), fields, told, answer=_9P_ANSWER.get(kind, 7))


def file_system(request: Request) -> Header:
    """Read the header of a FUSE request."""
    fields = request.take(_FUSE)
    told = words(fields, "unique", "nodeid", "pid")
    return request.header(named(fields.get("opcode"), "opcode"), fields, told)
