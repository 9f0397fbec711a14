"""Register tiles of depthwise convolution, written as LLVM vector code.

Every channel has a kernel of its own, so nothing is summed over channels and nothing is broadcast:
a vector holds neighbouring channels of one pixel, and meets the vector of the same channels of the
weight. Both tiles run over all channels themselves, a vector at a time. See _simd.py for the rules.
"""

from __future__ import annotations

from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from ._simd import VECTOR_BITS, Tile, i64

# Register tiles: of pixels, and of the taps whose sums the weight gradient keeps, a 3×3 kernel; and
# the vectors of channels that they take at a time where there are as many.
PIXELS, PIXEL_VECTORS = 4, 4 if VECTOR_BITS == 512 else 2
TAPS, TAP_VECTORS = 9, 2 if VECTOR_BITS == 512 else 1

_INDEX = types.int64


def _literals(*values):
    return all(isinstance(value, types.IntegerLiteral) for value in values)


def _first(builder, valid, count):
    """0, 1, …, count − 1, but from `valid` on its last: repeated work, with the same results."""
    last = builder.sub(valid, i64(1))
    return [
        builder.select(builder.icmp_signed("<", last, i64(i)), last, i64(i)) for i in range(count)
    ]


def _accumulators(tile, rows, vectors):
    """One stack slot each; LLVM turns them into registers."""
    return [
        [cgutils.alloca_once(tile.builder, tile.vector) for _ in range(vectors)]
        for _ in range(rows)
    ]


def _clear(tile, accumulators):
    for row in accumulators:
        for slot in row:
            tile.builder.store(tile.zero(), slot)


def _fma(tile, accumulators, pointer, factors):
    """accumulators[v] += pointer[v] · factors[v] for every vector v."""
    for v, (slot, factor) in enumerate(zip(accumulators, factors, strict=True)):
        value = tile.builder.call(
            tile.fma, [tile.load(pointer, v), factor, tile.builder.load(slot)]
        )
        tile.builder.store(value, slot)


def _at(builder, first, index, steps):
    """first + Σ index · step over both axes."""
    for i, step in zip(index, steps, strict=True):
        first = builder.add(first, builder.mul(i, step))
    return first


@intrinsic(prefer_literal=True)
def window_tile(
    typing_context,
    pixels,  # literal: pixels of the register tile
    vectors,  # literal: vectors of channels at a time
    out, out_offset, out_stride,  # pixel p is at out_offset + p·out_stride
    source, source_offset, source_stride,  # its first tap at source_offset + p·source_stride
    weight, weight_offset,
    bias, use_bias, relu,
    counts, source_steps, weight_steps,  # taps along both axes, elements from one to the next
    valid_pixels, channels,
):  # fmt: skip
    """out[p, c] = bias[c] + Σ_tap source[p, tap, c] · weight[tap, c]; `relu`: at least 0."""
    if not _literals(pixels, vectors):
        return None
    P, V = pixels.literal_value, vectors.literal_value
    pair = types.UniTuple(_INDEX, 2)
    signature = types.void(
        pixels, vectors, out, _INDEX, _INDEX, source, _INDEX, _INDEX, weight, _INDEX,
        bias, types.boolean, types.boolean, pair, pair, pair, _INDEX, _INDEX,
    )  # fmt: skip

    def codegen(context, builder, signature, arguments):
        (_, _, out_, out_at, out_ps, src, src_at, src_ps, w, w_at, b, b_use, relu_,
         counts_, src_steps, w_steps, n_pixels, n_channels) = arguments  # fmt: skip
        tile = Tile(context, builder, out)
        n0, n1 = cgutils.unpack_tuple(builder, counts_)
        src0, src1 = cgutils.unpack_tuple(builder, src_steps)
        w0, w1 = cgutils.unpack_tuple(builder, w_steps)
        pixel = _first(builder, n_pixels, P)
        src_pixel = [builder.mul(p, src_ps) for p in pixel]
        out_pixel = [builder.mul(p, out_ps) for p in pixel]
        src_base, w_base = tile.pointer(source, src, src_at), tile.pointer(weight, w, w_at)
        out_base, b_base = tile.pointer(out, out_, out_at), tile.pointer(bias, b, i64(0))
        least = tile.least(relu_)
        sums = _accumulators(tile, P, V)
        with tile.over_channels(n_channels, V) as c:
            _clear(tile, sums)
            with builder.if_then(b_use):
                for v in range(V):
                    start = tile.load(tile.step(b_base, c), v)
                    for row in sums:
                        builder.store(start, row[v])
            with tile.loop(n0) as i0, tile.loop(n1) as i1:
                index = i0.index, i1.index
                tap = tile.step(w_base, _at(builder, c, index, (w0, w1)))
                factors = [tile.load(tap, v) for v in range(V)]
                src_tap = tile.step(src_base, _at(builder, c, index, (src0, src1)))
                for row, at in zip(sums, src_pixel, strict=True):
                    _fma(tile, row, tile.step(src_tap, at), factors)
            for row, at in zip(sums, out_pixel, strict=True):
                to = tile.step(out_base, builder.add(at, c))
                for v in range(V):
                    tile.store(tile.at_least(least, builder.load(row[v])), to, v)
        return context.get_dummy_value()

    return signature, codegen


@intrinsic(prefer_literal=True)
def window_gradient_tile(
    typing_context,
    taps,  # literal: taps of the register tile
    vectors,  # literal: vectors of channels at a time
    out, out_offset,
    source, source_offset, source_steps,  # its steps from one row and column of pixels to the next
    grad, grad_offset, grad_steps,
    counts,  # rows and columns of pixels
    table, out_at, source_at,  # tap t adds table[out_at + t]·stride to out, table[source_at + t]·…
    stride,  # elements of a pixel
    valid_taps, channels,
):  # fmt: skip
    """out[tap, c] += Σ_pixel source[pixel, tap, c] · grad[pixel, c]."""
    if not _literals(taps, vectors):
        return None
    T, V = taps.literal_value, vectors.literal_value
    pair = types.UniTuple(_INDEX, 2)
    signature = types.void(
        taps, vectors, out, _INDEX, source, _INDEX, pair, grad, _INDEX, pair, pair,
        table, _INDEX, _INDEX, _INDEX, _INDEX, _INDEX,
    )  # fmt: skip

    def codegen(context, builder, signature, arguments):
        (_, _, out_, out_offset_, src, src_offset, src_steps, g, g_offset, g_steps, counts_,
         table_, out_at_, src_at_, stride_, n_taps, n_channels) = arguments  # fmt: skip
        tile = Tile(context, builder, out)
        n0, n1 = cgutils.unpack_tuple(builder, counts_)
        src0, src1 = cgutils.unpack_tuple(builder, src_steps)
        g0, g1 = cgutils.unpack_tuple(builder, g_steps)
        live = _first(builder, n_taps, T)

        def offsets(first):
            entries = tile.pointer(table, table_, first)
            return [builder.mul(builder.load(builder.gep(entries, [t])), stride_) for t in live]

        out_tap, src_tap = offsets(out_at_), offsets(src_at_)
        out_base = tile.pointer(out, out_, out_offset_)
        src_base, g_base = tile.pointer(source, src, src_offset), tile.pointer(grad, g, g_offset)
        sums = _accumulators(tile, T, V)
        with tile.over_channels(n_channels, V) as c:
            _clear(tile, sums)
            with tile.loop(n0) as i0, tile.loop(n1) as i1:
                index = i0.index, i1.index
                g_pixel = tile.step(g_base, _at(builder, c, index, (g0, g1)))
                factors = [tile.load(g_pixel, v) for v in range(V)]
                src_pixel = tile.step(src_base, _at(builder, c, index, (src0, src1)))
                for row, at in zip(sums, src_tap, strict=True):
                    _fma(tile, row, tile.step(src_pixel, at), factors)
            # All loads before the first store: repeated taps then add their sum once, not twice.
            places = [tile.step(out_base, builder.add(at, c)) for at in out_tap]
            totals = [
                [builder.fadd(tile.load(place, v), builder.load(row[v])) for v in range(V)]
                for place, row in zip(places, sums, strict=True)
            ]
            for place, row in zip(places, totals, strict=True):
                for v in range(V):
                    tile.store(row[v], place, v)
        return context.get_dummy_value()

    return signature, codegen
