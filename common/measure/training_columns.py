"""The figures of a training run in exports and in TensorBoard."""

from isoscale.common.measure.conditions import DISTURBED
from isoscale.common.measure.scenario import Column, Metric

COLUMNS = (
    Column("step_seconds.median", "step_seconds_median"),
    Column("step_seconds.mean", "step_seconds_mean"),
    Column("step_seconds.p10", "step_seconds_p10"),
    Column("step_seconds.p90", "step_seconds_p90"),
    Column("step_seconds.n", "throughput_windows"),
    Column("latency_seconds.median", "latency_seconds_median"),
    Column("latency_seconds.p10", "latency_seconds_p10"),
    Column("latency_seconds.p90", "latency_seconds_p90"),
    Column("latency_seconds.n", "latency_windows"),
    Column("examples_per_second", "examples_per_second"),
    Column("tokens_per_second", "tokens_per_second"),
    Column("compile_seconds", "compile_seconds"),
    Column("loss_first", "loss_first_nats"),
    Column("loss_last", "loss_last_nats"),
    Column("eval.accuracy", "accuracy_fraction"),
    Column("eval.loss", "eval_loss_nats"),
    Column("eval.n", "eval_labels"),
)
"""In exports, in order."""

METRICS = (
    Metric(
        tag="run/step_ms",
        name="ms/step",
        about="median over throughput windows",
        field="step_seconds.median",
        scale=1e3,
    ),
    Metric(
        tag="run/examples_per_second",
        name="examples/s",
        about="examples of all throughput windows / their seconds",
        field="examples_per_second",
    ),
    Metric(
        tag="run/tokens_per_second",
        name="tokens/s",
        about="real tokens of all throughput windows / their seconds",
        field="tokens_per_second",
    ),
    Metric(
        tag="run/latency_ms",
        name="latency ms",
        about="median of single-step windows",
        field="latency_seconds.median",
        scale=1e3,
    ),
    Metric(
        tag="run/compile_s",
        name="compile s",
        about="first step minus a median step, plus compiling a block of steps",
        field="compile_seconds",
    ),
    Metric(
        tag="run/peak_memory_MiB",
        name="memory MiB",
        about="peak, as in the study's table",
        field="peak_memory_bytes",
        scale=2**-20,
    ),
    Metric(
        tag="run/loss_last",
        name="last loss",
        about="loss of the last training step",
        field="loss_last",
    ),
    Metric(
        tag="run/accuracy_percent",
        name="accuracy %",
        about="accuracy on the evaluation set",
        field="eval.accuracy",
        scale=100,
    ),
    Metric(
        tag="run/disturbed",
        name="disturbed",
        about=f"1: {DISTURBED}",
        field="disturbed",
    ),
)
"""In TensorBoard, in order."""
