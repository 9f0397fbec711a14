"""Products of vectors, matrices and batches of them, and einsum: tensor contraction, permuted and
reshaped into one batched matrix product for every two operands."""

from __future__ import annotations

import functools
import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

from ..dtypes import get_default_dtype, is_floating
from ..engine import Tensor
from ..errors import ShapeError
from .arithmetic import add, div, mul, sub
from .cast import to
from .creation import ones
from .join import unbind
from .matmul import matmul
from .operands import broadcast_shape, takes_tensor
from .rearrange import diagonal, movedim, roll
from .reduce import sum
from .reduction import axis_of
from .search import triu_indices
from .select import index_select
from .shape import broadcast_to, permute, reshape, squeeze, t, unsqueeze
from .unary import clamp, sqrt
from .vector_norm import vector_norm

__all__ = [
    "addbmm", "addmm", "addmv", "addr", "baddbmm", "bmm", "cdist", "chain_matmul", "corrcoef",
    "cov", "cross", "dot", "einsum", "ger", "inner", "kron", "mm", "mv", "outer", "pdist",
    "tensordot", "vdot",
]  # fmt: skip

# Of a given number of axes -------------------------------------------------------------------


def _ranks(operation: str, **expected: tuple[Tensor, int]) -> None:
    """Each named tensor must have so many axes."""
    for name, (tensor, ndim) in expected.items():
        if not isinstance(tensor, Tensor):
            raise TypeError(f"{operation}: {name} must be a Tensor, got {type(tensor).__name__}")
        if tensor.ndim != ndim:
            raise ShapeError(
                f"{operation}: {name} must have {ndim} dimensions, got shape {tensor.shape}"
            )


def _inner_sizes(operation: str, left: Tensor, right: Tensor) -> None:
    batched = left.ndim == 3
    inner = left.shape[-1] == right.shape[1 if batched else 0]
    if not inner or (batched and left.shape[0] != right.shape[0]):
        raise ShapeError(f"{operation}: shapes {left.shape} and {right.shape} do not fit together")


def mm(input: Tensor, mat2: Tensor) -> Tensor:
    """(M, K) @ (K, N) → (M, N)"""
    _ranks("mm", input=(input, 2), mat2=(mat2, 2))
    _inner_sizes("mm", input, mat2)
    return matmul(input, mat2)


def bmm(input: Tensor, mat2: Tensor) -> Tensor:
    """(B, M, K) @ (B, K, N) → (B, M, N)"""
    _ranks("bmm", input=(input, 3), mat2=(mat2, 3))
    _inner_sizes("bmm", input, mat2)
    return matmul(input, mat2)


def mv(input: Tensor, vec: Tensor) -> Tensor:
    """(M, K) @ (K,) → (M,)"""
    _ranks("mv", input=(input, 2), vec=(vec, 1))
    _inner_sizes("mv", input, vec)
    return matmul(input, vec)


def dot(input: Tensor, tensor: Tensor) -> Tensor:
    """Σ input·tensor, of two vectors of one length."""
    _ranks("dot", input=(input, 1), tensor=(tensor, 1))
    _inner_sizes("dot", input, tensor)
    return sum(mul(input, tensor))


vdot = dot


def outer(input: Tensor, vec2: Tensor) -> Tensor:
    """The matrix of all products of two vectors: (M,), (N,) → (M, N)."""
    _ranks("outer", input=(input, 1), vec2=(vec2, 1))
    return mul(unsqueeze(input, 1), vec2)


ger = outer


@takes_tensor
def inner(input: Tensor, other: Tensor) -> Tensor:
    """Σ of products along the last axes; a number times the other where one has no axes."""
    if input.ndim == 0 or other.ndim == 0:
        return mul(input, other)
    if input.shape[-1] != other.shape[-1]:
        raise ShapeError(
            f"inner: the last sizes must agree, got shapes {input.shape} and {other.shape}"
        )
    return tensordot(input, other, ([-1], [-1]))


def _plus(input: Tensor, product: Tensor, beta: float, alpha: float) -> Tensor:
    """beta·input + alpha·product. For beta 0 NaN and infinities of the input do not count."""
    scaled = product if alpha == 1 else mul(product, alpha)
    if beta == 0:
        return scaled
    return add(input if beta == 1 else mul(input, beta), scaled)


def addmm(
    input: Tensor, mat1: Tensor, mat2: Tensor, *, beta: float = 1, alpha: float = 1
) -> Tensor:
    """beta·input + alpha·(mat1 @ mat2), of matrices."""
    return _plus(input, mm(mat1, mat2), beta, alpha)


def addmv(input: Tensor, mat: Tensor, vec: Tensor, *, beta: float = 1, alpha: float = 1) -> Tensor:
    """beta·input + alpha·(mat @ vec)."""
    return _plus(input, mv(mat, vec), beta, alpha)


def addr(input: Tensor, vec1: Tensor, vec2: Tensor, *, beta: float = 1, alpha: float = 1) -> Tensor:
    """beta·input + alpha·outer(vec1, vec2)."""
    return _plus(input, outer(vec1, vec2), beta, alpha)


def baddbmm(
    input: Tensor, batch1: Tensor, batch2: Tensor, *, beta: float = 1, alpha: float = 1
) -> Tensor:
    """beta·input + alpha·(batch1 @ batch2), of batches of matrices."""
    return _plus(input, bmm(batch1, batch2), beta, alpha)


def addbmm(
    input: Tensor, batch1: Tensor, batch2: Tensor, *, beta: float = 1, alpha: float = 1
) -> Tensor:
    """beta·input + alpha·Σ_b batch1[b] @ batch2[b]."""
    return _plus(input, sum(bmm(batch1, batch2), 0), beta, alpha)


# Several operands, any axes ------------------------------------------------------------------


def multi_dot(tensors: Sequence[Tensor]) -> Tensor:
    """The product of a chain of matrices, multiplied in the order of the fewest multiplications.

    The first may be a row and the last a column, as vectors.
    """
    items = list(tensors)
    if len(items) < 2:
        raise ShapeError(f"multi_dot: expects at least two tensors, got {len(items)}")
    for i, item in enumerate(items):
        if item.ndim != 2 and (item.ndim != 1 or 0 < i < len(items) - 1):
            raise ShapeError(f"multi_dot: expects matrices, got shape {item.shape} (tensor {i})")
    sizes = [1 if items[0].ndim == 1 else items[0].shape[0], *(t.shape[0] for t in items[1:])]
    sizes.append(1 if items[-1].ndim == 1 else items[-1].shape[1])

    @functools.cache
    def best(first: int, last: int) -> tuple[int, int]:
        """The multiplications of tensors first to last, and before which tensor to divide them."""
        if first == last:
            return 0, first
        return min(
            (
                best(first, k - 1)[0]
                + best(k, last)[0]
                + sizes[first] * sizes[k] * sizes[last + 1],
                k,
            )
            for k in range(first + 1, last + 1)
        )

    def product(first: int, last: int) -> Tensor:
        if first == last:
            return items[first]
        k = best(first, last)[1]
        return matmul(product(first, k - 1), product(k, last))

    return product(0, len(items) - 1)


def chain_matmul(*matrices: Tensor) -> Tensor:
    """The product of a chain of matrices: see `linalg.multi_dot`."""
    return multi_dot(matrices)


def tensordot(
    a: Tensor, b: Tensor, dims: int | Sequence[Sequence[int]] | Sequence[int] = 2
) -> Tensor:
    """Σ of products along pairs of axes: the last `dims` of a with the first of b, or dims[0] of a
    with dims[1] of b. The other axes follow one another in the result."""
    if isinstance(dims, int):
        if not 0 <= dims <= min(a.ndim, b.ndim):
            raise ShapeError(f"tensordot: dims must be from 0 to {min(a.ndim, b.ndim)}, got {dims}")
        pairs: Any = range(a.ndim - dims, a.ndim), range(dims)
    else:
        pairs = [[each] if isinstance(each, int) else each for each in dims]
    left, right = (
        [axis_of("tensordot", d, t.ndim) for d in axes]
        for axes, t in zip(pairs, (a, b), strict=True)
    )
    sizes = [{a.shape[i], b.shape[j]} - {1} for i, j in zip(left, right, strict=True)]
    if any(len(each) > 1 for each in sizes):
        raise ShapeError(
            f"tensordot: sizes along axes {left} of {a.shape} and {right} of {b.shape} must agree"
        )
    names = list(range(a.ndim + b.ndim))
    for i, j in zip(left, right, strict=True):
        names[a.ndim + j] = i
    kept = [n for k, n in enumerate(names) if k not in left and k - a.ndim not in right]
    return _contracted([(a, names[: a.ndim]), (b, names[a.ndim :])], kept)


@takes_tensor
def cross(input: Tensor, other: Tensor, dim: int | None = None) -> Tensor:
    """The vector product along an axis of size 3; without dim the first such axis."""
    shape = broadcast_shape("cross", input.shape, other.shape)
    if dim is None and 3 not in shape:
        raise ShapeError(f"cross: no axis of shape {shape} has size 3")
    axis = shape.index(3) if dim is None else axis_of("cross", dim, len(shape))
    if shape[axis : axis + 1] != (3,):
        raise ShapeError(f"cross: axis {axis} of shape {shape} must have size 3")
    left, right = broadcast_to(input, shape), broadcast_to(other, shape)
    ahead = mul(roll(left, -1, axis), roll(right, -2, axis))
    return sub(ahead, mul(roll(left, -2, axis), roll(right, -1, axis)))


@takes_tensor
def kron(input: Tensor, other: Tensor) -> Tensor:
    """The Kronecker product: each element of the input times the whole other."""
    ndim = max(input.ndim, other.ndim)
    left, right = ((1,) * (ndim - t.ndim) + t.shape for t in (input, other))
    outer_shape = [size for n in left for size in (n, 1)]
    inner_shape = [size for n in right for size in (1, n)]
    product = mul(reshape(input, outer_shape), reshape(other, inner_shape))
    return reshape(product, [n * m for n, m in zip(left, right, strict=True)])


def cdist(x1: Tensor, x2: Tensor, p: float = 2.0, compute_mode: str | None = None) -> Tensor:
    """The p-norm distances of all pairs of rows: (…, P, M), (…, R, M) → (…, P, R).

    compute_mode: any of torch's; the way is the same for all.
    """
    if compute_mode is not None and "use_mm_for_euclid_dist" not in compute_mode:
        raise ValueError(f"cdist: compute_mode must be one of torch's, got {compute_mode!r:.80}")
    if x1.ndim < 2 or x2.ndim < 2 or x1.shape[-1] != x2.shape[-1]:
        raise ShapeError(f"cdist: expects rows of one length, got shapes {x1.shape} and {x2.shape}")
    return vector_norm(sub(unsqueeze(x1, -2), unsqueeze(x2, -3)), p, -1)


def pdist(input: Tensor, p: float = 2.0) -> Tensor:
    """The p-norm distances of all pairs of rows (N, M), each pair once: (N·(N − 1)/2,)."""
    _ranks("pdist", input=(input, 2))
    pairs = triu_indices(len(input), len(input), 1, device=input.device)
    first, second = (index_select(input, 0, places) for places in unbind(pairs))
    return vector_norm(sub(first, second), p, -1)


@takes_tensor
def cov(
    input: Tensor,
    *,
    correction: int = 1,
    fweights: Tensor | None = None,
    aweights: Tensor | None = None,
) -> Tensor:
    """The covariance matrix of variables, a row each, or the variance of one row.

    fweights: how often each column counts; aweights: how much. The sums are divided by
    Σw − correction, where aweights have their share of it: Σw − correction·Σ(w·aweights)/Σw.
    """
    rows = input if is_floating(input.dtype) else to(input, get_default_dtype())
    if rows.ndim > 2:
        raise ShapeError(f"cov: input must have at most 2 dimensions, got shape {input.shape}")
    rows = reshape(rows, (1, -1)) if rows.ndim < 2 else rows
    weights = ones(rows.shape[1], dtype=rows.dtype, device=rows.device)
    for name, given in (("fweights", fweights), ("aweights", aweights)):
        if given is not None and given.shape != weights.shape:
            raise ShapeError(f"cov: {name} must have shape {weights.shape}, got {given.shape}")
        weights = weights if given is None else mul(weights, to(given, rows.dtype))
    total = sum(weights)
    if aweights is None:
        count = sub(total, correction)
    else:
        count = sub(total, div(mul(sum(mul(weights, aweights)), correction), total))
    centred = sub(rows, div(sum(mul(rows, weights), 1, keepdim=True), total))
    return squeeze(div(matmul(mul(centred, weights), t(centred)), clamp(count, 0, None)))


@takes_tensor
def corrcoef(input: Tensor) -> Tensor:
    """The correlation coefficients of variables, a row each, from −1 to 1."""
    matrix = cov(input)
    if matrix.ndim == 0:
        return div(matrix, matrix)
    scale = sqrt(diagonal(matrix))
    return clamp(div(div(matrix, unsqueeze(scale, 1)), unsqueeze(scale, 0)), -1, 1)


# Einstein summation --------------------------------------------------------------------------

Labels = list[Any]  # one a dimension: a letter, or the number of a dimension under the ellipsis


def einsum(equation: str, *operands: Any) -> Tensor:
    """Sums of products by index letters: einsum("bij,bjk->bik", x, y).

    Letters that the result lacks are summed over; a repeated letter of one operand is its diagonal;
    "…" written as three dots stands for dimensions that broadcast. Without "->" the result has, in
    alphabetical order, the letters that occur once.
    """
    if len(operands) == 1 and isinstance(operands[0], (tuple, list)):
        operands = tuple(operands[0])
    if not isinstance(equation, str) or not all(isinstance(t, Tensor) for t in operands):
        raise TypeError("einsum: expects an equation and Tensors")
    left, arrow, right = equation.replace(" ", "").partition("->")
    terms = left.split(",")
    if len(terms) != len(operands):
        raise ValueError(
            f"einsum: {equation!r} has {len(terms)} operands, got {len(operands)} tensors"
        )
    labelled = [
        (t, _labels(equation, term, t.shape)) for t, term in zip(operands, terms, strict=True)
    ]
    hidden = sorted({n for _, labels in labelled for n in labels if isinstance(n, int)})
    if arrow:
        wanted = _letters(equation, right, hidden)
    else:
        times = Counter(letter for letter in left if letter.isalpha())
        wanted = [*hidden, *sorted(letter for letter, n in times.items() if n == 1)]
    known = {label for _, labels in labelled for label in labels}
    if len(set(wanted)) != len(wanted) or not known.issuperset(wanted):
        raise ValueError(
            f"einsum: the letters after -> must be different ones of the operands, got {equation!r}"
        )
    return _contracted([_without_repeats(equation, *each) for each in labelled], wanted)


def _letters(equation: str, term: str, hidden: Sequence[int]) -> Labels:
    before, dots, after = term.partition("...")
    if not (before + after).isalpha() and before + after:
        raise ValueError(f"einsum: expects letters, commas, -> and ..., got {equation!r}")
    return [*before, *(hidden if dots else ()), *after]


def _labels(equation: str, term: str, shape: tuple[int, ...]) -> Labels:
    """A label for every dimension; those under the ellipsis are numbered …, −2, −1."""
    count = len(shape) - len(term.replace("...", ""))
    if count < 0 or (count and "..." not in term):
        raise ShapeError(
            f"einsum: {term!r} in {equation!r} does not fit an operand of shape {shape}"
        )
    return _letters(equation, term, range(-count, 0))


def _without_repeats(equation: str, operand: Tensor, labels: Labels) -> tuple[Tensor, Labels]:
    """The diagonal where a label occurs twice."""
    for label in dict.fromkeys(labels):
        while labels.count(label) > 1:
            first = labels.index(label)
            second = labels.index(label, first + 1)
            if operand.shape[first] != operand.shape[second]:
                raise ShapeError(
                    f"einsum: sizes of {label!r} in {equation!r} must agree, got an operand of "
                    f"shape {operand.shape}"
                )
            operand = movedim(diagonal(operand, 0, first, second), -1, first)
            labels = labels[:second] + labels[second + 1 :]
    return operand, labels


def _contracted(operands: list[tuple[Tensor, Labels]], wanted: Labels) -> Tensor:
    """Σ over all labels that are not wanted of the product of all operands."""
    sizes: dict[Any, int] = {}
    for operand, labels in operands:
        for label, size in zip(labels, operand.shape, strict=True):
            if sizes.setdefault(label, size) == 1:
                sizes[label] = size
            elif size not in (1, sizes[label]):
                raise ShapeError(
                    f"einsum: the sizes of {label!r} must agree, got {sizes[label]} and {size}"
                )
    # A dimension of size 1 that broadcasts does not count.
    rest = [_dropped(t, [n for n in labels if t.shape[labels.index(n)] != sizes[n]], labels, False)
            for t, labels in operands]  # fmt: skip
    result, labels = rest.pop(0)
    while rest:
        other, other_labels = rest.pop(0)
        needed = {*wanted, *(label for _, more in rest for label in more)}
        result, labels = _pair(result, labels, other, other_labels, needed)
    result, labels = _dropped(result, [n for n in labels if n not in wanted], labels)
    return permute(result, tuple(labels.index(label) for label in wanted))


def _dropped(
    operand: Tensor, dropped: Labels, labels: Labels, summed: bool = True
) -> tuple[Tensor, Labels]:
    """Summed over some of its labels, or, if those have size 1, without them."""
    if not dropped:
        return operand, labels
    kept = [label for label in labels if label not in dropped]
    if summed:
        return sum(operand, tuple(labels.index(label) for label in dropped)), kept
    return reshape(operand, [operand.shape[labels.index(label)] for label in kept]), kept


def _pair(
    left: Tensor, left_labels: Labels, right: Tensor, right_labels: Labels, needed: set[Any]
) -> tuple[Tensor, Labels]:
    """The product of two operands, summed over the labels that nothing else needs."""
    only = [n for n in left_labels if n not in right_labels and n not in needed]
    left, left_labels = _dropped(left, only, left_labels)
    only = [n for n in right_labels if n not in left_labels and n not in needed]
    right, right_labels = _dropped(right, only, right_labels)
    batch = [n for n in left_labels if n in right_labels and n in needed]
    inner = [n for n in left_labels if n in right_labels and n not in needed]
    rows = [n for n in left_labels if n not in right_labels]
    columns = [n for n in right_labels if n not in left_labels]
    left = permute(left, tuple(left_labels.index(n) for n in (*batch, *rows, *inner)))
    right = permute(right, tuple(right_labels.index(n) for n in (*batch, *inner, *columns)))
    b, r, i = len(batch), len(rows), len(inner)
    batch_shape, row_shape, inner_shape = left.shape[:b], left.shape[b : b + r], left.shape[b + r :]
    column_shape = right.shape[b + i :]
    shape, labels = (*batch_shape, *row_shape, *column_shape), [*batch, *rows, *columns]
    if not inner or not is_floating(left.dtype):
        # No sum, or one of integers: the product with all its axes.
        full = mul(
            reshape(left, (*batch_shape, *row_shape, *inner_shape, *(1 for _ in columns))),
            reshape(right, (*batch_shape, *(1 for _ in rows), *inner_shape, *column_shape)),
        )
        axes = tuple(range(b + r, b + r + i))
        return (sum(full, axes) if inner else full), labels
    # (B, M, K) @ (B, K, N) → (B, M, N)
    B, M, K, N = (math.prod(each) for each in (batch_shape, row_shape, inner_shape, column_shape))
    product = matmul(reshape(left, (B, M, K)), reshape(right, (B, K, N)))
    return reshape(product, shape), labels
