"""The in-place methods of Tensor, in one list: see overwrite.py for what they are made of."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..engine import Tensor
from ..errors import GraphError
from . import (
    arithmetic,
    compare,
    division,
    functions,
    indexing,
    overwrite,
    parts,
    products,
    reduce,
    scan,
    scatter,
    select,
    shape,
    unary,
    vector_norm,
)
from .overwrite import in_place, view_in_place
from .promotion import Operand


def detach_(input: Tensor) -> Tensor:
    """Take the tensor itself out of the graph. Returns it."""
    if input._view is not None:
        raise GraphError(
            f"detach_: a view (of shape {input.shape}) cannot leave the graph in place; use "
            "detach()"
        )
    input._node, input.output_index, input._requires_grad = None, 0, False
    return input


def div_(input: Tensor, other: Operand, *, rounding_mode: str | None = None) -> Tensor:
    """`div` in place. Returns the tensor."""
    if rounding_mode is None:
        return overwrite.overwrite("div_", input, arithmetic.div, other, direct=True)
    return overwrite.overwrite("div_", input, division.div, other, rounding_mode=rounding_mode)


def clamp_(input: Tensor, min: Any = None, max: Any = None) -> Tensor:
    """`clamp` in place. Returns the tensor."""
    direct = not any(isinstance(bound, (Tensor, np.ndarray)) for bound in (min, max))
    return overwrite.overwrite("clamp_", input, unary.clamp, min, max, direct=direct)


class InPlace:
    """Part of `Methods`. In methods.py every name is attached to Tensor."""

    # What does not depend on the values before
    copy_ = overwrite.copy_
    fill_ = overwrite.fill_
    zero_ = overwrite.zero_
    # Arithmetic
    add_ = in_place(arithmetic.add, direct=True)
    sub_ = in_place(arithmetic.sub, direct=True)
    mul_ = in_place(arithmetic.mul, direct=True)
    pow_ = in_place(arithmetic.pow)
    neg_ = in_place(arithmetic.neg)
    square_ = in_place(arithmetic.square)
    reciprocal_ = in_place(arithmetic.reciprocal)
    div_ = divide_ = div_
    true_divide_ = in_place(arithmetic.div, "true_divide", direct=True)
    multiply_, subtract_, negative_ = mul_, sub_, neg_
    floor_divide_ = in_place(division.floor_divide)
    fmod_ = in_place(division.fmod)
    remainder_ = in_place(division.remainder)
    addmm_ = in_place(products.addmm)
    addmv_ = in_place(products.addmv)
    addr_ = in_place(products.addr)
    addbmm_ = in_place(products.addbmm)
    baddbmm_ = in_place(products.baddbmm)
    cumsum_ = in_place(reduce.cumsum)
    cumprod_ = in_place(scan.cumprod)
    renorm_ = in_place(vector_norm.renorm)
    # Functions of one value
    abs_ = in_place(unary.abs, direct=True)
    exp_ = in_place(unary.exp, direct=True)
    expm1_ = in_place(unary.expm1, direct=True)
    log_ = in_place(unary.log, direct=True)
    log1p_ = in_place(unary.log1p, direct=True)
    sqrt_ = in_place(unary.sqrt, direct=True)
    sin_ = in_place(unary.sin, direct=True)
    cos_ = in_place(unary.cos, direct=True)
    erf_ = in_place(unary.erf, direct=True)
    floor_ = in_place(unary.floor, direct=True)
    ceil_ = in_place(unary.ceil, direct=True)
    trunc_ = in_place(unary.trunc, direct=True)
    round_ = in_place(unary.round, direct=True)
    sign_ = in_place(unary.sign, direct=True)
    sigmoid_ = in_place(unary.sigmoid, direct=True)
    tanh_ = in_place(unary.tanh, direct=True)
    atan_ = in_place(unary.atan, direct=True)
    log2_ = in_place(unary.log2)
    log10_ = in_place(unary.log10)
    rsqrt_ = in_place(unary.rsqrt)
    relu_ = unary.relu_
    clamp_ = clip_ = clamp_
    absolute_, arctan_, fix_, sgn_ = abs_, atan_, trunc_, sign_
    acos_ = arccos_ = in_place(functions.acos)
    acosh_ = arccosh_ = in_place(functions.acosh)
    addcdiv_ = in_place(functions.addcdiv)
    addcmul_ = in_place(functions.addcmul)
    asin_ = arcsin_ = in_place(functions.asin)
    asinh_ = arcsinh_ = in_place(functions.asinh)
    atan2_ = arctan2_ = in_place(functions.atan2)
    atanh_ = arctanh_ = in_place(functions.atanh)
    clamp_max_ = in_place(functions.clamp_max)
    clamp_min_ = in_place(functions.clamp_min)
    copysign_ = in_place(functions.copysign)
    cosh_ = in_place(functions.cosh)
    deg2rad_ = in_place(functions.deg2rad)
    erfinv_ = in_place(functions.erfinv)
    exp2_ = in_place(functions.exp2)
    float_power_ = in_place(functions.float_power)
    frac_ = in_place(functions.frac)
    heaviside_ = in_place(functions.heaviside)
    hypot_ = in_place(functions.hypot)
    lerp_ = in_place(functions.lerp)
    logit_ = in_place(functions.logit)
    nan_to_num_ = in_place(functions.nan_to_num)
    rad2deg_ = in_place(functions.rad2deg)
    sinc_ = in_place(functions.sinc)
    sinh_ = in_place(functions.sinh)
    tan_ = in_place(functions.tan)
    xlogy_ = in_place(functions.xlogy)
    # Comparisons and logic: a truth becomes 1 or 0 of the tensor's dtype
    eq_ = in_place(compare.eq)
    ne_ = in_place(compare.ne)
    lt_ = in_place(compare.lt)
    le_ = in_place(compare.le)
    gt_ = in_place(compare.gt)
    ge_ = in_place(compare.ge)
    not_equal_, less_, less_equal_, greater_, greater_equal_ = ne_, lt_, le_, gt_, ge_
    bitwise_and_ = in_place(compare.bitwise_and)
    bitwise_or_ = in_place(compare.bitwise_or)
    bitwise_xor_ = in_place(compare.bitwise_xor)
    bitwise_not_ = in_place(compare.bitwise_not)
    bitwise_left_shift_ = in_place(division.bitwise_left_shift)
    bitwise_right_shift_ = in_place(division.bitwise_right_shift)
    logical_and_ = in_place(compare.logical_and)
    logical_or_ = in_place(compare.logical_or)
    logical_xor_ = in_place(compare.logical_xor)
    logical_not_ = in_place(compare.logical_not)
    # Selection
    masked_fill_ = in_place(select.masked_fill, direct=True)
    tril_ = in_place(select.tril)
    triu_ = in_place(select.triu)
    index_put_ = indexing.index_put_
    index_add_ = in_place(scatter.index_add)
    index_copy_ = in_place(scatter.index_copy)
    index_reduce_ = in_place(scatter.index_reduce)
    index_fill_ = in_place(scatter.index_fill)
    masked_scatter_ = in_place(scatter.masked_scatter)
    put_ = in_place(scatter.put)
    scatter_ = in_place(scatter.scatter)
    scatter_add_ = in_place(scatter.scatter_add)
    scatter_reduce_ = in_place(scatter.scatter_reduce)
    fill_diagonal_ = parts.fill_diagonal_
    # Views of the tensor itself
    squeeze_ = view_in_place(shape.squeeze)
    unsqueeze_ = view_in_place(shape.unsqueeze)
    transpose_ = swapaxes_ = swapdims_ = view_in_place(shape.transpose)
    t_ = view_in_place(shape.t)
    as_strided_ = view_in_place(parts.as_strided)
    # Graph
    detach_ = detach_


# torch has the in-place forms of functions of one value as functions, too.
FUNCTIONS = {
    name: getattr(InPlace, name)
    for name in (
        "abs_", "acos_", "acosh_", "addmv_", "arccos_", "arccosh_", "arcsin_", "arcsinh_",
        "arctan_", "arctanh_", "as_strided_", "asin_", "asinh_", "atan_", "atanh_", "ceil_",
        "clamp_", "clamp_max_", "clamp_min_", "clip_", "cos_", "cosh_", "deg2rad_", "detach_",
        "erf_", "exp2_", "exp_", "expm1_", "fill_", "fix_", "floor_", "frac_", "index_put_",
        "log10_", "log1p_", "log2_", "log_", "logit_", "nan_to_num_", "neg_", "negative_",
        "rad2deg_", "reciprocal_", "relu_", "round_", "rsqrt_", "sigmoid_", "sin_", "sinc_",
        "sinh_", "sqrt_", "square_", "tan_", "tanh_", "trunc_", "xlogy_", "zero_",
    )
}  # fmt: skip
