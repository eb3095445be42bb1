"""The benchmark: its parts that need nothing, and a quick run where QEMU is at hand."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks import stacks
from benchmarks.answers import answers_of, difference, times_of
from benchmarks.contenders import Cost
from benchmarks.cores import core_of_size
from benchmarks.page import LABELS, Results, cost_table, page, tables
from benchmarks.sections import Row, Series
from tests.lab.paths import qemu_directory

ROOT = Path(__file__).parents[1]
QEMU = qemu_directory("7.2") / "qemu-system-x86_64"

OURS = (
    '{"schema":"vringcore/report/1","devices":[{"address":"0x10","queues":[{"fields":{'
    '"vring":{"num":256,"desc":"0x100000"},"handle_output":{"address":"0x20","symbol":"f"},'
    '"mode":{"value":2,"name":"TWO"},"on":true,"pair":[1,-1]}}]}]}'
)
THEIRS = (
    'noise\nTOOK 12.500\nQUEUES [[16, [{"vring": {"num": 256, "desc": 1048576}, '
    '"handle_output": 32, "mode": 2, "on": true, "pair": [1, -1]}]]]\n'
)


def test_answers_of_both_forms_are_equal_member_by_member() -> None:
    (ours,), (theirs,) = answers_of(OURS), answers_of(THEIRS)
    assert ours == theirs
    assert ours[16] == [
        {
            "vring.num": 256,
            "vring.desc": 0x100000,
            "handle_output": 0x20,
            "mode": 2,
            "on": 1,
            "pair[0]": 1,
            "pair[1]": -1,
        }
    ]
    assert difference({"one": ours, "two": theirs}) == ""
    assert times_of(THEIRS) == [12.5]


@pytest.mark.parametrize(
    ("find", "replace", "told"),
    [
        ("256", "255", "0x10, queue 0, vring.num: one has 256, two 255"),
        ('"on": true, ', "", "0x10, queue 0, on: one has 1, two None"),
        ("[[16", "[[17", "two has the devices [17], one [16]"),
    ],
)
def test_a_difference_is_told(find: str, replace: str, told: str) -> None:
    (ours,), (theirs,) = answers_of(OURS), answers_of(THEIRS.replace(find, replace))
    assert difference({"one": ours, "two": theirs}) == told


def test_one_queue_more_is_a_difference() -> None:
    (ours,) = answers_of(OURS)
    assert difference({"one": ours, "two": {16: [*ours[16], {}]}}) == "two has 2 queues, one 1"


def test_an_absent_member_is_no_number() -> None:
    with pytest.raises(ValueError, match="not-dumped"):
        answers_of(OURS.replace('"on":true', '"on":{"absent":"not-dumped"}'))


def test_output_without_an_answer_is_refused() -> None:
    with pytest.raises(ValueError, match="no answer"):
        answers_of("warning: no core\n")


def costs(scale: float) -> dict[str, Cost]:
    return {
        "cold": Cost(60.0 * scale, 50.0 * scale, 27 << 10),
        "warm": Cost(40.0 * scale, 30.0 * scale, 17 << 10),
        "gdb": Cost(400.0 * scale, 350.0 * scale, 135 << 10),
        "drgn": Cost(160.0 * scale, 150.0 * scale, 67 << 10),
    }


def results(executable: Path) -> Results:
    return Results(
        executable,
        5,
        startup=Row(1, 1 << 30, 1 << 27, costs(1)),
        further=[
            Series(12, 1, 6, {name: cost for name, cost in costs(0.1).items() if name != "cold"})
        ],
        why=[Row(9, 1 << 30, 1 << 27, {n: Cost(300.0, 290.0, 1 << 15) for n in ("why", "gdb bt")})],
        sizes=[Row(n << 28, n << 28, 20 << 20, costs(1)) for n in (1, 4, 16)],
        queues=[Row(n, 1 << 28, 20 << 20, costs(1 + n / 100)) for n in (1, 64, 500)],
    )


def test_the_ratios_are_of_the_medians() -> None:
    lines = cost_table(costs(1), LABELS).splitlines()
    assert lines[2] == "| vringcore, cold | 60.0 | 50.0 | 27 | 6.7x | 2.7x |"
    assert lines[4] == "| gdb | 400.0 | 350.0 | 135 | 1.0x | 0.4x |"


def test_a_program_that_is_not_installed_has_no_column() -> None:
    alone = {name: cost for name, cost in costs(1).items() if name in ("cold", "warm")}
    assert cost_table(alone, LABELS).splitlines()[0] == "| | median ms | least ms | peak MiB |"


def test_the_page_holds_every_table_and_the_figure_is_drawn(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="not installed: pip install -e '.[bench]'")
    from benchmarks.plot import draw

    executable = tmp_path / "9.9" / "qemu-system-x86_64"
    executable.parent.mkdir()
    executable.write_bytes(bytes(1 << 20))
    found = results(executable)
    assert found.sizes is not None
    assert found.queues is not None
    for table in tables(found).values():
        assert table in page(_without_programs(found))
    figure = tmp_path / "figure.svg"
    draw(found.sizes, found.queues, figure)
    text = figure.read_text()
    for label in ("vringcore, warm", "drgn", "Time by number of queues"):
        assert label in text


def _without_programs(found: Results) -> Results:
    """Return the results as they are: the versions of gdb and drgn need the programs."""
    import importlib.util
    import shutil

    if shutil.which("gdb") is None or importlib.util.find_spec("drgn") is None:
        pytest.skip("the page names the versions of gdb and drgn")
    return found


@pytest.mark.lab
@pytest.mark.skipif(not QEMU.exists(), reason="no QEMU: `python -m tests.lab build 7.2`")
def test_a_quick_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Real QEMUs are started, cores taken, answers compared, and tables printed."""
    monkeypatch.setenv("VRINGCORE_BENCH", str(tmp_path))
    try:
        core_of_size(QEMU, 192 << 20)
    except RuntimeError as error:
        pytest.skip(str(error))
    command: list[Any] = [sys.executable, "-m", "benchmarks", "sizes", "queues", "--quick"]
    done = subprocess.run(
        [*command, "--rounds", "1"], cwd=ROOT, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    rows = [line for line in done.stdout.splitlines() if line.startswith("| ")]
    assert [row.split()[1] for row in rows if row.split()[1].isdecimal()] == ["1", "4", "16"]
    assert "| 0.1875 |" in done.stdout


def test_an_unknown_section_is_refused() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", "weight"], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 2
    assert "no section weight" in done.stderr


def test_stacks_are_compared_up_to_generated_code() -> None:
    theirs: stacks.Stacks = {7: [("poll", False), (stacks.GENERATED, False)], 8: [("futex", True)]}
    ours: stacks.Stacks = {7: [("poll", False), (None, False)], 8: [("futex", True)]}
    assert stacks.difference(ours, theirs) == ""
    assert "thread 8" in stacks.difference(ours | {8: [("futex", False)]}, theirs)
    assert "thread 7" in stacks.difference(ours | {7: [("read", False)]}, theirs)
    assert "threads [7]" in stacks.difference({7: ours[7]}, theirs)
