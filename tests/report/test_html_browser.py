"""The HTML page in a real browser: it fits, loads nothing, and shows what the report says."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.report.pages import HOSTILE, dump, poisoned, report_and_rings
from vringcore.model.report import Report, RingDocument
from vringcore.report.html.page import render_page

CASES = ["7.2/stuck-migration", "7.2/nine-devices", "10.0/nine-packed", "7.2-fork/fork-deadlock"]

WIDTHS = {"phone": 360, "tablet": 768, "desk": 1280}

PAPER = 1032
"""CSS pixels across A4 in landscape, without the margins of 12 mm."""

ARGUMENTS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-sync",
    "--disable-background-networking",
    "--disable-component-update",
)

DRAWN = """
    return [...document.querySelectorAll('svg.ring')].map(ring => {
        const sum = state => [...ring.querySelectorAll('.arc.' + state)]
            .reduce((sum, arc) => sum + Number(arc.dataset.count), 0);
        return [Number(ring.dataset.device), Number(ring.dataset.queue),
                sum('in-flight') + sum('taken'), sum('unseen'),
                [...ring.querySelectorAll('text')].map(text => text.textContent)];
    });
"""

HIDDEN_DETAILS = """
    return [...document.querySelectorAll('details')].filter(
        details => !details.lastElementChild.checkVisibility({contentVisibilityAuto: true})
    ).length;
"""

TOO_WIDE = """
    return [...document.querySelectorAll('main *')].filter(each => {
        const right = each.getBoundingClientRect().right;
        return right > arguments[0] + 0.5 && !each.closest('svg');
    }).map(each => each.outerHTML.slice(0, 120));
"""

OVER_EACH_OTHER = """
    const boxes = [...document.querySelectorAll('svg.graph .box:not(.behind)')]
        .map(box => box.getBoundingClientRect());
    return boxes.some((a, i) => boxes.some((b, j) => i < j
        && a.left < b.right && b.left < a.right && a.top < b.bottom && b.top < a.bottom));
"""

TEXT_OUTSIDE_BOX = """
    return [...document.querySelectorAll('svg.graph g')].flatMap(group => {
        const box = group.querySelector('.box:not(.behind)').getBoundingClientRect();
        return [...group.querySelectorAll('text')]
            .filter(text => text.getBoundingClientRect().right > box.right)
            .map(text => text.textContent);
    });
"""

CUT_LABELS = """
    return [...document.querySelectorAll('svg.ring')].flatMap(ring => {
        const whole = ring.getBoundingClientRect();
        return [...ring.querySelectorAll('text')].filter(text => {
            const place = text.getBoundingClientRect();
            return place.width && (place.left < whole.left || place.right > whole.right
                || place.top < whole.top || place.bottom > whole.bottom);
        }).map(text => text.textContent);
    });
"""


class Browser:
    """Chromium without a screen, and what it asked the network for."""

    def __init__(self, driver: Any, directory: Path) -> None:
        self._driver = driver
        self._path = directory / "page.html"

    def run(self, script: str, *arguments: Any) -> Any:
        return self._driver.execute_script(script, *arguments)

    def show(
        self, page: str, *, width: int = 1280, scheme: str = "light", media: str = "screen"
    ) -> None:
        """Open a page that is this wide."""
        self._path.write_text(page, encoding="utf-8")
        size = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width < 500}
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self._command("Emulation.setDeviceMetricsOverride", size)
        self._command("Emulation.setEmulatedMedia", {"media": media, "features": features})
        self.said()
        self.loaded()
        self._driver.get(self._path.as_uri())

    def said(self) -> list[str]:
        """Return what came to the console since the last call."""
        return [entry["message"] for entry in self._driver.get_log("browser")]

    def loaded(self) -> list[str]:
        """Return the addresses that were asked for since the last call."""
        events = [json.loads(e["message"])["message"] for e in self._driver.get_log("performance")]
        return [
            event["params"]["request"]["url"]
            for event in events
            if event["method"] == "Network.requestWillBeSent"
        ]

    @property
    def uri(self) -> str:
        return self._path.as_uri()

    def _command(self, name: str, arguments: dict[str, Any]) -> None:
        self._driver.execute_cdp_cmd(name, arguments)


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    program, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if program is None or driver is None:
        pytest.skip("no browser: apt-get install chromium chromium-driver")
    webdriver = pytest.importorskip("selenium.webdriver", reason="pip install selenium")
    directory = tmp_path_factory.mktemp("browser")
    options = webdriver.ChromeOptions()
    options.binary_location = program
    for each in (*ARGUMENTS, f"--user-data-dir={directory / 'profile'}"):
        options.add_argument(each)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    chrome = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    try:
        yield Browser(chrome, directory)
    finally:
        chrome.quit()


@pytest.fixture(scope="module", params=CASES)
def made(request: pytest.FixtureRequest) -> tuple[Report, list[RingDocument], str]:
    report, rings = report_and_rings(dump(request.param))
    return report, rings, render_page(report, rings)


Made = tuple[Report, list[RingDocument], str]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", WIDTHS)
def test_it_fits_and_loads_nothing(browser: Browser, made: Made, width: str, scheme: str) -> None:
    browser.show(made[2], width=WIDTHS[width], scheme=scheme)
    assert browser.run("return document.documentElement.scrollWidth") <= WIDTHS[width]
    assert browser.run(CUT_LABELS) == []
    browser.run("document.querySelectorAll('details').forEach(each => { each.open = true; })")
    assert browser.run("return document.documentElement.scrollWidth") <= WIDTHS[width]
    assert browser.run(CUT_LABELS) == []
    assert browser.said() == []
    assert [each for each in browser.loaded() if each not in (browser.uri, "data:,")] == []


def test_light_and_dark_differ(browser: Browser, made: Made) -> None:
    seen = []
    for scheme in ("light", "dark"):
        browser.show(made[2], scheme=scheme)
        seen.append(browser.run("return getComputedStyle(document.body).backgroundColor"))
    assert seen == ["rgb(255, 255, 255)", "rgb(20, 23, 27)"]


def test_rings_show_what_the_report_counts(browser: Browser, made: Made) -> None:
    report, rings, page = made
    browser.show(page)
    drawn = {(device, queue): rest for device, queue, *rest in browser.run(DRAWN)}
    queues = {(d.index, q.index): q for d in report.devices or () for q in d.queues or ()}
    assert drawn.keys() == queues.keys()
    assert len(rings) == len(queues)
    for place, (held, unseen, words) in drawn.items():
        queue = queues[place]
        assert queue.counts
        assert (held, unseen) == (sum(r.ndescs for r in queue.in_flight or ()), queue.counts.unseen)
        marks = {"last_avail_idx", "used_idx"} | ({"avail.idx"} if queue.ring == "split" else set())
        assert marks <= set(words)


def test_the_graph_has_everybody_who_waits(browser: Browser, made: Made) -> None:
    report, _, page = made
    assert report.wait_for
    browser.show(page)
    counts = browser.run(
        "return [...document.querySelectorAll('svg.graph g')].map(g => Number(g.dataset.count))"
    )
    edges = report.wait_for.edges
    assert sum(counts) == len({end for edge in edges for end in (edge.waiter, edge.waits_for)})
    cyclic = browser.run("return document.querySelectorAll('svg.graph .arrow.in-cycle').length")
    assert cyclic == sum(len(cycle) for cycle in report.wait_for.cycles)
    assert browser.run(OVER_EACH_OTHER) is False
    assert browser.run(TEXT_OUTSIDE_BOX) == []


def test_in_print_everything_is_open_and_nothing_is_cut(browser: Browser, made: Made) -> None:
    browser.show(made[2], width=PAPER)
    assert browser.run(HIDDEN_DETAILS) > 0
    browser.show(made[2], width=PAPER, media="print")
    assert browser.run(HIDDEN_DETAILS) == 0
    assert browser.run(TOO_WIDE, PAPER) == []


@pytest.mark.parametrize("case", CASES[:2])
def test_hostile_text_stays_text(browser: Browser, case: str) -> None:
    report, rings = report_and_rings(dump(case))
    browser.show(render_page(poisoned(report), [poisoned(each) for each in rings]), width=360)
    assert browser.run("return document.title").startswith("stuck" if "stuck" in case else "heal")
    assert browser.run("return document.title") != "owned"
    for tag in ("script", "img", "iframe", "object", "embed", "form", "base"):
        assert browser.run("return document.getElementsByTagName(arguments[0]).length", tag) == 0
    told = HOSTILE.replace("\x00", "\\x00").replace("\u202e", "\\u202e")
    assert browser.run("return document.body.textContent.split(arguments[0]).length", told) > 100
    assert browser.run("return document.documentElement.scrollWidth") <= 360
    assert browser.said() == []
    assert [each for each in browser.loaded() if each not in (browser.uri, "data:,")] == []


def test_the_keyboard_reaches_what_scrolls_and_opens(browser: Browser, made: Made) -> None:
    browser.show(made[2])
    reached = browser.run(
        "return [...document.querySelectorAll('summary, .scroll, nav a, a.skip')]"
        ".filter(each => each.checkVisibility({contentVisibilityAuto: true}))"
        ".every(each => { each.focus(); return document.activeElement === each; })"
    )
    assert reached is True
