"""The block layer: back-ends of the devices, and the graph of nodes below each."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from vringcore.errors import VringcoreError
from vringcore.model.devices import Backend
from vringcore.model.report import Limitation
from vringcore.model.values import Absent, Address
from vringcore.qemu.absence import absence_of, attempt
from vringcore.qemu.block_structs import BdrvChild, BlockBackend, BlockDriver, BlockDriverState
from vringcore.qemu.enums import enumerator
from vringcore.qemu.filename import file_name
from vringcore.qemu.upstream import unknown_members
from vringcore.view.lists import collect

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from typing import TypeVar

    from vringcore.qemu.syscalls import Caller
    from vringcore.view.views import Views

    T = TypeVar("T")
    Noted = tuple[T, list[Limitation]]

MAX_BACKENDS = 10_000
MAX_NODES = 10_000
MAX_GRAPH = 1_000
"""Nodes below one back-end; a long backing chain has some dozens."""


_FORMATS = {
    "blk_log_writes": "blklogwrites",
    "cbw_filter": "copy-before-write",
    "commit_top": "commit_top",
    "copy_on_read": "copy-on-read",
    "crypto_luks": "luks",
    "gluster_rdma": "gluster",
    "gluster_tcp": "gluster",
    "gluster_unix": "gluster",
    "host_cdrom": "host_cdrom",
    "host_device": "host_device",
    "mirror_top": "mirror_top",
    "nbd_tcp": "nbd",
    "nbd_unix": "nbd",
    "null_aio": "null-aio",
    "null_co": "null-co",
    "preallocate_filter": "preallocate",
    "snapshot_access_drv": "snapshot-access",
}
"""``BlockDriver.format_name`` of the variables that have more than one word behind ``bdrv_``."""


def format_of_symbol(symbol: str) -> str | None:
    """Return the format name of a ``BlockDriver`` by its variable, None if that does not tell."""
    name = symbol.removeprefix("bdrv_")
    if name == symbol:
        return None
    return _FORMATS.get(name) or (None if "_" in name else name)


class Node(msgspec.Struct, frozen=True):
    """A block node.

    ``driver`` is the driver's name (``nbd``, ``qcow2`` …), ``depth`` the number of edges from the
    root node of the back-end it was reached from.
    """

    view: BlockDriverState
    name: str
    driver: str | Absent
    depth: int = 0

    @property
    def address(self) -> int:
        """Where the ``BlockDriverState`` lies."""
        return self.view.address_


class BlockLayer:
    """QEMU's block layer in one core. Read when asked for; what failed is in :attr:`limits`.

    :ivar taken_ns: when the process was captured, on the clock that requests are stamped with; None
        where the core does not tell
    :ivar callers: gives the threads that are in system calls, as far as they are known
    """

    def __init__(self, views: Views) -> None:
        self.views = views
        self.limits: list[Limitation] = []
        self.taken_ns: int | None = None
        self.callers: Callable[[], Sequence[Caller]] = tuple
        self._drivers: dict[int, str | Absent] = {}
        self._backends: Noted[list[BlockBackend]] | None = None
        self._graphs: dict[int, Noted[list[Node]]] = {}

    def backends(self) -> list[BlockBackend]:
        """Return every BlockBackend (``block_backends``, block/block-backend.c)."""
        if self._backends is None:
            what = "the list of block back-ends"
            self._backends = self.noting(lambda: self.keep(what, self._walk_backends()))
        return self._say_again(self._backends)

    def attached_to(self, device: int) -> BlockBackend | None:
        """Return the back-end that a device model is attached to (``BlockBackend.dev``)."""
        for blk in self.backends():
            if attempt(lambda b=blk: int(b.dev)) == device:  # type: ignore[misc]
                return blk
        return None

    def backend_of(self, address: int) -> Backend:
        """Return a BlockBackend as the model shows it.

        :raises LayoutMissingError: if the build does not define the type
        """
        blk = self.views.at(BlockBackend, address)
        root = attempt(lambda: self._root_of(blk))
        node: str | Absent | None = root.name if isinstance(root, Node) else root
        driver: str | Absent | None = root.driver if isinstance(root, Node) else root
        file: str | Absent | None = None if isinstance(root, Node) else root
        if isinstance(root, Node):
            file = attempt(lambda: self.file_of(root))
        return Backend(
            address=Address(address),
            name=attempt(lambda: self.views.string_or_none(blk.name)),
            node=node,
            driver=driver,
            file=file,
            in_flight=attempt(lambda: blk.in_flight),
            quiesce_counter=attempt(lambda: blk.quiesce_counter),
            io_status=attempt(lambda: self._io_status(blk)),
            unknown_members=unknown_members(self.views.layouts, BlockBackend.c_type),
        )

    def nodes(self) -> list[Node]:
        """Return every block node (``all_bdrv_states``, block.c)."""
        return self.keep("the list of block nodes", self._walk_nodes())

    def node(self, address: int, depth: int = 0) -> Node:
        """Return the node at an address.

        :raises MemoryFault: if it is not in the core
        """
        view = self.views.at(BlockDriverState, address)
        return Node(view, view.node_name, self._driver(view.drv), depth)

    def children(self, node: Node) -> Iterator[Node]:
        """Yield the nodes that a node works on (``BlockDriverState.children``)."""
        for child in self.views.elements(node.view.children, BdrvChild, "next", limit=MAX_GRAPH):
            if child.bs:
                yield self.node(child.bs, node.depth + 1)

    def graph_of(self, backend: int) -> list[Node]:
        """Return the nodes below a back-end, its root first, then level by level."""
        known = self._graphs.get(backend)
        if known is None:
            known = self._graphs[backend] = self.noting(lambda: self._walk_graph(backend))
        return self._say_again(known)

    def file_of(self, node: Node) -> str | None:
        """Return the name of the file (or URL) a node reads, the first one down its ``file``s.

        :raises MemoryFault: if it is not in the core
        """
        for _ in range(MAX_GRAPH):
            name = file_name(self.views, node.view, node.driver)
            if name or not node.view.file:
                return name
            node = self.node(self.views.at(BdrvChild, node.view.file).bs)
        return None

    def keep(self, what: str, items: Iterable[T]) -> list[T]:
        """Return what a walk gives; an error that ends it early becomes a limitation."""
        found, error = collect(items)
        if error is not None:
            self.limit(what, str(error))
        return found

    def listed(self, what: str, items: Iterable[T]) -> tuple[T, ...] | Absent:
        """Return what a walk gives; as :meth:`keep`, but nothing at all is absent, not empty."""
        found, error = collect(items)
        if error is None:
            return tuple(found)
        if not found:
            return absence_of(error)
        self.limit(what, str(error))
        return tuple(found)

    def limit(self, what: str, why: str, hint: str = "") -> None:
        """Note something that was not found."""
        limitation = Limitation(what, why, hint)
        if limitation not in self.limits:
            self.limits.append(limitation)

    def noting(self, work: Callable[[], T]) -> Noted[T]:
        """Return what some work gives, and of :attr:`limits` what it alone adds to them."""
        outer, self.limits = self.limits, []
        try:
            return work(), self.limits
        finally:
            self.limits = outer

    def _say_again(self, known: Noted[T]) -> T:
        """Return what was read before; what could not be read then still cannot."""
        for limitation in known[1]:
            self.limit(limitation.what, limitation.why, limitation.hint)
        return known[0]

    def _walk_backends(self) -> Iterator[BlockBackend]:
        head = self.views.address_of("block_backends", "block/block-backend.c")
        yield from self.views.elements(head, BlockBackend, "link", limit=MAX_BACKENDS)

    def _walk_nodes(self) -> Iterator[Node]:
        head = self.views.address_of("all_bdrv_states", "block.c")
        for view in self.views.elements(head, BlockDriverState, "bs_list", limit=MAX_NODES):
            yield self.node(view.address_)

    def _walk_graph(self, backend: int) -> list[Node]:
        root = attempt(lambda: self._root_of(self.views.at(BlockBackend, backend)))
        if isinstance(root, Absent):
            self.limit("the nodes below a block back-end", root.reason, root.hint)
        found = [root] if isinstance(root, Node) else []
        seen = {node.address for node in found}
        for node in found:
            for child in self.keep(f"the children of node {node.name}", self.children(node)):
                if child.address not in seen and len(found) < MAX_GRAPH:
                    seen.add(child.address)
                    found.append(child)
        return found

    def _root_of(self, blk: BlockBackend) -> Node | None:
        if not blk.root:
            return None  # a drive without medium
        root = self.views.at(BdrvChild, blk.root).bs
        return self.node(root) if root else None

    def _io_status(self, blk: BlockBackend) -> str | None:
        if not blk.iostatus_enabled:
            return None
        return enumerator(
            self.views, BlockBackend, "iostatus", blk.iostatus, "BLOCK_DEVICE_IO_STATUS_"
        )

    def _driver(self, address: int) -> str | Absent:
        name = self._drivers.get(address)
        if name is None:
            name = self._drivers[address] = self._read_driver(address)
        return name

    def _read_driver(self, address: int) -> str | Absent:
        if not address:
            return Absent("no-medium")
        try:
            return self.views.string(self.views.at(BlockDriver, address).format_name, 256)
        except VringcoreError as error:
            # The literal lies in the executable; the driver's variable is called after it.
            symbol = self.views.symbols.lookup(address)
            return (symbol and format_of_symbol(symbol[0])) or absence_of(error)
