"""Losses. Arrays of classification losses are (rows, C), one row a position, C the classes.

Rows are shared by the lanes of _middle.py, as in softmax.py. Sums over all positions take two
stages: blocks sum chunks fixed by the shape, one block adds the chunks. They are compensated, and
only those of threads are added in float64, which most GPUs compute slowly.

A target that class_targets reports is passed over, because the host learns of it only later: its
row counts as ignored.
"""

from __future__ import annotations

import math

import numpy as np

from ..formulas import SMOOTH, SQUARED, difference_loss
from ._device import THREADS, absolute, cuda, device, exp, log
from ._launch import kernel, launch, over
from ._map import step
from ._middle import chunk_of, place, whole
from ._reduce import SUM, add_compensated, block_max, block_sum, exact_sum, fold
from ._span import span
from .softmax import row_exp_sum, row_maximum

# Chunks of positions ------------------------------------------------------------------------

_CHUNK = 4096  # elements, at least
_MAX_CHUNKS = 256


def _chunk_count(elements: int) -> int:
    return max(1, min(_MAX_CHUNKS, elements // _CHUNK))


def _by_blocks(blocks):
    return (blocks,), (THREADS,)


# Class indices ------------------------------------------------------------------------------


def class_targets_workspace(rows: int) -> int:
    return 2 * _chunk_count(rows)


def class_targets(first_bad, total_weight, target, weight, classes, ignore_index, scratch):
    chunks = _chunk_count(target.size)
    launch(
        _scan_targets(total_weight.dtype, THREADS), _by_blocks(chunks), scratch, target, weight,
        classes, ignore_index, target.size, -(-target.size // chunks),
    )  # fmt: skip
    variant = _finish_scan(total_weight.dtype, THREADS)
    launch(variant, _by_blocks(1), first_bad, total_weight, scratch, chunks)


@kernel
def _scan_targets(real, threads):
    def scan_targets(partial, target, weight, classes, ignore_index, n, each):
        # Block k owns partial[k] = (−position of its first bad target or −∞, Σ weight[target]).
        shared = cuda.shared.array(threads, np.float64)
        chunk = cuda.blockIdx.x
        bad, total, rest = np.float64(-math.inf), real(0), real(0)
        first, last = chunk_of(chunk, each, n)
        for i in span(first + cuda.threadIdx.x, last, threads):
            t = target[i]
            if t != ignore_index:
                if t < 0 or t >= classes:
                    bad = max(bad, np.float64(-i))
                else:
                    total, rest = add_compensated(total, rest, _weight(weight, t, real(1)))
        bad = block_max(shared, bad, threads)
        chunk_sum = block_sum(shared, exact_sum(total, rest), threads)
        if cuda.threadIdx.x == 0:
            partial[2 * chunk], partial[2 * chunk + 1] = bad, chunk_sum

    return scan_targets


@kernel
def _finish_scan(real, threads):
    def finish_scan(first_bad, total_weight, partial, chunks):
        # One block.
        shared = cuda.shared.array(threads, np.float64)
        bad, total = np.float64(-math.inf), np.float64(0)
        for chunk in span(cuda.threadIdx.x, chunks, threads):
            bad = max(bad, partial[2 * chunk])
            total += partial[2 * chunk + 1]
        bad = block_max(shared, bad, threads)
        total = block_sum(shared, total, threads)
        if cuda.threadIdx.x == 0:
            first_bad[0] = np.int64(-1) if bad == np.float64(-math.inf) else np.int64(-bad)
            total_weight[0] = total

    return finish_scan


@device
def _counts(t, ignore_index, C):
    """Whether the target is a class that is not ignored."""
    return t != ignore_index and t >= 0 and t < C


@device
def _weight(weight, c, one):
    """The weight of class c; 1 without weights."""
    if weight is None:
        return one
    return weight[c]


@device
def _upstream(grad_output, grad_step, divisor, r):
    """The gradient of row r's loss. grad_step: 0 for the gradient of the total, else 1."""
    return grad_output[r * grad_step] / divisor[0]


def _grad_step(grad_output):
    return 0 if grad_output.size == 1 else step(grad_output)


@kernel
def _cross_entropy(real, threads, smooth):
    def cross_entropy(
        losses, probabilities, input, target, weight, ignore_index, smoothing, C,
        tile, tiles, depth, groups, outer, rows,
    ):  # fmt: skip
        # Two exp an element. The lanes of a row own it.
        shared = cuda.shared.array(threads, real)
        r, _, lane = place(tile, tiles, depth, groups, outer, 1)
        base, first = r * C, lane if r >= 0 else C
        maximum = row_maximum(shared, input, base, first, C, depth, lane, real(-math.inf))
        total = row_exp_sum(shared, input, base, first, C, depth, lane, maximum, real(0))
        log_total, uniform = log(total), real(0)
        for c in span(first, C, depth):
            x = input[base + c] - maximum
            probabilities[base + c] = exp(x) / total
            if smooth:
                uniform += (log_total - x) * _weight(weight, c, real(1))
        if smooth:
            uniform = fold(shared, uniform, 1, depth, lane, SUM)
        if lane == 0:
            t, loss = target[r], real(0)
            if _counts(t, ignore_index, C):
                # −log p_c = (max − x_c) + log Σ exp(x − max)
                loss = ((maximum - input[base + t]) + log_total) * _weight(weight, t, real(1))
                if smooth:
                    loss = (real(1) - smoothing) * loss + smoothing / real(C) * uniform
            losses[r] = loss

    return cross_entropy


def cross_entropy_forward(losses, probabilities, input, target, weight, ignore_index, smoothing):
    _run_rows(
        _cross_entropy, (int(smoothing > 0),), input, losses, probabilities, input, target, weight,
        ignore_index, float(smoothing),
    )  # fmt: skip


def _run_rows(kernel, constants, like, *args):
    """Over the rows of (rows, C) arrays such as `like`."""
    rows, C = like.shape
    plan = whole(rows, C, 1)
    launch(kernel(like.dtype, plan.threads, *constants), plan.shape, *args, C, *plan.cut)


@kernel
def _cross_entropy_backward(real, threads, smooth):
    def cross_entropy_backward(
        grad_input, grad_output, grad_step, divisor, probabilities, target, weight, ignore_index,
        smoothing, C, tile, tiles, depth, groups, outer, rows,
    ):  # fmt: skip
        # loss = (1−ε)·w_t·(−log p_t) + ε/C·Σ_k w_k·(−log p_k), and ∂(−log p_k)/∂x_c = p_c − δ_kc:
        #   gx_c = g·(p_c·((1−ε)·w_t + ε/C·Σ_k w_k) − (1−ε)·w_t·δ_tc − ε/C·w_c), g = grad / divisor.
        # The lanes of a row own it.
        shared = cuda.shared.array(threads, real)
        r, _, lane = place(tile, tiles, depth, groups, outer, 1)
        base, first = r * C, lane if r >= 0 else C
        all_weights = real(0)
        if smooth:
            for c in span(first, C, depth):
                all_weights += _weight(weight, c, real(1))
            all_weights = fold(shared, all_weights, 1, depth, lane, SUM)
        t, hard, soft = 0, real(0), real(0)
        if r >= 0:
            t = target[r]
        counts = r >= 0 and _counts(t, ignore_index, C)
        if counts:
            g = _upstream(grad_output, grad_step, divisor, r)
            hard = (real(1) - smoothing) * g * _weight(weight, t, real(1))
            soft = smoothing / real(C) * g
        for c in span(first, C, depth):
            grad = real(0)
            if counts:
                p = probabilities[base + c]
                if smooth:
                    grad = p * (hard + soft * all_weights) - soft * _weight(weight, c, real(1))
                    grad -= hard if c == t else real(0)
                else:
                    grad = ((p - real(1)) if c == t else p) * hard
            grad_input[base + c] = grad

    return cross_entropy_backward


def cross_entropy_backward_input(
    grad_input, grad_output, divisor, probabilities, target, weight, ignore_index, smoothing
):
    _run_rows(
        _cross_entropy_backward, (int(smoothing > 0),), probabilities, grad_input, grad_output,
        _grad_step(grad_output), divisor, probabilities, target, weight, ignore_index,
        float(smoothing),
    )  # fmt: skip


# Class probabilities ------------------------------------------------------------------------


@device
def _share(target, weight, at, c, keep, uniform, one):
    """w_c·q_c with q = (1−ε)·target + ε/C. keep: 1 − ε, uniform: ε/C."""
    return (keep * target[at] + uniform) * _weight(weight, c, one)


@kernel
def _soft_cross_entropy(real, threads):
    def soft_cross_entropy(
        losses, log_probabilities, input, target, weight, smoothing, C,
        tile, tiles, depth, groups, outer, rows,
    ):  # fmt: skip
        # loss = −Σ_c w_c·q_c·log p_c. One exp an element. The lanes of a row own it.
        shared = cuda.shared.array(threads, real)
        r, _, lane = place(tile, tiles, depth, groups, outer, 1)
        base, first = r * C, lane if r >= 0 else C
        keep, uniform = real(1) - smoothing, smoothing / real(C)
        maximum = row_maximum(shared, input, base, first, C, depth, lane, real(-math.inf))
        total = row_exp_sum(shared, input, base, first, C, depth, lane, maximum, real(0))
        log_total, loss = log(total), real(0)
        for c in span(first, C, depth):
            log_p = (input[base + c] - maximum) - log_total
            log_probabilities[base + c] = log_p
            loss -= _share(target, weight, base + c, c, keep, uniform, real(1)) * log_p
        loss = fold(shared, loss, 1, depth, lane, SUM)
        if lane == 0:
            losses[r] = loss

    return soft_cross_entropy


def soft_cross_entropy_forward(losses, log_probabilities, input, target, weight, smoothing):
    _run_rows(
        _soft_cross_entropy, (), input, losses, log_probabilities, input, target, weight,
        float(smoothing),
    )  # fmt: skip


@kernel
def _soft_cross_entropy_backward(real, threads):
    def soft_cross_entropy_backward(
        grad_input, grad_output, grad_step, divisor, log_probabilities, target, weight, smoothing,
        C, tile, tiles, depth, groups, outer, rows,
    ):  # fmt: skip
        # ∂(−log p_k)/∂x_c = p_c − δ_kc, so
        #   gx_c = g·(p_c·Σ_k w_k·q_k − w_c·q_c), g = grad / divisor.
        # One exp an element. The lanes of a row own it.
        shared = cuda.shared.array(threads, real)
        r, _, lane = place(tile, tiles, depth, groups, outer, 1)
        base, first = r * C, lane if r >= 0 else C
        keep, uniform = real(1) - smoothing, smoothing / real(C)
        g = total = real(0)
        for c in span(first, C, depth):
            total += _share(target, weight, base + c, c, keep, uniform, real(1))
        total = fold(shared, total, 1, depth, lane, SUM)
        if r >= 0:
            g = _upstream(grad_output, grad_step, divisor, r)
        for c in span(first, C, depth):
            share = _share(target, weight, base + c, c, keep, uniform, real(1))
            grad_input[base + c] = exp(log_probabilities[base + c]) * (g * total) - g * share

    return soft_cross_entropy_backward


def soft_cross_entropy_backward_input(
    grad_input, grad_output, divisor, log_probabilities, target, weight, smoothing
):
    _run_rows(
        _soft_cross_entropy_backward, (), log_probabilities, grad_input, grad_output,
        _grad_step(grad_output), divisor, log_probabilities, target, weight, float(smoothing),
    )  # fmt: skip


@kernel
def _soft_cross_entropy_backward_target(real, threads):
    def soft_cross_entropy_backward_target(
        grad_target, grad_output, grad_step, divisor, log_probabilities, weight, smoothing, C,
        tile, tiles, depth, groups, outer, rows,
    ):  # fmt: skip
        # ∂loss/∂target_c = −(1−ε)·w_c·log p_c. The lanes of a row own it.
        r, _, lane = place(tile, tiles, depth, groups, outer, 1)
        if r >= 0:
            factor = -(real(1) - smoothing) * _upstream(grad_output, grad_step, divisor, r)
            for c in span(lane, C, depth):
                slope = factor * _weight(weight, c, real(1))
                grad_target[r * C + c] = slope * log_probabilities[r * C + c]

    return soft_cross_entropy_backward_target


def soft_cross_entropy_backward_target(
    grad_target, grad_output, divisor, log_probabilities, weight, smoothing
):
    _run_rows(
        _soft_cross_entropy_backward_target, (), log_probabilities, grad_target, grad_output,
        _grad_step(grad_output), divisor, log_probabilities, weight, float(smoothing),
    )  # fmt: skip


# Negative log-likelihood --------------------------------------------------------------------


@kernel
def _nll(real):
    def nll(losses, input, target, weight, ignore_index, C, rows):
        # One gather a row, which one thread owns.
        for r in span(cuda.grid(1), rows, cuda.gridsize(1)):
            t, loss = target[r], real(0)
            if _counts(t, ignore_index, C):
                loss = -_weight(weight, t, real(1)) * input[r * C + t]
            losses[r] = loss

    return nll


def nll_loss_forward(losses, input, target, weight, ignore_index):
    rows, C = input.shape
    launch(_nll(input.dtype), over(rows), losses, input, target, weight, ignore_index, C, rows)


@kernel
def _nll_backward(real, threads):
    def nll_backward(
        grad_input, grad_output, grad_step, divisor, target, weight, ignore_index, C,
        tile, tiles, depth, groups, outer, rows,
    ):  # fmt: skip
        # loss = −w_t·x_t: gx_c = −g·w_t·δ_tc, g = grad / divisor. The lanes of a row own it.
        r, _, lane = place(tile, tiles, depth, groups, outer, 1)
        if r >= 0:
            t, slope = target[r], real(0)
            if _counts(t, ignore_index, C):
                slope = -_upstream(grad_output, grad_step, divisor, r) * _weight(weight, t, real(1))
            for c in span(lane, C, depth):
                grad_input[r * C + c] = slope if c == t else real(0)

    return nll_backward


def nll_loss_backward_input(grad_input, grad_output, divisor, target, weight, ignore_index):
    _run_rows(
        _nll_backward, (), grad_input, grad_input, grad_output, _grad_step(grad_output), divisor,
        target, weight, ignore_index,
    )  # fmt: skip


# Losses of a difference ---------------------------------------------------------------------

_loss = device(difference_loss)


@kernel
def _losses(real, kind):
    def losses(out, input, input_step, target, target_step, beta, half, n):
        # One pass over memory. Each thread owns its elements.
        for i in span(cuda.grid(1), n, cuda.gridsize(1)):
            out[i] = _loss(kind, input[i * input_step] - target[i * target_step], beta, half)

    return losses


def difference_loss_forward(out, input, target, kind, beta):
    launch(
        _losses(out.dtype, kind), over(out.size), out, input, step(input), target, step(target),
        float(beta), float(beta) / 2, out.size,
    )  # fmt: skip


@kernel
def _loss_sums(real, threads, kind):
    def loss_sums(partial, input, input_step, target, target_step, beta, half, n, each):
        # Block k owns partial[k] = Σ f over chunk k.
        shared = cuda.shared.array(threads, np.float64)
        chunk, total, rest = cuda.blockIdx.x, real(0), real(0)
        first, last = chunk_of(chunk, each, n)
        for i in span(first + cuda.threadIdx.x, last, threads):
            d = input[i * input_step] - target[i * target_step]
            total, rest = add_compensated(total, rest, _loss(kind, d, beta, half))
        chunk_sum = block_sum(shared, exact_sum(total, rest), threads)
        if cuda.threadIdx.x == 0:
            partial[chunk] = chunk_sum

    return loss_sums


def difference_loss_total(out, input, target, divisor, kind, beta, scratch):
    chunks = _chunk_count(input.size)
    launch(
        _loss_sums(input.dtype, THREADS, kind), _by_blocks(chunks), scratch, input, step(input),
        target, step(target), float(beta), float(beta) / 2, input.size, -(-input.size // chunks),
    )  # fmt: skip
    _finish_total(out, scratch, chunks, None, divisor)


@kernel
def _slopes(real, kind):
    def slopes(
        grad_input, grad_output, grad_step, input, input_step, target, target_step, divisor, beta, n
    ):  # fmt: skip
        # One pass over memory. Each thread owns its elements.
        for i in span(cuda.grid(1), n, cuda.gridsize(1)):
            d = input[i * input_step] - target[i * target_step]
            if kind == SQUARED:
                slope = d + d
            elif kind == SMOOTH and absolute(d) < beta:
                slope = d / beta
            elif d > real(0):
                slope = real(1)
            elif d < real(0):
                slope = real(-1)
            else:
                slope = d  # 0, or NaN
            grad_input[i] = slope * (grad_output[i * grad_step] / divisor)

    return slopes


def difference_loss_backward_input(grad_input, grad_output, input, target, divisor, kind, beta):
    # ∂f(x − y)/∂x = f′(x − y)
    n = grad_input.size
    launch(
        _slopes(grad_input.dtype, kind), over(n), grad_input, grad_output, _grad_step(grad_output),
        input, step(input), target, step(target), float(divisor), float(beta), n,
    )  # fmt: skip


def loss_total_workspace(size: int) -> int:
    return _chunk_count(size)


# Totals -------------------------------------------------------------------------------------


def loss_total(out, losses, divisor, scratch):
    chunks, terms = _chunk_count(losses.size), losses
    if chunks > 1:
        variant = _totals(losses.dtype, THREADS)
        one = np.float64(1)
        each = -(-losses.size // chunks)
        launch(variant, _by_blocks(chunks), scratch, losses, None, one, losses.size, each)
        terms = scratch
    _finish_total(out, terms, losses.size if chunks == 1 else chunks, divisor, 1)


def _finish_total(out, terms, n, divisor, number):
    """out[0] = Σ terms / divisor[0], or / number where divisor is None."""
    variant = _totals(terms.dtype, THREADS)
    launch(variant, _by_blocks(1), out, terms, divisor, np.float64(number), n, n)


@kernel
def _totals(real, threads):
    def totals(out, terms, divisor, number, n, each):
        # Block k owns out[k], the sum of chunk k, divided.
        shared = cuda.shared.array(threads, np.float64)
        chunk, total, rest = cuda.blockIdx.x, real(0), real(0)
        first, last = chunk_of(chunk, each, n)
        for i in span(first + cuda.threadIdx.x, last, threads):
            total, rest = add_compensated(total, rest, terms[i])
        chunk_sum = block_sum(shared, exact_sum(total, rest), threads)
        if cuda.threadIdx.x == 0:
            out[chunk] = chunk_sum / (number if divisor is None else np.float64(divisor[0]))

    return totals
