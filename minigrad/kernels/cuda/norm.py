"""Batch normalisation of (rows, C) arrays: statistics per channel, then one pass over the rows.

The lanes of _middle.py share a channel, so that a thread keeps its channel's numbers in registers.

**Accuracy.** Moments are sums over the distance from a value of the channel, in float64, so that a
mean far larger than the spread costs nothing, nor does that value if it is an outlier. Most GPUs
compute slowly in float64, so gradients do with compensated sums, of which only those of threads are
added in float64. The mean is kept as two numbers, the rounded mean and what rounding
took away: x − mean[0] is exact near the mean, and subtracting mean[1] then rounds once.
"""

from __future__ import annotations

import numpy as np

from ._columns import column_totals, keep_sum
from ._device import cuda, device, limited, sqrt, through_relu
from ._launch import kernel, launch, over
from ._middle import AT_ONCE, load_rows, place, reduction, rows_of, spread, whole
from ._reduce import SUM, add_compensated, exact_sum, fold
from ._span import quotient, span
from .unary import sigmoid

# Activations behind the norm -------------------------------------------------------------------

PLAIN, LIMITS, SILU = range(3)  # none; limited to [low, high]; silu


@device
def _activated(z, low, high, activation):
    if activation == PLAIN:
        return z
    if activation == SILU:
        return z * sigmoid(z)
    return limited(z, low, high)


@device
def _through(grad, z, low, high, activation, zero):
    if activation == PLAIN:
        return grad
    if activation == SILU:
        # y = z·s(z): dy/dz = s + z·s·(1 − s)
        one = type(z)(1)
        s = sigmoid(z)
        return grad * s * (one + z * (one - s))
    # NaN passes as through relu, but not as through clamp.
    return zero if z <= low or z >= high or (z != z and high == high) else grad


# Statistics ---------------------------------------------------------------------------------


def batch_norm_statistics_workspace(rows: int, C: int) -> int:
    return 3 * reduction(1, rows, C).chunks * C


def batch_norm_statistics(
    mean, invstd, running_mean, running_var, batches, input, momentum, eps, scratch
):
    rows, C = input.shape
    plan = reduction(1, rows, C)
    launch(_moments(input.dtype, plan.threads), plan.shape, scratch, input, rows, C, *plan.cut)
    last = whole(1, plan.chunks, C)
    launch(
        _finish_moments(input.dtype, last.threads), last.shape, mean, invstd,
        running_mean, _step(running_mean), running_var, _step(running_var), batches, scratch, rows,
        plan.chunks, plan.cut[-1], np.float64(momentum), np.float64(eps), C, *last.cut,
    )  # fmt: skip


def _step(array):
    return None if array is None else array.strides[0] // array.itemsize


@kernel
def _moments(real, threads):
    def moments(partial, input, rows, C, tile, tiles, depth, groups, outer, rows_each):
        # Three flop an element, one pass over memory. A block owns partial[:, chunk, c], which is
        # (shift, Σ (x − shift), Σ (x − shift)²). The shift is the channel's first value in the
        # chunk.
        shared, values = cuda.shared.array(threads, np.float64), cuda.local.array(AT_ONCE, real)
        o, c, lane = place(tile, tiles, depth, groups, outer, C)
        shift = total = squares = np.float64(0)
        if o >= 0:
            first, end = rows_of(lane, rows_each, rows)
            stride = depth * C
            shift = np.float64(input[(first - lane) * C + c])
            for r in span(first, end, AT_ONCE * depth):
                at = r * C + c
                load_rows(values, input, at, stride, r, depth, end)
                for k in range(AT_ONCE):
                    if r + k * depth < end:
                        d = np.float64(values[k]) - shift
                        total += d
                        squares += d * d
        if lane == 0:
            partial[cuda.blockIdx.y * C + c] = shift
        keep_sum(partial, 1, shared, total, tile, depth, lane, c, C)
        keep_sum(partial, 2, shared, squares, tile, depth, lane, c, C)

    return moments


@kernel
def _finish_moments(real, threads):
    def finish_moments(
        mean, invstd, running_mean, mean_step, running_var, var_step, batches, partial, rows, parts,
        part_rows, momentum, eps, C, tile, tiles, depth, groups, outer, rows_each,
    ):  # fmt: skip
        # Part k of n_k rows (part_rows, but for the last) has the mean m_k = shift_k + D_k/n_k
        # and the sum of squares about it S_k − D_k²/n_k. All together have μ = Σ n_k·m_k / n, and
        # about μ the sum of squares Σ (S_k − D_k²/n_k + n_k·(m_k − μ)²). Means are kept as
        # distances from the first shift.
        # The lanes share a channel's parts; a block owns its channels.
        shared = cuda.shared.array(threads, np.float64)
        o, c, lane = place(tile, tiles, depth, groups, outer, C)
        stop = parts if o >= 0 else 0
        origin = partial[c] if o >= 0 else np.float64(0)
        total = squares = np.float64(0)
        for k in span(lane, stop, depth):
            n = np.float64(min(part_rows, rows - k * part_rows))
            total += n * (partial[k * C + c] - origin) + partial[(parts + k) * C + c]
        centre = fold(shared, total, tile, depth, lane, SUM) / np.float64(rows)
        for k in span(lane, stop, depth):
            n = np.float64(min(part_rows, rows - k * part_rows))
            d = partial[(parts + k) * C + c] / n
            inner = partial[(2 * parts + k) * C + c] - d * d * n
            distance = partial[k * C + c] - origin + d - centre
            # Rounding may leave a negative number of squares; NaN stays.
            squares += (np.float64(0) if inner < 0 else inner) + n * distance * distance
        squares = fold(shared, squares, tile, depth, lane, SUM)
        if lane == 0:
            mu = origin + centre
            rounded = real(mu)
            mean[c], mean[C + c] = rounded, mu - np.float64(rounded)
            invstd[c] = np.float64(1) / sqrt(squares / np.float64(rows) + eps)
            if running_mean is not None:
                keep = np.float64(1) - momentum
                at, var_at = c * mean_step, c * var_step
                unbiased = squares / np.float64(rows - 1)
                running_mean[at] = keep * np.float64(running_mean[at]) + momentum * mu
                running_var[var_at] = keep * np.float64(running_var[var_at]) + momentum * unbiased
            if batches is not None and c == 0:
                batches[0] += 1

    return finish_moments


@kernel
def _running_statistics(real):
    def running_statistics(mean, invstd, running_mean, mean_step, running_var, var_step, eps, C):
        for c in span(cuda.grid(1), C, cuda.gridsize(1)):
            mean[c] = running_mean[c * mean_step]
            mean[C + c] = real(0)
            invstd[c] = real(1) / sqrt(running_var[c * var_step] + eps)

    return running_statistics


def batch_norm_running(mean, invstd, running_mean, running_var, eps):
    C = invstd.size
    launch(
        _running_statistics(invstd.dtype), over(C), mean, invstd, running_mean,
        _step(running_mean), running_var, _step(running_var), float(eps), C,
    )  # fmt: skip


@kernel
def _fold(real):
    def fold(
        out_weight, out_bias, weight, bias, running_mean, mean_step, running_var, var_step, scale,
        shift, eps, n, C,
    ):  # fmt: skip
        # A few flop a weight. Each thread owns weights.
        for at in span(cuda.grid(1), n, cuda.gridsize(1)):
            c = at - quotient(at, C) * C
            factor = real(1) / sqrt(running_var[c * var_step] + eps)
            if scale is not None:
                factor *= scale[c]
            out_weight[at] = weight[at] * factor
            if at < C:
                offset = real(0) if bias is None else bias[c]
                offset = (offset - running_mean[c * mean_step]) * factor
                out_bias[c] = offset if shift is None else offset + shift[c]

    return fold


def batch_norm_fold(
    out_weight, out_bias, weight, bias, running_mean, running_var, scale, shift, eps, seen, scratch
):
    rows, C = weight.shape
    launch(
        _fold(weight.dtype), over(rows * C), out_weight, out_bias, weight, bias,
        running_mean, _step(running_mean), running_var, _step(running_var), scale, shift,
        float(eps), rows * C, C,
    )  # fmt: skip


# Forward ------------------------------------------------------------------------------------


def batch_norm_forward_workspace(rows: int, C: int) -> int:
    return 0


@device
def scale_of(invstd, weight, c):
    return invstd[c] if weight is None else invstd[c] * weight[c]


@device
def change_of(mean, invstd, weight, bias, zero, c, C):
    """What `normalised` does to channel c: (centre, what rounding took from it, scale, offset)."""
    offset = zero if bias is None else bias[c]
    return mean[c], mean[C + c], scale_of(invstd, weight, c), offset


@device
def normalised(x, change):
    centre, rest, scale, offset = change
    return ((x - centre) - rest) * scale + offset


@kernel
def _forward(real, threads, activation):
    def forward(
        out, input, mean, invstd, weight, bias, low, high, rows, C,
        tile, tiles, depth, groups, outer, rows_each,
    ):  # fmt: skip
        # Four flop an element and the activation's, one pass over memory. Each thread owns rows of
        # one channel.
        values = cuda.local.array(AT_ONCE, real)
        o, c, lane = place(tile, tiles, depth, groups, outer, C)
        if o >= 0:
            change = change_of(mean, invstd, weight, bias, real(0), c, C)
            first, end = rows_of(lane, rows_each, rows)
            stride = depth * C
            for r in span(first, end, AT_ONCE * depth):
                at = r * C + c
                load_rows(values, input, at, stride, r, depth, end)
                for k in range(AT_ONCE):
                    if r + k * depth < end:
                        z = normalised(values[k], change)
                        out[at + k * stride] = _activated(z, low, high, activation)

    return forward


def forward(out, input, mean, invstd, weight, bias, activation=PLAIN, limits=(0.0, 0.0)):
    rows, C = input.shape
    plan = spread(1, rows, C)
    launch(
        _forward(out.dtype, plan.threads, activation), plan.shape, out, input, mean, invstd,
        weight, bias, *limits, rows, C, *plan.cut,
    )  # fmt: skip


def batch_norm_forward(out, input, mean, invstd, weight, bias, scratch):
    forward(out, input, mean, invstd, weight, bias)


# Backward -----------------------------------------------------------------------------------


def batch_norm_backward_affine_workspace(rows: int, C: int) -> int:
    return 2 * reduction(1, rows, C).chunks * C


@kernel
def _products(real, threads, activation):
    def products(
        partial, grad_output, input, mean, invstd, weight, bias, low, high, rows, C,
        tile, tiles, depth, groups, outer, rows_each,
    ):  # fmt: skip
        # Four flop an element, with an activation eight and its slope's; one pass. A block owns
        # partial[:, chunk, c], which is (Σ g·(x − μ), Σ g), g the gradient before the activation.
        shared = cuda.shared.array(threads, np.float64)
        grads, values = cuda.local.array(AT_ONCE, real), cuda.local.array(AT_ONCE, real)
        o, c, lane = place(tile, tiles, depth, groups, outer, C)
        total = rest = sum_g = rest_g = real(0)
        if o >= 0:
            change = change_of(mean, invstd, weight, bias, real(0), c, C)
            centre, centre_rest, _, _ = change
            first, end = rows_of(lane, rows_each, rows)
            stride = depth * C
            for r in span(first, end, AT_ONCE * depth):
                at = r * C + c
                load_rows(grads, grad_output, at, stride, r, depth, end)
                load_rows(values, input, at, stride, r, depth, end)
                for k in range(AT_ONCE):
                    if r + k * depth < end:
                        z = normalised(values[k], change)
                        g = _through(grads[k], z, low, high, activation, real(0))
                        distance = (values[k] - centre) - centre_rest
                        total, rest = add_compensated(total, rest, g * distance)
                        sum_g, rest_g = add_compensated(sum_g, rest_g, g)
        keep_sum(partial, 0, shared, exact_sum(total, rest), tile, depth, lane, c, C)
        keep_sum(partial, 1, shared, exact_sum(sum_g, rest_g), tile, depth, lane, c, C)

    return products


def backward_affine(
    grad_weight, grad_bias, grad_output, input, mean, invstd, weight, bias, scratch,
    activation=PLAIN, limits=(0.0, 0.0),
):  # fmt: skip
    # y = x̂·w + b, x̂ = (x − μ)·invstd: gw = Σ g·x̂, gb = Σ g.
    rows, C = input.shape
    plan = reduction(1, rows, C)
    launch(
        _products(input.dtype, plan.threads, activation), plan.shape, scratch, grad_output, input,
        mean, invstd, weight, bias, *limits, rows, C, *plan.cut,
    )  # fmt: skip
    column_totals(grad_weight, grad_bias, scratch, invstd, plan.chunks, C)


def batch_norm_backward_affine(grad_weight, grad_bias, grad_output, input, mean, invstd, scratch):
    backward_affine(grad_weight, grad_bias, grad_output, input, mean, invstd, None, None, scratch)


def batch_norm_backward_input_workspace(rows: int, C: int) -> int:
    return 0


@device
def slopes_of(mean, invstd, weight, grad_weight, grad_bias, rows, c, C):
    """What `gradient` does to channel c; rows: how many, in the type of the arrays."""
    mean_grad, slope = grad_bias[c] / rows, grad_weight[c] * invstd[c] / rows
    return mean[c], mean[C + c], mean_grad, slope, scale_of(invstd, weight, c)


@device
def gradient(g, x, slopes):
    """With n rows and s = invstd: ∂μ/∂x = 1/n and ∂s/∂x = −s³·(x − μ)/n, so
        gx = w·s·(g − mean(g) − (x − μ)·s²·mean(g·(x − μ))).
    Here mean(g) = gb/n, and s·mean(g·(x − μ)) = gw/n, from batch_norm_backward_affine."""
    centre, rest, mean_grad, slope, scale = slopes
    return (g - mean_grad - ((x - centre) - rest) * slope) * scale


@kernel
def _backward(real, threads, training, activation):
    def backward(
        grad_input, grad_output, input, mean, invstd, weight, bias, grad_weight, grad_bias,
        low, high, rows, C, tile, tiles, depth, groups, outer, rows_each,
    ):  # fmt: skip
        # In training as `gradient` says. The running statistics do not depend on x: gx = w·s·g.
        # Six flop an element, with an activation ten and its slope's; one pass. Each thread owns
        # rows of one channel.
        grads, values = cuda.local.array(AT_ONCE, real), cuda.local.array(AT_ONCE, real)
        o, c, lane = place(tile, tiles, depth, groups, outer, C)
        if o >= 0:
            first, end = rows_of(lane, rows_each, rows)
            stride = depth * C
            scale = scale_of(invstd, weight, c)
            if training or activation != PLAIN:
                change = change_of(mean, invstd, weight, bias, real(0), c, C)
                slopes = slopes_of(mean, invstd, weight, grad_weight, grad_bias, real(rows), c, C)
                for r in span(first, end, AT_ONCE * depth):
                    at = r * C + c
                    load_rows(grads, grad_output, at, stride, r, depth, end)
                    load_rows(values, input, at, stride, r, depth, end)
                    for k in range(AT_ONCE):
                        if r + k * depth < end:
                            x = values[k]
                            z = normalised(x, change)
                            g = _through(grads[k], z, low, high, activation, real(0))
                            g = gradient(g, x, slopes) if training else g * scale
                            grad_input[at + k * stride] = g
            else:
                for r in span(first, end, depth):
                    grad_input[r * C + c] = grad_output[r * C + c] * scale

    return backward


def backward_input(
    grad_input, grad_output, input, mean, invstd, weight, bias, grad_weight, grad_bias, training,
    activation=PLAIN, limits=(0.0, 0.0),
):  # fmt: skip
    rows, C = input.shape
    plan = spread(1, rows, C)
    if not training:  # not read, whatever they are
        grad_weight = grad_bias = invstd
    launch(
        _backward(input.dtype, plan.threads, int(training), activation), plan.shape, grad_input,
        grad_output, input, mean, invstd, weight, bias, grad_weight, grad_bias, *limits, rows, C,
        *plan.cut,
    )  # fmt: skip


def batch_norm_backward_input(
    grad_input, grad_output, input, mean, invstd, weight, grad_weight, grad_bias, training, scratch
):
    backward_input(
        grad_input, grad_output, input, mean, invstd, weight, None, grad_weight, grad_bias, training
    )


# Backward to relu's input ------------------------------------------------------------------


def batch_norm_backward_relu_workspace(rows: int, C: int) -> int:
    return reduction(1, rows, C).chunks * C


@kernel
def _backward_relu(real, threads):
    def backward_relu(
        partial, grad_input, grad_output, input, mean, invstd, weight, grad_weight, grad_bias, rows,
        C, tile, tiles, depth, groups, outer, rows_each,
    ):  # fmt: skip
        # As _backward; then a gradient goes through relu and is added to its channel's sum. A block
        # owns partial[chunk, c].
        shared = cuda.shared.array(threads, np.float64)
        grads, values = cuda.local.array(AT_ONCE, real), cuda.local.array(AT_ONCE, real)
        o, c, lane = place(tile, tiles, depth, groups, outer, C)
        total = rest = real(0)
        if o >= 0:
            slopes = slopes_of(mean, invstd, weight, grad_weight, grad_bias, real(rows), c, C)
            first, end = rows_of(lane, rows_each, rows)
            stride = depth * C
            for r in span(first, end, AT_ONCE * depth):
                at = r * C + c
                load_rows(grads, grad_output, at, stride, r, depth, end)
                load_rows(values, input, at, stride, r, depth, end)
                for k in range(AT_ONCE):
                    x = values[k]
                    if r + k * depth < end:
                        g = through_relu(gradient(grads[k], x, slopes), x, real(0))
                        grad_input[at + k * stride] = g
                        total, rest = add_compensated(total, rest, g)
        keep_sum(partial, 0, shared, exact_sum(total, rest), tile, depth, lane, c, C)

    return backward_relu


def batch_norm_backward_relu(
    grad_input, grad_sums, grad_output, input, mean, invstd, weight, grad_weight, grad_bias, scratch
):
    rows, C = input.shape
    plan = reduction(1, rows, C)
    launch(
        _backward_relu(input.dtype, plan.threads), plan.shape, scratch, grad_input, grad_output,
        input, mean, invstd, weight, grad_weight, grad_bias, rows, C, *plan.cut,
    )  # fmt: skip
    column_totals(grad_sums, None, scratch, None, plan.chunks, C)
