"""Convolution: its launchers, and the algorithms that plan.py chooses from.

Forward and input gradient are one sum (axes.py), which every algorithm computes for either of them.
The weight gradient's launcher is in ../conv_weight.py.
"""

from __future__ import annotations

from ...protocol import UNLIMITED, Kept
from .._seen import fingerprint
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


def conv2d_forward(out, input, weight, bias, kept, scratch, dims, bounds):
    if out.size == 0:
        return
    chosen = plan.plan_within(dims, "forward", out.dtype, scratch)
    if kept is not None and kept.size != plan.kept(chosen, dims).elements:
        kept = None  # the precision was set anew between the two
    options = {"spread": kept} if chosen.algorithm == "winograd" else {}
    if chosen.panel:
        if kept is None:
            panels.pack(kept := scratch, weight, chosen.panel)
        weight = kept[: weight.size].reshape(weight.shape)
    axes = forward_axes(dims)
    _convolve(out, input, weight, bias, bounds, scratch, dims, axes, chosen, **options)


def conv2d_kept(dims) -> Kept:
    return plan.kept(plan.plan_now(dims, "forward"), dims)


def conv2d_keep(kept, seen, weight, source, dims):
    now, chosen = fingerprint(source), plan.plan_now(dims, "forward")
    if seen.tobytes() == now.tobytes() or kept.size != plan.kept(chosen, dims).elements:
        return
    if chosen.panel:
        panels.pack(kept, weight, chosen.panel)
    else:
        winograd.spread(kept, weight, chosen)
    seen[:] = now


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
