"""Image resizing on channels-last arrays by tables: one thread an element, neighbours along the
channels."""

from __future__ import annotations

from ._device import cuda
from ._index import arithmetic, index_bits
from ._launch import kernel, launch, over
from ._span import span


@kernel
def _resample(real, bits):
    # 2·N·H_out·W_out·C·taps flop. Each thread owns its result.
    index, _, unravel = arithmetic(bits)

    def resample(
        out, input, row_starts, row_cells, row_weights, col_starts, col_cells, col_weights,
        n_out, H, W, C, H_out, W_out,
    ):  # fmt: skip
        for at in span(cuda.grid(1), n_out, cuda.gridsize(1)):
            n, oh, ow, c = unravel(at, H_out, W_out, C)
            total = real(0)
            for r in range(row_starts[oh], row_starts[oh + 1]):
                row = index((n * H + row_cells[r]) * W)
                for k in range(col_starts[ow], col_starts[ow + 1]):
                    value = input[index((row + col_cells[k]) * C + c)]
                    total += row_weights[r] * col_weights[k] * value
            out[at] = total

    return resample


def resample2d_forward(
    out, input, row_starts, row_cells, row_weights, col_starts, col_cells, col_weights
):
    (_, H, W, C), (_, H_out, W_out, _) = input.shape, out.shape
    launch(
        _resample(out.dtype, index_bits(out.size, input.size)), over(out.size), out, input,
        row_starts, row_cells, row_weights, col_starts, col_cells, col_weights,
        out.size, H, W, C, H_out, W_out,
    )  # fmt: skip
