"""Matrix products as LLVM vector code: the register tile, and copies into the panels that it reads.

A panel holds, term by term, the few rows or columns of a matrix that one tile needs: what the tile
reads then lies in one piece, wherever the matrix had it.
"""

from __future__ import annotations

from llvmlite import ir
from numba import types

from ._jit import helper
from ._simd import Tile, i64, lanes, vector_code


@vector_code(literals=2)
def product_tile(
    builder,
    rows,  # literal: rows of the register tile
    vectors,  # literal: vectors of columns
    out, out_offset, out_stride,  # row r is at out_offset + r·out_stride
    bias, bias_offset, use_bias, bounds,
    more,  # out holds the sum of earlier terms, bias included
    left, left_offset, left_stride,  # row r at left_offset + r·left_stride, term after term
    panel, panel_offset, panel_stride,  # of right: `vectors` whole vectors a term
    terms, valid_rows, valid_columns,
):  # fmt: skip
    """out[r, c] = Σ_i left[r, i] · panel[i, c], plus bias[c] or, with `more`, what out[r, c] was,
    in `bounds`.

    What it was is added last: a sum of a million terms would lose half of its digits if each were
    rounded to what lies there. Rows past `valid_rows` repeat the last valid one.
    """
    tile = Tile(builder, out, vectors, valid_columns)
    row = tile.valid_rows(rows, valid_rows)
    first = out.at(out_offset)
    out_rows = [tile.step(first, builder.mul(r, out_stride)) for r in row]
    sums = tile.accumulators(rows)
    tile.start(sums, bias.at(bias_offset), builder.and_(use_bias, builder.not_(more)))

    first_left, first_panel = left.at(left_offset), panel.at(panel_offset)
    left_rows = [tile.step(first_left, builder.mul(r, left_stride)) for r in row]
    with tile.loop(terms) as i:
        factor = tile.step(first_panel, builder.mul(i.index, panel_stride))
        columns = tile.load_row(factor, whole=True)
        for sums_r, left_r in zip(sums, left_rows, strict=True):
            tile.add_products(sums_r, builder.load(tile.step(left_r, i.index)), columns)

    tile.add_sums(sums, out_rows, more, tile.limits(bounds))


@vector_code(literals=1)
def add_row_product(
    builder,
    terms,  # literal
    out, out_offset,
    left, left_offset,
    right, right_offset, right_stride,
    columns,
):  # fmt: skip
    """out[c] += Σ_i left[i] · right[i, c]: `right` is read where it lies."""
    tile = Tile(builder, out)
    first_left, first_right = left.at(left_offset), right.at(right_offset)
    factors = [tile.splat(builder.load(tile.step(first_left, i64(i)))) for i in range(terms)]
    rows = [tile.step(first_right, builder.mul(right_stride, i64(i))) for i in range(terms)]
    # Several sums, so that a product need not wait for the one before.
    sums = tile.accumulators(min(terms, 4))
    for c in tile.over_channels(columns):
        place = tile.step(out.at(out_offset), c)
        tile.clear(sums)
        builder.store(tile.load(place), sums[0][0])
        for i, (factor, row) in enumerate(zip(factors, rows, strict=True)):
            tile.add_product(sums[i % len(sums)][0], factor, tile.load(tile.step(row, c)))
        values = [builder.load(slot) for (slot,) in sums]
        while len(values) > 1:
            values = [builder.fadd(*pair) for pair in zip(values[::2], values[1::2], strict=True)]
        tile.store(values[0], place)


@vector_code(literals=1)
def copy_columns(
    builder,
    most,  # literal: valid_columns are no more
    out, out_offset, out_stride,
    source, source_offset, source_stride,
    rows, valid_columns,
):  # fmt: skip
    """out[r, c] = source[r, c]"""
    vectors = -(-most // lanes(out.dtype.bitwidth))
    tile = Tile(builder, out, vectors, valid_columns)
    first_out, first_source = out.at(out_offset), source.at(source_offset)
    for whole in tile.whole_or_masked():
        with tile.loop(rows) as r:
            to = tile.step(first_out, builder.mul(r.index, out_stride))
            row = tile.step(first_source, builder.mul(r.index, source_stride))
            for v in range(vectors):
                tile.store(tile.load(row, v, whole), to, v, whole)


@vector_code(returns=types.int64)
def square_side(builder, array):
    """The side of transpose_square's matrices."""
    return i64(lanes(array.dtype.bitwidth))


@vector_code()
def transpose_square(
    builder, out, out_offset, out_stride, source, source_offset, source_stride
):  # fmt: skip
    """out[c, r] = source[r, c] for a square matrix whose rows are one vector.

    Log₂ steps: the s-th swaps the off-diagonal quarters of all squares of side 2·2ˢ.
    """
    tile = Tile(builder, out)
    side = tile.lanes

    def rows(operand, offset, stride):
        first = operand.at(offset)
        for r in range(side):
            row = tile.step(first, builder.mul(stride, i64(r)))
            yield builder.bitcast(row, tile.vector.as_pointer())

    from_rows = rows(source, source_offset, source_stride)
    values = [builder.load(pointer, align=tile.bytes) for pointer in from_rows]
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
    for value, pointer in zip(values, rows(out, out_offset, out_stride), strict=True):
        builder.store(value, pointer, align=tile.bytes)


@helper
def pack_transposed(panel, at, width, source, source_at, source_stride, terms, columns):
    """panel[at + i·width + c] = source[source_at + c·source_stride + i]"""
    side = square_side(panel)
    for c in range(0, columns, side):
        for i in range(0, terms, side):
            if c + side <= columns and i + side <= terms:
                transpose_square(
                    panel, at + i * width + c, width,
                    source, source_at + c * source_stride + i, source_stride,
                )  # fmt: skip
                continue
            for c1 in range(c, min(c + side, columns)):
                for i1 in range(i, min(i + side, terms)):
                    panel[at + i1 * width + c1] = source[source_at + c1 * source_stride + i1]
