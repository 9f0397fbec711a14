"""Register tiles of depthwise convolution, written as LLVM vector code.

Every channel has a kernel of its own, so nothing is summed over channels and nothing is broadcast:
a vector holds neighbouring channels of one pixel, and meets the vector of the same channels of the
weight. Both tiles run over all channels themselves, a vector at a time. See _simd.py for the rules.
"""

from __future__ import annotations

from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from ._simd import Tile, i64

# Taps whose sums the weight gradient keeps in registers: a 3×3 kernel.
TAPS = 9

_INDEX = types.int64


def _literals(*values):
    return all(isinstance(value, types.IntegerLiteral) for value in values)


def _first(builder, valid, count):
    """0, 1, …, count − 1, but from `valid` on its last: repeated work, with the same results."""
    last = builder.sub(valid, i64(1))
    return [
        builder.select(builder.icmp_signed("<", last, i64(i)), last, i64(i)) for i in range(count)
    ]


@intrinsic(prefer_literal=True)
def window_tile(
    typing_context,
    pixels,  # literal: pixels of the register tile
    out, out_offset, out_stride,  # pixel p is at out_offset + p·out_stride
    source, source_offset, source_stride,  # its first tap at source_offset + p·source_stride
    weight, weight_offset,
    bias, use_bias, relu,
    counts, source_steps, weight_steps,  # taps along both axes, elements from one to the next
    valid_pixels, channels,
):  # fmt: skip
    """out[p, c] = bias[c] + Σ_tap source[p, tap, c] · weight[tap, c]; `relu`: at least 0."""
    if not _literals(pixels):
        return None
    P = pixels.literal_value
    pair = types.UniTuple(_INDEX, 2)
    signature = types.void(
        pixels, out, _INDEX, _INDEX, source, _INDEX, _INDEX, weight, _INDEX,
        bias, types.boolean, types.boolean, pair, pair, pair, _INDEX, _INDEX,
    )  # fmt: skip

    def codegen(context, builder, signature, arguments):
        (_, out_, out_at, out_ps, src, src_at, src_ps, w, w_at, b, b_use, relu_,
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
        sums = [cgutils.alloca_once(builder, tile.vector) for _ in range(P)]
        with tile.over_channels(n_channels) as c:
            for slot in sums:
                builder.store(tile.zero(), slot)
            with builder.if_then(b_use):
                start = tile.load(tile.step(b_base, c), 0)
                for slot in sums:
                    builder.store(start, slot)
            with tile.loop(n0) as i0, tile.loop(n1) as i1:
                src_tap, w_tap = (
                    builder.add(
                        c, builder.add(builder.mul(i0.index, s0), builder.mul(i1.index, s1))
                    )
                    for s0, s1 in ((src0, src1), (w0, w1))
                )
                tap = tile.load(tile.step(w_base, w_tap), 0)
                row = tile.step(src_base, src_tap)
                for slot, at in zip(sums, src_pixel, strict=True):
                    value = tile.load(tile.step(row, at), 0)
                    builder.store(builder.call(tile.fma, [value, tap, builder.load(slot)]), slot)
            for slot, at in zip(sums, out_pixel, strict=True):
                to = tile.step(out_base, builder.add(at, c))
                tile.store(tile.at_least(least, builder.load(slot)), to, 0)
        return context.get_dummy_value()

    return signature, codegen


@intrinsic(prefer_literal=True)
def window_gradient_tile(
    typing_context,
    taps,  # literal: taps of the register tile
    out, out_offset,
    source, source_offset, source_steps,  # its steps from one row and column of pixels to the next
    grad, grad_offset, grad_steps,
    counts,  # rows and columns of pixels
    table, out_at, source_at,  # tap t adds table[out_at + t]·stride to out, table[source_at + t]·…
    stride,  # elements of a pixel
    valid_taps, channels,
):  # fmt: skip
    """out[tap, c] += Σ_pixel source[pixel, tap, c] · grad[pixel, c]."""
    if not _literals(taps):
        return None
    T = taps.literal_value
    pair = types.UniTuple(_INDEX, 2)
    signature = types.void(
        taps, out, _INDEX, source, _INDEX, pair, grad, _INDEX, pair, pair,
        table, _INDEX, _INDEX, _INDEX, _INDEX, _INDEX,
    )  # fmt: skip

    def codegen(context, builder, signature, arguments):
        (_, out_, out_offset_, src, src_offset, src_steps, g, g_offset, g_steps, counts_,
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
        sums = [cgutils.alloca_once(builder, tile.vector) for _ in range(T)]
        with tile.over_channels(n_channels) as c:
            for slot in sums:
                builder.store(tile.zero(), slot)
            with tile.loop(n0) as i0, tile.loop(n1) as i1:
                src_pixel, g_pixel = (
                    builder.add(
                        c, builder.add(builder.mul(i0.index, s0), builder.mul(i1.index, s1))
                    )
                    for s0, s1 in ((src0, src1), (g0, g1))
                )
                factor = tile.load(tile.step(g_base, g_pixel), 0)
                pixel = tile.step(src_base, src_pixel)
                for slot, at in zip(sums, src_tap, strict=True):
                    value = tile.load(tile.step(pixel, at), 0)
                    builder.store(builder.call(tile.fma, [value, factor, builder.load(slot)]), slot)
            # All loads before the first store: repeated taps then add their sum once, not twice.
            places = [tile.step(out_base, builder.add(at, c)) for at in out_tap]
            totals = [
                builder.fadd(tile.load(place, 0), builder.load(slot))
                for place, slot in zip(places, sums, strict=True)
            ]
            for place, total in zip(places, totals, strict=True):
                tile.store(total, place, 0)
        return context.get_dummy_value()

    return signature, codegen
