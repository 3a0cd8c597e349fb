"""The tweaks of TensorFlow; see ``common/tuning/tweaks.py``."""

from isoscale.common.tuning.shared import (
    huge_pages,
    keep_memory,
    several_steps,
    works_on_sequences,
)
from isoscale.common.tuning.tweaks import Tweak

TWEAKS = (
    huge_pages(
        why="TensorFlow keeps most of its memory; measurements on the CPU showed no difference",
        pays=lambda config: False,
    ),
    keep_memory(
        why="TensorFlow keeps most of its memory; measurements on the CPU showed no difference",
        pays=lambda config: False,
    ),
    Tweak(
        name="xla",
        what="compile_mode=xla: XLA compiles forward and backward pass (jit_compile=True)",
        why=(
            "fuses element-wise operations; saves 5 to 15 % for transformers and mixtures of "
            "experts; MLPs become slower, and compilation takes longer"
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
        what="MirroredStrategy with ReductionToOneDevice: one device sums and copies the sum back",
        why=(
            "the default collectives copy each gradient more often; on two devices, saves a fifth "
            "to a quarter of an MLP's step, up to a tenth of a transformer's step"
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
        how="tf.while_loop inside one tf.function, over batches on the device",
        why="each call of a tf.function costs 0.3 to 0.8 ms, independent of its computation",
        source="https://www.tensorflow.org/guide/function#loops",
    ),
)
