"""A layout pack in the place of debug information: what it serves, and what is lost with it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vringcore.errors import DebugInfoMissingError, VringcoreError
from vringcore.layout.pack import pack_from_json, pack_of_bundle
from vringcore.layout.pack_provider import PackProvider
from vringcore.model.report import Limitation
from vringcore.qemu.accessors import Accessors

if TYPE_CHECKING:
    from vringcore.debuginfo.provider import DebugInfo
    from vringcore.elfcore.executable import Executable
    from vringcore.layout.bundle import Bundle
    from vringcore.layout.pack import Pack
    from vringcore.layout.types import Symbol
    from vringcore.qemu.files import ProgramFiles
    from vringcore.view.views import Views

WITHOUT_NAMES = (
    "the names of static functions",
    "what threads and coroutines are, or wait for, where only such a name says it",
)
"""What no place of a variable makes up for."""

NEAR = "read from another build, of"
HINT = (
    "with the debug package of this very build (Debian: -dbgsym, others: -debuginfo), or fetched "
    "with --debuginfod, nothing is lost"
)

ANSWERS: dict[str, tuple[tuple[str, str, str], ...]] = {
    "the BQL": (("bql", "", ""), ("qemu_global_mutex", "", "")),
    "the run state": (("current_run_state", "", ""),),
    "the migration's state": (("current_migration", "migration/migration.c", ""),),
    "the object tree": (("root", "qom/object.c", "object_get_root"),),
    "QEMU's own I/O threads": (("internal_root", "qom/object.c", "object_get_internal_root"),),
    "the bus tree": (("main_system_bus", "", ""),),
    "the handlers of run state changes": (("vm_change_state_head", "", ""),),
    "vhost devices": (("vhost_devices", "hw/virtio/vhost.c", ""),),
    "block back-ends that no device has": (("block_backends", "block/block-backend.c", ""),),
    "block nodes": (("all_bdrv_states", "block.c", ""),),
    "the main loop": (("qemu_aio_context", "util/main-loop.c", ""),),
    "jobs": (("jobs", "job.c", ""),),
    "throttle groups": (("throttle_groups", "block/throttle-groups.c", ""),),
    "which coroutine each thread runs": (
        ("co_tls_current", "util/coroutine-ucontext.c", ""),
        ("current", "util/coroutine-ucontext.c", ""),
    ),
    "which thread runs each event loop": (
        ("co_tls_my_aiocontext", "util/async.c", ""),
        ("my_aiocontext", "util/async.c", ""),
        ("my_iothread", "iothread.c", ""),
    ),
}
"""What a report tells, and the static variables of some release or other that it is told by."""


def given_pack(data: bytes, path: str, bundle: Bundle | None) -> Pack:
    """Return the pack in a file, or what a bundle of another build has to offer.

    :raises LayoutError: if it is damaged
    """
    return pack_from_json(data, where=path) if bundle is None else pack_of_bundle(bundle)


def pack_provider(pack: Pack, debug: DebugInfo, executable: Executable | None) -> PackProvider:
    """Return the provider over a pack, for the program whose symbols ``debug`` reads."""

    def symbol(name: str) -> Symbol | None:
        try:
            return debug.symbol(name)
        except VringcoreError:
            return None

    def covering(address: int) -> Symbol | None:
        try:
            return debug.symbol_at(address)
        except VringcoreError:
            return None

    if executable is None:
        return PackProvider(pack, symbol, _nowhere, _nowhere)
    places = Accessors(executable, symbol, covering)
    return PackProvider(pack, symbol, places.place, places.thread_place)


def _nowhere(_key: str) -> None:
    """Stand for code that is not at hand: it tells no place."""


def nothing_exported(files: ProgramFiles) -> DebugInfoMissingError:
    """Return the error for a program of which types are known, and no place to begin at."""
    at_hand = files.executable is not None
    return DebugInfoMissingError(
        "no symbol leads to the program's structures",
        where=f"build-id {files.build_id or 'unknown'}",
        seen="it exports none, as QEMUs built without modules do"
        if at_hand
        else "its file is not at hand",
        expected="at least current_machine among its dynamic symbols",
        hint="the debug information of this very build is needed (--debug-file, --debug-dir)"
        if at_hand
        else "a layout pack has types alone: give the program's file with -e PATH",
    )


def described(files: ProgramFiles, views: Views, checks: int) -> str:
    """Return whose types a report is told by, and what it cannot tell; "" if by their own.

    :param checks: how many another build's types have passed
    """
    pack = files.pack
    if pack is None:
        return ""
    lost = [
        what
        for what, variables in ANSWERS.items()
        if all(views.layouts.find_variable(*each) is None for each in variables)
    ]
    proof = pack.serves.get(files.build_id)
    if proof is None:
        whose = (
            f"{NEAR} build-id {pack.build_id or 'unknown'}; {checks:,} checks of the core passed"
        )
    elif proof.by == "text":
        whose = "read from a program with the same machine code"
    else:
        whose = f"whose {proof.checks} checks a core of this build has passed"
    telling = ", ".join([*lost, *WITHOUT_NAMES])
    return f"types are of the layout pack {pack.name}, {whose}; nothing tells {telling}"


def limitation(why: str) -> Limitation:
    """Return what a report says of it."""
    what = "the types are of another build" if NEAR in why else "no debug information is at hand"
    return Limitation(what, why, HINT)
