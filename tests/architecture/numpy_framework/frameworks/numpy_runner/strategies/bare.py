"""One device, no distribution wrapper."""

from isoscale.common.config.run_config import RunConfig

INFO = {
    "summary": "one device, plain NumPy",
    "process_model": "single",
    "max_devices": 1,
    "note": "NumPy fuses no operations: a gap to a compiled framework is partly memory traffic.",
}


class Strategy:
    def __init__(self, config: RunConfig):
        del config
