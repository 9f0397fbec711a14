"""Small kernels as PTX text, and their launch on a device of their own."""

from __future__ import annotations

import struct
from collections.abc import Sequence

import numpy as np

from minigrad.testing.ptx import DeviceMemory, machine

HEADER = ".version 9.0\n.target sm_90\n.address_size 64\n"


def kernel_text(body: str, params: str = "", variables: str = "", functions: str = "") -> str:
    """A kernel called `test` with registers of every type."""
    registers = (
        ".reg .pred %p<9>; .reg .b16 %rs<9>; .reg .b32 %r<99>; .reg .b64 %rd<99>; "
        ".reg .f32 %f<99>; .reg .f64 %fd<99>;"
    )
    return (
        f"{HEADER}{functions}\n{variables}\n.visible .entry test({params})\n"
        f"{{\n{registers}\n{body}\nret;\n}}\n"
    )


class Arrays:
    """Arrays on an emulated device, passed to `test` in order."""

    def __init__(self, *arrays: np.ndarray) -> None:
        self.memory = DeviceMemory()
        self.arrays = [np.ascontiguousarray(array) for array in arrays]
        self.addresses = [self.memory.allocate(array.nbytes) for array in self.arrays]
        for array, address in zip(self.arrays, self.addresses, strict=True):
            self.memory.write(address, array.ctypes.data, array.nbytes)

    def read(self, number: int) -> np.ndarray:
        found = np.empty_like(self.arrays[number])
        self.memory.read(found.ctypes.data, self.addresses[number], found.nbytes)
        return found

    def launch(
        self, text: str, grid: int = 1, block: int = 1, order: str = "forward", **options: object
    ) -> machine.Counts:
        kernel = machine.load(text.encode(), self.memory).kernels["test"]
        params = struct.pack(f"<{len(self.addresses)}Q", *self.addresses)
        shape = (grid, 1, 1), (block, 1, 1)
        return machine.launch(kernel, *shape, params, self.memory, order, **options)  # type: ignore[arg-type]


_WIDTHS = {"16": ("rs", "u16"), "32": ("r", "u32"), "64": ("rd", "u64"), "ed": ("p", "pred")}


def register_of(kind: str) -> tuple[str, str]:
    """(name of a register file for a type such as s32, the type to load it by)"""
    if kind[0] == "f":
        return ("f", "f32") if kind == "f32" else ("fd", "f64")
    return _WIDTHS[kind[-2:]]


def compute(
    instruction: str, result: str, kinds: Sequence[str], operands: Sequence[np.ndarray]
) -> np.ndarray:
    """What the instruction gives for each case, as the bits of `result` in 64. instruction: such as
    "add.s32"; kinds: the operands' types; operands: their values, an array each."""
    count = len(operands[0])
    lines = ["mov.u32 %r98, %tid.x;", "mul.wide.u32 %rd98, %r98, 8;"]
    names = []
    for i, kind in enumerate(kinds):
        file, load = register_of(kind)
        lines += [
            f"ld.param.u64 %rd97, [a{i}];", "add.s64 %rd97, %rd97, %rd98;",
            f"ld.global.{load} %{file}{i + 1}, [%rd97];",
        ]  # fmt: skip
        names.append(f"%{file}{i + 1}")
    file, store = register_of(result)
    target = f"%{file}8"
    lines += [f"{instruction} {target}, {', '.join(names)};", "ld.param.u64 %rd97, [out];"]
    lines += ["add.s64 %rd97, %rd97, %rd98;"]
    if store == "pred":
        lines.append(f"selp.u64 %rd96, 1, 0, {target};")
        target, store = "%rd96", "u64"
    lines.append(f"st.global.{store} [%rd97], {target};")
    params = ", ".join(f".param .u64 {n}" for n in ("out", *(f"a{i}" for i in range(len(kinds)))))
    wide = []
    for values in operands:
        cells = np.zeros((count, 8), np.uint8)
        cells[:, : values.itemsize] = values.reshape(count, 1).view(np.uint8)
        wide.append(cells)
    arrays = Arrays(np.zeros(count, np.uint64), *wide)
    arrays.launch(kernel_text("\n".join(lines), params), block=count)
    return arrays.read(0)
