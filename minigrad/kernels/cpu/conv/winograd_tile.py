"""Winograd's transforms of 3×3 convolution, written as LLVM vector code.

F(m×m, 3×3) computes the m×m outputs of one input tile d, m + 2 pixels a side, with (m + 2)²
products: for m = 2 16 instead of 36, for m = 4 36 instead of 144.
    Y = Aᵀ[(G g Gᵀ) ⊙ (Bᵀ d B)]A
where g is the 3×3 kernel. Summed over input channels, each of the products ξ is a matrix product.
The gradient of g is the transpose of the same formula: dg = Gᵀ[(A dY Aᵀ) ⊙ (Bᵀ d B)]G.

Every transform is a one-dimensional one, applied to the columns and then to the rows, of vectors of
channels. `spread_tile` goes from the pixels of an image to the products, `gather_tile` from the
products back to pixels. Source: Lavin & Gray 2016, "Fast Algorithms for Convolutional Neural
Networks"; Barabasz et al. 2020, "Error Analysis and Improving the Accuracy of Winograd Convolution
for Deep Neural Networks", for what the choice of points means.
"""

from __future__ import annotations

from math import prod

from llvmlite import ir
from numba import types

from .._simd import Tile, i64, vector_code

# Which transform: literals for the intrinsics.
INPUT, GRADIENT, WEIGHT = 0, 1, 2  # of spread_tile
OUTPUT, WEIGHT_GRADIENT = 0, 1  # of gather_tile

# The polynomials behind the transforms are evaluated at 0, at ∞, and at ±p for each of these p², by
# m. For m = 4 the usual p, 1 and 2, have five times the error.
_SQUARES = {2: (1.0,), 4: (0.5, 2.0)}


def products(outputs: int) -> int:
    """Products of a tile that has outputs × outputs pixels."""
    return (outputs + 2) ** 2


class _Transforms:
    """One-dimensional transforms of lists of vectors, of length m, 3 and m + 2.

    With the points 0, ±p for each p, ∞, and M(x) = x·Π (x² − p²): row q of Bᵀ has the coefficients
    of M(x) / (x − q), the last row those of M; row q of G is (1, q, q²) / Π (q − r) over the points
    r besides q, the last (0, 0, 1); column q of Aᵀ is (1, q, q², …), the last (0, …, 0, 1). What
    belongs to p and to −p is sum and difference of one even and one odd half.
    """

    def __init__(self, tile, outputs):
        self.tile, self.builder = tile, tile.builder
        self.squares = _SQUARES[outputs]
        # 1 / Π (q − r), of 0 and of either point of each pair.
        self.at_zero = 1 / prod(-s for s in self.squares)
        self.at_pair = [1 / (2 * s * prod(s - r for r in self._without(s))) for s in self.squares]

    def _without(self, square):
        return [s for s in self.squares if s != square]

    def _powers(self, power):
        """pⁱ for each p."""
        return [s ** (power // 2) * (s**0.5 if power % 2 else 1) for s in self.squares]

    def _times(self, factor, x):
        return x if factor == 1 else self.builder.fmul(self.tile.constant(factor), x)

    def _plus(self, x, factor, y):
        """x + factor·y"""
        if abs(factor) == 1:
            return (self.builder.fadd if factor == 1 else self.builder.fsub)(x, y)
        return self.tile.fma(self.tile.constant(factor), y, x)

    def _sum(self, factors, vectors):
        """Σ factor·vector, from the last to the first."""
        *rest, (factor, vector) = zip(factors, vectors, strict=True)
        total = self._times(factor, vector)
        for factor, vector in reversed(rest):
            total = self._plus(total, factor, vector)
        return total

    def _pairs(self, even, odd):
        """even + p·odd and even − p·odd for each p, whose halves the lists have."""
        return [
            self._plus(e, sign * p, o)
            for p, e, o in zip(self._powers(1), even, odd, strict=True)
            for sign in (1, -1)
        ]

    def _halves(self, m):
        """Sum and difference of what belongs to p and to −p, for each p."""
        pairs = list(zip(m[1:-1:2], m[2:-1:2], strict=True))
        return [self.builder.fadd(*pair) for pair in pairs], [
            self.builder.fsub(*pair) for pair in pairs
        ]

    def input(self, d):  # Bᵀd
        whole = _coefficients(self.squares)
        parts = [_coefficients(self._without(s)) for s in self.squares]
        even = [self._sum(part, d[2::2]) for part in parts]
        odd = [self._sum(part, d[1:-1:2]) for part in parts]
        return [
            self._sum(whole, d[0::2]), *self._pairs(even, odd), self._sum(whole, d[1::2])
        ]  # fmt: skip

    def weight(self, g):  # G·g
        even = [self._plus(g[0], s, g[2]) for s in self.squares]
        pairs = self._pairs(even, [g[1]] * len(even))
        scaled = [self._times(self.at_pair[i // 2], pair) for i, pair in enumerate(pairs)]
        return [self._times(self.at_zero, g[0]), *scaled, g[2]]

    def output(self, m):  # Aᵀm
        halves = self._halves(m)
        last = 2 * len(self.squares) - 1
        y = [self._sum(self._powers(i), halves[i % 2]) for i in range(last + 1)]
        return [self._plus(y[0], 1, m[0]), *y[1:last], self._plus(y[last], 1, m[-1])]

    def gradient(self, y):  # A·y
        factors = [[s**i for i in range(len(self.squares))] for s in self.squares]
        even = [self._sum(each, y[0::2]) for each in factors]
        odd = [self._sum(each, y[1::2]) for each in factors]
        return [y[0], *self._pairs(even, odd), y[-1]]

    def weight_gradient(self, u):  # Gᵀu
        halves = self._halves(u)
        scaled = [
            [p * q for p, q in zip(self._powers(i), self.at_pair, strict=True)] for i in range(3)
        ]
        dg = [self._sum(scaled[i], halves[i % 2]) for i in range(3)]
        return [self._plus(dg[0], self.at_zero, u[0]), dg[1], self._plus(dg[2], 1, u[-1])]


def _coefficients(squares):
    """Of Π (x² − p²) over the p², those of the even powers, the lowest first."""
    coefficients = [1.0]
    for s in squares:
        shifted = [0.0, *coefficients]
        coefficients = [a - s * b for a, b in zip(shifted, [*coefficients, 0.0], strict=True)]
    return coefficients


def _both_ways(transform, side, load):
    """Rows of the transform of the columns, then of the rows. Vectors are loaded column by column,
    so that few have to be kept."""
    columns = [transform([load(r, s) for r in range(side)]) for s in range(side)]
    for row in zip(*columns, strict=True):
        yield transform(list(row))


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


@vector_code(literals=2)
def spread_tile(
    builder,
    outputs,  # literal: m
    kind,  # literal: INPUT, GRADIENT or WEIGHT
    products, products_offset, products_step,  # product ξ goes to products_offset + ξ·products_step
    image, image_offset, strides,  # of the tile's first pixel; elements per row and column
    first, size,  # (row, column) of the first pixel, size of the image
    zeros,  # what pixels outside the image are: `channels` zeros
    channels,
):  # fmt: skip
    """products[ξ] = the transform of the pixels from `first`, m + 2, m or 3 a side, by channel."""
    tile = Tile(builder, image)
    transforms = _Transforms(tile, outputs)
    side, transform = {
        INPUT: (outputs + 2, transforms.input),
        GRADIENT: (outputs, transforms.gradient),
        WEIGHT: (3, transforms.weight),
    }[kind]
    pixels = _pixel_pointers(
        tile, image.at(image_offset), side, strides, first, size, zeros.at(i64(0))
    )
    first_product = products.at(products_offset)
    for c in tile.over_channels(channels):

        def load(r, s, c=c):
            return tile.load(tile.step(pixels[r][s], c))

        rows = _both_ways(transform, side, load)
        for xi, vector in enumerate(vector for row in rows for vector in row):
            at = builder.add(builder.mul(products_step, i64(xi)), c)
            tile.store(vector, tile.step(first_product, at))


@vector_code(literals=2, returns=types.boolean)
def gather_tile(
    builder,
    outputs,  # literal: m
    kind,  # literal: OUTPUT or WEIGHT_GRADIENT
    products, products_offset, products_step,  # product ξ is at products_offset + ξ·products_step
    image, image_offset, strides,  # of the tile's first pixel; elements per row and column
    first, size,  # (row, column) of the first pixel, size of the image
    outside,  # where pixels outside the image go: `channels` elements that nobody reads
    bias, bias_offset, use_bias, bounds,
    channels,
):  # fmt: skip
    """The pixels from `first`, m or 3 a side = the transform of products[ξ], plus bias, in
    `bounds`.

    Returns whether all of them are finite, before they are limited.
    """
    tile = Tile(builder, image)
    transforms = _Transforms(tile, outputs)
    side, transform = {
        OUTPUT: (outputs, transforms.output),
        WEIGHT_GRADIENT: (3, transforms.weight_gradient),
    }[kind]
    pixels = _pixel_pointers(
        tile, image.at(image_offset), side, strides, first, size, outside.at(i64(0))
    )
    first_product, first_bias = products.at(products_offset), bias.at(bias_offset)
    ((start,), (spoiled,)) = tile.accumulators(2)
    tile.clear([[spoiled]])
    limits = tile.limits(bounds)
    for c in tile.over_channels(channels):
        tile.start([[start]], tile.step(first_bias, c), use_bias)

        def load(row, column, c=c):
            xi = i64(row * (outputs + 2) + column)
            at = builder.add(builder.mul(products_step, xi), c)
            return tile.load(tile.step(first_product, at))

        rows = _both_ways(transform, outputs + 2, load)
        for row, values in zip(pixels, rows, strict=True):
            for pixel, value in zip(row, values, strict=True):
                value = builder.fadd(value, builder.load(start))
                tile.store(tile.limited(value, limits), tile.step(pixel, c))
                # 0·x is 0 where x is finite, NaN elsewhere.
                tile.add_product(spoiled, value, tile.zero)
    nan = builder.load(spoiled)
    lanes = builder.bitcast(builder.fcmp_unordered("uno", nan, nan), ir.IntType(tile.lanes))
    return builder.icmp_unsigned("==", lanes, ir.Constant(ir.IntType(tile.lanes), 0))
