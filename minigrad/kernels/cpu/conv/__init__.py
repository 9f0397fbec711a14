"""Convolution: its launchers, and the algorithms that plan.py chooses from.

Forward and input gradient are one sum (axes.py), which every algorithm computes for either of them.
The weight gradient's launcher is in ../conv_weight.py.
"""

from __future__ import annotations

import numpy as np

from ...protocol import UNLIMITED, Repacking
from .._seen import made_anew
from . import depthwise, direct, few_channels, panels, plan, rows, winograd
from .axes import adjoint_axes, forward_axes

_CONVOLVE = {
    "winograd": winograd.convolve,
    "rows": rows.convolve,
    "depthwise": depthwise.convolve,
    "few channels": few_channels.convolve,
    "direct": direct.convolve,
}


def _convolve(target, source, weight, bias, bounds, scratch, dims, axes, chosen, **options):
    # Where there is no bias, kernels get an array of its type that they do not read.
    bias, use_bias = (target.reshape(-1), False) if bias is None else (bias, True)
    _CONVOLVE[chosen.algorithm](
        target, source, weight, bias, use_bias, bounds, scratch, dims, axes, chosen, **options
    )


def conv2d_forward_workspace(dims) -> int:
    return plan.workspace_now(dims, "forward")


def conv2d_forward(out, input, weight, bias, repacked, scratch, dims, bounds):
    if out.size == 0:
        return
    chosen = plan.plan_within(dims, "forward", out.dtype, scratch)
    if repacked is not None and repacked.size != plan.repacking(chosen, dims).elements:
        repacked = None  # another thread has set another precision meanwhile
    options = {"spread_weight": repacked} if chosen.algorithm == "winograd" else {}
    if chosen.panel:
        if repacked is None:
            panels.pack(repacked := scratch, weight, chosen.panel)
        weight = repacked[: weight.size].reshape(weight.shape)
    axes = forward_axes(dims)
    _convolve(out, input, weight, bias, bounds, scratch, dims, axes, chosen, **options)


def conv2d_repacking(dims) -> Repacking:
    return plan.repacking(plan.plan_now(dims, "forward"), dims)


def conv2d_repack(repacked, seen, weight, source, dims):
    chosen = plan.plan_of_repacked(dims, repacked.size)
    with made_anew(seen, source) as wanted:
        if wanted and chosen.panel:
            panels.pack(repacked, weight, chosen.panel)
        elif wanted:
            zeros = np.zeros(max(weight.shape[2:]), weight.dtype)
            winograd.spread(repacked, weight, zeros, chosen)


def conv_transpose2d_forward_workspace(dims) -> int:
    return plan.workspace_now(dims, "adjoint")


def conv_transpose2d_forward(out, input, weight, bias, scratch, dims):
    if out.size == 0:
        return
    chosen = plan.plan_within(dims, "adjoint", out.dtype, scratch)
    packed = panels.pack_adjoint(scratch, weight, dims, chosen)
    scratch = scratch[packed.size :]
    _convolve(out, input, packed, bias, UNLIMITED, scratch, dims, adjoint_axes(dims), chosen)


conv2d_backward_input_workspace = conv_transpose2d_forward_workspace


def conv2d_backward_input(grad_input, grad_output, weight, scratch, dims):
    conv_transpose2d_forward(grad_input, grad_output, weight, None, scratch, dims)
