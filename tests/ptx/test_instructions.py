"""Each PTX instruction does what the ISA says: against Python's integers and exact fractions."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from fractions import Fraction

import numpy as np
import pytest

from .ptx_text import compute

_EDGES = {
    16: (0, 1, 2, 7, 0x7FFF, 0x8000, 0xFFFE, 0xFFFF),
    32: (0, 1, 2, 3, 31, 32, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 0x12345678, 0xFFFF0001),
    64: (0, 1, 2, 63, 64, 2**32 - 1, 2**32, 2**63 - 1, 2**63, 2**64 - 1, 0x123456789ABCDEF0),
}


def _signed(x: int, bits: int) -> int:
    return x - (1 << bits) if x >> (bits - 1) else x


def _pairs(bits: int) -> tuple[np.ndarray, np.ndarray]:
    pairs = list(itertools.product(_EDGES[bits], repeat=2))
    dtype = {16: np.uint16, 32: np.uint32, 64: np.uint64}[bits]
    a, b = zip(*pairs, strict=True)
    return np.array(a, dtype), np.array(b, dtype)


def _quotient(a: int, b: int) -> int:
    return abs(a) // abs(b) * (1 if (a < 0) == (b < 0) else -1) if b else -1


_INTEGER: dict[str, Callable[[int, int], int]] = {
    "add": lambda a, b: a + b, "sub": lambda a, b: a - b, "mul.lo": lambda a, b: a * b,
    "min": min, "max": max, "div": _quotient, "rem": lambda a, b: a - _quotient(a, b) * b,
}  # fmt: skip


_WIDTHS = [(name, bits) for name in _INTEGER for bits in (16, 32, 64)]


@pytest.mark.parametrize("sign", ["u", "s"])
@pytest.mark.parametrize(("name", "bits"), [*_WIDTHS, ("mul.hi", 32), ("mul.hi", 64)])
def test_integers_wrap(name: str, bits: int, sign: str) -> None:
    a, b = _pairs(bits)
    kind = f"{sign}{bits}"
    found = compute(f"{name}.{kind}", kind, (kind, kind), (a, b))
    for x, y, z in zip(a.tolist(), b.tolist(), found.tolist(), strict=True):
        if sign == "s":
            x, y = _signed(x, bits), _signed(y, bits)
        exact = x * y >> bits if name == "mul.hi" else _INTEGER[name](x, y)
        assert z == exact % (1 << bits), (name, kind, x, y)


@pytest.mark.parametrize("sign", ["u", "s"])
def test_wide_products_have_twice_the_bits(sign: str) -> None:
    kind = f"{sign}32"
    a, b = _pairs(32)
    c = np.resize(np.array(_EDGES[64], np.uint64), len(a))
    product = compute(f"mul.wide.{kind}", "u64", (kind, kind), (a, b))
    total = compute(f"mad.wide.{kind}", "u64", (kind, kind, "u64"), (a, b, c))
    for x, y, z, p, t in zip(*(v.tolist() for v in (a, b, c, product, total)), strict=True):
        exact = _signed(x, 32) * _signed(y, 32) if sign == "s" else x * y
        assert p == exact % 2**64
        assert t == (exact + z) % 2**64


@pytest.mark.parametrize("bits", [16, 32, 64])
def test_shifts_are_clamped(bits: int) -> None:
    amounts = np.array([0, 1, 5, bits - 1, bits, bits + 1, 255, 256, 2**32 - 1], np.uint32)
    values = np.array(_EDGES[bits], {16: np.uint16, 32: np.uint32, 64: np.uint64}[bits])
    a, b = (x.ravel() for x in np.meshgrid(values, amounts))
    for name, kind in (("shl", f"b{bits}"), ("shr", f"u{bits}"), ("shr", f"s{bits}")):
        found = compute(f"{name}.{kind}", f"u{bits}", (f"u{bits}", "u32"), (a, b))
        for x, n, z in zip(a.tolist(), b.tolist(), found.tolist(), strict=True):
            n = min(n, 2 * bits)
            exact = x << n if name == "shl" else (_signed(x, bits) if kind[0] == "s" else x) >> n
            assert z == exact % (1 << bits), (name, kind, x, n)


@pytest.mark.parametrize("bits", [32, 64])
def test_bits(bits: int) -> None:
    a, b = _pairs(bits)
    kind, top = f"b{bits}", (1 << bits) - 1
    for name, exact in (
        ("and", lambda x, y: x & y), ("or", lambda x, y: x | y), ("xor", lambda x, y: x ^ y)
    ):  # fmt: skip
        found = compute(f"{name}.{kind}", kind, (kind, kind), (a, b)).tolist()
        assert found == [exact(x, y) for x, y in zip(a.tolist(), b.tolist(), strict=True)]
    for name, one in (
        ("not", lambda x: ~x & top), ("popc", lambda x: bin(x).count("1")),
        ("clz", lambda x: bits - x.bit_length()),
        ("brev", lambda x: int(f"{x:0{bits}b}"[::-1], 2)),
    ):  # fmt: skip
        result = kind if name in ("not", "brev") else "u32"
        found = compute(f"{name}.{kind}", result, (kind,), (a,)).tolist()
        assert found == [one(x) for x in a.tolist()], name


def test_fields_are_extracted_and_inserted() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.integers(0, 2**32, (2, 500), np.uint32)
    position = rng.integers(0, 40, 500).astype(np.uint32)
    length = rng.integers(0, 40, 500).astype(np.uint32)
    for kind in ("u32", "s32"):
        found = compute(f"bfe.{kind}", kind, (kind, "u32", "u32"), (a, position, length))
        for x, p, n, z in zip(*(v.tolist() for v in (a, position, length, found)), strict=True):
            number = _signed(x, 32) if kind == "s32" else x
            sign = (x >> min(p + n - 1, 31)) & 1 if kind == "s32" and n else 0
            exact = sum(
                ((number >> (p + i)) & 1 if i < n and p + i < 32 else sign) << i for i in range(32)
            )
            assert z == (exact if n else 0), (kind, x, p, n)
    found = compute("bfi.b32", "b32", ("b32",) * 4, (a, b, position, length))
    for x, y, p, n, z in zip(*(v.tolist() for v in (a, b, position, length, found)), strict=True):
        exact = sum(
            ((x >> (i - p)) & 1 if p <= i < p + n else (y >> i) & 1) << i for i in range(32)
        )
        assert z == exact


def test_funnel_shifts_and_permutation() -> None:
    rng = np.random.default_rng(1)
    a, b, c = rng.integers(0, 2**32, (3, 300), np.uint32)
    left = compute("shf.l.wrap.b32", "b32", ("b32",) * 3, (a, b, c)).tolist()
    right = compute("shf.r.wrap.b32", "b32", ("b32",) * 3, (a, b, c)).tolist()
    mixed = compute("prmt.b32", "b32", ("b32",) * 3, (a, b, c)).tolist()
    for i, (x, y, n) in enumerate(zip(a.tolist(), b.tolist(), c.tolist(), strict=True)):
        pair = y << 32 | x
        assert left[i] == (pair << (n & 31)) >> 32 & 0xFFFFFFFF
        assert right[i] == (pair >> (n & 31)) & 0xFFFFFFFF
        pool = pair.to_bytes(8, "little")
        chosen = []
        for k in range(4):
            selector = n >> 4 * k & 15
            byte = pool[selector & 7]
            chosen.append((255 if byte & 128 else 0) if selector & 8 else byte)
        assert mixed[i] == int.from_bytes(bytes(chosen), "little")


# Floating point ------------------------------------------------------------------------------

_FLOATS = (
    0.0, -0.0, 1.0, -1.0, 1.5, -2.25, 3.4028234e38, -3.4028234e38, 1.1754944e-38, 1e-45, -1e-45,
    0.1, 16777216.0, 16777217.0, math.inf, -math.inf, math.nan, 1e20, 7.0,
)  # fmt: skip


def _floats(kind: str) -> tuple[np.ndarray, np.ndarray]:
    dtype = np.float32 if kind == "f32" else np.float64
    rng = np.random.default_rng(2)
    numbers = np.array([*_FLOATS, *(rng.standard_normal(9) * 10.0 ** rng.integers(-9, 9, 9))])
    with np.errstate(all="ignore"):
        a, b = zip(*itertools.product(numbers.astype(dtype), repeat=2), strict=True)
    return np.array(a, dtype), np.array(b, dtype)


def _as(kind: str, bits: np.ndarray) -> np.ndarray:
    return bits.astype(np.uint32).view(np.float32) if kind == "f32" else bits.view(np.float64)


@pytest.mark.parametrize("kind", ["f32", "f64"])
def test_arithmetic_is_that_of_ieee754(kind: str) -> None:
    a, b = _floats(kind)
    with np.errstate(all="ignore"):
        expected = {
            "add": a + b, "sub": a - b, "mul": a * b, "div.rn": a / b, "sqrt.rn": np.sqrt(a),
            "rcp.rn": 1 / a, "neg": -a, "abs": abs(a),
        }  # fmt: skip
    for name, values in expected.items():
        one = name in ("sqrt.rn", "rcp.rn", "neg", "abs")
        operands = (a,) if one else (a, b)
        chunks = [
            compute(f"{name}.{kind}", kind, (kind,) * len(operands), tuple(x[at : at + 500]
                    for x in operands)) for at in range(0, len(a), 500)
        ]  # fmt: skip
        found = _as(kind, np.concatenate(chunks))
        np.testing.assert_array_equal(found, values, err_msg=name)
        numbers = ~np.isnan(values)
        np.testing.assert_array_equal(np.signbit(found[numbers]), np.signbit(values[numbers]))


def test_nan_results_of_float32_have_one_bit_pattern() -> None:
    odd = np.array([0x7F800001, 0xFFC12345, 0x7FC00000], np.uint32)
    one = np.ones(3, np.float32)
    for name in ("add.f32", "mul.f32", "div.rn.f32", "sub.f32"):
        found = compute(name, "f32", ("f32", "f32"), (odd.view(np.float32), one))
        assert (found == 0x7FFFFFFF).all(), name


def test_minimum_and_maximum_skip_nan_and_order_zeros() -> None:
    a = np.array([math.nan, 1, math.nan, 0.0, -0.0, 2], np.float32)
    b = np.array([1, math.nan, math.nan, -0.0, 0.0, 3], np.float32)
    least = _as("f32", compute("min.f32", "f32", ("f32", "f32"), (a, b)))
    most = _as("f32", compute("max.f32", "f32", ("f32", "f32"), (a, b)))
    np.testing.assert_array_equal(least, np.array([1, 1, math.nan, -0.0, -0.0, 2], np.float32))
    np.testing.assert_array_equal(np.signbit(least[3:5]), [True, True])
    np.testing.assert_array_equal(np.signbit(most[3:5]), [False, False])
    assert most[5] == 3


def _rounded(x: Fraction, mode: str, mantissa: int, lowest: int) -> Fraction:
    """x rounded to a float with `mantissa` bits, whose last bit is worth at least 2^lowest."""
    if x == 0:
        return x
    scale = max(math.floor(math.log2(abs(x))) - mantissa + 1, lowest)
    while abs(x) >= Fraction(2) ** (scale + mantissa):
        scale += 1
    while scale > lowest and abs(x) < Fraction(2) ** (scale + mantissa - 1):
        scale -= 1
    units = x / Fraction(2) ** scale
    down = math.floor(units)
    rest = units - down
    if mode == "rn":
        up = rest > Fraction(1, 2) or (rest == Fraction(1, 2) and down % 2)
    else:
        up = {"rm": False, "rp": rest > 0, "rz": rest > 0 and x < 0}[mode]
    return (down + bool(up)) * Fraction(2) ** scale


@pytest.mark.parametrize("kind", ["f32", "f64"])
@pytest.mark.parametrize("mode", ["rn", "rz", "rm", "rp"])
def test_fused_multiply_add_rounds_once(mode: str, kind: str) -> None:
    dtype = np.float32 if kind == "f32" else np.float64
    rng = np.random.default_rng(3)
    a, b = (rng.standard_normal((2, 400)) * 2.0 ** rng.integers(-9, 9, (2, 400))).astype(dtype)
    c = (rng.standard_normal(400) * 2.0 ** rng.integers(-60, 30, 400)).astype(dtype)
    c[:200] = -(a[:200] * b[:200])  # cancellation: what is left is the product's rounding error
    found = _as(kind, compute(f"fma.{mode}.{kind}", kind, (kind,) * 3, (a, b, c)))
    bits = (24, -149) if kind == "f32" else (53, -1074)
    for x, y, z, got in zip(a, b, c, found, strict=True):
        exact = Fraction(float(x)) * Fraction(float(y)) + Fraction(float(z))
        assert Fraction(float(got)) == _rounded(exact, mode, *bits), (mode, x, y, z)
    for name in ("add", "mul"):
        found = _as(kind, compute(f"{name}.{mode}.{kind}", kind, (kind,) * 2, (a, b)))
        for x, y, got in zip(a, b, found, strict=True):
            left, right = Fraction(float(x)), Fraction(float(y))
            exact = left + right if name == "add" else left * right
            assert Fraction(float(got)) == _rounded(exact, mode, *bits), (name, mode, x, y)


@pytest.mark.parametrize("kind", ["f32", "f64", "s32", "u32", "s64", "u64", "s16", "u16"])
def test_comparisons(kind: str) -> None:
    if kind[0] == "f":
        a, b = _floats(kind)
        a, b = a[::2][:1000], b[::2][:1000]
        names = ["eq", "ne", "lt", "le", "gt", "ge", "equ", "neu", "ltu", "leu", "gtu", "geu",
                 "num", "nan"]  # fmt: skip
    else:
        a, b = _pairs(int(kind[1:]))
        names = ["eq", "ne", "lt", "le", "gt", "ge"]
        if kind[0] == "s":
            a, b = a.view(f"i{a.itemsize}"), b.view(f"i{b.itemsize}")
    holds = {
        "eq": a == b, "ne": a != b, "lt": a < b, "le": a <= b, "gt": a > b, "ge": a >= b,
    }  # fmt: skip
    unordered = np.isnan(a) | np.isnan(b) if kind[0] == "f" else np.zeros(len(a), bool)
    holds["ne"] &= ~unordered
    holds |= {f"{name}u": holds[name] | unordered for name in list(holds)}
    holds |= {"num": ~unordered, "nan": unordered}
    for name in names:
        found = compute(f"setp.{name}.{kind}", "pred", (kind, kind), (a, b))
        np.testing.assert_array_equal(found.astype(bool), holds[name], err_msg=name)


# Conversions ---------------------------------------------------------------------------------

_RANGES = {f"{s}{n}": n for s in "us" for n in (8, 16, 32, 64)}


@pytest.mark.parametrize("source", ["f32", "f64"])
@pytest.mark.parametrize("to", ["s16", "u16", "s32", "u32", "s64", "u64"])
def test_floats_to_integers_round_and_saturate(source: str, to: str) -> None:
    dtype = np.float32 if source == "f32" else np.float64
    edges = [0.0, -0.0, 0.5, 1.5, 2.5, -0.5, -1.5, 0.999, -0.999, 1e4, -1e4, 4.2e9, 2.0**31,
             -(2.0**31), 2.0**32, 2.0**63, -(2.0**63), 2.0**64, 1e30, -1e30, 65535.5,
             math.inf, -math.inf, math.nan]  # fmt: skip
    values = np.array(edges, dtype)
    bits, signed = _RANGES[to], to[0] == "s"
    low, high = (-(1 << (bits - 1)), (1 << (bits - 1)) - 1) if signed else (0, (1 << bits) - 1)
    for mode, rounds in (
        ("rni", lambda x: round(Fraction(x))), ("rzi", math.trunc), ("rmi", math.floor),
        ("rpi", math.ceil),
    ):  # fmt: skip
        found = compute(f"cvt.{mode}.{to}.{source}", to, (source,), (values,)).tolist()
        for x, got in zip(values.tolist(), found, strict=True):
            if math.isnan(x):
                # ISA: 0, or 1 << (bits − 1) if one of the types has 64 bits.
                exact = 0 if source == "f32" and bits < 64 else 1 << (bits - 1)
            elif math.isinf(x):
                exact = high if x > 0 else low
            else:
                exact = min(max(rounds(x), low), high)
            assert got == exact % (1 << bits), (mode, to, x)


@pytest.mark.parametrize("to", ["f32", "f64"])
@pytest.mark.parametrize("source", ["s16", "u16", "s32", "u32", "s64", "u64"])
def test_integers_to_floats_round_to_nearest(source: str, to: str) -> None:
    bits = _RANGES[source]
    values, _ = _pairs(bits)
    found = _as(to, compute(f"cvt.rn.{to}.{source}", to, (source,), (values,)))
    for x, got in zip(values.tolist(), found.tolist(), strict=True):
        number = _signed(x, bits) if source[0] == "s" else x
        mantissa = (24, -149) if to == "f32" else (53, -1074)
        assert Fraction(got) == _rounded(Fraction(number), "rn", *mantissa)


def test_integers_are_extended_and_cut() -> None:
    values = np.array([0, 1, 0x7F, 0x80, 0xFF, 0x8000, 0xFFFF8000, 0x80000000], np.uint32)
    for source, to, exact in (
        ("s8", "s32", lambda x: _signed(x & 0xFF, 8)), ("u8", "u32", lambda x: x & 0xFF),
        ("s16", "s32", lambda x: _signed(x & 0xFFFF, 16)), ("u32", "u64", lambda x: x),
        ("s32", "s64", lambda x: _signed(x, 32)), ("u16", "u32", lambda x: x & 0xFFFF),
    ):  # fmt: skip
        found = compute(f"cvt.{to}.{source}", to, ("u32",), (values,)).tolist()
        assert found == [exact(x) % (1 << int(to[1:])) for x in values.tolist()], (source, to)


@pytest.mark.parametrize("mode", ["rni", "rzi", "rmi", "rpi"])
def test_rounding_to_whole_numbers(mode: str) -> None:
    values = np.array([0.5, 1.5, 2.5, -0.5, -2.5, 3.7, -3.7, 1e20, -0.0, math.inf, math.nan])
    function = {"rni": np.rint, "rzi": np.trunc, "rmi": np.floor, "rpi": np.ceil}[mode]
    for kind, dtype in (("f32", np.float32), ("f64", np.float64)):
        x = values.astype(dtype)
        found = _as(kind, compute(f"cvt.{mode}.{kind}.{kind}", kind, (kind,), (x,)))
        np.testing.assert_array_equal(found, function(x))


def test_float64_to_float32_rounds_to_nearest_and_tf32_away() -> None:
    rng = np.random.default_rng(4)
    x = rng.standard_normal(500) * 2.0 ** rng.integers(-150, 130, 500)
    with np.errstate(over="ignore"):
        expected = x.astype(np.float32)
    found = _as("f32", compute("cvt.rn.f32.f64", "f32", ("f64",), (x,)))
    np.testing.assert_array_equal(found, expected)
    y = np.array([1 + 2**-11, 1 + 2**-11 - 2**-20, -1 - 2**-11, 1 + 3 * 2**-11, math.inf])
    found = _as("f32", compute("cvt.rna.tf32.f32", "f32", ("f32",), (y.astype(np.float32),)))
    assert found.tolist() == [1 + 2**-10, 1, -1 - 2**-10, 1 + 2 * 2**-10, math.inf]


def test_saturation_goes_from_zero_to_one() -> None:
    x = np.array([-1, -0.0, 0.5, 1, 7, math.inf, math.nan], np.float32)
    found = _as("f32", compute("cvt.sat.f32.f32", "f32", ("f32",), (x,)))
    assert found.tolist() == [0, 0, 0.5, 1, 1, 1, 0]


# Approximations ------------------------------------------------------------------------------


def test_approximations_are_within_their_bounds() -> None:
    x = np.linspace(0.01, 20, 500).astype(np.float32)
    wide = x.astype(np.float64)
    for name, exact in (
        ("ex2", np.exp2(wide)), ("lg2", np.log2(wide)), ("rsqrt", 1 / np.sqrt(wide)),
        ("rcp", 1 / wide), ("sqrt", np.sqrt(wide)), ("sin", np.sin(wide)), ("cos", np.cos(wide)),
    ):  # fmt: skip
        for flush in ("", ".ftz"):
            found = _as("f32", compute(f"{name}.approx{flush}.f32", "f32", ("f32",), (x,)))
            np.testing.assert_allclose(found, exact, rtol=1e-6, atol=1e-7, err_msg=name)
    tiny = np.array([1e-40, -1e-40], np.float32)
    found = _as("f32", compute("add.ftz.f32", "f32", ("f32", "f32"), (tiny, tiny)))
    assert found.tolist() == [0, 0]
    np.testing.assert_array_equal(np.signbit(found), [False, True])


def test_coarse_approximations_of_float64_have_no_lower_half() -> None:
    x = np.linspace(0.01, 20, 300)
    for name, exact in (("rcp", 1 / x), ("rsqrt", 1 / np.sqrt(x))):
        bits = compute(f"{name}.approx.ftz.f64", "f64", ("f64",), (x,))
        assert not (bits & np.uint64(0xFFFFFFFF)).any()
        np.testing.assert_allclose(bits.view(np.float64), exact, rtol=2e-6)
