"""Padding on (B, H, W, A) arrays by tables of positions: one thread an element, neighbours along
A and W."""

from __future__ import annotations

from ._device import cuda
from ._index import arithmetic, index_bits
from ._launch import kernel, launch, over
from ._map import scalar
from ._span import span


@kernel
def _pad(_, bits):
    # One pass over the output. Each thread owns its element.
    index, _, unravel = arithmetic(bits)

    def pad(out, input, rows, cols, value, n_out, H, W, A, H_out, W_out):
        for at in span(cuda.grid(1), n_out, cuda.gridsize(1)):
            b, oh, ow, a = unravel(at, H_out, W_out, A)
            h, w = rows[oh], cols[ow]
            inside = h >= 0 and w >= 0
            out[at] = input[index(((b * H + h) * W + w) * A + a)] if inside else value

    return pad


def pad_forward(out, input, rows, cols, value):
    (_, H, W, A), (_, H_out, W_out, _) = input.shape, out.shape
    variant = _pad(out.dtype, index_bits(out.size, input.size))
    value = scalar(value, out.dtype)
    launch(variant, over(out.size), out, input, rows, cols, value, out.size, H, W, A, H_out, W_out)


@kernel
def _pad_backward(real, bits):
    # One pass over grad_output. Each thread owns its element of grad_input and adds in the order of
    # the output positions.
    #
    # out[o] = input[s(o)]: dinput[i] = Σ grad_output[o] over the o with s(o) = i, which are listed.
    index, _, unravel = arithmetic(bits)

    def pad_backward(
        grad_input, grad_output, row_starts, row_targets, col_starts, col_targets,
        n_in, H, W, A, H_out, W_out,
    ):  # fmt: skip
        for at in span(cuda.grid(1), n_in, cuda.gridsize(1)):
            b, h, w, a = unravel(at, H, W, A)
            total = real(0)
            for r in range(row_starts[h], row_starts[h + 1]):
                row = (b * H_out + row_targets[r]) * W_out
                for c in range(col_starts[w], col_starts[w + 1]):
                    total += grad_output[index((row + col_targets[c]) * A + a)]
            grad_input[at] = total

    return pad_backward


def pad_backward_input(grad_input, grad_output, row_starts, row_targets, col_starts, col_targets):
    (_, H, W, A), (_, H_out, W_out, _) = grad_input.shape, grad_output.shape
    variant = _pad_backward(grad_input.dtype, index_bits(grad_input.size, grad_output.size))
    launch(
        variant, over(grad_input.size), grad_input, grad_output, row_starts, row_targets,
        col_starts, col_targets, grad_input.size, H, W, A, H_out, W_out,
    )  # fmt: skip
