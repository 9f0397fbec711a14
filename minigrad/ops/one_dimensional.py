"""Operations on sequences: convolution and pooling of (N, C, L), by the operations on images.

A sequence is an image of one row, (N, C, 1, L): a view. Every window is one row high.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ..engine import Tensor
from ..errors import ShapeError
from ..geometry import (
    Size1d,
    adaptive_pool2d_dims,
    conv2d_dims,
    conv_transpose2d_dims,
    pool2d_dims,
    single,
)
from .conv import Conv2d, ConvTranspose2d
from .operands import floating_operands, takes_tensor
from .pool import AvgPool2d, MaxPool2d, lp_pool2d
from .shape import squeeze, unsqueeze
from .unpool import max_unpool2d

__all__ = [
    "adaptive_avg_pool1d", "adaptive_max_pool1d", "avg_pool1d", "conv1d", "conv_transpose1d",
    "lp_pool1d", "max_pool1d", "max_unpool1d",
]  # fmt: skip


def _image(operation: str, input: Tensor) -> tuple[Tensor, Callable[[Any], Any]]:
    """(N, C, L) or (C, L) as (N, C, 1, L); the second value brings results back."""
    floating_operands(operation, "input", input)
    if input.ndim not in (2, 3):
        raise ShapeError(f"{operation}: input must be (N, C, L) or (C, L), got shape {input.shape}")
    added = (-2,) if input.ndim == 3 else (0, -2)
    image = unsqueeze(input, -2)
    image = image if input.ndim == 3 else unsqueeze(image, 0)

    def restore(result: Any) -> Any:
        return tuple(map(restore, result)) if isinstance(result, tuple) else squeeze(result, added)

    return image, restore


def _filters(operation: str, weight: Tensor) -> Tensor:
    if weight.ndim != 3:
        raise ShapeError(f"{operation}: weight must have 3 dimensions, got shape {weight.shape}")
    return unsqueeze(weight, -2)


def conv1d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Size1d = 1,
    padding: Size1d | str = 0,
    dilation: Size1d = 1,
    groups: int = 1,
) -> Tensor:
    """Cross-correlation of every input channel with a kernel, summed over channels.

    input (N, C_in, L) or (C_in, L); weight (C_out, C_in/groups, k); bias (C_out,)
    → (N, C_out, L_out). Sizes, padding and errors are those of `conv2d`.
    """
    name = "conv1d"
    floating_operands(name, "input weight bias?", input, weight, bias)
    image, restore = _image(name, input)
    filters = _filters(name, weight)
    dims = conv2d_dims(
        image.shape, filters.shape, None if bias is None else bias.shape,
        (1, single(name, "stride", stride, 1)),
        padding if isinstance(padding, str) else (0, single(name, "padding", padding)),
        (1, single(name, "dilation", dilation, 1)), groups, name,
    )  # fmt: skip
    return restore(Conv2d.apply(image, filters, bias, dims))


def conv_transpose1d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Size1d = 1,
    padding: Size1d = 0,
    output_padding: Size1d = 0,
    groups: int = 1,
    dilation: Size1d = 1,
) -> Tensor:
    """Every input element adds its multiple of a kernel to the output, `stride` elements apart.

    input (N, C_in, L) or (C_in, L); weight (C_in, C_out/groups, k); bias (C_out,)
    → (N, C_out, L_out). Sizes and errors are those of `conv_transpose2d`.
    """
    name = "conv_transpose1d"
    floating_operands(name, "input weight bias?", input, weight, bias)
    image, restore = _image(name, input)
    filters = _filters(name, weight)
    dims = conv_transpose2d_dims(
        image.shape, filters.shape, None if bias is None else bias.shape,
        (1, single(name, "stride", stride, 1)), (0, single(name, "padding", padding)),
        (0, single(name, "output_padding", output_padding)), groups,
        (1, single(name, "dilation", dilation, 1)), name,
    )  # fmt: skip
    return restore(ConvTranspose2d.apply(image, filters, bias, dims))


def _windows(operation: str, kernel_size: Size1d, stride: Any) -> tuple[Any, Any]:
    """Kernel and stride of windows one row high."""
    kernel = single(operation, "kernel_size", kernel_size, 1)
    given = stride is not None and stride not in ((), [])
    return (1, kernel), (1, single(operation, "stride", stride, 1) if given else kernel)


@takes_tensor
def max_pool1d(
    input: Tensor,
    kernel_size: Size1d,
    stride: Size1d | None = None,
    padding: Size1d = 0,
    dilation: Size1d = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Any:
    """Maximum over each window.  (N, C, L) or (C, L) → (N, C, L_out). See `max_pool2d`."""
    name = "max_pool1d"
    image, restore = _image(name, input)
    dims = pool2d_dims(
        name, image.shape, *_windows(name, kernel_size, stride),
        (0, single(name, "padding", padding)), (1, single(name, "dilation", dilation, 1)),
        ceil_mode,
    )  # fmt: skip
    return restore(MaxPool2d.apply(image, dims, bool(return_indices)))


@takes_tensor
def avg_pool1d(
    input: Tensor,
    kernel_size: Size1d,
    stride: Size1d | None = None,
    padding: Size1d = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
) -> Tensor:
    """Average over each window.  (N, C, L) or (C, L) → (N, C, L_out). See `avg_pool2d`."""
    name = "avg_pool1d"
    image, restore = _image(name, input)
    dims = pool2d_dims(
        name, image.shape, *_windows(name, kernel_size, stride),
        (0, single(name, "padding", padding)), 1, ceil_mode, count_include_pad,
    )  # fmt: skip
    return restore(AvgPool2d.apply(image, dims))


@takes_tensor
def lp_pool1d(
    input: Tensor,
    norm_type: float,
    kernel_size: Size1d,
    stride: Size1d | None = None,
    ceil_mode: bool = False,
) -> Tensor:
    """Power average over each window.  (N, C, L) or (C, L) → (N, C, L_out). See `lp_pool2d`."""
    image, restore = _image("lp_pool1d", input)
    windows = _windows("lp_pool1d", kernel_size, stride)
    return restore(lp_pool2d(image, norm_type, *windows, ceil_mode))


@takes_tensor
def adaptive_max_pool1d(input: Tensor, output_size: Size1d, return_indices: bool = False) -> Any:
    """Maximum over output_size windows that cover the input. See `adaptive_max_pool2d`."""
    name = "adaptive_max_pool1d"
    image, restore = _image(name, input)
    dims = adaptive_pool2d_dims(name, image.shape, (1, single(name, "output_size", output_size)))
    return restore(MaxPool2d.apply(image, dims, bool(return_indices)))


@takes_tensor
def adaptive_avg_pool1d(input: Tensor, output_size: Size1d) -> Tensor:
    """Average over output_size windows that cover the input. See `adaptive_avg_pool2d`."""
    name = "adaptive_avg_pool1d"
    image, restore = _image(name, input)
    sizes = (1, single(name, "output_size", output_size))
    dims = adaptive_pool2d_dims(name, image.shape, sizes, least_channels=0)
    return restore(AvgPool2d.apply(image, dims))


def max_unpool1d(
    input: Tensor,
    indices: Tensor,
    kernel_size: Size1d,
    stride: Size1d | None = None,
    padding: Size1d = 0,
    output_size: Sequence[int] | None = None,
) -> Tensor:
    """Put the maxima back where max_pool1d(…, return_indices=True) found them; zeros elsewhere.

    input and indices (N, C, L) or (C, L) → (N, C, L_out), L_out as in `max_unpool2d`.
    """
    name = "max_unpool1d"
    image, restore = _image(name, input)
    if not isinstance(indices, Tensor) or indices.shape != input.shape:
        got = indices.shape if isinstance(indices, Tensor) else type(indices).__name__
        raise ShapeError(f"{name}: indices must have input's shape {input.shape}, got {got}")
    pad = (0, single(name, "padding", padding))
    size = None if output_size is None else (1, tuple(output_size)[-1])
    windows = _windows(name, kernel_size, stride)
    positions = indices.reshape(image.shape)
    return restore(max_unpool2d(image, positions, *windows, pad, size))
