"""From a kernel's body to what the driver loads: numba-cuda is the compiler, nothing else of it is
used.

No GPU is needed. PTX is linked to a cubin for one architecture at once, because an older driver
refuses the PTX of a newer compiler, while it takes the cubin. Who executes PTX sets `image_kind`,
and nothing is linked.
"""

from __future__ import annotations

import hashlib
import os
import re
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from ...errors import DeviceError
from ...runtime.cache import cache_folder
from ._launch import format_of

if TYPE_CHECKING:
    from ._launch import Variant

image_kind: Literal["cubin", "ptx"] = "cubin"

# All that takes part in compiling: those of CUDA 13, then those of CUDA 12.
_COMPILERS = (
    "numba", "llvmlite", "numba-cuda", "cuda-core", "cuda-bindings", "nvidia-nvvm",
    "nvidia-nvjitlink", "nvidia-cuda-nvcc-cu12", "nvidia-nvjitlink-cu12",
)  # fmt: skip


@dataclass(frozen=True)
class Compiled:
    """report: registers, spills and shared memory, from ptxas."""

    cubin: bytes
    entry: str
    ptx: str
    report: str


def compile_kernel(
    variant: Variant, types: tuple[str, ...], capability: tuple[int, int]
) -> Compiled:
    """PTX, from the disk if it is there, and its cubin. types: names as `_launch` gives them."""
    image, entry = _cached(variant, types, capability, "ptx")
    cubin, report = link(ptx := image.decode(), capability)
    return Compiled(cubin, entry, ptx, report)


def compile_ptx(
    variant: Variant, types: tuple[str, ...], capability: tuple[int, int]
) -> tuple[str, str]:
    """PTX and its entry's name. DeviceError if its parameters are not what a launch packs."""
    from numba import cuda
    from numba.cuda import types as numba_types

    def as_type(name: str) -> Any:
        if name.endswith("*"):
            return numba_types.CPointer(getattr(numba_types, name[:-1]))
        return getattr(numba_types, name)

    signature = numba_types.void(*[as_type(name) for name in types])
    with _compiling_for(capability), np.errstate(all="ignore"):
        ptx, _ = cuda.compile_ptx(variant.body, signature, cc=capability, device=False)
    entry, sizes = _entry(ptx)
    if sizes != (packed := [struct.calcsize(format_of(name)) for name in types]):
        raise DeviceError(
            f"{variant!r}: for arguments of types ({', '.join(types)}) a launch passes parameters "
            f"of {packed} bytes, but the compiled kernel takes parameters of {sizes} bytes"
        )
    return ptx, entry


def _entry(ptx: str) -> tuple[str, list[int]]:
    """The kernel's name and the bytes of each of its parameters, as PTX declares them:
    `.param .u64 name`, or `.param .align 8 .b8 name[16]`."""
    found = re.search(r"\.visible \.entry (\w+)\(([^)]*)\)", ptx)
    assert found is not None
    declared = re.findall(r"\.param .*?\.[busf](\d+) [^,\[]*(?:\[(\d+)\])?", found[2])
    return found[1], [int(bits) // 8 * int(count or 1) for bits, count in declared]


@contextmanager
def _compiling_for(capability: tuple[int, int]) -> Iterator[None]:
    """Numba compiles device functions for the GPU at hand; in here, in this thread, for ours. Its
    own lock keeps others from compiling meanwhile."""
    from numba.cuda import dispatcher

    with dispatcher.global_compiler_lock:
        ask, thread = dispatcher.get_current_device, threading.get_ident()
        ours = SimpleNamespace(compute_capability=capability)
        dispatcher.get_current_device = lambda: ours if threading.get_ident() == thread else ask()
        try:
            yield
        finally:
            dispatcher.get_current_device = ask


def link(ptx: str, capability: tuple[int, int]) -> tuple[bytes, str]:
    """The cubin, and what ptxas reports of it."""
    from cuda.core import Linker, LinkerOptions, ObjectCode

    options = LinkerOptions(arch="sm_{}{}".format(*capability), ptxas_options=["-v"])
    linker = Linker(ObjectCode.from_ptx(ptx.encode()), options=options)
    cubin = bytes(linker.link("cubin").code)
    return cubin, linker.get_info_log()


# The cache ------------------------------------------------------------------------------------


def cached_image(
    variant: Variant, types: tuple[str, ...], capability: tuple[int, int]
) -> tuple[bytes, str]:
    """What the driver loads (a cubin or PTX) and the kernel's name, from the disk if they were
    compiled before."""
    return _cached(variant, types, capability, image_kind)


def _cached(
    variant: Variant, types: tuple[str, ...], capability: tuple[int, int], kind: str
) -> tuple[bytes, str]:
    name = hashlib.sha256(f"{variant!r} {types} {capability}".encode()).hexdigest()[:24]
    file = _folder() / f"{variant.kernel.module}.{variant.kernel.name}-{name}.{kind}"
    if (found := _read(file)) is not None:
        return found
    ptx, entry = compile_ptx(variant, types, capability)
    image = ptx.encode() if kind == "ptx" else link(ptx, capability)[0]
    _write(file, image, entry)
    return image, entry


def _read(file: Path) -> tuple[bytes, str] | None:
    """None if the file is absent or damaged. Its lines: a digest of the rest, the kernel's name,
    the image."""
    try:
        digest, _, rest = file.read_bytes().partition(b"\n")
    except OSError:
        return None
    if digest != hashlib.sha256(rest).hexdigest().encode():
        return None
    entry, _, image = rest.partition(b"\n")
    return image, entry.decode()


def _write(file: Path, image: bytes, entry: str) -> None:
    """Whole or not at all: other processes read. A folder that is full or read-only keeps none."""
    rest = entry.encode() + b"\n" + image
    part = file.with_suffix(f".{os.getpid()}-{threading.get_ident()}.part")
    try:
        part.write_bytes(hashlib.sha256(rest).hexdigest().encode() + b"\n" + rest)
        part.replace(file)
    except OSError:
        with suppress(OSError):
            part.unlink()


@cache
def _folder() -> Path:
    """A folder for these sources and these compilers."""
    digest = hashlib.sha256(repr(compiler_versions()).encode())
    folder = Path(__file__).parent
    shared = (folder.parent / "formulas.py", *sorted(folder.parent.glob("compiled/*.py")))
    for source in (*shared, *sorted(folder.rglob("*.py"))):
        digest.update(source.read_bytes())
    return cache_folder(f"cuda-{digest.hexdigest()[:16]}")


def compiler_versions() -> dict[str, str]:
    """Those that are installed: CUDA 12 and 13 have their own."""
    found = {}
    for package in _COMPILERS:
        with suppress(PackageNotFoundError):
            found[package] = version(package)
    return found
