"""From a kernel's body to a cubin: numba-cuda is the compiler, nothing else of it is used.

No GPU is needed. PTX is linked for one architecture at once, because an older driver refuses the
PTX of a newer compiler, while it takes the cubin.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np

from ...runtime.cache import cache_folder

if TYPE_CHECKING:
    from ._launch import Variant


@dataclass(frozen=True)
class Compiled:
    """ptx: for people and checks. report: registers, spills and shared memory, from ptxas."""

    cubin: bytes
    entry: str
    ptx: str
    report: str


def compile_kernel(
    variant: Variant, types: tuple[str, ...], capability: tuple[int, int]
) -> Compiled:
    """types: names as `_launch` gives them."""
    from cuda.core import Linker, LinkerOptions, ObjectCode
    from numba import cuda
    from numba.cuda import dispatcher
    from numba.cuda import types as numba_types

    def as_type(name: str) -> Any:
        if name.endswith("*"):
            return numba_types.CPointer(getattr(numba_types, name[:-1]))
        return getattr(numba_types, name)

    # Device functions ask for the GPU at hand to learn its capability; we know for whom we compile.
    dispatcher.get_current_device = lambda: SimpleNamespace(compute_capability=capability)
    signature = numba_types.void(*[as_type(name) for name in types])
    with np.errstate(all="ignore"):
        ptx, _ = cuda.compile_ptx(variant.body, signature, cc=capability, device=False)
    entry = re.search(r"\.visible \.entry (\w+)", ptx)[1]
    options = LinkerOptions(arch="sm_{}{}".format(*capability), ptxas_options=["-v"])
    linker = Linker(ObjectCode.from_ptx(ptx.encode()), options=options)
    cubin = bytes(linker.link("cubin").code)
    return Compiled(cubin, entry, ptx, linker.get_info_log())


def cached_cubin(
    variant: Variant, types: tuple[str, ...], capability: tuple[int, int]
) -> tuple[bytes, str]:
    """Cubin and entry name, from the disk if they were compiled before."""
    folder = _folder()
    name = hashlib.sha256(f"{variant!r} {types} {capability}".encode()).hexdigest()[:24]
    file = folder / f"{variant.kernel.module}.{variant.kernel.name}-{name}.cubin"
    if file.exists():
        entry, _, cubin = file.read_bytes().partition(b"\n")
        return cubin, entry.decode()
    compiled = compile_kernel(variant, types, capability)
    part = file.with_suffix(f".{id(compiled):x}.part")
    part.write_bytes(compiled.entry.encode() + b"\n" + compiled.cubin)
    part.replace(file)
    return compiled.cubin, compiled.entry


@cache
def _folder() -> Path:
    digest = hashlib.sha256(version("numba-cuda").encode())
    for source in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(source.read_bytes())
    return cache_folder(f"cuda-{digest.hexdigest()[:16]}")
