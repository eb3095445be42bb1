"""A search in glib's balanced binary trees, whose layout glib keeps to itself (glib/gtree.c).

A tree begins with the pointer to its root. A node is key, value, left, right, the balance (a byte),
and two bytes that say whether left and right are children or only the neighbours in order.
"""

from __future__ import annotations

from struct import Struct
from typing import TYPE_CHECKING

import msgspec

from vringcore.addresses import HostAddress
from vringcore.errors import CorruptDataError

if TYPE_CHECKING:
    from collections.abc import Callable

    from vringcore.view.views import Views

MAX_HEIGHT = 64
"""glib's own limit is 40."""


class Found(msgspec.Struct, frozen=True):
    """What a search ended with; keys and values are pointers, 0 where there is none.

    :param value: of the key that was looked for; None if the tree has no such key
    :param before: the largest key on the way that is smaller
    :param after: the smallest key on the way that is larger
    """

    key: int
    value: int | None
    before: int | None
    after: int | None


def search(views: Views, tree: int, compare: Callable[[int], int]) -> Found:
    """Look for a key in the ``GTree`` at an address.

    :param compare: given a key of the tree, tells whether what is looked for is smaller (-1),
        equal (0) or larger (1)
    :raises CorruptDataError: if the tree is deeper than a balanced one can be
    :raises MemoryFault: if a part of it is not there
    """
    order = ">" if views.layouts.big_endian else "<"
    row = Struct(f"{order}4{'Q' if views.pointer_size == 8 else 'I'}xBB")
    node = views.pointer(tree)
    before = after = None
    for _ in range(MAX_HEIGHT):
        if not node:
            return Found(0, None, before, after)
        fields = row.unpack(views.space.read(node, row.size))
        key, value, left, right, has_left, has_right = fields
        side = compare(key)
        if not side:
            return Found(key, value, before, after)
        if side < 0:
            after = key
            node = HostAddress(left if has_left else 0)
        else:
            before = key
            node = HostAddress(right if has_right else 0)
    raise CorruptDataError(
        "a GTree without an end",
        where=f"{tree:#x}",
        seen=f"more than {MAX_HEIGHT} nodes on one way down",
        expected="a balanced tree",
        hint="the core may have been taken while it was changed, or it is no GTree",
    )
