"""docs/virtio.md and docs/requests.md say what the library does."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from vringcore.virtio import counts
from vringcore.virtio.chain import Breach, ChainEnd

DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "virtio.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", ["virtio.md", "requests.md"])
def test_the_example_prints_what_the_page_shows(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    page = (DOCS / name).read_text(encoding="utf-8")
    [code] = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    [output] = re.findall(r"```text\n(.*?)```", page, re.DOTALL)
    exec(compile(code, name, "exec"), {"__name__": "example"})
    assert capsys.readouterr().out == output


def test_every_end_and_every_breach_is_explained() -> None:
    table = re.findall(r"^\| `([a-z-]+)` \|", PAGE, re.MULTILINE)
    assert {end.value for end in ChainEnd} <= set(table)
    for breach in Breach:
        assert f"`{breach.value}`" in PAGE


def test_the_worked_example() -> None:
    rows = r"^\| (?:`([a-z_.]+)`|in use, says the device) \| (\d+) \|"
    values = dict(re.findall(rows, PAGE, re.MULTILINE))
    avail, last, used = (int(values[n]) for n in ("avail.idx", "last_avail_idx", "used.idx"))
    popped = counts.popped(last, used)
    assert (counts.unseen(avail, last), popped) == (2, 3)
    assert counts.leaked(popped, int(values[""])) == 1
    assert counts.past_used_event(used, int(values["used_event"])) == 4
