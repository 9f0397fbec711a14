"""Register tiles of implicit GEMM, written as LLVM vector code (see _simd.py for the rules)."""

from __future__ import annotations

from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from .._simd import INDEX, PAIR, TRIPLE, Tile, literals


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

    Pixels past `valid_pixels` repeat the last valid one.
    """
    if not literals(pixels, vectors):
        return None
    P, V = pixels.literal_value, vectors.literal_value
    signature = types.void(
        pixels, vectors, out, INDEX, INDEX, source, INDEX, INDEX, weight, INDEX, INDEX,
        bias, INDEX, types.boolean, types.boolean, TRIPLE, PAIR, PAIR, INDEX, INDEX,
    )  # fmt: skip

    def codegen(context, builder, signature, arguments):
        (_, _, out_, out_at, out_ps, src, src_at, src_ps, w, w_at, w_ks,
         b, b_at, b_use, relu_, counts_, src_steps, w_steps,
         n_pixels, n_columns) = arguments  # fmt: skip
        tile = Tile(context, builder, out, V, n_columns)
        n0, n1, n2 = cgutils.unpack_tuple(builder, counts_)
        src0, src1 = cgutils.unpack_tuple(builder, src_steps)
        w0, w1 = cgutils.unpack_tuple(builder, w_steps)
        pixel = tile.valid_rows(P, n_pixels)
        src_pixel = [builder.mul(p, src_ps) for p in pixel]
        sums = tile.accumulators(P)
        tile.start(sums, tile.pointer(bias, b, b_at), b_use)

        src_base, w_base = tile.pointer(source, src, src_at), tile.pointer(weight, w, w_at)
        for whole in tile.whole_or_masked():
            with tile.loop(n0) as i0, tile.loop(n1) as i1:
                src_tap = tile.step(src_base, tile.dot((i0.index, src0), (i1.index, src1)))
                w_tap = tile.step(w_base, tile.dot((i0.index, w0), (i1.index, w1)))
                src_rows = [tile.step(src_tap, offset) for offset in src_pixel]
                with tile.loop(n2) as k:
                    columns = tile.load_row(tile.step(w_tap, builder.mul(k.index, w_ks)), whole)
                    for row, src_row in zip(sums, src_rows, strict=True):
                        tile.add_products(row, builder.load(tile.step(src_row, k.index)), columns)

        out_base = tile.pointer(out, out_, out_at)
        places = [tile.step(out_base, builder.mul(p, out_ps)) for p in pixel]
        tile.store_sums(sums, places, tile.least(relu_))
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

    Rows past `valid_rows` repeat the last valid one.
    """
    if not literals(rows, vectors):
        return None
    R, V = rows.literal_value, vectors.literal_value
    signature = types.void(
        rows, vectors, out, INDEX, INDEX, left, INDEX, row_offsets, INDEX,
        right, INDEX, TRIPLE, TRIPLE, TRIPLE, INDEX, INDEX,
    )  # fmt: skip

    def codegen(context, builder, signature, arguments):
        (_, _, out_, out_at, out_rs, a, a_at, offsets, first, b, b_at,
         counts_, a_steps_, b_steps_, n_rows, n_columns) = arguments  # fmt: skip
        tile = Tile(context, builder, out, V, n_columns)
        counts3, a_steps, b_steps = (
            cgutils.unpack_tuple(builder, t) for t in (counts_, a_steps_, b_steps_)
        )
        row = tile.valid_rows(R, n_rows)
        table = tile.pointer(row_offsets, offsets, first)
        a_row = [builder.load(builder.gep(table, [r])) for r in row]
        sums = tile.accumulators(R)
        tile.clear(sums)

        a_base, b_base = tile.pointer(left, a, a_at), tile.pointer(right, b, b_at)
        for whole in tile.whole_or_masked():
            with tile.loop(counts3[0]) as i0, tile.loop(counts3[1]) as i1:
                outer = (i0.index, i1.index)
                a_outer = tile.step(a_base, tile.dot(*zip(outer, a_steps[:2], strict=True)))
                b_outer = tile.step(b_base, tile.dot(*zip(outer, b_steps[:2], strict=True)))
                a_rows = [tile.step(a_outer, offset) for offset in a_row]
                with tile.loop(counts3[2]) as i2:
                    a_at_i = builder.mul(i2.index, a_steps[2])
                    b_at_i = builder.mul(i2.index, b_steps[2])
                    columns = tile.load_row(tile.step(b_outer, b_at_i), whole)
                    for sums_r, a_r in zip(sums, a_rows, strict=True):
                        tile.add_products(sums_r, builder.load(tile.step(a_r, a_at_i)), columns)

        out_base = tile.pointer(out, out_, out_at)
        tile.add_sums(sums, [tile.step(out_base, builder.mul(r, out_rs)) for r in row])
        return context.get_dummy_value()

    return signature, codegen
