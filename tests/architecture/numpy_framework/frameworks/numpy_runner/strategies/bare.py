"""One device, no distribution wrapper."""

from isoscale.common.config.run_config import RunConfig
from isoscale.common.measure.strategy import NONE, OneProcess

INFO = {
    "summary": "one device, plain NumPy",
    "process_model": "single",
    "max_devices": 1,
    "mesh_axes": (),
    "note": "NumPy fuses no operations: a gap to a compiled framework is partly memory traffic.",
}


class Strategy(OneProcess):
    reduce_gradients = NONE


def make(config: RunConfig) -> Strategy:
    """Returns the strategy of a run."""
    del config
    return Strategy()
