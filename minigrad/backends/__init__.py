"""Settings of the backends, under torch's names: `minigrad.backends.cuda.allow_tf32`."""

from . import cpu as cpu
from . import cuda as cuda
from . import cudnn as cudnn
from . import mps as mps


def set_float32_matmul_precision(precision: str) -> None:
    """How exact products in float32 are: "highest", the default, or faster with "high" (or
    "medium", which is the same). It holds from the next operation on.

    "high" sets two switches. `cuda.allow_tf32`: factors are rounded to TF32 on the GPU. And
    `cpu.allow_fast_winograd`: 3×3 convolutions of stride 1 with 16 channels or more, and their
    gradients, take Winograd's F(4×4, 3×3) on the CPU where it is faster, 1.1 to 1.6 times as fast
    as what "highest" takes. Their largest error is then about 2e-6 of the largest result (measured
    against float64 on normally distributed numbers; below 1e-5 in all cases drawn), instead of
    5e-7. A result is exact to that part of the largest of the 6×6 pixels around it, not of its own
    window; infinity and NaN stay in the windows that hold them. float64 is computed as before.
    Raises ValueError for any other precision.
    """
    if precision not in ("highest", "high", "medium"):
        raise ValueError(
            "set_float32_matmul_precision: precision must be 'highest', 'high' or 'medium', got "
            f"{precision!r}"
        )
    cuda.allow_tf32 = cpu.allow_fast_winograd = precision != "highest"


def get_float32_matmul_precision() -> str:
    """ "high" if one of the switches of set_float32_matmul_precision is set, else "highest"."""
    return "high" if cuda.allow_tf32 or cpu.allow_fast_winograd else "highest"


def use_deterministic_algorithms(mode: bool, *, warn_only: bool = False) -> None:
    """Nothing: all algorithms are deterministic."""
