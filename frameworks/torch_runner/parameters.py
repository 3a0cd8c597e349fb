"""Canonical names <-> PyTorch parameters: other names, and linear kernels are transposed."""

import re

import numpy as np
import torch
from torch import nn
from torch.nn.modules.dropout import _DropoutNd

from isoscale.common.config.model_spec import Arrays, ModelSpec

_RENAMED: dict[type[nn.Module], dict[str, str]] = {
    nn.Linear: {"kernel": "weight"},
    nn.Embedding: {"embedding": "weight"},
    nn.LayerNorm: {"scale": "weight"},
}


def check_module(model: nn.Module) -> None:
    """Checks that a module computes from its parameters and its input alone.

    isoscale sets the parameters only, and keeps modules in evaluation mode: anything else would be
    undefined, or off, without an error.

    Raises:
      ValueError: the module has a buffer, for example that of a batch norm, or a layer that drops.
    """
    for name, _ in model.named_buffers():
        raise ValueError(
            f"the PyTorch module has the buffer {name}: a model in isoscale has parameters only; "
            "make constants in forward(), and use LayerNorm or GroupNorm instead of BatchNorm"
        )
    for name, module in model.named_modules():
        rate = getattr(module, "p" if isinstance(module, _DropoutNd) else "dropout", 0)
        if isinstance(rate, float) and rate > 0:
            raise ValueError(
                f"{type(module).__name__} in {name or 'the module'} drops with rate {rate}, but "
                "isoscale keeps modules in evaluation mode: use functional.dropout in forward() "
                "if its argument dropout is true"
            )


class CanonicalParameters:
    """Reads and writes a module's parameters under their canonical names.

    Raises:
      ValueError: the parameters of the module, or their shapes, differ from the spec.
    """

    def __init__(self, model: nn.Module, spec: ModelSpec):
        self._tensors: dict[str, nn.Parameter] = {}
        self._transposed: set[str] = set()
        wrong = []
        for parameter in spec.parameters():
            *path, leaf = parameter.name.split("/")
            try:
                module = model.get_submodule(".".join(re.sub(r"_(\d+)$", r".\1", p) for p in path))
                names = next((n for kind, n in _RENAMED.items() if isinstance(module, kind)), {})
                tensor = module.get_parameter(names.get(leaf, leaf))
            except AttributeError:
                wrong.append(f"it has no {parameter.name}")
                continue
            transposed = isinstance(module, nn.Linear) and leaf == "kernel"
            shape = tuple(tensor.shape)[:: -1 if transposed else 1]
            if shape != parameter.shape:
                wrong.append(
                    f"{parameter.name} has shape {shape}, but {parameter.shape} in the spec"
                )
            self._tensors[parameter.name] = tensor
            if transposed:
                self._transposed.add(parameter.name)
        known = {id(tensor) for tensor in self._tensors.values()}
        others = [name for name, tensor in model.named_parameters() if id(tensor) not in known]
        wrong += [f"the spec lacks {name.replace('.', '/')}" for name in others]
        if wrong:
            raise ValueError(f"the PyTorch module does not fit the spec: {'; '.join(wrong[:5])}")

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
