"""The augment launchers and the transforms that drive them, against torch and plain NumPy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torchvision.transforms import functional as vision

from minigrad import kernels
from minigrad.data import (
    Compose,
    Normalize,
    RandomAffine,
    RandomCrop,
    RandomHorizontalFlip,
    RandomRotation,
    Resize,
    Transform,
)
from minigrad.device import Device
from minigrad.errors import DTypeError, ShapeError

DEVICES = ("cpu", "reference")


def pixels(N: int, H: int, W: int, C: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (N, H, W, C), np.uint8)


def to_tensor(images: np.ndarray) -> torch.Tensor:
    """torchvision's ToTensor for a batch: (N, C, H, W) in [0, 1]."""
    return torch.from_numpy(images).permute(0, 3, 1, 2).to(torch.float32).div(255)


def crop(device: str, images: np.ndarray, out_size: tuple[int, int], offsets: Any, flips: Any,
         serial: bool = True) -> np.ndarray:  # fmt: skip
    """augment_crop with a table and a background that give every pixel away."""
    C = images.shape[3]
    table = np.arange(256, dtype=np.float32) + 1000 * np.arange(C, dtype=np.float32)[:, None]
    out = np.full((len(offsets), *out_size, C), np.nan, np.float32)
    kernels.get(Device(device)).augment.augment_crop(
        out, images, np.arange(len(offsets)), np.asarray(offsets), np.asarray(flips), table,
        np.full(C, -7, np.float32), serial,
    )  # fmt: skip
    return out


@pytest.mark.parametrize("device", DEVICES)
@given(data=st.data())
def test_crop_is_a_slice_of_the_padded_image(device: str, data: st.DataObject) -> None:
    N, H, W, C, h, w = (data.draw(st.integers(1, high)) for high in (3, 6, 6, 4, 8, 8))
    images = pixels(N, H, W, C)
    offsets = data.draw(
        st.lists(st.tuples(st.integers(-9, 9), st.integers(-9, 9)), min_size=N, max_size=N)
    )
    flips = data.draw(st.lists(st.booleans(), min_size=N, max_size=N))
    out = crop(device, images, (h, w), offsets, flips)
    valued = images + 1000.0 * np.arange(C)
    padded = np.pad(valued, ((0, 0), (20, 20), (20, 20), (0, 0)), constant_values=-7)
    for n, ((top, left), flip) in enumerate(zip(offsets, flips, strict=True)):
        window = padded[n, 20 + top : 20 + top + h, 20 + left : 20 + left + w]
        np.testing.assert_array_equal(out[n], window[:, ::-1] if flip else window)


def affine(device: str, images: np.ndarray, matrices: np.ndarray, size: tuple[int, int],
           frame: tuple[int, int], serial: bool = True) -> np.ndarray:  # fmt: skip
    N, H, W, C = images.shape
    backend = kernels.get(Device(device))
    table = np.tile(np.arange(256, dtype=np.float32) / 255, (C, 1))
    out = np.full((N, *size, C), np.nan, np.float32)
    scratch = np.full(backend.augment.augment_affine_workspace(N, H, W, C), np.nan, np.float32)
    backend.augment.augment_affine(
        out, images, np.arange(N), matrices.astype(np.float32), table,
        np.linspace(0, 1, C, dtype=np.float32), scratch, *frame, serial,
    )  # fmt: skip
    return out


@given(
    N=st.integers(0, 3), H=st.integers(1, 6), W=st.integers(1, 6), C=st.integers(1, 4),
    size=st.tuples(st.integers(1, 7), st.integers(1, 7)),
    frame=st.tuples(st.integers(1, 9), st.integers(1, 9)), seed=st.integers(0, 2**32 - 1),
)  # fmt: skip
def test_affine_agrees_on_both_backends(
    N: int, H: int, W: int, C: int, size: Any, frame: Any, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    matrices = rng.normal(size=(N, 2, 3)) * [1, 1, 3]
    images = pixels(N, H, W, C, seed)
    ours = affine("cpu", images, matrices, size, frame)
    np.testing.assert_allclose(ours, affine("reference", images, matrices, size, frame), atol=2e-5)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e30])
def test_affine_reads_nothing_outside_whatever_the_matrix(device: str, bad: float) -> None:
    matrices = np.zeros((2, 2, 3))
    matrices[0, 0, 2] = bad
    matrices[1, 1, 1] = bad
    with np.errstate(invalid="ignore"):
        out = affine(device, pixels(2, 4, 5, 2), matrices, (3, 3), (4, 5))
    np.testing.assert_array_equal(out[0], np.broadcast_to([0.0, 1.0], (3, 3, 2)))
    np.testing.assert_array_equal(out[1, 1:], np.broadcast_to([0.0, 1.0], (2, 3, 2)))


def test_serial_and_parallel_kernels_give_the_same_bits() -> None:
    images = pixels(40, 30, 31, 3)
    rng = np.random.default_rng(1)
    matrices = rng.normal(size=(40, 2, 3)) * 0.3 + [[1, 0, 0], [0, 1, 0]]
    both = [affine("cpu", images, matrices, (32, 33), (35, 36), serial) for serial in (True, False)]
    assert both[0].size > 1 << 16  # large enough for the parallel kernel
    np.testing.assert_array_equal(*both)
    offsets, flips = rng.integers(-4, 5, (40, 2)), rng.random(40) < 0.5
    np.testing.assert_array_equal(
        crop("cpu", images, (30, 31), offsets, flips, True),
        crop("cpu", images, (30, 31), offsets, flips, False),
    )


# Transforms ---------------------------------------------------------------------------------


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("C", [1, 3])
def test_normalize_equals_torchvision_bit_for_bit(device: str, C: int) -> None:
    images = pixels(2, 16, 16, C)
    images[0, :, :, 0] = np.arange(256).reshape(16, 16)
    mean, std = [0.4914, 0.4822, 0.4465][:C], [0.247, 0.243, 0.261][:C]
    out = Normalize(mean, std)(images, device=device)
    assert out.device.type == device
    assert out.array.transpose(0, 2, 3, 1).flags.c_contiguous
    expected = vision.normalize(to_tensor(images), mean, std)
    np.testing.assert_array_equal(out.array, expected.numpy())
    np.testing.assert_array_equal(Compose()(images, device=device).array, to_tensor(images).numpy())


def test_max_value_scales_pixels() -> None:
    images = np.array([[[[0], [8], [16]]]], np.uint8)
    assert Compose()(images, max_value=16).array.ravel().tolist() == [0, 0.5, 1]


@pytest.mark.parametrize("device", DEVICES)
@given(
    H=st.integers(1, 9), W=st.integers(1, 9), h=st.integers(1, 12), w=st.integers(1, 12),
    C=st.integers(1, 3),
)  # fmt: skip
def test_resize_equals_torch_interpolate(
    device: str, H: int, W: int, h: int, w: int, C: int
) -> None:
    images = pixels(2, H, W, C)
    out = Resize((h, w))(images, device=device)
    expected = torch.nn.functional.interpolate(
        to_tensor(images).double(), (h, w), mode="bilinear", align_corners=False
    )
    np.testing.assert_allclose(out.array, expected.numpy(), atol=3e-6)


def test_resize_of_digits_to_the_size_of_mnist() -> None:
    images = pixels(4, 8, 8, 1)
    expected = torch.nn.functional.interpolate(to_tensor(images), (28, 28), mode="bilinear")
    np.testing.assert_allclose(Resize(28)(images).array, expected.numpy(), atol=2e-6)


def test_resize_by_one_int_sets_the_shorter_edge() -> None:
    assert Resize(10)(pixels(1, 5, 8, 1)).shape == (1, 1, 10, 16)
    assert Resize(10)(pixels(1, 8, 5, 1)).shape == (1, 1, 16, 10)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("size", [(9, 9), (8, 11), (1, 6)])
@pytest.mark.parametrize("angle", [0.0, 10.0, 90.0, -37.5, 180.0])
def test_rotation_equals_torchvision(device: str, size: tuple[int, int], angle: float) -> None:
    images = pixels(1, *size, 2)
    out = RandomRotation((angle, angle), fill=[255, 0])(images, device=device)
    # torchvision's own fill fades differently at the edge: pad by hand with fill 0, on x and 1 − x.
    x = to_tensor(images).double()
    bilinear = vision.InterpolationMode.BILINEAR
    second = vision.rotate(x, angle, bilinear)[:, 1]
    first = 1 - vision.rotate(1 - x, angle, bilinear)[:, 0]
    np.testing.assert_allclose(out.array[:, 0], first.numpy(), atol=2e-5)
    np.testing.assert_allclose(out.array[:, 1], second.numpy(), atol=2e-5)


class Extreme(RandomAffine):
    """Draws the lowest of every range, or the highest."""

    word = 0

    def inverse(self, words: np.ndarray, size: Any, out_size: Any) -> np.ndarray:
        return super().inverse(np.full_like(words, self.word), size, out_size)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("sign", [-1, 1])
@given(
    st.floats(-180, 180), st.integers(0, 4), st.integers(0, 4), st.floats(0.4, 2.5),
    st.floats(-50, 50), st.floats(-50, 50),
)  # fmt: skip
def test_affine_equals_torchvision(
    device: str, sign: int, angle: float, x: int, y: int, scale: float, along_x: float,
    along_y: float,
) -> None:  # fmt: skip
    H, W = 9, 12
    shear = (along_x, along_x, along_y, along_y)
    transform = Extreme((angle, angle), (x / W, y / H), (scale, scale), shear)
    transform.word = 0xFFFF_FFFF if sign > 0 else 0
    images = pixels(1, H, W, 2)
    expected = vision.affine(
        to_tensor(images).double(), angle, [sign * x, sign * y], scale, [along_x, along_y],
        vision.InterpolationMode.BILINEAR,
    )  # fmt: skip
    # An error of 1e-5 pixels where the image ends, or a sheared pixel steps over many.
    np.testing.assert_allclose(transform(images, device=device).array, expected.numpy(), atol=1e-4)


@pytest.mark.parametrize("device", DEVICES)
def test_a_shift_alone_is_exact_and_a_window(device: str) -> None:
    """The same bits as from the kernel that interpolates, without interpolating."""
    images = pixels(20, 9, 12, 2)
    shift = RandomAffine(0, (0.25, 0.3), fill=(3, 200))
    shifted = Compose([RandomHorizontalFlip(), shift, Normalize(0.4, 0.3)])
    assert not shifted.plan(9, 12, 2).interpolates
    found = shifted(images, seed=2, device=device).array
    shift.interpolates = True
    same = Compose(shifted.transforms)
    assert same.plan(9, 12, 2).interpolates
    np.testing.assert_array_equal(same(images, seed=2, device=device).array, found)
    assert (found != Compose(shifted.transforms[::2])(images, seed=2, device=device).array).any()


def test_affine_draws_from_all_of_its_ranges() -> None:
    affine = RandomAffine((10, 30), (0.2, 0.1), (0.5, 2.0), 20)
    (maps,) = Compose([affine]).plan(11, 21, 1).draw(np.arange(4000), 1, 0)
    there = np.linalg.inv(maps[:, :, :2].astype(float))
    scale = np.sqrt(np.linalg.det(there))
    angle = np.degrees(np.arctan2(there[:, 1, 0], there[:, 0, 0]))  # of the x axis
    shear = np.degrees(np.arctan(-(there[:, :, 0] * there[:, :, 1]).sum(1) / scale**2))
    centre = np.array([10.0, 5.0])
    moved = (there @ (centre - maps[:, :, 2])[:, :, None])[:, :, 0] - centre
    np.testing.assert_allclose(moved, np.round(moved), atol=1e-4)
    for drawn, low, high in (
        (scale, 0.5, 2.0), (angle, 10, 30), (shear, -20, 20),
        (moved[:, 0], -4, 4), (moved[:, 1], -1, 1),
    ):  # fmt: skip
        slack = 0.01 * (high - low)
        assert low - 1e-3 <= drawn.min() <= low + slack
        assert high - slack <= drawn.max() <= high + 1e-3
        assert abs(drawn.mean() - (low + high) / 2) <= 0.03 * (high - low)
    # And independently of each other.
    drawn = np.corrcoef([scale, angle, shear, *moved.T])
    np.testing.assert_allclose(drawn, np.eye(5), atol=0.06)


@pytest.mark.parametrize("device", DEVICES)
def test_rotations_equal_torch_grid_sample(device: str) -> None:
    """Random angles, recovered from the plan, through affine_grid and grid_sample."""
    H, W = 7, 10
    images = pixels(5, H, W, 2)
    transform = Compose([RandomRotation(40), RandomHorizontalFlip()])
    out = transform(images, seed=3, epoch=2, device=device)
    (matrices,) = transform.plan(H, W, 2).draw(np.arange(5), 3, 2)
    angles = np.arctan2(matrices[:, 1, 0], np.abs(matrices[:, 0, 0]))
    assert (np.abs(angles) <= np.radians(40)).all()
    assert angles.std() > 0
    # From pixels to grid_sample's coordinates: u = (2x + 1)/W − 1, v = (2y + 1)/H − 1.
    to_grid = np.array([[2 / W, 0, 1 / W - 1], [0, 2 / H, 1 / H - 1], [0, 0, 1]])
    full = np.concatenate([matrices, np.tile([[[0, 0, 1]]], (5, 1, 1))], axis=1)
    theta = torch.from_numpy((to_grid @ full @ np.linalg.inv(to_grid))[:, :2])
    x = to_tensor(images).double()
    grid = torch.nn.functional.affine_grid(theta, x.shape, align_corners=False)
    expected = torch.nn.functional.grid_sample(x, grid, "bilinear", "zeros", align_corners=False)
    np.testing.assert_allclose(out.array, expected.numpy(), atol=2e-5)


def test_resize_then_rotation_keeps_the_border_of_the_resized_image() -> None:
    """A white image stays white where the rotated frame covers it fully."""
    white = np.full((1, 4, 4, 1), 255, np.uint8)
    out = Compose([Resize(12), RandomRotation((180, 180))])(white).array
    np.testing.assert_allclose(out, 1, atol=1e-6)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("crop_first", [True, False])
def test_crop_and_flip_equal_slices_of_the_drawn_place(device: str, crop_first: bool) -> None:
    images = pixels(40, 6, 5, 3)
    steps: list[Transform] = [RandomCrop((6, 4), padding=(1, 2), fill=(9, 8, 7)),
                              RandomHorizontalFlip()]  # fmt: skip
    transform = Compose(steps if crop_first else steps[::-1])
    out = np.rint(transform(images, seed=11, device=device).array.transpose(0, 2, 3, 1) * 255)
    padded = np.empty((40, 10, 7, 3))
    padded[:] = 9, 8, 7
    padded[:, 2:8, 1:6] = images
    found = set()
    for n in range(40):
        matches = [
            (top, left, flip)
            for top in range(5)
            for left in range(4)
            for flip in (False, True)
            for window in [padded[n, top : top + 6, left : left + 4]]
            if np.array_equal(out[n], window[:, ::-1] if flip else window)
        ]
        assert len(matches) == 1
        found.add(matches[0])
    assert {flip for *_, flip in found} == {False, True}
    assert {top for top, *_ in found} == set(range(5))
    assert {left for _, left, _ in found} == set(range(4))


def test_flip_probability_is_p() -> None:
    images = np.tile(np.array([0, 255], np.uint8).reshape(1, 1, 2, 1), (4000, 1, 1, 1))
    for p in (0.0, 0.3, 1.0):
        flipped = RandomHorizontalFlip(p)(images, seed=5).array[:, 0, 0, 0].mean()
        assert abs(flipped - p) <= 0.03 * (0 < p < 1)


def test_rotation_by_zero_and_crop_equal_the_exact_crop() -> None:
    """Both kernels agree to the bit where the affine one meets pixel centres."""
    images = pixels(8, 9, 9, 2)
    steps = [RandomCrop(9, padding=3), RandomHorizontalFlip(), Normalize(0.4, 0.3)]
    exact = Compose(steps)(images, seed=1)
    rotated = Compose([*steps, RandomRotation((0, 0))])(images, seed=1)
    np.testing.assert_array_equal(exact.array, rotated.array)


ALL = Compose([Resize(10), RandomCrop(9, 2), RandomHorizontalFlip(), RandomRotation(20)])


@pytest.mark.parametrize("transform", [ALL, Compose([RandomCrop(8, 2), RandomHorizontalFlip()])])
def test_what_happens_to_a_sample_depends_on_its_index_alone(transform: Compose) -> None:
    images = pixels(12, 8, 8, 1)
    whole = transform(images, seed=4, epoch=3).array
    order = np.array([7, 2, 11])
    np.testing.assert_array_equal(
        transform(images[order], samples=order, seed=4, epoch=3).array, whole[order]
    )
    assert (transform(images, seed=4, epoch=4).array != whole).any()
    assert (transform(images, seed=5, epoch=3).array != whole).any()
    assert (transform(images, samples=np.arange(12) + 2**32, seed=4, epoch=3).array != whole).any()


def test_both_backends_agree_on_the_whole_pipeline() -> None:
    images = pixels(3, 8, 8, 2)
    outs = [ALL(images, seed=8, device=device).array for device in DEVICES]
    np.testing.assert_allclose(*outs, atol=2e-5)


def test_an_empty_batch_gives_an_empty_tensor() -> None:
    for transform in (ALL, Compose()):
        assert transform(np.empty((0, 9, 9, 3), np.uint8)).shape[:2] == (0, 3)


@pytest.mark.parametrize(
    ("make", "error", "match"),
    [
        (lambda: RandomCrop(9)(pixels(1, 8, 8, 1)), ShapeError, r"\(9, 9\) does not fit.*\(8, 8\)"),
        (lambda: RandomCrop(4, padding=-1), ShapeError, "RandomCrop: padding.*-1"),
        (lambda: RandomCrop(4, padding=(1, 2, 3)), ShapeError, "1, 2 or 4 ints"),
        (lambda: RandomCrop(0), ShapeError, "RandomCrop: size must be at least 1"),
        (lambda: RandomCrop(4, 1, fill=300), ValueError, "RandomCrop: fill.*300"),
        (lambda: RandomCrop(4, 1, fill=0.5), DTypeError, "RandomCrop: fill.*0.5"),  # type: ignore
        (lambda: RandomCrop(4, 1, (1, 2))(pixels(1, 8, 8, 3)), ShapeError, "2 values.* 3 channels"),
        (lambda: RandomHorizontalFlip(1.5), ValueError, "p must be in.*1.5"),
        (lambda: RandomRotation(-3), ValueError, "RandomRotation: degrees.*-3"),
        (lambda: RandomRotation(float("nan")), ValueError, "RandomRotation: degrees.*nan"),
        (lambda: RandomAffine(-3), ValueError, "RandomAffine: degrees.*-3"),
        (lambda: RandomAffine(0, (0.5, 2)), ValueError, "RandomAffine: translate.*2"),
        (lambda: RandomAffine(0, 0.5), ValueError, "RandomAffine: translate.*0.5"),  # type: ignore
        (lambda: RandomAffine(0, None, (2, 1)), ValueError, "RandomAffine: scale.*2, 1"),
        (lambda: RandomAffine(0, None, (0, 1)), ValueError, "RandomAffine: scale.*0, 1"),
        (lambda: RandomAffine(0, shear=(1, 2, 3)), ValueError, "RandomAffine: shear.*1, 2, 3"),
        (lambda: RandomAffine(0, shear=90), ValueError, "RandomAffine: shear.*90"),
        (lambda: RandomAffine(0, fill=256), ValueError, "RandomAffine: fill.*256"),
        (lambda: Normalize(0.5, 0), ValueError, "Normalize.*std 0"),
        (lambda: Normalize([0.5] * 2, 1)(pixels(1, 8, 8, 3)), ShapeError, "mean has 2 values.* 3"),
        (lambda: Compose([RandomCrop(4), Resize(8)])(pixels(1, 8, 8, 1)), ValueError, "one Resize"),
        (
            lambda: Compose([RandomCrop(8, 1, 5), RandomRotation(3, 6)])(pixels(1, 8, 8, 1)),
            ValueError,
            r"agree on fill, got \[5\] by RandomCrop and \[6\] by RandomRotation",
        ),
        (lambda: Compose([np.fliplr]), TypeError, "Compose: steps must be minigrad transforms"),
        (lambda: Compose()(np.zeros((1, 4, 4, 1))), DTypeError, "uint8 pixels, got float64"),
        (lambda: Compose()(np.zeros((4, 4), np.uint8)), ShapeError, r"\(N, H, W, C\).*\(4, 4\)"),
        (lambda: Compose()(pixels(1, 4, 4, 1), seed=-1), ValueError, "seed.*-1"),
        (lambda: Compose()(pixels(1, 4, 4, 1), epoch=2**32), ValueError, "epoch.*4294967296"),
    ],
)  # fmt: skip
def test_bad_arguments_are_named(make: Any, error: type[Exception], match: str) -> None:
    with pytest.raises(error, match=match):
        make()
