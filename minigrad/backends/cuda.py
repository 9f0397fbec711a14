"""Settings of the CUDA backend.

    minigrad.backends.cuda.allow_tf32 = True

A captured step keeps the settings under which it was captured.
"""

from __future__ import annotations

# Matrix products and convolutions in float32 round their factors to TF32, which has 10 bits behind
# the point instead of 23, and multiply them on tensor cores. Sums stay in float32.
allow_tf32 = False
