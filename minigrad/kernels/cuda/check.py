"""Compiles CUDA kernels without a GPU and reports registers, spills and float64 instructions.

    NUMBA_ENABLE_CUDASIM=1 MINIGRAD_CUDA_LAUNCHES=launches.json python -m pytest …
    python -m minigrad.kernels.cuda.check launches.json --arch 90 75

The first command runs anything in the simulator and writes which kernels it launched with which
types; the second compiles each of them to a cubin. It fails for a kernel that does not compile,
that spills registers, or that computes in float64 although neither its dtype nor any argument is
float64.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ._launch import Kernel

# Libdevice reduces angles beyond 10⁵ in float64.
_RARELY_DOUBLE = {("special", "_sin"), ("special", "_cos")}


@dataclass(frozen=True)
class Launch:
    """Of which kernel, with which constants and types of arguments."""

    module: str
    name: str
    dtype: str
    constants: tuple[int, ...]
    types: tuple[str, ...]

    @property
    def kernel(self) -> Kernel:
        return getattr(import_module(f"{__package__}.{self.module}"), self.name)

    def __str__(self) -> str:
        constants = ", ".join([self.dtype, *map(str, self.constants)])
        return f"{self.module}.{self.name.lstrip('_')}({constants})({', '.join(self.types)})"


@dataclass(frozen=True)
class Report:
    launch: Launch
    arch: int
    registers: int = 0
    shared: int = 0
    fault: str = ""


def write_launches(file: Path) -> None:
    """Everything that this process launched so far."""
    from ._launch import KERNELS

    found: list[dict[str, Any]] = [
        {
            "module": kernel.module, "name": kernel.make.__name__, "dtype": variant.dtype.name,
            "constants": [getattr(c, "gpu", c) for c in variant.constants], "types": list(types),
        }
        for kernel in KERNELS for variant in kernel.variants.values() for types in variant.functions
    ]  # fmt: skip
    file.write_text("\n".join(map(json.dumps, found)))


def read_launches(files: list[Path]) -> list[Launch]:
    """Each kind once, in order."""
    lines = {line for file in files for line in file.read_text().splitlines()}
    records = [json.loads(line) for line in sorted(lines)]
    return [
        Launch(r["module"], r["name"], r["dtype"], tuple(r["constants"]), tuple(r["types"]))
        for r in records
    ]


def inspect(launch: Launch, arch: int) -> Report:
    """Compiles one kernel for sm_<arch>."""
    from ._compile import compile_kernel

    try:
        variant = launch.kernel(launch.dtype, *launch.constants)
        compiled = compile_kernel(variant, launch.types, divmod(arch, 10))
    except Exception as error:
        return Report(launch, arch, fault=f"does not compile: {type(error).__name__}: {error}")
    used = re.search(r"Used (\d+) registers", compiled.report)
    shared = re.search(r"(\d+) bytes smem", compiled.report)
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
    return Report(launch, arch, int(used[1]) if used else 0, int(shared[1]) if shared else 0, fault)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("launches", type=Path, nargs="+")
    parser.add_argument("--arch", type=int, nargs="+", default=[90])
    parser.add_argument("--only", default="", help="kernels whose description contains this")
    parser.add_argument("--jobs", type=int, default=None)
    options = parser.parse_args()
    launches = [x for x in read_launches(options.launches) if options.only in str(x)]
    tasks = [
        (launch, arch)
        for arch in options.arch
        for launch in launches
        if arch >= launch.kernel.since
    ]
    with ProcessPoolExecutor(options.jobs) as pool:
        reports = list(pool.map(inspect, *zip(*tasks, strict=True), chunksize=8))
    faults = [report for report in reports if report.fault]
    for report in faults:
        print(f"sm_{report.arch} {report.launch}: {report.fault}")
    most = max(reports, key=lambda report: report.registers)
    print(
        f"{len(reports)} kernels compiled, {len(faults)} at fault; at most {most.registers} "
        f"registers a thread ({most.launch.module}.{most.launch.name})"
    )
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
