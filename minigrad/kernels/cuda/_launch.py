"""How every CUDA kernel is written, compiled and launched.

    @kernel
    def _scale(real):
        def scale(out, input, factor, n):
            for i in range(cuda.grid(1), n, cuda.gridsize(1)):
                out[i] = real(2) * input[i] * factor
        return scale

    launch(_scale(out.dtype), over(n), out, input, factor, n)

A kernel is a factory: its arguments are the constants that are compiled into the body, a dtype
first (the body sees NumPy's scalar type, here `real`), then ints such as the sizes of a tile. The
body sees arrays as pointers to their first element; shapes and strides are passed as ints.

Types follow from the arguments of a launch: an array is a pointer to its dtype (bool as uint8), a
Python int an int32, or an int64 where it needs one, a Python float a number of the kernel's dtype
(float64 if that is not floating), a NumPy scalar its own type, a bool a boolean. None is None: the
body may ask `if bias is not None`, which costs nothing. Each combination is compiled once, to a
cubin for the device at hand, and kept on disk under a digest of this folder.
"""

from __future__ import annotations

import atexit
import ctypes
import inspect
import json
import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from ...runtime.cuda.array import DeviceArray
from ...runtime.cuda.driver import driver
from ...runtime.cuda.recording import current
from ._device import THREADS, Blocks

_GRID = 4096  # blocks; what is left is done in further rounds
_CTYPES = {
    "int32": ctypes.c_int32, "int64": ctypes.c_int64, "uint32": ctypes.c_uint32,
    "uint64": ctypes.c_uint64, "float32": ctypes.c_float, "float64": ctypes.c_double,
    "boolean": ctypes.c_bool, "uint8": ctypes.c_uint8,
    "none": ctypes.c_uint64,  # Numba gives None a parameter, too
}  # fmt: skip


KERNELS: list[Kernel] = []


class Kernel:
    """A factory of kernel bodies; calling it gives the Variant for these constants. since: the
    oldest architecture that it compiles for, 80 for sm_80."""

    def __init__(self, make: Callable[..., Callable[..., None]], since: int = 0) -> None:
        self.make, self.since = make, since
        self.module, self.name = make.__module__.rpartition(".")[2], make.__name__.lstrip("_")
        self.names = tuple(inspect.signature(make).parameters)[1:]  # of the constants
        self.variants: dict[Any, Variant] = {}
        KERNELS.append(self)

    def __call__(self, dtype: Any, *constants: int) -> Variant:
        dtype = np.dtype(dtype)
        key = dtype, *constants
        variant = self.variants.get(key)
        if variant is None:
            variant = self.variants[key] = Variant(self, dtype, constants)
        return variant


class Variant:
    """A kernel with its constants. functions: what the driver launches, by the arguments' types.
    threads: of the largest block that was launched."""

    def __init__(self, kernel: Kernel, dtype: np.dtype, constants: tuple[int, ...]) -> None:
        self.kernel, self.dtype, self.constants = kernel, dtype, constants
        self.body = kernel.make(_stored(dtype).type, *constants)
        self.real = dtype if dtype.kind == "f" else np.dtype(np.float64)
        self.functions: dict[tuple[str, ...], Any] = {}
        self.threads: dict[tuple[str, ...], int] = {}

    def __repr__(self) -> str:
        constants = ", ".join([self.dtype.name, *map(str, self.constants)])
        return f"{self.kernel.module}.{self.kernel.name}({constants})"


def kernel(make: Callable[..., Callable[..., None]]) -> Kernel:
    """Decorates a factory of kernel bodies."""
    return Kernel(make)


def kernel_since(architecture: int) -> Callable[[Callable[..., Callable[..., None]]], Kernel]:
    """Decorates a factory whose kernels need sm_<architecture> or newer."""
    return lambda make: Kernel(make, architecture)


def over(n: int, threads: int = THREADS) -> tuple[Blocks, Blocks]:
    """Grid and block for a kernel that goes over n elements in steps of the whole grid."""
    return (max(1, min(-(-n // threads), _GRID)),), (threads,)


def launch(variant: Variant, shape: tuple[Blocks, Blocks], *args: Any) -> None:
    """Queue the kernel. shape: (grid, block). Does nothing for an empty grid."""
    grid, block = shape
    if 0 in grid:
        return
    if (recording := current.recording) is not None:
        for arg in args:
            if isinstance(arg, DeviceArray):
                recording.touch(arg)
    types, values = zip(*[_argument(arg, variant.real) for arg in args], strict=True)
    function = variant.functions.get(types)
    if function is None:
        function = variant.functions[types] = _prepare(variant, types)
    variant.threads[types] = max(math.prod(block), variant.threads.get(types, 0))
    driver().launch(function, grid, block, (values, tuple(_ctype(t) for t in types)))


def _argument(value: Any, real: np.dtype) -> tuple[str, Any]:
    """The name of the argument's type, and what is passed."""
    if isinstance(value, DeviceArray):
        dtype = _stored(value.dtype).name
        return f"{dtype}*", value.pointer
    if value is None:
        return "none", 0
    if isinstance(value, bool | np.bool_):
        return "boolean", bool(value)
    if isinstance(value, np.generic):
        return value.dtype.name, value.item()
    if isinstance(value, int):
        return ("int32" if -(2**31) <= value < 2**31 else "int64"), value
    if isinstance(value, float):
        return real.name, value
    raise TypeError(f"a kernel takes arrays and numbers, not {type(value).__name__}")


def _stored(dtype: np.dtype) -> np.dtype:
    return np.dtype(np.uint8) if dtype.kind == "b" else dtype


def _ctype(name: str) -> Any:
    return ctypes.c_void_p if name.endswith("*") else _CTYPES[name]


def _prepare(variant: Variant, types: tuple[str, ...]) -> Any:
    """The loaded image's function, which the driver launches."""
    from . import _compile

    image, entry = _compile.cached_image(variant, types, driver().compute_capability)
    return driver().load(image, entry)


def _write_launches(folder: Path) -> None:
    """Everything that this process launched so far, as lines of JSON for check.py."""
    found: list[dict[str, Any]] = [
        {
            "module": kernel.module, "name": kernel.make.__name__, "dtype": variant.dtype.name,
            "constants": list(variant.constants), "types": list(types),
            "threads": threads,
        }
        for kernel in KERNELS for variant in kernel.variants.values()
        for types, threads in variant.threads.items()
    ]  # fmt: skip
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{os.getpid()}.jsonl"
    file.write_text("".join(json.dumps(each) + "\n" for each in found))


if _launches := os.environ.get("MINIGRAD_CUDA_LAUNCHES"):
    atexit.register(_write_launches, Path(_launches))
