"""Instructions that Python has no words for, as inline PTX.

**Arrays by address**: `array_at(address, length, real)` is the array of `real` numbers at a device
address, which a kernel has read from a table.

**Vectors**: `vectors(width)` gives loads and stores of `width` neighbouring numbers by one
instruction, whose place must be a multiple of as many bytes.

**Outer products**: `outer_products` multiplies two panels in shared memory, unrolled by hand, since
the compiler gives up on loops of hundreds of instructions.

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

from functools import cache
from typing import Any

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


def _address(context: Any, builder: Any, array: Any, value: Any, at: Any, kind: Any) -> Any:
    """Of element `at` of a pointer or an array."""
    if isinstance(array, types.Array):
        value = context.make_array(array)(context, builder, value).data
    place = context.cast(builder, at, kind, types.uint64 if kind == types.uint32 else types.int64)
    return builder.gep(value, [place])


def _constant(value: int) -> ir.Constant:
    return ir.Constant(ir.IntType(64), value)


def _load(builder: Any, pointer: Any, offset: int, width: int) -> list[Any]:
    """The `width` numbers from element `offset` on."""
    pointer, element = builder.gep(pointer, [_constant(offset)]), pointer.type.pointee
    vector = ir.VectorType(element, width)
    align = width * (8 if element == ir.DoubleType() else 4)
    found = builder.load(builder.bitcast(pointer, vector.as_pointer()), align=align)
    return [builder.extract_element(found, _constant(i)) for i in range(width)]


@cache
def vectors(width: int) -> tuple[Any, Any]:
    """(fetch, put) of `width` numbers.

    fetch(numbers, slot, array, at, inside): numbers[slot …] = array[at …], or 0 if not inside.
    put(array, at, numbers, slot): array[at …] = numbers[slot …].
    """

    @intrinsic
    def fetch(typing_context, numbers, slot, array, at, inside):
        def generate(context, builder, signature, args):
            target = _address(context, builder, numbers, args[0], args[1], slot)
            element = target.type.pointee
            entry = builder.block
            with builder.if_then(builder.trunc(args[4], ir.IntType(1))):
                found = _load(
                    builder, _address(context, builder, array, args[2], args[3], at), 0, width
                )
                loaded = builder.block
            for i, number in enumerate(found):
                either = builder.phi(element)
                either.add_incoming(number, loaded)
                either.add_incoming(ir.Constant(element, 0.0), entry)
                found[i] = either
            for i, number in enumerate(found):
                builder.store(number, builder.gep(target, [_constant(i)]))
            return context.get_dummy_value()

        return types.void(numbers, slot, array, at, inside), generate

    @intrinsic
    def put(typing_context, array, at, numbers, slot):
        def generate(context, builder, signature, args):
            source = _address(context, builder, numbers, args[2], args[3], slot)
            target = _address(context, builder, array, args[0], args[1], at)
            element = target.type.pointee
            vector = ir.Constant(ir.VectorType(element, width), ir.Undefined)
            for i in range(width):
                number = builder.load(builder.gep(source, [_constant(i)]))
                vector = builder.insert_element(vector, number, _constant(i))
            align = width * (8 if element == ir.DoubleType() else 4)
            builder.store(vector, builder.bitcast(target, vector.type.as_pointer()), align=align)
            return context.get_dummy_value()

        return types.void(array, at, numbers, slot), generate

    return fetch, put


def outer_products(
    rows: int, cols: int, depth: int, width: int,
    left_strides: tuple[int, int, int], right_strides: tuple[int, int, int],
    run: int = 0, gap: int = 0,
) -> Any:  # fmt: skip
    """multiply(sums, left, left_at, right, right_at): sums[i·cols + j] += Σ_k a[i, k] · b[k, j].

    The thread's first numbers lie at left_at and right_at, multiples of `width`. strides: from one
    number to the next of its run, from run to run and from term to term of the sum; runs are of
    `width` numbers. Panels are read in aligned vectors of `width`, each of them once, whatever the
    strides make of it. gap: numbers that the left panel leaves out after every `run`.
    """

    def place(strides: tuple[int, int, int], i: int, k: int) -> int:
        inner, outer, term = strides
        return i % width * inner + i // width * outer + k * term

    def reader(builder: Any, pointer: Any, run: int = 0) -> Any:
        """number(at): the panel's element, from a vector that was loaded when first needed."""
        loaded: dict[int, list[Any]] = {}

        def number(at: int) -> Any:
            first = at - at % width
            if first not in loaded:
                skipped = first // run * gap if run else 0
                loaded[first] = _load(builder, pointer, first + skipped, width)
            return loaded[first][at - first]

        return number

    @intrinsic
    def multiply(typing_context, sums, left, left_at, right, right_at):
        def generate(context, builder, signature, args):
            total = _address(context, builder, sums, args[0], _constant(0), types.int64)
            places = [builder.gep(total, [_constant(i)]) for i in range(rows * cols)]
            results = [builder.load(each) for each in places]
            a = reader(builder, _address(context, builder, left, args[1], args[2], left_at), run)
            b = reader(builder, _address(context, builder, right, args[3], args[4], right_at))
            for k in range(depth):
                for at in range(rows * cols):
                    i, j = divmod(at, cols)
                    factors = a(place(left_strides, i, k)), b(place(right_strides, j, k))
                    results[at] = builder.fma(*factors, results[at])
            for each, result in zip(places, results, strict=True):
                builder.store(result, each)
            return context.get_dummy_value()

        return types.void(sums, left, left_at, right, right_at), generate

    return multiply


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
def multiply_accumulate(sums, at, left, left_at, left_strides, right, right_at, right_strides):
    """sums[at …] of a warp: the product of what starts at left_at and right_at of two panels.
    strides: from a row (column) to the next, from a term of the sum to the next."""
    g = np.uint32(np.uint32(cuda.threadIdx.x) % LANES // 4)
    t = np.uint32(np.uint32(cuda.threadIdx.x) % 4)
    upper = np.uint32(left_at + g * left_strides[0] + t * left_strides[1])
    lower = np.uint32(upper + 8 * left_strides[0])
    near = np.uint32(right_at + g * right_strides[0] + t * right_strides[1])
    left_far, right_far = 4 * left_strides[1], 4 * right_strides[1]
    d0, d1, d2, d3 = _mma(
        left[upper], left[lower],
        left[np.uint32(upper + left_far)], left[np.uint32(lower + left_far)],
        right[near], right[np.uint32(near + right_far)],
        sums[at], sums[at + 1], sums[at + 2], sums[at + 3],
    )  # fmt: skip
    sums[at], sums[at + 1], sums[at + 2], sums[at + 3] = d0, d1, d2, d3
