"""Functions and methods that are composed of others: values and gradients beside torch's.

One table: a name of torch, and the arguments of each call. Floating arrays become tensors that
require gradients, other arrays tensors. Where torch has a method of the name, it is called as well.
"""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import numpy as np
import pytest
import torch

import minigrad as mg
from minigrad.ops import out
from minigrad.testing.oracle import TEST_DEVICE, upstream_gradient, values

generator = np.random.default_rng(0)


def real(*shape: int, low: float = -2.0, high: float = 2.0) -> np.ndarray:
    return generator.uniform(low, high, shape)


def whole(*shape: int, low: int = 0, high: int = 4) -> np.ndarray:
    return generator.integers(low, high, shape)


def case(*args: Any, **kwargs: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    return args, kwargs


INF, NAN = np.inf, np.nan
X, Y = real(2, 3, 4), real(2, 3, 4)
V, M, SQUARE = real(5), real(3, 4), real(4, 4)
SPECIAL = np.array([0.0, -0.0, 1.0, -1.0, INF, -INF, NAN, 0.5])
FLOAT32 = SPECIAL.astype(np.float32)  # which requires no gradient
TIES = np.array([[1.0, 1, 0, 2, 2], [3, 3, 3, -1, 3]])
INTS = whole(3, 4, low=-7, high=8)
DIVISORS = np.array([3, -2, 5, -7])
MASK = np.array([[True, False, True, False], [False, False, True, True], [True] * 4])
TWO = X.transpose(2, 0, 1), real(4, 2, 3)  # not contiguous

CASES: dict[str, list[tuple[tuple[Any, ...], dict[str, Any]]]] = {
    # Rearrangement
    "flip": [case(X, (0,)), case(X, (-1, 0)), case(X, dims=[1]), case(INTS, (1,)), case(X, ())],
    "fliplr": [case(M)],
    "flipud": [case(V), case(M)],
    "roll": [case(X, 1), case(X, (1, -2), (0, 2)), case(X, 7, 1), case(X, 0, 1), case(M, -1, -1)],
    "rot90": [case(M, k) for k in (-1, 0, 1, 2, 3)] + [case(X, 1, (2, 0))],
    "tile": [case(X, (2,)), case(M, (2, 1, 3)), case(V, (0,))],
    "repeat_interleave": [
        case(X, 2), case(X, 2, 1), case(M, np.array([0, 2, 1]), 0), case(np.array([1, 0, 2])),
        case(M, np.array([2]), -1),
    ],
    "swapaxes": [case(X, 0, -1)],
    "swapdims": [case(X, 0, 1)],
    "movedim": [case(X, 0, 2), case(X, (0, 1), (-1, 0)), case(np.array(1.0), 0, 0)],
    "moveaxis": [case(X, 2, 0)],
    "ravel": [case(TWO[0]), case(np.array(2.0))],
    "tensor_split": [case(X, 2, 2), case(X, (1, 3), 2), case(V, 3), case(V, (-1, 2)), case(V, 7)],
    "hsplit": [case(M, 2), case(V, (1, 2))],
    "vsplit": [case(M, 3), case(M, (1,))],
    "dsplit": [case(X, 2)],
    "atleast_1d": [case(np.array(1.0)), case((np.array(1.0), M))],
    "atleast_2d": [case(V), case(np.array(1.0)), case(X)],
    "atleast_3d": [case(V), case(M), case(np.array(1.0))],
    "hstack": [case((V, real(2))), case((M, real(3, 1)))],
    "vstack": [case((V, real(5))), case((M, real(1, 4)))],
    "dstack": [case((M, real(3, 4))), case((V, real(5)))],
    "column_stack": [case((V, real(5, 2)))],
    "broadcast_tensors": [case(real(3, 1), real(4))],
    "diag": [case(V), case(V, -1), case(M, 1), case(M)],
    "diagonal": [case(M), case(X, 1, 0, 2), case(X, -1, -1, 1), case(M, 9), case(INTS, 1)],
    "diag_embed": [case(M), case(M, 1), case(M, -2, 0, 2), case(M, 1, 2, 0)],
    "trace": [case(M), case(INTS)],
    "meshgrid": [case(V, real(2), indexing="ij"), case(V, real(2), np.array(1.0), indexing="xy")],
    "cartesian_prod": [case(V, real(2)), case(V)],
    "diagonal_scatter": [case(M, real(3)), case(X, real(2, 3), 1, 1, 2), case(SQUARE, V[:3], -1)],
    "select_scatter": [case(X, real(2, 4), 1, -1), case(INTS, INTS[0], 0, 2)],
    "slice_scatter": [case(X, real(2, 3, 2), 2, 1, 3), case(M, real(2, 4), 0, 0, None, 2)],
    "as_strided": [
        case(M, (2, 3), (4, 1)), case(M, (2, 2, 3), (4, 2, 1), 1), case(V, (3, 3), (1, 1)),
        case(INTS, (2, 0), (1, 1)), case(np.array(1.0), (2,), (0,)),
    ],
    "as_strided_scatter": [case(INTS, INTS[:2, :2], (2, 2), (4, 2), 1)],
    "sum_to_size": [case(X, (3, 1)), case(X, 1, 3, 4), case(X, (2, 3, 4)), case(V, ())],
    "block_diag": [case(M, V, np.array(2.0), real(2, 2))],
    # Products
    "mm": [case(M, SQUARE), case(SQUARE.T, real(4, 2))],
    "matmul": [
        case(INTS, INTS.T), case(INTS[0], INTS.T), case(INTS, INTS[0]), case(INTS[0], INTS[0]),
        case(INTS.astype(np.int8) * 9, INTS.T.astype(np.int8) * 5), case(INTS[:, :0], INTS[:0]),
        case(whole(2, 1, 3, 4), whole(5, 4, 2)),
    ],
    "bmm": [case(X, real(2, 4, 5)), case(real(2, 0, 4), real(2, 4, 5))],
    "mv": [case(M, real(4))],
    "dot": [case(V, real(5)), case(whole(3), whole(3))],
    "vdot": [case(V, real(5))],
    "inner": [case(X, M), case(V, real(5)), case(M, np.array(2.0))],
    "outer": [case(V, real(3)), case(real(0), V)],
    "ger": [case(V, real(3))],
    "addmm": [case(real(4), M, SQUARE, beta=2, alpha=0.5), case(V[:4] * NAN, M, SQUARE, beta=0)],
    "addmv": [case(real(3), M, real(4))],
    "addr": [case(M, real(3), real(4), alpha=3)],
    "baddbmm": [case(real(1, 3, 5), X, real(2, 4, 5), beta=0.5)],
    "addbmm": [case(real(3, 5), X, real(2, 4, 5), alpha=2)],
    "tensordot": [case(X, real(3, 4, 2), 2), case(X, real(4, 2), ([0, 2], [1, 0])), case(V, M, 0)],
    "kron": [case(M, real(2, 2)), case(V, M)],
    "dist": [case(M, SQUARE[0]), case(V, V * 2, 1)],
    "float_power": [case(INTS, 2), case(V**2, 0.5)],
    "pdist": [case(M), case(real(4, 2), 1.0), case(real(1, 2))],
    "cov": [
        case(M), case(V, correction=0), case(INTS.T), case(real(2, 6), fweights=whole(6, low=1)),
        case(M, aweights=np.abs(M[0])),
    ],
    "corrcoef": [case(M), case(V)],
    "renorm": [case(M, 2, 0, 1.0), case(X, 1, 2, 3.0), case(M, INF, 1, 0.5)],
    "cdist": [case(X, real(2, 5, 4)), case(M, SQUARE, 1.0), case(M, real(3, 4), INF)],
    "einsum": [
        case("ij,jk->ik", M, SQUARE), case("bij,bjk", X, real(2, 4, 5)), case("ij->ji", M),
        case("ii", SQUARE), case("ii->i", SQUARE), case("i,j->ij", V, real(3)), case("ij->", M),
        case("...ij,...jk->...ik", real(2, 1, 3, 4), real(5, 4, 2)), case("b...->...b", X),
        case("bhid,bhjd->bhij", real(2, 3, 4, 5), real(2, 3, 6, 5)),
        case("ij,ij,j->i", M, M, V[:4]), case("aij,ajk->ik", X, real(1, 4, 5)),
        case("i,i", V, real(5)), case("ij,kl->", M, SQUARE), case("a,b,c->cab", V, V[:2], V[:3]),
        case("ij,ij->ij", INTS, INTS), case("ij,jk->ik", INTS, INTS.T),
    ],
    # Scatter and selection
    "scatter": [
        case(M, 0, whole(2, 3, high=3), real(2, 3)), case(INTS, 0, np.array([[2, 1]]), INTS),
        case(M, 1, np.array([[0, 0], [3, 1]]), 1.5),
        case(INTS, -1, np.zeros((0, 4), np.int64), INTS), case(real(3), 0, np.array(1), 2.5),
    ],
    "scatter_add": [
        case(M, 0, whole(5, 4, high=3), real(5, 4)), case(X, 2, whole(1, 2, 6), real(1, 2, 6)),
        case(INTS, 1, whole(3, 4), INTS), case(np.array(1.0), 0, np.array(0), np.array(2.0)),
        case(real(3), 0, np.array(2), np.array(2.0)),
    ],
    "scatter_reduce": [
        case(M, 0, whole(5, 4, high=3), real(5, 4), reduce, include_self=own)
        for reduce in ("sum", "mean", "amax", "amin") for own in (True, False)
    ] + [case(TIES, 1, whole(2, 9), np.array([[0.0, 1, 1, 2, 2, 3, 0, NAN, 1]] * 2), "amin")],
    "index_add": [
        case(M, 0, np.array([2, 0, 2]), real(3, 4), alpha=2), case(X, 1, np.array([1]), X[:, :1]),
    ],
    "index_copy": [case(X, 2, np.array([3, 1]), real(2, 3, 2))],
    "index_fill": [case(M, 1, np.array([0, 2]), -1.0), case(V, 0, np.array([], np.int64), 2.0),
                   case(M, 0, np.array([1, 1]), np.array(3.0))],
    "index_reduce": [
        case(M, 0, np.array([2, 0, 2]), real(3, 4), reduce, include_self=own)
        for reduce in ("mean", "amax", "amin") for own in (True, False)
    ],
    "masked_select": [case(M, MASK), case(real(4), MASK), case(M, np.zeros((3, 4), bool))],
    "masked_scatter": [case(M, MASK, real(9)), case(M, np.zeros((3, 4), bool), V)],
    "take": [case(M, np.array([[0, -1], [5, 5]]))],
    "put": [case(M, np.array([0, 5]), V[:2]), case(M, np.array([5, 5]), V[:2], accumulate=True)],
    "take_along_dim": [
        case(M, np.array([[1], [0], [-1]]), 1), case(M, np.array([3, 3, 9])),
        case(X, whole(2, 1, 2), 2),
    ],
    # Search and counting
    "nonzero": [case(INTS), case(np.array(3.0)), case(np.zeros((2, 0))), case(MASK, as_tuple=True)],
    "argwhere": [case(M)],
    "where": [case(MASK)],
    "unique": [
        case(INTS, dim=1, return_inverse=True, return_counts=True),
        case(np.array([[1, 2], [0, 9], [1, 2]]), dim=0, return_inverse=True),
        case(INTS), case(TIES, return_inverse=True, return_counts=True), case(np.zeros(0)),
    ],
    "unique_consecutive": [
        case(TIES), case(np.array([1, 1, 2, 1, 1]), return_inverse=True, return_counts=True),
    ],
    "searchsorted": [
        case(np.array([1.0, 2, 2, 4]), np.array([[0.0, 2], [2.5, 5]]), right=right)
        for right in (False, True)
    ] + [
        case(np.sort(M), real(3, 2)), case(np.zeros(0), V),
        case(np.array([1, 3]), 2, out_int32=True),
    ],
    "bucketize": [
        case(real(2, 3), np.array([-1.0, 0, 1])),
        case(np.array([1, 3]), np.array([1, 3]), right=True),
    ],
    "bincount": [case(whole(9)), case(whole(9), real(9), minlength=6), case(np.zeros(0, np.int64))],
    "histc": [case(V, 4), case(X, 5, -1, 1), case(np.ones(3), 3)],
    "histogram": [
        case(V, 4), case(X, 5, range=(-1.0, 1.0), density=True), case(np.ones(3), 3),
        case(FLOAT32[2:4], 2, weight=FLOAT32[2:4]),
    ],
    "mode": [
        case(INTS), case(TIES, 1, True), case(X, 0), case(np.array([1.0, NAN, NAN, 2, 2])),
        case(np.array([[3, 1, 3, 1, 2], [5, 4, 4, 5, 5]])),
    ],
    "msort": [case(X)],
    "nanmedian": [
        case(np.array([[1.0, NAN, 3, 2], [4.0, 1, NAN, NAN]]), 1), case(INTS, 0), case(M, 0, True),
        case(np.array([1.0, NAN, 3, 2])),
    ],
    "unravel_index": [case(np.array([[0, 23], [7, 11]]), (2, 3, 4)), case(np.array([3]), 5)],
    "nansum": [case(SPECIAL[3:]), case(np.array([[1.0, NAN], [NAN, NAN]]), 1)],
    "nanmean": [case(np.array([[1.0, NAN, 2], [NAN, NAN, 3]]), 1, True)],
    "quantile": [
        case(V, 0.3), case(M, np.array([0.0, 0.4, 1.0]), 1), case(X, 0.5, 0, True),
        case(X, 0.25, keepdim=True),
        case(np.array([[1.0, NAN, 2]] * 2), np.array([0.5]), 1), case(np.array(2.0), 0.5),
    ] + [case(V, 0.3, interpolation=each) for each in ("lower", "higher", "nearest", "midpoint")],
    "nanquantile": [case(np.array([[1.0, NAN, 2], [NAN, NAN, NAN]]), 0.5, 1)],
    # Division
    "div": [case(M, SQUARE[0], rounding_mode=mode) for mode in (None, "floor", "trunc")]
    + [case(INTS, DIVISORS, rounding_mode=mode) for mode in ("floor", "trunc")],
    "floor_divide": [
        case(SPECIAL, np.array([1.0, -1, 0.3, 0.0, 2, INF, 1, -INF])), case(INTS, 3),
        case(np.array([2**62 + 1, -(2**63)]), 3), case(np.array([-7, 7, 2**62]), 2**62),
    ],
    "fmod": [case(M, SQUARE[0]), case(INTS, DIVISORS), case(SPECIAL, 0.3)],
    "remainder": [
        case(M, SQUARE[0]), case(INTS, DIVISORS), case(SPECIAL, -0.3), case(np.ones(1), 0.1),
    ],
    # Functions of one value
    **{name: [case(X), case(SPECIAL)] for name in (
        "tan", "atan", "sinh", "cosh", "asinh", "exp2", "frac", "sinc", "nan_to_num", "deg2rad",
        "rad2deg", "sgn", "positive", "absolute", "negative", "fix",
    )},
    **{name: [case(X * 0.49), case(np.array([0.0, 1.0, -1.0, 1.5, NAN]))]
       for name in ("asin", "acos", "atanh")},
    "erfinv": [case(X * 0.49), case(np.array([0.999, -1e-9, 1.0, -1.0, 1.5, NAN]))],
    "acosh": [case(real(5, low=1.1, high=9)), case(np.array([1.0, 0.5, 1e300, INF, NAN]))],
    "logit": [case(real(5, low=0.1, high=0.9)), case(np.array([-0.2, 0.0, 0.3, 1.0]), 0.05)],
    "signbit": [case(SPECIAL[:6]), case(INTS)],
    "isposinf": [case(SPECIAL), case(INTS)],
    "isneginf": [case(SPECIAL)],
    "round": [case(X, decimals=1), case(X * 100, decimals=-1), case(SPECIAL)],
    # Functions of several
    "atan2": [
        case(M, SQUARE[0]), case(*map(np.ravel, np.meshgrid(SPECIAL[:6], SPECIAL[:6]))),
    ],
    "hypot": [case(M, SQUARE[0])],
    "xlogy": [
        case(np.array([0.0, 0.0, 1.0, 2.0]), np.array([2.0, NAN, 3.0, 0.5])),
        case(2.0, real(3, low=1)),
    ],
    "bitwise_left_shift": [
        case(INTS, 2), case(INTS, np.array([0, 62, 63, 64])),
        case(INTS.astype(np.int8), np.arange(4, 8).astype(np.int8)), case(INTS, -1),
        case(3, INTS[:1] ** 2),
    ],
    "bitwise_right_shift": [
        case(INTS * 2**58, np.array([0, 62, 63, 64])), case(INTS.astype(np.int32), 40),
        case(INTS.astype(np.int8), np.arange(4, 8).astype(np.int8)),
        case(np.array([200, 3], np.uint8), np.array([1, 9], np.uint8)),
    ],
    "logaddexp2": [case(M, SQUARE[0]), case(np.array([2000.0, -2000]), np.array([1999.0, -2000]))],
    "logaddexp": [case(M, SQUARE[0]), case(np.array([1000.0, -1000]), np.array([999.0, -1000]))],
    "fmax": [case(M, SQUARE[0]), case(FLOAT32, FLOAT32[::-1])],
    "fmin": [case(M, SQUARE[0]), case(FLOAT32, FLOAT32[::-1])],
    "lerp": [case(M, SQUARE[:3], 0.25), case(M, SQUARE[:3], 0.75), case(M, SQUARE[:3], SQUARE[3])],
    "addcmul": [case(V, V[1:2], real(5), value=0.5), case(V, 0.5, V[1:2], V)],
    "addcdiv": [case(V, V[1:2], real(5, low=1), value=-2), case(V, 0.5, V, real(5, low=1))],
    "add": [case(V, 0.5, V[1:2]), case(V, V, alpha=np.float32(2)), case(INTS, 2, INTS)],
    "sub": [case(V, 0.5, V[1:2]), case(V, V, alpha=np.float64(2))],
    "clamp": [case(M, SQUARE[0]), case(M, max=SQUARE[0]), case(M, SQUARE[0], SQUARE[1])],
    "copysign": [case(FLOAT32[2:], FLOAT32[:6]), case(V, -1.0)],
    "heaviside": [case(FLOAT32, FLOAT32[::-1])],
    "isin": [case(INTS, DIVISORS), case(V, V[:2], invert=True), case(INTS, 3)],
    "cross": [case(real(4, 3), real(4, 3), 1), case(real(3, 1), real(3, 2), 0)],
    "diagflat": [case(M, 1)],
    "is_nonzero": [case(np.array(0.0)), case(np.ones(1))],
    "is_signed": [case(V), case(MASK)],
    "clamp_min": [case(M, 0.5), case(M, SQUARE[0])],
    "clamp_max": [case(M, 0.5), case(INTS, 2)],
    "isclose": [
        case(SPECIAL, SPECIAL + 1e-6), case(SPECIAL, SPECIAL, equal_nan=True),
        case(INTS, INTS + 1, atol=1.0),
    ],
    "allclose": [case(V, V + 1e-9), case(V, V + 1)],
    "equal": [case(V, V), case(V, M), case(INTS, INTS + 1)],
    # Scans
    "cumprod": [
        case(M, 0), case(np.array([[2.0, 0, 3, 0, 1]]), -1), case(INTS, 1), case(np.array(2.0), 0),
    ],
    "logcumsumexp": [case(X, 1), case(np.array([1.0, 1000, -1000]), 0)],
    "cummax": [case(TIES, 1), case(X, 0), case(np.array([1.0, NAN, 2, NAN]), 0)],
    "cummin": [case(TIES, 1), case(INTS, 0)],
    "trapezoid": [
        case(X), case(X, dx=0.5, dim=0), case(X, real(4)), case(X, real(2), dim=0), case(INTS),
        case(X, X * X, dim=1), case(X, real(3, 4), dim=1), case(real(2, 1)),
    ],
    "diff": [
        case(X), case(M, 2, 0), case(V, 9), case(MASK),
        case(V, prepend=np.zeros(1), append=np.ones(2)),
    ],
    # Creation
    "asarray": [case(INTS), case([1, 2.5], dtype="float64"), case(V, dtype="float64")],
    "frombuffer": [case(bytearray(range(32)), dtype="float64", count=2, offset=8)],
    "tril_indices": [case(3, 4, 1), case(2, 2, -3)],
    "triu_indices": [case(3, 4, 1)],
    "scalar_tensor": [case(2), case(2, dtype="float64")],
    "logspace": [case(-1.0, 2.0, 5, dtype="float64"), case(0, 3, 4, base=2, dtype="float64")],
}  # fmt: skip

# Methods that torch has not as functions.
METHODS: dict[str, list[tuple[tuple[Any, ...], dict[str, Any]]]] = {
    "repeat": [case(X, 2, 1, 3), case(V, 2, 2), case(real(1), 3), case(M, (1, 1)), case(V, 0)],
    "unfold": [case(X, 2, 2, 1), case(V, 0, 3, 2), case(V, 0, 5, 1), case(np.array(1.0), 0, 1, 1)],
    "view_as": [case(M, real(2, 6))],
    "reshape_as": [case(SQUARE.T, real(2, 8))],
    "conj": [case(V)],
    "new_zeros": [case(INTS, 2, 3), case(V, (2,))],
    "new_ones": [case(V, 2)],
    "new_full": [case(V, (2, 3), 1.5)],
    "new_tensor": [case(V, [1, 2])],
    "__mod__": [case(M, 0.7), case(INTS, 3)],
    "__rmod__": [case(DIVISORS, 7)],
    "__floordiv__": [case(M, 0.7), case(INTS, -3)],
    "__rfloordiv__": [case(DIVISORS, 7)],
    "clone": [case(X)],
    "nelement": [case(X)],
    "ndimension": [case(X)],
    "is_floating_point": [case(X), case(INTS)],
    "tolist": [case(INTS)],
    "__lshift__": [case(INTS, 2)],
    "__rrshift__": [case(DIVISORS[:1], 999)],
    "split_with_sizes": [case(X, (1, 3), 2)],
}


# Whose results torch marks as differentiable, although it has no gradient for them.
WITHOUT_GRADIENT = {
    "__floordiv__", "__rfloordiv__", "bincount", "floor_divide", "histogram", "unique",
    "unique_consecutive",
}  # fmt: skip


def to_minigrad(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        tensor = mg.tensor(value, device=TEST_DEVICE)
        tensor.requires_grad = value.dtype == np.float64
        return tensor
    if isinstance(value, tuple) and any(isinstance(each, np.ndarray) for each in value):
        return tuple(map(to_minigrad, value))
    return getattr(mg, value) if value == "float64" else value


def to_torch(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        tensor = torch.tensor(np.ascontiguousarray(value)).reshape(value.shape)
        return tensor.requires_grad_(value.dtype == np.float64)
    if isinstance(value, tuple) and any(isinstance(each, np.ndarray) for each in value):
        return tuple(map(to_torch, value))
    return getattr(torch, value) if isinstance(value, str) and value == "float64" else value


def flat(value: Any, kind: type) -> list[Any]:
    """All tensors in nested tuples."""
    if isinstance(value, (tuple, list)):
        return [leaf for each in value for leaf in flat(each, kind)]
    return [value] if isinstance(value, kind) else []


def compare(name: str, mine: Any, theirs: Any, args: Any, torch_args: Any) -> None:
    results, expected = flat(mine, mg.Tensor), flat(theirs, torch.Tensor)
    if not expected:
        assert mine == theirs
        return
    assert len(results) == len(expected)
    for k, (result, right) in enumerate(zip(results, expected, strict=True)):
        assert result.shape == tuple(right.shape)
        assert result.dtype.name == str(right.dtype).removeprefix("torch.")
        wanted = right.detach().numpy()
        rtol, atol = 1e-10, 1e-12
        if wanted.dtype == np.float32:  # of integers; torch's own roundings differ by processor
            rtol = 4 * np.finfo(np.float32).eps
            atol = rtol * np.abs(wanted).max(initial=0)
        np.testing.assert_allclose(values(result), wanted, rtol=rtol, atol=atol, err_msg=name)
        assert result.requires_grad == right.requires_grad, name
        if right.requires_grad:
            upstream = upstream_gradient(k, k, result.shape)
            last = k == len(expected) - 1
            result.backward(mg.tensor(upstream, device=TEST_DEVICE), retain_graph=not last)
            right.backward(torch.from_numpy(upstream), retain_graph=not last)
    leaves = zip(flat(args, mg.Tensor), flat(torch_args, torch.Tensor), strict=True)
    for leaf, torch_leaf in leaves:
        if leaf.grad is None:  # where torch may have zeros
            assert torch_leaf.grad is None or not torch_leaf.grad.any(), name
        else:
            np.testing.assert_allclose(
                values(leaf.grad), torch_leaf.grad.numpy(force=True), rtol=1e-9, atol=1e-11,
                err_msg=f"{name}, gradient",
            )  # fmt: skip


def check(name: str, function: Any, oracle: Any, args: Any, kwargs: dict[str, Any]) -> None:
    mine = [to_minigrad(arg) for arg in args], {k: to_minigrad(v) for k, v in kwargs.items()}
    theirs = [to_torch(arg) for arg in args], {k: to_torch(v) for k, v in kwargs.items()}
    recorded = name not in WITHOUT_GRADIENT
    with torch.set_grad_enabled(recorded), mg.set_grad_enabled(recorded):
        expected, result = oracle(*theirs[0], **theirs[1]), function(*mine[0], **mine[1])
    compare(
        name, result, expected, [*mine[0], *mine[1].values()], [*theirs[0], *theirs[1].values()]
    )


@pytest.mark.parametrize("name", CASES)
def test_functions_have_torchs_values_and_gradients(name: str) -> None:
    for args, kwargs in CASES[name]:
        oracle = getattr(torch, name, None) or getattr(torch.Tensor, name)
        function = getattr(mg, name, None) or getattr(mg.Tensor, name)
        check(name, function, oracle, args, kwargs)


@pytest.mark.parametrize(
    "name", [name for name in CASES if hasattr(torch.Tensor, name) and name != "where"]
)
def test_methods_are_the_functions(name: str) -> None:
    method, function = getattr(mg.Tensor, name), getattr(mg, name, None)
    if name in out.NAMES:
        function = function.__wrapped__  # without `out`
    assert function is None or method is function


@pytest.mark.parametrize("name", METHODS)
def test_methods_have_torchs_values_and_gradients(name: str) -> None:
    for args, kwargs in METHODS[name]:
        check(name, getattr(mg.Tensor, name), getattr(torch.Tensor, name), args, kwargs)


def test_integers_are_not_divided_by_zero() -> None:
    for name in ("floor_divide", "remainder", "fmod"):
        with pytest.raises(RuntimeError, match=f"{'div' if name[1] == 'l' else name}: .*zero"):
            getattr(mg, name)(to_minigrad(INTS), 0)


ERRORS = [
    ("flip", (M, (0, 0)), ValueError, "flip: dim names an axis twice"),
    ("roll", (M, (1, 2), 0), ValueError, "roll: shifts and dims must be as many"),
    ("rot90", (M, 1, (0, 0)), ValueError, "rot90: dims must be two different axes"),
    ("movedim", (X, (0, 1), 2), ValueError, "movedim: source and destination"),
    ("tile", (M, (-1,)), ValueError, "repeat: expects a number from 0"),
    ("repeat_interleave", (M, np.array([1, 2]), 0), RuntimeError, "repeat_interleave: .*3"),
    ("hsplit", (M, 3), ValueError, "hsplit: axis 1 .* into 3"),
    ("diagonal", (M, 0, 1, 1), ValueError, "diagonal: dim1 and dim2"),
    ("diag", (X,), ValueError, r"diag: .*\(2, 3, 4\)"),
    ("mm", (X, M), ValueError, r"mm: input must have 2 dimensions, got shape \(2, 3, 4\)"),
    ("bmm", (X, X), ValueError, "bmm: .*do not fit together"),
    ("dot", (V, V[:2]), ValueError, "dot: .*do not fit together"),
    ("einsum", ("ij,jk", M, M), ValueError, "einsum: the sizes of 'j' must agree, got 4 and 3"),
    ("einsum", ("ij->ik", M), ValueError, "einsum: .*'ij->ik'"),
    ("einsum", ("ijk", M), ValueError, "einsum: 'ijk' .*"),
    ("tensordot", (M, M, 1), ValueError, "tensordot: sizes along axes"),
    ("scatter", (M, 0, np.array([[5]]), M), IndexError, "scatter: index 5 is out of range"),
    ("scatter_add", (M, 0, np.zeros((1, 9), np.int64), M), ValueError, "scatter_add: an index"),
    ("scatter_add", (M, 0, M, M), TypeError, "scatter_add: index must be an int64 tensor"),
    ("index_add", (M, 0, np.array([0]), M), ValueError, "index_add: expects a source"),
    ("masked_scatter", (M, MASK, V), ValueError, "masked_scatter: the mask asks for 8"),
    ("masked_select", (M, M), TypeError, "masked_select: mask must be a bool tensor"),
    ("bincount", (np.array([-1]),), ValueError, "bincount: .* -1"),
    ("quantile", (V, 1.5), RuntimeError, "quantile: q must be from 0 to 1"),
    ("div", (M, M, "x"), TypeError, "div"),
    ("as_strided", (M, (3, 4), (4, 2)), ValueError, "as_strided: .*lead out of .*(3, 4)"),
    ("select_scatter", (M, V, 0, 0), ValueError, r"select_scatter: src must .*\(4,\), got \(5,\)"),
    ("sum_to_size", (M, (2, 4)), ValueError, r"sum_to_size: .*\(2, 4\).*\(3, 4\)"),
    ("unravel_index", (np.array([6]), (2, 3)), ValueError, "unravel_index: .*from 0 to 5"),
    ("bitwise_left_shift", (M, 1), TypeError, "bitwise_left_shift: .*float64"),
    ("renorm", (V, 2, 0, 1.0), ValueError, "renorm: .*two axes"),
    ("mode", (np.zeros((2, 0)),), ValueError, "mode: axis 1 .*must not be empty"),
    ("poisson", (np.array([-1.0]),), RuntimeError, "poisson: rates"),
    ("fill_diagonal_", (V, 1.0), ValueError, "fill_diagonal_: .*2 dimensions"),
    ("fill_diagonal_", (X, 1.0), ValueError, "fill_diagonal_: all sizes must be equal"),
    ("multinomial", (np.array([1.0, -1]), 1), RuntimeError, "multinomial: weights"),
    ("multinomial", (np.array([1.0, 0]), 2), RuntimeError, "multinomial: .* 2 of each row"),
    ("bernoulli", (V,), RuntimeError, "bernoulli: probabilities"),
]


@pytest.mark.parametrize(("name", "args", "error", "match"), ERRORS)
def test_bad_arguments_are_refused_by_name_rule_and_values(name, args, error, match) -> None:
    function = getattr(mg, name, None) or getattr(mg.Tensor, name)
    with pytest.raises(error, match=match):
        flat(function(*map(to_minigrad, args)), mg.Tensor)[0].tolist()


# Random numbers -----------------------------------------------------------------------------


def sample(name: str, *args: Any) -> np.ndarray:
    mg.manual_seed(1)
    strided = mg.zeros(100, 60, device=TEST_DEVICE).t()
    assert getattr(strided, name)(*args) is strided
    result = values(strided)
    mg.manual_seed(1)
    again = getattr(mg.zeros(60, 100, device=TEST_DEVICE), name)(*args)
    np.testing.assert_array_equal(values(again), result)  # whatever the memory order
    return result


def test_fills_have_the_moments_of_their_distributions() -> None:
    for name, args, low, high, mean, std in (
        ("uniform_", (-1, 3), -1, 3, 1, 4 / 12**0.5),
        ("normal_", (2, 0.5), -INF, INF, 2, 0.5),
        ("exponential_", (2,), 0, INF, 0.5, 0.5),
        ("bernoulli_", (0.3,), 0, 1, 0.3, 0.21**0.5),
        ("random_", (3, 7), 3, 6, 4.5, 1.25**0.5),
        ("geometric_", (0.25,), 1, INF, 4, 12**0.5),
        ("log_normal_", (0.0, 0.5), 0, INF, np.exp(1 / 8), np.exp(1 / 8) * np.expm1(0.25) ** 0.5),
    ):
        drawn = sample(name, *args)
        assert low <= drawn.min() <= drawn.max() <= high, name
        assert abs(drawn.mean() - mean) < 4 * std / 6000**0.5, name
        assert abs(drawn.std() / std - 1) < 0.06, name


def test_a_cauchy_distribution_has_its_quartiles() -> None:
    drawn = sample("cauchy_", 1.0, 2.0)
    np.testing.assert_allclose(np.quantile(drawn, (0.25, 0.5, 0.75)), (-1, 1, 3), atol=0.2)


def test_poisson_counts_have_the_mean_and_variance_of_their_rates() -> None:
    rates = np.array([[0.0], [0.3], [20.0], [1200.0]])
    mg.manual_seed(0)
    drawn = values(mg.poisson(mg.tensor(np.tile(rates, 2000), device=TEST_DEVICE)))
    np.testing.assert_allclose(drawn.mean(1), rates[:, 0], atol=0.02, rtol=0.02)
    np.testing.assert_allclose(drawn.var(1), rates[:, 0], atol=0.05, rtol=0.1)


def test_multinomial_draws_by_weight_and_without_replacement_each_once() -> None:
    weights = mg.tensor([[0.0, 1.0, 3.0, 0.0], [2.0, 0.0, 0.0, 2.0]], device=TEST_DEVICE)
    drawn = values(mg.multinomial(weights, 4000, replacement=True))
    counts = np.stack([np.bincount(row, minlength=4) for row in drawn]) / 4000
    np.testing.assert_allclose(counts, [[0, 0.25, 0.75, 0], [0.5, 0, 0, 0.5]], atol=0.04)
    assert (np.sort(values(mg.multinomial(weights, 2))) == [[1, 2], [0, 3]]).all()


def test_normal_and_bernoulli_broadcast_their_parameters() -> None:
    mean = mg.tensor([[0.0], [100.0]], device=TEST_DEVICE)
    drawn = values(mg.normal(mean, mg.ones(500, device=TEST_DEVICE)))
    np.testing.assert_allclose(drawn.mean(1), [0, 100], atol=0.2)
    assert mg.normal(0.0, 1.0, (2, 3)).shape == mg.normal(0, 1, size=(2, 3)).shape == (2, 3)
    chances = mg.tensor([0.0, 1.0, 0.0], device=TEST_DEVICE)
    assert values(mg.bernoulli(chances)).tolist() == [0, 1, 0]
    assert set(values(mg.randint_like(chances, 2, 4)).tolist()) <= {2.0, 3.0}


# Memory -------------------------------------------------------------------------------------


def test_memory_formats_are_those_of_torch() -> None:
    x = mg.randn(2, 3, 4, 5, device=TEST_DEVICE, requires_grad=True)
    y = x.contiguous(memory_format=mg.channels_last)
    theirs = torch.zeros(2, 3, 4, 5).contiguous(memory_format=torch.channels_last)
    assert y.stride() == theirs.stride()
    assert y.is_contiguous(memory_format=mg.channels_last)
    assert not y.is_contiguous()
    assert y.clone().stride() == y.stride()
    assert y.clone(memory_format=mg.contiguous_format).is_contiguous()
    assert x.to(memory_format=mg.channels_last).stride() == y.stride()
    assert x.to(memory_format=mg.preserve_format) is x.contiguous() is x
    assert mg.zeros_like(x, memory_format=mg.channels_last).stride() == y.stride()
    assert mg.empty(2, 3, 4, 5, memory_format=mg.channels_last).stride() == y.stride()
    (y * 2).sum().backward()
    assert (values(x.grad) == 2).all()
    with pytest.raises(mg.ShapeError, match="channels_last is for"):
        mg.zeros(2).contiguous(memory_format=mg.channels_last)


def test_facts_of_views_are_those_of_torch() -> None:
    mine, theirs = mg.zeros(4, 6, device=TEST_DEVICE)[1:, 2:], torch.zeros(4, 6)[1:, 2:]
    for t, other in ((mine, theirs), (mine.T, theirs.T)):
        assert t.storage_offset() == other.storage_offset() == 8
        assert (t.nelement(), t.ndimension()) == (other.nelement(), other.ndimension())
        assert t.H.stride() == t.mH.stride() == other.mT.stride()
        assert t.reshape_as(t.mT).shape == tuple(other.mT.shape)
    assert (mine.nbytes, mine.itemsize) == (theirs.nbytes, theirs.itemsize)
    assert mine.data_ptr() - mine[:, 1:].data_ptr() == -4
    assert mine[mg.newaxis].shape == (1, *mine.shape)
    assert {mine.is_sparse, mine.is_quantized, mine.is_meta} == {False}
    assert mine.is_cpu is not mine.is_cuda
    assert mg.is_tensor(mine)
    assert not mg.is_tensor(theirs)
    assert mine.diagonal().fill_(1).sum().item() == mine.sum().item() == 3
    assert f"{mine.sum():.2f} {mine[0]}" == f"3.00 {mine[0]!r}"
    assert divmod(mine.sum(), 2)[0].item() == divmod(7, mine.sum())[1].item() == 1
    assert mg.ones(2, requires_grad=True).numpy(force=True).tolist() == [1, 1]
    assert mine.to(mg.float32, False, True) is not mine
    with pytest.raises(mg.ShapeError, match=r"as_strided: .*must be contiguous"):
        mine.as_strided((2,), (1,))
    assert mine.shape[1:].numel() == theirs.shape[1:].numel() == 4
    assert isinstance(mine.size(), mg.Size)


def test_the_diagonal_is_filled_as_in_torch() -> None:
    for shape, wrap in (((7, 3), True), ((7, 3), False), ((3, 7), True), ((3, 3, 3), False)):
        mine = mg.zeros(shape, device=TEST_DEVICE)
        assert mine.fill_diagonal_(2, wrap) is mine
        assert mine.tolist() == torch.zeros(shape).fill_diagonal_(2, wrap).tolist()


def test_functions_of_python_change_each_element() -> None:
    for lib, kind in ((mg, {"device": TEST_DEVICE}), (torch, {})):
        x = lib.tensor([[1, -2], [3, 4]])
        x, y = x.to(**kind), x.to(**kind) * 10
        assert x.apply_(lambda a: a + 1) is x
        x.map_(y, lambda a, b: a * b)
        x.map2_(y, y, lambda a, b, c: a + b - 2 * c)
        assert x.tolist() == [[10, 40], [90, 160]]


def test_asarray_shares_memory_copies_or_refuses() -> None:
    array = np.ones(3)
    mg.asarray(array)[0] = 5
    mg.asarray(array, copy=True)[1] = 7
    assert array.tolist() == [5, 1, 1]
    with pytest.raises(ValueError, match=r"asarray: copy=False.*list"):
        mg.asarray([1.0], copy=False)
    leaf = mg.ones(2, requires_grad=True)
    assert mg.asarray(leaf * 2).requires_grad
    assert not mg.asarray(leaf * 2, requires_grad=False).requires_grad


@pytest.mark.parametrize(
    "index",
    [[0, 1], [[0, 1], [1, 2]], [[0, 1], 2], [slice(0, 2), 1], [None, 1], [..., 1], [(0, 1), [1, 2]],
     [np.array([0, 2]), np.array([1, 3])], [[True, False, True]], [[0, 1]] * 32],
)  # fmt: skip
@pytest.mark.filterwarnings("ignore:Using a non-tuple sequence")
def test_a_list_of_more_than_ints_is_the_tuple_of_its_items(index: Any) -> None:
    x = np.arange(12.0).reshape(3, 4)
    expected = torch.from_numpy(x)[index].numpy()
    many = any(not isinstance(each, int) for each in index) and len(index) < 32
    with pytest.warns(UserWarning, match="indexing by a list") if many else nullcontext():
        np.testing.assert_array_equal(values(mg.tensor(x, device=TEST_DEVICE)[index]), expected)
