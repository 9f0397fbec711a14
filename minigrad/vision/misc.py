"""Blocks of vision networks: convolution with norm and activation, squeeze and excitation, a
perceptron, frozen batch norm."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from .. import nn
from ..engine import Tensor
from ..nn import functional as F
from ..ops.creation import ones, zeros
from ..ops.shape import permute

Layer = Callable[..., nn.Module]
Sizes = int | Sequence[int]


class FrozenBatchNorm2d(nn.Module):
    """Batch norm whose statistics and affine parameters are buffers that nothing changes.

    (N, C, H, W) → the same shape. A state dict of BatchNorm2d fits.
    """

    def __init__(self, num_features: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.eps = eps
        for name, values in (
            ("weight", ones), ("bias", zeros), ("running_mean", zeros), ("running_var", ones),
        ):  # fmt: skip
            self.register_buffer(name, values(num_features))

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *rest: Any) -> None:
        state_dict.pop(f"{prefix}num_batches_tracked", None)
        super()._load_from_state_dict(state_dict, prefix, *rest)

    def forward(self, x: Tensor) -> Tensor:
        return F.batch_norm(
            x, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps
        )

    def extra_repr(self) -> str:
        return f"{self.weight.shape[0]}, eps={self.eps}"


class ConvNormActivation(nn.Sequential):
    """What Conv2dNormActivation is for any convolution `conv_layer`."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Sizes = 3,
        stride: Sizes = 1,
        padding: Sizes | str | None = None,
        groups: int = 1,
        norm_layer: Layer | None = nn.BatchNorm2d,
        activation_layer: Layer | None = nn.ReLU,
        dilation: Sizes = 1,
        inplace: bool | None = True,
        bias: bool | None = None,
        conv_layer: Layer = nn.Conv2d,
    ) -> None:
        if padding is None:
            padding = _same_padding(kernel_size, dilation)
        layers = [
            conv_layer(
                in_channels, out_channels, kernel_size, stride, padding, dilation=dilation,
                groups=groups, bias=norm_layer is None if bias is None else bias,
            )
        ]  # fmt: skip
        if norm_layer is not None:
            layers.append(norm_layer(out_channels))
        if activation_layer is not None:
            layers.append(activation_layer(**_inplace(inplace)))
        super().__init__(*layers)
        self.out_channels = out_channels


class Conv2dNormActivation(ConvNormActivation):
    """Conv2d → norm_layer(out_channels) → activation_layer(inplace=…); None leaves a layer out.

    padding: by default (kernel_size − 1)//2·dilation, which keeps the size at stride 1. bias: by
    default without a norm only. inplace=None is not passed on.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Sizes = 3,
        stride: Sizes = 1,
        padding: Sizes | str | None = None,
        groups: int = 1,
        norm_layer: Layer | None = nn.BatchNorm2d,
        activation_layer: Layer | None = nn.ReLU,
        dilation: Sizes = 1,
        inplace: bool | None = True,
        bias: bool | None = None,
    ) -> None:
        super().__init__(
            in_channels, out_channels, kernel_size, stride, padding, groups, norm_layer,
            activation_layer, dilation, inplace, bias,
        )  # fmt: skip


def _same_padding(kernel_size: Sizes, dilation: Sizes) -> int | tuple[int, ...]:
    if isinstance(kernel_size, int):
        if isinstance(dilation, int):
            return (kernel_size - 1) // 2 * dilation
        kernel_size = (kernel_size,) * len(dilation)
    elif isinstance(dilation, int):
        dilation = (dilation,) * len(kernel_size)
    return tuple((k - 1) // 2 * d for k, d in zip(kernel_size, dilation, strict=True))


def _inplace(inplace: bool | None) -> dict[str, Any]:
    return {} if inplace is None else {"inplace": inplace}


class SqueezeExcitation(nn.Module):
    """Channels scaled by what two 1×1 convolutions make of their averages.

    (N, input_channels, H, W) → the same shape. Source: Hu et al. 2018, "Squeeze-and-excitation
    networks".
    """

    def __init__(
        self,
        input_channels: int,
        squeeze_channels: int,
        activation: Layer = nn.ReLU,
        scale_activation: Layer = nn.Sigmoid,
    ) -> None:
        super().__init__()
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc1 = nn.Conv2d(input_channels, squeeze_channels, 1)
        self.fc2 = nn.Conv2d(squeeze_channels, input_channels, 1)
        self.activation = activation()
        self.scale_activation = scale_activation()

    def _scale(self, input: Tensor) -> Tensor:
        squeezed = self.activation(self.fc1(self.avgpool(input)))
        return self.scale_activation(self.fc2(squeezed))

    def forward(self, input: Tensor) -> Tensor:
        return self._scale(input) * input


class MLP(nn.Sequential):
    """Linear → norm_layer → activation_layer → Dropout for each of hidden_channels, the last one
    without norm and activation."""

    def __init__(
        self,
        in_channels: int,
        hidden_channels: Sequence[int],
        norm_layer: Layer | None = None,
        activation_layer: Layer | None = nn.ReLU,
        inplace: bool | None = None,
        bias: bool = True,
        dropout: float = 0.0,
    ) -> None:
        options = _inplace(inplace)
        layers: list[nn.Module] = []
        for i, channels in enumerate(hidden_channels):
            layers.append(nn.Linear(in_channels, channels, bias=bias))
            if i + 1 < len(hidden_channels):
                if norm_layer is not None:
                    layers.append(norm_layer(channels))
                if activation_layer is not None:
                    layers.append(activation_layer(**options))
            layers.append(nn.Dropout(dropout, **options))
            in_channels = channels
        super().__init__(*layers)


class Permute(nn.Module):
    """The input with its axes in another order."""

    def __init__(self, dims: Sequence[int]) -> None:
        super().__init__()
        self.dims = dims

    def forward(self, x: Tensor) -> Tensor:
        return permute(x, *self.dims)
