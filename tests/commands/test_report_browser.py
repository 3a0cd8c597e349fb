"""Opens a report in a real browser: sorting, hovering, the content policy, narrow windows."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, expect

from isoscale.common.parity.documents import ParityDocument
from isoscale.common.report.parity import page as parity_page
from isoscale.common.report.study.data import load_study
from isoscale.common.report.study.write import write_report
from tests.common.report.fake_study import grid_lines, write_study
from tests.common.report.parity.test_page import VERSION_1

pytestmark = pytest.mark.slow

SECONDS = {"jax": 0.012, "tensorflow": 0.010, "torch": 0.0101}


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The address of the report of a study with many columns."""
    lines = grid_lines(
        models=("mlp_medium", "gpt_tiny"),
        seconds=lambda cell: SECONDS[cell["framework"]] / cell["devices"] ** 0.5,
    )
    lines[3]["compile_seconds"] = None
    found = load_study(write_study(tmp_path_factory.mktemp("report") / "study", lines))
    return write_report(found).as_uri()


@pytest.fixture(params=[1400, 800])
def page(browser: Browser, report: str, request: pytest.FixtureRequest) -> Iterator[Page]:
    """The opened page; at the end, the browser must have complained about nothing."""
    context = browser.new_context(viewport={"width": request.param, "height": 900})
    page = context.new_page()
    complaints: list[str] = []

    def listen(message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            complaints.append(message.text)

    page.on("console", listen)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.goto(report)
    yield page
    context.close()
    assert complaints == []


def test_no_table_is_cut(page: Page, tmp_path: Path) -> None:
    page.screenshot(path=tmp_path / "report.png", full_page=True)
    width = page.viewport_size["width"]
    wide = page.evaluate(
        """width => [...document.querySelectorAll("body *")].filter(
            e => !e.closest("svg") && e.getBoundingClientRect().right > width + 1
        ).map(e => e.tagName + " " + e.textContent.slice(0, 40))""",
        width,
    )
    assert wide == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width


@pytest.mark.parametrize("width", [1400, 800])
def test_no_table_of_parity_is_cut(browser: Browser, tmp_path: Path, width: int) -> None:
    document = ParityDocument.from_json(json.loads(VERSION_1.read_text()))
    written = parity_page.write_page(tmp_path, document)
    context = browser.new_context(viewport={"width": width, "height": 900})
    page = context.new_page()
    page.goto(written.as_uri())
    page.screenshot(path=tmp_path / "parity.png", full_page=True)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    context.close()


def test_the_bar_of_contents_leads_to_each_section(page: Page) -> None:
    bar = page.locator("nav.bar")
    names = ["Answer", "mlp_medium", "gpt_tiny", "Conditions", "Method", "Problems", "All runs"]
    expect(bar.locator("a")).to_have_text(names)
    for link in bar.locator("a").all():
        link.click()
        expect(page.locator(link.get_attribute("href"))).to_be_in_viewport()
        expect(bar).to_be_in_viewport()


def test_a_point_shows_its_value_under_the_pointer(page: Page) -> None:
    tip = page.locator(".tip")
    expect(tip).to_be_hidden()
    figure = page.locator("figure[id$=speedup]").first
    figure.scroll_into_view_if_needed()
    figure.locator(".hover").last.hover()
    expect(tip).to_be_visible()
    expect(tip).to_contain_text("torch ddp, 2: speedup 1.4")
    expect(tip).to_contain_text("n = 6")
    page.locator("h1").hover()
    expect(tip).to_be_hidden()


def column(page: Page, name: str) -> list[str]:
    """Returns the values of a column of the table of all runs, from top to bottom."""
    return page.locator(f'#runs ~ table td[data-name="{name}"]').all_inner_texts()


@pytest.mark.parametrize("page", [1400], indirect=True)
def test_a_click_on_a_heading_sorts_the_table(page: Page) -> None:
    name = "compile, s"
    head = page.locator("#runs ~ table th", has_text=name)
    before = column(page, "time per step, ms")
    times = page.locator("#runs ~ table th", has_text="time per step, ms")
    assert sorted(before, key=float) != before
    times.locator("button").click()
    assert column(page, "time per step, ms") == sorted(before, key=float)
    times.locator("button").press("Enter")
    assert column(page, "time per step, ms") == sorted(before, key=float, reverse=True)
    for _ in range(2):  # a missing value stays at the end
        head.locator("button").click()
        assert column(page, name)[-1] == "-"
    expect(head).to_have_attribute("aria-sort", "descending")
    expect(times).to_have_attribute("aria-sort", "none")


def test_foreign_scripts_do_not_run(browser: Browser, report: str, tmp_path: Path) -> None:
    """Text from a study that became a script, by an error, would be stopped by the policy."""
    text = Path(report.removeprefix("file://")).read_text()
    changed = tmp_path / "report.html"
    changed.write_text(text.replace("</h1>", "</h1><script>document.title = 'x'</script>", 1))
    context = browser.new_context()
    page = context.new_page()
    page.goto(changed.as_uri())
    assert page.title() == "isoscale: study"
    context.close()
