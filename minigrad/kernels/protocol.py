"""Every launcher's signature, on one page: the contract that all backends keep.

A launcher takes its outputs first, then inputs, scratch and dims; it returns None; it never
allocates tensors, validates or synchronises: the operation that calls it did the checks and owns
all memory. Sizes of scratch, in elements, come from `<launcher>_workspace(dims)`.

Array forms:
- "flat": one-dimensional, all operands of one length, in one memory order. A scalar operand is a
  flat array of stride 0.
- "NHWC": C-ordered (N, H, W, C). Weights of a convolution are C-ordered (kH, kW, C_in/groups,
  C_out).
- "strided": any shape and strides.
Gradients are overwritten, never accumulated into.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np

from ..geometry import Conv2dDims

Array = np.ndarray


class Elementwise(Protocol):
    """elementwise.py. All arrays flat, unless said otherwise."""

    def fill(self, out: Array, value: float) -> None: ...

    def copy_strided(self, out: Array, input: Array) -> None:
        """out[...] = input, converted to out's dtype. Strided, equal shapes."""

    def add_forward(self, out: Array, left: Array, right: Array) -> None: ...

    def relu_forward(self, out: Array, input: Array) -> None: ...

    def relu_backward_input(self, grad_input: Array, grad_output: Array, out: Array) -> None:
        """grad_output where out > 0, else 0."""


class Conv(Protocol):
    """conv.py. Input, output and their gradients NHWC."""

    def conv2d_forward(
        self, out: Array, input: Array, weight: Array, bias: Array | None, dims: Conv2dDims
    ) -> None: ...

    def conv2d_backward_input_workspace(self, dims: Conv2dDims) -> int: ...

    def conv2d_backward_input(
        self, grad_input: Array, grad_output: Array, weight: Array, scratch: Array, dims: Conv2dDims
    ) -> None: ...

    def conv2d_backward_weight_workspace(self, dims: Conv2dDims) -> int: ...

    def conv2d_backward_weight(
        self, grad_weight: Array, grad_output: Array, input: Array, scratch: Array, dims: Conv2dDims
    ) -> None: ...

    def conv2d_backward_bias_workspace(self, dims: Conv2dDims) -> int: ...

    def conv2d_backward_bias(
        self, grad_bias: Array, grad_output: Array, scratch: Array, dims: Conv2dDims
    ) -> None: ...


class Backend(Elementwise, Conv, Protocol):
    """Everything that a backend provides."""
