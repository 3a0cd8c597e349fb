"""Every model, framework, strategy and device count computes the same thing, at every step.

PyTorch's ``bare`` writes a trace of each case; all others are compared with it, tensor by tensor,
and it is compared with the NumPy reference. Bounds: ``common/parity/tolerances.py``. As every
comparison is with the same trace, any two frameworks or strategies are within twice the bound.
"""

import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from common.commands import lookup
from common.config.run_config import OptimizerConfig
from common.measure.heartbeat import last_beat
from common.parity import trace
from common.parity.compare import Difference
from common.parity.tolerances import FLOAT64
from common.study import launch
from common.training.optimizer import reference_update
from common.training.reference import weighted_loss
from tests.parity.probe import config_for

pytestmark = [
    pytest.mark.parity,
    pytest.mark.slow,
    pytest.mark.timeout(1500),
]

STEPS = 10
PRESET_STEPS = 3
BATCH = 4
ROOT = Path(__file__).resolve().parents[2]
Group = tuple[str, str, int, str]
"""(framework, strategy, devices, tuning); tuning is a lane and, with +, tweaks added to it."""
REFERENCE: Group = ("torch", "bare", 1, "stock")

SCHEDULED = {
    "adamw_linear_clipped": {
        "schedule": "linear",
        "schedule_warmup_steps": 3,
        "schedule_steps": 8,
        "clip_norm": 0.05,
    },
    "sgd_cosine_clipped": {
        "name": "sgd",
        "schedule": "cosine",
        "schedule_warmup_steps": 3,
        "schedule_steps": 8,
        "clip_norm": 0.1,
        "learning_rate": 0.05,
    },
    "sgd_unclipped": {"name": "sgd", "clip_norm": 0.0, "weight_decay": 0.1, "learning_rate": 0.01},
}


def _cases() -> dict[str, dict[str, Any]]:
    """Returns id -> what to train; the same for every framework."""
    cases: dict[str, dict[str, Any]] = {}

    def add(name: str, model: str, **options: Any) -> None:
        cases[name] = {
            "model": model,
            "batch": BATCH,
            "dtype": "float64",
            "steps": STEPS,
            "tolerance": "FLOAT64_DEVICES",
            "logits": True,
            "optimizer_state": True,
            "extras": False,
            "bare_only": False,
            "zeroed": None,
            "optimizer": {},
            **options,
        }

    for model in lookup.parity_specs():
        add(model, model, extras=model in ("mlp", "moe_padded"))
    for name, optimizer in SCHEDULED.items():
        add(f"mlp_{name}", "mlp", optimizer=optimizer, extras=True)
    for preset in lookup.presets():
        # Parameters say it all, and a few steps too: gigabytes and minutes less.
        add(preset, preset, optimizer_state=False, steps=PRESET_STEPS)
    # Uniform probabilities: every choice of an expert is a tie.
    add("moe_ties", "moe", zeroed="router_kernel", bare_only=True)
    for model in ("mlp", "moe_padded"):
        add(f"{model}_100_steps", model, steps=100, tolerance="FLOAT64", bare_only=True)
    for model in ("mlp", "gpt_tiny"):
        add(
            f"{model}_bfloat16",
            model,
            dtype="bfloat16",
            tolerance="BFLOAT16",
            optimizer_state=False,
            bare_only=True,
        )
    for model in ("mlp", "transformer_causal", "moe"):
        add(f"{model}_float32", model, dtype="float32", tolerance="FLOAT32", bare_only=True)
    return cases


CASES = _cases()
SOME = ("mlp", "transformer_causal_padded", "moe_padded")
# What is in no framework's tuned lane, or not for these models.
FLOAT32 = ("mlp_float32", "transformer_causal_float32", "moe_float32")
ADDED: dict[Group, tuple[str, ...]] = {
    ("torch", "bare", 1, "stock+onednn-linear"): FLOAT32,
    ("torch", "bare", 1, "stock+foreach-optimizer"): ("mlp", "mlp_sgd_unclipped"),
    ("torch", "bare", 1, "stock+compile"): ("mlp",),
    ("torch", "ddp", 2, "stock+one-bucket"): ("mlp", "moe"),
    ("jax", "pjit", 2, "stock+kernel-gradient"): (
        "transformer_causal_padded",
        "mlp_float32",
        "mlp_bfloat16",
    ),
}
LARGE = ("mlp_large", "transformer_large")


def case_for(group: Group, name: str) -> dict[str, Any]:
    """Returns the case as a group runs it; a preset's forward pass alone only under ``bare``."""
    framework, strategy, devices, tuning = group
    place = {"framework": framework, "strategy": strategy, "devices": devices, "tuning": tuning}
    case = {**CASES[name], **place}
    if name in lookup.presets() and strategy != "bare":
        case["logits"] = False
    return case


def belongs(group: Group, case: str) -> bool:
    """Whether a group runs a case.

    What is about the arithmetic of a framework is not about its strategies. The small specs run
    every code path under every strategy on 2 devices, and some of them on 1 and 4; the presets,
    which take most of the time to compile, run under ``bare`` and, but for the two large ones, the
    framework's default strategy on 2 devices. The tuned lane runs the small specs, in distributed
    strategies some.
    """
    framework, strategy, devices, tuning = group
    if "+" in tuning:
        return case in ADDED[group]
    if tuning == "tuned":
        # An operation is the same under every strategy, blocks of steps are not; what only one
        # strategy has is in ADDED too.
        return case in (lookup.parity_specs() if strategy == "bare" else SOME)
    if strategy == "bare":
        return True
    if devices != 2:
        return case in SOME
    usual = strategy == lookup.framework_info(framework).default_strategy and devices == 2
    if case in lookup.presets():
        return usual and case not in LARGE
    return not CASES[case]["bare_only"]


def _groups() -> list[Group]:
    groups = []
    for framework in lookup.frameworks():
        for strategy in lookup.strategies(framework):
            limit = lookup.strategy_info(framework, strategy).max_devices
            counts = [n for n in (1, 2, 4) if limit is None or n <= limit]
            groups += [(framework, strategy, n, "stock") for n in counts]
            groups.append((framework, strategy, min(2, counts[-1]), "tuned"))
    return [*groups, *ADDED]


class Probes:
    """Runs the probes that the selected tests need, two at a time, and finds what they wrote."""

    def __init__(
        self,
        folder: Path,
        wanted: dict[Group, list[str]],
        say: Callable[[str], None],
    ):
        self._folder = folder
        self._say = say
        self.started = time.time()
        names = dict.fromkeys(name for cases in wanted.values() for name in cases)
        self.errors: dict[Group, str] = {}
        self._run(REFERENCE, list(names))
        rest = [group for group in wanted if group != REFERENCE]
        # Slow ones first, so that the two cores stay busy until the end.
        rest.sort(key=lambda group: (group[0] != "jax", -group[2]))
        with ThreadPoolExecutor(max_workers=max(1, (os.cpu_count() or 1))) as pool:
            list(pool.map(lambda group: self._run(group, wanted[group]), rest))

    def trace(self, group: Group, case: str) -> Path:
        return self._folder / "-".join(map(str, group)) / case

    def _run(self, group: Group, names: list[str]) -> None:
        framework, strategy, devices, _ = group
        output = self._folder / "-".join(map(str, group))
        output.mkdir()
        cases = [
            {
                **case_for(group, name),
                "id": name,
                "reference": None if group == REFERENCE else str(self.trace(REFERENCE, name)),
            }
            for name in names
        ]
        (output / "cases.json").write_text(json.dumps(cases))
        command = [sys.executable, str(ROOT / "tests/parity/probe.py")]
        command += [str(output / "cases.json"), str(output)]
        per_device = lookup.strategy_info(framework, strategy).process_model == "per_device"
        environments = launch.rank_environments(devices) if per_device else [{}]
        tweaks: dict[str, str] = {}
        for case in cases:
            tweaks |= lookup.tweak_environment(config_for(case))
        log = output / "log.txt"
        processes = [
            launch.start(command, environment={**tweaks, **e, "PYTHONPATH": str(ROOT)}, log=log)
            for e in environments
        ]
        outcome = launch.supervise(processes, run_dir=output, watchdog_seconds=240)
        if not outcome.ok:
            _, doing = last_beat(output)
            tail = log.read_text(errors="replace")[-3000:]
            self.errors[group] = f"{outcome.error} in '{doing}'\n{tail}"
        self._say(f"parity probe {'-'.join(map(str, group))}: {outcome.seconds:.0f} s")

    def differences(self, group: Group, case: str) -> list[Difference]:
        """Returns what a probe found; fails where it failed or its file is from before."""
        path = self.trace(group, case) / "done.json"
        assert path.exists(), f"probe {group} did not finish {case}: {self.errors.get(group)}"
        assert path.stat().st_mtime >= self.started, f"{path} is older than the test"
        return [Difference(**entry) for entry in json.loads(path.read_text())]


@pytest.fixture(scope="session")
def probes(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator:
    wanted: dict[Group, list[str]] = {}
    for item in request.session.items:
        parameters = getattr(item, "callspec", None)
        if parameters and "group" in parameters.params:
            wanted.setdefault(parameters.params["group"], []).append(parameters.params["case"])
    folder = tmp_path_factory.mktemp("parity")
    reporter = request.config.pluginmanager.get_plugin("terminalreporter")

    def say(text: str) -> None:
        reporter.write_line(text)
        reporter.flush()

    yield Probes(folder, wanted, say)
    for path in folder.rglob("step_*.npz"):
        path.unlink()  # gigabytes


GROUPS = _groups()


@pytest.mark.parametrize(
    "group, case",
    [
        pytest.param(group, case, id=f"{'-'.join(map(str, group))}-{case}")
        for group in GROUPS
        for case in CASES
        if belongs(group, case)
    ],
)
def test_equals_reference_trace(probes: Probes, group: Group, case: str) -> None:
    found = probes.differences(group, case)
    if group == REFERENCE:
        assert all(entry.within for entry in found), "\n".join(map(str, found))
        return
    wanted = {
        "initial parameters not bit-identical",
        "relative difference (metrics)",
        "relative difference (gradient_metrics)",
        "relative gradient difference",
    }
    settings = case_for(group, case)
    wanted |= {"parameter difference"} if settings["dtype"] == "float64" else set()
    wanted |= {"logits"} if settings["logits"] else set()
    wanted |= {"sum of unreduced gradients", "restored state"} if settings["extras"] else set()
    framework, _, _, tuning = group
    if settings["extras"] and tuning == "tuned" and framework != "torch":
        wanted |= {"rehearsal", "block of steps"}
    kinds = {entry.kind for entry in found}
    assert wanted <= kinds, f"not compared: {wanted - kinds}"
    outside = [entry for entry in found if not entry.within]
    assert not outside, "\n".join(map(str, outside))


@pytest.mark.parametrize("case", [name for name in CASES if CASES[name]["dtype"] == "float64"])
@pytest.mark.parametrize("group", [REFERENCE], ids=["numpy"])
def test_reference_trace_equals_numpy(probes: Probes, group: Group, case: str) -> None:
    """Logits, loss and every update of the trace against NumPy in float64."""
    assert probes.errors.get(group) is None, probes.errors[group]
    settings = CASES[case]
    parity = lookup.parity_specs()
    model = settings["model"]
    spec = parity[model] if model in parity else lookup.preset(model).spec
    batches = (
        lookup.data_source("synthetic")
        .load(spec, global_batch_size=BATCH, pool=4, seed=3, dtype="float64")
        .batches
    )
    optimizer = OptimizerConfig(**settings["optimizer"])
    decayed = {p.name for p in spec.parameters() if p.decay}
    folder = probes.trace(group, case)
    parameters, state = None, {}
    for step in range(settings["steps"]):
        record = trace.load_step(folder, step)
        if parameters is None:
            parameters = record["initial"]
            expected = spec.initial_parameters(seed=3)
            for name, value in expected.items():
                if settings["zeroed"] and name.endswith(settings["zeroed"]):
                    value = np.zeros_like(value)
                assert np.array_equal(parameters[name], value), f"{name} at the start"
        batch = batches[step % 4]
        logits, auxiliary = spec.reference_forward(parameters, batch)
        difference = np.abs(logits - record["logits"]).max()
        assert difference <= FLOAT64.logits / 10, f"logits at step {step}: {difference:.2e}"
        loss = weighted_loss(logits, batch)
        if spec.auxiliary_loss_coefficient is not None:
            loss += spec.auxiliary_loss_coefficient * float(auxiliary) / BATCH
        relative = abs(loss - record["metrics"]["loss"]) / loss
        assert relative <= FLOAT64.loss, f"loss at step {step}: {relative:.2e} relative"
        updated, state = reference_update(
            optimizer, parameters, record["gradients"], state, step=step, decayed=decayed
        )
        for name, value in record["parameters"].items():
            difference = np.abs(value - updated[name]).max()
            assert difference <= 1e-12, f"{name} after step {step}: {difference:.2e}"
        # Continue from the trace, so that each step is judged by itself.
        parameters = record["parameters"]
