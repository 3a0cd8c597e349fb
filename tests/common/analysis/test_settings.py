from common.analysis.scaling import Scaling, summarize_cells
from common.analysis.settings import Setting, split_into_settings
from tests.common.report.fake_study import make_cell, make_line


def split(cells: list, scaling: Scaling = "strong") -> list[Setting]:
    lines = [make_line(cell, 0, 0.01, sequence=i) for i, cell in enumerate(cells)]
    return split_into_settings(summarize_cells(lines, scaling=scaling), scaling=scaling)


def test_only_what_trains_alike_is_compared() -> None:
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
    assert settings[0].title == "mlp_medium, global batch 64, float32, dataset synthetic"
    assert (
        settings[3].title == "mlp_medium, d_model=64, global batch 64, float32, dataset synthetic"
    )


def test_weak_scaling_compares_at_the_batch_per_device() -> None:
    cells = [
        make_cell("torch", "bare", 1, global_batch_size=64),
        make_cell("torch", "ddp", 2, global_batch_size=128),
    ]
    (setting,) = split(cells, "weak")
    assert setting.title == "mlp_medium, batch per device 64, float32"
    assert len(split(cells, "strong")) == 2


def test_series_are_told_apart_by_what_varies_only() -> None:
    cells = [
        make_cell("torch", "ddp", 1),
        make_cell("torch", "ddp", 2),
        make_cell("torch", "ddp", 1, tuning="tuned"),
        make_cell("jax", "pjit", 1),
    ]
    (setting,) = split(cells)
    assert list(setting.series) == ["jax pjit", "torch ddp stock", "torch ddp tuned"]
    assert [name for name, _ in setting.cells] == [
        "jax pjit on 1 device",
        "torch ddp stock on 1 device",
        "torch ddp stock on 2 devices",
        "torch ddp tuned on 1 device",
    ]


def test_titles_and_slugs_are_unique() -> None:
    """Title and slug say less than the cells; a verdict or a plot must not get the wrong ones."""
    cells = [make_cell("jax", "bare", 1, overrides={"n": value}) for value in (1, "1", "1!", "1_2")]
    settings = split(cells)
    assert len({setting.title for setting in settings}) == 4
    assert len({setting.slug for setting in settings}) == 4


def test_cells_of_a_series_have_names_of_their_own() -> None:
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
