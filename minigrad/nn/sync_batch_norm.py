"""SyncBatchNorm: batch normalisation whose batch is that of all ranks."""

from __future__ import annotations

from typing import Any

from ..distributed.batch_norm import SyncBatchNorm as SyncBatchNormFunction
from ..distributed.group import get_group, is_initialized
from ..engine import Tensor
from ..errors import ShapeError
from ..ops.norm import check_batch_norm
from .layers import _BatchNorm
from .module import Module

__all__ = ["SyncBatchNorm"]


class SyncBatchNorm(_BatchNorm):
    """As BatchNorm1d, 2d or 3d; in training, mean and variance are those of the inputs of all ranks
    together, of which some may be larger than others.

    (N, C) or (N, C, …) → the same shape. process_group: the ranks, by default all. Without a
    process group, or alone in one, it is ordinary batch normalisation. Raises DistributedError on
    every rank if they do not all come to the same layer.
    """

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        process_group: Any = None,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(num_features, eps, momentum, affine, track_running_stats, device, dtype)
        self.process_group = process_group

    def check_shape(self, shape: tuple[int, ...]) -> None:
        if len(shape) < 2 or shape[1] != self.num_features:
            raise ShapeError(
                f"SyncBatchNorm: input must be (N, {self.num_features}) or "
                f"(N, {self.num_features}, …), got shape {shape}"
            )

    def forward(self, input: Tensor) -> Tensor:
        weight, bias, running, training, momentum, eps = self.arguments()
        alone = not is_initialized() or get_group("SyncBatchNorm", self.process_group).size() == 1
        if not training or alone:
            return super().forward(input)
        group = get_group("SyncBatchNorm", self.process_group).side
        with group.checking("SyncBatchNorm"):
            if not isinstance(input, Tensor):
                raise TypeError(
                    f"SyncBatchNorm: input must be a Tensor, got {type(input).__name__}"
                )
            self.check_shape(input.array.shape)
            # One value per channel is refused where it is known how many all ranks have.
            shape = (max(input.shape[0], 2), *input.shape[1:])
            check_batch_norm(input, shape, weight, bias, running, True, momentum, eps)
        return SyncBatchNormFunction.apply(input, weight, bias, running, momentum, eps, group)

    @classmethod
    def convert_sync_batchnorm(cls, module: Module, process_group: Any = None) -> Module:
        """The module, in which all BatchNorm layers are SyncBatchNorm layers with the same
        parameters and buffers. A layer itself is returned converted."""
        if isinstance(module, _BatchNorm) and not isinstance(module, cls):
            made = cls(
                module.num_features, module.eps, module.momentum, module.affine,
                module.track_running_stats, process_group,
            )  # fmt: skip
            for name, parameter in module._parameters.items():
                made._parameters[name] = parameter
            for name, buffer in module._buffers.items():
                made._buffers[name] = buffer
            return made.train(module.training)
        for name, child in module.named_children():
            converted = cls.convert_sync_batchnorm(child, process_group)
            if converted is not child:
                setattr(module, name, converted)
        return module
