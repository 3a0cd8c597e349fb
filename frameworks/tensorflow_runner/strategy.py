"""The contract of a TensorFlow strategy, which spreads one training step over the devices.

A strategy is one file in ``strategies/``: the literal ``INFO`` (read without TensorFlow; see
``StrategyInfo``), a class that follows ``Strategy``, and ``make``, which builds it. The recipe is
``docs/add-a-strategy.md``. The contracts of the three frameworks use the same words; types differ.
Some methods exist in some frameworks only:

  place_state         JAX only. TensorFlow creates variables under ``scope``. PyTorch creates the
                      model on the device, and ``wrap`` gives all ranks equal parameters.
  place_pool          JAX and TensorFlow. PyTorch issues one step at a time.
  split_rows          JAX only. In the other frameworks the function that computes a step sees the
                      rows of one device only.
  scope, local,       TensorFlow only. Variables belong to a strategy, and the values of replicas
  per_replica         are objects of the strategy.
  sync, scale_loss    PyTorch only. The wrapper reduces gradients during the backward pass and takes
                      their mean.

The loss is a sum over the global batch, divided by a normaliser that every device knows. Each
device computes its share of the loss. Shares add up, so every reduction is a sum.
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
        """Returns a global host batch on the devices; each device holds its share of the rows.

        Args:
          batch: name -> array. Every device gets a full copy of an array without dims.
        """

    def place_pool(self, pool: Arrays) -> dict[str, Any]:
        """Returns a pool of batches on the devices, for blocks of steps.

        Args:
          pool: name -> array as in ``place_batch``, with a new first dim that counts batches.
        """

    def scope(self) -> contextlib.AbstractContextManager:
        """Returns a context in which the model and the optimizer create their variables."""

    def wrap(self, computation: Callable) -> Callable:
        """Returns a callable that runs ``computation`` on every device of this process.

        JAX wraps and compiles a function. ``call`` names its arguments and results:

          step        (state, batch) -> (state, metrics)
          block       (state, pool, first) -> (state, metrics of all steps)
          forward     (state, batch) -> rows
          gradients   (state, batch) -> (metrics, reduced gradients)
          shares      (state, batch) -> (metrics, unreduced gradients)

        TensorFlow wraps a function, and the runner compiles it. PyTorch wraps a model; the model's
        backward pass then reduces gradients.
        """

    @property
    def reduce_gradients(self) -> Reduction:
        """The function that adds up gradients over all devices, or a constant.

        To compress gradients, or to use another all-reduce, override this member alone.

        A constant of ``common/measure/strategy.py`` says why the strategy needs no function:
        ``NONE`` (one device), ``COMPILER`` (the compiler inserts the reduction) or ``WRAPPER`` (the
        framework's wrapper has a default reduction).

        JAX and TensorFlow: the compiled step calls the function with one device's gradients; the
        function returns their sum over all devices. PyTorch: the function is a communication hook
        of DDP, called with (process group, bucket); PyTorch requires the parameter name ``bucket``.
        The hook returns a future of the *mean* over ranks, like PyTorch's own hooks;
        ``scale_loss`` turns the mean into a sum.
        """

    def device_index(self) -> int | tf.Tensor:
        """Returns the number of the device that computes; each device draws its own dropout masks.

        None (JAX only): one program computes the masks of the global batch.
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
          rows: result of the forward pass, split over the devices.
        """

    def read_shares(self, shares: dict[str, Any]) -> list[Arrays]:
        """Returns the results of each device of the run, in order, on the host.

        Args:
          shares: name -> result that was computed without reduction.
        """

    def describe(self) -> dict[str, Any]:
        """Returns the settings in force, for the run's record; the dict may be empty."""

    def close(self) -> None:
        """Ends the connection to other processes."""
