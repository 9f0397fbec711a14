"""Register tiles of depthwise convolution, written as LLVM vector code.

Every channel has a kernel of its own, so nothing is summed over channels and nothing is broadcast:
a vector holds neighbouring channels of one pixel, and meets the vector of the same channels of the
weight. Both tiles run over all channels themselves, a vector at a time. See _simd.py for the rules.
"""

from __future__ import annotations

from .._simd import VECTOR_BITS, Tile, i64, vector_code

# Register tiles: of pixels, and of the taps whose sums the weight gradient keeps, a 3×3 kernel; and
# the vectors of channels that they take at a time where there are as many.
PIXELS, PIXEL_VECTORS = 4, 4 if VECTOR_BITS == 512 else 2
TAPS, TAP_VECTORS = 9, 2 if VECTOR_BITS == 512 else 1


@vector_code(literals=2)
def window_tile(
    builder,
    pixels,  # literal: pixels of the register tile
    vectors,  # literal: vectors of channels at a time
    out, out_offset, out_stride,  # pixel p is at out_offset + p·out_stride
    source, source_offset, source_stride,  # its first tap at source_offset + p·source_stride
    weight, weight_offset,
    bias, use_bias, bounds,
    counts, source_steps, weight_steps,  # taps along both axes, elements from one to the next
    valid_pixels, channels,
):  # fmt: skip
    """out[p, c] = bias[c] + Σ_tap source[p, tap, c] · weight[tap, c], in `bounds`."""
    tile = Tile(builder, out, vectors)
    pixel = tile.valid_rows(pixels, valid_pixels)
    source_pixel = [builder.mul(p, source_stride) for p in pixel]
    out_pixel = [builder.mul(p, out_stride) for p in pixel]
    first_source, first_weight = source.at(source_offset), weight.at(weight_offset)
    first_out, first_bias, limits = out.at(out_offset), bias.at(i64(0)), tile.limits(bounds)
    for c in tile.over_channels(channels):
        sums = tile.accumulators(pixels)
        tile.start(sums, tile.step(first_bias, c), use_bias)
        source_c, weight_c = tile.step(first_source, c), tile.step(first_weight, c)
        with tile.loop(counts[0]) as i0, tile.loop(counts[1]) as i1:
            weight_tap = tile.dot((i0.index, i1.index), weight_steps)
            factors = tile.load_row(tile.step(weight_c, weight_tap))
            source_tap = tile.step(source_c, tile.dot((i0.index, i1.index), source_steps))
            for row, at in zip(sums, source_pixel, strict=True):
                tile.add_products(row, tile.load_row(tile.step(source_tap, at)), factors)
        out_c = tile.step(first_out, c)
        tile.store_sums(sums, [tile.step(out_c, at) for at in out_pixel], limits)


@vector_code(literals=2)
def window_gradient_tile(
    builder,
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
    tile = Tile(builder, out, vectors)
    tap = tile.valid_rows(taps, valid_taps)

    def offsets(first):
        entries = table.at(first)
        return [builder.mul(builder.load(tile.step(entries, t)), stride) for t in tap]

    out_tap, source_tap = offsets(out_at), offsets(source_at)
    first_out, first_source, first_grad = (
        out.at(out_offset), source.at(source_offset), grad.at(grad_offset)
    )  # fmt: skip
    for c in tile.over_channels(channels):
        sums = tile.accumulators(taps)
        tile.clear(sums)
        source_c, grad_c = tile.step(first_source, c), tile.step(first_grad, c)
        with tile.loop(counts[0]) as i0, tile.loop(counts[1]) as i1:
            grad_pixel = tile.dot((i0.index, i1.index), grad_steps)
            factors = tile.load_row(tile.step(grad_c, grad_pixel))
            source_pixel = tile.step(source_c, tile.dot((i0.index, i1.index), source_steps))
            for row, at in zip(sums, source_tap, strict=True):
                tile.add_products(row, tile.load_row(tile.step(source_pixel, at)), factors)
        out_c = tile.step(first_out, c)
        tile.add_sums(sums, [tile.step(out_c, at) for at in out_tap])
