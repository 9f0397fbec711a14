"""Padding and cropping: every output position along an axis reads one input position, or a value.

The four modes differ only in which position that is; `geometry.pad_sources` says so, and the
kernels copy by its tables, two neighbouring axes at a time.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from .. import kernels
from ..arguments import check_number
from ..engine import Function, Tensor
from ..errors import DTypeError, ShapeError
from ..geometry import PAD_MODES, check_pad, pad_sources
from ..layout import CHANNELS_LAST, Order, contiguous, memory_order
from ..runtime.allocation import allocate
from .cast import clone
from .promotion import fitting
from .transfer import constant

__all__ = ["pad"]

Amounts = tuple[int, int]


class Pad(Function):
    """Pad one axis, or two neighbouring ones: amounts[k] = (before, after) of axis first + k."""

    @staticmethod
    def forward(
        ctx: Any, input: Tensor, first: int, amounts: tuple[Amounts, ...], mode: str, value: float
    ) -> Tensor:
        ctx.shape, ctx.first, ctx.amounts, ctx.mode = input.shape, first, amounts, mode
        # The axes must be neighbours in memory: C order, or channels-last for the rows and columns.
        last = memory_order(input.array) == CHANNELS_LAST and first >= 2
        ctx.order = CHANNELS_LAST if last else tuple(range(input.ndim))
        source = contiguous(input.array.transpose(ctx.order), input.device)
        shape = list(input.shape)
        for axis, (before, after) in enumerate(amounts, first):
            shape[axis] += before + after
        out, form = _empty(tuple(shape), input, ctx.order, first, len(amounts))
        rows, cols = _tables(input.shape[first : first + len(amounts)], amounts, mode)
        kernels.get(input.device).pad.pad_forward(
            form, _form(source, ctx.order, first, len(amounts)),
            constant(rows.sources, input.device), constant(cols.sources, input.device), value,
        )  # fmt: skip
        return out

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        # out[o] = input[sources[o]]:  dinput[i] = Σ grad[o] over all o with sources[o] = i
        first, amounts = ctx.first, ctx.amounts
        source = contiguous(grad_output.array.transpose(ctx.order), grad_output.device)
        grad_input, form = _empty(ctx.shape, grad_output, ctx.order, first, len(amounts))
        rows, cols = _tables(ctx.shape[first : first + len(amounts)], amounts, ctx.mode)
        kernels.get(grad_output.device).pad.pad_backward_input(
            form, _form(source, ctx.order, first, len(amounts)),
            *(constant(table, grad_output.device)
              for table in (rows.starts, rows.targets, cols.starts, cols.targets)),
        )  # fmt: skip
        return grad_input, None, None, None, None


def _form(array: np.ndarray, order: Order, first: int, count: int) -> np.ndarray:
    """(B, H, W, A) of an array whose axes lie in `order`, H and W being the padded ones."""
    at = order.index(first)
    sizes = array.shape[at : at + count]
    rows_cols = (1, *sizes) if count == 1 else sizes
    return array.reshape(
        math.prod(array.shape[:at]), *rows_cols, math.prod(array.shape[at + count :])
    )


def _empty(
    shape: tuple[int, ...], like: Tensor, order: Order, first: int, count: int
) -> tuple[Tensor, np.ndarray]:
    """An uninitialised tensor of `shape` laid out in `order`, and its (B, H, W, A) array."""
    stored = allocate(tuple(shape[axis] for axis in order), like.dtype, like.device)
    tensor = Tensor(stored.transpose(np.argsort(order)), like.device)
    return tensor, _form(stored, order, first, count)


class _Table:
    """sources[o]: what output o reads, −1 for the value. targets[starts[i] : starts[i + 1]]: the
    outputs that read input i."""

    def __init__(self, size: int, amounts: Amounts, mode: str) -> None:
        self.sources = np.array(pad_sources(size, *amounts, mode), np.int64)
        readers = np.flatnonzero(self.sources >= 0)
        by_source = np.argsort(self.sources[readers], kind="stable")
        self.targets = readers[by_source].astype(np.int64)
        self.starts = np.searchsorted(self.sources[self.targets], np.arange(size + 1))


@lru_cache(maxsize=1024)
def _tables(
    sizes: tuple[int, ...], amounts: tuple[Amounts, ...], mode: str
) -> tuple[_Table, _Table]:
    """For rows and columns; one padded axis counts as columns of a single row."""
    if len(sizes) == 1:
        sizes, amounts = (1, *sizes), ((0, 0), *amounts)
    rows, cols = (_Table(n, a, mode) for n, a in zip(sizes, amounts, strict=True))
    return rows, cols


def pad(
    input: Tensor, pad: Sequence[int], mode: str = "constant", value: float | None = None
) -> Tensor:
    """Lengthen axes at either end; negative amounts cut off.

    pad: (before, after) of the last axis, then of the one before it, and so on.
    mode: 'constant' (`value`, default 0; any number of axes), 'reflect' (without the edge),
        'replicate' (the edge) or 'circular'. These three pad the last 1, 2 or 3 axes of an input
        with one or two more; reflect needs amounts below the axis' size, circular at most that.
    Raises ShapeError, DTypeError or ValueError before any work.
    """
    if not isinstance(input, Tensor):
        raise TypeError(f"pad: input must be a Tensor, got {type(input).__name__}")
    amounts = _amounts(input, pad, mode)
    fill = _fill(input, mode, value)
    axes = [axis for axis, both in enumerate(amounts) if both != (0, 0)]
    if not axes:
        return clone(input)
    while axes:
        last = axes.pop()
        first = axes.pop() if axes and axes[-1] == last - 1 else last
        input = Pad.apply(input, first, tuple(amounts[first : last + 1]), mode, fill)
    return input


def _fill(input: Tensor, mode: str, value: float | None) -> float:
    if isinstance(value, bool):
        value = int(value)  # as masks are padded
    if value is not None:
        check_number("pad", "value", value)
    if value and mode != "constant":
        raise ValueError(f"pad: mode {mode!r} takes no value, got {value!r}")
    return fitting("pad", value or 0, input.dtype)


def _amounts(input: Tensor, pad: Sequence[int], mode: str) -> list[Amounts]:
    """(before, after) of every axis, checked."""
    if mode not in PAD_MODES:
        raise ValueError(f"pad: mode must be one of {', '.join(PAD_MODES)}, got {mode!r}")
    try:
        numbers = tuple(n.__index__() for n in pad)
    except (AttributeError, TypeError):
        raise DTypeError(f"pad: pad must be a sequence of ints, got {pad!r}") from None
    padded = len(numbers) // 2
    if len(numbers) % 2 or padded > input.ndim:
        raise ShapeError(
            f"pad: pad must hold two numbers for each of at most {input.ndim} axes, got {numbers} "
            f"for an input of shape {input.shape}"
        )
    if mode != "constant" and (padded not in (1, 2, 3) or input.ndim - padded not in (1, 2)):
        raise ShapeError(
            f"pad: mode {mode!r} pads the last 1, 2 or 3 axes of an input with one or two more, "
            f"got {len(numbers)} numbers for an input of shape {input.shape}"
        )
    amounts = [(0, 0)] * input.ndim
    for k in range(padded):
        axis = input.ndim - 1 - k
        amounts[axis] = numbers[2 * k], numbers[2 * k + 1]
        check_pad(input.shape[axis], *amounts[axis], mode)
    sizes = input.shape[1:] if input.ndim - padded == 2 else input.shape
    if mode in ("reflect", "replicate") and 0 in sizes:
        raise ShapeError(
            f"pad: mode {mode!r} allows only the batch to be empty, got shape {input.shape}"
        )
    return amounts
