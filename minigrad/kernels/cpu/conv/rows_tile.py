"""Register tiles that slide along a row of an image, written as LLVM vector code.

Where the windows of neighbouring pixels start one tap apart, every source element meets as many
taps as the window is wide: TAPS of them at a time. It is loaded and broadcast once for all of them,
so that a multiply-add takes a third or half of a load where the tiles of _simd.py take more than
one, and the loads keep up with the multipliers even for a single vector of channels. See _simd.py
for the rules.
"""

from __future__ import annotations

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from .._simd import INDEX, PAIR, TRIPLE, VECTOR_BITS, Tile, i64, literals

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


@intrinsic(prefer_literal=True)
def slide_tile(
    typing_context,
    pixels,  # literal: pixels of the register tile, all of them live
    vectors,  # literal: vectors of output channels
    out, out_offset, out_stride,  # pixel p is at out_offset + p·out_stride
    source, source_offset, source_stride,  # tap t of pixel p: at source_offset + (p + t)·stride
    inside,  # the range of p + t that lies inside the image; the rest is not touched
    weight, weight_offset, weight_steps,  # elements from one row, tap and channel to the next
    bias, bias_offset, use_bias, relu,
    counts,  # (rows of taps, taps in a row, channels)
    source_row,  # source elements from one row of taps to the next
    valid_columns,
):  # fmt: skip
    """out[p, c] = bias[c] + Σ_{a, t} Σ_k source[a, p + t, k] · weight[a, t, k, c]; `relu`: ≥ 0."""
    if not literals(pixels, vectors):
        return None
    P, V = pixels.literal_value, vectors.literal_value
    signature = types.void(
        pixels, vectors, out, INDEX, INDEX, source, INDEX, INDEX, PAIR, weight, INDEX, TRIPLE,
        bias, INDEX, types.boolean, types.boolean, TRIPLE, INDEX, INDEX,
    )  # fmt: skip

    def codegen(context, builder, signature, arguments):
        (_, _, out_, out_at, out_ps, src, src_at, src_ps, inside_, w, w_at, w_steps,
         b, b_at, b_use, relu_, counts_, src_row, n_columns) = arguments  # fmt: skip
        tile = Tile(context, builder, out, V, n_columns)
        n_rows, n_taps, n_k = cgutils.unpack_tuple(builder, counts_)
        w_row, w_tap, w_channel = cgutils.unpack_tuple(builder, w_steps)
        first, last = cgutils.unpack_tuple(builder, inside_)
        src_base, w_base = tile.pointer(source, src, src_at), tile.pointer(weight, w, w_at)

        sums = tile.accumulators(P)
        tile.start(sums, tile.pointer(bias, b, b_at), b_use)

        def add_taps(tap, taps, whole):
            """Taps tap, …, tap + taps − 1 of all rows: position q meets each of them."""
            low, high = builder.sub(first, tap), builder.sub(last, tap)
            positions = P + taps - 1

            def meet(q, src_k, factors):
                _in_order(builder)
                scalar = builder.load(tile.step(src_k, builder.mul(i64(q), src_ps)))
                for t in range(taps):
                    if 0 <= q - t < P:
                        tile.add_products(sums[q - t], scalar, factors[t])

            # One loop over the rows and their channels, so that nothing is set up for each row.
            k = cgutils.alloca_once_value(builder, i64(0))
            src_slot = cgutils.alloca_once(builder, src_base.type)
            w_slot = cgutils.alloca_once(builder, w_base.type)
            builder.store(i64(0), k)
            builder.store(tile.step(src_base, builder.mul(tap, src_ps)), src_slot)
            builder.store(tile.step(w_base, builder.mul(tap, w_tap)), w_slot)
            with tile.loop(builder.mul(n_rows, n_k)):
                src_k, w_k = builder.load(src_slot), builder.load(w_slot)
                places = [tile.step(w_k, builder.mul(i64(t), w_tap)) for t in range(taps)]
                factors = [tile.load_row(place, whole) for place in places]
                # Neighbours add to the same results: far apart, they do not wait for one another.
                for q in sorted(range(positions), key=lambda q: q % APART):
                    if q < OVERHANG:
                        with builder.if_then(builder.icmp_signed("<=", low, i64(q))):
                            meet(q, src_k, factors)
                    elif q >= positions - OVERHANG:
                        with builder.if_then(builder.icmp_signed(">", high, i64(q))):
                            meet(q, src_k, factors)
                    else:
                        meet(q, src_k, factors)
                done = builder.add(builder.load(k), i64(1))
                end = builder.icmp_signed("==", done, n_k)
                back = builder.sub(n_k, i64(1))
                builder.store(builder.select(end, i64(0), done), k)
                src_step = builder.select(end, builder.sub(src_row, back), i64(1))
                w_end = builder.sub(w_row, builder.mul(back, w_channel))
                builder.store(tile.step(src_k, src_step), src_slot)
                builder.store(tile.step(w_k, builder.select(end, w_end, w_channel)), w_slot)

        together = builder.mul(builder.udiv(n_taps, i64(TAPS)), i64(TAPS))
        for whole in tile.whole_or_masked():
            with cgutils.for_range_slice(builder, i64(0), together, i64(TAPS), _int64) as (tap, _):
                add_taps(tap, TAPS, whole)
            with cgutils.for_range_slice(builder, together, n_taps, i64(1), _int64) as (tap, _):
                add_taps(tap, 1, whole)

        out_base = tile.pointer(out, out_, out_at)
        places = [tile.step(out_base, builder.mul(i64(p), out_ps)) for p in range(P)]
        tile.store_sums(sums, places, tile.least(relu_))
        return context.get_dummy_value()

    return signature, codegen


@intrinsic(prefer_literal=True)
def slide_gradient_tile(
    typing_context,
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
    if not literals(rows):
        return None
    R = rows.literal_value
    signature = types.void(
        rows, out, INDEX, INDEX, source, INDEX, PAIR, table, INDEX, INDEX,
        grad, INDEX, PAIR, INDEX, INDEX, PAIR, INDEX, INDEX,
    )  # fmt: skip

    def codegen(context, builder, signature, arguments):
        (_, out_, out_at, out_tap, src, src_at, src_steps_, table_, first, size, g, g_at, g_steps_,
         n_lines, before_, widths_, n_rows, n_columns) = arguments  # fmt: skip
        tile = Tile(context, builder, out, 1, n_columns)
        src_line_step, src_step = cgutils.unpack_tuple(builder, src_steps_)
        g_line_step, g_step = cgutils.unpack_tuple(builder, g_steps_)
        src_width, g_width = cgutils.unpack_tuple(builder, widths_)

        row = tile.valid_rows(R, n_rows)

        def entries(at):
            base = tile.pointer(table, table_, at)
            return [builder.load(builder.gep(base, [r])) for r in row]

        out_base = tile.pointer(out, out_, out_at)
        out_taps = [tile.step(out_base, builder.mul(i64(t), out_tap)) for t in range(TAPS)]
        places = [tile.step(tap, offset) for offset in entries(first) for tap in out_taps]
        src_rows = entries(builder.add(first, size))
        src_base, g_base = tile.pointer(source, src, src_at), tile.pointer(grad, g, g_at)

        sums = tile.accumulators(R, TAPS)
        tile.clear(sums)
        # window[t] is the gradient that the source pixel at hand meets through tap t.
        (window,) = tile.accumulators(1, TAPS)

        def add_pixel(src_pixel):
            grads = [builder.load(slot) for slot in window]
            for offset, row in zip(src_rows, sums, strict=True):
                _in_order(builder)
                tile.add_products(row, builder.load(tile.step(src_pixel, offset)), grads)

        def slide(value):
            for t in reversed(range(1, TAPS)):
                builder.store(builder.load(window[t - 1]), window[t])
            builder.store(value, window[0])

        with_new = tile.smaller(src_width, builder.sub(g_width, before_))
        with_old = builder.sub(
            tile.smaller(src_width, builder.add(with_new, i64(TAPS - 1))), with_new
        )
        for whole in tile.whole_or_masked():
            with tile.loop(n_lines) as i:
                src_line = tile.step(src_base, builder.mul(i.index, src_line_step))
                g_line = tile.step(g_base, builder.mul(i.index, g_line_step))
                tile.clear([window])
                with tile.loop(before_) as j:
                    slide(tile.load(tile.step(g_line, builder.mul(j.index, g_step)), whole=whole))
                with tile.loop(with_new) as s:
                    j = builder.add(s.index, before_)
                    slide(tile.load(tile.step(g_line, builder.mul(j, g_step)), whole=whole))
                    add_pixel(tile.step(src_line, builder.mul(s.index, src_step)))
                with tile.loop(with_old) as s:
                    slide(tile.zero)
                    at = builder.add(with_new, s.index)
                    add_pixel(tile.step(src_line, builder.mul(at, src_step)))

        tile.add_sums([[slot] for row in sums for slot in row], places)
        return context.get_dummy_value()

    return signature, codegen
