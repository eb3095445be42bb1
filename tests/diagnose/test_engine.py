"""The engine: what is missing silences, what fails is told, and any report gives a verdict."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings

from tests.diagnose.builders import (
    asleep,
    backend,
    codes,
    device,
    lock,
    loop,
    queue,
    report,
    thread,
)
from tests.report.strategies import any_of
from vringcore.cli.findings import conclusion, pages, parts
from vringcore.diagnose.engine import MAX_FINDINGS, diagnose, order
from vringcore.diagnose.facts import Facts
from vringcore.diagnose.rule import Rule, rule
from vringcore.diagnose.rules import RULES
from vringcore.diagnose.signature import signature_of
from vringcore.model.findings import Finding
from vringcore.model.report import Report
from vringcore.model.values import encode

FINDINGS = Path(__file__).parents[2] / "docs" / "findings"


@rule("numbers are numbers", needs=("queues",), rank=1)
def rule_that_fails(facts: Facts) -> Iterator[Finding]:
    """Fails.

    From: nothing.
    """
    yield Finding("rule-that-fails", "stuck", "high", str(1 // len(facts.devices)))


@rule("there are few", needs=(), rank=1)
def rule_of_many(_facts: Facts) -> Iterator[Finding]:
    """Finds too much.

    From: nothing.
    """
    for number in range(10 * MAX_FINDINGS):
        yield Finding("rule-of-many", "note", "low", f"finding {number}")


def test_a_rule_that_fails_costs_that_rule_alone() -> None:
    found = diagnose(report(), [rule_that_fails, *RULES])
    (limit,) = found.limits
    assert limit.what == "the rule rule-that-fails"
    assert "ZeroDivisionError" in limit.why
    assert any("numbers are numbers" in each for each in found.verdict.unchecked)
    assert found.verdict.state == "unknown"


def test_a_rule_cannot_flood_the_report() -> None:
    found = diagnose(report(), [rule_of_many])
    assert len(found.findings) == MAX_FINDINGS
    assert found.limits[0].what == "findings of rule-of-many"


def test_what_was_not_asked_for_is_not_judged_and_that_is_said() -> None:
    verdict = diagnose(report(device(queue()))).verdict
    assert verdict.state == "healthy"
    assert verdict.confidence == "medium"
    told = " ".join(verdict.unchecked)
    for part in ("locks", "threads", "event-loops", "block.nodes", "machine.interrupts"):
        assert f"{part}: not asked for" in told
    assert "no device has stopped for an error" in verdict.checked


def test_without_devices_nothing_can_be_said() -> None:
    assert diagnose(report()).verdict.state == "unknown"


def test_codes_are_unique_and_in_kebab_case() -> None:
    names = [each.code for each in RULES]
    assert len(names) == len(set(names))
    assert all(re.fullmatch(r"[a-z]+(-[a-z]+)*", name) for name in names)


@pytest.mark.parametrize("each", RULES, ids=lambda each: each.code)
def test_every_rule_says_what_it_rests_on_and_how_it_can_be_wrong(each: Rule) -> None:
    assert conclusion(each).endswith(".")
    assert [label for label, _ in parts(each)] == ["From:", "Confidence:", "Wrong if:", "Source:"]
    assert all(text for _, text in parts(each))


def test_the_pages_of_codes_are_up_to_date() -> None:
    """`python -m vringcore.cli.findings docs/findings` writes them."""
    there = {path.name: path.read_text(encoding="utf-8") for path in FINDINGS.glob("*.md")}
    assert there == pages()


def test_a_guess_that_something_is_stuck_comes_between_faults_and_warnings() -> None:
    def of(severity: str, confidence: str) -> Finding:
        return Finding("x", severity, confidence, f"{severity} {confidence}")

    pairs = [
        ("stuck", "high"),
        ("stuck", "medium"),
        ("fault", "low"),
        ("stuck", "low"),
        ("warning", "high"),
        ("note", "high"),
    ]
    expected = [of(*pair) for pair in pairs]
    assert sorted([*expected[3:], *expected[:3]], key=order) == expected


def stuck(*, base: int) -> Report:
    """Return a report of a drain that waits, with all addresses and numbers from ``base`` on."""
    names = ("ppoll", "aio_poll", "bdrv_do_drained_begin", "virtio_blk_data_plane_stop", "vm_stop")
    migration = thread(base, "migration", *names)
    held = queue(avail=base, inuse=2)
    disk = device(held, backend=backend(in_flight=2, quiesced=1))
    return report(disk, threads=(migration,), locks=(lock(base, "BQL", base),))


def test_two_cores_with_one_cause_have_one_signature() -> None:
    first, second = (diagnose(stuck(base=base)) for base in (700, 9000))
    assert first.signature == second.signature
    assert first.signature == (
        "migration-waits-for-drain+request-not-returned | virtio-blk"
        " | migration: drain to stop the VM (vm_stop)"
    )


def test_a_core_that_is_cut_short_is_no_proof_of_health() -> None:
    healthy = report(device(queue()), threads=asleep(), event_loops=(loop(),))
    assert diagnose(healthy).verdict.state == "healthy"
    cut = msgspec.structs.replace(healthy.core, complete=False)
    for changed in ({"core": cut}, {"threads": ()}):
        verdict = diagnose(msgspec.structs.replace(healthy, **changed)).verdict
        assert (verdict.state, verdict.confidence) == ("unknown", "low")


def test_a_healthy_vm_has_no_signature() -> None:
    healthy = report(device(queue()), threads=asleep(), event_loops=(loop(),))
    assert diagnose(healthy).signature == ""
    assert signature_of(Facts(healthy), ()) == ""


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(any_of(Report))
def test_any_report_gives_a_verdict(document: Report) -> None:
    found = diagnose(document)
    assert not [each for each in found.limits if "failed" in each.why]
    assert found.verdict.state in ("stuck", "faulty", "healthy", "unknown")
    assert found.verdict.summary.endswith(".")
    ids = {node.id for node in found.wait_for.nodes}
    assert all({edge.waiter, edge.waits_for} <= ids for edge in found.wait_for.edges)
    assert encode(found)
    assert codes(found) <= {each.code for each in RULES}
