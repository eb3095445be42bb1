"""Why the system does not let us at a process, and what would make it."""

from __future__ import annotations

import os

from vringcore.errors import ProcessAccessError

CAP_SYS_PTRACE = 19

YAMA = "/proc/sys/kernel/yama/ptrace_scope"


def access_error(
    pid: int, where: str, error: OSError, *, doing: str = "read", tracer: int = 0
) -> ProcessAccessError:
    """Return the error for a process that the system does not let us read or stop.

    ptrace(2), "Ptrace access mode checking": the same user, or CAP_SYS_PTRACE in the user namespace
    of the process; then the security modules, of which Yama says by number how strict it is.

    :param doing: what is not permitted: ``read``, ``stop``
    :param tracer: the thread that traces the process already, 0 if none does
    """
    us, owner = os.geteuid(), _owner_of(pid)
    scope, able = yama_scope(), has_ptrace_capability()
    seen = [error.strerror or "refused", f"we are user {us}"]
    if owner is not None:
        seen.append(f"the process is user {owner}'s")
    seen.append("we have CAP_SYS_PTRACE" if able else "we have no CAP_SYS_PTRACE")
    seen.append("no kernel.yama.ptrace_scope" if scope is None else f"{YAMA_NAME} is {scope}")
    if tracer:
        seen.append(f"thread {tracer} traces it")
    return ProcessAccessError(
        f"the system does not permit to {doing} the process",
        where=where,
        seen=", ".join(seen),
        hint=way_out(us, owner, scope, tracer, able=able),
    )


YAMA_NAME = "kernel.yama.ptrace_scope"


def way_out(us: int, owner: int | None, scope: int | None, tracer: int, *, able: bool) -> str:
    if tracer:
        return "end the debugger that is attached to it"
    if scope == 3:
        return f"{YAMA_NAME}=3 forbids it to everyone until the machine is started again"
    if us == 0:
        if able:
            return "a security module (SELinux, AppArmor) or another user namespace forbids it"
        return "in a container: start it with --cap-add=SYS_PTRACE, or run on the host"
    if owner == us and scope:
        return f"run as root, or let root set {YAMA_NAME} to 0"
    if owner == us:
        return "run as root: only root reads one of another group, or that changed its user"
    return "run as root" if owner in (None, 0) else f"run as root or as user {owner}"


def yama_scope() -> int | None:
    """Return how Yama restricts ptrace (0 to 3), None where it is not in the kernel."""
    try:
        with open(YAMA, "rb") as file:  # noqa: PTH123
            return int(file.read(16))
    except (OSError, ValueError):
        return None


def has_ptrace_capability() -> bool:
    """Tell whether we hold CAP_SYS_PTRACE in our own user namespace."""
    try:
        with open("/proc/self/status", "rb") as file:  # noqa: PTH123
            for line in file:
                name, _, value = line.partition(b":")
                if name == b"CapEff":
                    return bool(int(value, 16) >> CAP_SYS_PTRACE & 1)
    except (OSError, ValueError):
        pass
    return False


def _owner_of(pid: int) -> int | None:
    """Return the real user of a process: its directory is root's where it may not be read."""
    try:
        with open(f"/proc/{pid}/status", "rb") as file:  # noqa: PTH123
            for line in file:
                name, _, value = line.partition(b":")
                if name == b"Uid":
                    return int(value.split()[0])
    except (OSError, ValueError, IndexError):
        pass
    return None
