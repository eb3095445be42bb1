"""No secret of a command line is left in what is given away, and reports stay the same."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vringcore.qemu.redact import redact
from vringcore.slim.scrub import MASK, Scrubber, environment_values, secrets_of

SECRET = "hunter2-hunter2"

COMMAND_LINES = (
    ("qemu", "-object", f"secret,id=sec0,data={SECRET}"),
    ("qemu", "-object", f"secret,data={SECRET},id=sec0"),
    ("qemu", "-vnc", f":1,password={SECRET}"),
    ("qemu", "-drive", f"file=rbd:pool/image:id=admin:key={SECRET}:mon_host=a"),
    ("qemu", "-drive", f"file=http://user:{SECRET}@host/disk.img,if=virtio"),
    ("qemu", "-blockdev", f'{{"driver":"ssh","password":"{SECRET}","host":"h"}}'),
    ("qemu", "-blockdev", f'{{"driver":"raw","file":{{"filename":"iscsi://u%{SECRET}@h/t/0"}}}}'),
    ("qemu", "-append", f"root=/dev/vda rd.password={SECRET} quiet"),
    ("qemu", "-incoming", f"exec:curl -u me:{SECRET} http://x"),
    ("qemu", "-device", f"isa-applesmc,osk={SECRET}"),
    ("qemu", "-drive", f'file=json:{{"driver":"nbd",,"password":"{SECRET}"}}'),
)


@pytest.mark.parametrize("argv", COMMAND_LINES, ids=lambda argv: argv[2][:24])
def test_a_secret_is_found_wherever_redaction_hides_it(argv: tuple[str, ...]) -> None:
    assert SECRET not in " ".join(redact(argv))
    scrub = Scrubber(secrets_of(argv))
    memory = b"\0before " + SECRET.encode() + b" after\0" + argv[2].encode()
    clean = scrub(memory)
    assert SECRET.encode() not in clean
    assert len(clean) == len(memory)
    assert scrub.masked >= 1


@pytest.mark.parametrize("argv", COMMAND_LINES, ids=lambda argv: argv[2][:24])
def test_what_was_scrubbed_is_redacted_to_the_same_text(argv: tuple[str, ...]) -> None:
    scrub = Scrubber(secrets_of(argv))
    masked = tuple(scrub(word.encode()).decode() for word in argv)
    assert redact(masked) == redact(argv)
    assert redact(redact(argv)) == redact(argv)


def test_a_json_secret_is_found_in_both_spellings() -> None:
    secret = 'a"b\\c-secret'
    argv = ("qemu", "-blockdev", '{"driver":"ssh","password":"a\\"b\\\\c-secret"}')
    scrub = Scrubber(secrets_of(argv))
    assert scrub(secret.encode()) == MASK * len(secret)
    assert b"c-secret" not in scrub(argv[2].encode())


def test_short_words_and_plain_options_stay() -> None:
    argv = ("qemu", "-vnc", ":1,password=on", "-name", "guest=web1", "-m", "4096")
    assert secrets_of(argv) == ()
    assert Scrubber(secrets_of(argv))(b"on web1 4096") == b"on web1 4096"


@given(st.lists(st.text("abcdef0123456789", min_size=6, max_size=12), max_size=4), st.binary())
def test_scrubbing_changes_secrets_and_no_other_byte(secrets: list[str], data: bytes) -> None:
    scrub = Scrubber(sorted(secrets, key=lambda s: (-len(s), s)))
    whole = data + "".join(secrets).encode() + data
    clean = scrub(whole)
    assert len(clean) == len(whole)
    assert not any(secret.encode() in clean for secret in secrets)
    assert all(a == b or b == MASK[0] for a, b in zip(whole, clean, strict=True))


def test_of_the_environment_what_the_command_line_says_too_is_no_secret() -> None:
    strings = [b"TOKEN=very-secret-token", b"HOME=/root", b"DISK=/images/disk.img", b"PATH=/bin:/x"]
    values = environment_values(strings, ("qemu", "-drive", "file=/images/disk.img"))
    assert values == ["very-secret-token"]
