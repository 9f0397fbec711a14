"""Compiles CUDA kernels without a GPU and reports registers, spills and float64 instructions.

    MINIGRAD_EMULATED_GPU=1 MINIGRAD_CUDA_LAUNCHES=launches python -m pytest …
    python -m minigrad.kernels.cuda.check launches --arch 90 75

The first command runs anything, on a GPU or on an emulated one, and writes which kernels it
launched with which types, a file a process in that folder; the second links each of them to a
cubin. It fails for a kernel that does not compile, that spills registers, that needs more of them
than a block of its size can have, that computes in float64 although neither its dtype nor any
argument is float64, or that divides in 64 bits although all its integers have 32.

An emulated GPU executes PTX and no cubin, and the arrays of tests are small. Of each kernel that
has them, the forms for large arrays are checked besides: blocks of `_middle.WIDE` threads, and 64
bits for indices.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ._launch import Kernel

# Libdevice reduces angles beyond 10⁵ in float64.
_RARELY_DOUBLE = {("unary", "sin_forward"), ("unary", "cos_forward")}


REGISTERS, MOST_REGISTERS = 65536, 255  # of a block, and of a thread


@dataclass(frozen=True)
class Launch:
    """Of which kernel, with which constants and types of arguments, by how many threads a block."""

    module: str
    name: str
    dtype: str
    constants: tuple[int, ...]
    types: tuple[str, ...]
    threads: int

    @property
    def kernel(self) -> Kernel:
        found = getattr(import_module(f"{__package__}.{self.module}"), self.name)
        return getattr(found, "kernel", found)  # a pointwise launcher has its kernel

    @property
    def is_wide(self) -> bool:
        """Whether it computes with integers of 64 bits: as indices, arguments or elements."""
        bits = dict(zip(self.kernel.names, self.constants, strict=True)).get("bits")
        return bits == 64 or bool({"int64", "uint64"} & {self.dtype, *self.types})

    def forms(self) -> Iterator[Launch]:
        """The same for arrays that are too large for a test: a block is wide, or indices are."""
        from ._device import THREADS
        from ._middle import WIDE

        constants = dict(zip(self.kernel.names, self.constants, strict=True))
        shares_rows = hasattr(import_module(f"{__package__}.{self.module}"), "rows_of")
        block = {"threads": THREADS} if shares_rows and "threads" in constants else {}
        if "bits" in constants:
            yield self._with(constants | block | {"bits": 64})
        if block and constants["threads"] == self.threads:
            wide = {"bits": 32} if "bits" in constants else {}
            yield self._with(constants | wide | {"threads": WIDE})

    def _with(self, constants: dict[str, int]) -> Launch:
        threads = constants.get("threads", self.threads)
        return replace(self, constants=tuple(constants.values()), threads=threads)

    def __str__(self) -> str:
        constants = ", ".join([self.dtype, *map(str, self.constants)])
        return f"{self.module}.{self.name.lstrip('_')}({constants})({', '.join(self.types)})"


@dataclass(frozen=True)
class Report:
    launch: Launch
    arch: int
    registers: int = 0
    stack: int = 0
    """Bytes of local arrays that are not in registers, a thread."""
    fault: str = ""


def read_launches(folder: Path) -> list[Launch]:
    """Each kind once, in order."""
    lines = {line for file in folder.glob("*.jsonl") for line in file.read_text().splitlines()}
    records = [json.loads(line) for line in sorted(lines)]
    return [
        Launch(
            r["module"], r["name"], r["dtype"], tuple(r["constants"]), tuple(r["types"]),
            r["threads"],
        )
        for r in records
    ]  # fmt: skip


def block_registers(registers: int, threads: int) -> int:
    """Of a block. A warp of 32 threads gets them in portions of 256."""
    return -(-threads // 32) * (-(-32 * registers // 256) * 256)


def inspect(launch: Launch, arch: int) -> Report:
    """Compiles one kernel for sm_<arch>."""
    from ._compile import compile_kernel

    try:
        variant = launch.kernel(launch.dtype, *launch.constants)
        compiled = compile_kernel(variant, launch.types, divmod(arch, 10))
    except Exception as error:
        return Report(launch, arch, fault=f"does not compile: {type(error).__name__}: {error}")
    used = re.search(r"Used (\d+) registers", compiled.report)
    stack = re.search(r"(\d+) bytes stack frame", compiled.report)
    fault = ""
    if re.search(r"[1-9]\d* bytes spill", compiled.report):
        fault = "spills registers"
    double = (
        "float64" in launch.dtype
        or any("float64" in name for name in launch.types)
        or (launch.module, launch.name) in _RARELY_DOUBLE
    )
    if not double and (found := re.search(r".*\.f64\s.*", compiled.ptx)):
        fault = f"computes in float64: {found[0].strip()}"
    if not launch.is_wide and (found := re.search(r".*\b(div|rem)\.[su]64\s.*", compiled.ptx)):
        fault = f"divides in 64 bits: {found[0].strip()}"
    sizes = [int(found[1]) if found else 0 for found in (used, stack)]
    if sizes[0] > MOST_REGISTERS or block_registers(sizes[0], launch.threads) > REGISTERS:
        fault = f"needs {sizes[0]} registers in each of {launch.threads} threads"
    return Report(launch, arch, *sizes, fault)


def never_launched(launches: list[Launch]) -> list[str]:
    """Kernels of this backend that are missing among the launches."""
    from . import _launch

    import_module(__package__)
    known = {f"{kernel.module}.{kernel.name}" for kernel in _launch.KERNELS}
    return sorted(known - {f"{each.module}.{each.name.lstrip('_')}" for each in launches})


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("launches", type=Path, help="the folder")
    parser.add_argument("--arch", type=int, nargs="+", default=[90])
    parser.add_argument("--only", default="", help="kernels whose description contains this")
    parser.add_argument("--jobs", type=int, default=None)
    parser.add_argument(
        "--complete", action="store_true", help="fail for a kernel that was not launched"
    )
    options = parser.parse_args()
    launches = [x for x in read_launches(options.launches) if options.only in str(x)]
    if not launches:
        parser.error(f"{options.launches} has no launches of such kernels")
    tasks = [
        (launch, arch)
        for arch in options.arch
        for launch in launches
        if arch >= launch.kernel.since
    ]
    # The arguments' types matter little, nor does the architecture: one launch of a form for the
    # newest stands for all.
    known = {(x.module, x.name, x.dtype, x.constants) for x in launches}
    forms = {(x.module, x.name, x.dtype, x.constants): x for y in launches for x in y.forms()}
    tasks += [(x, max(options.arch)) for key, x in forms.items() if key not in known]
    with ProcessPoolExecutor(options.jobs) as pool:
        reports = list(pool.map(inspect, *zip(*tasks, strict=True), chunksize=8))
    faults = [f"sm_{r.arch} {r.launch}: {r.fault}" for r in reports if r.fault]
    if options.complete:
        faults += [f"{name} was not launched" for name in never_launched(launches)]
    for fault in faults:
        print(fault)
    most = max(reports, key=lambda report: report.registers)
    for report in sorted(reports, key=lambda report: -report.stack)[:5]:
        if report.stack:
            print(
                f"sm_{report.arch} {report.launch}: {report.stack} bytes of local memory a thread"
            )
    print(
        f"{len(reports)} kernels compiled, {len(faults)} at fault; at most {most.registers} "
        f"registers a thread ({most.launch.module}.{most.launch.name})"
    )
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
