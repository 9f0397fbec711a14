"""Matrix products and the linear layer."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st

from minigrad import DTypeError, ShapeError
from minigrad.ops.matmul import linear, matmul
from minigrad.testing import Case, ErrorCase, OpSpec
from minigrad.testing.strategies import floats

SIZES = st.sampled_from((1, 2, 3, 7, 8, 9, 16, 17, 33))


@st.composite
def matmul_cases(draw: st.DrawFn) -> Case:
    """Every pairing of ranks that torch takes, with leading dimensions that broadcast."""
    M, K, N = draw(SIZES), draw(SIZES), draw(SIZES)
    left_rank, right_rank = draw(st.integers(1, 4)), draw(st.integers(1, 4))
    batch = draw(st.lists(st.sampled_from((0, 1, 2, 3)), min_size=2, max_size=2))

    def leading(rank: int) -> tuple[int, ...]:
        kept = batch[len(batch) - max(rank - 2, 0) :]
        return tuple(draw(st.sampled_from((1, size))) for size in kept)

    left = (K,) if left_rank == 1 else (*leading(left_rank), M, K)
    right = (K,) if right_rank == 1 else (*leading(right_rank), K, N)
    return Case((draw(floats(left)), draw(floats(right))))


@st.composite
def linear_cases(draw: st.DrawFn) -> Case:
    K, N = draw(SIZES), draw(SIZES)
    rows = draw(st.sampled_from(((), (0,), (1,), (5,), (8,), (17,), (2, 3), (2, 1, 4))))
    output = draw(st.sampled_from(((), (N,), (N,))))
    weight = draw(floats((*output, K)))
    bias = draw(floats(output)) if output and draw(st.booleans()) else None
    return Case((draw(floats((*rows, K))), weight, bias))


def zeros(*shape: int) -> np.ndarray:
    return np.zeros(shape)


SPECS = [
    OpSpec(
        name="matmul",
        function=matmul,
        oracle=lambda torch, left, right: torch.matmul(left, right),
        cases=matmul_cases(),
        accepts_integers=True,
        errors=(
            ErrorCase((zeros(2, 3), zeros(4, 5)), {}, ShapeError, r"matmul: inner .*\(2, 3\)"),
            ErrorCase((zeros(3), zeros(4)), {}, ShapeError, r"matmul: inner sizes"),
            ErrorCase((zeros(), zeros(4)), {}, ShapeError, r"matmul: .* at least one dimension"),
            ErrorCase(
                (zeros(2, 3, 4), zeros(5, 4, 3)), {}, ShapeError, r"matmul: shapes .* broadcast"
            ),
            ErrorCase(
                (np.zeros((2, 2), np.int64), zeros(2, 2)), {}, DTypeError, r"matmul: .*int64"
            ),
        ),
    ),
    OpSpec(
        name="linear",
        function=linear,
        oracle=lambda torch, *args: torch.nn.functional.linear(*args),
        cases=linear_cases(),
        errors=(
            ErrorCase((zeros(2, 3), zeros(4, 5)), {}, ShapeError, r"linear: .*5 input features"),
            ErrorCase((zeros(2, 5), zeros(3, 4, 5)), {}, ShapeError, r"linear: weight must"),
            ErrorCase(
                (zeros(2, 5), zeros(4, 5), zeros(5)), {}, ShapeError, r"linear: bias .*\(4,\)"
            ),
        ),
    ),
]
