"""Mistakes and bad files: one sentence, the exit code as documented, never a traceback."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest

from tests.cli.command import ROOT, vringcore
from vringcore.cli import main as command_line

CORE = str(ROOT / "tests" / "dumps" / "10.0" / "stuck" / "core.zst")
VERBS_ON_CORES = ("devices", "queues", "ring", "requests")


def check(run: subprocess.CompletedProcess[str], code: int, *parts: str) -> None:
    """Check that a run ended with ``code`` and one sentence that holds ``parts``."""
    assert run.returncode == code, run.stderr
    assert "Traceback" not in run.stderr
    assert run.stderr.startswith("vringcore: error: ")
    assert len(run.stderr.splitlines()) == 1
    for part in parts:
        assert part in run.stderr


@pytest.fixture
def bad_files(tmp_path: Path) -> dict[str, Path]:
    files = {
        "empty": b"",
        "text": b"this is no core\n" * 100,
        "short": b"\x7fELF",
        "zeros": bytes(4096),
        "not gzip": b"\x1f\x8b\x08" + bytes(100),
    }
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    return {name: tmp_path / name for name in files}


@pytest.mark.parametrize("verb", VERBS_ON_CORES)
def test_no_such_file(verb: str) -> None:
    check(vringcore(verb, "/nonexistent/core"), 3, "/nonexistent/core")


@pytest.mark.parametrize("name", ["empty", "text", "short", "zeros", "not gzip"])
def test_not_a_core(bad_files: dict[str, Path], name: str) -> None:
    check(vringcore("queues", str(bad_files[name])), 3, name)


def test_a_directory_is_no_core(tmp_path: Path) -> None:
    check(vringcore("queues", str(tmp_path)), 3, str(tmp_path))


def test_an_executable_is_no_core() -> None:
    check(vringcore("queues", str(Path(sys.executable).resolve())), 3, "core")


def test_a_forgotten_verb_is_noticed(bad_files: dict[str, Path]) -> None:
    path = str(bad_files["text"])
    check(vringcore(path), 2, f"vringcore queues {path}")


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["qeues", "core"], "qeues"),
        (["queues"], "CORE"),
        (["--json", "queues", "core"], "before the verb: saw --json"),
        (["queues", "core", "--queue", "x"], "--queue"),
        (["queues", "core", "--max-unpacked", "12Q"], "--max-unpacked"),
        (["queues", "core", "--nonsense"], "--nonsense"),
        (["queues", "core", "--color", "pink"], "pink"),
    ],
)
def test_wrong_usage(words: list[str], part: str) -> None:
    check(vringcore(*words), 2, part, "--help")


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["queues", CORE, "--queue", "x"], ["'x' is no whole number"]),
        (["queues", CORE, "--member", "x"], ["is no archive", "the bytes 28 b5 2f fd"]),
        (["scan", CORE, "--tables", "rings"], ["no such table: saw rings", "devices, queues"]),
        (["scan", CORE, "--dask", "nowhere"], ["scheduler", "nowhere", "tcp://"]),
        (["slim", CORE, "-o", "unused", "--include", "0x50-0x10"], ["saw 0x50-0x10", "START-END"]),
    ],
)
def test_wrong_values(words: list[str], parts: list[str]) -> None:
    if "--dask" in words:
        pytest.importorskip("distributed")
    check(vringcore(*words), 2, *parts)


@pytest.mark.parametrize("words", [("layout", "show"), ("queues", CORE, "--layout")])
def test_a_text_is_no_layout(bad_files: dict[str, Path], words: tuple[str, ...]) -> None:
    path = str(bad_files["text"])
    check(vringcore(*words, path), 3, path, "neither a layout bundle nor a layout pack")


@pytest.mark.parametrize(
    ("words", "code"), [(["queues", "/nonexistent/core"], "file"), (["queues"], "usage")]
)
def test_errors_as_json(words: list[str], code: str) -> None:
    run = vringcore(*words, "--json")
    document = json.loads(run.stdout)
    schema = json.loads((ROOT / "schemas" / "error-1.json").read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator(schema).validate(document)
    assert document["error"]["code"] == code
    assert document["error"]["message"] in run.stderr
    check(run, run.returncode)


@pytest.mark.skipif(sys.platform != "linux", reason="names are text there")
def test_a_name_that_is_no_utf8(tmp_path: Path) -> None:
    """It is shown with its bytes escaped, by answers and by errors, and nothing fails for it."""
    name = os.fsdecode(bytes(tmp_path) + b"/core\xff")
    missing = vringcore("why", name, "--json")
    assert missing.returncode == 3
    assert json.loads(missing.stdout)["error"]["where"] == str(tmp_path / r"core\udcff")
    Path(name).write_bytes(Path(CORE).read_bytes())
    for words in (["why"], ["queues"], ["backtrace"]):
        answer = vringcore(*words, name, "--json")
        assert json.loads(answer.stdout)["core"]["path"] == str(tmp_path / r"core\udcff")
        assert r"/core\udcff: QEMU" in vringcore(*words, name).stdout


def test_control_characters_in_a_name_do_not_reach_the_terminal() -> None:
    run = vringcore("queues", "/nonexistent/\x1b[31mred")
    assert "\x1b" not in run.stderr
    assert "red" in run.stderr


def test_an_unexpected_exception_is_called_a_bug(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from vringcore.cli import queues

    def fail(_: object) -> int:
        raise ZeroDivisionError("division by zero")

    monkeypatch.setattr(queues, "run", fail)
    assert command_line.main(["queues", "core"]) == 1
    said = capsys.readouterr().err
    assert "this is a bug in vringcore" in said
    assert "Traceback" not in said
    assert command_line.main(["queues", "core", "-v"]) == 1
    assert "Traceback" in capsys.readouterr().err


@pytest.mark.parametrize("words", ["--help", "queues --help"])
def test_a_closed_pipe_is_no_error(words: str) -> None:
    """``vringcore --help | true``: the reader goes away before anything was written."""
    command = f"{sys.executable} -m vringcore {words} | true; exit ${{PIPESTATUS[0]}}"
    run = subprocess.run(
        ["bash", "-c", command], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert (run.returncode, run.stderr) == (0, "")


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize(
    "words", ["queues /nonexistent/core --json", "", "--help", "queues --help", "--version"]
)
def test_a_full_disk_is_an_error(words: str, unbuffered: str) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full")
    command = f"PYTHONUNBUFFERED={unbuffered} {sys.executable} -m vringcore {words} > /dev/full"
    run = subprocess.run(
        ["bash", "-c", command], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert run.returncode == 3
    assert "the output cannot be written: saw No space left on device" in run.stderr
    assert "Traceback" not in run.stderr
