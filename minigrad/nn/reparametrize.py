"""Weights computed anew before every forward pass: spectral and weight normalisation.

The weight gives way to parameters that it is computed from, by a forward pre-hook.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, TypeVar

from ..arguments import check_int
from ..engine import Tensor, no_grad
from ..ops.arithmetic import maximum
from ..ops.matmul import matmul
from ..ops.random import randn
from ..ops.vector_norm import vector_norm
from .conv import ConvTranspose2d
from .module import Module, Parameter

__all__ = ["remove_spectral_norm", "remove_weight_norm", "spectral_norm", "weight_norm"]

M = TypeVar("M", bound=Module)


class _Computed(ABC):
    """A forward pre-hook that sets the module's attribute `name` to what `weight` returns."""

    norm = ""
    # What is appended to `name` for the parameters and buffers that stand for it.
    suffixes: tuple[str, ...] = ()

    def __init__(self, module: Module, name: str) -> None:
        weight = module._parameters.get(name)
        if weight is None:
            raise ValueError(f"{self.norm}: the module has no parameter {name!r}")
        self.name = name
        self.replace(module, weight)
        del module._parameters[name]
        setattr(module, name, weight.detach())
        self.handle = module.register_forward_pre_hook(self)

    @abstractmethod
    def replace(self, module: Module, weight: Parameter) -> None:
        """Register what the weight is computed from."""

    @abstractmethod
    def weight(self, module: Module, training: bool) -> Tensor:
        """The weight of now."""

    def __call__(self, module: Module, args: Any) -> None:
        setattr(module, self.name, self.weight(module, module.training))

    @classmethod
    def remove(cls, module: M, name: str) -> M:
        for hook, _ in module._forward_pre_hooks.values():
            if isinstance(hook, cls) and hook.name == name:
                break
        else:
            raise ValueError(f"remove_{cls.norm}: {name!r} of the module is not normalised")
        with no_grad():
            weight = hook.weight(module, training=False)
        for suffix in cls.suffixes:
            delattr(module, name + suffix)
        delattr(module, name)
        module.register_parameter(name, Parameter(weight))
        hook.handle.remove()
        return module


class _SpectralNorm(_Computed):
    norm = "spectral_norm"
    suffixes = ("_orig", "_u", "_v")

    def __init__(
        self, module: Module, name: str, n_power_iterations: int, eps: float, dim: int
    ) -> None:
        check_int("spectral_norm", "n_power_iterations", n_power_iterations, low=1)
        self.iterations, self.eps, self.dim = n_power_iterations, eps, dim
        super().__init__(module, name)

    def replace(self, module: Module, weight: Parameter) -> None:
        kind: dict[str, Any] = {"dtype": weight.dtype, "device": weight.device}
        rows, columns = self._matrix(weight).shape
        module.register_parameter(self.name + "_orig", weight)
        module.register_buffer(self.name + "_u", self._unit(randn(rows, **kind)))
        module.register_buffer(self.name + "_v", self._unit(randn(columns, **kind)))

    def _matrix(self, weight: Tensor) -> Tensor:
        axes = self.dim, *(axis for axis in range(weight.ndim) if axis != self.dim)
        return weight.permute(axes).reshape((weight.shape[self.dim], -1))

    def _unit(self, vector: Tensor) -> Tensor:
        return vector / maximum(vector_norm(vector), self.eps)

    def weight(self, module: Module, training: bool) -> Tensor:
        """weight_orig / σ, where σ = u·W·v is the largest singular value; u and v come nearer to
        its vectors at each pass in training."""
        original, u, v = (getattr(module, self.name + suffix) for suffix in self.suffixes)
        matrix = self._matrix(original)
        if training:
            with no_grad():
                for _ in range(self.iterations):
                    v.copy_(self._unit(matmul(matrix.t(), u)))
                    u.copy_(self._unit(matmul(matrix, v)))
            u, v = u.clone(), v.clone()  # the next pass changes them before this one's backward
        return original / matmul(u, matmul(matrix, v))


class _WeightNorm(_Computed):
    norm = "weight_norm"
    suffixes = ("_g", "_v")

    def __init__(self, module: Module, name: str, dim: int | None) -> None:
        self.dim = dim
        super().__init__(module, name)

    def replace(self, module: Module, weight: Parameter) -> None:
        module.register_parameter(self.name + "_g", Parameter(self._length(weight.detach())))
        module.register_parameter(self.name + "_v", Parameter(weight.detach()))

    def _length(self, weight: Tensor) -> Tensor:
        if self.dim is None or self.dim == -1:
            return vector_norm(weight)
        kept = self.dim % weight.ndim
        axes = tuple(axis for axis in range(weight.ndim) if axis != kept)
        return vector_norm(weight, dim=axes, keepdim=True)

    def weight(self, module: Module, training: bool) -> Tensor:
        """g·v/‖v‖"""
        g, v = (getattr(module, self.name + suffix) for suffix in self.suffixes)
        return v * (g / self._length(v))


def spectral_norm(
    module: M,
    name: str = "weight",
    n_power_iterations: int = 1,
    eps: float = 1e-12,
    dim: int | None = None,
) -> M:
    """Divide a weight by its largest singular value, that of a matrix with one row for each index
    of `dim` (the outputs unless given).

    Parameter name_orig, buffers name_u and name_v: the singular vectors, by power iteration.
    Source: Miyato et al. 2018, "Spectral normalization for generative adversarial networks".
    """
    if dim is None:
        dim = 1 if isinstance(module, ConvTranspose2d) else 0
    _SpectralNorm(module, name, n_power_iterations, eps, dim)
    return module


def remove_spectral_norm(module: M, name: str = "weight") -> M:
    """The weight as a parameter again, with the value that it has."""
    return _SpectralNorm.remove(module, name)


def weight_norm(module: M, name: str = "weight", dim: int | None = 0) -> M:
    """A weight as its length for each index of `dim` (None: as a whole) times its direction:
    parameters name_g and name_v.

    Source: Salimans & Kingma 2016, "Weight normalization".
    """
    _WeightNorm(module, name, dim)
    return module


def remove_weight_norm(module: M, name: str = "weight") -> M:
    """The weight as a parameter again, with the value that it has."""
    return _WeightNorm.remove(module, name)
