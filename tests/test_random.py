"""Random tensors and dropout: the generator itself, then what is made from it."""

from __future__ import annotations

import math

import numba
import numpy as np
import pytest

import minigrad as mg
import minigrad.nn.functional as F
from minigrad import kernels
from minigrad.device import Device
from minigrad.errors import DTypeError, ShapeError

DTYPES = pytest.mark.parametrize("dtype", [mg.float32, mg.float64], ids=str)
DEVICES = ("cpu", "reference")

# Random123's known answers: counter, key and words as its file kat_vectors lists them.
KNOWN_ANSWERS = [
    (
        (0, 0, 0, 0),
        (0, 0),
        (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8),
    ),
    (
        (0xFFFFFFFF,) * 4,
        (0xFFFFFFFF,) * 2,
        (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD),
    ),
    (
        (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
        (0xA4093822, 0x299F31D0),
        (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
    ),
]


def backend(name: str):
    return kernels.get(Device(name)).random


# The generator ------------------------------------------------------------------------------


@pytest.mark.parametrize(("counter", "key", "words"), KNOWN_ANSWERS)
def test_philox_gives_the_known_answers(counter, key, words) -> None:
    from minigrad.kernels.cpu._philox import philox_block
    from minigrad.kernels.reference.random import philox

    number, stream, seed = (low + (high << 32) for low, high in (counter[:2], counter[2:], key))
    assert philox(number, stream, seed) == words
    block = numba.njit(lambda *words: philox_block(*words))(
        np.uint64(number), np.uint64(stream), np.uint64(seed)
    )
    assert tuple(int(word) for word in block[:4]) == words


@DTYPES
@pytest.mark.parametrize("size", [0, 1, 2, 3, 4, 5, 4097])
@pytest.mark.parametrize(("low", "high"), [(0.0, 1.0), (-0.3, 0.7), (5.0, 5.0)])
def test_uniform_is_the_same_to_the_bit_on_every_backend(dtype, size, low, high) -> None:
    drawn = [np.empty(size, dtype) for _ in DEVICES]
    for name, out in zip(DEVICES, drawn, strict=True):
        backend(name).uniform(out, low, high, 2**64 - 3, 2**40)
    np.testing.assert_array_equal(*drawn)


@DTYPES
@pytest.mark.parametrize("size", [0, 1, 2, 5, 2051])
def test_normal_is_the_same_up_to_rounding_on_every_backend(dtype, size) -> None:
    drawn = [np.empty(size, dtype) for _ in DEVICES]
    for name, out in zip(DEVICES, drawn, strict=True):
        backend(name).normal(out, 0.5, 2.0, 3, 4)
    # std 2 times a radius of up to 7 times the rounding of an angle of up to 2π.
    np.testing.assert_allclose(*drawn, rtol=0, atol=2 * 7 * 2 * math.pi * np.finfo(dtype).eps)


@pytest.mark.parametrize(("low", "high"), [(0, 1), (-5, 3), (-(2**63), 2**63 - 1)])
def test_randint_is_the_same_on_every_backend(low, high) -> None:
    drawn = [np.empty(2050, np.int64) for _ in DEVICES]
    for name, out in zip(DEVICES, drawn, strict=True):
        backend(name).randint(out, low, high, 1, 2)
    np.testing.assert_array_equal(*drawn)
    assert low <= drawn[0].min() <= drawn[0].max() < high


@pytest.mark.parametrize("size", [0, 1, 2, 5, 2049])
def test_permutation_is_the_same_on_every_backend(size) -> None:
    drawn = [np.empty(size, np.int64) for _ in DEVICES]
    for name, out in zip(DEVICES, drawn, strict=True):
        backend(name).permutation(out, 1, 2)
    np.testing.assert_array_equal(*drawn)
    assert sorted(drawn[0]) == list(range(size))


def test_the_number_of_threads_does_not_matter() -> None:
    before = mg.get_num_threads()
    results = []
    try:
        for threads in (1, 2):
            mg.set_num_threads(threads)
            mg.manual_seed(7)
            x = mg.randn(100, 101)
            results.append([x.numpy(), mg.rand(10_001).numpy(), F.dropout(x).numpy()])
    finally:
        mg.set_num_threads(before)
    for one, two in zip(*results, strict=True):
        np.testing.assert_array_equal(one, two)


def test_seeds_and_streams_give_different_numbers_and_the_same_seed_the_same() -> None:
    mg.manual_seed(1)
    first, second = mg.rand(100), mg.rand(100)
    mg.manual_seed(2)
    other = mg.rand(100)
    mg.manual_seed(1)
    again = mg.rand(100)
    assert (first == again).all()
    assert not (first == second).any()
    assert not (first == other).any()


def test_the_state_of_the_generator_can_be_kept() -> None:
    state = mg.get_rng_state()
    first = mg.randn(10)
    mg.randn(10)
    mg.set_rng_state(state)
    assert (mg.randn(10) == first).all()


def test_a_generator_of_ones_own_leaves_the_default_one_alone() -> None:
    state = mg.get_rng_state()
    one = mg.randn(5, generator=mg.Generator(3))
    assert mg.get_rng_state() == state
    assert (mg.randn(5, generator=mg.Generator(3)) == one).all()
    with pytest.raises(TypeError, match="generator must be a Generator, got int"):
        mg.rand(2, generator=3)


# Distributions ------------------------------------------------------------------------------
# Sample sizes and bounds: a mean of n draws is off by more than 5 standard errors once in 1.7
# million seeds, and the seed is fixed.

SIZE = 200_000


@DTYPES
def test_uniform_numbers_are_uniform(dtype) -> None:
    u = mg.rand(SIZE, dtype=dtype, generator=mg.Generator(0)).numpy()
    assert u.dtype == dtype
    assert u.min() >= 0
    assert u.max() < 1
    counts = np.bincount((u * 100).astype(int), minlength=100)
    chi_square = ((counts - SIZE / 100) ** 2 / (SIZE / 100)).sum()
    assert abs(chi_square - 99) < 5 * math.sqrt(2 * 99)
    serial = np.corrcoef(u[:-1], u[1:])[0, 1]
    assert abs(serial) < 5 / math.sqrt(SIZE)


@DTYPES
def test_uniform_numbers_use_all_their_bits(dtype) -> None:
    bits = 24 if dtype == mg.float32 else 53
    k = mg.rand(4096, dtype=dtype, generator=mg.Generator(0)).numpy().astype(np.float64) * 2.0**bits
    assert (k == np.floor(k)).all()
    for bit in range(bits):
        share = (k.astype(np.int64) >> bit & 1).mean()
        assert abs(share - 0.5) < 5 * 0.5 / 64


@DTYPES
def test_normal_numbers_are_normal(dtype) -> None:
    z = mg.randn(SIZE, dtype=dtype, generator=mg.Generator(0)).numpy().astype(np.float64)
    for power, moment, variance in ((1, 0, 1), (2, 1, 2), (3, 0, 15), (4, 3, 96)):
        assert abs((z**power).mean() - moment) < 5 * math.sqrt(variance / SIZE)
    inside = (np.abs(z) < 1).mean()
    expected = math.erf(1 / math.sqrt(2))
    assert abs(inside - expected) < 5 * math.sqrt(expected * (1 - expected) / SIZE)
    # The two numbers of a Box–Muller pair are independent.
    assert abs(np.corrcoef(z[::2], z[1::2])[0, 1]) < 5 / math.sqrt(SIZE / 2)


def test_randint_covers_its_range_evenly() -> None:
    drawn = mg.randint(-3, 4, (SIZE,), generator=mg.Generator(0)).numpy()
    counts = np.bincount(drawn + 3)
    assert len(counts) == 7
    assert ((counts - SIZE / 7) ** 2 / (SIZE / 7)).sum() < 6 + 5 * math.sqrt(12)


def test_randperm_gives_each_order_equally_often() -> None:
    generator = mg.Generator(0)
    counts: dict[tuple[int, ...], int] = {}
    for _ in range(2400):
        order = tuple(mg.randperm(4, generator=generator).tolist())
        counts[order] = counts.get(order, 0) + 1
    assert len(counts) == 24
    chi_square = sum((count - 100) ** 2 / 100 for count in counts.values())
    assert abs(chi_square - 23) < 5 * math.sqrt(46)


# Creation -----------------------------------------------------------------------------------


def test_shapes_dtypes_and_devices_of_random_tensors() -> None:
    x = mg.rand(2, 3, dtype=mg.float64, device="reference", requires_grad=True)
    assert (x.shape, x.dtype, x.device, x.requires_grad) == ((2, 3), mg.float64, "reference", True)
    assert mg.randn((2, 0)).shape == (2, 0)
    assert mg.randn(()).shape == ()
    assert mg.randint(5, (3,)).dtype == mg.int64
    for drawn in mg.randint(5, size=(3,)), mg.randint(high=5, size=(3,)), mg.randint(2, 5, (3,)):
        assert drawn.shape == (3,)
        assert 0 <= int(drawn.min()) <= int(drawn.max()) < 5
    assert mg.randint(0, 256, (3,), dtype=mg.uint8).dtype == mg.uint8
    assert mg.rand_like(x).device == "reference"
    assert mg.randn_like(x).dtype == mg.float64
    assert mg.randperm(0).shape == (0,)


@pytest.mark.parametrize(
    ("call", "error", "match"),
    [
        (lambda: mg.rand(-1), ShapeError, r"rand: sizes .*\(-1,\)"),
        (lambda: mg.rand(2, dtype=mg.int64), DTypeError, "rand: dtype must be float"),
        (lambda: mg.randint(5, 5, (2,)), ValueError, "randint: low must be .*low=5 and high=5"),
        (lambda: mg.randint(300, (2,), dtype=mg.uint8), DTypeError, "randint: 299 does not fit"),
        (lambda: mg.randint(0.5, (2,)), DTypeError, "randint: low and high must be ints"),
        (lambda: mg.randint(5), DTypeError, "randint: expects"),
        (lambda: mg.randperm(2**33), ValueError, "randperm: n must be at most 4294967295"),
        (lambda: mg.randperm(257, dtype=mg.uint8), ValueError, "at most 256 for uint8, got 257"),
        (lambda: mg.randperm(-1), ShapeError, "randperm: sizes must be at least 0"),
        (lambda: F.dropout(mg.ones(2), 1.5), ValueError, r"dropout: p must be .*got 1\.5"),
        (lambda: F.dropout(mg.ones(2), math.nan), ValueError, "dropout: p must be .*got nan"),
        (lambda: F.dropout(mg.arange(2)), DTypeError, "dropout: input must be float"),
        (lambda: F.dropout2d(mg.ones(2, 2)), ShapeError, r"dropout2d: input .*\(2, 2\)"),
    ],
)
def test_bad_arguments_are_refused(call, error, match) -> None:
    with pytest.raises(error, match=match):
        call()


# Dropout ------------------------------------------------------------------------------------


@DTYPES
@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("p", [0.0, 0.25, 0.5, 1.0])
def test_dropout_scales_what_it_keeps_and_so_does_its_gradient(dtype, device, p) -> None:
    x = mg.randn(3, 5, 7, dtype=dtype, device=device, requires_grad=True)
    y = F.dropout(x, p)
    upstream = mg.randn(3, 5, 7, dtype=dtype, device=device)
    y.backward(upstream)
    values, kept = x.detach().numpy(), y.detach().numpy() != 0
    scale = dtype.type(1 / (1 - p) if p < 1 else 0)
    np.testing.assert_array_equal(y.detach().numpy(), np.where(kept, values * scale, 0))
    np.testing.assert_array_equal(x.grad.numpy(), np.where(kept, upstream.numpy() * scale, 0))


def test_dropout_keeps_the_right_share_and_is_the_same_on_every_device() -> None:
    masks = []
    for device, size in (("cpu", SIZE), ("reference", 1000)):
        mg.manual_seed(3)
        masks.append(F.dropout(mg.ones(size, device=device), 0.3).numpy() != 0)
    assert abs(masks[0].mean() - 0.7) < 5 * math.sqrt(0.21 / SIZE)
    np.testing.assert_array_equal(masks[0][:1000], masks[1])


def test_dropout_outside_training_is_the_identity() -> None:
    x = mg.randn(4)
    assert F.dropout(x, 0.5, training=False) is x
    assert F.dropout2d(x.reshape(1, 2, 2), 0.5, training=False).shape == (1, 2, 2)


def test_dropout_of_channels_last_memory_stays_channels_last() -> None:
    x = mg.Tensor(np.ones((2, 4, 5, 3), np.float32).transpose(0, 3, 1, 2), requires_grad=True)
    y = F.dropout(x, 0.5)
    y.sum().backward()
    assert y.array.transpose(0, 2, 3, 1).flags.c_contiguous
    np.testing.assert_array_equal(x.grad.numpy(), y.detach().numpy())


@pytest.mark.parametrize("shape", [(6, 40, 3, 2), (40, 3, 2), (0, 4, 3, 2)])
def test_dropout2d_drops_whole_channels(shape) -> None:
    x = mg.ones(shape, requires_grad=True)
    y = F.dropout2d(x, 0.5)
    y.sum().backward()
    channels = y.detach().numpy().reshape(-1, 6)
    assert set(np.unique(channels)) <= {0.0, 2.0}
    assert (channels == channels[:, :1]).all()
    np.testing.assert_array_equal(x.grad.numpy(), y.detach().numpy())


def test_dropout_gradient_after_two_draws_belongs_to_its_own_mask() -> None:
    x = mg.ones(1000, requires_grad=True)
    first, second = F.dropout(x, 0.5), F.dropout(x, 0.5)
    assert not (first == second).all()
    (first * 3).sum().backward()
    np.testing.assert_array_equal(x.grad.numpy(), 3 * first.detach().numpy())
