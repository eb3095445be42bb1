"""The process of the command line: what it imports before it does anything."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.command import ROOT, vringcore

ENTRY = "from vringcore.cli.entry import entry; entry()"


def test_what_msgspec_can_do_without_is_not_imported(tmp_path: Path) -> None:
    """Other packages bring ``typing_extensions`` into an environment; a run must not pay for it."""
    (tmp_path / "typing_extensions.py").write_text("raise SystemExit('imported')\n")
    said = vringcore("devices", "/nowhere/core", PYTHONPATH=str(tmp_path))
    assert (said.returncode, said.stdout) == (3, "")
    assert "/nowhere/core" in said.stderr


def python(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return done.stdout


def test_stand_ins_are_gone_after_the_imports() -> None:
    said = python(
        "from vringcore.cli.startup import import_lightly; import_lightly()\n"
        "import sys, uuid, decimal, gettext, textwrap\n"
        "print(uuid.UUID(int=1), decimal.Decimal('0.1') + 1, gettext.gettext('x'),"
        " textwrap.dedent('  y'))\n"
        "print('typing_extensions' in sys.modules and sys.modules['typing_extensions'])"
    )
    assert said.split("\n")[:2] == [
        "00000000-0000-0000-0000-000000000001 1.1 x y",
        "False",
    ]


def test_what_is_held_back_is_not_imported_unasked() -> None:
    said = python(
        "from vringcore.cli.startup import import_lightly; import_lightly()\n"
        "import sys\n"
        "names = 'uuid decimal datetime textwrap gettext locale msgspec.inspect msgspec.yaml'\n"
        "print([name for name in names.split() if name in sys.modules])"
    )
    assert said == "[]\n"


def test_a_stand_in_has_what_it_stands_for() -> None:
    said = python(
        "import sys; from vringcore.cli.startup import StandIn\n"
        "sys.modules['textwrap'] = StandIn('textwrap', dedent=str)\n"
        "import textwrap\n"
        "print(textwrap.dedent(' a'), textwrap.shorten('b c d', 3, placeholder=''),"
        " type(textwrap).__name__)"
    )
    assert said == " a b c StandIn\n"


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("msgspec.json.schema(list[int])", "'type': 'integer'"),
        ("msgspec.json.schema_components([int])", "'type': 'integer'"),
        ("msgspec.inspect.type_info(list[int])", "ListType(item_type=IntType"),
        ("msgspec.toml.encode, msgspec.yaml.encode", "function encode"),
        ("msgspec.json.encode(datetime.datetime(2026, 1, 2))", "2026-01-02T00:00:00"),
        ("datetime.datetime.__module__, datetime.sys.maxsize > 0", "datetime True"),
    ],
)
def test_what_was_held_back_is_there_when_it_is_asked_for(expression: str, expected: str) -> None:
    said = python(
        "from vringcore.cli.startup import import_lightly; import_lightly()\n"
        f"import datetime, msgspec; print({expression})"
    )
    assert expected in said


@pytest.mark.parametrize("verb", ["queues", "devices"])
def test_the_words_of_argparse_are_not_translated(verb: str) -> None:
    """Half a message in another language helps nobody."""
    said = vringcore(verb, "--member", LANGUAGE="de", LC_ALL="de_DE.UTF-8")
    assert said.returncode == 2
    assert "expected one argument" in said.stderr


def test_the_exit_code_tells_where_no_error_can_be_written() -> None:
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full")
    command = f"exec {sys.executable} -c '{ENTRY}' queues 2>/dev/full"
    done = subprocess.run(["/bin/sh", "-c", command], cwd=ROOT, check=False)
    assert done.returncode == 2


def test_a_closed_output_is_no_bug() -> None:
    """As of ``vringcore why CORE >&-`` in a script that wants the exit code alone."""
    core = ROOT / "tests" / "dumps" / "10.0" / "stuck" / "core.zst"
    command = f"exec {sys.executable} -c '{ENTRY}' why {core} --no-cache >&- 2>&-"
    done = subprocess.run(["/bin/sh", "-c", command], cwd=ROOT, check=False)
    assert done.returncode == 5
