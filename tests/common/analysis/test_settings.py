from typing import Any

from isoscale.common.analysis.scaling import Scaling, summarize_cells
from isoscale.common.analysis.settings import Setting, split_into_settings
from tests.common.report.fake_study import make_cell, make_line, read_lines


def split(cells: list, scaling: Scaling = "strong", **options: Any) -> list[Setting]:
    lines = [make_line(cell, 0, 0.01, sequence=i) for i, cell in enumerate(cells)]
    summaries = summarize_cells(read_lines(lines), scaling=scaling)
    return split_into_settings(summaries, scaling=scaling, **options)


def test_only_cells_with_equal_training_share_a_setting() -> None:
    cells = [
        make_cell("jax", "bare", 1),
        make_cell("torch", "ddp", 2),
        make_cell("torch", "ddp", 2, dtype="bfloat16"),
        make_cell("torch", "ddp", 2, model="gpt_tiny"),
        make_cell("torch", "ddp", 2, overrides={"d_model": 64}),
        make_cell("torch", "ddp", 2, global_batch_size=128),
        make_cell("torch", "ddp", 2, dataset="digits"),
    ]
    settings = split(cells)
    assert next(list(setting.series) for setting in settings) == ["jax bare", "torch ddp"]
    assert len(settings) == 6
    assert len({setting.slug for setting in settings}) == 6
    assert [settings[i].title for i in (0, 2, 3)] == [
        "mlp_medium, d_model=preset, global batch 64, float32, dataset synthetic",
        "gpt_tiny, global batch 64, float32, dataset synthetic",
        "mlp_medium, d_model=64, global batch 64, float32, dataset synthetic",
    ]


def test_cells_in_tf32_are_not_compared_with_others() -> None:
    cells = [make_cell("torch", "bare", 1, platform="gpu", **more) for more in ({}, {"tf32": True})]
    titles = [setting.title for setting in split(cells)]
    assert titles == [
        "mlp_medium, global batch 64, float32, tf32 None",
        "mlp_medium, global batch 64, float32, tf32 True",
    ]


def test_titles_name_accumulation_even_if_equal_in_all_cells() -> None:
    cells = [make_cell(name, "bare", 1, gradient_accumulation_steps=2) for name in ("jax", "torch")]
    (setting,) = split(cells)
    assert setting.title == "mlp_medium, global batch 64, float32, gradient_accumulation_steps 2"
    titles = [setting.title for setting in split([*cells, make_cell("jax", "bare", 1)])]
    assert titles[1] == "mlp_medium, global batch 64, float32, gradient_accumulation_steps 1"


def test_weak_scaling_compares_at_the_batch_per_device() -> None:
    cells = [
        make_cell("torch", "bare", 1, global_batch_size=64),
        make_cell("torch", "ddp", 2, global_batch_size=128),
    ]
    (setting,) = split(cells, "weak")
    assert setting.title == "mlp_medium, batch per device 64, float32"
    assert len(split(cells, "strong")) == 2


def test_series_names_contain_only_varying_fields() -> None:
    cells = [
        make_cell("torch", "ddp", 1),
        make_cell("torch", "ddp", 2),
        make_cell("torch", "ddp", 1, compile_mode="new"),
        make_cell("jax", "pjit", 1),
    ]
    (setting,) = split(cells)
    assert list(setting.series) == ["jax pjit", "torch ddp eager", "torch ddp new"]
    assert [name for name, _ in setting.cells] == [
        "jax pjit on 1 device",
        "torch ddp eager on 1 device",
        "torch ddp eager on 2 devices",
        "torch ddp new on 1 device",
    ]


def test_each_lane_is_a_setting_and_tweaks_name_a_series_only_if_needed() -> None:
    """Tweaks differ between frameworks and device counts; they name a series only if needed."""
    several: dict[str, Any] = {"tweaks": ["a", "several"], "steps_per_dispatch": 10}
    cells = [
        make_cell("jax", "bare", 1),
        make_cell("jax", "bare", 1, tuning="tuned", **several),
        make_cell("torch", "ddp", 1, tuning="tuned", tweaks=["b"], compile_mode="compile"),
        make_cell("torch", "ddp", 2, tuning="tuned"),
    ]
    stock, tuned = split(cells)
    assert stock.title == "mlp_medium, global batch 64, float32, tuning stock"
    assert tuned.title == "mlp_medium, global batch 64, float32, tuning tuned"
    assert list(stock.series) == ["jax bare"]
    assert list(tuned.series) == ["jax bare", "torch ddp"]
    twice = make_cell("torch", "ddp", 1, tuning="tuned", tweaks=["b", "c"], compile_mode="compile")
    _, tuned = split([*cells, twice])
    assert list(tuned.series) == ["jax bare", "torch ddp b", "torch ddp", "torch ddp b,c"]


def test_series_names_are_unique_across_lanes() -> None:
    cells = [
        make_cell("jax", "bare", 1),
        make_cell("jax", "bare", 1, tuning="ladder", tweaks=["a"]),
        make_cell("jax", "bare", 1, tuning="tuned", tweaks=["a", "b"]),
        make_cell("torch", "bare", 1),
        make_cell("torch", "bare", 1, tuning="tuned"),
    ]
    (setting,) = split(cells, across_lanes=True)
    assert setting.title == "mlp_medium, global batch 64, float32"
    assert list(setting.series) == [
        "jax bare stock",
        "jax bare ladder a",
        "jax bare tuned a,b",
        "torch bare stock",
        "torch bare tuned",
    ]


def test_titles_and_slugs_are_unique() -> None:
    """Different settings may have equal texts; a number keeps their titles and slugs apart."""
    cells = [make_cell("jax", "bare", 1, overrides={"n": value}) for value in (1, "1", "1!", "1_2")]
    settings = split(cells)
    assert len({setting.title for setting in settings}) == 4
    assert len({setting.slug for setting in settings}) == 4


def test_cells_of_a_series_have_unique_names() -> None:
    cells = [
        make_cell("torch", "ddp", 1),
        make_cell("torch", "ddp", 2),
        make_cell("torch", "ddp", 2, processes=1),
    ]
    (setting,) = split(cells)
    names = [name for name, _ in setting.cells]
    assert len(set(names)) == 3
    assert "torch ddp processes=2 on 2 devices" in names


def test_a_slug_is_a_plain_file_name() -> None:
    cells = [
        make_cell("jax", "bare", 1, model=model)
        for model in ("../../etc/passwd", "<script>", "a b", "a_b", "x" * 300)
    ]
    slugs = [setting.slug for setting in split(cells)]
    assert len(set(slugs)) == 5
    for slug in slugs:
        assert not set(slug) & set("/\\<> \"'")
        assert not slug.startswith(".")
        assert len(slug) < 100
