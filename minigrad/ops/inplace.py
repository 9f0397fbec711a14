"""The in-place methods of Tensor, in one list: see overwrite.py for what they are made of."""

from __future__ import annotations

from ..engine import Tensor
from ..errors import GraphError
from . import arithmetic, compare, overwrite, select, unary
from .overwrite import in_place


def detach_(input: Tensor) -> Tensor:
    """Take the tensor itself out of the graph. Returns it."""
    if input._view is not None:
        raise GraphError(
            f"detach_: a view (of shape {input.shape}) cannot leave the graph in place; use "
            "detach()"
        )
    input._node, input.output_index, input._requires_grad = None, 0, False
    return input


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
    div_ = in_place(arithmetic.div, direct=True)
    pow_ = in_place(arithmetic.pow)
    neg_ = in_place(arithmetic.neg)
    square_ = in_place(arithmetic.square)
    reciprocal_ = in_place(arithmetic.reciprocal)
    addcmul_ = in_place(arithmetic.addcmul, direct=True)
    addcdiv_ = in_place(arithmetic.addcdiv, direct=True)
    lerp_ = in_place(arithmetic.lerp)
    # Functions of one value
    abs_ = in_place(unary.abs, direct=True)
    exp_ = in_place(unary.exp, direct=True)
    expm1_ = in_place(unary.expm1, direct=True)
    log_ = in_place(unary.log, direct=True)
    log1p_ = in_place(unary.log1p, direct=True)
    log2_ = in_place(unary.log2)
    log10_ = in_place(unary.log10)
    sqrt_ = in_place(unary.sqrt, direct=True)
    rsqrt_ = in_place(unary.rsqrt)
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
    relu_ = unary.relu_
    clamp_ = clip_ = in_place(unary.clamp, direct=True)
    clamp_min_ = in_place(unary.clamp_min, direct=True)
    clamp_max_ = in_place(unary.clamp_max, direct=True)
    # Comparisons, logic, selection: a truth becomes 1 or 0 of the tensor's dtype
    eq_ = in_place(compare.eq)
    ne_ = in_place(compare.ne)
    lt_ = in_place(compare.lt)
    le_ = in_place(compare.le)
    gt_ = in_place(compare.gt)
    ge_ = in_place(compare.ge)
    bitwise_and_ = in_place(compare.bitwise_and)
    bitwise_or_ = in_place(compare.bitwise_or)
    bitwise_xor_ = in_place(compare.bitwise_xor)
    bitwise_not_ = in_place(compare.bitwise_not)
    logical_and_ = in_place(compare.logical_and)
    logical_or_ = in_place(compare.logical_or)
    logical_xor_ = in_place(compare.logical_xor)
    logical_not_ = in_place(compare.logical_not)
    masked_fill_ = in_place(select.masked_fill, direct=True)
    tril_ = in_place(select.tril)
    triu_ = in_place(select.triu)
    # Graph
    detach_ = detach_
