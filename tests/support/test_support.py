"""docs/support.md says of the small cores what they give, and the facts can tell a wrong one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import pytest

from tests.cores import dumps
from tests.lab.cases import iter_dumps
from tests.support import page
from tests.support.cores import KINDS, Sample
from tests.support.facts import PARTS, compare
from tests.support.matrix import measure

if TYPE_CHECKING:
    from tests.lab.cases import CoreCase

ROWS = page.rows_of_dumps(page.PAGE.read_text())


@pytest.mark.parametrize("core", dumps())
def test_the_page_has_what_a_small_core_gives(core: CoreCase) -> None:
    count = measure(Sample(core, core.path, own_layouts=True), core.options).count
    assert count is not None
    assert count.differing == []
    found = (count.equal, len(count.absent), len(count.differing))
    assert found == ROWS[core.name.removeprefix("dumps/")]


def test_the_page_has_no_other_small_cores() -> None:
    assert ROWS.keys() == {core.name.removeprefix("dumps/") for core in iter_dumps()}


def test_a_wrong_fact_is_told_and_a_lost_one_is_counted() -> None:
    core = next(each for each in iter_dumps() if each.kind == "gcore")
    with core.open() as opened:
        report = opened.report(PARTS)
    sound = compare(core, report)
    assert isinstance(report.devices, tuple)
    first = msgspec.structs.replace(report.devices[0], id="another", fields={})
    wrong = msgspec.structs.replace(report, devices=(first, *report.devices[1:]))
    count = compare(core, wrong)
    assert [each.split(":")[0] for each in count.differing] == [
        f"device {int(first.address):#x} id"
    ]
    assert len(count.absent) > len(sound.absent)
    assert count.equal + len(count.absent) + 1 == sound.equal + len(sound.absent)


def test_every_kind_of_core_says_what_was_not_real() -> None:
    said = " ".join(page.PAGE.read_text().split())
    for kind in KINDS:
        assert kind.synthetic in said
