"""Row-wise kernels: what those on (rows, C) arrays share, how rows are cut into tasks, and row-wise
exp.

The cut is fixed by the shape, so that results do not depend on the number of threads.
"""

from __future__ import annotations

import numpy as np

from ._exp import exp
from ._jit import helper, serial_kernel
from ._simd import whole_registers
from ._vector import exceeds, load, select, store

# Elements that a task works on at a time: they stay in the first-level cache.
_BLOCK = 4096
_MAX_TASKS = 64


@helper
def row_tasks(rows, C):
    """(tasks, rows in a block). Each task gets whole rows, at least a block of them if it can."""
    block = max(1, _BLOCK // max(1, C))
    return min(_MAX_TASKS, (rows + block - 1) // block), block


_LINE = 256


def line_width(C: int) -> int:
    """Elements of a line: whole rows, about _LINE elements or one row.

    Few channels would leave most of a vector register empty, so kernels that work channel by
    channel walk through the array in lines of several rows. Element j of a line belongs to channel
    j % C. Only the last line may be shorter.
    """
    return C * max(1, _LINE // max(1, C))


@helper
def line_range(chunk, chunks, size, width):
    """First and one past the last element of a chunk: whole lines, but for the end."""
    lines = (size + width - 1) // width
    return chunk * lines // chunks * width, min(size, (chunk + 1) * lines // chunks * width)


@helper
def backwards(task, tasks, threads):
    """The tasks of each thread in reverse.

    What a kernel read last is still in the thread's cache when the next kernel begins with it. A
    kernel that reads an array again walks through it the other way round than the one before.
    """
    thread = task * threads // tasks
    first = -(-thread * tasks // threads)
    last = -(-(thread + 1) * tasks // threads) - 1
    return first + last - task


@helper
def fold_line(line, C):
    """Add up what belongs to the same channel, into the first C places."""
    first = line[:C]
    for at in range(C, line.size, C):
        add_to(first, line[at : at + C])


@helper
def add_to(sums, row):
    for j in range(row.size):
        sums[j] += row[j]


@helper
def copy_row(out, row):
    """out[:] = row, whose error message for another size would take two seconds to compile."""
    for j in range(row.size):
        out[j] = row[j]


@helper
def repeat_row(line, row):
    """A line whose every row is `row`. A remainder j % C for each element takes longer."""
    for at in range(0, line.size, row.size):
        for c in range(row.size):
            line[at + c] = row[c]


@helper
def relu_gradient(sums, grad_input, grad_output, out):
    """grad_input = grad_output where out = max(x, 0) is not 0, and sums += grad_input."""
    whole_registers()
    zero = out.dtype.type(0)
    for j in range(out.size):
        g = zero if out[j] <= zero else grad_output[j]
        grad_input[j] = g
        sums[j] += np.float64(g)


@serial_kernel
def combine_sums(out, partial):
    """out[c] = Σ_chunk partial[chunk, c], in the order of the chunks."""
    total = partial[0, : out.size]
    for chunk in range(1, partial.shape[0]):
        add_to(total, partial[chunk, : out.size])
    for c in range(out.size):
        out[c] = total[c]


def chunk_count(elements: int) -> int:
    """Into how many chunks a reduction of `elements` elements is cut."""
    return max(1, min(_MAX_TASKS, elements // 16384))


@helper
def _larger(left, right):
    return select(exceeds(left, right), left, right)


@helper
def row_max(row, spare):
    """The largest element. A long row keeps 64 candidates in vectors, four of 16.

    A NaN may be passed over or returned. `spare` may be overwritten, so far as the row reaches.
    """
    C = row.size
    if C < 64:
        maximum = row[0]
        for j in range(1, C):
            maximum = row[j] if row[j] > maximum else maximum
        return maximum
    a, b = load(16, row, 0), load(16, row, 16)
    c, d = load(16, row, 32), load(16, row, 48)
    for j in range(64, C - 63, 64):
        a, b = _larger(load(16, row, j), a), _larger(load(16, row, j + 16), b)
        c, d = _larger(load(16, row, j + 32), c), _larger(load(16, row, j + 48), d)
    store(spare, 0, _larger(_larger(a, b), _larger(c, d)))
    maximum = spare[0]
    for j in range(1, 16):
        maximum = spare[j] if spare[j] > maximum else maximum
    for j in range(C - C % 64, C):
        maximum = row[j] if row[j] > maximum else maximum
    return maximum


@helper
def row_sum(row):
    """Σ row in float64: exact enough for rows of any length."""
    whole_registers()
    total = 0.0
    for j in range(row.size):
        total += np.float64(row[j])
    return total


@helper
def scale_row(row, factor):
    whole_registers()
    for j in range(row.size):
        row[j] *= factor


@helper
def _exp_of_difference(out, row, maximum):
    whole_registers()
    for j in range(row.size):
        out[j] = exp(row[j] - maximum)


@helper
def exp_of(out, values):
    whole_registers()
    for i in range(out.size):
        out[i] = exp(values[i])


@helper
def _exp_in_place(values):
    whole_registers()
    for i in range(values.size):
        values[i] = exp(values[i])


@helper
def exp_rows(out, maxima, input, first, last):
    """maxima[r] = max input[r], out[r] = exp(input[r] − maxima[r]) for rows first ≤ r < last.

    A row with NaN, with +∞, or of −∞ alone becomes NaN where it meets ∞ − ∞, as in torch.
    """
    C = input.shape[1]
    if C >= 64:
        for r in range(first, last):
            maxima[r] = row_max(input[r], out[r])
            _exp_of_difference(out[r], input[r], maxima[r])
        return
    for r in range(first, last):
        maximum = row_max(input[r], out[r])
        maxima[r] = maximum
        for c in range(C):
            out[r, c] = input[r, c] - maximum
    # One loop over all rows: short rows alone would leave most of a vector empty.
    _exp_in_place(out[first:last].reshape(-1))
