"""Tests that a reader returns the records that the writer received."""

from pathlib import Path

import numpy as np
import pytest

from isoscale.common.parity import trace
from isoscale.common.parity.trace import Layout, Record
from isoscale.common.registry import lookup

SPEC = lookup.parity_specs()["mlp_plain"]


def test_flat_arrays_follow_the_spec() -> None:
    layout = Layout.of(SPEC)
    arrays = SPEC.initial_parameters(seed=0)
    flat = layout.flat(dict(reversed(arrays.items())))
    assert flat.size == SPEC.parameter_count
    for parameter, start in zip(SPEC.parameters(), layout.starts, strict=True):
        piece = flat[start : start + parameter.size].reshape(parameter.shape)
        assert np.array_equal(piece, arrays[parameter.name])


@pytest.mark.parametrize("change", ["missing", "transposed"])
def test_tensors_that_differ_from_the_spec_are_refused(change: str) -> None:
    arrays = SPEC.initial_parameters(seed=0)
    kernel = arrays.pop("dense_0/kernel")
    if change == "transposed":
        arrays["dense_0/kernel"] = kernel.T
    with pytest.raises(ValueError, match="dense_0/kernel"):
        Layout.of(SPEC).flat(arrays)


def test_a_trace_is_read_as_it_was_written(tmp_path: Path) -> None:
    writer = trace.Writer(tmp_path / "t", ("gradients", "parameters"))
    random = np.random.default_rng(0)
    records = [
        Record(
            step=step,
            metrics={"loss": 0.1 + step},
            arrays={kind: random.standard_normal(5) for kind in ("gradients", "parameters")},
        )
        for step in range(3)
    ]
    for record in records:
        writer.add(record)
    assert not (tmp_path / "t" / trace.DONE).exists()
    writer.finish()
    assert trace.wait_for(
        tmp_path / "t", on_wait=lambda: pytest.fail("waited for a complete trace")
    )
    reader = trace.Reader(tmp_path / "t", dtype="float64")
    for record in records:
        found = reader.record(record.step)
        assert found.metrics == record.metrics
        for kind, value in record.arrays.items():
            assert np.array_equal(found.arrays[kind], value)


def test_waiting_for_a_trace_ends_if_the_run_has_failed(tmp_path: Path) -> None:
    waited = []

    def fail_at_the_second_look() -> None:
        waited.append(1)
        if len(waited) == 2:
            (tmp_path / trace.FAILED).touch()

    assert not trace.wait_for(tmp_path, on_wait=fail_at_the_second_look)
    assert len(waited) == 2
