"""Register tiles, written as LLVM vector code: what those of convolutions and products share.

Numba's own vectoriser does not keep a tile of accumulators in registers, and the speed of a
convolution is exactly that. An intrinsic built of the pieces below does: it emits one loop nest
whose body is a few rows × a few vectors of fused multiply-adds. All the rest (which rows, which
taps, which thread) is ordinary Numba code in the kernels that call it.

Offsets, strides and counts are in elements. Masked loads and stores keep the last vector of
channels inside the array.
"""

from __future__ import annotations

import math
import os
from functools import wraps

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
# Rows of a tile, each two vectors of sums. AVX2: with two vectors of weights and a broadcast they
# take 15 of the 16 registers. AVX-512: 16 of 32 are sums; more rows would fit, but each has an
# address, and x86 has 16 general registers: with 8 rows the compiled loop reads an address from
# the stack 3 times in 32 multiply-adds, with 12 rows 26 times in 48.
PIXELS = 6 if VECTOR_BITS == 256 else 8

# protocol.UNLIMITED, here because the cache's key counts what kernels use: see _jit.py.
UNBOUNDED = math.nan, math.nan

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
    has the loop, a kernel, with its loop over tasks.
    """

    def codegen(context, builder, signature, arguments):
        # llvmlite's own `add` knows only attributes without a value.
        set.add(builder.function.attributes, f'"prefer-vector-width"="{VECTOR_BITS}"')
        return context.get_dummy_value()

    return types.void(), codegen


class Operand:
    """An array in the code of a tile."""

    def __init__(self, context, builder, array_type, array):
        self.builder, self.dtype = builder, array_type.dtype
        self.element = context.get_value_type(array_type.dtype)
        self.data = context.make_array(array_type)(context, builder, array).data

    def at(self, offset):
        """A pointer to the element, counted from the first in memory."""
        return self.builder.gep(self.data, [offset])


def vector_code(literals: int = 0, returns=types.void):
    """Make an intrinsic of a function that emits LLVM code.

    The function gets the builder; its first `literals` arguments as Python ints, which kernels must
    give as literals; arrays as Operands; tuples as lists, of float64 if they hold floats, else of
    int64; and all else as LLVM values.
    """

    def passed_as(argument):
        if isinstance(argument, types.BaseTuple):
            kind = types.float64 if isinstance(argument[0], types.Float) else types.int64
            return types.UniTuple(kind, len(argument))
        plain = types.unliteral(argument)
        return types.int64 if isinstance(plain, types.Integer) else plain

    def make(emit):
        @intrinsic(prefer_literal=True)
        @wraps(emit)
        def typed(typing_context, *arguments):
            sizes, rest = arguments[:literals], arguments[literals:]
            if not all(isinstance(size, types.IntegerLiteral) for size in sizes):
                return None
            signature = returns(*sizes, *map(passed_as, rest))

            def codegen(context, builder, signature, values):
                given = [size.literal_value for size in sizes]
                for kind, value in zip(signature.args[literals:], values[literals:], strict=True):
                    if isinstance(kind, types.Array):
                        value = Operand(context, builder, kind, value)
                    elif isinstance(kind, types.BaseTuple):
                        value = cgutils.unpack_tuple(builder, value)
                    given.append(value)
                result = emit(builder, *given)
                return context.get_dummy_value() if returns is types.void else result

            return signature, codegen

        return typed

    return make


class Tile:
    """The pieces that all tiles share: masks, loads, stores, loops.

    Its elements are those of `operand`. A row of the tile is `vectors` vectors wide;
    `valid_columns` of its elements are live; without that, `over_channels` says which.
    """

    def __init__(self, builder, operand, vectors=1, valid_columns=None):
        self.builder, self.vectors, self.element = builder, vectors, operand.element
        self.bytes = operand.dtype.bitwidth // 8
        self.lanes = lanes(operand.dtype.bitwidth)
        self.vector = ir.VectorType(self.element, self.lanes)
        self.zero = self.constant(0.0)
        self._fma = cgutils.get_or_insert_function(
            builder.module,
            ir.FunctionType(self.vector, [self.vector] * 3),
            f"llvm.fma.v{self.lanes}f{self.bytes * 8}",
        )
        self._valid_columns = valid_columns
        if valid_columns is not None:
            self._mask_columns(valid_columns)

    def _mask_columns(self, valid):
        """Lane l of vector v is live when v·lanes + l < valid."""
        self._live = valid
        index = ir.VectorType(_int32t, self.lanes)
        count = self.splat(self.builder.trunc(valid, _int32t), index)
        self.masks = [
            self.builder.icmp_signed(
                "<", ir.Constant(index, [v * self.lanes + i for i in range(self.lanes)]), count
            )
            for v in range(self.vectors)
        ]

    # Addresses --------------------------------------------------------------------------------

    def step(self, pointer, offset):
        return self.builder.gep(pointer, [offset])

    def dot(self, indices, strides):
        """Σ index · stride."""
        total = i64(0)
        for index, stride in zip(indices, strides, strict=True):
            total = self.builder.add(total, self.builder.mul(index, stride))
        return total

    def smaller(self, a, b):
        return self.builder.select(self.builder.icmp_signed("<", a, b), a, b)

    def valid_rows(self, count, valid):
        """0, 1, …, count − 1, but from `valid` on the last valid one: work that is done again, at
        the same address, with the same value."""
        last = self.builder.sub(valid, i64(1))
        return [self.smaller(last, i64(r)) for r in range(count)]

    # Loads and stores -------------------------------------------------------------------------

    def constant(self, value):
        return ir.Constant(self.vector, [value] * self.lanes)

    def splat(self, value, vector=None):
        vector = vector or self.vector
        undefined = ir.Constant(vector, ir.Undefined)
        one = self.builder.insert_element(undefined, value, _i32(0))
        order = ir.Constant(ir.VectorType(_int32t, vector.count), [0] * vector.count)
        return self.builder.shuffle_vector(one, undefined, order)

    def _as_vectors(self, pointer, v):
        pointer = self.builder.gep(pointer, [i64(v * self.lanes)])
        return self.builder.bitcast(pointer, self.vector.as_pointer())

    def load(self, pointer, v=0, whole=False):
        """Vector v from a pointer; `whole`: without its mask, if all of it is memory of ours.

        A masked load takes one of the two ports that multiply, which an inner loop feels.
        """
        if whole or self.masks is None:
            return self.builder.load(self._as_vectors(pointer, v), align=self.bytes)
        function = self._declare("load", self.vector, [_int32t, self.masks[0].type, self.vector])
        return self.builder.call(
            function, [self._as_vectors(pointer, v), _i32(self.bytes), self.masks[v], self.zero]
        )

    def load_row(self, pointer, whole=False):
        return [self.load(pointer, v, whole) for v in range(self.vectors)]

    def store(self, value, pointer, v=0, whole=False):
        """Vector v to a pointer; `whole`: all of it is live.

        A masked store takes processors with AVX2 alone, of AMD above all, tens of cycles: it is
        left to vectors that are live in part.
        """
        place = self._as_vectors(pointer, v)
        if whole or self.masks is None:
            self.builder.store(value, place, align=self.bytes)
            return
        function = self._declare("store", ir.VoidType(), [_int32t, self.masks[0].type])
        live = self.builder.sub(self._live, i64(v * self.lanes))
        every = self.builder.icmp_signed(">=", live, i64(self.lanes))
        with self.builder.if_else(every) as (then, otherwise):
            with then:
                self.builder.store(value, place, align=self.bytes)
            with otherwise, self.builder.if_then(self.builder.icmp_signed(">", live, i64(0))):
                self.builder.call(function, [value, place, _i32(self.bytes), self.masks[v]])

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

    # Loops ------------------------------------------------------------------------------------

    def loop(self, count):
        return cgutils.for_range(self.builder, count, intp=_int64)

    def whole_or_masked(self):
        """Emit the body of the `for` twice: for tiles all of whose columns are live, and for the
        others. A masked load in the inner loop makes its mask anew, on a port that products need.
        Once without `valid_columns`.
        """
        if self._valid_columns is None:
            yield False
            return
        width = i64(self.vectors * self.lanes)
        whole = self.builder.icmp_signed(">=", self._valid_columns, width)
        with self.builder.if_else(whole) as (then, otherwise):
            with then:
                yield True
            with otherwise:
                yield False

    def over_channels(self, channels):
        """Loops over channels, a row of the tile at a time: emit the body of the `for` for whole
        rows, which need no masks; for what is left, for halves of a row and their halves, at most
        one of each; and for less than a vector. The tile is as wide as what is emitted."""
        self.masks = None
        rows = self.builder.udiv(channels, i64(self.vectors * self.lanes))
        with self.loop(rows) as row:
            yield self.builder.mul(row.index, i64(self.vectors * self.lanes))
        done = self.builder.mul(rows, i64(self.vectors * self.lanes))
        while self.vectors > 1:
            self.vectors //= 2
            size = i64(self.vectors * self.lanes)
            fits = self.builder.icmp_signed(">=", self.builder.sub(channels, done), size)
            with self.builder.if_then(fits):
                yield done
            done = self.builder.select(fits, self.builder.add(done, size), done)
        rest = self.builder.sub(channels, done)
        with self.builder.if_then(self.builder.icmp_signed(">", rest, i64(0))):
            self._mask_columns(rest)
            yield done

    # Sums -------------------------------------------------------------------------------------

    def accumulators(self, rows, vectors=None):
        """Rows of stack slots; LLVM turns them into registers."""
        return [
            [cgutils.alloca_once(self.builder, self.vector) for _ in range(vectors or self.vectors)]
            for _ in range(rows)
        ]

    def clear(self, sums):
        for row in sums:
            for slot in row:
                self.builder.store(self.zero, slot)

    def start(self, sums, bias, use_bias):
        """Every row begins with the vectors at `bias`, or with zeros."""
        self.clear(sums)
        with self.builder.if_then(use_bias):
            for v, start in enumerate(self.load_row(bias)):
                for row in sums:
                    self.builder.store(start, row[v])

    def fma(self, left, right, term):
        """left · right + term, rounded once."""
        return self.builder.call(self._fma, [left, right, term])

    def add_product(self, slot, left, right):
        self.builder.store(self.fma(left, right, self.builder.load(slot)), slot)

    def add_products(self, sums, left, right):
        """sums[v] += left[v] · right[v] for every v; left may be one element for all."""
        factors = left if isinstance(left, list) else [self.splat(left)] * len(right)
        for each in zip(sums, factors, right, strict=True):
            self.add_product(*each)

    def limits(self, bounds):
        """The least and the most that results may be, which are float64; NaN sets no limit."""
        narrow = self.element == ir.FloatType()
        bounds = [self.builder.fptrunc(each, self.element) if narrow else each for each in bounds]
        return [self.splat(each) for each in bounds]

    def limited(self, value, limits):
        # NaN is neither less nor more than anything, and nothing is than NaN.
        for wrong, limit in zip("<>", limits, strict=True):
            value = self.builder.select(
                self.builder.fcmp_ordered(wrong, value, limit), limit, value
            )
        return value

    def store_sums(self, sums, places, limits=()):
        for whole in self.whole_or_masked():
            for row, place in zip(sums, places, strict=True):
                for v, slot in enumerate(row):
                    value = self.builder.load(slot)
                    value = self.limited(value, limits) if limits else value
                    self.store(value, place, v, whole)

    def add_sums(self, sums, places, more=None, limits=()):
        """All loads before the first store: repeated rows then add their sum once, not twice. With
        a flag `more`, what is there counts only if it holds."""
        for whole in self.whole_or_masked():

            def total(slot, place, v, whole=whole):
                earlier = self.load(place, v, whole)
                if more is not None:
                    earlier = self.builder.select(more, earlier, self.zero)
                total = self.builder.fadd(earlier, self.builder.load(slot))
                return self.limited(total, limits) if limits else total

            totals = [
                [total(slot, place, v) for v, slot in enumerate(row)]
                for row, place in zip(sums, places, strict=True)
            ]
            for row, place in zip(totals, places, strict=True):
                for v, value in enumerate(row):
                    self.store(value, place, v, whole)
