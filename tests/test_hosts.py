"""A core is read on any analysis host: Linux, macOS, Windows, in any locale.

What Linux alone has is taken away in a process of its own, and a small core is read without it.
"""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.command import ROOT
from vringcore.debuginfo.find import find_executable

DUMP = ROOT / "tests" / "dumps" / "7.2" / "stuck-migration" / "core.zst"
PACKAGE = ROOT / "vringcore"

WITHOUT_UNIX = """
import builtins, collections, os, shutil, sys, tempfile
usage = collections.namedtuple("usage", "total used free")
shutil.disk_usage = lambda path: usage(1 << 40, 0, 1 << 40)  # not by statvfs
tempfile.TemporaryFile = tempfile.NamedTemporaryFile  # as there
GONE = {"fcntl", "resource", "pwd", "grp", "termios", "mmap", "posix", "syslog", "readline", "tty"}
kept = builtins.__import__
def import_(name, *rest, **more):
    if name.partition(".")[0] in GONE and "vringcore" in sys._getframe(1).f_globals["__name__"]:
        raise ImportError(name)
    return kept(name, *rest, **more)
builtins.__import__ = import_
for name in ("pread", "pwrite", "preadv", "statvfs", "fstatvfs", "geteuid", "getuid", "O_NONBLOCK",
             "O_CLOEXEC", "O_NOCTTY", "O_DIRECTORY", "O_TMPFILE", "O_NOFOLLOW", "fchmod", "fork",
             "kill", "sched_getaffinity", "uname"):
    if hasattr(os, name):
        delattr(os, name)
"""
"""Windows has none of these; what the standard library itself needs of them stays."""

WINDOWS = (
    "import os"
    + WITHOUT_UNIX
    + """
import ctypes, decimal, multiprocessing.context, signal, subprocess
for name in ("SIGTSTP", "SIGTTIN", "SIGTTOU", "SIGKILL", "SIGSTOP", "SIGCHLD", "SIGPIPE"):
    delattr(signal, name)
load = ctypes.CDLL
def only_named(name, *rest, **more):
    if name is None:
        raise TypeError("no library's name")
    return load(name, *rest, **more)
ctypes.CDLL = only_named
sys.platform = "win32"
from vringcore.cli.main import main
sys.exit(main(sys.argv[1:]))
"""
)
"""Also without the signals of job control and the process's own symbols."""

READ = """
import json, vringcore
from vringcore.model.values import encode
with vringcore.open_core(sys.argv[1], sysroot=sys.argv[2]) as core:
    report = core.why()
    print(encode(report).decode())
"""


def run(code: str, *words: str, **environment: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, "-c", code, *words],
        cwd=ROOT, env=os.environ | environment, capture_output=True, timeout=120, check=False,
    )  # fmt: skip


def verb(*words: str, **environment: str) -> subprocess.CompletedProcess[bytes]:
    call = "from vringcore.cli.entry import entry; entry()"
    return run(call, *words, **environment)


def test_a_core_is_read_without_what_only_unix_has(tmp_path: Path) -> None:
    whole = run("import sys" + READ, str(DUMP), str(tmp_path))
    less = run(WITHOUT_UNIX + READ, str(DUMP), str(tmp_path))
    assert less.returncode == 0, less.stderr.decode()
    assert json.loads(less.stdout) == json.loads(whole.stdout)
    assert json.loads(less.stdout)["verdict"]["state"] != "unknown"


@pytest.mark.parametrize("name", ["why", "queues", "devices", "ring", "precheck", "backtrace"])
def test_verbs_run_without_what_only_unix_has(tmp_path: Path, name: str) -> None:
    more = ["--device", "0", "--queue", "0"] if name == "ring" else []
    code = WITHOUT_UNIX + "\nfrom vringcore.cli.main import main; sys.exit(main(sys.argv[1:]))"
    said = run(code, name, str(DUMP), "--sysroot", str(tmp_path), *more)
    assert said.returncode in (0, 4, 5), said.stderr.decode()
    assert said.stdout


@pytest.mark.parametrize(
    "words",
    [
        ["block", str(DUMP)],
        ["loops", str(DUMP)],
        ["backtrace", str(DUMP), "--coroutines"],
        ["memory", "regions", str(DUMP)],
        ["print", str(DUMP), "current_machine"],
        ["slim", str(DUMP), "-o", "small.zst"],
    ],
    ids=lambda words: words[0],
)
def test_more_verbs_run_on_windows(tmp_path: Path, words: list[str]) -> None:
    words = [str(tmp_path / word) if word == "small.zst" else word for word in words]
    said = run(WINDOWS, *words, "--sysroot", str(tmp_path))
    assert said.returncode == 0, said.stderr.decode()
    assert said.stdout


@pytest.mark.parametrize("words", [["precheck", "--pid"], ["capture", "--plan"]], ids="-".join)
def test_processes_are_refused_by_name_elsewhere(words: list[str]) -> None:
    said = run(WINDOWS, *words, str(os.getpid()))
    assert said.returncode == 3
    assert b"on Linux only: saw win32" in said.stderr


@pytest.mark.parametrize("name", ["why", "queues", "backtrace", "requests", "precheck"])
@pytest.mark.parametrize(
    "environment",
    [
        {"PYTHONIOENCODING": "cp1252", "PYTHONUTF8": "0"},
        {"PYTHONIOENCODING": "cp932", "PYTHONUTF8": "0"},
        {"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"},
        {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
        {"LC_ALL": "C", "PYTHONIOENCODING": "cp1252", "TERM": "dumb", "COLUMNS": "60"},
    ],
    ids=lambda environment: "-".join(environment.values()),
)
def test_no_encoding_of_a_terminal_is_too_poor(
    tmp_path: Path, name: str, environment: dict[str, str]
) -> None:
    said = verb(name, str(DUMP), "--sysroot", str(tmp_path), **environment)
    assert said.returncode in (0, 4, 5), said.stderr.decode("utf-8", "replace")
    assert b"UnicodeEncodeError" not in said.stderr
    assert b"bug in vringcore" not in said.stderr


@pytest.mark.parametrize("encoding", ["cp1252", "ascii", "utf-8"])
def test_errors_with_any_name_can_be_said(encoding: str) -> None:
    said = verb("why", "kern-\u732b-\udcff-core", PYTHONIOENCODING=encoding, PYTHONUTF8="0")
    assert said.returncode == 3, said.stderr
    assert b"cannot be opened" in said.stderr


# Paths of the core are those of Linux


@pytest.mark.parametrize("path", ["//server/share/qemu", "\\\\server\\share\\qemu", "C:\\qemu", ""])
def test_a_core_cannot_make_a_host_ask_another(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    kept = os.path.exists

    def exists(name: str) -> bool:
        asked.append(str(name))
        return kept(name)

    monkeypatch.setattr(os.path, "exists", exists)
    found = find_executable("00" * 20, path, beside="/nowhere")
    assert found.path == ""
    assert not [name for name in asked if name.startswith(("//", "\\\\"))]


# What the code itself must keep to


def opens_text(call: ast.Call) -> bool:
    """Tell whether a call opens a file as text."""
    match call.func:
        case ast.Name(id="open"):
            modes = [each.value for each in call.args[1:2] if isinstance(each, ast.Constant)]
            return not any("b" in str(mode) for mode in modes)
        case ast.Attribute(attr="read_text" | "write_text"):
            return True
    return False


def test_every_text_file_is_opened_with_its_encoding() -> None:
    wrong = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path in PACKAGE.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call)
        and opens_text(node)
        and not any(each.arg == "encoding" for each in node.keywords)
    ]
    assert not wrong


def test_only_what_reads_processes_imports_what_linux_alone_has() -> None:
    """At the top of a module; elsewhere within a function, where it is known to be there."""
    unix = {"fcntl", "resource", "pwd", "grp", "termios", "posix"}
    wrong = []
    for path in PACKAGE.rglob("*.py"):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            names = [alias.name for alias in getattr(node, "names", [])]
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            if isinstance(node, ast.Import | ast.ImportFrom) and unix & set(names):
                wrong.append(f"{path.relative_to(ROOT)}:{node.lineno}")
    assert not wrong


def test_no_name_of_a_file_needs_a_colon_or_its_case() -> None:
    """Windows has no colons in names; its file systems and those of macOS mix cases up."""
    tracked = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False
    ).stdout.split("\n")
    if not any(tracked):
        pytest.skip("not a checkout")
    assert not [name for name in tracked if set(name) & set(':<>"|?*\\')]
    assert len({name.lower() for name in tracked}) == len(set(tracked))
