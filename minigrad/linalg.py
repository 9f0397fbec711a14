"""Linear algebra under torch.linalg's names."""

from __future__ import annotations

from .ops.vector_norm import vector_norm

__all__ = ["vector_norm"]
