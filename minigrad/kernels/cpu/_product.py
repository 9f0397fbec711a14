"""Matrix products as LLVM vector code: the register tile, and copies into the panels that it reads.

A panel holds, term by term, the few rows or columns of a matrix that one tile needs: what the tile
reads then lies in one piece, wherever the matrix had it.
"""

from __future__ import annotations

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from ._simd import INDEX, Tile, i64, lanes, literals


@intrinsic(prefer_literal=True)
def product_tile(
    typing_context,
    rows,  # literal: rows of the register tile
    vectors,  # literal: vectors of columns
    out, out_offset, out_stride,  # row r is at out_offset + r·out_stride
    bias, bias_offset, use_bias,
    more,  # out holds the sum of earlier terms, bias included
    left, left_offset, left_stride,  # row r at left_offset + r·left_stride, term after term
    panel, panel_offset,  # of right: `vectors` whole vectors a term
    terms, valid_rows, valid_columns,
):  # fmt: skip
    """out[r, c] = Σ_i left[r, i] · panel[i, c], plus bias[c] or, with `more`, what out[r, c] was.

    Rows past `valid_rows` repeat the last valid one.
    """
    if not literals(rows, vectors):
        return None
    R, V = rows.literal_value, vectors.literal_value
    signature = types.void(
        rows, vectors, out, INDEX, INDEX, bias, INDEX, types.boolean, types.boolean,
        left, INDEX, INDEX, panel, INDEX, INDEX, INDEX, INDEX,
    )  # fmt: skip

    def codegen(context, builder, signature, arguments):
        (_, _, out_, out_at, out_rs, b, b_at, b_use, more_, a, a_at, a_rs, f, f_at,
         n_terms, n_rows, n_columns) = arguments  # fmt: skip
        tile = Tile(context, builder, out, V, n_columns)
        row = tile.valid_rows(R, n_rows)
        out_base = tile.pointer(out, out_, out_at)
        out_rows = [tile.step(out_base, builder.mul(r, out_rs)) for r in row]
        sums = tile.accumulators(R)
        tile.start(sums, tile.pointer(bias, b, b_at), b_use)
        with builder.if_then(more_):
            for sums_r, place in zip(sums, out_rows, strict=True):
                for slot, value in zip(sums_r, tile.load_row(place), strict=True):
                    builder.store(value, slot)

        a_base, f_base = tile.pointer(left, a, a_at), tile.pointer(panel, f, f_at)
        a_rows = [tile.step(a_base, builder.mul(r, a_rs)) for r in row]
        with tile.loop(n_terms) as i:
            factor = tile.step(f_base, builder.mul(i.index, i64(V * tile.lanes)))
            columns = tile.load_row(factor, whole=True)
            for sums_r, a_r in zip(sums, a_rows, strict=True):
                tile.add_products(sums_r, builder.load(tile.step(a_r, i.index)), columns)

        tile.store_sums(sums, out_rows)
        return context.get_dummy_value()

    return signature, codegen


@intrinsic(prefer_literal=True)
def copy_columns(
    typing_context,
    most,  # literal: valid_columns are no more
    out, out_offset, out_stride,
    source, source_offset, source_stride,
    rows, valid_columns,
):  # fmt: skip
    """out[r, c] = source[r, c]"""
    if not literals(most):
        return None
    V = -(-most.literal_value // lanes(out.dtype.bitwidth))
    signature = types.void(most, out, INDEX, INDEX, source, INDEX, INDEX, INDEX, INDEX)

    def codegen(context, builder, signature, arguments):
        _, out_, out_at, out_rs, src, src_at, src_rs, n_rows, n_columns = arguments
        tile = Tile(context, builder, out, V, n_columns)
        out_base, src_base = tile.pointer(out, out_, out_at), tile.pointer(source, src, src_at)
        with tile.loop(n_rows) as r:
            to = tile.step(out_base, builder.mul(r.index, out_rs))
            row = tile.step(src_base, builder.mul(r.index, src_rs))
            for v in range(V):
                tile.store(tile.load(row, v), to, v)
        return context.get_dummy_value()

    return signature, codegen


@intrinsic
def square_side(typing_context, array):
    """The side of transpose_square's matrices."""

    def codegen(context, builder, signature, arguments):
        return i64(lanes(array.dtype.bitwidth))

    return INDEX(array), codegen


@intrinsic
def transpose_square(
    typing_context, out, out_offset, out_stride, source, source_offset, source_stride
):
    """out[c, r] = source[r, c] for a square matrix whose rows are one vector.

    Log₂ steps: the s-th swaps the off-diagonal quarters of all squares of side 2·2ˢ.
    """
    signature = types.void(out, INDEX, INDEX, source, INDEX, INDEX)

    def codegen(context, builder, signature, arguments):
        out_, out_at, out_rs, src, src_at, src_rs = arguments
        tile = Tile(context, builder, out)
        side = tile.lanes
        alignment = tile.bytes

        def rows(array_type, array, offset, stride):
            base = tile.pointer(array_type, array, offset)
            for r in range(side):
                row = tile.step(base, builder.mul(stride, i64(r)))
                yield builder.bitcast(row, tile.vector.as_pointer())

        values = [
            builder.load(pointer, align=alignment) for pointer in rows(source, src, src_at, src_rs)
        ]
        half = 1
        while half < side:
            upper = [lane - half + side if lane & half else lane for lane in range(side)]
            lower = [lane + side if lane & half else lane + half for lane in range(side)]
            order = ir.VectorType(ir.IntType(32), side)
            for r in range(side):
                if not r & half:
                    pair = values[r], values[r + half]
                    values[r] = builder.shuffle_vector(*pair, ir.Constant(order, upper))
                    values[r + half] = builder.shuffle_vector(*pair, ir.Constant(order, lower))
            half *= 2
        for value, pointer in zip(values, rows(out, out_, out_at, out_rs), strict=True):
            builder.store(value, pointer, align=alignment)
        return context.get_dummy_value()

    return signature, codegen
