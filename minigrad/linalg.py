"""Linear algebra under torch.linalg's names."""

from __future__ import annotations

from .ops.matmul import matmul
from .ops.products import cross, multi_dot
from .ops.vector_norm import vector_norm

__all__ = ["cross", "matmul", "multi_dot", "vector_norm"]
