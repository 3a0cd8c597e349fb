"""Opens the printed links in a real browser and checks the pages.

Each test writes a screenshot to its temporary folder.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from isoscale.common.report.study.data import load_study
from isoscale.common.report.study.write import write_report
from isoscale.common.study.store import Store
from tests.commands.board_process import Board, running_board
from tests.common.report.board.test_event_files import lines_of_a_study
from tests.common.report.fake_study import grid_lines, write_study

pytestmark = pytest.mark.slow

MILLISECONDS = 60_000


def seconds_on_many_devices(cell: dict[str, Any]) -> float:
    return 0.01 / (cell["devices"] if cell["strategy"] == "pjit" else 1.5)


@pytest.fixture(scope="module")
def board(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Board]:
    folder = tmp_path_factory.mktemp("browser")
    lines = lines_of_a_study()
    # With many points and one curve far above the others, its end passes for an outlier.
    more = grid_lines(devices=(4, 8), oversubscribed=False, seconds=seconds_on_many_devices)
    lines += [line for line in more if line["cell"]["strategy"] != "bare"]
    for sequence, line in enumerate(lines):
        line["sequence"] = sequence
    write_study(folder / "study", lines)
    write_report(load_study(Store(folder / "study")))
    with running_board(folder, "study", "--out_dir=.") as board:
        yield board


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    # A fresh context: TensorBoard keeps settings in the browser's storage.
    context = browser.new_context(viewport={"width": 1500, "height": 1000})
    context.set_default_timeout(MILLISECONDS)
    yield context.new_page()
    context.close()


def test_scaling_is_drawn_unsmoothed(board: Board, page: Page, tmp_path: Path) -> None:
    page.goto(board.links["scaling"])
    charts = page.locator("tf-custom-scalar-margin-chart-card")
    expect(charts).to_have_count(3, timeout=MILLISECONDS)
    expect(page.locator("tf-custom-scalar-multi-line-chart-card")).to_have_count(3)
    for name in ("jax bare", "jax pjit", "tensorflow mirrored", "torch ddp"):
        expect(page.get_by_text(f"scaling/{name}", exact=True).first).to_be_visible()
    # More than 40 runs: without the link's filter TensorBoard selects none.
    boxes = page.locator("tf-runs-selector paper-checkbox[checked]")
    expect(boxes).to_have_count(7)
    speedup = charts.filter(has_text="speedup (bare = 1)")
    expect(speedup).to_contain_text("95 % interval over runs")
    expect(speedup).to_contain_text("Matches (4)", timeout=MILLISECONDS)
    band = speedup.locator("svg path.area").first
    band.wait_for(state="attached")
    expect(page.locator("tf-custom-scalar-dashboard tf-smoothing-input input")).to_have_value("0")
    page.wait_for_timeout(1000)  # the charts fade in
    page.screenshot(path=tmp_path / "scaling.png")
    expect(page.get_by_text("mismatch")).to_have_count(0)
    for chart in charts.all():
        assert cut(chart) == []


def cut(chart: Locator) -> list[str]:
    """Returns the curves and bands of a chart that do not fit into its axes, give or take 1 px."""
    curves = chart.locator("path.line, path.area")
    assert curves.count() > 0
    return curves.evaluate_all(
        """curves => curves.map(curve => [curve.getBoundingClientRect(),
            curve.ownerSVGElement.getBoundingClientRect()])
        .filter(([c, axes]) => c.width && (c.top < axes.top - 1 || c.bottom > axes.bottom + 1))
        .map(([c, axes]) => `${c.top} to ${c.bottom}, axes ${axes.top} to ${axes.bottom}`)"""
    )


def test_tensorboard_cuts_curves_without_the_printed_link(board: Board, page: Page) -> None:
    page.goto(board.links["scaling"].replace("/data/plugin/isoscale/open", "/"))
    charts = page.locator("tf-custom-scalar-margin-chart-card")
    expect(charts).to_have_count(3, timeout=MILLISECONDS)
    speedup = charts.filter(has_text="speedup (bare = 1)")
    speedup.locator("svg path.area").first.wait_for(state="attached")
    page.wait_for_timeout(1000)
    assert cut(speedup) != []


def test_tensorboard_smooths_charts_without_the_printed_link(board: Board, page: Page) -> None:
    page.goto(f"{board.base}/#custom_scalars")
    smoothing = page.locator("tf-custom-scalar-dashboard tf-smoothing-input input")
    expect(smoothing).to_have_value("0.6", timeout=MILLISECONDS)


def test_cells_are_the_rows_of_the_table(board: Board, page: Page, tmp_path: Path) -> None:
    page.goto(board.links["cells"])
    table = page.locator("tf-hparams-table-view")
    for word in ("gpt_tiny", "mlp_medium", "pjit", "pmap", "mirrored", "ddp", "ms/step"):
        expect(table.get_by_text(word, exact=True).first).to_be_visible(timeout=MILLISECONDS)
    page.screenshot(path=tmp_path / "cells.png")


def test_loss_and_step_time_are_drawn_unsmoothed(board: Board, page: Page, tmp_path: Path) -> None:
    page.goto(board.links["loss and step time"])
    cards = page.locator("scalar-card")
    expect(cards).to_have_count(3, timeout=MILLISECONDS)
    for tag in ("loss", "window/latency_ms_per_step", "window/throughput_ms_per_step"):
        expect(cards.get_by_text(tag, exact=True).first).to_be_visible()
    expect(page.get_by_text("run_0").first).to_be_visible()
    expect(page.get_by_text("run_1")).to_have_count(0)
    loss = cards.first
    expect(loss.locator("line-chart").first).to_be_visible(timeout=MILLISECONDS)
    expect(loss.locator("tr, tb-data-table-content-row").first).to_be_visible()
    expect(page.locator(".scalars-smoothing input[type=number]")).to_have_value("0")
    page.wait_for_timeout(1000)
    page.screenshot(path=tmp_path / "loss.png")


def test_report_and_conditions_are_readable(board: Board, page: Page, tmp_path: Path) -> None:
    page.goto(board.links["report"])
    expect(page.get_by_text("Test CPU, 2 cores")).to_be_visible(timeout=MILLISECONDS)
    page.get_by_role("button", name="reading").click()
    expect(page.get_by_text("smoothing falsifies scaling curves")).to_be_visible()
    expect(page.get_by_text("are more devices faster?").first).to_be_visible()
    expect(page.get_by_text("serial fraction (Karp-Flatt)").first).to_be_attached()
    page.screenshot(path=tmp_path / "report.png")
