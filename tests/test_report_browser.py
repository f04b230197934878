"""The report in a real Chromium, opened from the disk: quick, silent, usable by keyboard, the same for everybody.

Without Chromium these tests are skipped, unless CI is set. A browser of another name: CROSSWARD_CHROMIUM.
"""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.support.report_runs import make_run

from crossward.pipeline.report.write import compare, report_again

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
CHROMIUM = os.environ.get("CROSSWARD_CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)
playwright = pytest.importorskip("playwright.sync_api")
expect = playwright.expect
pytestmark = pytest.mark.skipif(
    CHROMIUM is None and not os.environ.get("CI"), reason="no Chromium here: apt-get install chromium"
)


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A third of the groups that the demo has: quick to make."""
    directory, _ = make_run(tmp_path_factory.mktemp("browser") / "run", prompts=120, long_text=1_000_000)
    return report_again(directory.root)[0]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as started:
        opened = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        yield opened
        opened.close()


class Seen:
    """A page, and everything it said or asked for."""

    def __init__(self, browser: Any, path: Path, **settings: Any) -> None:
        self.context = browser.new_context(**{"viewport": {"width": 1280, "height": 900}, **settings})
        self.page = self.context.new_page()
        self.said: list[str] = []
        self.asked: list[str] = []
        self.page.on("console", lambda message: self.said.append(message.text))
        self.page.on("pageerror", lambda error: self.said.append(str(error)))
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.goto(path.as_uri())

    def count(self) -> str:
        self.page.wait_for_timeout(150)  # the search waits for a pause in typing
        return self.page.inner_text("#found")

    def opened(self) -> str:
        return self.page.inner_text("#detail h3")


@pytest.fixture
def seen(browser: Any, report: Path) -> Iterator[Seen]:
    found = Seen(browser, report)
    yield found
    found.context.close()


def test_it_opens_within_two_seconds_says_nothing_and_asks_nobody(browser: Any, report: Path):
    took = []
    for _ in range(3):
        seen = Seen(browser, report)
        took.append(seen.page.evaluate("performance.getEntriesByType('navigation')[0].loadEventEnd"))
        assert seen.said == []
        assert seen.asked == [report.as_uri()]
        assert seen.count() == "720 of 720 groups"
        seen.context.close()
    assert 0 < min(took) < 2000, f"milliseconds: {took}"


def test_search_filters_and_clear(seen: Seen):
    page = seen.page
    page.fill("#search", "ทะเล")
    assert seen.count() == "240 of 720 groups"
    page.fill("#search", "WIDE 17?")
    assert seen.count() == "12 of 720 groups", "the English twin is searched too, word by word"
    page.select_option("#language", "en")
    assert seen.count() == "4 of 720 groups"
    page.select_option("#iteration", "2")
    assert seen.count() == "2 of 720 groups"
    page.click("button[type=reset]")
    assert seen.count() == "720 of 720 groups"
    page.select_option("#outcome", "pair")
    page.fill("#margin-low", "5")
    page.fill("#margin-high", "6")
    shown = seen.count()
    margins = [float(text) for text in page.locator("#rows td:nth-child(5)").all_inner_texts()]
    assert margins
    assert all(5 <= margin <= 6 for margin in margins)
    assert not shown.startswith("720")
    page.fill("#search", "nothing holds this")
    assert seen.count() == "0 of 720 groups"


def test_sorting_goes_both_ways_and_is_announced(seen: Seen):
    header = seen.page.locator("th:has([data-sort=m])")
    assert header.get_attribute("aria-sort") == "none"
    for direction, ordered in (("ascending", sorted), ("descending", lambda values: sorted(values, reverse=True))):
        seen.page.click("[data-sort=m]")
        assert header.get_attribute("aria-sort") == direction
        margins = [float(text) for text in seen.page.locator("#rows td:nth-child(5)").all_inner_texts()]
        assert len(margins) == 200
        assert margins == ordered(margins)
    seen.page.click("#more")
    assert seen.page.locator("#rows tr").count() == 400


def test_everything_can_be_done_by_keyboard(seen: Seen):
    page = seen.page
    first = seen.opened()
    page.keyboard.press("j")
    assert seen.opened() != first
    page.keyboard.press("ArrowDown")
    second = seen.opened()
    page.keyboard.press("ArrowUp")
    page.keyboard.press("k")
    assert seen.opened() == first
    assert page.evaluate("document.activeElement.getAttribute('aria-current')") == "true"
    page.keyboard.press("/")
    assert page.evaluate("document.activeElement.id") == "search"
    page.keyboard.type("jk/")
    assert page.input_value("#search") == "jk/", "keys are letters where one types"
    expect(page.locator("#found")).to_have_text("0 of 720 groups")
    page.keyboard.press("Escape")
    assert page.evaluate("document.activeElement.id") != "search"
    assert page.input_value("#search") == ""
    expect(page.locator("#found")).to_have_text("720 of 720 groups")
    page.locator("#rows button").nth(2).focus()
    page.keyboard.press("Enter")
    assert seen.opened() == second
    assert page.evaluate("document.activeElement.id") == "detail"
    reached = set()
    page.evaluate("document.body.focus()")
    page.locator(".skip").focus()
    for _ in range(12):
        page.keyboard.press("Tab")
        reached.add(page.evaluate("document.activeElement.tagName"))
    assert {"A", "BUTTON"} <= reached


def test_text_of_strangers_is_text(seen: Seen):
    page = seen.page
    for _ in range(20):
        page.keyboard.press("j")
        assert page.locator("#detail *").evaluate_all("all => all.map(e => e.tagName)").count("SCRIPT") == 0
    assert page.evaluate("window.pwned") is None
    assert page.locator("#main script, #main img, #main iframe, #main [onerror], #main [onload]").count() == 0
    links = page.locator("a").evaluate_all("all => all.map(a => a.getAttribute('href'))")
    assert links
    assert all(link.startswith("#") for link in links)
    text = page.evaluate("document.body.textContent")
    assert "<script>window.pwned = 1</script>" in text
    assert "javascript:window.pwned=1" in page.evaluate("document.getElementById('groups').textContent")
    assert "\u202e" not in text
    page.fill("#search", "{{ 7 * 7 }}")
    assert not seen.count().startswith("0 "), "templates are not evaluated"


def test_the_policy_of_the_page_stops_what_would_get_in(seen: Seen):
    stopped = seen.page.evaluate(
        """() => {
            const script = document.createElement('script');
            script.textContent = 'window.pwned = 1';
            document.body.append(script);
            return window.pwned === undefined;
        }"""
    )
    assert stopped
    assert any("Content Security Policy" in line for line in seen.said)


def test_scripts_that_run_from_the_right_do(seen: Seen):
    seen.page.select_option("#language", "ar")
    seen.count()
    seen.page.keyboard.press("j")
    seen.page.locator("#rows button").first.click()
    text = seen.page.locator("#detail .text").first
    assert text.get_attribute("lang") == "ar"
    assert text.evaluate("e => getComputedStyle(e).direction") == "rtl"
    assert seen.page.locator("#detail .token").count() > 0, "token by token, where it was kept"


def test_charts_have_words_and_numbers_and_tips(seen: Seen):
    charts = seen.page.locator(".chart")
    assert charts.count() >= 12
    for chart in charts.all():
        assert chart.get_attribute("role") == "img"
        assert len(chart.get_attribute("aria-label") or "") > 10
        assert chart.locator("xpath=..").locator("details tbody tr").count() > 0
    mark = seen.page.locator(".chart [aria-roledescription=point][aria-label*='win rate']").first
    mark.scroll_into_view_if_needed()
    mark.hover(force=True)
    assert "win rate" in seen.page.inner_text("#tip")


@pytest.mark.parametrize(("width", "scheme"), [(390, "light"), (1280, "dark")])
def test_nothing_serious_bars_anybody(browser: Any, tmp_path: Path, width: int, scheme: str):
    from axe_playwright_python.sync_playwright import Axe

    directory, _ = make_run(tmp_path / "run")
    seen = Seen(browser, report_again(directory.root)[0], viewport={"width": width, "height": 800}, color_scheme=scheme)
    seen.page.locator("details").evaluate_all("all => all.forEach(d => d.open = true)")
    found = Axe().run(seen.page).response["violations"]
    assert [(v["id"], [n["html"][:120] for n in v["nodes"][:3]]) for v in found] == []
    assert seen.page.evaluate("document.documentElement.scrollWidth") <= width, "no sideways scrolling of the page"
    seen.context.close()


def test_the_theme_can_be_chosen(seen: Seen):
    def paper() -> str:
        return seen.page.evaluate("getComputedStyle(document.body).backgroundColor")

    light = paper()
    seen.page.click("#theme")
    assert seen.page.inner_text("#theme") == "Theme: light"
    assert paper() == light
    seen.page.click("#theme")
    assert paper() != light


def test_a_comparison_opens_as_quietly(browser: Any, report: Path, tmp_path: Path):
    other, _ = make_run(tmp_path / "other", prompts=4)
    seen = Seen(browser, compare([report.parent, other.root], tmp_path / "both.html"))
    assert seen.said == []
    assert "run · other" in seen.page.inner_text("h1")
    seen.context.close()
