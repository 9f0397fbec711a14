"""Settings of the backends, under torch's names: `minigrad.backends.cuda.allow_tf32`."""

from . import cpu as cpu
from . import cuda as cuda
from . import cudnn as cudnn


def set_float32_matmul_precision(precision: str) -> None:
    """Products in float32 with "highest"; "high" and "medium" set `cuda.allow_tf32` and
    `cpu.allow_fast_winograd`."""
    if precision not in ("highest", "high", "medium"):
        raise ValueError(
            "set_float32_matmul_precision: precision must be 'highest', 'high' or 'medium', got "
            f"{precision!r}"
        )
    cuda.allow_tf32 = cpu.allow_fast_winograd = precision != "highest"


def get_float32_matmul_precision() -> str:
    """Whether products may be computed in TF32: "high", else "highest"."""
    return "high" if cuda.allow_tf32 else "highest"


def use_deterministic_algorithms(mode: bool, *, warn_only: bool = False) -> None:
    """Nothing: all algorithms are deterministic."""
