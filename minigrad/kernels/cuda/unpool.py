"""The inverse of max pooling, on channels-last arrays: one thread an element, neighbours along the
channels.

Several values may go to one place, where the last of them stays. So the output first holds the
numbers of the values that go there: 1. zeros; 2. the largest h·W + w + 1 (integers: no order
matters); 3. the value with that number. In the third step each thread owns an element of the
output.
"""

from __future__ import annotations

import numpy as np

from ._device import atomic_max, cuda
from ._index import arithmetic, index_bits
from ._launch import kernel, launch, over
from ._span import span
from .elementwise import fill


@kernel
def _claim(_, bits):
    # One pass over the positions. A position outside of the output is left out.
    index, divide, _ = arithmetic(bits)

    def claim(numbers, positions, n_in, cells, cells_out, C):
        for at in span(cuda.grid(1), n_in, cuda.gridsize(1)):
            pixel = divide(at, C)
            n, c = divide(pixel, cells), index(at - pixel * C)
            place = positions[at]
            if 0 <= place < cells_out:
                atomic_max(numbers, (n * cells_out + place) * C + c, pixel - n * cells + 1)

    return claim


@kernel
def _settle(_, bits):
    # One pass over the output, which is `numbers` before and afterwards the result, bit for bit.
    index, divide, _ = arithmetic(bits)

    def settle(numbers, input, n_out, cells, cells_out, C):
        for at in span(cuda.grid(1), n_out, cuda.gridsize(1)):
            number = numbers[at]
            if number > 0:
                pixel = divide(at, C)
                source = index(divide(pixel, cells_out) * cells + number - 1)
                numbers[at] = input[index(source * C + at - pixel * C)]

    return settle


def max_unpool2d_forward(out, input, positions):
    _, H, W, C = input.shape
    _, H_out, W_out, _ = out.shape
    number, bits = np.dtype(f"i{out.itemsize}"), index_bits(input.size, out.size)
    numbers, sizes = out.reshape(-1).view(number), (H * W, H_out * W_out, C)
    fill(numbers, 0)
    launch(_claim(number, bits), over(input.size), numbers, positions, input.size, *sizes)
    values = input.reshape(-1).view(number)
    launch(_settle(number, bits), over(out.size), numbers, values, out.size, *sizes)


@kernel
def _take(real, bits):
    # One pass over the positions. Each thread owns its element of grad_input.
    #
    # out[n, place, c] = input[n, h, w, c]: ∂out / ∂input = 1 there.
    index, divide, _ = arithmetic(bits)

    def take(grad_input, grad_output, positions, n_in, cells, cells_out, C):
        for at in span(cuda.grid(1), n_in, cuda.gridsize(1)):
            pixel = divide(at, C)
            n, c, place = divide(pixel, cells), index(at - pixel * C), positions[at]
            inside = 0 <= place < cells_out
            grad_input[at] = grad_output[(n * cells_out + place) * C + c] if inside else real(0)

    return take


def max_unpool2d_backward_input(grad_input, grad_output, positions):
    (_, H, W, C), (_, H_out, W_out, _) = grad_input.shape, grad_output.shape
    n = grad_input.size
    variant = _take(grad_input.dtype, index_bits(n, grad_output.size))
    launch(variant, over(n), grad_input, grad_output, positions, n, H * W, H_out * W_out, C)
