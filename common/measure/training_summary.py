"""The text that a training run prints at its end; each figure has its unit and its count."""

from isoscale.common.config.counts import counted
from isoscale.common.config.run_config import RunConfig
from isoscale.common.measure.result import Summary
from isoscale.common.measure.training_result import TrainingResult


def summary(config: RunConfig, result: TrainingResult) -> str:
    """Returns the summary of a measured run."""
    assert result.compile_seconds is not None
    assert result.memory is not None
    assert result.checkpoints is not None
    assert result.steps_trained is not None
    assert result.first_step is not None
    marks = [
        text
        for flag, text in (
            (config.oversubscribed, "OVERSUBSCRIBED: devices share cores"),
            (result.disturbed, "DISTURBED: other programs used these cores"),
            (result.status == "diverged", f"DIVERGED: {result.error}"),
        )
        if flag
    ]
    overrides = "".join(f", {name}={value}" for name, value in config.overrides)
    processes = "process" if config.processes == 1 else "processes"
    together = (
        ""
        if not config.independent
        else (
            f", INDEPENDENT: {config.independent} of them train a copy each, on "
            f"{counted(config.part.global_batch_size, 'example')}"
        )
    )
    lines = [
        f"{config.model}{overrides}: {config.framework} {config.strategy} "
        f"({config.compile_mode}), {counted(config.devices, f'{config.platform} device')} in "
        f"{config.processes} {processes}, global batch {config.global_batch_size}, {config.dtype}"
        f"{together}",
        *marks,
        f"  tuning      {_tuning(config)}",
        f"  step        {_spread(result.step_seconds)} of up to "
        f"{counted(config.window_steps, 'step')}",
        f"  latency     {_spread(result.latency_seconds)} of 1 step",
        f"  throughput  {_throughput(result)}",
        f"  compile     {result.compile_seconds:.2f} s (first step minus a median step"
        + (", plus a block's rehearsal)" if config.steps_per_dispatch > 1 else ")"),
        f"  loss        {result.loss_first:.6f} (step {result.first_step}) -> "
        f"{result.loss_last:.6f} over "
        f"{counted(result.steps_trained - result.first_step, 'step')}",
        f"  memory      {result.memory.peak_bytes / 2**20:.0f} MiB, {result.memory.kind}",
    ]
    if result.eval is not None:
        assert result.eval.accuracy is not None
        lines.append(
            f"  evaluation  accuracy {100 * result.eval.accuracy:.2f} %, loss "
            f"{result.eval.loss:.4f} (n = {result.eval.n:.0f} held-out labels)"
        )
    if result.resumed_from is not None:
        lines.append(
            f"  resumed     at step {result.resumed_from.step} from {result.resumed_from.path}"
        )
    saved = result.checkpoints
    lines += [f"  NOT SAVED   {text}" for text in saved.failures]
    if saved.saved_steps:
        lines.append(
            f"  saved       {counted(len(saved.saved_steps), 'checkpoint')} in "
            f"{sum(saved.seconds):.2f} s outside the windows, the last at step "
            f"{saved.saved_steps[-1]}"
        )
    return "\n".join(lines)


def _spread(values: Summary | None) -> str:
    if values is None or values.median is None or values.p10 is None or values.p90 is None:
        return "not measured"
    low, mid, high = (1e3 * value for value in (values.p10, values.median, values.p90))
    return f"{mid:.3f} ms, median of {counted(values.n, 'window')} (p10 {low:.3f}, p90 {high:.3f})"


def _throughput(result: TrainingResult) -> str:
    if result.examples_per_second is None:
        return "not measured: too few steps were left"
    tokens = result.tokens_per_second
    text = f"{result.examples_per_second:.1f} examples/s"
    return text + (f", {tokens:.0f} real tokens/s" if tokens else "")


def _tuning(config: RunConfig) -> str:
    text = ", ".join([config.tuning, *(f"+{name}" for name in config.tweaks)])
    return text + "".join(f"; not {name}: {why}" for name, why in config.tweaks_left_out)
