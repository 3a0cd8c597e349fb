"""A new framework is one folder and one file per model; no existing file changes.

``numpy_framework/`` holds the new files: a small framework that trains.
"""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.architecture.conftest import hashes
from tests.conftest import copy_of_the_code

pytestmark = pytest.mark.slow

NEW = Path(__file__).parent / "numpy_framework"
MAIN = "isoscale.common.commands.main"


@pytest.fixture(scope="module")
def code(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the code with NumPy as a fourth framework."""
    folder = copy_of_the_code(tmp_path_factory.mktemp("fourth"))
    before = hashes(folder)
    shutil.copytree(NEW, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
    after = hashes(folder)
    assert {name: after[name] for name in before} == before
    assert not [name for name in set(after) - set(before) if name.startswith("common/")]
    return folder


@pytest.fixture
def isoscale(code: Path, run_program) -> Callable[..., str]:
    def run(*arguments: str, code_expected: int = 0) -> str:
        answer = run_program(MAIN, *arguments, code=code)
        assert answer.returncode == code_expected, answer.stdout + answer.stderr
        return answer.stdout + answer.stderr

    return run


def test_compare_runs_a_new_framework_and_reports_the_note_of_its_strategy(
    isoscale, tmp_path: Path
) -> None:
    said = isoscale(
        "compare", "--models=mlp_digits", "--frameworks=numpy,torch", "--strategies=bare",
        "--devices=1", "--runs=1", "--steps=5", "--tuning=tuned", "--study=fourth",
    )  # fmt: skip
    folder = tmp_path / "runs/out/fourth"
    lines = [json.loads(line) for line in (folder / "results.jsonl").read_text().splitlines()]
    runs = {line["cell"]["framework"]: line for line in lines}
    assert set(runs) == {"numpy", "torch"}
    assert runs["numpy"]["cell"]["tweaks"] == ["bias-in-place"]
    for loss in ("loss_first", "loss_last"):
        assert runs["numpy"][loss] == pytest.approx(runs["torch"][loss], rel=1e-5)
    note = "NumPy fuses no operations"
    for text in (said, (folder / "report.md").read_text()):
        assert text.count(note) == 1
        assert "pmap is built" not in text


def test_parity_compares_a_new_framework_with_the_other_frameworks(
    isoscale, tmp_path: Path
) -> None:
    isoscale(
        "parity", "--frameworks=numpy,torch", "--models=mlp_plain", "--strategies=bare",
        "--devices=1", "--steps=5", "--dtype=float64", "--out_dir=parity",
    )  # fmt: skip
    document = json.loads((tmp_path / "parity/parity.json").read_text())
    against = {
        run["case"]: [comparison["against"] for comparison in run["comparisons"]]
        for run in document["runs"]
        if run["framework"] == "torch"
    }
    assert "numpy bare" in against["mlp_plain"]
    assert "numpy bare" in against["mlp_plain/accumulated"]
    assert "mlp_plain/dropout" in against


def test_tweaks_and_doctor_list_the_entries_of_a_new_framework(isoscale) -> None:
    said = isoscale("tweaks", "--frameworks=numpy", "--models=mlp_digits")
    assert "bias-in-place  (operation; available)" in said
    said = isoscale("doctor", "--frameworks=numpy", "--sgemm_size=256")
    assert "NOTE: numpy_fuses_nothing" in said


def test_a_model_family_without_a_file_for_the_framework_is_refused(isoscale) -> None:
    said = isoscale(
        "compare", "--models=gpt_tiny", "--frameworks=numpy", "--devices=1", code_expected=2
    )
    assert "model family 'transformer' has no numpy_model.py for framework 'numpy'" in said
    assert len(said.splitlines()) == 1
