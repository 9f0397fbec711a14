"""Transforms of single images beside torchvision's: functions of drawn images and parameters, and
steps by what they may draw."""

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import transforms as theirs
from torchvision.transforms import functional as TF

import minigrad as mg
from minigrad.vision import transforms as ours
from minigrad.vision.transforms import functional as F
from minigrad.vision.transforms import v2

N, B = "NEAREST", "BILINEAR"

# name: (draw → arguments, kinds of images). An interpolation is given by its name.
OPERATIONS = {
    "hflip": lambda d: (),
    "vflip": lambda d: (),
    "crop": lambda d: (*d.integers(-4, 8, 2).tolist(), *d.integers(3, 12, 2).tolist()),
    "center_crop": lambda d: (d.integers(2, 20, 2).tolist(),),
    "five_crop": lambda d: (d.integers(2, 6, 2).tolist(),),
    "ten_crop": lambda d: (int(d.integers(2, 6)), bool(d.integers(2))),
    "pad": lambda d: (
        d.integers(0, 5, d.choice([1, 2, 4])).tolist(), int(d.integers(2)),
        str(d.choice(["constant", "edge", "reflect", "symmetric"])),
    ),
    "resize": lambda d: (
        d.integers(4, 20, d.integers(1, 3)).tolist(), str(d.choice([N, B, "BICUBIC"])),
    ),
    "resized_crop": lambda d: (1, 2, 6, 5, d.integers(4, 20, 2).tolist(), B),
    "rotate": lambda d: (
        float(d.uniform(-180, 180)), str(d.choice([N, B])), bool(d.integers(2)), None,
        [float(d.integers(2))],
    ),
    "affine": lambda d: (
        float(d.uniform(-90, 90)), d.integers(-3, 4, 2).tolist(), float(d.uniform(0.6, 1.5)),
        d.uniform(-20, 20, 2).tolist(), str(d.choice([N, B])), [float(d.integers(2))],
    ),
    "perspective": lambda d: (
        [[0, 0], [9, 0], [9, 8], [0, 8]],
        (np.array([[0, 0], [9, 0], [9, 8], [0, 8]]) + d.integers(-2, 3, (4, 2))).tolist(),
        str(d.choice([N, B])), [float(d.integers(2))],
    ),
    "adjust_brightness": lambda d: (float(d.uniform(0, 2)),),
    "adjust_contrast": lambda d: (float(d.uniform(0, 2)),),
    "adjust_saturation": lambda d: (float(d.uniform(0, 2)),),
    "adjust_hue": lambda d: (float(d.uniform(-0.5, 0.5)),),
    "adjust_gamma": lambda d: (float(d.uniform(0.3, 2)), float(d.uniform(0.5, 1.5))),
    "adjust_sharpness": lambda d: (float(d.uniform(0, 2)),),
    "rgb_to_grayscale": lambda d: (int(d.choice([1, 3])),),
    "invert": lambda d: (),
    "posterize": lambda d: (int(d.integers(1, 8)),),
    "solarize": lambda d: (float(d.uniform(0, 1)),),
    "autocontrast": lambda d: (),
    "equalize": lambda d: (),
    "gaussian_blur": lambda d: ([3, 5], d.uniform(0.3, 2, 2).tolist()),
}  # fmt: skip
BYTES_ONLY = {"posterize", "equalize"}
GEOMETRY = {"rotate", "affine", "perspective"}


def images(draws, kind, channels, size=(9, 10)):
    """The same image for both libraries."""
    pixels = draws.integers(0, 256, (*size, channels), np.uint8)
    if kind == "pil":
        picture = Image.fromarray(pixels[..., 0] if channels == 1 else pixels)
        return picture, picture
    array = np.ascontiguousarray(pixels.transpose(2, 0, 1))
    if kind == "float":
        array = array.astype(np.float32) / np.float32(255)
    return mg.tensor(array), torch.from_numpy(array)


def with_modes(arguments, modes):
    return [getattr(modes, a) if a in (N, B, "BICUBIC") else a for a in arguments]


def values(image):
    if isinstance(image, (tuple, list)):
        return [values(part) for part in image]
    return np.asarray(image) if isinstance(image, Image.Image) else image.numpy()


@pytest.mark.parametrize("kind", ["pil", "bytes", "float"])
@pytest.mark.parametrize("name", OPERATIONS)
def test_functions_equal_torchvisions(name, kind):
    for seed in range(8):
        draws = np.random.default_rng(seed)
        channels = 1 if seed == 7 else 3
        mine, other = images(draws, kind, channels)
        arguments = OPERATIONS[name](draws)
        if name == "solarize" and kind != "float":
            arguments = (arguments[0] * 255,)
        if name in BYTES_ONLY and kind == "float":
            with pytest.raises(TypeError, match="only uint8"):
                getattr(F, name)(mine, *arguments)
            return
        got = values(getattr(F, name)(mine, *with_modes(arguments, F.InterpolationMode)))
        modes = theirs.InterpolationMode
        expected = values(getattr(TF, name)(other, *with_modes(arguments, modes)))
        if isinstance(got, list):
            assert all(np.array_equal(a, b) for a, b in zip(got, expected, strict=True))
            continue
        assert got.shape == expected.shape, arguments
        assert got.dtype == expected.dtype
        if kind == "pil":
            assert np.array_equal(got, expected), arguments
        elif kind == "bytes":
            # Rounding in float32 may decide otherwise about halves, and about the nearest of two.
            wrong = np.abs(got.astype(int) - expected.astype(int))
            assert name in GEOMETRY or wrong.max(initial=0) <= 1, (arguments, wrong)
            assert (wrong > 0).mean() <= 0.02, arguments
        else:
            close = np.abs(got - expected) <= 2e-5
            # At a threshold, too.
            assert close.mean() >= 0.98, (arguments, np.abs(got - expected).max())


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
