"""No secret of a command line survives, and nothing else is lost."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vringcore.qemu.redact import REDACTED, redact, redact_words

CANARY = "cAnArY7f3a"


def _kv(text: str) -> str:
    return text.replace(",", ",,")


def _url(text: str) -> str:
    return "".join(c if c.isalnum() else f"%{ord(c) % 256:02x}" for c in text)


def _rbd(text: str) -> str:
    return _kv(text.replace("\\", "\\\\").replace(":", "\\:"))


def _quoted(text: str) -> str:
    return text.replace('"', "'")


FORMS: dict[str, Callable[[str], list[str]]] = {
    "secret object": lambda s: ["-object", f"secret,id=sec0,data={_kv(s)}"],
    "secret object, data first": lambda s: ["--object", f"secret,data={_kv(s)},id=sec0,format=raw"],
    "secret object, named type": lambda s: ["-object", f"qom-type=secret,data={_kv(s)},id=a"],
    "secret object, JSON": lambda s: [
        "-object",
        json.dumps({"qom-type": "secret", "id": "sec0", "data": s}),
    ],
    "JSON that is damaged": lambda s: ["-object", f'{{"qom-type": "secret", "data": "{s}'],
    "JSON with single quotes": lambda s: ["-object", f"{{'data': '{s}'}}"],
    "set": lambda s: ["-set", f"object.sec0.data={s}"],
    "spice": lambda s: ["-spice", f"port=5900,password={_kv(s)},addr=0.0.0.0"],
    "spice key": lambda s: ["-spice", f"x509-key-password={_kv(s)}"],
    "vnc": lambda s: ["-vnc", f":0,password={CANARY}{_kv(s)}"],
    "iscsi": lambda s: ["-iscsi", f"initiator-name=iqn.a:b,user=me,password={_kv(s)}"],
    "iscsi URL": lambda s: ["-drive", f"file=iscsi://me%{_url(s)}@host/iqn.a/1,if=none,id=d"],
    "iscsi URL, password of any form": lambda s: ["-drive", f"file=iscsi://me%a:{_url(s)}@h/i/1"],
    "URL": lambda s: ["-drive", f"if=none,file=ssh://me:{_url(s)}@host/disk,id=d"],
    "bare URL": lambda s: [f"https://me:{_url(s)}@host/disk"],
    "web token": lambda s: ["-hda", f"https://{_url(s)}@host/disk"],
    "web query": lambda s: ["-cdrom", f"https://host/a.iso?name=b&token={_url(s)}"],
    "rbd": lambda s: ["-drive", f"file=rbd:pool/disk:id=admin:key={_rbd(s)}:mon_host=a\\:1,id=d"],
    "curl cookie": lambda s: ["-blockdev", f"driver=https,node-name=a,cookie={_kv(s)}"],
    "dotted": lambda s: ["-drive", f"file.driver=iscsi,file.password={_kv(s)}"],
    "blockdev JSON": lambda s: [
        "-blockdev",
        json.dumps({"driver": "raw", "file": {"driver": "https", "cookie": s, "node-name": "n"}}),
    ],
    "JSON with a URL": lambda s: [
        "-blockdev",
        json.dumps({"driver": "https", "url": f"https://me:{_url(s)}@host/"}),
    ],
    "json: file": lambda s: [
        "-drive",
        "file=json:" + _kv(json.dumps({"file.password": s, "driver": "iscsi"})) + ",id=d",
    ],
    "json: inside JSON": lambda s: [
        "-blockdev",
        json.dumps({"filename": "json:" + json.dumps({"password": s})}),
    ],
    "fw_cfg": lambda s: ["-fw_cfg", f"name=opt/org.example/x,string={_kv(s)}"],
    "systemd credential": lambda s: [
        "-smbios",
        f"type=11,value=io.systemd.credential.binary:pw={_kv(s)}",
    ],
    "kernel": lambda s: ["-append", f'quiet db.password="{_quoted(s)}" console=ttyS0'],
    "kernel, whole word quoted": lambda s: ["-append", f'"api_token={_quoted(s)}"'],
    "kernel key": lambda s: ["-append", f'luks.key="{_quoted(s)}"'],
    "kernel sublist": lambda s: ["-append", f"rootflags=user=me,password={s.replace(' ', '')}"],
    "kernel netroot": lambda s: ["-append", f"netroot=iscsi:me:{_url(s)}@10.0.0.1::3260::iqn.a"],
    "machine append": lambda s: ["-machine", f'q35,append=token="{_kv(_quoted(s))}"'],
    "global": lambda s: ["-global", f"driver=x,property=password,value={_kv(s)}"],
    "short global": lambda s: ["-global", f"x.password={_kv(s)}"],
    "applesmc": lambda s: ["-device", f"isa-applesmc,osk={_kv(s)}"],
    "a fork's option": lambda s: ["-vendor-passphrase", s],
    "incoming command": lambda s: ["-incoming", f"exec:curl -u me:{s} x"],
    "incoming command, JSON": lambda s: [
        "-incoming",
        json.dumps({"addr": {"transport": "exec", "args": ["sh", "-c", s]}}),
    ],
    "guest forward": lambda s: ["-netdev", f"user,id=n,guestfwd=tcp:10.0.2.9:1-cmd:x {_kv(s)}"],
}

KEPT = [
    ["/usr/bin/qemu-system-x86_64", "-nodefaults", "-m", "256", "-name", "guest=a,,b,process=p"],
    ["-object", "tls-creds-x509,id=t,dir=/etc/pki,passwordid=sec0"],
    ["-object", "secret,id=sec0,file=/run/secret,keyid=master,iv=AAAA,format=base64"],
    ["-blockdev", "driver=luks,key-secret=sec0,node-name=n,file=m"],
    ["-blockdev", '{"driver":"iscsi","password-secret":"sec0","lun":1,"read-only":true}'],
    ["-vnc", ":0,password=on,tls-creds=t"],
    ["-vnc", ":0,password"],
    ["-spice", "port=5900,password-secret=sec0,x509-key-file=/etc/key.pem"],
    ["-drive", "file=ssh://me@host/disk,if=none,serial=a@b"],
    ["-drive", "file=nbd://host:10809/export@1,if=none"],
    ["-drive", "file=rbd:pool/disk:id=admin:conf=/etc/ceph.conf:mon_host=a\\:6789\\;b,id=d"],
    ["-append", "console=ttyS0 root=UUID=1234-ab quiet  panic=-1"],
    ["-smbios", "type=1,serial=ABC,uuid=6c61622d"],
    ["-smbios", "type=11,value=hello"],
    ["-acpitable", "sig=FACP,data=/a:/b"],
    ["-fw_cfg", "name=opt/x,file=/tmp/x"],
    ["-device", "virtio-blk-pci,id=disk0,drive=nbd0,serial=LABSERIAL0"],
    ["-kernel", "/boot/vmlinuz=1", ""],
]  # fmt: skip

secrets = st.text(
    st.characters(min_codepoint=32, max_codepoint=0x2FF, exclude_categories=("Cs", "Cc")),
    max_size=12,
)


@pytest.mark.parametrize("form", FORMS)
@given(before=secrets, after=secrets, others=st.lists(st.sampled_from(KEPT), max_size=3))
def test_a_secret_never_survives(
    form: str, before: str, after: str, others: list[list[str]]
) -> None:
    argv = [word for other in others for word in other] + FORMS[form](before + CANARY + after)
    hidden = redact(argv)
    assert CANARY in "\0".join(argv)
    assert CANARY not in "\0".join(hidden)
    assert REDACTED in "\0".join(hidden)
    assert len(hidden) == len(argv)
    assert redact(hidden) == hidden


@pytest.mark.parametrize("form", FORMS)
@given(before=secrets, after=secrets)
def test_a_secret_never_survives_in_a_joined_line(form: str, before: str, after: str) -> None:
    line = " ".join(["qemu", *FORMS[form](before + CANARY + after), "-m", "256"])
    for length in range(len(line) + 1):
        assert CANARY not in redact_words(line[:length])


@pytest.mark.parametrize("argv", KEPT, ids=" ".join)
def test_what_is_no_secret_is_kept(argv: list[str]) -> None:
    assert redact(argv) == tuple(argv)


def test_what_lies_beside_a_secret_is_kept() -> None:
    assert redact(["-drive", "file=ssh://me:pw@host/disk,if=none,id=d"])[1] == (
        f"file=ssh://me:{REDACTED}@host/disk,if=none,id=d"
    )
    assert redact(["-object", "secret,id=sec0,data=a,,b,format=raw"])[1] == (
        f"secret,id=sec0,data={REDACTED},format=raw"
    )
    assert redact(["-append", "quiet token=x root=/dev/vda"])[1] == (
        f"quiet token={REDACTED} root=/dev/vda"
    )
    assert redact(["-drive", "file=https://host/a?token=b,if=none,id=d"])[1] == (
        f"file=https://host/a?token={REDACTED},if=none,id=d"
    )


def test_json_with_a_name_given_twice_shows_the_last() -> None:
    text = f'{{"id":{{"data":"{CANARY}"}},"id":"a"}}'
    assert redact(["-object", text])[1] == '{"id":"a"}'


def test_a_joined_line_ends_at_what_could_be_secret() -> None:
    assert redact_words("qemu -append quiet splash -m 256") == f"qemu -append {REDACTED}"
    assert redact_words("qemu -hda ssh://me:pass") == f"qemu -hda {REDACTED}"
    assert redact_words("qemu -object secret,data=a b") == f"qemu -object {REDACTED}"
    assert redact_words("qemu -name a -m 256") == "qemu -name a -m 256"


@given(st.lists(st.text(max_size=80), max_size=6))
def test_any_arguments_are_taken(argv: list[str]) -> None:
    assert len(redact(argv)) == len(argv)
