"""The best float32 matrix product of the three frameworks on one pinned core.

The rate of a training step is compared with this limit of a core. Each framework multiplies two
1024 x 1024 matrices for a second, in fresh processes, as in ``isoscale doctor``. The fastest
product counts, because other programs can only slow a product down.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

from isoscale.common.program import examine
from isoscale.common.registry import lookup
from isoscale.common.registry.environments import of_run
from tests.benchmarks.ours import LANES, make_config

EXAMINE = "isoscale.common.program.examine"
SIZE = 1024
REPEATS = 2


def rate(framework: str, lane: str) -> float:
    """Returns the FLOP/s of a framework's fastest product in a lane's environment."""
    environment = of_run(make_config(framework, "mlp_large", lane))
    command = [
        sys.executable,
        "-P",
        "-m",
        EXAMINE,
        f"--framework={framework}",
    ]
    with tempfile.TemporaryDirectory() as folder:
        options = [f"--sgemm_size={SIZE}", f"--out_dir={folder}"]
        subprocess.run(
            [*command, *options],
            check=True,
            capture_output=True,
            env=environment,
        )
        record = json.loads((Path(folder) / examine.RESULT).read_text())
    return record["matrix_product"]["best_flops_per_second"]


def rates() -> dict[str, float]:
    """Returns framework -> FLOP/s; frameworks take turns, so that drift affects all of them."""
    found = dict.fromkeys(lookup.frameworks(), 0.0)
    for _ in range(REPEATS):
        for framework in found:
            for lane in LANES:
                found[framework] = max(found[framework], rate(framework, lane))
    return found


def best_rate() -> tuple[str, float]:
    """Returns the framework with the fastest product, and its FLOP/s."""
    return max(rates().items(), key=lambda item: item[1])
