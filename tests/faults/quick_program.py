"""A runner program whose training takes no time, for tests of everything around a training.

``QUICK_STEP_SECONDS`` makes each step longer.
"""

import os
import sys
import time
from pathlib import Path
from typing import Any

from isoscale.common.processes.early import end_quietly_on_ctrl_c

end_quietly_on_ctrl_c()  # as the programs of the frameworks do

import numpy as np  # noqa: E402

from isoscale.common.config.model_spec import Arrays  # noqa: E402
from isoscale.common.config.run_config import RunConfig  # noqa: E402
from isoscale.common.program import main  # noqa: E402
from isoscale.common.reference.optimizer import SLOTS, OptimizerState  # noqa: E402
from isoscale.common.registry import environments, lookup  # noqa: E402
from tests.common.measure.fake_runner import FakeRunner  # noqa: E402

ROOT = Path(__file__).resolve().parents[2]
"""Not from conftest: this program starts often, and pytest takes longer than everything else."""


class QuickRunner(FakeRunner):
    """Has the arrays of a model; step i has loss 1 / (i + 1)."""

    def __init__(self, config: RunConfig):
        super().__init__()
        self._config = config
        self._seconds_per_step = float(os.environ.get("QUICK_STEP_SECONDS", "0.0001"))

    def step(self, batch: Any) -> int:
        time.sleep(self._seconds_per_step)
        return super().step(batch)

    def parameters(self) -> Arrays:
        return self._config.spec.initial_parameters(seed=self._config.seed)

    def set_parameters(self, parameters: Arrays) -> None:
        pass

    def optimizer_state(self) -> OptimizerState:
        zeros = {name: np.zeros_like(value) for name, value in self.parameters().items()}
        slots = {slot: zeros for slot in SLOTS[self._config.optimizer.name]}
        return OptimizerState(slots=slots, step=self._steps)

    def set_optimizer_state(self, state: OptimizerState) -> None:
        self._steps = state.step

    def describe(self) -> dict[str, Any]:
        return {"versions": {}}


def interpreter(folder: Path) -> str:
    """Returns the flag of ``compare`` that makes it run this program in place of PyTorch's."""
    script = folder / "python"
    script.write_text(
        "#!/bin/sh\n"
        f"export PYTHONPATH={ROOT}\n"
        '[ -z "$FAULT_LIBRARY" ] || export LD_PRELOAD="$FAULT_LIBRARY"\n'
        'if [ "$2" = -m ]; then\n'
        f'  shift 3; exec {sys.executable} -P -m tests.faults.quick_program "$@"\n'
        "fi\n"
        f'exec {sys.executable} "$@"\n'
    )
    script.chmod(0o755)
    return f"--python_torch={script}"


if __name__ == "__main__":
    environments.of_run = lambda *_, **__: dict(os.environ)  # keeps the libraries of tests
    lookup.load_runner = lambda config: lambda: QuickRunner(config)  # type: ignore[assignment]
    lookup.program = lambda framework: "tests.faults.quick_program"  # its ranks run it too
    sys.exit(main.main("torch"))
