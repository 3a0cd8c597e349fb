"""What makes TensorFlow faster than it is out of the box; see ``common/tuning/tweaks.py``."""

from isoscale.common.tuning.shared import (
    huge_pages,
    keep_memory,
    several_steps,
    works_on_sequences,
)
from isoscale.common.tuning.tweaks import Tweak

TWEAKS = (
    huge_pages(
        why="TensorFlow keeps most of its memory: no difference was shown on the CPU",
        pays=lambda config: False,
    ),
    keep_memory(
        why="TensorFlow keeps most of its memory: no difference was shown on the CPU",
        pays=lambda config: False,
    ),
    Tweak(
        name="xla",
        what="compile_mode=xla: forward and backward pass compiled by XLA (jit_compile=True)",
        why=(
            "fuses element-wise operations: 5 to 15 % on transformers and mixtures of experts; "
            "MLPs become slower, and compiling takes longer"
        ),
        where="everywhere",
        needs="nothing",
        source="https://www.tensorflow.org/xla",
        applies=lambda config: True,
        pays=works_on_sequences,
        changes={"compile_mode": "xla"},
    ),
    Tweak(
        name="reduce-to-one-device",
        what="MirroredStrategy with ReductionToOneDevice: one device adds and copies back",
        why=(
            "the collectives that are the default copy each gradient more often; a fifth to a "
            "quarter of an MLP's step on two devices, up to a tenth of a transformer's"
        ),
        where="strategy mirrored on several CPU devices; measured on two",
        needs="nothing",
        source="https://www.tensorflow.org/api_docs/python/tf/distribute/ReductionToOneDevice",
        applies=lambda config: (
            config.platform == "cpu" and config.strategy == "mirrored" and config.devices > 1
        ),
        pays=lambda config: config.devices == 2,
    ),
    several_steps(
        how="tf.while_loop inside one tf.function, over batches that lie on the device",
        why="a call of a tf.function costs 0.3 to 0.8 ms, whatever it computes",
        source="https://www.tensorflow.org/guide/function#loops",
    ),
)
