"""What the machine can do, measured with torch in the same run: no operation should need longer.

sgemm is the rate of multiply-adds, copy the bandwidth of memory. An operation may pass 100 % of
them: padding needs no products, and small arrays stay in the caches.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

SGEMM_SIZE = 1024
COPY_BYTES = 64 * 2**20

# What one call does: floating-point operations, or bytes read and written.
WORK = {"sgemm": 2 * SGEMM_SIZE**3, "copy": 2 * COPY_BYTES}
UNITS = {"sgemm": "GFLOP/s", "copy": "GB/s"}


def floor(name: str, threads: int) -> Callable[[], list[Any]]:
    """A function that does the work once."""
    import torch

    torch.set_num_threads(threads)
    if name == "sgemm":
        left, right, product = (torch.rand(SGEMM_SIZE, SGEMM_SIZE) for _ in range(3))
        return lambda: [torch.mm(left, right, out=product)]
    source, target = torch.rand(COPY_BYTES // 4), torch.zeros(COPY_BYTES // 4)
    return lambda: [target.copy_(source)]
