"""Tests that all models, frameworks, strategies and device counts compute equal steps.

The tests run ``isoscale parity``; this command defines the comparisons and the bounds. The whole
matrix takes longer than all other tests together; ``make parity`` runs it. The tests run a part
that covers every code path.
"""

import json
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from isoscale.common.parity.cases import LARGE_STEPS, all_cases
from isoscale.common.parity.checks import ITSELF
from isoscale.common.parity.compare import CLIPPED_NORM, GRADIENTS, LOSS, NORM, PARAMETERS
from isoscale.common.parity.reference import NUMPY
from isoscale.common.registry import lookup
from isoscale.models.moe import spec as moe
from tests.conftest import ROOT

pytestmark = [pytest.mark.parity, pytest.mark.slow, pytest.mark.timeout(1500)]

SMALL = list(lookup.parity_specs())
SOME = "mlp_plain,transformer_causal_padded,moe_padded"


def _with_large(models: str) -> str:
    """Returns the models, and their pieces with large activations."""
    return ",".join(f"{name},{name}/large" for name in models.split(","))


BARE = ("--strategies=bare", "--devices=1", "--nopieces")
FLOAT64, FLOAT32 = "--dtype=float64", "--dtype=float32"

RUNS = {
    "small": [f"--models={_with_large(','.join(SMALL))}", *BARE, FLOAT64, "--steps=25"],
    # With the pieces of training.
    "two devices": ["--models=mlp_plain,moe_plain,transformer_causal_padded", "--devices=2",
                    FLOAT64, "--steps=25"],
    # With the default number of steps.
    "one and four devices": ["--models=mlp_plain", "--devices=1,4", FLOAT64, "--nopieces"],
    "presets": ["--models=moe_tiny,mlp_digits", "--strategies=pjit,mirrored,ddp", "--devices=2",
                FLOAT64],
    "float32": [f"--models={_with_large(SOME)},mlp_plain/sgd_unclipped",
                "--strategies=pjit,mirrored,ddp",
                "--devices=2", FLOAT32, "--nopieces"],
    "bfloat16": [f"--models={SOME}", *BARE, "--dtype=bfloat16"],
    # No presets: the lane changes operations and blocks of steps, and small sizes have both. One
    # entry compiles as runs do (--noquick_compile).
    "tuned": [f"--models={_with_large(SOME)}", *BARE, "--tuning=tuned", FLOAT64, "--steps=10",
              "--noquick_compile"],
    "tuned on two devices": ["--models=mlp_plain,moe_padded", "--devices=2", "--tuning=tuned",
                             FLOAT64, "--steps=10", "--nopieces"],
    # Tweaks outside the lanes, or outside the lane of these models.
    "onednn-linear": [f"--models={SOME}", "--frameworks=torch", *BARE, FLOAT32,
                      "--tweaks=+onednn-linear"],
    "foreach-optimizer": ["--models=mlp_plain,mlp_plain/sgd_unclipped", "--frameworks=torch",
                          *BARE, FLOAT64, "--tweaks=+foreach-optimizer"],
    "compile": ["--models=mlp_plain", "--frameworks=torch", *BARE, FLOAT64, "--tweaks=+compile"],
    "one-bucket": ["--models=mlp_plain,moe_plain", "--frameworks=torch", "--devices=2", FLOAT64,
                   "--tweaks=+one-bucket", "--nopieces"],
    "kernel-gradient": ["--models=transformer_causal_padded", "--frameworks=jax",
                        "--strategies=pjit", "--devices=2", "--dtype=float64,float32,bfloat16",
                        "--tweaks=+kernel-gradient", "--nopieces"],
}  # fmt: skip
"""A part of the matrix that covers every path; ``make parity`` runs the whole matrix."""
ON_TWO_CORES = ("two devices", "tuned on two devices")
"""Entries of ``RUNS`` whose devices need one core each; other devices may share a core."""


def _named(*names: str) -> list[Any]:
    """Returns runs as parameters of tests."""
    marks = {name: [pytest.mark.two_cores] if name in ON_TWO_CORES else [] for name in names}
    return [pytest.param(name, marks=mark) for name, mark in marks.items()]


@pytest.fixture(scope="session")
def parity(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], tuple[str, dict]]:
    """Runs ``isoscale parity`` once for each name; returns its output and its document."""
    done: dict[str, tuple[str, dict[str, Any]]] = {}

    def run(name: str) -> tuple[str, dict[str, Any]]:
        if name not in done:
            folder = tmp_path_factory.mktemp("parity")
            answer = subprocess.run(
                [
                    *(sys.executable, "-P", "-m", "isoscale.common.commands.main", "parity"),
                    *(*RUNS[name], f"--out_dir={folder}"),
                ],
                cwd=ROOT,
                capture_output=True,
                text=True,
            )
            assert answer.returncode == 0, answer.stdout + answer.stderr
            done[name] = answer.stdout, json.loads((folder / "parity.json").read_text())
        return done[name]

    return run


def _kinds(run: dict[str, Any]) -> dict[str, set[str]]:
    """Returns other side -> kinds of compared figures."""
    return {
        comparison["against"]: {figure["kind"] for figure in comparison["figures"]}
        for comparison in run["comparisons"]
    }


def _flag(name: str, flag: str) -> list[str] | None:
    found = [text.partition("=")[2] for text in RUNS[name] if text.startswith(f"--{flag}=")]
    return found[0].split(",") if found else None


def _expected(name: str) -> set[tuple[str, str, str, int, str]]:
    """Returns (case, framework, strategy, devices, dtype) of all runs that a name must have."""
    wanted, pieces = _flag(name, "models") or [], "--nopieces" not in RUNS[name]
    counts = [int(text) for text in _flag(name, "devices") or []]
    chosen = _flag(name, "strategies")
    expected = set()
    for case in all_cases().values():
        if case.name not in wanted and not (pieces and case.is_piece and case.model in wanted):
            continue
        for dtype in _flag(name, "dtype") or []:
            for framework in _flag(name, "frameworks") or lookup.frameworks():
                expected.add((case.name, framework, "bare", 1, dtype))
                expected |= {
                    (case.name, framework, strategy, count, dtype)
                    for strategy in lookup.strategies(framework)
                    if strategy != "bare" and (chosen is None or strategy in chosen)
                    if not case.large
                    for count in counts
                }
    return expected


@pytest.mark.parametrize("name", _named(*RUNS))
def test_every_run_is_compared_and_within_bounds(name: str, parity) -> None:
    printed, document = parity(name)
    runs = {
        (r["case"], r["framework"], r["strategy"], r["devices"], r["dtype"]): r
        for r in document["runs"]
    }
    assert set(runs) == _expected(name)
    assert "OUT OF BOUNDS" not in printed
    frameworks = {run["framework"] for run in document["runs"]}
    for key, run in runs.items():
        case, framework, strategy, _, dtype = key
        figures = [figure for c in run["comparisons"] for figure in c["figures"]]
        assert dtype != "float64" or all(figure["bound"] is not None for figure in figures)
        assert run["error"] is None
        assert all(c["missing"] is None for c in run["comparisons"])
        kinds = _kinds(run)
        if all_cases()[case].dropout:
            assert {kind for kind in kinds[ITSELF] if kind.startswith("dropout, ")} == kinds[ITSELF]
            assert len(kinds[ITSELF]) == 4
            continue
        assert "initial parameters, unequal entries" in kinds[ITSELF]
        if strategy != "bare":
            wanted = {LOSS, GRADIENTS} | ({PARAMETERS} if dtype == "float64" else set())
            assert wanted <= kinds[f"{framework} bare"]
            continue
        large = all_cases()[case].large
        logits = "logits, relative to the largest" if large else "logits, absolute"
        assert {logits, "loss, relative", "evaluation loss, relative"} <= kinds[NUMPY]
        assert ("gradients of exactly 0, share of a tensor" in kinds[ITSELF]) is large
        assert ("no gradient, 0 in every step" in kinds[ITSELF]) is not all_cases()[case].preset
        if dtype == "float64" and not all_cases()[case].preset:
            assert {"update of parameters, absolute", "updates counted"} <= kinds[NUMPY]
        others = set(kinds) - {NUMPY, ITSELF}
        order = [name for name in ("torch", "jax", "tensorflow") if name in frameworks]
        assert others == {f"{other} bare" for other in order[: order.index(framework)]}
        for other in others:
            wanted = {LOSS, GRADIENTS, CLIPPED_NORM if all_cases()[case].preset else NORM}
            assert wanted | ({PARAMETERS} if dtype == "float64" else set()) <= kinds[other]
    for model in {key[0] for key in runs} - {c.name for c in all_cases().values() if c.is_piece}:
        assert model in {record["model"] for record in document["initializers"]}


@pytest.mark.two_cores
def test_every_step_is_compared(parity) -> None:
    _, document = parity("two devices")
    seen: dict[bool, set[tuple[int, ...]]] = {True: set(), False: set()}
    large: set[tuple[int, ...]] = set()
    for run in document["runs"]:
        for comparison in run["comparisons"]:
            if all_cases()[run["case"]].dropout or comparison["against"] == ITSELF:
                continue
            for figure in comparison["figures"]:
                # On several devices, only the first step has gradients before clipping.
                first = run["strategy"] != "bare" and figure["kind"] == NORM
                steps = tuple(step for step, _ in figure["by_step"])
                (large if all_cases()[run["case"]].large else seen[first]).add(steps)
    assert large == {tuple(range(LARGE_STEPS))}
    assert seen == {True: {(0,)}, False: {tuple(range(25))}}


@pytest.mark.parametrize("name", _named("two devices", "tuned"))
def test_shares_restoring_and_blocks_are_checked(name: str, parity) -> None:
    wanted = {
        "two devices": {"sum of unreduced gradients", "a step repeated after restoring"},
        "tuned": {"rehearsal of a block", "block of steps, parameters", "block of steps, loss"},
    }[name]
    _, document = parity(name)
    checked = 0
    for run in document["runs"]:
        blocks = name == "tuned" and run["framework"] != "torch" and run["case"] == "mlp_plain"
        shares = name == "two devices" and all_cases()[run["case"]].checks
        if blocks or (shares and run["devices"] <= 2):
            assert wanted <= _kinds(run)[ITSELF], (run["case"], run["framework"])
            checked += 1
    assert checked


def test_cases_contain_overflow_unused_experts_ties_and_a_short_batch(monkeypatch) -> None:
    """Overflow, experts without tokens, ties and a short batch occur in the reference."""
    seen: dict[str, set[str]] = {}
    route = moe.reference_route

    def watch(spec, probabilities_TE, tokens):
        choices = route(spec, probabilities_TE, tokens)
        dropped = any(not kept for _, _, kept in choices)
        unused = len({expert for _, expert, _ in choices}) < spec.num_experts
        tied = bool((np.diff(np.sort(probabilities_TE)) == 0).any())
        found = {"dropped": dropped, "unused": unused, "tied": tied}
        seen[name] |= {what for what, there in found.items() if there}
        return choices

    monkeypatch.setattr(moe, "reference_route", watch)
    for name, case in all_cases().items():
        if isinstance(case.spec, moe.MoeSpec) and not case.preset:
            seen[name] = set()
            case.spec.reference_forward(case.initial(), case.batches("float64")[0])
    assert "dropped" in seen["moe_plain"] & seen["moe_padded"]
    assert "unused" in seen["moe_unused"]
    assert "tied" in seen["moe_ties"]
    short = all_cases()["mlp_plain"].batches("float64")[2]
    assert short["weights"].sum() == 5
