"""The HTML page without a browser: it is well formed, harmless, and says what the report says."""

from __future__ import annotations

import re
import sys
from base64 import b64encode
from functools import cache
from hashlib import sha256

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from tests.cores import dumps, lab_cores
from tests.lab.cases import CoreCase
from tests.report.pages import HOSTILE, Parsed, dump, poisoned, report_and_rings
from tests.report.strategies import any_of
from vringcore.errors import UsageError
from vringcore.model.findings import Finding, Verdict, WaitGraph
from vringcore.model.report import Report, RingDocument
from vringcore.report.html.page import render_page

TEXT_TAGS = {"h1", "h2", "h3", "h4", "p", "span", "b", "em", "small", "code", "a", "br"}
LIST_TAGS = {"ul", "ol", "li", "dl", "dt", "dd", "table", "thead", "tbody", "tr", "th", "td"}
PAGE_TAGS = {"html", "head", "meta", "link", "title", "style", "body", "div", "header", "nav"}
PART_TAGS = {"main", "section", "article", "details", "summary"}
SHAPE_TAGS = {"path", "circle", "rect", "text", "use", "g"}
SVG_TAGS = {"svg", "defs", "desc", "marker", "pattern"} | SHAPE_TAGS
TAGS = TEXT_TAGS | LIST_TAGS | PAGE_TAGS | PART_TAGS | SVG_TAGS
"""Every kind of element that a page may have; none of them can run or load anything."""


def parsed(report: Report, rings: list[RingDocument]) -> Parsed:
    page = Parsed(render_page(report, rings))
    assert page.tags <= TAGS
    for tag, attributes in page.elements:
        assert not any(name.startswith("on") or name == "style" for name in attributes), tag
        assert not {"src", "srcset", "xlink:href", "action"} & attributes.keys()
        href = attributes.get("href")
        assert href is None or href.startswith("#") or (tag, href) == ("link", "data:,")
    return page


@given(
    any_of(Report),
    any_of(Verdict),
    st.lists(any_of(Finding), max_size=2),
    any_of(WaitGraph),
    st.lists(any_of(RingDocument), max_size=2),
)
@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
def test_any_report_becomes_a_harmless_page(
    report: Report,
    verdict: Verdict,
    findings: list[Finding],
    graph: WaitGraph,
    rings: list[RingDocument],
) -> None:
    made = replace(report, verdict=verdict, findings=tuple(findings), wait_for=graph)
    parsed(made, rings)


CASES = {
    "7.2/stuck-migration",
    "7.2/idle",
    "7.2/broken",
    "7.2-fork/fork-deadlock",
    "7.2/vhost-user-gone",
    "10.0/nine-packed",
    "10.0/no-guest-ram",
    "10.0/stuck-vhost-user",
    "10.0/held-devices",
}
"""What differs in what a page shows of it."""


@pytest.fixture(params=dumps(lambda core: core.case.name.removeprefix("dumps/") in CASES))
def core(request: pytest.FixtureRequest) -> CoreCase:
    found: CoreCase = request.param
    return found


@cache
def made_of(core: CoreCase) -> tuple[Report, list[RingDocument]]:
    return report_and_rings(core)


@cache
def page_of(core: CoreCase) -> Parsed:
    return parsed(*made_of(core))


def test_it_says_what_the_report_says(core: CoreCase) -> None:
    report, page = made_of(core)[0], page_of(core)
    assert report.verdict
    assert report.verdict.summary in page.text
    for finding in report.findings or ():
        assert finding.summary in page.text
        for evidence in finding.evidence:
            assert evidence.what in page.text
            assert evidence.c_path in page.text
            assert evidence.address is None or str(evidence.address) in page.text
            assert evidence.file_offset is None or str(evidence.file_offset) in page.text
    for text in (*report.verdict.next_steps, *report.verdict.refuted_by, *report.verdict.checked):
        assert text.replace("->", "→").replace("`", "") in page.text
    for limit in report.limits:
        assert limit.what in page.text
        assert limit.why in page.text


def test_each_queue_has_a_ring_or_the_reason_why_not(core: CoreCase) -> None:
    report, page = made_of(core)[0], page_of(core)
    queues = [(d.index, q.index) for d in report.devices or () for q in d.queues or ()]
    cards = [each["id"] for each in page.having("article", class_="card")]
    assert sorted(map(str, cards)) == sorted(f"ring-{d}-{q}" for d, q in queues)
    drawn = len(page.having("svg", class_="ring"))
    assert drawn == len(queues) - page.text.count("The ring cannot be read") - page.text.count(
        "The driver has not set this queue up."
    )


def test_each_id_is_there_once_and_every_reference_leads_somewhere(core: CoreCase) -> None:
    page = page_of(core)
    ids = [str(attributes["id"]) for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    for _, attributes in page.elements:
        wanted = (attributes.get("aria-labelledby") or "").split()
        href = attributes.get("href") or ""
        wanted += [href[1:]] if href.startswith("#") else []
        wanted += re.findall(r"url\(#(.*?)\)", " ".join(map(str, attributes.values())))
        assert set(wanted) <= set(ids)


def test_every_drawing_has_a_name_or_is_hidden_from_readers(core: CoreCase) -> None:
    for drawing in page_of(core).having("svg"):
        named = drawing.get("role") == "img" and drawing.get("aria-labelledby")
        assert named or drawing.get("aria-hidden") == "true"


def test_boxes_that_scroll_can_be_reached_by_keyboard_and_have_a_name(core: CoreCase) -> None:
    boxes = page_of(core).having("div", class_="scroll")
    assert boxes
    for box in boxes:
        assert box["tabindex"] == "0"
        assert box["role"] == "region"
        assert box["aria-label"]


@pytest.mark.parametrize("name", ["7.2/stuck-migration", "10.0/nine-packed", "7.2-fork/fork-stuck"])
def test_text_of_a_core_stays_text(name: str) -> None:
    report, rings = report_and_rings(dump(name))
    clean = parsed(report, rings)
    page = parsed(poisoned(report), [poisoned(each) for each in rings])
    assert page.tags <= clean.tags
    told = HOSTILE.replace("\x00", "\\x00").replace("\u202e", "\\u202e")
    assert page.text.count(told) > 100
    assert "\u202e" not in page.text
    assert [tag for tag, _ in page.elements].count("style") == 1


def test_the_policy_allows_the_one_style_sheet_and_nothing_else() -> None:
    page = render_page(*report_and_rings(dump("7.2/idle")))
    [style] = re.findall(r"<style>(.*?)</style>", page, re.DOTALL)
    digest = b64encode(sha256(style.encode()).digest()).decode()
    [policy] = [
        str(each["content"])
        for each in Parsed(page).having("meta")
        if each.get("http-equiv") == "Content-Security-Policy"
    ]
    assert policy.split("; ")[:2] == ["default-src 'none'", f"style-src 'sha256-{digest}'"]
    assert "script-src" not in policy
    assert not re.search(r"url\((?!#)|@import|expression", style)


def test_the_same_core_gives_the_same_page() -> None:
    core = dump("7.2/stuck-migration")
    with core.open() as one, core.open() as other:
        assert one.report_html() == other.report_html() == one.report_html()


def test_nine_devices_make_a_page_that_opens_fast() -> None:
    with dump("7.2/nine-devices").open() as core:
        assert len(core.report_html()) < 1_000_000


CANARIES = ("CANARYSECRET0001", "CANARYENVIRONMENT0002", "CANARYGUESTRAM03")
"""Of the command line, the environment and the guest's memory; tests/lab has put them there."""


def has_secrets(core: CoreCase) -> bool:
    is_stuck = core.case.scenario == "stuck" and core.kind == "gcore"
    return is_stuck and CANARIES[0] in str(core.case.manifest)


@pytest.mark.parametrize("core", lab_cores(has_secrets))
def test_no_secret_and_no_guest_data_is_on_it(core: CoreCase) -> None:
    with core.open() as opened:
        page = opened.report_html()
    assert "&lt;redacted&gt;" in page
    assert not [each for each in CANARIES if each in page]


def test_threads_that_wait_are_open_and_others_are_not() -> None:
    report, rings = report_and_rings(dump("7.2-fork/fork-deadlock"))
    details = parsed(report, rings).having("details")
    opened = {str(each["id"]) for each in details if "open" in each and "id" in each}
    assert report.wait_for
    waiting = {
        node.id.replace(":", "-")
        for node in report.wait_for.nodes
        if node.kind == "thread" and any(edge.waiter == node.id for edge in report.wait_for.edges)
    }
    assert waiting
    assert {each for each in opened if each.startswith("thread-")} == waiting
    assert len(report.threads or ()) > len(waiting)


def test_without_jinja2_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    from vringcore.report.html import page

    page._environment.cache_clear()
    monkeypatch.setitem(sys.modules, "jinja2", None)
    with pytest.raises(UsageError, match=re.escape("pip install 'vringcore[html]'")):
        render_page(*report_and_rings(dump("7.2/idle")))


def test_the_templates_are_part_of_the_package() -> None:
    from importlib.resources import files

    names = {each.name for each in files("vringcore.report.html").joinpath("templates").iterdir()}
    assert names == {"page.html", "macros.html", "graph.svg", "ring.svg", "style.css"}
