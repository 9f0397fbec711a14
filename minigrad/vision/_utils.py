"""What torchvision.ops._utils has for training scripts."""

from __future__ import annotations

from collections.abc import Sequence

from .. import nn
from ..engine import Tensor
from ..nn.layers import _BatchNorm, _InstanceNorm

_NORMS = _BatchNorm, _InstanceNorm, nn.LayerNorm, nn.GroupNorm, nn.LocalResponseNorm


def split_normalization_params(
    model: nn.Module, norm_classes: Sequence[type[nn.Module]] | None = None
) -> tuple[list[Tensor], list[Tensor]]:
    """The trained parameters of the normalisations, which weight decay may leave alone, and all
    others. norm_classes: what counts as a normalisation, if it has no layers of its own."""
    classes = tuple(norm_classes or _NORMS)
    norms: list[Tensor] = []
    others: list[Tensor] = []
    for module in model.modules():
        is_norm = isinstance(module, classes) and next(module.children(), None) is None
        own = [p for p in module.parameters(recurse=False) if p.requires_grad]
        (norms if is_norm else others).extend(own)
    return norms, others
