"""Settings of the CUDA backend.

    minigrad.backends.cuda.allow_tf32 = True

A captured step keeps the settings under which it was captured.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

# Matrix products and convolutions in float32 round their factors to TF32, which has 10 bits behind
# the point instead of 23, and multiply them on tensor cores. Sums stay in float32.
allow_tf32 = False


@contextmanager
def sdp_kernel(*_: Any, **options: Any) -> Iterator[None]:
    """A context that changes nothing: `scaled_dot_product_attention` has one algorithm."""
    yield
