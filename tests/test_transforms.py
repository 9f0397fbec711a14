"""Transforms of single images beside torchvision's: functions of drawn images and parameters, and
steps by what they may draw."""

from unittest import mock

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torchvision import transforms as theirs
from torchvision.transforms import functional as TF

import minigrad as mg
from minigrad.vision import transforms as ours
from minigrad.vision.transforms import functional as F
from minigrad.vision.transforms import v2

# Functions ----------------------------------------------------------------------------------

PIL_KINDS = {
    "L": (1, "uint8"), "RGB": (3, "uint8"), "RGBA": (4, "uint8"), "LA": (2, "uint8"),
    "1": (1, "uint8"), "F": (1, "float32"), "I": (1, "int32"), "I;16": (1, "uint16"),
}  # fmt: skip
TENSOR_KINDS = ("uint8", "int16", "int32", "float32", "float64")


@st.composite
def pictures(draw):
    """The same image for both libraries, and its (channels, height, width)."""
    size = draw(st.tuples(st.integers(1, 14), st.integers(1, 14)))
    random = np.random.default_rng(draw(st.integers(0, 99)))
    flat = draw(st.sampled_from([False, False, False, True]))  # few values, often the same
    kind = draw(st.sampled_from([*PIL_KINDS, *TENSOR_KINDS]))
    if kind in PIL_KINDS:
        channels, dtype = PIL_KINDS[kind]
        lead = ()
    else:
        channels, dtype = draw(st.sampled_from([3, 3, 1])), kind
        lead = draw(st.sampled_from([(), (), (2,)]))
    shape = (*lead, channels, *size)
    bytes_ = random.integers(0, 3, shape) * 100 if flat else random.integers(0, 256, shape)
    array = (
        bytes_ / 255
        if dtype[0] == "f"
        else bytes_ * {"uint16": 257, "int16": 64, "int32": 2**8}.get(dtype, 1)
    )
    array = np.ascontiguousarray(array.astype(dtype))
    if kind in TENSOR_KINDS:
        return mg.tensor(array), torch.from_numpy(array), (channels, *size), kind
    array = np.ascontiguousarray(array.transpose(1, 2, 0))
    picture = Image.fromarray(array[..., 0] if channels == 1 else array)
    if kind == "1":
        picture = picture.convert("1")
    assert picture.mode == kind
    return picture, picture, (channels, *size), kind


numbers = st.integers


def reals(low, high):
    """Few digits: sizes that lie at a rounding's threshold are drawn, too."""
    return st.integers(round(low * 100), round(high * 100)).map(lambda v: v / 100)


def several(strategy, *counts):
    return st.one_of(*(st.lists(strategy, min_size=n, max_size=n) for n in counts))


sizes = numbers(1, 20)
# What is made one pixel wide, torch repeats in all rows when it smooths.
targets = numbers(2, 20)
sampling = st.sampled_from(["NEAREST", "BILINEAR"])
interpolations = st.sampled_from(["NEAREST", "NEAREST_EXACT", "BILINEAR", "BICUBIC"])


def levels(kind):
    return reals(0, 1) if kind[0] in "fF" else numbers(0, 255)


def fills(shape, kind):
    value = levels(kind)
    return st.one_of(st.none(), value, several(value, 1, shape[0]))


def factors(kind):
    """torchvision refuses negative ones of tensors only."""
    return reals(0 if kind in PIL_KINDS else -0.1, 3)


def sides(shape):
    """Pixels to add, or to take away where enough remain."""
    return numbers(-1 if min(shape[1:]) > 2 else 0, 9)


def quadrilaterals(shape):
    """The image's corners, and where they go: never on one line."""
    _, h, w = shape
    h, w = max(h, 8), max(w, 8)
    corners = [[0, 0], [w - 1, 0], [w - 1, h - 1], [0, h - 1]]
    moved = [st.tuples(numbers(x - 3, x + 3), numbers(y - 3, y + 3)).map(list) for x, y in corners]
    return st.tuples(st.just(corners), st.tuples(*moved).map(list))


# name: strategies of the arguments, by name, for an image of (C, H, W) and its kind.
OPERATIONS = {
    "hflip": lambda s, k: {},
    "vflip": lambda s, k: {},
    "crop": lambda s, k: {
        # Beyond the image on all sides; what ends left of it, torchvision makes too large.
        "top": numbers(-9, 16), "left": numbers(-9, 16), "height": numbers(9, 20),
        "width": numbers(9, 20),
    },
    "center_crop": lambda s, k: {"output_size": sizes | several(sizes, 1, 2)},
    "five_crop": lambda s, k: {"size": sizes | several(sizes, 1, 2)},
    "ten_crop": lambda s, k: {"size": several(sizes, 2), "vertical_flip": st.booleans()},
    "pad": lambda s, k: {
        "padding": sides(s) | several(sides(s), 1, 2, 4), "fill": levels(k),
        "padding_mode": st.sampled_from(["constant", "edge", "reflect", "symmetric"]),
    },
    "resize": lambda s, k: {
        "size": targets | several(targets, 1, 2), "interpolation": interpolations,
        "max_size": st.none() | numbers(30, 60), "antialias": st.sampled_from([True, False, None]),
    },
    "resized_crop": lambda s, k: {
        "top": numbers(-3, 9), "left": numbers(-3, 9), "height": numbers(3, 20),
        "width": numbers(3, 20), "size": several(targets, 2),
        "interpolation": interpolations,
    },
    "rotate": lambda s, k: {
        "angle": reals(-400, 400) | st.sampled_from([0, 90, 180, 270, -90]),
        "interpolation": sampling, "expand": st.booleans(), "fill": fills(s, k),
        "center": st.none() | several(numbers(0, 9), 2),
    },
    "affine": lambda s, k: {
        "angle": reals(-180, 180), "translate": several(numbers(-5, 5), 2),
        "scale": reals(0.3, 3), "shear": several(reals(-60, 60), 1, 2) | reals(-60, 60),
        "interpolation": sampling, "fill": fills(s, k),
        "center": st.none() | several(numbers(0, 9), 2),
    },
    "perspective": lambda s, k: {
        "points": quadrilaterals(s), "interpolation": sampling, "fill": fills(s, k)
    },
    "adjust_brightness": lambda s, k: {"brightness_factor": factors(k)},
    "adjust_contrast": lambda s, k: {"contrast_factor": factors(k)},
    "adjust_saturation": lambda s, k: {"saturation_factor": factors(k)},
    "adjust_hue": lambda s, k: {"hue_factor": reals(-0.52, 0.52)},
    "adjust_gamma": lambda s, k: {"gamma": reals(-0.1, 3), "gain": reals(0.2, 2)},
    "adjust_sharpness": lambda s, k: {"sharpness_factor": factors(k)},
    "rgb_to_grayscale": lambda s, k: {
        # Of one channel torchvision makes one, and its v2 three.
        "num_output_channels": numbers(1, 1) if s[0] == 1 else st.sampled_from([1, 3])
    },
    "invert": lambda s, k: {},
    "posterize": lambda s, k: {"bits": numbers(0, 8)},
    "solarize": lambda s, k: {"threshold": reals(0, 1) if k[0] == "f" else numbers(0, 256)},
    "autocontrast": lambda s, k: {},
    "equalize": lambda s, k: {},
    "gaussian_blur": lambda s, k: {
        "kernel_size": st.sampled_from([3, 1, 5, [3, 5], [7, 3]]),
        "sigma": st.none() | reals(0.1, 3) | several(reals(0.1, 3), 1, 2),
    },
    "erase": lambda s, k: {
        "i": numbers(0, 9), "j": numbers(0, 9), "h": numbers(1, 6), "w": numbers(1, 6),
        "v": st.just(0),
    },
}  # fmt: skip


def values(image):
    if isinstance(image, (tuple, list)):
        return [values(part) for part in image]
    if isinstance(image, Image.Image):
        return np.asarray(image)
    return image.numpy()


def outcome(module, name, image, arguments):
    """What a library's function makes of an image, or the error."""
    arguments = dict(arguments)
    points = arguments.pop("points", ())
    if "interpolation" in arguments:
        mode = getattr(module.InterpolationMode, arguments["interpolation"])
        arguments["interpolation"] = mode
    try:
        result = getattr(module, name)(image, *points, **arguments)
    except Exception as error:
        return error
    return [values(part) for part in (result if isinstance(result, tuple) else (result,))]


BYTES_ONLY = {"posterize", "equalize"}
# Pixels between pixels are sums in float32, whose rounding may decide otherwise about halves.
SUMS = {"affine", "gaussian_blur", "perspective", "resize", "resized_crop", "rotate"}


@pytest.mark.parametrize("name", OPERATIONS)
@settings(max_examples=3 * settings.default.max_examples)
@given(data=st.data())
def test_functions_equal_torchvisions(name, data):
    mine, other, shape, kind = data.draw(pictures())
    arguments = {
        key: data.draw(strategy, key) for key, strategy in OPERATIONS[name](shape, kind).items()
    }
    expected = outcome(TF, name, other, arguments)
    # Solved by another library, the equations of a perspective end in other bits.
    with (
        mock.patch.object(F, "_perspective_coefficients", TF._get_perspective_coeffs),
        mock.patch.object(F, "_sampled", wraps=F._sampled) as sampled,
    ):
        got = outcome(F, name, mine, arguments)
        grid = sampled.call_args.args[1] if sampled.called else None
        rounded = kind in TENSOR_KINDS and kind[0] != "f" and name in SUMS
        exact = outcome(F, name, mine.to(mg.float64), arguments) if rounded else got
    if isinstance(expected, Exception):
        kinds: tuple[type, ...] = TypeError, ValueError, type(expected)  # or Pillow's
        if name == "pad" and arguments["padding_mode"] == "symmetric":
            kinds = *kinds, list  # mirrored more than once, which torchvision refuses of tensors
        assert isinstance(got, kinds), (got, expected)
        if name in BYTES_ONLY and kind[0] == "f":
            assert "only uint8" in str(got)
        return
    assert isinstance(got, list), got
    for a, b, c in zip(got, expected, exact, strict=True):
        assert (a.shape, a.dtype) == (b.shape, b.dtype)
        wrong = np.abs(a.astype(float) - b.astype(float))
        if rounded:  # torch's float32 may decide otherwise about halves
            half = np.abs(c - np.floor(c) - 0.5) < 1e-3 + 1e-6 * np.abs(c).max(initial=0)
            wrong = np.where(half & (wrong <= 1), 0, wrong)
        elif a.dtype.kind == "f" and (kind in TENSOR_KINDS or name in SUMS):
            wrong = np.where(wrong <= 2e-5, 0, wrong)
        elif kind == "I" and name in SUMS:
            wrong = np.where(wrong <= 1, 0, wrong)
        if grid is not None and arguments["interpolation"] == "NEAREST":
            # And about the nearer of two pixels.
            places = ((grid + 1) * [shape[2], shape[1]] - 1) / 2
            tie = (np.abs(places - np.floor(places) - 0.5) < 1e-4).any(-1)
            wrong = np.where(tie, 0, wrong)
        assert not wrong.any(), wrong


def test_coefficients_of_a_perspective():
    draws = np.random.default_rng(0)
    start = [[0, 0], [19, 0], [19, 14], [0, 14]]
    for _ in range(20):
        end = (np.array(start) + draws.integers(-3, 4, (4, 2))).tolist()
        expected = TF._get_perspective_coeffs(start, end)
        assert np.allclose(F._perspective_coefficients(start, end), expected, rtol=1e-5, atol=1e-6)


def images(draws, kind, channels, size=(9, 10)):
    """The same image for both libraries."""
    pixels = draws.integers(0, 256, (*size, channels), np.uint8)
    if kind == "pil":
        picture = Image.fromarray(pixels[..., 0] if channels == 1 else pixels)
        return picture, picture
    array = np.ascontiguousarray(pixels.transpose(2, 0, 1))
    return mg.tensor(array), torch.from_numpy(array)


@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA", "1", "I", "F", "I;16"])
def test_conversions_equal_torchvisions(mode):
    draws = np.random.default_rng(0)
    kind = {"I": np.int32, "F": np.float32, "I;16": np.uint16}.get(mode, np.uint8)
    shape = (5, 6, len(Image.new(mode, (1, 1)).getbands()))
    pixels = draws.integers(0, 256, shape).astype(kind)
    if mode == "1":
        picture = Image.fromarray(pixels[..., 0]).convert("1")
    else:
        picture = Image.fromarray(pixels[..., 0] if shape[2] == 1 else pixels)
    assert picture.mode == mode
    got, expected = F.to_tensor(picture), TF.to_tensor(picture)
    assert got.dtype == expected.numpy().dtype
    assert np.array_equal(got.numpy(), expected.numpy())
    if mode in ("RGB", "L", "RGBA"):
        raw = F.pil_to_tensor(picture)
        assert np.array_equal(raw.numpy(), TF.pil_to_tensor(picture).numpy())
        assert F.to_pil_image(raw).tobytes() == picture.tobytes()
        assert F.to_pil_image(got).tobytes() == TF.to_pil_image(expected).tobytes()


@pytest.mark.parametrize("source", ["uint8", "int16", "int32", "int64", "float32", "float64"])
@pytest.mark.parametrize("target", ["uint8", "int16", "int32", "int64", "float32", "float64"])
def test_convert_image_dtype(source, target):
    draws = np.random.default_rng(0)
    if source.startswith("float"):
        array = draws.random((3, 4, 5)).astype(source)
    else:
        array = draws.integers(0, np.iinfo(source).max, (3, 4, 5)).astype(source)
    try:
        expected = TF.convert_image_dtype(torch.from_numpy(array), getattr(torch, target))
    except RuntimeError:
        with pytest.raises(RuntimeError, match="convert_image_dtype"):
            F.convert_image_dtype(mg.tensor(array), target)
        return
    got = F.convert_image_dtype(mg.tensor(array), target).numpy()
    assert got.dtype == expected.numpy().dtype
    assert np.allclose(got, expected.numpy(), rtol=1e-6)


def test_normalize():
    x = np.random.default_rng(0).random((2, 3, 4, 5)).astype(np.float32)
    arguments = (0.1, 0.2, 0.3), (0.5, 0.6, 0.7)
    expected = TF.normalize(torch.from_numpy(x.copy()), *arguments).numpy()
    assert np.allclose(F.normalize(mg.tensor(x), *arguments).numpy(), expected, atol=1e-6)
    image = mg.tensor(x)
    assert F.normalize(image, *arguments, inplace=True) is image
    assert np.allclose(image.numpy(), expected, atol=1e-6)
    with pytest.raises(ValueError, match="std must not be 0"):
        F.normalize(image, (0,), (0,))
    with pytest.raises(TypeError, match="float tensor, got uint8"):
        F.normalize(image.to(mg.uint8), (0,), (1,))
    with pytest.raises(ValueError, match="3 means and 3 stds for 1 channels"):
        F.normalize(image[..., :1, :, :], (0, 0, 0), (1, 1, 1))


# Steps --------------------------------------------------------------------------------------

STEPS = [
    ("RandomCrop", (6,), {"padding": 2}), ("RandomCrop", (12,), {"pad_if_needed": True}),
    ("RandomHorizontalFlip", (), {}), ("RandomVerticalFlip", (0.3,), {}),
    ("RandomResizedCrop", (7,), {}), ("RandomRotation", (30,), {}),
    ("RandomAffine", (30, (0.1, 0.2), (0.8, 1.2), 10), {}), ("RandomPerspective", (), {"p": 1.0}),
    ("ColorJitter", (0.4, 0.4, 0.4, 0.1), {}), ("Grayscale", (3,), {}),
    ("RandomGrayscale", (0.5,), {}), ("GaussianBlur", (3,), {}), ("RandomInvert", (), {}),
    ("RandomPosterize", (3,), {}), ("RandomSolarize", (100,), {}),
    ("RandomAdjustSharpness", (2,), {}), ("RandomAutocontrast", (), {}), ("RandomEqualize", (), {}),
    ("Resize", (7,), {}), ("Resize", ((7, 5),), {}), ("CenterCrop", (5,), {}), ("Pad", (2,), {}),
    ("AutoAugment", (), {}), ("RandAugment", (), {}), ("TrivialAugmentWide", (), {}),
    ("AugMix", (), {}),
]  # fmt: skip


@pytest.mark.parametrize(("name", "args", "options"), STEPS, ids=lambda v: str(v))
def test_steps_draw_what_torchvisions_may_draw(name, args, options):
    """The same size and mode, other results from call to call where there is chance, the same from
    the same seed; a pair is transformed together."""
    picture, _ = images(np.random.default_rng(1), "pil", 3, (40, 44))
    picture = picture.point(lambda v: 20 + v * 3 // 4)  # neither black nor white
    step = getattr(ours, name)(*args, **options)
    reference = getattr(theirs, name)(*args, **options)
    results = []
    for seed in (0, 0, *range(1, 12)):
        mg.manual_seed(seed)
        results.append(step(picture))
    expected = reference(picture)
    assert {(r.size, r.mode) for r in results} == {(expected.size, expected.mode)}
    assert results[0].tobytes() == results[1].tobytes()
    if name not in ("Grayscale", "Resize", "CenterCrop", "Pad"):
        assert len({r.tobytes() for r in results}) > 1
    tensor = F.pil_to_tensor(picture)
    assert step(tensor).shape[-2:] == expected.size[::-1]
    first, label, second = step((picture, 7, picture))
    assert label == 7
    assert first.tobytes() == second.tobytes()
    assert name in repr(step)


@pytest.mark.parametrize("policy", list(theirs.AutoAugmentPolicy))
def test_policies_are_torchvisions(policy):
    reference = theirs.AutoAugment(policy)
    mine = ours.AutoAugment(ours.AutoAugmentPolicy(policy.value))
    assert [[tuple(step) for step in pair] for pair in reference.policies] == [
        [tuple(step) for step in pair] for pair in mine._pairs
    ]


@pytest.mark.parametrize("kind", ["pil", "bytes"])
def test_operations_of_policies_equal_torchvisions(kind):
    from torchvision.transforms.autoaugment import _apply_op

    from minigrad.vision.transforms.auto_augment import _magnitudes, apply_operation

    mine, other = images(np.random.default_rng(2), kind, 3)
    spaces = [
        (_magnitudes(31, (9, 10)), theirs.RandAugment()._augmentation_space(31, (9, 10))),
        (_magnitudes(31, (0, 0), wide=True), theirs.TrivialAugmentWide()._augmentation_space(31)),
    ]
    for space, reference in spaces:
        assert set(space) == set(reference)
        for name, (magnitudes, _) in reference.items():
            assert np.allclose(space[name], magnitudes.numpy(), atol=1e-4)
            size = float(magnitudes[9]) if magnitudes.ndim else 0.0
            got = apply_operation(mine, name, size, F.InterpolationMode.NEAREST, None)
            expected = _apply_op(other, name, size, theirs.InterpolationMode.NEAREST, None)
            wrong = np.abs(values(got).astype(int) - values(expected).astype(int))
            assert (wrong > (kind == "bytes")).mean() <= 0.02 * (kind == "bytes"), name


def test_composition():
    mg.manual_seed(0)
    picture, _ = images(np.random.default_rng(1), "pil", 3)
    step = ours.Compose([
        ours.RandomApply([ours.Lambda(lambda image: image.transpose(0))], p=1.0),
        ours.RandomOrder([ours.RandomHorizontalFlip(1.0)]),
        ours.RandomChoice([ours.ToTensor()]),
        ours.Normalize((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
        ours.RandomErasing(p=1.0, value="random"),
    ])  # fmt: skip
    result, plain = step(picture), TF.to_tensor(picture).numpy() * 2 - 1
    same = np.isclose(result.numpy(), plain, atol=1e-6).all(0)
    assert 0 < (~same).sum() <= 0.4 * same.size
    assert "RandomErasing" in repr(step)


def test_v2_scripts():
    mg.manual_seed(0)
    picture, _ = images(np.random.default_rng(1), "pil", 3)
    step = v2.Compose([v2.ToImage(), v2.RandomHorizontalFlip(1.0), v2.ToDtype(mg.float32, True)])
    image, label = step(picture, 3)
    assert label == 3
    assert np.allclose(image.numpy(), TF.to_tensor(picture).numpy()[:, :, ::-1])
    batch, labels = mg.rand(4, 3, 8, 8), mg.tensor([0, 1, 2, 3])
    for mix in (v2.MixUp(num_classes=5), v2.CutMix(num_classes=5)):
        mixed, shares = mix(batch, labels)
        assert mixed.shape == batch.shape
        assert shares.shape == (4, 5)
        assert np.allclose(shares.sum(1).numpy(), 1)
        share = shares.numpy()[1, 1]
        # Means of both tell the share.
        expected = share * batch.mean() + (1 - share) * batch.roll(1, 0).mean()
        if isinstance(mix, v2.MixUp):
            assert np.isclose(mixed.mean().item(), expected.item(), atol=1e-5)
        else:
            own = (mixed.numpy() == batch.numpy()).all((0, 1)).mean()
            assert np.isclose(own, share, atol=1e-5)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ours.ToTensor()(3), "pic should be PIL Image or ndarray, got int"),
        (lambda: ours.RandomCrop(50)(mg.zeros(3, 8, 8)), "larger than input image size"),
        (lambda: ours.ColorJitter(brightness=-1), "must not be negative"),
        (lambda: ours.GaussianBlur(4), "must be odd"),
        (lambda: ours.Normalize((0,)), "takes"),
        (lambda: ours.RandomHorizontalFlip(2), r"p must be in \[0, 1\]"),
        (lambda: ours.Resize(5)("text"), "should be PIL Image or Tensor, got str"),
        (lambda: F.pad(mg.zeros(1, 4, 4), 1, padding_mode="wrap"), "padding_mode should be"),
        (lambda: v2.MixUp()(mg.zeros(2, 3, 4, 4), mg.tensor([0, 1])), "num_classes is needed"),
    ],
)
def test_bad_use_is_named(make, message):
    with pytest.raises((TypeError, ValueError), match=message):
        make()


@pytest.mark.parametrize("size", [(13, 17), (15, 30), (28, 28), (8, 3)])
@pytest.mark.parametrize("angle", [0, 90, 180, 270, 45])
def test_a_rotated_image_is_as_large_as_it_must_be(angle, size):
    image, same = images(np.random.default_rng(0), "byte", 3, size)
    got, expected = F.rotate(image, angle, expand=True), TF.rotate(same, angle, expand=True)
    assert tuple(got.shape) == tuple(expected.shape)


def test_an_image_of_int16():
    pixels = np.random.default_rng(0).integers(0, 3000, (1, 4, 5)).astype(np.int16)
    got, expected = F.to_pil_image(mg.tensor(pixels)), TF.to_pil_image(torch.from_numpy(pixels))
    assert (got.mode, got.tobytes()) == (expected.mode, expected.tobytes())
