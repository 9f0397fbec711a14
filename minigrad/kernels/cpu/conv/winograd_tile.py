"""Winograd's transforms of 3×3 convolution, written as LLVM vector code.

F(2×2, 3×3) computes the 2×2 outputs of one 4×4 input tile d with 16 products instead of 36:
    Y = Aᵀ[(G g Gᵀ) ⊙ (Bᵀ d B)]A
where g is the 3×3 kernel. Summed over input channels, each of the 16 products ξ is a matrix
product. The gradient of g is the transpose of the same formula: dg = Gᵀ[(A dY Aᵀ) ⊙ (Bᵀ d B)]G.

Every transform is a one-dimensional one, applied to the columns and then to the rows, of vectors of
channels. `spread_tile` goes from the pixels of an image to the 16 products, `gather_tile` from the
16 products back to pixels. Source: Lavin & Gray 2016, "Fast Algorithms for Convolutional Neural
Networks".
"""

from __future__ import annotations

from llvmlite import ir
from numba import types

from .._simd import Tile, i64, vector_code

PRODUCTS = 16

# Which transform: literals for the intrinsics.
INPUT, GRADIENT, WEIGHT = 0, 1, 2  # of spread_tile
OUTPUT, WEIGHT_GRADIENT = 0, 1  # of gather_tile


class _Transforms:
    """One-dimensional transforms of lists of vectors."""

    def __init__(self, tile):
        self.add, self.sub, self.mul = tile.builder.fadd, tile.builder.fsub, tile.builder.fmul
        self.half = ir.Constant(tile.vector, [0.5] * tile.lanes)
        self.zero = tile.zero

    def input(self, d):  # Bᵀd
        return [
            self.sub(d[0], d[2]), self.add(d[1], d[2]), self.sub(d[2], d[1]), self.sub(d[1], d[3])
        ]  # fmt: skip

    def weight(self, g):  # G·g
        outer, middle = self.add(g[0], g[2]), g[1]
        return [
            g[0],
            self.mul(self.half, self.add(outer, middle)),
            self.mul(self.half, self.sub(outer, middle)),
            g[2],
        ]

    def output(self, m):  # Aᵀm
        return [
            self.add(m[0], self.add(m[1], m[2])), self.sub(self.sub(m[1], m[2]), m[3])
        ]  # fmt: skip

    def gradient(self, y):  # A·y
        return [y[0], self.add(y[0], y[1]), self.sub(y[0], y[1]), self.sub(self.zero, y[1])]

    def weight_gradient(self, u):  # Gᵀu
        plus, minus = self.add(u[1], u[2]), self.sub(u[1], u[2])
        return [
            self.add(u[0], self.mul(self.half, plus)),
            self.mul(self.half, minus),
            self.add(self.mul(self.half, plus), u[3]),
        ]


def _both_ways(tile, transform, grid):
    """The transform of the columns, then of the rows."""
    transforms = _Transforms(tile)
    columns = [transform(transforms, column) for column in zip(*grid, strict=True)]
    return [transform(transforms, row) for row in zip(*columns, strict=True)]


# By kind: pixels along a side, and the transform.
_SPREAD = {INPUT: (4, _Transforms.input), GRADIENT: (2, _Transforms.gradient),
           WEIGHT: (3, _Transforms.weight)}  # fmt: skip
_GATHER = {OUTPUT: (2, _Transforms.output), WEIGHT_GRADIENT: (3, _Transforms.weight_gradient)}


def _pixel_pointers(tile, base, side, strides, first, size, outside):
    """Pointers to the side × side pixels from `first`; `outside` for those not in the image."""
    builder, places = tile.builder, [i64(place) for place in range(side)]
    # One unsigned comparison: a negative position is a large one.
    inside = [
        [builder.icmp_unsigned("<", builder.add(first[axis], p), size[axis]) for p in places]
        for axis in range(2)
    ]
    return [
        [
            builder.select(
                builder.and_(inside[0][r], inside[1][s]),
                tile.step(base, tile.dot((places[r], places[s]), strides)),
                outside,
            )
            for s in range(side)
        ]
        for r in range(side)
    ]


@vector_code(literals=1)
def spread_tile(
    builder,
    kind,  # literal: INPUT, GRADIENT or WEIGHT
    products, products_offset, products_step,  # product ξ goes to products_offset + ξ·products_step
    image, image_offset, strides,  # of the tile's first pixel; elements per row and column
    first, size,  # (row, column) of the first pixel, size of the image
    zeros,  # what pixels outside the image are: `channels` zeros
    channels,
):  # fmt: skip
    """products[ξ] = the transform of the 4×4, 2×2 or 3×3 pixels from `first`, by channel."""
    side, transform = _SPREAD[kind]
    tile = Tile(builder, image)
    pixels = _pixel_pointers(
        tile, image.at(image_offset), side, strides, first, size, zeros.at(i64(0))
    )
    first_product = products.at(products_offset)
    for c in tile.over_channels(channels):
        grid = [[tile.load(tile.step(pixel, c)) for pixel in row] for row in pixels]
        spread = [vector for row in _both_ways(tile, transform, grid) for vector in row]
        for xi, vector in enumerate(spread):
            at = builder.add(builder.mul(products_step, i64(xi)), c)
            tile.store(vector, tile.step(first_product, at))


@vector_code(literals=1, returns=types.boolean)
def gather_tile(
    builder,
    kind,  # literal: OUTPUT or WEIGHT_GRADIENT
    products, products_offset, products_step,  # product ξ is at products_offset + ξ·products_step
    image, image_offset, strides,  # of the tile's first pixel; elements per row and column
    first, size,  # (row, column) of the first pixel, size of the image
    outside,  # where pixels outside the image go: `channels` elements that nobody reads
    bias, bias_offset, use_bias, relu,
    channels,
):  # fmt: skip
    """The 2×2 or 3×3 pixels from `first` = the transform of products[ξ], plus bias; at least 0 with
    `relu`.

    Returns whether all of them are finite, before relu.
    """
    side, transform = _GATHER[kind]
    tile = Tile(builder, image)
    pixels = _pixel_pointers(
        tile, image.at(image_offset), side, strides, first, size, outside.at(i64(0))
    )
    first_product, first_bias = products.at(products_offset), bias.at(bias_offset)
    ((start,), (spoiled,)) = tile.accumulators(2)
    tile.clear([[spoiled]])
    least = tile.least(relu)
    for c in tile.over_channels(channels):
        tile.start([[start]], tile.step(first_bias, c), use_bias)
        steps = [builder.add(builder.mul(products_step, i64(xi)), c) for xi in range(PRODUCTS)]
        vectors = [tile.load(tile.step(first_product, at)) for at in steps]
        grid = [vectors[row * 4 : row * 4 + 4] for row in range(4)]
        for row, values in zip(pixels, _both_ways(tile, transform, grid), strict=True):
            for pixel, value in zip(row, values, strict=True):
                value = builder.fadd(value, builder.load(start))
                tile.store(tile.at_least(least, value), tile.step(pixel, c))
                # 0·x is 0 where x is finite, NaN elsewhere.
                tile.add_product(spoiled, value, tile.zero)
    nan = builder.load(spoiled)
    lanes = builder.bitcast(builder.fcmp_unordered("uno", nan, nan), ir.IntType(tile.lanes))
    return builder.icmp_unsigned("==", lanes, ir.Constant(ir.IntType(tile.lanes), 0))
