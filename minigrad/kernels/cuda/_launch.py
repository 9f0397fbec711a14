"""How every CUDA kernel is written, compiled and launched.

    @kernel
    def _scale(real):
        def scale(out, input, factor, n):
            for i in span(cuda.grid(1), n, cuda.gridsize(1)):
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
import inspect
import json
import math
import os
import struct
import threading
from collections.abc import Callable
from ctypes import c_float
from pathlib import Path
from types import NoneType
from typing import Any

import numpy as np

from ...errors import DeviceError
from ...runtime.cuda.array import DeviceArray
from ...runtime.cuda.driver import Driver, driver
from ...runtime.cuda.recording import current
from ._device import THREADS, Blocks

_GRID = 4096  # blocks; what is left is done in further rounds
_MAX_PARAMETERS = 64

# How an argument of each type is packed, as `struct` names it; pointers are addresses.
_FORMATS = {
    "boolean": "?", "int8": "b", "uint8": "B", "int16": "h", "uint16": "H", "int32": "i",
    "uint32": "I", "int64": "q", "uint64": "Q", "float32": "f", "float64": "d",
    "none": "Q",  # Numba gives None a parameter, too
}  # fmt: skip
_NAMES = {NoneType: "none", bool: "boolean", np.bool_: "boolean", int: "int32"}


KERNELS: list[Kernel] = []


class Kernel:
    """A factory of kernel bodies; calling it gives the Variant for these constants. since: the
    oldest architecture that it compiles for, 80 for sm_80."""

    def __init__(self, make: Callable[..., Callable[..., None]], since: int = 0) -> None:
        self.make, self.since = make, since
        self.module, self.name = make.__module__.rpartition(".")[2], make.__name__.lstrip("_")
        self.names = tuple(inspect.signature(make).parameters)[1:]  # of the constants
        self.variants: dict[Any, Variant] = {}
        if make.__module__.startswith(f"{__package__}."):  # a test makes kernels of its own
            KERNELS.append(self)

    def __call__(self, dtype: Any, *constants: int) -> Variant:
        dtype = np.dtype(dtype)
        key = dtype, *constants
        variant = self.variants.get(key)
        if variant is None:
            variant = self.variants[key] = Variant(self, dtype, constants)
        return variant


class Variant:
    """A kernel with its constants. functions: by the kinds of their arguments, see `launch`."""

    def __init__(self, kernel: Kernel, dtype: np.dtype, constants: tuple[int, ...]) -> None:
        self.kernel, self.dtype, self.constants = kernel, dtype, constants
        self.body = kernel.make(_stored(dtype).type, *constants)
        self.real = dtype if dtype.kind == "f" else np.dtype(np.float64)
        self.functions: dict[tuple[Any, ...], Function] = {}

    def function_for(self, kinds: tuple[Any, ...]) -> Function:
        function = self.functions.get(kinds)
        if function is None:
            types = tuple([_type_name(kind, self.real) for kind in kinds])
            function = self.functions[kinds] = Function(self, types)
        return function

    def __repr__(self) -> str:
        constants = ", ".join([self.dtype.name, *map(str, self.constants)])
        return f"{self.kernel.module}.{self.kernel.name}({constants})"


class Function:
    """A variant for arguments of certain types. pack: writes them into parameter cells. handles:
    what the driver launches, by the device. blocks: their shapes so far."""

    def __init__(self, variant: Variant, types: tuple[str, ...]) -> None:
        assert len(types) <= _MAX_PARAMETERS
        self.variant, self.types = variant, types
        self.pack = struct.Struct("".join(_cell(format_of(name)) for name in types)).pack_into
        self.handles: dict[int, Any] = {}
        self.blocks: set[Blocks] = set()

    def load(self, driver: Driver) -> Any:
        """The handle for the device; compiles the function if need be."""
        from . import _compile

        image, entry = _compile.cached_image(self.variant, self.types, driver.compute_capability)
        handle = self.handles[driver.index] = driver.load(image, entry)
        return handle


class _Parameters(threading.local):
    """A thread's parameters: cells of 8 bytes for the values and the list of the cells' addresses,
    which is the same for every kernel. The driver copies the values before its launch returns."""

    def __init__(self) -> None:
        self.cells = np.zeros(_MAX_PARAMETERS, np.uint64)
        first = self.cells.ctypes.data
        self._addresses = first + self.cells.itemsize * np.arange(_MAX_PARAMETERS, dtype=np.uint64)
        self.address = self._addresses.ctypes.data


_parameters = _Parameters()


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
    """Queue the kernel on the device of its arrays, which must be one. shape: (grid, block). Does
    nothing for an empty grid."""
    grid, block = shape
    if 0 in grid:
        return
    if (recording := current.recording) is not None:
        for arg in args:
            if isinstance(arg, DeviceArray):
                recording.touch(arg)
    # A kind tells the argument's type, a value is what is packed.
    kinds: list[Any] = list(map(type, args))
    values: list[Any] = list(args)
    queue: Driver | None = None
    for at, kind in enumerate(kinds):
        if kind is int:
            continue
        if kind is DeviceArray:
            array = values[at]
            kinds[at], values[at] = array.dtype, array.pointer
            if array.driver is not queue:
                if queue is not None:
                    raise _mixed(variant, args)
                queue = array.driver
        elif kind is NoneType:
            values[at] = 0
        elif kind is float and variant.real.itemsize == 4:
            values[at] = c_float(values[at]).value  # infinity, where `pack` would raise an error
    function = variant.function_for(tuple(kinds))
    try:
        function.pack(_parameters.cells, 0, *values)
    except struct.error:  # an int32 that needs more
        for at, kind in enumerate(kinds):
            if kind is int and not -(2**31) <= values[at] < 2**31:
                kinds[at] = np.int64
        function = variant.function_for(tuple(kinds))
        function.pack(_parameters.cells, 0, *values)
    function.blocks.add(block)
    queue = queue or driver()
    handle = function.handles.get(queue.index) or function.load(queue)
    queue.launch(handle, grid, block, _parameters.address)


def _mixed(variant: Variant, args: tuple[Any, ...]) -> DeviceError:
    devices = sorted({arg.driver.index for arg in args if isinstance(arg, DeviceArray)})
    listed = ", ".join(f"cuda:{index}" for index in devices)
    return DeviceError(
        f"{variant.kernel.name}: all tensors must be on one device, got tensors on {listed}; move "
        "with .to(device)"
    )


def _type_name(kind: Any, real: np.dtype) -> str:
    """Of an argument of this kind; real: of a Python float."""
    if isinstance(kind, np.dtype):
        return f"{_stored(kind).name}*"
    if kind in _NAMES:
        return _NAMES[kind]
    if kind is float:
        return real.name
    if issubclass(kind, np.generic):
        return np.dtype(kind).name
    raise TypeError(f"a kernel takes arrays and numbers, not {kind.__name__}")


def format_of(name: str) -> str:
    """How an argument of this type is packed."""
    return "Q" if name.endswith("*") else _FORMATS[name]


def _cell(format: str) -> str:
    """The format, filled up to 8 bytes."""
    return f"{format}{8 - struct.calcsize(format)}x"


def _stored(dtype: np.dtype) -> np.dtype:
    return np.dtype(np.uint8) if dtype.kind == "b" else dtype


def _write_launches(folder: Path) -> None:
    """Everything that this process launched so far, as lines of JSON for check.py."""
    found: list[dict[str, Any]] = [
        {
            "module": kernel.module, "name": kernel.make.__name__, "dtype": variant.dtype.name,
            "constants": list(variant.constants), "types": list(each.types),
            "threads": max(map(math.prod, each.blocks)),
        }
        for kernel in KERNELS for variant in kernel.variants.values()
        for each in variant.functions.values() if each.blocks
    ]  # fmt: skip
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{os.getpid()}.jsonl"
    file.write_text("".join(json.dumps(each) + "\n" for each in found))


if _launches := os.environ.get("MINIGRAD_CUDA_LAUNCHES"):
    atexit.register(_write_launches, Path(_launches))
