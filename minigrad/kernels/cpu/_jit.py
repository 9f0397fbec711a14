"""JIT compilation: how every CPU kernel is compiled, with one set of flags, one cache on disk, one
progress line.

A cached kernel is compiled again when the file that defines it changes (_cache.py), but not when a
helper or a constant in another file does. So what several files' kernels use lives in geometry.py,
in runtime/threads.py, formulas.py, compiled/__init__.py, in the modules of this folder whose names
begin with an underscore, or, for the kernels of a package like conv/, in its modules but for
plan.py, which chooses among kernels and is used by none. The cache lies in a folder named by a
digest of all those, of the processor and of the versions (`made_for`).

Kernels close over plain ints at most. A closure that holds a jitted function or an intrinsic makes
Numba's cache miss in every new process, so helpers and intrinsics are module globals.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any

import llvmlite.binding as llvm
import numba
from numba.core.ccallback import CFunc
from numba.core.codegen import get_host_cpu_features
from numba.extending import register_jitable

from ...runtime.cache import cache_folder, shared_folders
from ...runtime.compilation import report_compilations
from ...runtime.threads import ADDRESS
from ..formulas import (
    box_overlap,
    grid_position,
    grid_tap,
    product,
    roi_axis,
    roi_cells,
    roi_corners,
    round_half_away,
)
from ._cache import KernelCache
from ._compiler import Compiled, Linked
from ._simd import VECTOR_BITS

# Contraction (fused multiply-add) and reassociation are allowed. NaN, infinity and signed zeros
# keep their meaning.
FASTMATH = {"contract", "reassoc"}


def shared_sources() -> list[Path]:
    folder = Path(__file__).resolve().parent
    packages = [path for path in folder.glob("*/*.py") if path.stem not in ("__init__", "plan")]
    shared = [*folder.glob("_[!_]*.py"), *packages]
    package = folder.parents[1]
    above = [package / "geometry.py", package / "runtime/threads.py", folder.parent / "formulas.py"]
    above.append(folder.parent / "compiled/__init__.py")
    return [*above, *sorted(shared)]


@cache
def made_for() -> dict[str, str]:
    """What compiled kernels depend on, besides their own files."""
    sources = hashlib.sha256()
    for source in shared_sources():
        sources.update(source.read_bytes())
    features = numba.config.CPU_FEATURES or get_host_cpu_features()
    return {
        "Numba": numba.__version__,
        "Python": ".".join(map(str, sys.version_info[:2])),
        "processor": numba.config.CPU_NAME or llvm.get_host_cpu_name(),
        "its features": hashlib.sha256(features.encode()).hexdigest()[:8],
        "vectors": f"{VECTOR_BITS} bits",
        "minigrad's sources": sources.hexdigest()[:8],
    }


_NAME = f"cpu-{hashlib.sha256(repr(made_for()).encode()).hexdigest()[:16]}"
CACHE_DIR = cache_folder(_NAME)
_FOLDERS = [CACHE_DIR, *shared_folders(_NAME, made_for())]
compilations = report_compilations(__package__, CACHE_DIR)


_OPTIONS = {"nopython": True, "nogil": True, "error_model": "numpy", "fastmath": FASTMATH}


def _compiled(function: Callable[..., Any]) -> Any:
    if numba.config.DISABLE_JIT:
        return function
    return Compiled(function, _OPTIONS, KernelCache(function, _FOLDERS))


def _linked(function: Callable[..., Any], **options: Any) -> Any:
    return function if numba.config.DISABLE_JIT else Linked(function, {**_OPTIONS, **options})


class Kernel(partial):  # type: ignore[type-arg]
    """A compiled function (`func`); the first argument of a parallel one, the span, is given."""

    @property
    def py_func(self) -> Callable[..., Any]:
        return self.func.py_func

    @classmethod
    def watch(cls, watcher: Callable[[Kernel, tuple[Any, ...]], Any] | None) -> None:
        """Calls go to watcher(kernel, arguments) from now on; with None, to the kernels again.

        The class is changed, so that nobody pays for the question when nobody watches.
        """
        if watcher is not None:
            cls.__call__ = lambda kernel, *args: watcher(kernel, args)  # type: ignore[assignment]
        elif "__call__" in vars(cls):
            del cls.__call__


def kernel(function: Callable[..., Any]) -> Kernel:
    """A parallel kernel: function(span, …) has a loop over tasks (_tasks.py), which threads share.
    It is called without the span."""
    return Kernel(_compiled(function), ADDRESS)


def serial_kernel(function: Callable[..., Any]) -> Kernel:
    """A kernel on the calling thread alone: safe in a background thread, cheap for small work."""
    return Kernel(_compiled(function))


def callback(signature: Any) -> Callable[..., Any]:
    """A function with an address, compiled at once."""

    def compiled(function: Callable[..., Any]) -> Any:
        types = signature.args, signature.return_type
        made = CFunc(function, types, locals={}, options={"error_model": "numpy"})
        made._cache = KernelCache(function, _FOLDERS)
        try:
            made.compile()
        finally:
            made._cache.release()
        return made

    return compiled


def helper(function: Callable[..., Any]) -> Any:
    """A function that kernels call; it is compiled into each of them."""
    return _linked(function)


def exact_helper(function: Callable[..., Any]) -> Any:
    """A helper whose arithmetic stays as it is written: for rounding that decides an index."""
    return _linked(function, fastmath=False)


def inlined(function: Callable[..., Any]) -> Any:
    """A helper whose machine code is copied into the loops that call it.

    For bodies of a few instructions: an array argument is some fifteen words on the stack.
    """
    return _linked(function, forceinline=True)


# Their arithmetic stays as it is written.
for _formula in (
    product, round_half_away, roi_cells, roi_axis, roi_corners, grid_position, grid_tap,
    box_overlap,
):  # fmt: skip
    register_jitable(fastmath=False)(_formula)
