"""One running QEMU: its command line, its console and its monitor."""

from __future__ import annotations

import os
import resource
import signal
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from tests.lab import guest
from tests.lab.processes import Children
from tests.lab.qmp import Monitor

BOOT_SECONDS = 240.0
"""Patience for a guest that takes 10 to 20 s on an idle machine."""


class GuestError(RuntimeError):
    """The guest did not do what its scenario needs; carries the tail of its console."""


class Machine:
    """A QEMU started for one case; `directory` holds its console, sockets and output."""

    def __init__(
        self,
        executable: Path,
        arguments: Sequence[str],
        script: str,
        directory: Path,
        children: Children,
        environment: Mapping[str, str],
        *,
        kernel: Path | None = None,
        user: int | None = None,
        suite: str = guest.STOCK,
        kernel_arguments: str = "",
        programs: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        self._console = directory / "console.log"
        initramfs = directory / "initramfs"
        own = guest.scenario_archive(script, programs)
        initramfs.write_bytes(guest.initramfs(suite).read_bytes() + own)
        monitor = directory / "qmp"
        self.command = [
            str(executable),
            *_common_arguments(self._console, kernel or guest.kernel(suite), initramfs, monitor),
            *("-append", f"console=ttyS0 quiet panic=-1 {kernel_arguments}".rstrip()),
            *arguments,
        ]
        self._output = directory / "qemu.out"
        self.process = children.start(self.command, self._output, directory, environment, user)
        try:
            self.monitor = Monitor(monitor)
        except OSError:
            raise GuestError(f"QEMU did not start: {self._output.read_text()}") from None

    @property
    def pid(self) -> int:
        """QEMU's process id."""
        return self.process.pid

    def wait_for(self, line: str, seconds: float = BOOT_SECONDS) -> None:
        """Waits until the guest has printed `line` on its serial console."""
        deadline = time.monotonic() + seconds
        while line not in self.console():
            if self.process.poll() is not None:
                raise GuestError(f"QEMU ended: {self._output.read_text()}")
            if time.monotonic() > deadline:
                raise GuestError(
                    f"no {line!r} within {seconds} s; console: {self.console()[-3000:]}"
                )
            time.sleep(0.2)

    def console(self) -> str:
        """All that the guest has printed."""
        return self._console.read_text(errors="replace") if self._console.exists() else ""

    def abort(self) -> None:
        """Ends QEMU by SIGABRT with an unlimited core size and waits for its end."""
        unlimited = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
        resource.prlimit(self.pid, resource.RLIMIT_CORE, unlimited)
        os.kill(self.pid, signal.SIGABRT)
        self.process.wait(timeout=120)


def _common_arguments(console: Path, kernel: Path, initramfs: Path, monitor: Path) -> list[str]:
    return [
        *("-L", "/usr/share/qemu", "-L", "/usr/share/seabios"),
        *("-no-user-config", "-nodefaults", "-display", "none"),
        *("-accel", "tcg,thread=multi,tb-size=16", "-smp", "4"),
        *("-kernel", str(kernel), "-initrd", str(initramfs)),
        *("-chardev", f"file,id=serial0,path={console}", "-serial", "chardev:serial0"),
        *("-qmp", f"unix:{monitor},server=on,wait=off"),
    ]
