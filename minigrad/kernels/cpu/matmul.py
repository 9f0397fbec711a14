"""Matrix products: a product is a 1×1 convolution of M images of one pixel with K channels.

So the register-tiled kernels of conv.py serve, and no BLAS, whose threads would fight with ours.
"""

from __future__ import annotations

from functools import lru_cache

from ...geometry import Conv2dDims, MatmulDims
from . import conv


@lru_cache(maxsize=4096)
def _as_conv(dims: MatmulDims) -> Conv2dDims:
    sizes = {"N": dims.M, "C_in": dims.K, "C_out": dims.N, "top": 0, "left": 0}
    return Conv2dDims(**{field: sizes.get(field, 1) for field in Conv2dDims._fields})


def _pixels(array):
    """(rows, channels) as an NHWC array of one-pixel images."""
    return array.reshape(array.shape[0], 1, 1, array.shape[1])


def _weight(array):
    """(K, N) as the weight of a 1×1 convolution."""
    return array.reshape(1, 1, *array.shape)


def matmul_forward(out, left, right, bias, dims):
    for b in range(dims.B):
        conv.conv2d_forward(
            _pixels(out[b]), _pixels(left[b]), _weight(right[b]), bias, None, _as_conv(dims), False
        )


def matmul_backward_left_workspace(dims) -> int:
    return conv.conv2d_backward_input_workspace(_as_conv(dims))


def matmul_backward_left(grad_left, grad_output, right, scratch, dims):
    # Y = L·R gives dL = dY·Rᵀ: the input gradient of the convolution.
    for b in range(dims.B):
        conv.conv2d_backward_input(
            _pixels(grad_left[b]), _pixels(grad_output[b]), _weight(right[b]), scratch,
            _as_conv(dims),
        )  # fmt: skip


def matmul_backward_right_workspace(dims) -> int:
    return conv.conv2d_backward_weight_workspace(_as_conv(dims))


def matmul_backward_right(grad_right, grad_output, left, scratch, dims):
    # dR = Lᵀ·dY: the weight gradient of the convolution.
    for b in range(dims.B):
        conv.conv2d_backward_weight(
            _weight(grad_right[b]), _pixels(grad_output[b]), _pixels(left[b]), scratch,
            _as_conv(dims),
        )  # fmt: skip


def matmul_backward_bias_workspace(dims) -> int:
    return conv.conv2d_backward_bias_workspace((dims.B * dims.M, 1, 1, dims.N))


def matmul_backward_bias(grad_bias, grad_output, scratch, dims):
    # db[n] = Σ_{b, m} dY[b, m, n]
    rows = grad_output.reshape(dims.B * dims.M, dims.N)
    conv.conv2d_backward_bias(grad_bias, _pixels(rows), scratch)
