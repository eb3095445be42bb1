"""``why`` as text, of made-up reports."""

from __future__ import annotations

from hypothesis import HealthCheck, given, settings
from msgspec.structs import replace

from tests.diagnose.builders import asleep, device, loop, queue, report, request
from tests.report.strategies import any_of
from vringcore.diagnose.engine import diagnose
from vringcore.model.report import Report
from vringcore.report.text import render
from vringcore.report.why import SHOWN, print_verdict


def judged(made: Report) -> Report:
    found = diagnose(made)
    return replace(
        made,
        verdict=found.verdict,
        findings=found.findings,
        wait_for=found.wait_for,
        signature=found.signature,
    )


def text_of(made: Report, *, detailed: bool = False, width: int | None = None) -> str:
    return render(
        lambda page: print_verdict(page, made, detailed=detailed), width=width, color=False
    )


def stuck() -> Report:
    held = tuple(
        request("nbd", "slot 0, client connected; sent, waits for the reply", head=head, age=40)
        for head in range(9)
    )
    disk = device(queue(avail=50, inuse=9, in_flight=held))
    return judged(report(disk, threads=asleep(), event_loops=(loop(),)))


def test_the_sentence_comes_first_and_the_evidence_follows() -> None:
    lines = text_of(stuck()).splitlines()
    assert lines[2] == (
        "9 requests of disk0 (virtio-blk) were sent to the NBD server of node nbd0 at least 40.0 s"
        " ago and have not been answered."
    )
    assert lines[3] == "stuck, high confidence: request-not-answered-by-nbd-server"
    titles = ["who waits for whom", "what to do next", "what would prove it wrong", "not judged"]
    assert [line for line in lines if line in titles] == titles
    assert f"    and {8 - SHOWN} more facts: -v shows them" in lines
    assert sum("were sent to the NBD server" in line for line in lines) == 1


def test_details_are_shown_when_asked_for() -> None:
    made = stuck()
    assert "looked at, and in order" not in text_of(made)
    detailed = text_of(made, detailed=True)
    assert "looked at, and in order" in detailed
    assert detailed.count("head ") == 8


def test_where_evidence_lies_is_shown() -> None:
    made = stuck()
    finding = (made.findings or ())[0]
    placed = replace(finding.evidence[0], address=0x1234, file_offset=99)
    made = replace(made, findings=(replace(finding, evidence=(placed,)),))
    assert "(at 0x1234, byte 99 of the core)" in text_of(made)


def test_folded_lines_stay_indented() -> None:
    lines = text_of(stuck(), width=60).splitlines()
    assert max(map(len, lines)) <= 60
    start = next(i for i, line in enumerate(lines) if line.startswith("    head 0 of queue 0"))
    assert lines[start + 1].startswith("    ")


def test_a_healthy_machine_takes_few_lines() -> None:
    made = judged(report(device(queue()), threads=asleep(), event_loops=(loop(),)))
    text = text_of(made)
    assert "Nothing is stuck (1 device, 1 queue, 0 requests in flight, 3 threads)." in text
    assert "evidence" not in text


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(any_of(Report))
def test_nothing_in_a_core_can_steer_the_terminal(document: Report) -> None:
    text = text_of(judged(document), detailed=True)
    assert all(line.isprintable() for line in text.split("\n"))
