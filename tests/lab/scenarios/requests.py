"""Requests of several kinds of devices, each held by what is behind its device."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

from tests.lab.machine import GuestError
from tests.lab.nbd import NbdServer
from tests.lab.processes import Children
from tests.lab.scenario import Device, Scenario
from tests.lab.scenarios.parts import MEMORY_SERVER, Q35, nbd_node, ready
from tests.lab.session import Session

_NET = Device("net0", "virtio-net", "00:06.0")
_SERIAL = Device("serial0", "virtio-serial", "00:07.0")
_SCSI = Device("scsi0", "virtio-scsi", "00:05.0", queues=3)
_BALLOON = Device("balloon0", "virtio-balloon", "00:09.0")

_PEER_ADDRESS = "52:55:0a:00:02:02"
_NET_TX, _PORT_TX, _SCSI_COMMANDS = 1, 5, 2

_ARGUMENTS = (
    *Q35,
    *nbd_node("nbd0", "server0"),
    *("-device", "virtio-scsi-pci,id=scsi0,num_queues=1,addr=5"),
    *("-device", "scsi-hd,id=sd0,bus=scsi0.0,drive=nbd0,serial=HELDSCSI"),
    *("-netdev", "stream,id=peer0,addr.type=unix,addr.path={directory}/net"),
    *("-device", "virtio-net-pci,id=net0,netdev=peer0,romfile=,addr=6"),
    *("-chardev", "socket,id=out0,path={directory}/port"),
    *("-device", "virtio-serial-pci,id=serial0,max_ports=4,addr=7"),
    *("-device", "virtserialport,id=port1,bus=serial0.0,nr=1,chardev=out0,name=lab"),
    *("-device", "virtio-balloon-pci,id=balloon0,addr=9"),
)

_SCRIPT = f"""
ifconfig eth0 10.0.2.15 netmask 255.255.255.0 up
arp -s 10.0.2.2 {_PEER_ADDRESS}
{ready()}
sleep 5
yes > "$(echo /dev/vport*p1)" &
for sender in 1 2 3 4; do ping -s 60000 10.0.2.2 >/dev/null 2>&1 & done
for reader in 1 2 3; do
  while :; do
    dd if=/dev/sda of=/dev/null bs=16k skip=$((reader * 1000)) count=200 iflag=direct 2>/dev/null
  done &
done
while :; do dd if=/dev/zero of=/dev/sda bs=4k seek=9000 count=200 oflag=direct 2>/dev/null; done &
"""


def _listen(directory: Path, _servers: list[NbdServer], _children: Children) -> None:
    """Somebody is at the other end of each socket, and reads nothing."""
    for name in ("net", "port"):
        end = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        end.bind(str(directory / name))
        end.listen()
        _OPEN.append(end)


def _hold(session: Session) -> None:
    session.wait_until(lambda: bool(_in_use(session, _NET, _NET_TX)), "a packet is held")
    session.wait_until(lambda: bool(_in_use(session, _SERIAL, _PORT_TX)), "output is held")
    session.servers["server0"].stop()
    session.wait_until(lambda: bool(_in_use(session, _SCSI, _SCSI_COMMANDS)), "commands are held")
    session.settle()
    session.ask()


_OPEN: list[socket.socket] = []
"""The unread ends: open until the driver's process ends, so that QEMU sees none of them close."""


def _in_use(session: Session, device: Device, queue: int) -> int:
    return session.in_use(device.id).get(queue, 0)


def _check(truth: Any, servers: Any) -> None:
    held = {
        (device["id"], queue["fields"]["queue_index"])
        for device in truth["devices"]
        for queue in device["queues"]
        if queue["fields"]["inuse"]
    }
    wanted = {
        ("net0", _NET_TX),
        ("serial0", _PORT_TX),
        ("scsi0", _SCSI_COMMANDS),
    }
    if not wanted <= held:
        raise GuestError(f"in use are only {sorted(held)}")


HELD_DEVICES = Scenario(
    name="held-devices",
    summary="requests of a network card, a serial port and a SCSI host, held",
    arguments=_ARGUMENTS,
    script=_SCRIPT,
    devices=(_SCSI, _NET, _SERIAL, _BALLOON),
    servers=(MEMORY_SERVER,),
    prepare=_listen,
    incident=_hold,
    check=_check,
)
