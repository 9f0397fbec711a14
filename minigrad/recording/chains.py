"""Operator fusion in a recording: neighbours among its launches that one launcher can do, with the
same bits and one pass over memory less.

    convolution, matrix product → relu, clamp (relu6, hardtanh)
    batch norm → relu, clamp (relu6, hardtanh) or silu

So a step has them whichever way its `forward` calls the operations; `nn.Sequential` finds longer
ones among its layers (nn/fusion.py). Each rule gets the arguments of both launchers, arrays located
(launches.py), and returns those of the one that does the work of both, or None.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache
from typing import Any

from ..kernels.protocol import POSITIVE, UNLIMITED

_Joined = tuple[Callable[..., Any], tuple[Any, ...]]


def joined(first: Any, args: tuple[Any, ...], second: Any, rest: tuple[Any, ...]) -> _Joined | None:
    """The launcher, and its arguments, that does what two do one after the other. What lies between
    them is then never written: the caller has made sure that nobody else asks for it."""
    rule = _rules().get((first, second))
    # The second one's operands are of one axis, and in memory's order.
    if rule is None or args[0].place != rest[1].place or not _are_whole(args[0], *rest[:2]):
        return None
    out = rest[0]._replace(geometry=args[0].geometry)
    return rule(out, args, rest[2:])


def _are_whole(*arrays: Any) -> bool:
    """Whether all have as many elements, without gaps and in C order."""
    geometries = [array.geometry for array in arrays]
    sizes = {math.prod(each["shape"]) for each in geometries}
    return len(sizes) == 1 and all(map(_is_whole, geometries))


def _is_whole(geometry: dict[str, Any]) -> bool:
    step = int(geometry["typestr"][2:])
    for length, stride in zip(geometry["shape"][::-1], geometry["strides"][::-1], strict=True):
        if length != 1 and stride != step:
            return False
        step *= length
    return True


@cache
def _rules() -> dict[tuple[Any, Any], Callable[..., _Joined | None]]:
    from ..kernels import cpu

    launch: Any = cpu

    def limited(function: Any, bounds: Callable[..., Any]) -> Callable[..., _Joined | None]:
        def rule(out: Any, args: tuple[Any, ...], numbers: tuple[Any, ...]) -> _Joined | None:
            *operands, before = args[1:]
            return (function, (out, *operands, bounds(*numbers))) if before is UNLIMITED else None

        return rule

    def norm(bounds: Callable[..., Any]) -> Callable[..., _Joined | None]:
        def rule(out: Any, args: tuple[Any, ...], numbers: tuple[Any, ...]) -> _Joined | None:
            *operands, workspace = args[1:]
            needed = launch.norm_activation.batch_norm_activation_forward_workspace(
                *args[1].geometry["shape"]
            )
            if needed > math.prod(workspace.geometry["shape"]):
                return None
            function = launch.norm_activation.batch_norm_activation_forward
            return function, (out, *operands, bounds(*numbers), workspace)

        return rule

    def limits(*given: Any) -> Any:
        return tuple(map(float, given))

    unary, batch_norm = launch.unary, launch.norm.batch_norm_forward
    products = launch.conv.conv2d_forward, launch.matmul.matmul_forward
    return {
        **{(each, unary.relu_forward): limited(each, lambda: POSITIVE) for each in products},
        **{(each, unary.clamp_forward): limited(each, limits) for each in products},
        (batch_norm, unary.relu_forward): norm(lambda: POSITIVE),
        (batch_norm, unary.clamp_forward): norm(limits),
        (batch_norm, unary.silu_forward): norm(lambda: None),
    }
