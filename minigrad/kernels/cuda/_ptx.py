"""Instructions that Python has no words for, as inline PTX.

**Arrays by address**: `array_at(address, length, real)` is the array of `real` numbers at a device
address, which a kernel has read from a table.

**Products on tensor cores**: mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32, since sm_80.
The 32 threads of a warp together compute D = A·B + D with A (16, 8), B (8, 8) and D (16, 8);
A and B are TF32, which is float32 with 10 bits behind the point, and are summed in float32. Thread
`lane`, with g = lane // 4 and t = lane % 4, holds

    A[g, t], A[g + 8, t], A[g, t + 4], A[g + 8, t + 4];   B[t, g], B[t + 4, g];
    D[g, 2t], D[g, 2t + 1], D[g + 8, 2t], D[g + 8, 2t + 1].

Source: PTX ISA, https://docs.nvidia.com/cuda/parallel-thread-execution/ (matrix fragments for
mma.m16n8k8)
"""

from __future__ import annotations

import numpy as np
from llvmlite import ir
from numba.cuda import types
from numba.cuda.extending import intrinsic

from ._device import cuda, device

LANES = 32
MMA_ROWS, MMA_COLS, MMA_DEPTH = 16, 8, 8


@device
def sum_row(i):
    """In which row of D the i-th of a thread's four sums lies."""
    return np.uint32(np.uint32(cuda.threadIdx.x) % LANES // 4 + 8 * (i // 2))


@device
def sum_col(i):
    """In which column."""
    return np.uint32(np.uint32(cuda.threadIdx.x) % 4 * 2 + i % 2)


@intrinsic
def array_at(typing_context, address, length, real):
    result = types.CPointer(real.dtype)

    def generate(context, builder, signature, args):
        # By way of the global address space, so that loads need not ask which one it is.
        element = context.get_data_type(real.dtype)
        pointer = builder.inttoptr(args[0], ir.PointerType(element, addrspace=1))
        return builder.addrspacecast(pointer, context.get_value_type(result))

    return result(address, length, real), generate


@intrinsic
def to_tf32(typing_context, x):
    def generate(context, builder, signature, args):
        kind = ir.FunctionType(ir.IntType(32), [ir.FloatType()])
        code = ir.InlineAsm(kind, "cvt.rna.tf32.f32 $0, $1;", "=r,f")
        return builder.bitcast(builder.call(code, args), ir.FloatType())

    return types.float32(types.float32), generate


@intrinsic
def _mma(typing_context, a0, a1, a2, a3, b0, b1, d0, d1, d2, d3):
    """The four sums of D = A·B + D."""
    f32 = types.float32

    def generate(context, builder, signature, args):
        single = ir.FloatType()
        result = ir.LiteralStructType([single] * 4)
        bits = [builder.bitcast(arg, ir.IntType(32)) for arg in args[:6]]
        kind = ir.FunctionType(result, [ir.IntType(32)] * 6 + [single] * 4)
        code = ir.InlineAsm(
            kind,
            "mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 "
            "{$0,$1,$2,$3}, {$4,$5,$6,$7}, {$8,$9}, {$10,$11,$12,$13};",
            "=f,=f,=f,=f,r,r,r,r,r,r,f,f,f,f",
            side_effect=True,  # no thread may skip it
        )
        found = builder.call(code, [*bits, *args[6:]])
        values = [builder.extract_value(found, i) for i in range(4)]
        return context.make_tuple(builder, signature.return_type, values)

    return types.UniTuple(f32, 4)(*[f32] * 10), generate


@device
def multiply_accumulate(sums, at, left, right, panel, k, row, col):
    g = np.uint32(np.uint32(cuda.threadIdx.x) % LANES // 4)
    near = np.uint32(k + np.uint32(cuda.threadIdx.x) % 4)
    far = np.uint32(near + 4)
    upper, lower, side = np.uint32(row + g), np.uint32(row + g + 8), np.uint32(col + g)
    d0, d1, d2, d3 = _mma(
        left[panel, near, upper], left[panel, near, lower],
        left[panel, far, upper], left[panel, far, lower],
        right[panel, near, side], right[panel, far, side],
        sums[at], sums[at + 1], sums[at + 2], sums[at + 3],
    )  # fmt: skip
    sums[at], sums[at + 1], sums[at + 2], sums[at + 3] = d0, d1, d2, d3
