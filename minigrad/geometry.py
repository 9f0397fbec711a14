"""Shape inference: the geometry of windowed operations: every output-size formula and every check
of it.

One immutable value holds the sizes of one call. The public function builds it, and thereby checks
it, before any work; forward and all gradients receive the same value. The values are named tuples
of ints, which a jitted kernel reads by the same field names as Python does.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

from .arguments import check_int
from .errors import DTypeError, ShapeError

Size1d = int | tuple[int]
Size2d = int | tuple[int, int]

# Sizes beyond this would overflow the index arithmetic of kernels.
_LARGEST = 2**31 - 1


def single(operation: str, name: str, value: Size1d, minimum: int = 0) -> int:
    """A size of one axis, given as an int or as a sequence of one; at least `minimum`."""
    if isinstance(value, (tuple, list)) and len(value) != 1:
        raise ShapeError(f"{operation}: {name} must be an int or a tuple of one, got {value!r}")
    return pair(operation, name, value, minimum)[0]  # type: ignore[arg-type]


def pair(operation: str, name: str, value: Size2d, minimum: int = 0) -> tuple[int, int]:
    """(height, width) of a size given as one int or as two; each at least `minimum`."""
    if type(value) is int and minimum <= value <= _LARGEST:
        return value, value
    if type(value) is tuple and len(value) == 2:
        height, width = value
        if (
            type(height) is type(width) is int
            and minimum <= height <= _LARGEST
            and minimum <= width <= _LARGEST
        ):
            return value
    items = tuple(value) if isinstance(value, (tuple, list)) else (value, value)
    if len(items) == 1:
        items = items * 2
    if len(items) != 2:
        raise ShapeError(f"{operation}: {name} must be an int or a pair of ints, got {value!r}")
    try:
        if any(isinstance(item, bool) for item in items):
            raise TypeError
        height, width = (item.__index__() for item in items)
    except (AttributeError, TypeError):  # an array of several has __index__, too
        raise DTypeError(
            f"{operation}: {name} must be an int or a pair of ints, got {value!r}"
        ) from None
    if height < minimum or width < minimum:
        raise ShapeError(f"{operation}: {name} must be at least {minimum}, got {value!r}")
    if max(height, width) > _LARGEST:
        raise ShapeError(f"{operation}: {name} must be at most {_LARGEST}, got {value!r}")
    return height, width


# Convolution --------------------------------------------------------------------------------


def conv_output_size(size: int, kernel: int, stride: int, padding: int, dilation: int) -> int:
    """Positions of a window of `kernel` taps; `padding` is the total over both ends."""
    return (size + padding - dilation * (kernel - 1) - 1) // stride + 1


class Conv2dDims(NamedTuple):
    """Sizes of one conv2d: input (N, C_in, H, W), weight (C_out, C_in/groups, kH, kW).

    `top` and `left` are the padding before the first row and column; what lies after the last one
    follows from the output size.
    """

    N: int
    C_in: int
    H: int
    W: int
    C_out: int
    kH: int
    kW: int
    H_out: int
    W_out: int
    stride_h: int
    stride_w: int
    top: int
    left: int
    dilation_h: int
    dilation_w: int
    groups: int

    @property
    def flops(self) -> int:
        """Floating-point operations of the forward pass, two a multiply-add, padding included."""
        taps = self.kH * self.kW * (self.C_in // self.groups)
        return 2 * self.N * self.C_out * self.H_out * self.W_out * taps


def conv2d_dims(
    input_shape: tuple[int, ...],
    weight_shape: tuple[int, ...],
    bias_shape: tuple[int, ...] | None,
    stride: Size2d,
    padding: Size2d | str,
    dilation: Size2d,
    groups: int,
    name: str = "conv2d",
) -> Conv2dDims:
    """Check the arguments of `conv2d` on a batched input and return its sizes."""
    if not isinstance(padding, str):
        padding = pair(name, "padding", padding)
    return _conv2d_dims(
        input_shape, weight_shape, bias_shape, pair(name, "stride", stride, minimum=1), padding,
        pair(name, "dilation", dilation, minimum=1), check_int(name, "groups", groups), name,
    )  # fmt: skip


@lru_cache(maxsize=1024)
def _conv2d_dims(
    input_shape: tuple[int, ...],
    weight_shape: tuple[int, ...],
    bias_shape: tuple[int, ...] | None,
    strides: tuple[int, int],
    padding: tuple[int, int] | str,
    dilations: tuple[int, int],
    groups: int,
    name: str,
) -> Conv2dDims:
    _check_weight(name, weight_shape, groups, "output")
    N, C_in, H, W = input_shape
    C_out, C_group, kH, kW = weight_shape
    _check_channels(name, input_shape, weight_shape, groups, C_group * groups)
    _check_bias(name, bias_shape, C_out)
    top, bottom, left, right = conv_padding(name, padding, (kH, kW), strides, dilations)
    H_out = conv_output_size(H, kH, strides[0], top + bottom, dilations[0])
    W_out = conv_output_size(W, kW, strides[1], left + right, dilations[1])
    if H < 1 or W < 1 or H_out < 1 or W_out < 1:
        raise ShapeError(
            f"{name}: a {kH}×{kW} kernel with dilation {dilations} does not fit the {H}×{W} input "
            f"padded to {H + top + bottom}×{W + left + right}"
        )
    return Conv2dDims(
        N, C_in, H, W, C_out, kH, kW, H_out, W_out, *strides, top, left, *dilations, groups
    )


def _check_weight(
    operation: str, weight_shape: tuple[int, ...], groups: int, first_axis: str
) -> None:
    """first_axis: which channels it counts, those of the input or those of the output."""
    if len(weight_shape) != 4:
        raise ShapeError(f"{operation}: weight must have 4 dimensions, got shape {weight_shape}")
    if min(weight_shape) < 1:
        raise ShapeError(f"{operation}: weight must not be empty, got shape {weight_shape}")
    if groups < 1 or weight_shape[0] % groups:
        raise ShapeError(
            f"{operation}: groups must be a positive divisor of the {weight_shape[0]} {first_axis} "
            f"channels, got {groups}"
        )


def _check_channels(
    operation: str,
    input_shape: tuple[int, ...],
    weight_shape: tuple[int, ...],
    groups: int,
    expected: int,
) -> None:
    if input_shape[1] != expected:
        raise ShapeError(
            f"{operation}: weight of shape {weight_shape} with groups={groups} expects {expected} "
            f"input channels, got input of shape {input_shape}"
        )


def _check_bias(operation: str, bias_shape: tuple[int, ...] | None, C_out: int) -> None:
    if bias_shape is not None and bias_shape != (C_out,):
        raise ShapeError(f"{operation}: bias must have shape ({C_out},), got {bias_shape}")


def conv_padding(
    operation: str,
    padding: tuple[int, int] | str,
    kernel: tuple[int, int],
    stride: tuple[int, int],
    dilation: tuple[int, int],
) -> tuple[int, int, int, int]:
    """(top, bottom, left, right). 'same' puts the odd one of an uneven total after the input."""
    if not isinstance(padding, str):
        vertical, horizontal = padding
        return vertical, vertical, horizontal, horizontal
    if padding == "valid":
        return 0, 0, 0, 0
    if padding != "same":
        raise ValueError(
            f"{operation}: padding must be 'same', 'valid', an int or a pair, got {padding!r}"
        )
    if stride != (1, 1):
        raise ValueError(f"{operation}: padding='same' needs stride 1, got stride {stride}")
    total_h, total_w = (d * (k - 1) for d, k in zip(dilation, kernel, strict=True))
    return total_h // 2, total_h - total_h // 2, total_w // 2, total_w - total_w // 2


def conv_transpose_output_size(
    size: int, kernel: int, stride: int, padding: int, dilation: int, output_padding: int
) -> int:
    """Positions that the windows of `size` inputs, `stride` apart, cover; padding at each end."""
    return (size - 1) * stride - 2 * padding + dilation * (kernel - 1) + 1 + output_padding


def conv_transpose2d_dims(
    input_shape: tuple[int, ...],
    weight_shape: tuple[int, ...],
    bias_shape: tuple[int, ...] | None,
    stride: Size2d,
    padding: Size2d,
    output_padding: Size2d,
    groups: int,
    dilation: Size2d,
    operation: str = "conv_transpose2d",
) -> Conv2dDims:
    """Check the arguments of `conv_transpose2d` on a batched input.

    Returns the sizes of the convolution that leads from its output to its input: the operation is
    that convolution's adjoint. Where output_padding reaches the stride, the convolution could have
    more outputs than there are inputs; H_out and W_out say how many there are.
    """
    strides = pair(operation, "stride", stride, minimum=1)
    pads = pair(operation, "padding", padding)
    dilations = pair(operation, "dilation", dilation, minimum=1)
    extras = pair(operation, "output_padding", output_padding)
    _check_weight(operation, weight_shape, check_int(operation, "groups", groups), "input")
    N, C_in, H, W = input_shape
    C_weight, C_group, kH, kW = weight_shape
    _check_channels(operation, input_shape, weight_shape, groups, C_weight)
    C_out = C_group * groups
    _check_bias(operation, bias_shape, C_out)
    if any(e >= max(s, d) for e, s, d in zip(extras, strides, dilations, strict=True)):
        raise ShapeError(
            f"{operation}: output_padding must be smaller than the stride or the dilation, got "
            f"output_padding {extras}, stride {strides}, dilation {dilations}"
        )
    H_out, W_out = (
        conv_transpose_output_size(*sizes)
        for sizes in zip((H, W), (kH, kW), strides, pads, dilations, extras, strict=True)
    )
    if H < 1 or W < 1 or H_out < 1 or W_out < 1:
        raise ShapeError(
            f"{operation}: a {kH}×{kW} kernel with dilation {dilations}, stride {strides} and "
            f"padding {pads} makes {H_out}×{W_out} of the {H}×{W} input"
        )
    return Conv2dDims(
        N, C_out, H_out, W_out, C_in, kH, kW, H, W, *strides, *pads, *dilations, groups
    )


# Windows as columns -------------------------------------------------------------------------


def unfold_dims(
    operation: str,
    image_shape: tuple[int, ...],
    kernel_size: Size2d,
    dilation: Size2d,
    padding: Size2d,
    stride: Size2d,
) -> Pool2dDims:
    """Check the arguments of `unfold`, or of `fold` to an image of that shape."""
    N, C, H, W = image_shape
    kernel = pair(operation, "kernel_size", kernel_size, minimum=1)
    dilations = pair(operation, "dilation", dilation, minimum=1)
    pads = pair(operation, "padding", padding)
    strides = pair(operation, "stride", stride, minimum=1)
    if C < 1 or H < 1 or W < 1:
        raise ShapeError(f"{operation}: only the batch may be empty, got shape {image_shape}")
    H_out, W_out = (
        conv_output_size(size, k, s, 2 * p, d)
        for size, k, s, p, d in zip((H, W), kernel, strides, pads, dilations, strict=True)
    )
    if H_out < 1 or W_out < 1:
        raise ShapeError(
            f"{operation}: a {kernel[0]}×{kernel[1]} kernel with dilation {dilations} does not fit "
            f"the {H}×{W} image padded to {H + 2 * pads[0]}×{W + 2 * pads[1]}"
        )
    return Pool2dDims(N, C, H, W, *kernel, H_out, W_out, *strides, *pads, *dilations)


# Padding ------------------------------------------------------------------------------------

PAD_MODES = ("constant", "reflect", "replicate", "circular")


def check_pad(size: int, before: int, after: int, mode: str) -> None:
    """Check the amounts by which one axis is padded; negative ones cut off."""
    out = size + before + after
    least = 0 if mode in ("constant", "circular") else 1
    if out < least or max(abs(before), abs(after)) > _LARGEST:
        raise ShapeError(
            f"pad: an axis of {size} padded by {(before, after)} would have {out} elements"
        )
    if mode == "reflect" and max(before, after) >= size:
        raise ShapeError(
            f"pad: mode 'reflect' needs amounts below the axis' size of {size}, got "
            f"{(before, after)}"
        )
    if mode == "circular" and max(before, after) > size + min(before, 0) + min(after, 0):
        raise ShapeError(
            "pad: mode 'circular' needs amounts up to the axis' size, less what is cut off, got "
            f"{(before, after)} for a size of {size}"
        )


def pad_sources(size: int, before: int, after: int, mode: str) -> list[int]:
    """Which position of an axis each position of the padded axis reads; −1 for none."""
    positions = range(-before, size + after)
    if mode == "reflect":  # about the first and the last position
        inside = (abs(p) for p in positions)
        return [min(p, 2 * (size - 1) - p) for p in inside]
    if mode == "replicate":
        return [min(max(p, 0), size - 1) for p in positions]
    if mode == "circular":  # around what remains where the other end is cut off
        first, last = max(0, -before), size - max(0, -after)
        return [first + (p - first) % (last - first) for p in positions] if last > first else []
    return [p if 0 <= p < size else -1 for p in positions]


# Pooling ------------------------------------------------------------------------------------


def pool_output_size(
    size: int, kernel: int, stride: int, padding: int, dilation: int, ceil_mode: bool
) -> int:
    """Windows of a pooling operation; `padding` is that of one end.

    With ceil_mode, a last window that would start in the far padding is dropped.
    """
    span = size + 2 * padding - dilation * (kernel - 1) - 1
    count = (span + (stride - 1 if ceil_mode else 0)) // stride + 1
    if ceil_mode and (count - 1) * stride >= size + padding:
        count -= 1
    return count


class Pool2dDims(NamedTuple):
    """Sizes of one max_pool2d or avg_pool2d on an input (N, C, H, W), or of unfold and fold between
    an image of that shape and columns (N, C·kH·kW, H_out·W_out).

    The last two are avg_pool2d's: what it divides by; a divisor_override of 0 is none.
    """

    N: int
    C: int
    H: int
    W: int
    kH: int
    kW: int
    H_out: int
    W_out: int
    stride_h: int
    stride_w: int
    pad_h: int
    pad_w: int
    dilation_h: int
    dilation_w: int
    count_include_pad: bool = True
    divisor_override: int = 0


def pool2d_dims(
    operation: str,
    input_shape: tuple[int, ...],
    kernel_size: Size2d,
    stride: Size2d | None,
    padding: Size2d,
    dilation: Size2d,
    ceil_mode: bool,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Pool2dDims:
    """Check the arguments of a pooling operation on a batched input and return its sizes."""
    divisor = 0
    if divisor_override is not None:
        divisor, _ = pair(operation, "divisor_override", divisor_override, minimum=-_LARGEST)
        if divisor == 0:
            raise ValueError(f"{operation}: divisor_override must not be 0")
    kernel = pair(operation, "kernel_size", kernel_size, minimum=1)
    if stride is None or stride == () or stride == []:
        stride = kernel
    return _pool2d_dims(
        operation, input_shape, kernel, pair(operation, "stride", stride, minimum=1),
        pair(operation, "padding", padding), pair(operation, "dilation", dilation, minimum=1),
        bool(ceil_mode), bool(count_include_pad), divisor,
    )  # fmt: skip


@lru_cache(maxsize=1024)
def _pool2d_dims(
    operation: str,
    input_shape: tuple[int, ...],
    kernel: tuple[int, int],
    stride: tuple[int, int],
    padding: tuple[int, int],
    dilation: tuple[int, int],
    ceil_mode: bool,
    count_include_pad: bool,
    divisor: int,
) -> Pool2dDims:
    N, C, H, W = input_shape
    (kH, kW), (pad_h, pad_w) = kernel, padding
    if C < 1 or H < 1 or W < 1:
        raise ShapeError(f"{operation}: only the batch may be empty, got shape {input_shape}")
    if pad_h > kH // 2 or pad_w > kW // 2:
        raise ShapeError(
            f"{operation}: padding must be at most half the kernel, got padding {padding} for "
            f"kernel {kernel}"
        )
    H_out = pool_output_size(H, kH, stride[0], pad_h, dilation[0], ceil_mode)
    W_out = pool_output_size(W, kW, stride[1], pad_w, dilation[1], ceil_mode)
    if H_out < 1 or W_out < 1:
        raise ShapeError(
            f"{operation}: a {kH}×{kW} window with dilation {dilation} exceeds "
            f"the {H}×{W} input padded to {H + 2 * pad_h}×{W + 2 * pad_w}"
        )
    return Pool2dDims(
        N, C, H, W, kH, kW, H_out, W_out, *stride, *padding, *dilation, count_include_pad, divisor
    )


def adaptive_window(position: int, size: int, out: int) -> tuple[int, int]:
    """[start, end) of window `position` of `out` windows that cover `size` cells evenly."""
    return position * size // out, 1 + ((position + 1) * size - 1) // out


def _widest_adaptive_window(size: int, out: int) -> int:
    """No window of ⌊a·size/out⌋ … ⌈(a + 1)·size/out⌉ is longer."""
    if out == 0:
        return 1
    return size // out if size % out == 0 else size // out + 2


class AdaptivePool2dDims(NamedTuple):
    """Sizes of one adaptive pooling: input (N, C, H, W), output (N, C, H_out, W_out)."""

    N: int
    C: int
    H: int
    W: int
    H_out: int
    W_out: int

    @property
    def kH(self) -> int:
        """Rows that hold any window; windows differ in size."""
        return _widest_adaptive_window(self.H, self.H_out)

    @property
    def kW(self) -> int:
        """Columns that hold any window."""
        return _widest_adaptive_window(self.W, self.W_out)


def adaptive_pool2d_dims(
    operation: str,
    input_shape: tuple[int, ...],
    output_size: int | tuple[int | None, int | None] | None,
    least_channels: int = 1,
) -> AdaptivePool2dDims:
    """Check the arguments of adaptive pooling; None in output_size keeps the input's size."""
    N, C, H, W = input_shape
    wanted = output_size if isinstance(output_size, (tuple, list)) else (output_size, output_size)
    if len(wanted) != 2:
        raise ShapeError(f"{operation}: output_size must be an int or a pair, got {output_size!r}")
    filled = (H if wanted[0] is None else wanted[0], W if wanted[1] is None else wanted[1])
    H_out, W_out = pair(operation, "output_size", filled)
    if least_channels > C or H < 1 or W < 1:
        raise ShapeError(f"{operation}: only the batch may be empty, got shape {input_shape}")
    return AdaptivePool2dDims(N, C, H, W, H_out, W_out)


# Matrix products -------------------------------------------------------------------------------


class MatmulDims(NamedTuple):
    """Sizes of a batched product: left (B, M, K), right (B, K, N), output (B, M, N)."""

    B: int
    M: int
    K: int
    N: int
