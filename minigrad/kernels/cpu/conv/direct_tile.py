"""Register tiles of implicit GEMM, written as LLVM vector code (see _simd.py for the rules)."""

from __future__ import annotations

from .._simd import Tile, vector_code


@vector_code(literals=2)
def convolve_tile(
    builder,
    pixels,  # literal: rows of the register tile
    vectors,  # literal: vectors of output channels
    out, out_offset, out_stride,  # pixel p is at out_offset + p·out_stride
    source, source_offset, source_stride,  # its first tap at source_offset + p·source_stride
    weight, weight_offset, weight_stride,  # reduction index k at weight_offset + k·weight_stride
    bias, bias_offset, use_bias, bounds,
    counts,  # (taps in a column, taps in a row, contiguous elements)
    source_steps,  # source elements from one tap to the next, per axis
    weight_steps,  # weight elements from one tap to the next, per axis
    valid_pixels, valid_columns,
):  # fmt: skip
    """out[p, c] = bias[c] + Σ_tap Σ_k source[p, tap, k] · weight[tap, k, c], in `bounds`.

    Pixels past `valid_pixels` repeat the last valid one.
    """
    tile = Tile(builder, out, vectors, valid_columns)
    pixel = tile.valid_rows(pixels, valid_pixels)
    source_pixel = [builder.mul(p, source_stride) for p in pixel]
    sums = tile.accumulators(pixels)
    tile.start(sums, bias.at(bias_offset), use_bias)

    first_source, first_weight = source.at(source_offset), weight.at(weight_offset)
    for whole in tile.whole_or_masked():
        with tile.loop(counts[0]) as i0, tile.loop(counts[1]) as i1:
            source_tap = tile.step(first_source, tile.dot((i0.index, i1.index), source_steps))
            weight_tap = tile.step(first_weight, tile.dot((i0.index, i1.index), weight_steps))
            source_rows = [tile.step(source_tap, offset) for offset in source_pixel]
            with tile.loop(counts[2]) as k:
                weight_k = tile.step(weight_tap, builder.mul(k.index, weight_stride))
                columns = tile.load_row(weight_k, whole)
                for row, source_row in zip(sums, source_rows, strict=True):
                    tile.add_products(row, builder.load(tile.step(source_row, k.index)), columns)

    first = out.at(out_offset)
    places = [tile.step(first, builder.mul(p, out_stride)) for p in pixel]
    tile.store_sums(sums, places, tile.limits(bounds))


@vector_code(literals=2)
def correlate_tile(
    builder,
    rows,  # literal: rows of the register tile
    vectors,  # literal: vectors of columns
    out, out_offset, out_stride,  # row r is at out_offset + r·out_stride
    more,  # out holds the sum of earlier terms; else it is overwritten
    left, left_offset, row_offsets, first_row,  # row r adds row_offsets[first_row + r]
    right, right_offset,
    counts,  # reduction extents over three axes
    left_steps, right_steps,  # elements from one index to the next, per axis
    valid_rows, valid_columns,
):  # fmt: skip
    """out[r, c] = Σ_i left[row r, i] · right[i, c] over three axes i; with `more`, out[r, c] += it.

    Rows past `valid_rows` repeat the last valid one.
    """
    tile = Tile(builder, out, vectors, valid_columns)
    row = tile.valid_rows(rows, valid_rows)
    table = row_offsets.at(first_row)
    left_row = [builder.load(tile.step(table, r)) for r in row]
    sums = tile.accumulators(rows)
    tile.clear(sums)

    first_left, first_right = left.at(left_offset), right.at(right_offset)
    for whole in tile.whole_or_masked():
        with tile.loop(counts[0]) as i0, tile.loop(counts[1]) as i1:
            left_outer = tile.step(first_left, tile.dot((i0.index, i1.index), left_steps[:2]))
            right_outer = tile.step(first_right, tile.dot((i0.index, i1.index), right_steps[:2]))
            left_rows = [tile.step(left_outer, offset) for offset in left_row]
            with tile.loop(counts[2]) as i2:
                left_i = builder.mul(i2.index, left_steps[2])
                right_i = builder.mul(i2.index, right_steps[2])
                columns = tile.load_row(tile.step(right_outer, right_i), whole)
                for sums_r, left_r in zip(sums, left_rows, strict=True):
                    tile.add_products(sums_r, builder.load(tile.step(left_r, left_i)), columns)

    first = out.at(out_offset)
    tile.add_sums(sums, [tile.step(first, builder.mul(r, out_stride)) for r in row], more)
