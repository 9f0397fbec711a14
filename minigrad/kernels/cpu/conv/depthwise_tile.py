"""Register tiles of depthwise convolution, written as LLVM vector code.

Every channel has a kernel of its own, so nothing is summed over channels and nothing is broadcast:
a vector holds neighbouring channels of one pixel, and meets the vector of the same channels of the
weight. Both tiles run over all channels themselves, a vector at a time. See _simd.py for the rules.
"""

from __future__ import annotations

from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from .._simd import INDEX, PAIR, VECTOR_BITS, Tile, i64, literals

# Register tiles: of pixels, and of the taps whose sums the weight gradient keeps, a 3×3 kernel; and
# the vectors of channels that they take at a time where there are as many.
PIXELS, PIXEL_VECTORS = 4, 4 if VECTOR_BITS == 512 else 2
TAPS, TAP_VECTORS = 9, 2 if VECTOR_BITS == 512 else 1


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
    if not literals(pixels, vectors):
        return None
    P, V = pixels.literal_value, vectors.literal_value
    signature = types.void(
        pixels, vectors, out, INDEX, INDEX, source, INDEX, INDEX, weight, INDEX,
        bias, types.boolean, types.boolean, PAIR, PAIR, PAIR, INDEX, INDEX,
    )  # fmt: skip

    def codegen(context, builder, signature, arguments):
        (_, _, out_, out_at, out_ps, src, src_at, src_ps, w, w_at, b, b_use, relu_,
         counts_, src_steps, w_steps, n_pixels, n_channels) = arguments  # fmt: skip
        tile = Tile(context, builder, out, V)
        n0, n1 = cgutils.unpack_tuple(builder, counts_)
        src0, src1 = cgutils.unpack_tuple(builder, src_steps)
        w0, w1 = cgutils.unpack_tuple(builder, w_steps)
        pixel = tile.valid_rows(P, n_pixels)
        src_pixel = [builder.mul(p, src_ps) for p in pixel]
        out_pixel = [builder.mul(p, out_ps) for p in pixel]
        src_base, w_base = tile.pointer(source, src, src_at), tile.pointer(weight, w, w_at)
        out_base, b_base = tile.pointer(out, out_, out_at), tile.pointer(bias, b, i64(0))
        least = tile.least(relu_)
        sums = tile.accumulators(P)
        with tile.over_channels(n_channels) as c:
            tile.start(sums, tile.step(b_base, c), b_use)
            src_c, w_c = tile.step(src_base, c), tile.step(w_base, c)
            with tile.loop(n0) as i0, tile.loop(n1) as i1:
                factors = tile.load_row(tile.step(w_c, tile.dot((i0.index, w0), (i1.index, w1))))
                src_tap = tile.step(src_c, tile.dot((i0.index, src0), (i1.index, src1)))
                for row, at in zip(sums, src_pixel, strict=True):
                    tile.add_products(row, tile.load_row(tile.step(src_tap, at)), factors)
            out_c = tile.step(out_base, c)
            tile.store_sums(sums, [tile.step(out_c, at) for at in out_pixel], least)
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
    if not literals(taps, vectors):
        return None
    T, V = taps.literal_value, vectors.literal_value
    signature = types.void(
        taps, vectors, out, INDEX, source, INDEX, PAIR, grad, INDEX, PAIR, PAIR,
        table, INDEX, INDEX, INDEX, INDEX, INDEX,
    )  # fmt: skip

    def codegen(context, builder, signature, arguments):
        (_, _, out_, out_offset_, src, src_offset, src_steps, g, g_offset, g_steps, counts_,
         table_, out_at_, src_at_, stride_, n_taps, n_channels) = arguments  # fmt: skip
        tile = Tile(context, builder, out, V)
        n0, n1 = cgutils.unpack_tuple(builder, counts_)
        src0, src1 = cgutils.unpack_tuple(builder, src_steps)
        g0, g1 = cgutils.unpack_tuple(builder, g_steps)
        tap = tile.valid_rows(T, n_taps)

        def offsets(first):
            entries = tile.pointer(table, table_, first)
            return [builder.mul(builder.load(builder.gep(entries, [t])), stride_) for t in tap]

        out_tap, src_tap = offsets(out_at_), offsets(src_at_)
        out_base = tile.pointer(out, out_, out_offset_)
        src_base, g_base = tile.pointer(source, src, src_offset), tile.pointer(grad, g, g_offset)
        sums = tile.accumulators(T)
        with tile.over_channels(n_channels) as c:
            tile.clear(sums)
            src_c, g_c = tile.step(src_base, c), tile.step(g_base, c)
            with tile.loop(n0) as i0, tile.loop(n1) as i1:
                factors = tile.load_row(tile.step(g_c, tile.dot((i0.index, g0), (i1.index, g1))))
                src_pixel = tile.step(src_c, tile.dot((i0.index, src0), (i1.index, src1)))
                for row, at in zip(sums, src_tap, strict=True):
                    tile.add_products(row, tile.load_row(tile.step(src_pixel, at)), factors)
            out_c = tile.step(out_base, c)
            tile.add_sums(sums, [tile.step(out_c, at) for at in out_tap])
        return context.get_dummy_value()

    return signature, codegen
