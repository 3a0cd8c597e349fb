"""Tests ``isoscale relay``: one training through three frameworks, in every order."""

import itertools
import json
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.common.report.page import Page
from tests.conftest import ROOT, copy_of_the_code, interrupted

pytestmark = pytest.mark.slow

MAIN = "isoscale.common.commands.main"
MODELS = ("mlp_plain", "moe_plain", "transformer_causal")
FRAMEWORKS = ("jax:pjit:2", "tensorflow:mirrored:2", "torch:ddp:2")
LEGS = ("--legs=torch:ddp:2,jax:pjit:2", "--steps=6", "--out_dir=relay")
SHORT = ("--legs=torch:ddp:2,torch:bare:1", "--steps=6", "--out_dir=relay")


@pytest.fixture(scope="module")
def all_orders(tmp_path_factory) -> tuple[Path, str]:
    """Runs all orders of all families once; returns the output folder and standard output."""
    folder = tmp_path_factory.mktemp("relay")
    answer = subprocess.run(
        [
            *(sys.executable, "-P", "-m", MAIN, "relay", f"--model={','.join(MODELS)}"),
            *("--all_orders", "--steps=15", f"--out_dir={folder}"),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert answer.returncode == 0, answer.stdout + answer.stderr
    return folder, answer.stdout


def document(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "relay.json").read_text())


@pytest.mark.two_cores
def test_relays_in_every_order_equal_unbroken_trainings(all_orders) -> None:
    folder, printed = all_orders
    found = document(folder)
    orders = {(r["model"], tuple(r["legs"])) for r in found["relays"]}
    assert orders == set(itertools.product(MODELS, itertools.permutations(FRAMEWORKS)))
    assert "All within bounds: 63 comparisons of 18 relays and 9 unbroken trainings." in printed
    for relay in found["relays"]:
        assert relay["ends"] == [5, 10, 15]
        assert len(relay["losses"]) == 15
        assert {c["against"] for c in relay["comparisons"]} == {
            f"unbroken {leg}" for leg in FRAMEWORKS
        }
        for comparison in relay["comparisons"]:
            figures = {figure["kind"]: figure for figure in comparison["figures"]}
            assert [step for step, _ in figures["loss, relative"]["by_step"]] == list(range(15))
            assert figures["loss, relative"]["bound"] == 1e-12
            assert figures["parameters, absolute"]["bound"] == 1e-10
            assert {"optimizer state first_moment, absolute",
                    "optimizer state second_moment, absolute"} <= set(figures)  # fmt: skip


@pytest.mark.two_cores
def test_relay_writes_a_page_plots_and_curves(all_orders) -> None:
    folder, _ = all_orders
    page = (folder / "relay.html").read_text()
    assert page.count("<svg") == len(MODELS)
    assert Page(page).loads == []
    assert "href=http" not in page
    assert {path.name for path in (folder / "plots").iterdir()} == {
        ".drawn",
        *(f"relay_{model}.{ending}" for model in MODELS for ending in ("svg", "png", "pdf")),
    }
    runs = {path.parent.name for path in (folder / "tensorboard/moe_plain").rglob("events.out*")}
    assert len(runs) == 6 + 3
    assert "relay-jax_pjit_2-tensorflow_mirrored_2-torch_ddp_2" in runs


@pytest.mark.parametrize(
    "flags, step", [((), 4), (("--dtype=float32", "--steps=17"), 9)], ids=["float64", "float32"]
)
def test_a_difference_exits_with_1_and_names_the_step(
    flags: tuple[str, ...], step: int, run_program, tmp_path: Path
) -> None:
    """A checkpoint loses the optimizer state; in float32 this shows at the last judged step."""
    code = copy_of_the_code(tmp_path / "code")
    path = code / "common/checkpoint/saver.py"
    text = path.read_text()
    good = "OptimizerState(slots=state.slots,"
    assert text.count(good) == 1
    bad = "{slot: {n: 0 * v for n, v in a.items()} for slot, a in state.slots.items()}"
    path.write_text(text.replace(good, f"OptimizerState(slots={bad},"))
    answer = run_program(MAIN, "relay", "--model=mlp_plain", *SHORT, *flags, code=code)
    assert answer.returncode == 1, answer.stdout + answer.stderr
    (line,) = [x for x in answer.stdout.splitlines() if x.startswith("OUT OF BOUNDS")]
    # The first step after the hand-over is the first to use the moments; the next loss shows it.
    assert f"loss at step {step}: " in line
    partly = "In float32 only the losses of the first 10 steps are judged" in answer.stdout
    assert partly == bool(flags)


@pytest.mark.parametrize(
    "path, good, bad, message",
    [
        (
            "strategies/ddp.py",
            "def __init__(",
            "def __init__x(",
            # Both ranks fail at once.
            r"rank [01] failed in 'building mlp_plain torch:ddp:2': AttributeError: ",
        ),
        # After one step the parameters are not finite: no checkpoint, and the next leg stops.
        (
            "optimizer.py",
            "lr=config.learning_rate",
            "lr=math.inf",
            r"no checkpoint at step 3: param",
        ),
    ],
)
def test_a_failed_leg_exits_with_3(
    path: str, good: str, bad: str, message: str, run_program, tmp_path: Path
) -> None:
    code = copy_of_the_code(tmp_path / "code")
    broken = code / "frameworks/torch_runner" / path
    text = broken.read_text()
    assert good in text
    broken.write_text("import math\n" + text.replace(good, bad))
    answer = run_program(MAIN, "relay", "--model=mlp_plain", *SHORT, code=code)
    assert answer.returncode == 1, answer.stdout + answer.stderr
    (line,) = [
        x for x in answer.stdout.splitlines() if x.startswith("FAILED: mlp_plain torch:ddp:2 > ")
    ]
    assert re.search(message, line)
    # Once for each training that failed, and never in the table or beside the progress.
    failed = [x for x in answer.stdout.splitlines() if x.startswith("FAILED: ")]
    assert len(re.findall(message, answer.stdout + answer.stderr)) == sum(
        re.search(message, x) is not None for x in failed
    )
    assert "failed: mlp_plain" in answer.stderr
    assert "All within" not in answer.stdout


def test_an_interrupted_relay_can_be_resumed(tmp_path: Path, run_program) -> None:
    flags = (
        "--model=mlp_plain,mlp_plain/sgd_cosine_clipped,mlp_plain/accumulated,mlp_plain/adamw_linear_clipped",
        *LEGS,
    )
    work = tmp_path / "relay/.work"
    said = interrupted("relay", *flags, signal_number=signal.SIGTERM, work=work, folder=tmp_path)
    assert "of 16 runs are kept in" in said
    # The output of a finished job is deleted: the job runs again in spite of its result line.
    (gone,) = work.glob("outputs/mlp_plain/torch_ddp_2-to-3")
    shutil.rmtree(gone)
    answer = run_program(MAIN, "relay", *flags, "--resume")
    assert answer.returncode == 0, answer.stdout + answer.stderr
    assert (
        "All within bounds: 12 comparisons of 4 relays and 8 unbroken trainings." in answer.stdout
    )
    assert not (work / "outputs").exists()


@pytest.mark.parametrize(
    "command, there",
    [("relay", "plots/a.png"), ("relay", ".work/request.json"), ("parity", ".work/x")],
)
def test_relay_and_parity_do_not_replace_foreign_files(
    command: str, there: str, run_program, tmp_path: Path
) -> None:
    """In the cases with ``request.json``, the other command has written the file."""
    path = tmp_path / "mine" / there
    path.parent.mkdir(parents=True)
    probe = {"relay": "probe", "parity": "relay_probe"}[command]
    path.write_text(json.dumps({"module": f"isoscale.common.parity.{probe}"}))
    flags = ("--model=mlp_plain",) if command == "relay" else ()
    answer = run_program(MAIN, command, *flags, "--out_dir=mine")
    assert answer.returncode == 2
    expected = f"holds '{Path(there).parts[0]}' but no {command}.json; choose an empty folder"
    assert expected in answer.stderr
    assert path.exists()


@pytest.mark.parametrize(
    "flags, message",
    [
        ((), "--model is required"),
        (("--model=mpl",), "unknown model 'mpl': did you mean 'mlp', "),
        (
            ("--model=mlp_plain", "--legs=torch:ddp:2"),
            "--legs=torch:ddp:2 must name two to six legs",
        ),
        (("--model=mlp_plain", "--legs=torch:ddp,jax:pjit:2"), "is not FRAMEWORK:STRATEGY:DEVICES"),
        (("--model=mlp_plain", "--legs=torch:dpd:2,jax:pjit:2"), "did you mean 'ddp'?"),
        (
            ("--model=mlp_plain", "--legs=torch:bare:2,jax:pjit:2"),
            "2 devices; strategy 'bare' of torch allows at most 1",
        ),
        (("--model=mlp_plain", "--steps=2"), "--steps=2 must be 3 or more"),
        (("--model=mlp_plain", "--dtype=float16"), "unknown dtype 'float16'"),
        (("--model=mlp_plain/dropout",), "unknown model 'mlp_plain/dropout'"),
        (("--model=mlp_plain", "--dtype=float32"), "--steps=13 or fewer"),
        (("--model=mlp_plain", "--dtype=float32", "--steps=3"), "Type --steps=4 or more"),
        (
            ("--model=mlp_plain", "--legs=torch:ddp:257,jax:pjit:2"),
            "devices=257 must be a whole number, 1 to 256",
        ),
        (
            ("--model=mlp_plain", f"--legs=torch:ddp:{'1' * 4000},jax:pjit:2"),
            "is not FRAMEWORK:STRATEGY",
        ),
        (
            ("--model=mlp_plain", "--resume"),
            "--resume: --out_dir=runs/out/relay contains no interrupted",
        ),
    ],
)
def test_bad_input(flags: tuple[str, ...], message: str, run_program, tmp_path: Path) -> None:
    answer = run_program(MAIN, "relay", *flags)
    assert answer.returncode == 2
    assert message in answer.stderr
    assert len(answer.stderr.splitlines()) == 1
    assert not list(tmp_path.iterdir())
