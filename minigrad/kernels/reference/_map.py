"""Pointwise operations: out[i] = formula(operands at i), in Python's loop.

A formula is written for scalars, and `pointwise` makes a launcher of it:

    @pointwise
    def leaky_relu_forward(x, negative_slope):
        return x if x > 0 else negative_slope * x

    leaky_relu_forward(out, input, negative_slope)

The operands are flat arrays and then numbers, which are converted to the dtype of the last array.
Floating ones are computed in double precision, integers in their own dtype. Division by zero,
overflow and NaN follow IEEE 754 silently.
"""

from __future__ import annotations

import numpy as np


def pointwise(formula):
    """The launcher of a formula: one element after the other."""

    @np.errstate(all="ignore")
    def launch(out, *operands):
        columns = []
        for operand in operands:
            if isinstance(operand, np.ndarray):
                dtype = operand.dtype
            else:
                operand = np.broadcast_to(np.asarray(operand).astype(dtype), out.shape)
            columns.append(operand.astype(np.float64) if operand.dtype.kind == "f" else operand)
        for i, values in enumerate(zip(*columns, strict=True)):
            out[i] = formula(*values)

    launch.__module__, launch.formula = formula.__module__, formula
    return launch
