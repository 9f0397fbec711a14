"""`out=`: minigrad's functions may write their results into tensors that are there.

The functions of the package have it, not the methods of Tensor, as in torch. Nothing is saved by
it: the result is computed, then copied.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from ..dtypes import can_cast
from ..engine import Tensor, is_grad_enabled
from ..errors import DTypeError, GraphError, ShapeError
from .operands import check_writable, same_elements
from .overwrite import copy_

# Those that have it in torch.
NAMES = (
    "abs", "absolute", "acos", "acosh", "add", "addbmm", "addcdiv", "addcmul", "addmm", "addmv",
    "addr", "all", "amax", "amin", "aminmax", "any", "arange", "arccos", "arccosh", "arcsin",
    "arcsinh", "arctan", "arctan2", "arctanh", "argmax", "argmin", "asin", "asinh", "atan",
    "atan2", "atanh", "baddbmm", "bernoulli", "bitwise_and", "bitwise_left_shift",
    "bitwise_not", "bitwise_or", "bitwise_right_shift", "bitwise_xor", "bmm", "bucketize",
    "cat", "ceil", "chain_matmul", "clamp", "clip", "column_stack", "concat", "concatenate",
    "copysign", "cos", "cosh", "cross", "cummax", "cummin", "cumprod", "cumsum", "deg2rad",
    "diag", "diff", "div", "divide", "dot", "dstack", "empty", "eq", "erf", "erfinv", "exp",
    "exp2", "expm1", "eye", "fix", "float_power", "floor", "floor_divide", "fmax", "fmin",
    "fmod", "frac", "full", "gather", "ge", "ger", "greater", "greater_equal", "gt",
    "heaviside", "histc", "hstack", "hypot", "index_select", "inner", "isneginf", "isposinf",
    "kron", "kthvalue", "le", "lerp", "less", "less_equal", "linspace", "log", "log10", "log1p",
    "log2", "logaddexp", "logaddexp2", "logcumsumexp", "logical_and", "logical_not",
    "logical_or", "logical_xor", "logit", "logspace", "logsumexp", "lt", "masked_select",
    "matmul", "max", "maximum", "mean", "median", "min", "minimum", "mm", "mode", "msort",
    "mul", "multinomial", "multiply", "mv", "nan_to_num", "nanmean", "nanmedian", "nanquantile",
    "ne", "neg", "negative", "nonzero", "norm", "normal", "not_equal", "ones", "outer", "pow",
    "prod", "quantile", "rand", "randint", "randn", "randperm", "reciprocal", "remainder",
    "renorm", "round", "row_stack", "rsqrt", "searchsorted", "sgn", "sigmoid", "sign",
    "signbit", "sin", "sinc", "sinh", "sort", "sqrt", "square", "stack", "std", "sub",
    "subtract", "sum", "take_along_dim", "tan", "tanh", "topk", "tril", "triu", "true_divide",
    "trunc", "var", "vdot", "vstack", "where", "xlogy", "zeros",
)  # fmt: skip


# These move elements: where they are, nothing may be written meanwhile, and their dtype stays.
_MOVES = {"gather", "index_select", "masked_select", "take_along_dim"}
_JOINS = {"cat", "column_stack", "concat", "concatenate", "dstack", "hstack", "stack", "vstack"}


def takes_out(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """The function, with an argument `out`: a tensor, or for several results a tuple of them."""

    @functools.wraps(function)
    def with_out(*args: Any, out: Any = None, **options: Any) -> Any:
        if out is None:
            return function(*args, **options)
        targets = out if isinstance(out, (tuple, list)) else [out]
        for target in targets:
            _check(name, target, args)
        result = function(*args, **options)
        if isinstance(result, Tensor):
            return _write(name, out, result, name in _MOVES)
        for target, each in zip(targets, result, strict=True):
            _write(name, target, each, True)
        return out

    # Where it is found, by pickle too.
    with_out.__module__, with_out.__name__, with_out.__qualname__ = "minigrad", name, name
    return with_out


def _check(name: str, out: Any, args: tuple[Any, ...]) -> None:
    """Whether it can be written to, beside what is read."""
    if not isinstance(out, Tensor):
        raise TypeError(f"{name}: out must be a Tensor, got {type(out).__name__}")
    check_writable(f"{name}: out", out)
    listed = args[0] if args and isinstance(args[0], (list, tuple)) else ()
    for each in (*args, *listed):
        shared = isinstance(each, Tensor) and _overlap(out.array, each.array)
        if shared and (name in _MOVES | _JOINS or not same_elements(out.array, each.array)):
            raise ValueError(
                f"{name}: out of shape {out.shape} shares memory with an operand of shape "
                f"{each.shape}"
            )


def _overlap(one: Any, other: Any) -> bool:
    if not (isinstance(one, np.ndarray) and isinstance(other, np.ndarray)):
        return one is other
    try:
        return np.shares_memory(one, other, max_work=10_000)  # type: ignore[arg-type]
    except np.exceptions.TooHardError:
        return False  # nothing goes wrong: results are computed before they are written


def _write(name: str, out: Tensor, result: Tensor, same_dtype: bool) -> Tensor:
    if is_grad_enabled() and (out.requires_grad or result.requires_grad):
        raise GraphError(f"{name}: with out, nothing may require gradients; use no_grad() or copy_")
    if not (result.dtype == out.dtype if same_dtype else can_cast(result.dtype, out.dtype)):
        raise DTypeError(
            f"{name}: the result has dtype {result.dtype.name}, which out of dtype "
            f"{out.dtype.name} cannot take"
        )
    if out.numel() == 0 and out.shape != result.shape:
        out.data = result.to(out.device, out.dtype)
        return out
    if out.shape != result.shape:
        raise ShapeError(f"{name}: out must have shape {result.shape}, got {out.shape}")
    return copy_(out, result)
