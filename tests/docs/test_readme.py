"""What the README says is done as it says it.

To renew the demo's output in it: ``VRINGCORE_RENEW_GOLDEN=1 pytest tests/docs/test_readme.py``.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cores import cores
from tests.lab.cases import CoreCase

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()


def test_every_link_leads_to_a_file() -> None:
    links = re.findall(r"\]\(([^)#]+)\)", README)
    assert links
    for link in links:
        assert (ROOT / link).exists(), link


def test_the_index_names_every_page() -> None:
    docs = ROOT / "docs"
    named = set(
        re.findall(r"^- \[[^]]+\]\(([^)]+)\): ", (docs / "README.md").read_text(), re.MULTILINE)
    )
    pages = {page.name for page in docs.glob("*.md")} - {"README.md"}
    assert named == pages | {"findings/README.md"}


def test_the_table_has_every_verb() -> None:
    from vringcore.cli.main import VERBS

    assert set(re.findall(r"^\| `vringcore (\w+)", README, re.MULTILINE)) == set(VERBS)


def test_every_verb_of_the_table_is_there() -> None:
    for verb in re.findall(r"^\| `vringcore (\w+)", README, re.MULTILINE):
        done = subprocess.run(
            [sys.executable, "-m", "vringcore", verb, "--help"], cwd=ROOT, capture_output=True
        )
        assert done.returncode == 0, verb


@pytest.mark.parametrize("core", cores(lambda core: core.name.endswith("stuck-migration/gcore")))
def test_the_library_example_runs(core: CoreCase, tmp_path: Path) -> None:
    code = re.search(r"```python\n(.*?)```", README, re.DOTALL)
    assert code is not None
    example = tmp_path / "example.py"
    example.write_text(
        code.group(1)
        .replace('"core.20873"', repr(str(core.path)))
        .replace('executable="/usr/bin/qemu-system-x86_64"', how_it_is_opened(core))
    )
    done = subprocess.run(
        [sys.executable, str(example)],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    truth = core.gdb["devices"][0]["queues"]
    for index, queue in enumerate(truth):
        fields = queue["fields"]
        line = f"disk0 {index} {fields['last_avail_idx']} {fields['used_idx']} {fields['inuse']}"
        assert line in done.stdout
    assert done.stdout.count("sectors at") == len(core.gdb["requests"])


def how_it_is_opened(core: CoreCase) -> str:
    name = "executable" if core.whole else "sysroot"
    return f"{name}={getattr(core.options, name)!r}"


def test_the_first_command_prints_what_is_shown() -> None:
    before, command, rest = README.partition("pip install . && vringcore demo\n```\n\n```text\n")
    shown, end, after = rest.partition("```")
    if os.environ.get("VRINGCORE_RENEW_GOLDEN"):
        shown = demo_output()
        (ROOT / "README.md").write_text(before + command + shown + end + after)
    assert shown == demo_output()


def demo_output() -> str:
    """Return what the demo prints, without the directory that differs from machine to machine."""
    done = subprocess.run(
        [sys.executable, "-m", "vringcore", "demo"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"COLUMNS": "100"},
    )
    return elsewhere(done.stdout)


def elsewhere(text: str) -> str:
    return re.sub(r"\S+(?=/vringcore/sample/)", "…", text)
