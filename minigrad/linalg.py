"""Linear algebra under torch.linalg's names."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from .dtypes import floating_dtype
from .engine import Tensor, is_grad_enabled
from .errors import ShapeError
from .ops.matmul import matmul
from .ops.products import cross, multi_dot
from .ops.transfer import host, placed
from .ops.vector_norm import vector_norm

__all__ = ["cross", "eigh", "matmul", "multi_dot", "norm", "vector_norm"]


class Eigen(NamedTuple):
    """What eigh returns."""

    eigenvalues: Tensor
    eigenvectors: Tensor


def eigh(A: Tensor, UPLO: str = "L") -> Eigen:
    """Eigenvalues (…, n) of symmetric matrices (…, n, n), in ascending order, and the matrices
    whose columns are their eigenvectors, of length 1 and either sign.

    Of A the lower triangle is read, with UPLO="U" the upper one. By LAPACK on the host: a GPU is
    waited for. There is no gradient: RuntimeError if one would be needed.
    """
    floating_dtype("linalg.eigh", A=A.dtype)
    if A.ndim < 2 or A.shape[-1] != A.shape[-2]:
        raise ShapeError(f"linalg.eigh: A must hold square matrices, got shape {A.shape}")
    if UPLO not in ("L", "U"):
        raise ValueError(f"linalg.eigh: UPLO must be 'L' or 'U', got {UPLO!r}")
    if A.requires_grad and is_grad_enabled():
        raise RuntimeError("linalg.eigh: it has no gradient; pass A.detach()")
    matrices = host(A)
    if not np.isfinite(matrices).all():
        raise ValueError(f"linalg.eigh: A must be finite, got infinity or NaN in {A.shape}")
    values, vectors = np.linalg.eigh(matrices, "U" if UPLO == "U" else "L")
    return Eigen(*(Tensor(placed(each, A.device), A.device) for each in (values, vectors)))


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
