"""Register tiles, written as LLVM vector code.

Numba's own vectoriser does not keep a tile of accumulators in registers, and the speed of a
convolution is exactly that. The two intrinsics below do: each emits one loop nest whose body is
`PIXELS × VECTORS` fused multiply-adds on vectors of `lanes(dtype)` elements. All the rest of
convolution (which rows, which taps, which thread) is ordinary Numba code in conv.py.

Offsets, strides and counts are in elements. Masked loads and stores keep the last vector of
channels inside the array.
"""

from __future__ import annotations

import os
from contextlib import contextmanager

import llvmlite.binding as llvm
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic


def _host_vector_bits() -> int:
    features = llvm.get_host_cpu_features()
    return 512 if features.get("avx512f") else 256 if features.get("avx2") else 128


# MINIGRAD_VECTOR_BITS tries the code for a narrower machine on a wider one.
VECTOR_BITS = int(os.environ.get("MINIGRAD_VECTOR_BITS") or _host_vector_bits())
VECTOR_BYTES = VECTOR_BITS // 8
# Accumulators fill the register file (32 vectors with AVX-512 and NEON, 16 with AVX2) and leave
# room for one vector of weights each and a broadcast.
PIXELS = 6 if VECTOR_BITS == 256 else 8

_int32t, _int64 = ir.IntType(32), ir.IntType(64)


def _i32(value):
    return ir.Constant(_int32t, value)


def i64(value):
    return ir.Constant(_int64, value)


def lanes(bits: int) -> int:
    """Elements of `bits` bits in one vector."""
    return VECTOR_BITS // bits


@intrinsic
def whole_registers(typing_context):
    """LLVM's loops in the function that calls this take vectors of VECTOR_BITS.

    Left to itself LLVM takes 256 bits even where the machine has 512, because the first such
    processors slowed down under them. Loops of much arithmetic become 1.7 times as fast, loops
    that wait for memory stay as they are. It goes for one function in LLVM's sense: the helper that
    has the loop, the body of a `prange`, a serial kernel.
    """

    def codegen(context, builder, signature, arguments):
        # llvmlite's own `add` knows only attributes without a value.
        set.add(builder.function.attributes, f'"prefer-vector-width"="{VECTOR_BITS}"')
        return context.get_dummy_value()

    return types.void(), codegen


class Tile:
    """The pieces that all tiles share: typed pointers, masks, loads, stores, loops.

    `valid_columns` columns of a tile `vectors` vectors wide are live.
    """

    def __init__(self, context, builder, array_type, valid_columns=None, vectors=0):
        self.context, self.builder, self.vectors = context, builder, vectors
        self.element = context.get_value_type(array_type.dtype)
        self.bytes = array_type.dtype.bitwidth // 8
        self.lanes = lanes(array_type.dtype.bitwidth)
        self.vector = ir.VectorType(self.element, self.lanes)
        self.fma = cgutils.get_or_insert_function(
            builder.module,
            ir.FunctionType(self.vector, [self.vector] * 3),
            f"llvm.fma.v{self.lanes}f{self.bytes * 8}",
        )
        self.masks = [self._mask(valid_columns, v) for v in range(vectors)]

    def _mask(self, valid_columns, v):
        """Lane l of vector v is live when v·lanes + l < valid_columns."""
        index = ir.VectorType(_int32t, self.lanes)
        lane = ir.Constant(index, [v * self.lanes + i for i in range(self.lanes)])
        count = self.builder.trunc(valid_columns, _int32t)
        return self.builder.icmp_signed("<", lane, self.splat(count, index))

    def splat(self, value, vector=None):
        vector = vector or self.vector
        one = self.builder.insert_element(ir.Constant(vector, ir.Undefined), value, _i32(0))
        order = ir.Constant(ir.VectorType(ir.IntType(32), vector.count), [0] * vector.count)
        return self.builder.shuffle_vector(one, ir.Constant(vector, ir.Undefined), order)

    def pointer(self, array_type, array, offset):
        data = self.context.make_array(array_type)(self.context, self.builder, array).data
        return self.builder.gep(data, [offset])

    def step(self, pointer, offset):
        return self.builder.gep(pointer, [offset])

    def _as_vectors(self, pointer, v):
        pointer = self.builder.gep(pointer, [i64(v * self.lanes)])
        return self.builder.bitcast(pointer, self.vector.as_pointer())

    def load(self, pointer, v, whole=False):
        """Vector v from a pointer; `whole`: without its mask, if all of it is memory of ours.

        A masked load takes one of the two ports that multiply, which an inner loop feels.
        """
        if whole:
            return self.builder.load(self._as_vectors(pointer, v), align=self.bytes)
        function = self._declare("load", self.vector, [_int32t, self.masks[0].type, self.vector])
        return self.builder.call(
            function,
            [self._as_vectors(pointer, v), _i32(self.bytes), self.masks[v], self.zero()],
        )

    def store(self, value, pointer, v):
        function = self._declare("store", ir.VoidType(), [_int32t, self.masks[0].type])
        self.builder.call(
            function, [value, self._as_vectors(pointer, v), _i32(self.bytes), self.masks[v]]
        )

    def _declare(self, what, result, rest):
        suffix = f"v{self.lanes}f{self.bytes * 8}"
        arguments = [self.vector.as_pointer(), *rest]
        if what == "store":
            arguments = [self.vector, *arguments]
        return cgutils.get_or_insert_function(
            self.builder.module,
            ir.FunctionType(result, arguments),
            f"llvm.masked.{what}.{suffix}.p0",
        )

    def zero(self):
        return ir.Constant(self.vector, [0.0] * self.lanes)

    def accumulators(self, rows):
        """One stack slot per accumulator; LLVM turns them into registers."""
        return [
            [cgutils.alloca_once(self.builder, self.vector) for _ in range(self.vectors)]
            for _ in range(rows)
        ]

    def loop(self, count):
        return cgutils.for_range(self.builder, count, intp=_int64)

    def whole_or_masked(self, columns):
        """Emit the body of the `for` twice: for tiles all of whose columns are live, and for the
        others. A masked load in the inner loop makes its mask anew, on a port that products need.
        """
        whole = self.builder.icmp_signed(">=", columns, i64(self.vectors * self.lanes))
        with self.builder.if_else(whole) as (then, otherwise):
            with then:
                yield True
            with otherwise:
                yield False

    @contextmanager
    def over_channels(self, channels, vectors=1):
        """A loop over channels, `vectors` vectors at a time, which the masks cover."""
        width = i64(vectors * self.lanes)
        steps = self.builder.udiv(self.builder.add(channels, i64(vectors * self.lanes - 1)), width)
        with self.loop(steps) as step:
            first = self.builder.mul(step.index, width)
            rest = self.builder.sub(channels, first)
            self.masks = [self._mask(rest, v) for v in range(vectors)]
            yield first

    def least(self, relu):
        """What results may not fall below: 0, or −∞ without relu."""
        zero, lowest = (ir.Constant(self.element, value) for value in (0.0, float("-inf")))
        return self.splat(self.builder.select(relu, zero, lowest))

    def at_least(self, least, value):
        # NaN is not less than anything, and stays.
        return self.builder.select(self.builder.fcmp_ordered("<", value, least), least, value)

    def fma_row(self, accumulators, scalar, columns):
        """accumulators[v] += scalar · columns[v] for every v."""
        broadcast = self.splat(scalar)
        for slot, column in zip(accumulators, columns, strict=True):
            value = self.builder.load(slot)
            self.builder.store(self.builder.call(self.fma, [broadcast, column, value]), slot)


_INDEX = types.int64


@intrinsic(prefer_literal=True)
def convolve_tile(
    typing_context,
    pixels,  # literal: rows of the register tile
    vectors,  # literal: vectors of output channels
    out, out_offset, out_stride,  # pixel p is at out_offset + p·out_stride
    source, source_offset, source_stride,  # its first tap at source_offset + p·source_stride
    weight, weight_offset, weight_stride,  # reduction index k at weight_offset + k·weight_stride
    bias, bias_offset, use_bias, relu,
    counts,  # (taps in a column, taps in a row, contiguous elements)
    source_steps,  # source elements from one tap to the next, per axis
    weight_steps,  # weight elements from one tap to the next, per axis
    valid_pixels, valid_columns,
):  # fmt: skip
    """out[p, c] = bias[c] + Σ_tap Σ_k source[p, tap, k] · weight[tap, k, c]; `relu`: at least 0.

    Pixels past `valid_pixels` repeat the last valid one: same address, same value.
    """
    if not (isinstance(pixels, types.IntegerLiteral) and isinstance(vectors, types.IntegerLiteral)):
        return None
    P, V = pixels.literal_value, vectors.literal_value
    pair, triple = types.UniTuple(_INDEX, 2), types.UniTuple(_INDEX, 3)
    signature = types.void(
        pixels, vectors, out, _INDEX, _INDEX, source, _INDEX, _INDEX, weight, _INDEX, _INDEX,
        bias, _INDEX, types.boolean, types.boolean, triple, pair, pair, _INDEX, _INDEX,
    )  # fmt: skip

    def codegen(context, builder, signature, arguments):
        (_, _, out_, out_at, out_ps, src, src_at, src_ps, w, w_at, w_ks,
         b, b_at, b_use, relu_, counts_, src_steps, w_steps,
         n_pixels, n_columns) = arguments  # fmt: skip
        tile = Tile(context, builder, out, n_columns, V)
        n0, n1, n2 = cgutils.unpack_tuple(builder, counts_)
        src0, src1 = cgutils.unpack_tuple(builder, src_steps)
        w0, w1 = cgutils.unpack_tuple(builder, w_steps)

        last = builder.sub(n_pixels, i64(1))
        pixel = [
            builder.select(builder.icmp_signed("<", last, i64(p)), last, i64(p)) for p in range(P)
        ]
        src_pixel = [builder.mul(p, src_ps) for p in pixel]

        accumulators = tile.accumulators(P)
        for v in range(V):
            for p in range(P):
                builder.store(tile.zero(), accumulators[p][v])
        with builder.if_then(b_use):
            for v in range(V):
                start = tile.load(tile.pointer(bias, b, b_at), v)
                for p in range(P):
                    builder.store(start, accumulators[p][v])

        src_base = tile.pointer(source, src, src_at)
        w_base = tile.pointer(weight, w, w_at)
        for whole in tile.whole_or_masked(n_columns):
            with tile.loop(n0) as i0, tile.loop(n1) as i1:
                src_tap = tile.step(src_base, _dot(builder, (i0.index, src0), (i1.index, src1)))
                w_tap = tile.step(w_base, _dot(builder, (i0.index, w0), (i1.index, w1)))
                src_rows = [tile.step(src_tap, offset) for offset in src_pixel]
                with tile.loop(n2) as k:
                    w_k = tile.step(w_tap, builder.mul(k.index, w_ks))
                    columns = [tile.load(w_k, v, whole) for v in range(V)]
                    for p in range(P):
                        scalar = builder.load(tile.step(src_rows[p], k.index))
                        tile.fma_row(accumulators[p], scalar, columns)

        out_base = tile.pointer(out, out_, out_at)
        least = tile.least(relu_)
        for p in range(P):
            row = tile.step(out_base, builder.mul(pixel[p], out_ps))
            for v in range(V):
                value = builder.load(accumulators[p][v])
                tile.store(tile.at_least(least, value), row, v)
        return context.get_dummy_value()

    return signature, codegen


@intrinsic(prefer_literal=True)
def correlate_tile(
    typing_context,
    rows,  # literal: rows of the register tile
    vectors,  # literal: vectors of columns
    out, out_offset, out_stride,  # row r is at out_offset + r·out_stride
    left, left_offset, row_offsets, first_row,  # row r adds row_offsets[first_row + r]
    right, right_offset,
    counts,  # reduction extents over three axes
    left_steps, right_steps,  # elements from one index to the next, per axis
    valid_rows, valid_columns,
):  # fmt: skip
    """out[r, c] += Σ_i left[row r, i] · right[i, c], summed over three axes i.

    Rows past `valid_rows` repeat the last valid one: same address, same value.
    """
    if not (isinstance(rows, types.IntegerLiteral) and isinstance(vectors, types.IntegerLiteral)):
        return None
    R, V = rows.literal_value, vectors.literal_value
    triple = types.UniTuple(_INDEX, 3)
    signature = types.void(
        rows, vectors, out, _INDEX, _INDEX, left, _INDEX, row_offsets, _INDEX,
        right, _INDEX, triple, triple, triple, _INDEX, _INDEX,
    )  # fmt: skip

    def codegen(context, builder, signature, arguments):
        (_, _, out_, out_at, out_rs, a, a_at, offsets, first, b, b_at,
         counts_, a_steps_, b_steps_, n_rows, n_columns) = arguments  # fmt: skip
        tile = Tile(context, builder, out, n_columns, V)
        counts3 = cgutils.unpack_tuple(builder, counts_)
        a_steps = cgutils.unpack_tuple(builder, a_steps_)
        b_steps = cgutils.unpack_tuple(builder, b_steps_)

        last = builder.sub(n_rows, i64(1))
        row = [
            builder.select(builder.icmp_signed("<", last, i64(r)), last, i64(r)) for r in range(R)
        ]
        offset_table = tile.pointer(row_offsets, offsets, first)
        a_row = [builder.load(builder.gep(offset_table, [r])) for r in row]
        out_base = tile.pointer(out, out_, out_at)
        out_rows = [tile.step(out_base, builder.mul(r, out_rs)) for r in row]

        accumulators = tile.accumulators(R)
        for r in range(R):
            for v in range(V):
                builder.store(tile.zero(), accumulators[r][v])

        a_base, b_base = tile.pointer(left, a, a_at), tile.pointer(right, b, b_at)
        for whole in tile.whole_or_masked(n_columns):
            with tile.loop(counts3[0]) as i0, tile.loop(counts3[1]) as i1:
                outer = (i0.index, i1.index)
                a_outer = tile.step(a_base, _dot(builder, *zip(outer, a_steps[:2], strict=True)))
                b_outer = tile.step(b_base, _dot(builder, *zip(outer, b_steps[:2], strict=True)))
                a_rows = [tile.step(a_outer, offset) for offset in a_row]
                with tile.loop(counts3[2]) as i2:
                    b_at_i = tile.step(b_outer, builder.mul(i2.index, b_steps[2]))
                    a_at_i = builder.mul(i2.index, a_steps[2])
                    columns = [tile.load(b_at_i, v, whole) for v in range(V)]
                    for r in range(R):
                        scalar = builder.load(tile.step(a_rows[r], a_at_i))
                        tile.fma_row(accumulators[r], scalar, columns)

        # All loads before the first store: repeated rows then add their sum once, not twice.
        sums = [
            [
                builder.fadd(tile.load(out_rows[r], v), builder.load(accumulators[r][v]))
                for v in range(V)
            ]
            for r in range(R)
        ]
        for r in range(R):
            for v in range(V):
                tile.store(sums[r][v], out_rows[r], v)
        return context.get_dummy_value()

    return signature, codegen


def _dot(builder, *terms):
    """Σ index · stride over (index, stride) pairs."""
    total = i64(0)
    for index, stride in terms:
        total = builder.add(total, builder.mul(index, stride))
    return total
