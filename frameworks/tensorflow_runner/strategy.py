"""The contract of a TensorFlow strategy: how one training step is spread over the devices.

A strategy is one file in ``strategies/``: the literal ``INFO`` (read without TensorFlow; see
``StrategyInfo``), a class that follows ``Strategy``, and ``make``, which builds it. The recipe is
``docs/add-a-strategy.md``. The contracts of the three frameworks use the same words; types differ.
Some methods exist in some frameworks only:

  place_state         JAX: TensorFlow creates variables under ``scope``; PyTorch creates the model
                      on the device, and ``wrap`` makes ranks equal.
  place_pool          JAX, TensorFlow: PyTorch issues one step at a time.
  split_rows          JAX: elsewhere the function that computes a step sees one device's rows only.
  scope, local,       TensorFlow: its variables belong to a strategy, and its replicas' values are
  per_replica         objects of the strategy.
  sync, scale_loss    PyTorch: its wrapper reduces during the backward pass and takes the mean.

The loss is a sum over the global batch divided by a normaliser that every device knows. Each device
computes its share, and shares add up: every reduction is a sum.
"""

import contextlib
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
import tensorflow as tf

from isoscale.common.config.model_spec import Arrays
from isoscale.common.measure.strategy import BuiltIn

Reduction = BuiltIn | Callable[[list[tf.Tensor]], list[tf.Tensor]]


class Strategy(Protocol):
    """Spreads the computation of one step over the devices of a run."""

    @property
    def rank(self) -> int:
        """Number of this process in the run, from 0."""

    @property
    def world_size(self) -> int:
        """Number of processes in the run."""

    @property
    def devices(self) -> list[str]:
        """Devices of this process, in order: all for ``single``, one for ``per_device``."""

    def barrier(self) -> None:
        """Returns when every process of the run has called it."""

    def gather(self, value: Any) -> list[Any]:
        """Returns the values of all processes, in order of rank, on every process."""

    def place_batch(self, batch: Arrays) -> dict[str, Any]:
        """Returns a global host batch on the devices, each with its share of the rows.

        Args:
          batch: name -> array; arrays without dims go to every device whole.
        """

    def place_pool(self, pool: Arrays) -> dict[str, Any]:
        """Returns a pool of batches on the devices, for blocks of steps.

        Args:
          pool: name -> array like ``place_batch``'s, with a new first dim that counts batches.
        """

    def scope(self) -> contextlib.AbstractContextManager:
        """Returns a context in which the model and the optimizer create their variables."""

    def wrap(self, computation: Callable) -> Callable:
        """Returns ``computation`` so that a call runs it on every device of this process.

        JAX wraps and compiles a function, in a way that depends on ``call``, since its results
        differ: ``step`` (state, batch) -> (state, metrics); ``block`` (state, pool, first) ->
        (state, metrics of all steps); ``forward`` (state, batch) -> rows; ``gradients`` (state,
        batch) -> (metrics, reduced gradients); ``shares``: the same, without reduction.
        TensorFlow wraps a function, and the runner compiles it. PyTorch wraps a model; the model's
        backward pass then reduces gradients.
        """

    @property
    def reduce_gradients(self) -> Reduction:
        """How gradients of all devices become their sum: a function of its own.

        Compression or another all-reduce replaces this one member. Where no function is called, it
        is a constant of ``common/measure/strategy.py`` that says why: ``NONE`` (one device),
        ``COMPILER`` (the compiler inserts the reduction) or ``WRAPPER`` (the framework's wrapper
        has a default). JAX and TensorFlow: a function of one device's gradients that returns their
        sum over all devices, called inside the compiled step. PyTorch: a communication hook of DDP,
        called with (process group, bucket); the parameter must be named ``bucket``; the hook
        returns a future of the *mean* over ranks, as PyTorch's own hooks do (``scale_loss`` makes
        it a sum).
        """

    def device_index(self) -> int | tf.Tensor:
        """Returns the number of the device that computes, for its own dropout masks.

        None: no device needs its own, as one program computes the masks of the global batch.
        """

    def local(self, variable: tf.Variable) -> tf.Variable:
        """Returns this replica's copy of a variable, so that a kernel can update it in place."""

    def per_replica(self, value: Any) -> Sequence[tf.Tensor]:
        """Returns one tensor for each device from a result of a wrapped function."""

    def read_totals(self, shares: Any) -> np.ndarray:
        """Returns the sum over all devices of a metric's shares.

        Args:
          shares: one metric of a step or a block (JAX, TensorFlow), or many metrics in one tensor
            of the same shape on every rank (PyTorch).
        """

    def read_rows(self, rows: Any) -> np.ndarray:
        """Returns the rows of the global batch, in order, on the host.

        Args:
          rows: a result of the forward pass, split over the devices.
        """

    def read_shares(self, shares: dict[str, Any]) -> list[Arrays]:
        """Returns one entry for each device of the run, in order, on the host.

        Args:
          shares: results by name that were computed without reduction.
        """

    def describe(self) -> dict[str, Any]:
        """Returns settings in force, for the run's record; ``{}``: none."""

    def close(self) -> None:
        """Ends the connection to other processes."""
