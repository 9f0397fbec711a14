"""The table: one record an operation, by family."""

from __future__ import annotations

from minigrad.testing import OpSpec

from . import (
    activation,
    compare,
    conv,
    divergence,
    elementwise,
    group_norm,
    indexing,
    inplace,
    loss,
    matmul,
    norm,
    pad,
    pool,
    reduce,
    resample,
    roi,
    shape,
    softmax,
    sort,
    unfold,
    unpool,
)

SPECS: list[OpSpec] = [
    *elementwise.SPECS,
    *compare.SPECS,
    *inplace.SPECS,
    *reduce.SPECS,
    *matmul.SPECS,
    *conv.SPECS,
    *pool.SPECS,
    *norm.SPECS,
    *softmax.SPECS,
    *loss.SPECS,
    *shape.SPECS,
    *indexing.SPECS,
    *divergence.SPECS,
    *group_norm.SPECS,
    *activation.SPECS,
    *unpool.SPECS,
    *roi.SPECS,
    *resample.SPECS,
    *unfold.SPECS,
    *pad.SPECS,
    *sort.SPECS,
]
