"""Names of operations, against the numbers that Linux's own headers give them."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.synth.requests import KINDS
from vringcore.virtio import crypto, files, gpu, ports, ram, scsi, sound

HEADERS = Path("/usr/include/linux")

TABLES = {
    "fuse.h": ("FUSE_", files._FUSE_OPCODES),
    "virtio_gpu.h": ("VIRTIO_GPU_CMD_", gpu.TYPES),
    "virtio_scsi.h": ("VIRTIO_SCSI_T_TMF_", scsi._SUBTYPES),
    "virtio_vsock.h": ("VIRTIO_VSOCK_OP_", ports._SOCKET_OPERATIONS),
    "virtio_mem.h": ("VIRTIO_MEM_REQ_", ram._MEM_TYPES),
    "virtio_iommu.h": ("VIRTIO_IOMMU_T_", ram._IOMMU_TYPES),
    "virtio_snd.h": ("VIRTIO_SND_R_", sound._CODES),
    "virtio_crypto.h": (
        "VIRTIO_CRYPTO_",
        {**crypto._CONTROL_OPCODES, **crypto._DATA_OPCODES},
    ),
    "virtio_console.h": ("VIRTIO_CONSOLE_", ports._CONSOLE_EVENTS),
}

AT_LEAST = {"fuse.h": 45, "virtio_gpu.h": 24, "virtio_snd.h": 8, "virtio_crypto.h": 12}
"""How many names of a table the header of Debian 12's kernel has, where it has not all of them."""


@pytest.mark.parametrize("name", TABLES)
def test_names_are_those_of_linux(name: str, tmp_path: Path) -> None:
    header = HEADERS / name
    if not header.exists() or shutil.which("gcc") is None:
        pytest.skip("needs gcc and linux-libc-dev")
    text = header.read_text(encoding="utf-8")
    prefix, table = TABLES[name]
    known = {
        number: prefix + word.upper().replace("-", "_")
        for number, word in table.items()
        if re.search(rf"\b{prefix}{word.upper().replace('-', '_')}\b", text)
    }
    assert len(known) >= AT_LEAST.get(name, len(table) - 2)
    printed = "".join(f'printf("%d\\n", (int){each});' for each in known.values())
    source = tmp_path / "numbers.c"
    source.write_text(
        f"#include <stdio.h>\n#include <linux/types.h>\n#include <linux/{name}>\n"
        f"int main(void) {{ {printed} return 0; }}\n"
    )
    program = tmp_path / "numbers"
    subprocess.run(["gcc", "-o", str(program), str(source)], check=True)
    said = subprocess.run([str(program)], check=True, capture_output=True, text=True)
    assert [int(line) for line in said.stdout.split()] == list(known)


def test_every_kind_that_is_built_is_named() -> None:
    assert all(re.fullmatch(r"[A-Za-z0-9() -]+", kind.operation) for kind in KINDS)
