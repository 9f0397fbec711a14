"""Operations on lists of tensors, under torch's names, for optimizers of one's own:
`_foreach_add_(parameters, gradients, alpha=-0.1)` adds to each parameter its gradient.

Of the other arguments, too, a list has one item for each tensor; what is no list is for all. The
tensors have their turns one after the other: nothing is computed together.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from ..engine import Tensor
from ..errors import ShapeError
from . import arithmetic, functions, unary
from .inplace import InPlace
from .vector_norm import vector_norm


def _rows(name: str, *lists: Any) -> list[list[Any]]:
    """The arguments of each call."""
    lengths = [len(each) for each in lists if isinstance(each, (list, tuple))]
    if not lengths or len(set(lengths)) > 1:
        raise ShapeError(f"{name}: expects lists of tensors of one length, got lengths {lengths}")
    return [
        [each[index] if isinstance(each, (list, tuple)) else each for each in lists]
        for index in range(lengths[0])
    ]


def _each(name: str, function: Callable[..., Tensor]) -> Callable[..., Any]:
    """A function of lists that returns the results as a tuple, or the list that it changed."""

    def foreach(*args: Any, **options: Any) -> Any:
        rows = _rows(name, *args, *options.values())
        count = len(args)
        results = [
            function(*row[:count], **dict(zip(options, row[count:], strict=True))) for row in rows
        ]
        return args[0] if name.endswith("_") else tuple(results)

    foreach.__name__ = foreach.__qualname__ = name
    foreach.__doc__ = f"`{function.__name__}` of each tensor of a list; see the module."
    return foreach


def _with_factors(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """addcmul and addcdiv, which call a list of factors `scalars`."""

    @functools.wraps(function)
    def each(
        input: Tensor, tensor1: Tensor, tensor2: Tensor, value: Any = 1, scalars: Any = None
    ) -> Tensor:
        return function(input, tensor1, tensor2, value=value if scalars is None else scalars)

    return each


def _norm(input: Tensor, ord: float = 2, dtype: Any = None) -> Tensor:
    return vector_norm(input, ord, dtype=dtype)


_OF_ONE: dict[str, Callable[..., Any]] = {
    "_foreach_abs": unary.abs, "_foreach_abs_": InPlace.abs_,
    "_foreach_add": arithmetic.add, "_foreach_add_": InPlace.add_,
    "_foreach_addcdiv": _with_factors(functions.addcdiv),
    "_foreach_addcdiv_": _with_factors(InPlace.addcdiv_),
    "_foreach_addcmul": _with_factors(functions.addcmul),
    "_foreach_addcmul_": _with_factors(InPlace.addcmul_),
    "_foreach_clamp_max": functions.clamp_max, "_foreach_clamp_max_": InPlace.clamp_max_,
    "_foreach_clamp_min": functions.clamp_min, "_foreach_clamp_min_": InPlace.clamp_min_,
    "_foreach_copy_": InPlace.copy_,
    "_foreach_div": arithmetic.div, "_foreach_div_": InPlace.div_,
    "_foreach_exp": unary.exp, "_foreach_exp_": InPlace.exp_,
    "_foreach_lerp": functions.lerp, "_foreach_lerp_": InPlace.lerp_,
    "_foreach_log": unary.log, "_foreach_log_": InPlace.log_,
    "_foreach_maximum": functions.clamp_min, "_foreach_maximum_": InPlace.clamp_min_,
    "_foreach_minimum": functions.clamp_max, "_foreach_minimum_": InPlace.clamp_max_,
    "_foreach_mul": arithmetic.mul, "_foreach_mul_": InPlace.mul_,
    "_foreach_neg": arithmetic.neg, "_foreach_neg_": InPlace.neg_,
    "_foreach_norm": _norm,
    "_foreach_pow": arithmetic.pow, "_foreach_pow_": InPlace.pow_,
    "_foreach_reciprocal": arithmetic.reciprocal, "_foreach_reciprocal_": InPlace.reciprocal_,
    "_foreach_round": unary.round, "_foreach_round_": InPlace.round_,
    "_foreach_rsqrt": unary.rsqrt, "_foreach_rsqrt_": InPlace.rsqrt_,
    "_foreach_sigmoid": unary.sigmoid, "_foreach_sigmoid_": InPlace.sigmoid_,
    "_foreach_sign": unary.sign, "_foreach_sign_": InPlace.sign_,
    "_foreach_sqrt": unary.sqrt, "_foreach_sqrt_": InPlace.sqrt_,
    "_foreach_sub": arithmetic.sub, "_foreach_sub_": InPlace.sub_,
    "_foreach_tanh": unary.tanh, "_foreach_tanh_": InPlace.tanh_,
    "_foreach_zero_": InPlace.zero_,
}  # fmt: skip
FUNCTIONS = {name: _each(name, function) for name, function in _OF_ONE.items()}
