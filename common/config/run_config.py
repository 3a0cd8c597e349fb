"""``RunConfig``: everything that decides what one run computes and how it is measured."""

import dataclasses
import hashlib
import json
import math
from typing import Any, Literal

from isoscale.common.config.errors import ConfigError, require_choice, require_positive
from isoscale.common.config.mesh import Mesh
from isoscale.common.config.model_spec import ModelSpec

DTYPES = ("float32", "float64", "bfloat16")
PLATFORMS = ("cpu", "gpu", "tpu")
INPUT_PIPELINES = ("placed", "timed")
OPTIMIZERS = ("adamw", "sgd")
STOCK, TUNED, LADDER = TUNINGS = ("stock", "tuned", "ladder")
LARGEST_SEED = 2**31 - 1
SCHEDULES = ("constant", "cosine", "linear")


def parameter_dtype_of(dtype: str) -> str:
    """Returns the dtype of parameters, gradients and optimizer state: float32 under bfloat16."""
    return "float64" if dtype == "float64" else "float32"


@dataclasses.dataclass(frozen=True, kw_only=True)
class OptimizerConfig:
    """One formula for all frameworks; ``common/reference/optimizer.py`` is its reference.

    Attributes:
      name: ``adamw`` (Loshchilov & Hutter 2019) or ``sgd`` (momentum, with coupled decay).
      learning_rate: peak learning rate.
      weight_decay: applied to parameters whose spec says so.
      beta1, beta2, epsilon: of AdamW.
      momentum: of SGD.
      clip_norm: largest global gradient norm; 0 means no clipping.
      schedule: ``constant``, or after the warm-up ``cosine`` or ``linear`` decay to 0.
      schedule_warmup_steps: steps of linear warm-up.
      schedule_steps: the step at which the decay reaches 0.
    """

    name: str = "adamw"
    learning_rate: float = 1e-3
    weight_decay: float = 0.01
    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8
    momentum: float = 0.9
    clip_norm: float = 1.0
    schedule: str = "constant"
    schedule_warmup_steps: int = 0
    schedule_steps: int = 1000

    def __post_init__(self) -> None:
        require_choice("optimizer", self.name, OPTIMIZERS)
        require_choice("schedule", self.schedule, SCHEDULES)
        for name in ("learning_rate", "epsilon"):
            value = getattr(self, name)
            if not (value > 0 and math.isfinite(value)):
                raise ConfigError(f"{name}={value} must be a positive number")
        for name in ("weight_decay", "clip_norm"):
            value = getattr(self, name)
            if not (value >= 0 and math.isfinite(value)):
                raise ConfigError(f"{name}={value} must be 0 or a positive number")
        for name in ("beta1", "beta2", "momentum"):
            value = getattr(self, name)
            if not 0 <= value < 1:
                raise ConfigError(f"{name}={value} must be at least 0 and below 1")
        require_positive("schedule_warmup_steps", self.schedule_warmup_steps, minimum=0)
        require_positive("schedule_steps", self.schedule_steps)
        if self.schedule != "constant" and self.schedule_steps <= self.schedule_warmup_steps:
            raise ConfigError(
                f"schedule_steps={self.schedule_steps} must exceed "
                f"schedule_warmup_steps={self.schedule_warmup_steps}"
            )


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunConfig:
    """One run of one cell. Immutable, and valid once it exists (ConfigError otherwise).

    Attributes:
      framework, strategy, model, dataset, dtype, platform: names.
      overrides: (size, value) pairs that differ from the model's preset, sorted.
      spec: the model's specification with the overrides applied.
      devices: devices of the whole run.
      process_model: ``single`` (one process drives all devices) or ``per_device``.
      global_batch_size: examples per step over all devices.
      gradient_accumulation_steps: parts that each device computes its share of them in, one after
        the other, before the one reduction and update: less memory, the same step.
      tuning: ``stock``, ``tuned``, or ``ladder``: a step between the two.
      tweaks: names of the tweaks in force, in order.
      tweaks_left_out: (name, reason) of those that the lane would have had.
      steps_per_dispatch: steps that one call into the framework makes, where several can be.
      compile_mode: how the framework compiles the step (``jit``, ``graph``, ``eager``, ...).
      threads_per_device: CPU cores and pool threads that make one CPU device.
      input_pipeline: ``placed`` (batches lie on the devices before the window) or ``timed``.
      steps: measured steps; they are split into throughput windows of ``window_steps``.
      warmup_steps: steps after the first (compiling) one and before the first window.
      latency_steps: windows of length one, spread between the throughput windows.
      batch_pool: distinct batches; step i trains on batch i mod pool. 0: as many as the data set
        makes by default (an epoch where it has one).
      max_in_flight: calls (of a step, or a block of steps) issued and not yet finished, at most.
      available_cores: CPU cores the launcher may use; decides ``oversubscribed``.
      seed: of parameters, batches and dropout.
    """

    framework: str
    strategy: str
    model: str
    spec: ModelSpec
    overrides: tuple[tuple[str, Any], ...] = ()
    devices: int = 1
    process_model: Literal["single", "per_device"] = "single"
    global_batch_size: int
    gradient_accumulation_steps: int = 1
    dtype: str = "float32"
    tuning: str = STOCK
    tweaks: tuple[str, ...] = ()
    tweaks_left_out: tuple[tuple[str, str], ...] = ()
    steps_per_dispatch: int = 1
    dataset: str = "synthetic"
    platform: str = "cpu"
    compile_mode: str
    optimizer: OptimizerConfig = OptimizerConfig()
    threads_per_device: int = 1
    input_pipeline: str = "placed"
    steps: int
    window_steps: int
    warmup_steps: int = 5
    latency_steps: int
    batch_pool: int = 0
    max_in_flight: int = 2
    available_cores: int
    allow_oversubscription: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        require_choice("dtype", self.dtype, DTYPES)
        require_choice("platform", self.platform, PLATFORMS)
        require_choice("tuning", self.tuning, TUNINGS)
        require_choice("input_pipeline", self.input_pipeline, INPUT_PIPELINES)
        for name in (
            "devices",
            "global_batch_size",
            "gradient_accumulation_steps",
            "threads_per_device",
            "steps",
            "window_steps",
            "max_in_flight",
            "steps_per_dispatch",
        ):
            require_positive(name, getattr(self, name))
        for name in ("warmup_steps", "latency_steps", "batch_pool", "seed"):
            require_positive(name, getattr(self, name), minimum=0)
        if self.seed > LARGEST_SEED:
            raise ConfigError(f"seed={self.seed} must be at most {LARGEST_SEED}")
        if self.oversubscribed and not self.allow_oversubscription:
            raise ConfigError(
                f"devices={self.devices} x threads_per_device={self.threads_per_device} needs "
                f"{self.devices * self.threads_per_device} cores and {self.available_cores} are "
                "available; --allow_oversubscription runs it all the same, marked as such"
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

    @property
    def oversubscribed(self) -> bool:
        """Whether CPU devices have to share cores."""
        return (
            self.platform == "cpu" and self.devices * self.threads_per_device > self.available_cores
        )

    @property
    def processes(self) -> int:
        return self.devices if self.process_model == "per_device" else 1

    @property
    def total_steps(self) -> int:
        """Training steps of an unbroken run, from the compiling one on."""
        return 1 + self.warmup_steps + self.steps + self.latency_steps

    @property
    def mesh(self) -> Mesh:
        return Mesh(data=self.devices)

    @property
    def parameter_dtype(self) -> str:
        """dtype of parameters, gradients and optimizer state: float32 under bfloat16."""
        return parameter_dtype_of(self.dtype)

    def cell(self) -> dict[str, Any]:
        """Everything that makes this run comparable, or not, with another one."""
        # Absent where there are none: studies from before there were such things keep their cells.
        special: dict[str, Any] = {"tweaks": list(self.tweaks)} if self.tweaks else {}
        for name in ("steps_per_dispatch", "gradient_accumulation_steps"):
            if getattr(self, name) > 1:
                special[name] = getattr(self, name)
        return {
            "model": self.model,
            "overrides": dict(self.overrides),
            "framework": self.framework,
            "strategy": self.strategy,
            "devices": self.devices,
            "processes": self.processes,
            "mesh": dataclasses.asdict(self.mesh),
            "global_batch_size": self.global_batch_size,
            "dtype": self.dtype,
            "tuning": self.tuning,
            **special,
            "compile_mode": self.compile_mode,
            "dataset": self.dataset,
            "platform": self.platform,
            "optimizer": dataclasses.asdict(self.optimizer),
            "threads_per_device": self.threads_per_device,
            "input_pipeline": self.input_pipeline,
            "oversubscribed": self.oversubscribed,
        }

    def to_flags(self) -> list[str]:
        """Returns the flags with which a framework's program rebuilds this configuration."""
        values: dict[str, Any] = {
            "model": self.model,
            "strategy": self.strategy,
            "devices": self.devices,
            "global_batch_size": self.global_batch_size,
            "gradient_accumulation_steps": self.gradient_accumulation_steps,
            "dtype": self.dtype,
            "tuning": self.tuning,
            # One by one: on another day, or machine, the lane may have others.
            "tweaks": ("none", *(f"+{name}" for name in self.tweaks)),
            "compile_mode": self.compile_mode,
            "dataset": self.dataset,
            "platform": self.platform,
            "threads_per_device": self.threads_per_device,
            "input_pipeline": self.input_pipeline,
            "steps": self.steps,
            "window_steps": self.window_steps,
            "warmup_steps": self.warmup_steps,
            "latency_steps": self.latency_steps,
            "batch_pool": self.batch_pool,
            "max_in_flight": self.max_in_flight,
            "allow_oversubscription": self.allow_oversubscription,
            "seed": self.seed,
            **{
                "optimizer" if name == "name" else name: value
                for name, value in dataclasses.asdict(self.optimizer).items()
            },
            **dict(self.overrides),
        }

        def text(value: Any) -> str:
            if isinstance(value, bool):
                return str(value).lower()
            return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)

        return [f"--{name}={text(value)}" for name, value in values.items()]

    def to_json(self) -> dict[str, Any]:
        """The whole configuration as plain JSON values."""
        record = dataclasses.asdict(self)
        record["spec"] = dataclasses.asdict(self.spec)
        record["overrides"] = dict(self.overrides)
        record["processes"] = self.processes
        record["mesh"] = dataclasses.asdict(self.mesh)
        return record


def cell_id(cell: dict[str, Any]) -> str:
    """Returns a readable and unique folder name for a cell."""
    digest = hashlib.sha256(json.dumps(cell, sort_keys=True).encode()).hexdigest()[:8]
    return "-".join(
        [
            cell["model"],
            cell["framework"],
            cell["strategy"],
            f"{cell['devices']}dev",
            f"b{cell['global_batch_size']}",
            cell["dtype"],
            *([] if cell["tuning"] == STOCK else [cell["tuning"]]),
            digest,
        ]
    )
