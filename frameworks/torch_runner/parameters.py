"""Canonical names <-> PyTorch parameters: other names, and linear kernels are transposed."""

import re

import numpy as np
import torch
from torch import nn

from isoscale.common.config.model_spec import Arrays, ModelSpec


class CanonicalParameters:
    """Reads and writes a module's parameters under their canonical names.

    Raises:
      ValueError: the parameters of the module differ from the spec.
    """

    def __init__(self, model: nn.Module, spec: ModelSpec):
        self._tensors: dict[str, nn.Parameter] = {}
        self._transposed: set[str] = set()
        for parameter in spec.parameters():
            *path, leaf = parameter.name.split("/")
            module = model.get_submodule(".".join(re.sub(r"_(\d+)$", r".\1", p) for p in path))
            renamed = {
                nn.Linear: {"kernel": "weight"},
                nn.Embedding: {"embedding": "weight"},
                nn.LayerNorm: {"scale": "weight"},
            }
            names = next((n for kind, n in renamed.items() if isinstance(module, kind)), {})
            self._tensors[parameter.name] = module.get_parameter(names.get(leaf, leaf))
            if isinstance(module, nn.Linear) and leaf == "kernel":
                self._transposed.add(parameter.name)
        missing = {id(p) for p in model.parameters()} ^ {id(p) for p in self._tensors.values()}
        if missing:
            raise ValueError(
                f"the PyTorch module has {len(missing)} parameters that the spec lacks"
            )

    def tensors(self) -> dict[str, nn.Parameter]:
        """Returns canonical name -> native parameter, in the order of the spec."""
        return self._tensors

    def to_host(self, name: str, tensor: torch.Tensor) -> np.ndarray:
        """Returns a native tensor (a parameter, its gradient, a moment) in canonical layout."""
        array = tensor.detach().cpu().numpy().copy()
        return np.ascontiguousarray(array.T) if name in self._transposed else array

    def to_native(self, name: str, array: np.ndarray) -> torch.Tensor:
        """Returns a canonical array as a native tensor on the host: undoes ``to_host``."""
        return torch.from_numpy(np.array(array.T if name in self._transposed else array, order="C"))

    def read(self) -> Arrays:
        """Returns the canonical parameters."""
        return {name: self.to_host(name, tensor) for name, tensor in self._tensors.items()}

    @torch.no_grad()
    def write(self, parameters: Arrays) -> None:
        """Sets all parameters of the module to canonical arrays."""
        for name, tensor in self._tensors.items():
            tensor.copy_(self.to_native(name, parameters[name]))
