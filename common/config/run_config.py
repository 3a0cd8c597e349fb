"""Defines ``RunConfig``: every setting of the computation and the measurement of one run."""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any, Literal

from isoscale.common.config.cell import Cell
from isoscale.common.config.errors import ConfigError, require_choice, shown
from isoscale.common.config.mesh import Mesh
from isoscale.common.config.model_spec import ModelSpec
from isoscale.common.config.optimizer_config import OptimizerConfig
from isoscale.common.config.options import check_numbers, option, options_of, text_of
from isoscale.common.config.records import to_record

DTYPES = ("float32", "float64", "bfloat16")
PLATFORMS = ("cpu", "gpu", "tpu")
INPUT_PIPELINES = ("placed", "timed")
STOCK, TUNED, LADDER = TUNINGS = ("stock", "tuned", "ladder")
TRAINING = "training"
LARGEST_SEED = 2**31 - 1
# A number above these limits is a typing error; some would fill the memory before the first step.
MOST_STEPS = 10**7
MOST_EXAMPLES = 10**6
"""Examples of a batch, and batches of a pool."""
MOST_DEVICES = 256
MOST_CORES = 4096
"""Cores of a device."""
MOST_PARAMETERS = 10**11
"""Parameters of a model. In float32, with gradients and the state of AdamW, they need 1.6 TB."""


def handed_on(entries: Sequence[str]) -> dict[str, str]:
    """Returns name -> value of the ``NAME=VALUE`` entries of ``--env``."""
    return dict(entry.split("=", 1) for entry in entries)


def parameter_dtype_of(dtype: str) -> str:
    """Returns the dtype of parameters, gradients and optimizer state: float32 under bfloat16."""
    return "float64" if dtype == "float64" else "float32"


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunConfig:
    """The configuration of one run of one cell: immutable, and validated at construction.

    Attributes:
      framework, strategy, model, dataset, dtype, platform: names.
      env: environment variables that the user hands on to the run, each ``NAME=VALUE``, sorted; a
        run gets no other variable of the families in ``common/machine/variables.py``.
      scenario: name of the scenario: the work of the run between two clock readings.
      overrides: (size, value) pairs that differ from the model's preset, sorted.
      spec: the model's specification with the overrides applied.
      devices: number of devices of the whole run.
      local_devices: number of these devices on this machine; None: all. A launcher such as torchrun
        can spread a run over several machines.
      process_model: ``single`` (one process drives all devices) or ``per_device``.
      global_batch_size: examples per step over all devices.
      gradient_accumulation_steps: number of parts of a device's share of the batch. The device
        computes the parts one after the other; one reduction and one update follow. The step is the
        same and needs less memory.
      tf32: whether products of float32 numbers may be computed in TF32, on GPUs.
      tuning: the lane: ``stock``, ``tuned``, or ``ladder`` (a rung between the two).
      tweaks: names of the tweaks in force, in order.
      tweaks_left_out: (name, reason) of the lane's tweaks that this run cannot use.
      steps_per_dispatch: training steps in one call into the framework.
      compile_mode: how the framework compiles the step (``jit``, ``graph``, ``eager``, ...).
      threads_per_device: CPU cores, and threads of the thread pool, per CPU device.
      input_pipeline: ``placed`` (batches are on the devices before the window starts) or ``timed``
        (batches are copied inside the window).
      steps: measured steps, in throughput windows of ``window_steps`` steps.
      window_steps: steps of one throughput window.
      warmup_steps: steps between the first step, which compiles, and the first window.
      latency_steps: number of windows of one step, spread between the throughput windows.
      min_seconds: least duration of a throughput window, in seconds; the run then warms up until
        the step time is stable, and chooses the steps of a window. 0: windows go by
        ``window_steps``.
      batch_pool: number of distinct batches; step i trains on batch i mod pool. 0: the default of
        the data set (an epoch if the data set has epochs).
      independent: number of devices that train their own copy of the model at the same time, each
        in a process of its own, on its share of the batch and without communication; 0: the
        devices train one model together. It is a base case: what the devices do without
        communication.
      max_in_flight: largest number of calls (each a step or a block of steps) that are issued and
        not yet finished.
      allow_oversubscription: whether CPU devices may share cores.
      optimizer: the optimizer and its schedule.
      available_cores: number of CPU cores that the launcher may use; decides ``oversubscribed``.
      cpu_quota: CPU limit of the launcher's container, as a number of CPUs; None: none is known.
      seed: random seed of parameters, batches and dropout.

    Raises:
      ConfigError: a value is unknown or outside its range, or two values exclude each other.
    """

    framework: str = option(cell="always")
    strategy: str = option(cell="always", flag="strategy")
    model: str = option(cell="always", flag="model")
    spec: ModelSpec = option(cell="never")
    overrides: tuple[tuple[str, Any], ...] = option(default=(), cell="always")
    devices: int = option(
        default=1,
        cell="always",
        flag="devices",
        kind="integer",
        maximum=MOST_DEVICES,
        help="number of devices of the run",
    )
    local_devices: int | None = option(default=None, cell="never")
    process_model: Literal["single", "per_device"] = option(default="single", cell="never")
    global_batch_size: int = option(
        cell="always",
        flag="global_batch_size",
        kind="integer",
        maximum=MOST_EXAMPLES,
        help="examples per step over all devices (default: the model's)",
    )
    dtype: str = option(
        default="float32",
        cell="always",
        flag="dtype",
        help=(
            f"{'|'.join(DTYPES)}; bfloat16 computes in bfloat16 and keeps parameters, gradients, "
            "softmax, normalisation and loss in float32"
        ),
    )
    tf32: bool = option(
        default=False,
        cell="unless default",
        flag="tf32",
        kind="boolean",
        help=(
            "compute products of float32 numbers in TF32, with 10 instead of 23 bits after the "
            "point, where the GPU can; every framework; the cell says so"
        ),
    )
    compile_mode: str = option(cell="always", flag="compile_mode")
    tuning: str = option(
        default=STOCK,
        cell="always",
        flag="tuning",
        help=(
            "stock: the installed packages without tweaks; tuned: the tweaks that made steps "
            "faster in our measurements and are available here; ladder (isoscale compare): stock, "
            "tuned, and the cells between them, each with one tweak more ('isoscale tweaks' lists "
            "the tweaks)"
        ),
    )
    steps: int = option(
        cell="never",
        flag="steps",
        kind="integer",
        maximum=MOST_STEPS,
        help="measured training steps (default: the model's)",
    )
    warmup_steps: int = option(
        default=5,
        cell="never",
        flag="warmup_steps",
        kind="integer",
        minimum=0,
        maximum=MOST_STEPS,
        help="steps between the first step and the first measured one",
    )
    window_steps: int = option(
        cell="never",
        flag="window_steps",
        kind="integer",
        maximum=MOST_STEPS,
        help="steps per throughput window (default: a tenth of --steps, at least 5)",
    )
    latency_steps: int = option(
        cell="never",
        flag="latency_steps",
        kind="integer",
        minimum=0,
        maximum=MOST_STEPS,
        help="extra single-step windows (default: a fifth of --steps, at most 50)",
    )
    min_seconds: float = option(
        default=0.0,
        cell="never",
        flag="min_seconds",
        kind="number",
        minimum=0,
        maximum=3600,
        help=(
            "least seconds of a throughput window, instead of --window_steps; warm-up then goes "
            "on until the step time is stable (0: windows and warm-up go by steps)"
        ),
    )
    seed: int = option(
        default=0,
        cell="never",
        flag="seed",
        kind="integer",
        minimum=0,
        maximum=LARGEST_SEED,
        help="random seed of parameters, batches and dropout; in compare also of the order of runs",
    )
    dataset: str = option(
        default="synthetic",
        cell="always",
        flag="dataset",
        help="source of the batches",
    )
    batch_pool: int = option(
        default=0,
        cell="never",
        flag="batch_pool",
        kind="integer",
        minimum=0,
        maximum=MOST_EXAMPLES,
        help="number of distinct batches (0: the default of the data set)",
    )
    input_pipeline: str = option(
        default="placed",
        cell="always",
        flag="input_pipeline",
        help=(
            f"{'|'.join(INPUT_PIPELINES)}: batches are copied to the devices before the window "
            "starts, or inside the window"
        ),
    )
    tweaks: tuple[str, ...] = option(
        default=(),
        cell="unless default",
        flag="tweaks",
        kind="names",
        # One by one: on another machine, or later, the lane may contain other tweaks.
        to_flag=lambda names: ",".join(["none", *(f"+{name}" for name in names)]),
        help="[list] +name, -name: change the tweaks of --tuning; 'none': start without tweaks",
    )
    env: tuple[str, ...] = option(
        default=(),
        cell="unless default",
        flag="env",
        kind="texts",
        help=(
            "NAME=VALUE: an environment variable of a framework or library for the run; repeat the "
            "flag for several. Runs get no such variable from the shell. The value is part of the "
            "cell, and is published with the results"
        ),
    )
    platform: str = option(default="cpu", cell="always", flag="platform", help="|".join(PLATFORMS))
    threads_per_device: int = option(
        default=1,
        cell="always",
        flag="threads_per_device",
        kind="integer",
        maximum=MOST_CORES,
        help="CPU cores, and threads of the thread pool, per CPU device",
    )
    gradient_accumulation_steps: int = option(
        default=1,
        cell="unless default",
        flag="gradient_accumulation_steps",
        kind="integer",
        maximum=MOST_EXAMPLES,
        help=(
            "parts into which each device divides its share of the batch; one update follows them"
        ),
    )
    independent: int = option(
        default=0,
        cell="unless default",
        flag="independent",
        kind="integer",
        minimum=0,
        maximum=MOST_DEVICES,
        help=(
            "base case: so many of the --devices each train a copy of the model on their share of "
            "the batch, at the same time and without communication (0: all train one model)"
        ),
    )
    max_in_flight: int = option(
        default=2,
        cell="never",
        flag="max_in_flight",
        kind="integer",
        maximum=1000,
        help="largest number of calls issued and not yet finished",
    )
    allow_oversubscription: bool = option(
        default=False,
        cell="never",
        flag="allow_oversubscription",
        kind="boolean",
        help="let CPU devices share cores; results with shared cores carry a mark",
    )
    optimizer: OptimizerConfig = option(default=OptimizerConfig(), cell="always")
    scenario: str = option(default=TRAINING, cell="unless default")
    tweaks_left_out: tuple[tuple[str, str], ...] = option(default=(), cell="never")
    steps_per_dispatch: int = option(default=1, cell="unless default", kind="integer")
    available_cores: int = option(cell="never")
    cpu_quota: float | None = option(default=None, cell="never")

    def __post_init__(self) -> None:
        require_choice("dtype", self.dtype, DTYPES)
        require_choice("platform", self.platform, PLATFORMS)
        require_choice("tuning", self.tuning, TUNINGS)
        require_choice("input_pipeline", self.input_pipeline, INPUT_PIPELINES)
        check_numbers(self)
        if self.tf32 and (self.platform, self.dtype) != ("gpu", "float32"):
            raise ConfigError(
                f"--tf32 with platform={self.platform} and dtype={self.dtype}: TF32 is a format of "
                "GPUs for float32; choose --platform=gpu and --dtype=float32, or leave out --tf32"
            )
        parameters = self.spec.parameter_count
        if parameters > MOST_PARAMETERS:
            sizes = "".join(f" {name}={text_of(value)}" for name, value in self.overrides)
            raise ConfigError(
                f"model '{self.model}'{shown(sizes)} has {parameters:.3g} parameters; at most "
                f"{MOST_PARAMETERS:.0e} are allowed: choose smaller sizes"
            )
        self._check_independent()
        if self.oversubscribed and not self.allow_oversubscription:
            here = "" if self.local_devices is None else f", {self.devices_here} of them here,"
            raise ConfigError(
                f"devices={self.devices}{here} x threads_per_device={self.threads_per_device} "
                f"needs {self.devices_here * self.threads_per_device} cores and {self._usable()}; "
                "choose fewer devices, or add --allow_oversubscription (its results carry a mark)"
            )
        if self.global_batch_size % self.devices:
            raise ConfigError(
                f"global_batch_size={self.global_batch_size} is not divisible by "
                f"devices={self.devices}"
            )
        share = self.global_batch_size // self.devices
        if share % self.gradient_accumulation_steps:
            raise ConfigError(
                f"gradient_accumulation_steps={self.gradient_accumulation_steps} does not divide "
                f"the {share} examples of a device (global_batch_size={self.global_batch_size}, "
                f"devices={self.devices})"
            )

    def _check_independent(self) -> None:
        if not self.independent:
            return
        given = f"independent={self.independent}"
        if self.devices < 2 or self.independent > self.devices:
            raise ConfigError(
                f"{given} with devices={self.devices}: it must be at most the number of devices, "
                "of which there must be 2 or more"
            )
        if self.platform == "tpu":
            raise ConfigError(f"{given} on platform=tpu: the devices of a TPU share a process")
        if self.process_model != "per_device":
            raise ConfigError(f"{given}: each device needs a process of its own")

    @property
    def devices_here(self) -> int:
        """Returns the number of the run's devices on this machine."""
        if self.independent:
            return self.independent
        return self.devices if self.local_devices is None else self.local_devices

    @property
    def examples_per_step(self) -> int:
        """Returns the examples of a step over all devices that compute."""
        return self.cell().examples_per_step

    @property
    def part(self) -> "RunConfig":
        """Returns what one process of an independent run trains; of other runs, the run itself."""
        if not self.independent:
            return self
        return dataclasses.replace(
            self,
            devices=1,
            independent=0,
            global_batch_size=self.global_batch_size // self.devices,
        )

    @property
    def oversubscribed(self) -> bool:
        """Returns whether CPU devices must share cores, or the time of cores."""
        usable = min(self.available_cores, self.cpu_quota or math.inf)
        return self.platform == "cpu" and self.devices_here * self.threads_per_device > usable

    def _usable(self) -> str:
        if self.cpu_quota is None or self.cpu_quota >= self.available_cores:
            return f"{self.available_cores} are available"
        return f"the CPU quota of this container is the time of {self.cpu_quota:g}"

    @property
    def processes(self) -> int:
        """Returns the number of processes of the run."""
        if self.process_model != "per_device":
            return 1
        return self.independent or self.devices

    @property
    def total_steps(self) -> int:
        """Returns the training steps of a run without a restart, including the first step."""
        return 1 + self.warmup_steps + self.steps + self.latency_steps

    @property
    def mesh(self) -> Mesh:
        """Returns the mesh: all devices on axis ``data``; independent devices have none."""
        return Mesh(data=1 if self.independent else self.devices)

    @property
    def parameter_dtype(self) -> str:
        """Returns the dtype of parameters, gradients and optimizer state (float32 for bfloat16)."""
        return parameter_dtype_of(self.dtype)

    def cell(self) -> Cell:
        """Returns the cell of this run: every setting that makes runs comparable."""
        declared = {
            n: getattr(self, n) for n, o in options_of(type(self)).items() if o.cell != "never"
        }
        declared["overrides"] = to_record(dict(self.overrides))
        return Cell(
            **declared,
            processes=self.processes,
            mesh=self.mesh,
            oversubscribed=self.oversubscribed,
        )

    def to_flags(self) -> list[str]:
        """Returns the flags from which a framework's program rebuilds this configuration."""
        found = [
            f"--{declared.flag}={text}"
            for holder in (self, self.optimizer)
            for name, declared in options_of(type(holder)).items()
            if declared.flag is not None
            for text in declared.flag_texts(getattr(holder, name))
        ]
        return [*found, *(f"--{name}={text_of(value)}" for name, value in self.overrides)]

    def to_json(self) -> dict[str, Any]:
        """Returns the whole configuration as plain JSON values."""
        record = dataclasses.asdict(self)
        record["overrides"] = dict(self.overrides)
        record["processes"] = self.processes
        record["mesh"] = dataclasses.asdict(self.mesh)
        return record
