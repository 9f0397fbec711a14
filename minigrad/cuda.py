"""NVIDIA GPUs, under torch.cuda's names.

    x = mg.randn(64, 3, 32, 32, device="cuda")
    model.to("cuda")

Work on the GPU is queued and runs while Python goes on; `item`, `tolist`, `cpu` and printing wait
for it, `synchronize` does nothing else. All work is queued on one stream, in the order of the
program.
"""

from __future__ import annotations

from typing import Any

from .errors import DeviceError
from .runtime.cuda import checks, memory
from .runtime.cuda.driver import driver
from .runtime.cuda.memory import Stats


def why_unavailable() -> str | None:
    """What is missing for "cuda" to work; None if nothing is."""
    try:
        driver()
    except DeviceError as error:
        return str(error)
    return None


def is_available() -> bool:
    """Whether "cuda" works here; `why_unavailable()` says why not."""
    return why_unavailable() is None


def device_count() -> int:
    """The GPUs that the driver sees, of which the first one is used; 0 without a driver."""
    return driver().device_count if is_available() else 0


def current_device() -> int:
    """The number of the GPU in use: 0."""
    driver()
    return 0


def get_device_name(device: Any = None) -> str:
    """Such as "NVIDIA H200"."""
    return driver().name


def get_device_capability(device: Any = None) -> tuple[int, int]:
    """The compute capability, such as (9, 0)."""
    return driver().compute_capability


def synchronize() -> None:
    """Wait until all queued work is done; raises what value checks on the GPU have found."""
    checks.run()


def stream() -> int:
    """The handle of the stream on which all work is queued, for other libraries."""
    return int(driver().stream)


def memory_stats() -> Stats:
    """Bytes of the arrays alive and of the memory held, and the most of each so far."""
    return memory.stats()


def memory_allocated() -> int:
    """Bytes of the arrays alive."""
    return memory.stats().allocated


def max_memory_allocated() -> int:
    """The most bytes alive at one time since the start or `reset_peak_memory_stats`."""
    return memory.stats().max_allocated


def memory_reserved() -> int:
    """Bytes held from the driver: in use, or kept for reuse."""
    return memory.stats().reserved


def reset_peak_memory_stats() -> None:
    """The maxima start again from what is alive now."""
    memory.reset_peaks()


def mem_get_info() -> tuple[int, int]:
    """Free and total bytes of the device."""
    return driver().memory_info()


def empty_cache() -> None:
    """Give the memory kept for reuse back to the driver."""
    memory.release()
