"""Linear algebra under torch.linalg's names."""

from __future__ import annotations

from typing import Any

from .engine import Tensor
from .ops.matmul import matmul
from .ops.products import cross, multi_dot
from .ops.vector_norm import vector_norm

__all__ = ["cross", "matmul", "multi_dot", "norm", "vector_norm"]


def norm(
    A: Tensor, ord: Any = None, dim: Any = None, keepdim: bool = False, *, dtype: Any = None
) -> Tensor:
    """The norm of vectors along one dim, or the square root of the sum of squares of all elements,
    or of those along `dim`. Of matrices only that one, ord="fro"; ValueError for others."""
    dims = A.ndim if dim is None else 1 if isinstance(dim, int) else len(dim)
    if ord == "fro" and dims != 2:
        raise ValueError(f"linalg.norm: ord='fro' is one of matrices, got {dims} dimensions")
    if ord is not None and ord != "fro" and dims != 1:
        raise ValueError(
            f"linalg.norm: of matrices there is ord='fro' only, got {ord!r}; name one dim for the "
            "norm of vectors"
        )
    return vector_norm(A, 2 if ord in (None, "fro") else ord, dim, keepdim, dtype=dtype)
