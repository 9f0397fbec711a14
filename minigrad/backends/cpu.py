"""Settings of the CPU backend.

minigrad.backends.cpu.allow_fast_winograd = True
"""

from __future__ import annotations

# 3×3 convolutions in float32, and their gradients, may be computed by Winograd's F(4×4, 3×3) where
# it is faster. set_float32_matmul_precision, which sets this, says what it costs.
allow_fast_winograd = False
