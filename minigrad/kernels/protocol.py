"""Kernel interface: every launcher's signature, on one page: the contract that all backends keep.

A launcher takes its outputs first, then inputs, scratch and dims; it returns None; it never
allocates tensors, validates or synchronises: the operation that calls it did the checks and owns
all memory. Sizes of scratch, in elements, come from `<launcher>_workspace(dims)`; the reference
needs none.

Array forms:
- "flat": one-dimensional, all operands of one length, in one memory order. A scalar operand is a
  flat array of stride 0.
- "NHWC": C-ordered (N, H, W, C). Weights of a convolution are C-ordered (kH, kW, C_in/groups,
  C_out).
- "strided": any shape and strides.
Gradients are overwritten, never accumulated into.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np

from ..geometry import AdaptivePool2dDims, Conv2dDims, MatmulDims, Pool2dDims

Array = np.ndarray


class SGDOptions(NamedTuple):
    """Of one parameter's step."""

    lr: float
    momentum: float
    dampening: float
    weight_decay: float
    nesterov: bool
    maximize: bool
    first: bool
    """The momentum buffer is uninitialised and becomes the gradient."""


class AdamOptions(NamedTuple):
    """Of one parameter's step."""

    lr: float
    beta1: float
    beta2: float
    eps: float
    weight_decay: float
    bias_correction1: float
    bias_correction2: float
    decoupled: bool
    """Weight decay shrinks the parameter (AdamW); else it adds to the gradient."""
    maximize: bool


class Elementwise(Protocol):
    """elementwise.py. All arrays flat, unless said otherwise."""

    def fill(self, out: Array, value: float) -> None: ...

    def copy_strided(self, out: Array, input: Array) -> None:
        """out[...] = input, converted to out's dtype as ops.cast.to says. Strided, equal shapes."""

    def add_forward(self, out: Array, left: Array, right: Array, alpha: float) -> None:
        """left + alpha · right."""

    def mul_forward(self, out: Array, left: Array, right: Array) -> None: ...

    def div_forward(self, out: Array, left: Array, right: Array) -> None: ...

    def div_backward_right(
        self, grad_right: Array, grad_output: Array, out: Array, right: Array
    ) -> None: ...

    def pow_forward(self, out: Array, left: Array, right: Array) -> None: ...

    def pow_backward_left(
        self, grad_left: Array, grad_output: Array, left: Array, right: Array
    ) -> None: ...

    def pow_backward_right(
        self, grad_right: Array, grad_output: Array, left: Array, right: Array
    ) -> None: ...

    def fmod_forward(self, out: Array, left: Array, right: Array) -> None:
        """What is left of left after whole multiples of right, with left's sign; floating."""

    def maximum_forward(self, out: Array, left: Array, right: Array) -> None: ...

    def minimum_forward(self, out: Array, left: Array, right: Array) -> None: ...

    def winner_backward(
        self, grad_input: Array, grad_output: Array, larger: Array, smaller: Array
    ) -> None:
        """grad_output where larger > smaller, half of it at a tie, else 0; whole at NaN."""

    def eq_forward(self, out: Array, left: Array, right: Array) -> None:
        """out is bool here and in the next three."""

    def ne_forward(self, out: Array, left: Array, right: Array) -> None: ...

    def lt_forward(self, out: Array, left: Array, right: Array) -> None: ...

    def le_forward(self, out: Array, left: Array, right: Array) -> None: ...

    def bitwise_and_forward(self, out: Array, left: Array, right: Array) -> None: ...

    def bitwise_or_forward(self, out: Array, left: Array, right: Array) -> None: ...

    def bitwise_xor_forward(self, out: Array, left: Array, right: Array) -> None: ...

    def where_forward(self, out: Array, condition: Array, left: Array, right: Array) -> None: ...


class Reduce(Protocol):
    """reduce.py. Input (outer, R, inner), reduced over R; results (outer, inner); C-ordered.

    `shape` is the input's. Scratch of sums, and the sums themselves, are float64, for integers
    int64; scratch of argmax and argmin is int64.
    """

    def sum_forward_workspace(self, shape: tuple[int, int, int]) -> int: ...

    def sum_forward(self, out: Array, input: Array, scratch: Array, scale: float) -> None:
        """scale · Σ input."""

    def squared_deviation_forward(
        self, out: Array, input: Array, center: Array, scratch: Array, scale: float
    ) -> None:
        """scale · Σ (input − center)². Scratch as for sum_forward."""

    def argmax_forward_workspace(self, shape: tuple[int, int, int]) -> int: ...

    def argmax_forward(self, indices: Array, input: Array, scratch: Array) -> None:
        """The first position of the largest element, or of NaN if there is one. R >= 1."""

    def argmin_forward_workspace(self, shape: tuple[int, int, int]) -> int: ...

    def argmin_forward(self, indices: Array, input: Array, scratch: Array) -> None: ...

    def take_forward(self, out: Array, input: Array, indices: Array) -> None:
        """out[o, i] = input[o, indices[o, i], i]."""

    def take_backward_input(
        self, grad_input: Array, grad_output: Array, indices: Array
    ) -> None: ...

    def prod_forward(self, out: Array, input: Array) -> None: ...

    def prod_backward_input(self, grad_input: Array, grad_output: Array, input: Array) -> None: ...

    def cumsum_forward(self, out: Array, input: Array, reverse: bool) -> None:
        """Running sums along R, of the shape of the input; from the end if reverse."""


class Matmul(Protocol):
    """matmul.py. left (B, M, K), right (B, K, N), output (B, M, N), bias (N,), all C-ordered."""

    def matmul_forward_workspace(self, dims: MatmulDims) -> int: ...

    def matmul_forward(
        self,
        out: Array,
        left: Array,
        right: Array,
        bias: Array | None,
        scratch: Array,
        dims: MatmulDims,
        bounds: tuple[float, float],
    ) -> None:
        """out = left · right + bias, limited to `bounds`."""

    def matmul_backward_left_workspace(self, dims: MatmulDims) -> int: ...

    def matmul_backward_left(
        self, grad_left: Array, grad_output: Array, right: Array, scratch: Array, dims: MatmulDims
    ) -> None: ...

    def matmul_backward_right_workspace(self, dims: MatmulDims) -> int: ...

    def matmul_backward_right(
        self, grad_right: Array, grad_output: Array, left: Array, scratch: Array, dims: MatmulDims
    ) -> None: ...

    def matmul_backward_bias_workspace(self, dims: MatmulDims) -> int: ...

    def matmul_backward_bias(
        self, grad_bias: Array, grad_output: Array, scratch: Array, dims: MatmulDims
    ) -> None:
        """scratch is float64."""


# What results are limited to, (least, most), where NaN sets no limit and NaN among results stays;
# None stands for silu. Two of them by name, so that `is` finds them.
Bounds = tuple[float, float] | None
UNLIMITED, POSITIVE = (math.nan, math.nan), (0.0, math.nan)


class Repacking(NamedTuple):
    """How a launcher lays a weight out anew, where that may be done once for many calls."""

    elements: int
    """0: not at all, or sooner than looking whether the weight has changed."""
    form: tuple[Any, ...]
    """Of one weight, what has another form is something else."""


class Conv(Protocol):
    """conv.py. Input, output and their gradients NHWC."""

    def conv2d_repacking(self, dims: Conv2dDims) -> Repacking:
        """Of a float32 weight."""

    def conv2d_repack(
        self, repacked: Array, seen: Array, weight: Array, source: Array, dims: Conv2dDims
    ) -> None:
        """Make `repacked` for conv2d_forward, unless `seen` says that it is that of this source
        already. source: the weight itself, or the `seen` of what the weight was made of. seen: one
        uint64, 0 at first."""

    def conv2d_forward_workspace(self, dims: Conv2dDims) -> int: ...

    def conv2d_forward(
        self,
        out: Array,
        input: Array,
        weight: Array,
        bias: Array | None,
        repacked: Array | None,
        scratch: Array | None,
        dims: Conv2dDims,
        bounds: tuple[float, float],
    ) -> None:
        """out = convolution + bias, limited to `bounds`. repacked: by conv2d_repack, or None."""

    def conv2d_backward_input_workspace(self, dims: Conv2dDims) -> int: ...

    def conv2d_backward_input(
        self, grad_input: Array, grad_output: Array, weight: Array, scratch: Array, dims: Conv2dDims
    ) -> None: ...

    def conv_transpose2d_forward_workspace(self, dims: Conv2dDims) -> int: ...

    def conv_transpose2d_forward(
        self,
        out: Array,
        input: Array,
        weight: Array,
        bias: Array | None,
        scratch: Array,
        dims: Conv2dDims,
    ) -> None:
        """conv2d_backward_input with a bias. dims: of the convolution from out to input, whose
        adjoint this is; so out is (N, H, W, C_in), input (N, H_out, W_out, C_out)."""


class ConvWeight(Protocol):
    """conv_weight.py: gradients of a convolution's weight and bias."""

    def conv2d_backward_weight_workspace(self, dims: Conv2dDims) -> int: ...

    def conv2d_backward_weight(
        self, grad_weight: Array, grad_output: Array, input: Array, scratch: Array, dims: Conv2dDims
    ) -> None: ...

    def conv2d_backward_bias_workspace(self, shape: tuple[int, int, int, int]) -> int:
        """shape: grad_output's."""

    def conv2d_backward_bias(self, grad_bias: Array, grad_output: Array, scratch: Array) -> None:
        """Sums over all pixels. scratch is float64."""

    def conv2d_backward_relu(
        self, grad_input: Array, grad_bias: Array, grad_output: Array, out: Array, scratch: Array
    ) -> None:
        """Through relu and the bias before it: grad_input is grad_output where out, relu's result,
        is not 0, else 0; grad_bias its sums over all pixels. scratch as conv2d_backward_bias."""


class Update(Protocol):
    """update.py. Steps of the optimisers and clipping of gradients, in place. All arrays flat; a
    parameter's state and gradient are in the parameter's memory order."""

    def sgd_update(
        self,
        params: Sequence[Array],
        momentum_buffers: Sequence[Array | None],
        grads: Sequence[Array],
        options: Sequence[SGDOptions],
    ) -> None:
        """The parameters one after the other, all of one dtype."""

    def adam_update(
        self,
        params: Sequence[Array],
        exp_avgs: Sequence[Array],
        exp_avg_sqs: Sequence[Array],
        max_exp_avg_sqs: Sequence[Array | None],
        grads: Sequence[Array],
        options: Sequence[AdamOptions],
    ) -> None:
        """The parameters one after the other, all of one dtype."""

    def power_sum_workspace(self, size: int) -> int: ...

    def power_sum(self, out: Array, input: Array, scratch: Array, norm_type: float) -> None:
        """out[0] = sum of |input|^norm_type, or the maximum for norm_type = inf. out and scratch
        are float64."""

    def total_norm(self, out: Array, sums: Array, norm_type: float) -> None:
        """The norm of all arrays from the power_sum of each; sums is float64."""

    def clip_to_norm(self, values: Array, norm: Array, max_norm: float) -> None:
        """Scale values by max_norm / (norm[0] + 1e-6) if that is below 1."""

    def clip_to_value(self, values: Array, limit: float) -> None: ...


class Augment(Protocol):
    """augment.py. A batch of float32 images from stored uint8 images.

    out (N, H_out, W_out, C); images (M, H, W, C), of which indices (N,) are taken; table (C, 256):
    what a pixel value becomes; background (C,): what lies outside an image. serial: on the calling
    thread alone, as a background thread needs it.
    """

    def augment_crop(
        self, out: Array, images: Array, indices: Array, offsets: Array, flips: Array,
        table: Array, background: Array, serial: bool,
    ) -> None:  # fmt: skip
        """The window at offsets (N, 2) = (top, left), mirrored where flips (N,) is true."""

    def augment_affine_workspace(self, N: int, H: int, W: int, C: int) -> int:
        """For N images of H × W × C."""

    def augment_affine(
        self, out: Array, images: Array, indices: Array, matrices: Array, table: Array,
        background: Array, scratch: Array, frame_h: int, frame_w: int, serial: bool,
    ) -> None:  # fmt: skip
        """The image resized to frame_h × frame_w, sampled bilinearly at (x, y) =
        matrices (N, 2, 3) float32 · (ow, oh, 1)."""


class Indexing(Protocol):
    """indexing.py. Positions are int64 numbers along the middle axis of a C-ordered (B, J, A)."""

    def accumulate_index(
        self, positions: Array, bad: Array, index: Array, low: int, size: int, step: int
    ) -> None:
        """positions += step·(index mod size). Flat. low: -size if negative indices count, or 0.

        bad[0]: number of the first index outside [low, size), or positions.size if all are fine.
        """

    def gather_positions(self, positions: Array, bad: Array, index: Array, size: int) -> None:
        """Positions, in a flattened (O, size, I), of what `gather` reads; index (O, M, I).

        bad[0]: number of the first index outside [0, size), or index.size if all are fine.
        """

    def mask_positions(self, positions: Array, count: Array, mask: Array) -> None:
        """Numbers of the true elements of a flat mask, ascending; count[0] of them."""

    def index_forward(self, out: Array, input: Array, positions: Array) -> None:
        """out (B, M, A) = input[:, positions]."""

    def index_backward_input_workspace(self, J: int, M: int) -> int:
        """In int64 elements."""

    def index_backward_input(
        self, grad_input: Array, grad_output: Array, positions: Array, scratch: Array
    ) -> None:
        """Sums of the rows of equal position, in a fixed order."""

    def put(self, target: Array, values: Array, positions: Array) -> None:
        """target[:, positions] = values (B, M, A); of equal positions the last one wins."""

    def triangle_forward(self, out: Array, input: Array, diagonal: int, lower: bool) -> None:
        """(B, R, C) with zeros above (lower) or below (upper) the diagonal."""

    def arange(self, out: Array, start: float, step: float) -> None: ...

    def linspace(self, out: Array, start: float, end: float) -> None: ...


class Random(Protocol):
    """random.py. All arrays flat; element i follows from (seed, stream, i) by Philox4x32-10."""

    def uniform(self, out: Array, low: float, high: float, seed: int, stream: int) -> None: ...

    def normal(self, out: Array, mean: float, std: float, seed: int, stream: int) -> None: ...

    def randint(self, out: Array, low: int, high: int, seed: int, stream: int) -> None: ...

    def permutation(self, out: Array, seed: int, stream: int) -> None: ...

    def dropout_forward(
        self, out: Array, mask: Array, input: Array, p: float, seed: int, stream: int
    ) -> None:
        """Keep each element with probability 1 − p (mask) and scale it by 1/(1 − p)."""

    def dropout_backward_input(
        self, grad_input: Array, grad_output: Array, mask: Array, p: float
    ) -> None: ...


class Pool(Protocol):
    """pool.py. All arrays NHWC. dims says which windows: ordinary or adaptive ones.

    window, like the output in shape, holds the tap kh·kW + kw of each maximum, as uint8, int32 or
    int64, whichever holds kH·kW.
    """

    def max_pool2d_forward(
        self, out: Array, window: Array, input: Array, dims: Pool2dDims | AdaptivePool2dDims
    ) -> None: ...

    def max_pool2d_indices(
        self, indices: Array, window: Array, dims: Pool2dDims | AdaptivePool2dDims
    ) -> None:
        """Positions h·W + w in the input plane; −1 for a window without cells."""

    def max_pool2d_backward_input(
        self,
        grad_input: Array,
        grad_output: Array,
        window: Array,
        dims: Pool2dDims | AdaptivePool2dDims,
    ) -> None: ...

    def avg_pool2d_forward(
        self, out: Array, input: Array, dims: Pool2dDims | AdaptivePool2dDims
    ) -> None: ...

    def avg_pool2d_backward_input(
        self, grad_input: Array, grad_output: Array, dims: Pool2dDims | AdaptivePool2dDims
    ) -> None: ...

    def lp_pool2d_forward(
        self, out: Array, input: Array, dims: Pool2dDims, norm_type: float
    ) -> None: ...

    def lp_pool2d_backward_input(
        self,
        grad_input: Array,
        grad_output: Array,
        out: Array,
        input: Array,
        dims: Pool2dDims,
        norm_type: float,
    ) -> None: ...


class Softmax(Protocol):
    """softmax.py. All arrays (rows, C), C-ordered, not empty; softmax along C."""

    def softmax_forward_workspace(self, rows: int, C: int) -> int: ...

    def softmax_forward(self, out: Array, input: Array, scratch: Array) -> None: ...

    def softmax_backward_input(self, grad_input: Array, grad_output: Array, out: Array) -> None: ...

    def log_softmax_forward_workspace(self, rows: int, C: int) -> int: ...

    def log_softmax_forward(self, out: Array, input: Array, scratch: Array) -> None: ...

    def log_softmax_backward_input(
        self, grad_input: Array, grad_output: Array, out: Array
    ) -> None: ...


class Norm(Protocol):
    """norm.py. Activations (rows, C), C-ordered, not empty; weight, bias, invstd, running_mean and
    running_var (C,). mean is (2, C): the rounded mean, and what rounding took from it."""

    def batch_norm_statistics_workspace(self, rows: int, C: int) -> int: ...

    def batch_norm_statistics(
        self,
        mean: Array,
        invstd: Array,
        running_mean: Array | None,
        running_var: Array | None,
        batches: Array | None,
        input: Array,
        momentum: float,
        eps: float,
        scratch: Array,
    ) -> None:
        """Mean and 1/√(biased variance + eps) of each channel; the running statistics move towards
        the mean and the unbiased variance by `momentum`, and `batches` () counts one more. scratch
        is float64."""

    def batch_norm_running(
        self, mean: Array, invstd: Array, running_mean: Array, running_var: Array, eps: float
    ) -> None:
        """The same from the running statistics, for evaluation."""

    def batch_norm_fold(
        self,
        out_weight: Array,
        out_bias: Array,
        weight: Array,
        bias: Array | None,
        running_mean: Array,
        running_var: Array,
        scale: Array | None,
        shift: Array | None,
        eps: float,
        seen: Array | None,
        scratch: Array,
    ) -> None:
        """Weight (rows, C) and bias (C,) of a convolution with the batch norm behind it, whose
        weight and bias are scale and shift, in evaluation. With `seen`, as of conv2d_repack,
        nothing need be done while all of these are as they were. scratch: (C,), float64."""

    def batch_norm_forward_workspace(self, rows: int, C: int) -> int: ...

    def batch_norm_forward(
        self,
        out: Array,
        input: Array,
        mean: Array,
        invstd: Array,
        weight: Array | None,
        bias: Array | None,
        scratch: Array,
    ) -> None: ...

    def batch_norm_backward_affine_workspace(self, rows: int, C: int) -> int: ...

    def batch_norm_backward_affine(
        self,
        grad_weight: Array,
        grad_bias: Array,
        grad_output: Array,
        input: Array,
        mean: Array,
        invstd: Array,
        scratch: Array,
    ) -> None:
        """The gradients of weight and bias, also where there are none: the gradient of the input
        is made of them. scratch is float64."""

    def batch_norm_backward_input_workspace(self, rows: int, C: int) -> int: ...

    def batch_norm_backward_input(
        self,
        grad_input: Array,
        grad_output: Array,
        input: Array,
        mean: Array,
        invstd: Array,
        weight: Array | None,
        grad_weight: Array | None,
        grad_bias: Array | None,
        training: bool,
        scratch: Array,
    ) -> None:
        """Without `training`, grad_weight and grad_bias are not read."""

    def batch_norm_backward_relu_workspace(self, rows: int, C: int) -> int: ...

    def batch_norm_backward_relu(
        self,
        grad_input: Array,
        grad_sums: Array,
        grad_output: Array,
        input: Array,
        mean: Array,
        invstd: Array,
        weight: Array | None,
        grad_weight: Array,
        grad_bias: Array,
        scratch: Array,
    ) -> None:
        """batch_norm_backward_input in training, for an input that relu made, and through that
        relu; grad_sums (C,) are the sums of grad_input over the rows. scratch is float64."""


class NormPool(Protocol):
    """norm_pool.py. Batch norm with its statistics, then the maximum over windows; the normalised
    map is not stored. Arrays as in Norm, but NHWC, and window as in Pool."""

    def batch_norm_max_pool2d_forward_workspace(self, dims: Pool2dDims) -> int: ...

    def batch_norm_max_pool2d_forward(
        self,
        out: Array,
        window: Array,
        input: Array,
        mean: Array,
        invstd: Array,
        weight: Array | None,
        bias: Array | None,
        scratch: Array,
        dims: Pool2dDims,
    ) -> None: ...

    def batch_norm_max_pool2d_backward_affine_workspace(self, dims: Pool2dDims) -> int: ...

    def batch_norm_max_pool2d_backward_affine(
        self,
        grad_weight: Array,
        grad_bias: Array,
        grad_output: Array,
        window: Array,
        input: Array,
        mean: Array,
        invstd: Array,
        scratch: Array,
        dims: Pool2dDims,
    ) -> None:
        """As batch_norm_backward_affine, from the maxima's gradients."""

    def batch_norm_max_pool2d_backward_input_workspace(self, dims: Pool2dDims) -> int: ...

    def batch_norm_max_pool2d_backward_input(
        self,
        grad_input: Array,
        grad_sums: Array,
        grad_output: Array,
        window: Array,
        input: Array,
        mean: Array,
        invstd: Array,
        weight: Array | None,
        grad_weight: Array,
        grad_bias: Array,
        relu: bool,
        scratch: Array,
        dims: Pool2dDims,
    ) -> None:
        """As batch_norm_backward_relu, from the maxima's gradients; without `relu`, for an input
        that relu did not make."""


class NormActivation(Protocol):
    """norm_activation.py. Batch norm with its statistics, and then an activation: the result is
    limited to `bounds` (low, high), of which NaN is none; None stands for silu. Arrays as in Norm.

    Backward, the activation's slope is taken from batch norm's input, which is all that is kept.
    """

    def batch_norm_activation_forward_workspace(self, rows: int, C: int) -> int: ...

    def batch_norm_activation_forward(
        self,
        out: Array,
        input: Array,
        mean: Array,
        invstd: Array,
        weight: Array | None,
        bias: Array | None,
        bounds: Bounds,
        scratch: Array,
    ) -> None: ...

    def batch_norm_activation_backward_affine_workspace(self, rows: int, C: int) -> int: ...

    def batch_norm_activation_backward_affine(
        self,
        grad_weight: Array,
        grad_bias: Array,
        grad_output: Array,
        input: Array,
        mean: Array,
        invstd: Array,
        weight: Array | None,
        bias: Array | None,
        bounds: Bounds,
        scratch: Array,
    ) -> None:
        """As batch_norm_backward_affine."""

    def batch_norm_activation_backward_input_workspace(self, rows: int, C: int) -> int: ...

    def batch_norm_activation_backward_input(
        self,
        grad_input: Array,
        grad_output: Array,
        input: Array,
        mean: Array,
        invstd: Array,
        weight: Array | None,
        bias: Array | None,
        grad_weight: Array | None,
        grad_bias: Array | None,
        training: bool,
        bounds: Bounds,
        scratch: Array,
    ) -> None:
        """As batch_norm_backward_input."""


class Loss(Protocol):
    """loss.py. Classification: input (rows, C), C-ordered, not empty; target (rows,) int64, or
    (rows, C) of class probabilities; weight (C,) or None; losses (rows,). Losses of a difference:
    all arrays flat.

    grad_output is (rows,) or flat for single losses and (1,) for their total. What a total is
    divided by is `divisor`: (1,) for classification, where it may depend on the targets, else an
    int. scratch is float64.
    """

    def class_targets_workspace(self, rows: int) -> int: ...

    def class_targets(
        self,
        first_bad: Array,
        total_weight: Array,
        target: Array,
        weight: Array | None,
        classes: int,
        ignore_index: int,
        scratch: Array,
    ) -> None:
        """first_bad[0]: the first position whose target is neither ignored nor in [0, classes), or
        −1. total_weight[0] = Σ weight[target] over those that are not ignored."""

    def cross_entropy_forward(
        self,
        losses: Array,
        probabilities: Array,
        input: Array,
        target: Array,
        weight: Array | None,
        ignore_index: int,
        smoothing: float,
    ) -> None:
        """losses[r] = −log softmax(input[r])[target[r]], weighted and smoothed; the softmax itself
        is kept in probabilities."""

    def cross_entropy_backward_input(
        self,
        grad_input: Array,
        grad_output: Array,
        divisor: Array,
        probabilities: Array,
        target: Array,
        weight: Array | None,
        ignore_index: int,
        smoothing: float,
    ) -> None: ...

    def soft_cross_entropy_forward(
        self,
        losses: Array,
        log_probabilities: Array,
        input: Array,
        target: Array,
        weight: Array | None,
        smoothing: float,
    ) -> None:
        """losses[r] = −Σ_c weight[c]·target[r, c]·log softmax(input[r])[c], target smoothed."""

    def soft_cross_entropy_backward_input(
        self,
        grad_input: Array,
        grad_output: Array,
        divisor: Array,
        log_probabilities: Array,
        target: Array,
        weight: Array | None,
        smoothing: float,
    ) -> None: ...

    def soft_cross_entropy_backward_target(
        self,
        grad_target: Array,
        grad_output: Array,
        divisor: Array,
        log_probabilities: Array,
        weight: Array | None,
        smoothing: float,
    ) -> None: ...

    def nll_loss_forward(
        self, losses: Array, input: Array, target: Array, weight: Array | None, ignore_index: int
    ) -> None: ...

    def nll_loss_backward_input(
        self,
        grad_input: Array,
        grad_output: Array,
        divisor: Array,
        target: Array,
        weight: Array | None,
        ignore_index: int,
    ) -> None: ...

    def loss_total_workspace(self, size: int) -> int: ...

    def loss_total(self, out: Array, losses: Array, divisor: Array, scratch: Array) -> None:
        """out[0] = Σ losses / divisor[0]"""

    # f(input − target) of a kind: formulas.SQUARED, ABSOLUTE or SMOOTH, the last one with a beta.

    def difference_loss_forward(
        self, out: Array, input: Array, target: Array, kind: int, beta: float
    ) -> None: ...

    def difference_loss_total(
        self,
        out: Array,
        input: Array,
        target: Array,
        divisor: int,
        kind: int,
        beta: float,
        scratch: Array,
    ) -> None:
        """out[0] = Σ f(input − target) / divisor"""

    def difference_loss_backward_input(
        self,
        grad_input: Array,
        grad_output: Array,
        input: Array,
        target: Array,
        divisor: int,
        kind: int,
        beta: float,
    ) -> None:
        """Also the gradient of the target, with input and target exchanged: f is even."""


class Sort(Protocol):
    """sort.py. Rows (R, n), C-ordered; indices and scratch int64."""

    def argsort_forward_workspace(self, shape: tuple[int, int]) -> int: ...

    def argsort_forward(
        self, indices: Array, input: Array, scratch: Array, descending: bool
    ) -> None:
        """Positions in order. Stable; NaN counts as the largest number."""


class Pad(Protocol):
    """pad.py. Arrays (B, H, W, A), C-ordered; H and W are padded. Tables int64."""

    def pad_forward(self, out: Array, input: Array, rows: Array, cols: Array, value: float) -> None:
        """rows[oh], cols[ow]: what output (oh, ow) reads; the value where one of them is −1."""

    def pad_backward_input(
        self, grad_input: Array, grad_output: Array, row_starts: Array, row_targets: Array,
        col_starts: Array, col_targets: Array,
    ) -> None:  # fmt: skip
        """row_targets[row_starts[h] : row_starts[h + 1]]: the output rows that read row h."""


class Unfold(Protocol):
    """unfold.py. columns (N, C, kH, kW, H_out, W_out), images (N, C, H, W), all C-ordered."""

    def unfold_forward(self, columns: Array, input: Array, dims: Pool2dDims) -> None: ...

    def fold_forward(self, out: Array, columns: Array, dims: Pool2dDims) -> None: ...


class Regions(Protocol):
    """roi.py. Maps (N, H, W, C), results (K, H_out, W_out, C), C-ordered; boxes (K, 5), rows
    (image, x1, y1, x2, y2), of the maps' dtype."""

    def roi_check(
        self, bad: Array, boxes: Array, N: int, spatial_scale: float, largest: float
    ) -> None:
        """bad[0]: the first box whose image is not in 0 … N − 1, whose coordinates are not finite
        or beyond int32 after scaling, or whose scaled area exceeds `largest`; K if all are fine."""

    def roi_pool_forward(
        self, out: Array, argmax: Array, input: Array, boxes: Array, spatial_scale: float
    ) -> None:
        """argmax: int32, the position h·W + w of each maximum, −1 where there is none."""

    def roi_pool_backward_input(
        self, grad_input: Array, grad_output: Array, argmax: Array, boxes: Array
    ) -> None: ...

    def roi_align_forward(
        self, out: Array, input: Array, boxes: Array, spatial_scale: float, sampling_ratio: int,
        aligned: bool,
    ) -> None: ...  # fmt: skip

    def roi_align_backward_input(
        self, grad_input: Array, grad_output: Array, boxes: Array, spatial_scale: float,
        sampling_ratio: int, aligned: bool,
    ) -> None: ...  # fmt: skip

    def nms_forward(
        self, keep: Array, boxes: Array, order: Array, groups: Array, iou_threshold: float
    ) -> None:
        """keep: bool, one for each of the boxes (K, 4). order, groups: int64, which box comes when,
        and to which group it belongs."""


class Resample(Protocol):
    """resample.py. Arrays NHWC. Tables of an axis: see ops.resample.Table; starts and cells int64,
    weights of the arrays' dtype."""

    def resample2d_forward(
        self, out: Array, input: Array, row_starts: Array, row_cells: Array, row_weights: Array,
        col_starts: Array, col_cells: Array, col_weights: Array,
    ) -> None:  # fmt: skip
        """Also its own gradient: with the transposed tables."""


class Grid(Protocol):
    """grid.py. Images NHWC; grid (N, H_out, W_out, 2), points (x, y), C-ordered, of their dtype.
    taps and padding: see formulas.grid_tap."""

    def grid_sample_forward(
        self, out: Array, input: Array, grid: Array, taps: int, padding: int, align_corners: bool
    ) -> None: ...

    def grid_sample_backward_input(
        self, grad_input: Array, grad_output: Array, grid: Array, taps: int, padding: int,
        align_corners: bool,
    ) -> None: ...  # fmt: skip

    def grid_sample_backward_grid(
        self, grad_grid: Array, grad_output: Array, input: Array, grid: Array, taps: int,
        padding: int, align_corners: bool,
    ) -> None: ...  # fmt: skip


class Unpool(Protocol):
    """unpool.py. Arrays NHWC; positions: h·W + w in the output, int64, checked."""

    def max_unpool2d_forward(self, out: Array, input: Array, positions: Array) -> None:
        """Zeros but at the positions; of equal positions the last one wins."""

    def max_unpool2d_backward_input(
        self, grad_input: Array, grad_output: Array, positions: Array
    ) -> None: ...


class GroupNorm(Protocol):
    """group_norm.py. Arrays (N, L, C), C-ordered; mean and invstd (N, G) and scratch float64;
    weight and bias (C,) or None."""

    def group_norm_forward_workspace(self, shape: tuple[int, int, int]) -> int: ...

    def group_norm_forward(
        self, out: Array, mean: Array, invstd: Array, input: Array, weight: Array | None,
        bias: Array | None, eps: float, scratch: Array,
    ) -> None: ...  # fmt: skip

    def group_norm_backward_workspace(self, shape: tuple[int, int, int]) -> int: ...

    def group_norm_backward(
        self, grad_input: Array | None, grad_weight: Array | None, grad_bias: Array | None,
        grad_output: Array, input: Array, weight: Array | None, mean: Array, invstd: Array,
        scratch: Array,
    ) -> None:  # fmt: skip
        """Without grad_input or without grad_weight and grad_bias, what is not None."""


class Divergence(Protocol):
    """divergence.py. All arrays flat."""

    def binary_cross_entropy_forward(self, out: Array, input: Array, target: Array) -> None: ...

    def binary_cross_entropy_backward_input(
        self, grad_input: Array, grad_output: Array, input: Array, target: Array
    ) -> None: ...

    def binary_cross_entropy_with_logits_forward(
        self, out: Array, input: Array, target: Array, pos_weight: Array
    ) -> None: ...

    def binary_cross_entropy_with_logits_backward_input(
        self, grad_input: Array, grad_output: Array, input: Array, target: Array, pos_weight: Array
    ) -> None: ...

    def binary_cross_entropy_with_logits_backward_target(
        self, grad_target: Array, grad_output: Array, input: Array, target: Array, pos_weight: Array
    ) -> None: ...

    def kl_div_forward(self, out: Array, input: Array, target: Array, log_target: bool) -> None: ...

    def kl_div_backward_input(
        self, grad_input: Array, grad_output: Array, target: Array, log_target: bool
    ) -> None: ...

    def kl_div_backward_target(
        self, grad_target: Array, grad_output: Array, input: Array, target: Array, log_target: bool
    ) -> None: ...


class Unary(Protocol):
    """unary.py: functions of one value, all arrays flat. Which there are, and with which numbers as
    parameters, says reference/unary.py by their formulas. Their launchers are

        f_forward(out, input, *parameters): out = f(input)
        f_backward_input(grad_input, grad_output, saved, *parameters): grad_output · f′, where
            saved is the input if the formula calls it x, and the output if it calls it y
    """

    def __getattr__(self, launcher: str) -> Callable[..., None]: ...


class Backend(Protocol):
    """A backend: a family of launchers an attribute, each a module of that name."""

    augment: Augment
    conv: Conv
    conv_weight: ConvWeight
    divergence: Divergence
    elementwise: Elementwise
    grid: Grid
    group_norm: GroupNorm
    indexing: Indexing
    loss: Loss
    matmul: Matmul
    norm: Norm
    norm_activation: NormActivation
    norm_pool: NormPool
    pad: Pad
    pool: Pool
    random: Random
    reduce: Reduce
    resample: Resample
    roi: Regions
    softmax: Softmax
    sort: Sort
    unary: Unary
    unfold: Unfold
    unpool: Unpool
    update: Update
