"""Plots stand alone, name their values, and draw no more than was measured."""

import dataclasses
import html
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from matplotlib.figure import Figure

from isoscale.common.report.drawing.files import FORMATS
from isoscale.common.report.drawing.plot import Plot
from isoscale.common.report.drawing.style import looks
from isoscale.common.report.study.contents import make_contents
from isoscale.common.report.study.data import load_study
from isoscale.common.report.study.plots.loss import flat_from, loss_plot
from tests.common.report.fake_study import grid_lines, make_cell, make_line, write_study
from tests.conftest import ROOT, environment_of


def plots_of(folder: Path, lines: list[dict[str, Any]], **options: Any) -> dict[str, Plot]:
    """Returns the plots of a study with one setting: kind -> plot."""
    found = make_contents(load_study(write_study(folder / "s", lines, **options)), most_drawn=9)
    (section,) = found.sections
    every = [*found.overview, *section.plots]
    return {plot.slug.removeprefix("mlp_medium_global_batch_64_float32_"): plot for plot in every}


def texts(svg: str) -> str:
    """Returns the visible text of a drawing."""
    found = re.findall(r"<(?:text|tspan)[^>]*>([^<]*)<", svg)
    return " ".join(" ".join(map(html.unescape, found)).split())


def seconds(cell: dict[str, Any]) -> float:
    return 0.012345 / (1.5 if cell["devices"] == 2 else 1)


@pytest.fixture(scope="module")
def plots(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Plot]:
    lines = grid_lines(seconds=seconds, noise=0.0)
    extra = make_line(make_cell("torch", "ddp", 2), 6, 0.01, sequence=999)
    extra["started"] = "2026-11-23T10:00:00.000+00:00"
    return plots_of(tmp_path_factory.mktemp("plots"), [*lines, extra])


def test_every_drawing_says_quantity_machine_date_and_runs(plots: dict[str, Plot]) -> None:
    assert sorted(plots) == [
        *("compile_time", "latency", "loss", "memory", "overview", "speedup", "step_time"),
    ]
    for kind, plot in plots.items():
        said = texts(plot.render_svg())
        assert plot.title in said
        runs = "1 run" if kind == "loss" else "6 to 7 runs"
        line = f"Test CPU, 2 cores; 2026-11-21 to 2026-11-23; n = {runs} of each cell"
        assert line in said, kind


def test_the_overview_shows_the_words_that_tell_settings_of_a_sweep_apart(tmp_path: Path) -> None:
    sizes = {"hidden_sizes": [256, 128, 64], "input_size": 1024}
    lines = [
        make_line(make_cell(name, "bare", 1, overrides=sizes, **more), run, 0.01, sequence=run)
        for name in ("jax", "torch")
        for more in ({"dtype": "bfloat16"}, {"dtype": "float32"})
        for run in range(3)
    ]
    (plot,) = make_contents(load_study(write_study(tmp_path / "s", lines)), most_drawn=0).overview
    (axes,) = plot.draw(plot.title).axes
    labels = [label.get_text().split() for label in axes.get_yticklabels()]
    assert [words[-1] for words in labels] == ["bfloat16", "float32"]


def test_a_drawing_keeps_its_size_above_the_added_line(plots: dict[str, Plot]) -> None:
    plot = plots["step_time"]
    bare, full = plot.draw(plot.title), plot._figure()
    for a, b in zip(bare.axes, full.axes, strict=True):
        sizes = [
            x.get_position().bounds[2:] * figure.get_size_inches()
            for x, figure in ((a, bare), (b, full))
        ]
        assert sizes[0] == pytest.approx(sizes[1])
    assert full.get_size_inches()[1] > bare.get_size_inches()[1]


def test_values_stand_beside_the_points(plots: dict[str, Plot]) -> None:
    said = texts(plots["step_time"].render_svg())
    assert said.count("12.35") >= 7  # each cell on one device
    assert "8.230" in said
    assert "torch ddp: 1.50x, 75 %" in texts(plots["speedup"].render_svg())
    assert "jax pjit: 1.50x, 75 %" in texts(plots["speedup"].render_svg())


def test_a_browser_shows_the_interval_of_a_point(plots: dict[str, Plot]) -> None:
    titles = re.findall(r'<g class="hover"><title>([^<]*)</title>', plots["speedup"].render_svg())
    assert "jax pjit, 2: speedup 1.50 [1.50, 1.50], efficiency 75 [75, 75] %, n = 6" in titles
    assert len(titles) == 2 * 4  # bare is the line at 1
    assert "hover:" not in plots["speedup"].render_svg()


@pytest.mark.parametrize("runs, joined", [(2, False), (3, True)])
def test_a_line_needs_three_runs(tmp_path: Path, runs: int, joined: bool) -> None:
    plot = plots_of(tmp_path, grid_lines(runs=runs, devices=(1, 2)))["speedup"]
    curves = [c.lines[0] for c in plot.draw("").axes[0].containers]
    assert len(curves) == 4
    assert {line.get_linestyle() != "None" for line in curves} == {joined}


def test_throughput_is_drawn_without_a_base_only(tmp_path: Path) -> None:
    lines = [line for line in grid_lines() if line["cell"]["strategy"] != "bare"]
    found = plots_of(tmp_path, lines)
    assert "speedup" not in found
    assert found["throughput"].title == "Throughput: mlp_medium, global batch 64, float32"
    assert re.search(r"torch ddp: 6\d\d\d", texts(found["throughput"].render_svg()))


def exponential(step: int) -> float:
    return 1 + 4 * 0.9**step


def noisy(step: int) -> float:
    return exponential(step) * (1.02 if step % 2 else 0.98)


@pytest.mark.parametrize("loss", [exponential, noisy])
def test_a_curve_is_flat_when_its_level_stays(loss: Callable[[int], float]) -> None:
    index = flat_from([loss(step) for step in range(400)])
    # 2 % of log(5) is 0.032: the loss is below 1.033 from step 46 on.
    assert 40 <= index <= 60


def test_falling_and_constant_curves_are_not_flat_early() -> None:
    assert flat_from([5 * 0.98**step for step in range(400)]) > 380
    assert flat_from([5 - 0.012 * step for step in range(400)]) > 380
    assert flat_from([5.0] * 400) == 0
    assert flat_from([5.0]) == 0


def drawn_losses(folder: Path, loss: Callable[[int], float], steps: int) -> tuple[Plot, Any]:
    study = load_study(write_study(folder / "s", grid_lines(runs=1), steps=0))
    (setting,) = study.settings
    curves = [
        (name, name, list(range(steps)), [loss(step) for step in range(steps)])
        for name in setting.series
    ]
    plot = loss_plot(setting, curves, looks(setting, ["jax", "tensorflow", "torch"]))
    return plot, plot.draw("").axes[0]


def test_the_loss_has_a_logarithmic_axis_and_ends_when_flat(tmp_path: Path) -> None:
    plot, axes = drawn_losses(tmp_path, exponential, 400)
    assert axes.get_yscale() == "log"
    said = re.search(r"ends at step (\d+) of 399: from step (\d+) on", plot.caption)
    assert said is not None
    end, flat = map(int, said.groups())
    assert flat < end < 80
    assert all(line.get_xdata()[-1] == end for line in axes.lines)


@pytest.mark.parametrize("loss", [lambda step: 5.0, lambda step: 5 - 0.0125 * step])
def test_a_loss_that_never_flattens_is_drawn_in_full(
    tmp_path: Path, loss: Callable[[int], float]
) -> None:
    plot, axes = drawn_losses(tmp_path, loss, 400)
    assert "ends at" not in plot.caption
    assert all(line.get_xdata()[-1] == 399 for line in axes.lines)


@pytest.mark.parametrize("last, labelled", [(1.0, True), (0.001, False)])
def test_labels_of_the_loss_do_not_overlap(tmp_path: Path, last: float, labelled: bool) -> None:
    _, axes = drawn_losses(tmp_path, lambda step: 5 * (last / 5) ** (step / 99), 100)
    axes.figure.canvas.draw()
    minor = [label.get_text() for label in axes.yaxis.get_minorticklabels()]
    assert any(minor) == labelled


def test_a_loss_of_zero_has_a_linear_axis(tmp_path: Path) -> None:
    _, axes = drawn_losses(tmp_path, lambda step: max(0.0, 5 - step), 20)
    assert axes.get_yscale() == "linear"


DRAW = """
import sys
from pathlib import Path
from tests.common.report.study.test_plots import plots_of, seconds
from tests.common.report.fake_study import grid_lines
drawn = plots_of(Path(sys.argv[1]), grid_lines(seconds=seconds))["speedup"].render()
for suffix, content in drawn.files().items():
    data = content.encode() if isinstance(content, str) else content
    Path(sys.argv[1], f"plot.{suffix}").write_bytes(data)
"""


def test_an_unchanged_study_gives_the_same_bytes(tmp_path: Path) -> None:
    """In any process, at any time: hashes of Python's texts differ between processes."""
    for name in ("1", "2"):
        (tmp_path / name).mkdir()
        environment = environment_of(PYTHONHASHSEED=name, SOURCE_DATE_EPOCH=f"{name}000000000")
        subprocess.run(
            [sys.executable, "-c", DRAW, str(tmp_path / name)],
            cwd=ROOT,
            env=environment,
            check=True,
        )
    for suffix in FORMATS:
        first, second = ((tmp_path / name / f"plot.{suffix}").read_bytes() for name in ("1", "2"))
        assert first == second, suffix


def test_a_pdf_has_lines_and_its_own_fonts(plots: dict[str, Plot]) -> None:
    pdf = plots["speedup"].render().pdf
    assert pdf.startswith(b"%PDF-")
    assert b"/Type /Font " in pdf
    assert b"/CharProcs" in pdf, "the outlines of the font are missing"
    assert b"/Subtype /Image" not in pdf
    assert b"/CreationDate" not in pdf


def test_texts_for_browsers_are_in_the_svg_only(plots: dict[str, Plot]) -> None:
    """An invisible marker costs time and room in the other files."""
    plot = plots["speedup"]
    drawn, bare = plot.render(), dataclasses.replace(plot, draw=without_markers(plot)).render()
    assert "<title>" in drawn.svg
    assert (drawn.png, drawn.pdf) == (bare.png, bare.pdf)


def without_markers(plot: Plot) -> Callable[[str], Figure]:
    def draw(title: str) -> Figure:
        figure = plot.draw(title)
        for artist in figure.findobj(lambda a: (a.get_gid() or "").startswith("hover: ")):
            artist.remove()
        return figure

    return draw
