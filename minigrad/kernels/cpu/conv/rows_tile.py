"""Register tiles that slide along a row of an image, written as LLVM vector code.

Where the windows of neighbouring pixels start one tap apart, every source element meets as many
taps as the window is wide: TAPS of them at a time. It is loaded and broadcast once for all of them,
so that a multiply-add takes a third or half of a load where the tiles of _simd.py take more than
one, and the loads keep up with the multipliers even for a single vector of channels. See _simd.py
for the rules.
"""

from __future__ import annotations

from llvmlite import ir
from numba.core import cgutils

from .._simd import VECTOR_BITS, Tile, i64, vector_code

# Taps of a row that are taken together.
TAPS = 3
# Positions that a window may reach over either side of the image.
OVERHANG = 2
# Pixels in a tile of convolution, 2·OVERHANG at least, for one vector of channels and for two: they
# divide rows of 32 and of 28. And weight rows in a tile of the weight gradient, TAPS vectors each:
# those of one channel, of many, and, where registers allow, all of 3×3 taps of three channels.
PIXELS, WEIGHT_ROWS = (
    (((16, 14), (8, 7)), (3, 8, 9)) if VECTOR_BITS != 256 else (((8, 7), (4,)), (3, 4))
)
# Steps between positions whose products follow one another.
APART = 4

_int64 = ir.IntType(64)


def _in_order(builder):
    """Loads stay on their side of this.

    LLVM's scheduler else moves a load that many products need behind loads that few need, and then
    has too few registers for what waits.
    """
    function = ir.FunctionType(ir.VoidType(), [])
    builder.call(ir.InlineAsm(function, "", "~{memory}", side_effect=True), [])


@vector_code(literals=2)
def slide_tile(
    builder,
    pixels,  # literal: pixels of the register tile, all of them live
    vectors,  # literal: vectors of output channels
    out, out_offset, out_stride,  # pixel p is at out_offset + p·out_stride
    source, source_offset, source_stride,  # tap t of pixel p: at source_offset + (p + t)·stride
    inside,  # the range of p + t that lies inside the image; the rest is not touched
    weight, weight_offset, weight_steps,  # as panels.py says
    bias, bias_offset, use_bias, bounds,
    counts,  # (rows of taps, taps in a row, channels)
    source_row,  # source elements from one row of taps to the next
    valid_columns,
):  # fmt: skip
    """out[p, c] = bias[c] + Σ_{a, t} Σ_k source[a, p + t, k] · weight[a, t, k, c], in `bounds`."""
    tile = Tile(builder, out, vectors, valid_columns)
    tap_rows, row_taps, channels = counts
    weight_row, weight_tap, weight_channel, _ = weight_steps
    first_source, first_weight = source.at(source_offset), weight.at(weight_offset)
    sums = tile.accumulators(pixels)
    tile.start(sums, bias.at(bias_offset), use_bias)

    def add_taps(tap, taps, whole):
        """Taps tap, …, tap + taps − 1 of all rows: position q meets each of them."""
        low, high = (builder.sub(end, tap) for end in inside)
        positions = pixels + taps - 1

        def meet(q, source_k, factors):
            _in_order(builder)
            scalar = builder.load(tile.step(source_k, builder.mul(i64(q), source_stride)))
            for t in range(taps):
                if 0 <= q - t < pixels:
                    tile.add_products(sums[q - t], scalar, factors[t])

        # One loop over the rows and their channels, so that nothing is set up for each row.
        k = cgutils.alloca_once_value(builder, i64(0))
        source_slot = cgutils.alloca_once(builder, first_source.type)
        weight_slot = cgutils.alloca_once(builder, first_weight.type)
        builder.store(i64(0), k)
        builder.store(tile.step(first_source, builder.mul(tap, source_stride)), source_slot)
        builder.store(tile.step(first_weight, builder.mul(tap, weight_tap)), weight_slot)
        with tile.loop(builder.mul(tap_rows, channels)):
            source_k, weight_k = builder.load(source_slot), builder.load(weight_slot)
            places = [tile.step(weight_k, builder.mul(i64(t), weight_tap)) for t in range(taps)]
            factors = [tile.load_row(place, whole) for place in places]
            # Neighbours add to the same results: far apart, they do not wait for one another.
            for q in sorted(range(positions), key=lambda q: q % APART):
                if q < OVERHANG:
                    with builder.if_then(builder.icmp_signed("<=", low, i64(q))):
                        meet(q, source_k, factors)
                elif q >= positions - OVERHANG:
                    with builder.if_then(builder.icmp_signed(">", high, i64(q))):
                        meet(q, source_k, factors)
                else:
                    meet(q, source_k, factors)
            done = builder.add(builder.load(k), i64(1))
            end = builder.icmp_signed("==", done, channels)
            back = builder.sub(channels, i64(1))
            builder.store(builder.select(end, i64(0), done), k)
            source_step = builder.select(end, builder.sub(source_row, back), i64(1))
            row_end = builder.sub(weight_row, builder.mul(back, weight_channel))
            weight_step = builder.select(end, row_end, weight_channel)
            builder.store(tile.step(source_k, source_step), source_slot)
            builder.store(tile.step(weight_k, weight_step), weight_slot)

    together = builder.mul(builder.udiv(row_taps, i64(TAPS)), i64(TAPS))
    for whole in tile.whole_or_masked():
        with cgutils.for_range_slice(builder, i64(0), together, i64(TAPS), _int64) as (tap, _):
            add_taps(tap, TAPS, whole)
        with cgutils.for_range_slice(builder, together, row_taps, i64(1), _int64) as (tap, _):
            add_taps(tap, 1, whole)

    first = out.at(out_offset)
    places = [tile.step(first, builder.mul(i64(p), out_stride)) for p in range(pixels)]
    tile.store_sums(sums, places, tile.limits(bounds))


@vector_code(literals=1)
def slide_gradient_tile(
    builder,
    rows,  # literal: rows of the register tile
    out, out_offset, out_tap,  # out elements from one tap to the next
    source, source_offset, source_steps,  # elements from one row and pixel to the next
    table, first_row,  # row r adds table[0, first_row + r] to out, table[1, …] to source
    table_size,
    grad, grad_offset, grad_steps,
    lines,  # rows of pixels
    before,  # tap t of pixel j meets the source at column j + t − before
    widths,  # columns of the source, columns of grad
    valid_rows, valid_columns,
):  # fmt: skip
    """out[t, r, c] += Σ_{i, j} source[i, j + t − before, r] · grad[i, j, c] for t < TAPS.

    Each source element meets the TAPS gradients of a window that slides along. Past the borders the
    window holds zeros: an infinite or NaN source element there gives NaN where the definition has
    no product. Rows past `valid_rows` repeat the last valid one.
    """
    tile = Tile(builder, out, 1, valid_columns)
    row = tile.valid_rows(rows, valid_rows)

    def entries(at):
        return [builder.load(tile.step(table.at(at), r)) for r in row]

    first_out = out.at(out_offset)
    out_taps = [tile.step(first_out, builder.mul(i64(t), out_tap)) for t in range(TAPS)]
    places = [tile.step(tap, offset) for offset in entries(first_row) for tap in out_taps]
    source_rows = entries(builder.add(first_row, table_size))
    first_source, first_grad = source.at(source_offset), grad.at(grad_offset)

    sums = tile.accumulators(rows, TAPS)
    tile.clear(sums)
    # window[t] is the gradient that the source pixel at hand meets through tap t.
    (window,) = tile.accumulators(1, TAPS)

    def add_pixel(pixel):
        grads = [builder.load(slot) for slot in window]
        for offset, row in zip(source_rows, sums, strict=True):
            _in_order(builder)
            tile.add_products(row, builder.load(tile.step(pixel, offset)), grads)

    def slide(value):
        for t in reversed(range(1, TAPS)):
            builder.store(builder.load(window[t - 1]), window[t])
        builder.store(value, window[0])

    def slide_to(grad_line, j, whole):
        pixel = tile.step(grad_line, builder.mul(j, grad_steps[1]))
        slide(tile.load(pixel, whole=whole))

    with_new = tile.smaller(widths[0], builder.sub(widths[1], before))
    covered = tile.smaller(widths[0], builder.add(with_new, i64(TAPS - 1)))
    for whole in tile.whole_or_masked():
        with tile.loop(lines) as i:
            source_line = tile.step(first_source, builder.mul(i.index, source_steps[0]))
            grad_line = tile.step(first_grad, builder.mul(i.index, grad_steps[0]))
            tile.clear([window])
            with tile.loop(before) as j:
                slide_to(grad_line, j.index, whole)
            with tile.loop(with_new) as s:
                slide_to(grad_line, builder.add(s.index, before), whole)
                add_pixel(tile.step(source_line, builder.mul(s.index, source_steps[1])))
            with tile.loop(builder.sub(covered, with_new)) as s:
                slide(tile.zero)
                at = builder.add(with_new, s.index)
                add_pixel(tile.step(source_line, builder.mul(at, source_steps[1])))

    tile.add_sums([[slot] for row in sums for slot in row], places)
