"""Compiled kernels for the CPU: the launchers of `kernels.protocol`, in Numba."""

from .conv import (
    conv2d_backward_bias,
    conv2d_backward_bias_workspace,
    conv2d_backward_input,
    conv2d_backward_input_workspace,
    conv2d_backward_weight,
    conv2d_backward_weight_workspace,
    conv2d_forward,
)
from .elementwise import add_forward, copy_strided, fill, relu_backward_input, relu_forward

__all__ = [
    "add_forward",
    "conv2d_backward_bias",
    "conv2d_backward_bias_workspace",
    "conv2d_backward_input",
    "conv2d_backward_input_workspace",
    "conv2d_backward_weight",
    "conv2d_backward_weight_workspace",
    "conv2d_forward",
    "copy_strided",
    "fill",
    "relu_backward_input",
    "relu_forward",
]
