"""Feature pyramid networks: maps of all scales with as many channels. Source: Lin et al. 2017,
"Feature pyramid networks for object detection"."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from .. import nn
from ..engine import Tensor
from ..nn import functional as F
from .misc import Conv2dNormActivation


def _reset_convolutions(modules: Any) -> None:
    for module in modules:
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_uniform_(module.weight, a=1)
            if module.bias is not None:
                nn.init.constant_(module.bias, 0)


class ExtraFPNBlock(nn.Module):
    """Base of what a pyramid adds below its last map: forward(results, x, names) gets the maps of
    the pyramid, those it was made of and their names, and returns longer results and names."""

    def forward(
        self, results: list[Tensor], x: list[Tensor], names: list[str]
    ) -> tuple[list[Tensor], list[str]]:
        raise TypeError(f"{type(self).__name__} must define forward(results, x, names)")


class FeaturePyramidNetwork(nn.Module):
    """Maps of falling size → maps of the same names and sizes with out_channels each.

    Each map is reduced by a 1×1 convolution, what lies below is added to it at its size, and a 3×3
    convolution follows.
    """

    def __init__(
        self,
        in_channels_list: Sequence[int],
        out_channels: int,
        extra_blocks: ExtraFPNBlock | None = None,
        norm_layer: Callable[..., nn.Module] | None = None,
    ) -> None:
        super().__init__()
        if 0 in in_channels_list:
            raise ValueError(
                f"FeaturePyramidNetwork: in_channels_list must not hold 0, got {in_channels_list}"
            )
        if extra_blocks is not None and not isinstance(extra_blocks, ExtraFPNBlock):
            raise TypeError(
                "FeaturePyramidNetwork: extra_blocks must be an ExtraFPNBlock, got "
                f"{type(extra_blocks).__name__}"
            )
        options = {"norm_layer": norm_layer, "activation_layer": None}
        self.inner_blocks = nn.ModuleList(
            Conv2dNormActivation(C, out_channels, 1, padding=0, **options)  # type: ignore[arg-type]
            for C in in_channels_list
        )
        self.layer_blocks = nn.ModuleList(
            Conv2dNormActivation(out_channels, out_channels, 3, **options)  # type: ignore[arg-type]
            for _ in in_channels_list
        )
        _reset_convolutions(self.modules())
        self.extra_blocks = extra_blocks

    def forward(self, x: Mapping[str, Tensor]) -> OrderedDict[str, Tensor]:
        names, maps = list(x), list(x.values())
        results: list[Tensor] = []
        below: Tensor | None = None
        for i in reversed(range(len(maps))):
            inner = self.inner_blocks[i](maps[i])
            below = inner if below is None else inner + F.interpolate(below, inner.shape[-2:])
            results.insert(0, self.layer_blocks[i](below))
        if self.extra_blocks is not None:
            results, names = self.extra_blocks(results, maps, names)
        return OrderedDict(zip(names, results, strict=True))


class LastLevelMaxPool(ExtraFPNBlock):
    """One map more, "pool": every other element of the last one."""

    def forward(
        self, results: list[Tensor], x: list[Tensor], names: list[str]
    ) -> tuple[list[Tensor], list[str]]:
        return [*results, F.max_pool2d(results[-1], 1, 2)], [*names, "pool"]


class LastLevelP6P7(ExtraFPNBlock):
    """Two maps more, "p6" and "p7", by convolutions of stride 2: RetinaNet's."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.p6 = nn.Conv2d(in_channels, out_channels, 3, 2, 1)
        self.p7 = nn.Conv2d(out_channels, out_channels, 3, 2, 1)
        _reset_convolutions((self.p6, self.p7))
        self.use_P5 = in_channels == out_channels

    def forward(
        self, results: list[Tensor], x: list[Tensor], names: list[str]
    ) -> tuple[list[Tensor], list[str]]:
        p6 = self.p6(results[-1] if self.use_P5 else x[-1])
        p7 = self.p7(F.relu(p6))
        return [*results, p6, p7], [*names, "p6", "p7"]
