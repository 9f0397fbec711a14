"""How a weight lies in memory: as it was given, or packed into panels.

A large weight is packed: the columns of one register tile, a panel, lie in one piece, tap after tap
and channel after channel, so that the tile reads them from end to end; elsewhere, rows as far apart
as a large weight's fall into few sets of a cache. And columns are taken in blocks that stay in the
second-level cache while all pixels pass, so that the weight is read from memory once.
"""

from __future__ import annotations

from .._jit import kernel
from .._product import copy_columns, pack_transposed
from .._simd import VECTOR_BYTES
from .._tasks import tasks

_WIDEST = 2 * VECTOR_BYTES // 4  # elements of a register tile's row
# Elements of the weight that stay in the second-level cache.
_CACHED = 3 << 16


def cached_columns(rows: int, C: int, width: int) -> int:
    """Columns of a block of a weight of `rows` × C elements, by whole panels."""
    return C if rows * C <= _CACHED else max(1, _CACHED // (rows * width)) * width


def panel_elements(rows: int, C: int) -> int:
    """Of a weight of `rows` × C elements in panels of any width, the last one whole."""
    return rows * -(-C // _WIDEST) * _WIDEST


def weight_steps(weight, panel):
    """Elements of a (kH, kW, K, C) weight from one kernel row, tap, channel k and column c to the
    next; `panel` columns are packed together, or 0. Columns are counted from the first of a
    panel."""
    kH, kW, K, C = weight.shape
    row = panel or C
    return kW * K * row, K * row, row, kH * kW * K if panel else 1


@kernel
def _pack(span, packed, weight, steps, width):
    """Parallel over (panel, tap)."""
    kH, kW, K, C = weight.shape
    for task in tasks(span, (C + width - 1) // width * kH * kW):
        block, tap = task // (kH * kW), task % (kH * kW)
        c = block * width
        copy_columns(
            _WIDEST, packed, tap // kW * steps[0] + tap % kW * steps[1] + c * steps[3], steps[2],
            weight, tap * K * C + c, C, K, min(width, C - c),
        )  # fmt: skip


@kernel
def _pack_adjoint(span, packed, weight, groups, steps, width):
    """packed[u, v, co, ci] = weight[kH−1−u, kW−1−v, ci, co], group by group; steps as of
    weight_steps. Parallel over (group, panel, tap)."""
    kH, kW, K, C_out = weight.shape
    C_group = C_out // groups
    blocks = (K + width - 1) // width
    flat = weight.reshape(-1)
    for task in tasks(span, groups * blocks * kH * kW):
        block, tap = task // (kH * kW), task % (kH * kW)
        group, ci = block // blocks, block % blocks * width
        u, v = kH - 1 - tap // kW, kW - 1 - tap % kW
        pack_transposed(
            packed, u * steps[0] + v * steps[1] + (group * K + ci) * steps[3], steps[2],
            flat, (tap * K + ci) * C_out + group * C_group, C_out, C_group, min(width, K - ci),
        )  # fmt: skip


def pack(scratch, weight, panel):
    """The weight in panels of so many columns, which it may need more elements for than it has."""
    _pack(scratch, weight, weight_steps(weight, panel), panel)


def pack_adjoint(scratch, weight, dims, plan):
    """The adjoint's weight, (kH, kW, C_out, C_in) or, for "few channels", (kH, C_out, kW, C_in)."""
    kH, kW, K, C = dims.kH, dims.kW, dims.C_out // dims.groups, dims.C_in
    if plan.algorithm == "depthwise":  # one channel to one: only the taps change places
        packed = scratch[: weight.size].reshape(weight.shape)
        packed[:] = weight[::-1, ::-1]
        return packed
    if plan.algorithm == "few channels":
        packed = scratch[: weight.size].reshape(kH, K, kW, C)
        steps = K * kW * C, C, kW * C, 1
    else:
        packed = scratch[: weight.size].reshape(kH, kW, K, C)
        steps = weight_steps(packed, plan.panel)
    _pack_adjoint(scratch, weight, dims.groups, steps, plan.panel or _WIDEST)
    return packed
