"""Augmentation by policies: AutoAugment, RandAugment, TrivialAugmentWide, AugMix.

An operation has a name and a magnitude. Sources: Cubuk et al. 2018 and 2019, Müller & Hutter 2021,
Hendrycks et al. 2019, with torchvision's magnitudes.
"""

from __future__ import annotations

import math
from enum import Enum
from typing import Any

import numpy as np

from ...dtypes import float32, uint8
from . import functional as F
from .classes import NEAREST, Transform, draws
from .functional import InterpolationMode

__all__ = ["AugMix", "AutoAugment", "AutoAugmentPolicy", "RandAugment", "TrivialAugmentWide"]

_SIGNED = {"ShearX", "ShearY", "TranslateX", "TranslateY", "Rotate", "Brightness", "Color",
           "Contrast", "Sharpness"}  # fmt: skip
_FACTORS = {
    "Brightness": F.adjust_brightness, "Color": F.adjust_saturation, "Contrast": F.adjust_contrast,
    "Sharpness": F.adjust_sharpness,
}  # fmt: skip
_PLAIN = {"AutoContrast": F.autocontrast, "Equalize": F.equalize, "Invert": F.invert}


def apply_operation(image: Any, name: str, magnitude: float, interpolation: Any, fill: Any) -> Any:
    """An operation of the policies."""
    if name in _FACTORS:
        return _FACTORS[name](image, 1.0 + magnitude)
    if name in _PLAIN:
        return _PLAIN[name](image)
    if name == "Identity":
        return image
    if name == "Posterize":
        return F.posterize(image, int(magnitude))
    if name == "Solarize":
        return F.solarize(image, magnitude)
    if name == "Rotate":
        return F.rotate(image, magnitude, interpolation, fill=fill)
    shear, translate = [0.0, 0.0], [0, 0]
    # Shears are about the corner, as in the papers' code.
    center = [0.0, 0.0] if name.startswith("Shear") else None
    axis = "XY".index(name[-1])
    if name.startswith("Shear"):
        shear[axis] = math.degrees(math.atan(magnitude))
    else:
        translate[axis] = int(magnitude)
    return F.affine(image, 0.0, translate, 1.0, shear, interpolation, fill, center)


def _magnitudes(
    bins: int, size: tuple[int, int], wide: bool = False
) -> dict[str, np.ndarray | float]:
    """The magnitudes of each operation; 0 where it has none."""
    H, W = size
    width, height = (32.0, 32.0) if wide else (150.0 / 331.0 * W, 150.0 / 331.0 * H)
    factor, shear, degrees = (0.99, 0.99, 135.0) if wide else (0.9, 0.3, 30.0)
    steps = np.arange(bins)
    bits = 8 - np.round(steps / ((bins - 1) / (6 if wide else 4)))
    return {
        "Identity": 0.0,
        "ShearX": np.linspace(0.0, shear, bins), "ShearY": np.linspace(0.0, shear, bins),
        "TranslateX": np.linspace(0.0, width, bins), "TranslateY": np.linspace(0.0, height, bins),
        "Rotate": np.linspace(0.0, degrees, bins),
        **{name: np.linspace(0.0, factor, bins) for name in _FACTORS},
        "Posterize": bits, "Solarize": np.linspace(255.0, 0.0, bins),
        "AutoContrast": 0.0, "Equalize": 0.0,
    }  # fmt: skip


class _Policy(Transform):
    def __init__(self, interpolation: Any = NEAREST, fill: Any = None) -> None:
        super().__init__()
        self.interpolation, self.fill = interpolation, fill

    def _filled(self, image: Any) -> Any:
        """The fill of every channel of a tensor."""
        if isinstance(self.fill, int | float) and not F.is_pil(image):
            return [float(self.fill)] * F.get_image_num_channels(image)
        return self.fill

    def transform(self, image: Any, steps: Any) -> Any:
        for name, magnitude in steps:
            image = apply_operation(image, name, magnitude, self.interpolation, self._filled(image))
        return image


class RandAugment(_Policy):
    """num_ops operations at random, all of one magnitude out of num_magnitude_bins."""

    def __init__(
        self,
        num_ops: int = 2,
        magnitude: int = 9,
        num_magnitude_bins: int = 31,
        interpolation: Any = NEAREST,
        fill: Any = None,
    ) -> None:
        super().__init__(interpolation, fill)
        self.num_ops, self.magnitude = num_ops, magnitude
        self.num_magnitude_bins = num_magnitude_bins

    def params(self, image: Any) -> dict[str, Any] | None:
        _, H, W = F.get_dimensions(image)
        space = list(_magnitudes(self.num_magnitude_bins, (H, W)).items())
        draw = draws()
        return {
            "steps": [
                _drawn(draw, *space[draw.integers(len(space))], self.magnitude)
                for _ in range(self.num_ops)
            ]
        }


class TrivialAugmentWide(_Policy):
    """One operation at random, of a magnitude at random."""

    def __init__(
        self, num_magnitude_bins: int = 31, interpolation: Any = NEAREST, fill: Any = None
    ) -> None:
        super().__init__(interpolation, fill)
        self.num_magnitude_bins = num_magnitude_bins

    def params(self, image: Any) -> dict[str, Any] | None:
        space = list(_magnitudes(self.num_magnitude_bins, (0, 0), wide=True).items())
        draw = draws()
        name, magnitudes = space[draw.integers(len(space))]
        return {"steps": [_drawn(draw, name, magnitudes, draw.integers(self.num_magnitude_bins))]}


def _drawn(
    draw: np.random.Generator, name: str, magnitudes: np.ndarray | float, bin: Any
) -> tuple[str, float]:
    """The operation with its magnitude, in either direction where it has one."""
    size = float(magnitudes[bin]) if isinstance(magnitudes, np.ndarray) else magnitudes
    return name, -size if name in _SIGNED and draw.integers(2) else size


class AutoAugmentPolicy(Enum):
    """Policies that were found on these data sets."""

    IMAGENET = "imagenet"
    CIFAR10 = "cifar10"
    SVHN = "svhn"


# Two operations each: name, probability, magnitude of ten, "-" for none.
_POLICIES = {
    AutoAugmentPolicy.IMAGENET: """
        Posterize .4 8 Rotate .6 9, Solarize .6 5 AutoContrast .6 -, Equalize .8 - Equalize .6 -,
        Posterize .6 7 Posterize .6 6, Equalize .4 - Solarize .2 4, Equalize .4 - Rotate .8 8,
        Solarize .6 3 Equalize .6 -, Posterize .8 5 Equalize 1 -, Rotate .2 3 Solarize .6 8,
        Equalize .6 - Posterize .4 6, Rotate .8 8 Color .4 0, Rotate .4 9 Equalize .6 -,
        Equalize 0 - Equalize .8 -, Invert .6 - Equalize 1 -, Color .6 4 Contrast 1 8,
        Rotate .8 8 Color 1 2, Color .8 8 Solarize .8 7, Sharpness .4 7 Invert .6 -,
        ShearX .6 5 Equalize 1 -, Color .4 0 Equalize .6 -, Equalize .4 - Solarize .2 4,
        Solarize .6 5 AutoContrast .6 -, Invert .6 - Equalize 1 -, Color .6 4 Contrast 1 8,
        Equalize .8 - Equalize .6 -""",
    AutoAugmentPolicy.CIFAR10: """
        Invert .1 - Contrast .2 6, Rotate .7 2 TranslateX .3 9, Sharpness .8 1 Sharpness .9 3,
        ShearY .5 8 TranslateY .7 9, AutoContrast .5 - Equalize .9 -, ShearY .2 7 Posterize .3 7,
        Color .4 3 Brightness .6 7, Sharpness .3 9 Brightness .7 9, Equalize .6 - Equalize .5 -,
        Contrast .6 7 Sharpness .6 5, Color .7 7 TranslateX .5 8, Equalize .3 - AutoContrast .4 -,
        TranslateY .4 3 Sharpness .2 6, Brightness .9 6 Color .2 8, Solarize .5 2 Invert 0 -,
        Equalize .2 - AutoContrast .6 -, Equalize .2 - Equalize .6 -, Color .9 9 Equalize .6 -,
        AutoContrast .8 - Solarize .2 8, Brightness .1 3 Color .7 0,
        Solarize .4 5 AutoContrast .9 -, TranslateY .9 9 TranslateY .7 9,
        AutoContrast .9 - Solarize .8 3, Equalize .8 - Invert .1 -,
        TranslateY .7 9 AutoContrast .9 -""",
    AutoAugmentPolicy.SVHN: """
        ShearX .9 4 Invert .2 -, ShearY .9 8 Invert .7 -, Equalize .6 - Solarize .6 6,
        Invert .9 - Equalize .6 -, Equalize .6 - Rotate .9 3, ShearX .9 4 AutoContrast .8 -,
        ShearY .9 8 Invert .4 -, ShearY .9 5 Solarize .2 6, Invert .9 - AutoContrast .8 -,
        Equalize .6 - Rotate .9 3, ShearX .9 4 Solarize .3 3, ShearY .8 8 Invert .7 -,
        Equalize .9 - TranslateY .6 6, Invert .9 - Equalize .6 -, Contrast .3 3 Rotate .8 4,
        Invert .8 - TranslateY 0 2, ShearY .7 6 Solarize .4 8, Invert .6 - Rotate .8 4,
        ShearY .3 7 TranslateX .9 3, ShearX .1 6 Invert .6 -, Solarize .7 2 TranslateY .6 7,
        ShearY .8 4 Invert .8 -, ShearX .7 9 TranslateY .8 3, ShearY .8 5 AutoContrast .7 -,
        ShearX .7 2 Invert .1 -""",
}  # fmt: skip


def _parsed(text: str) -> list[list[tuple[str, float, int | None]]]:
    policy = []
    for entry in text.replace("\n", " ").split(","):
        words = entry.split()
        policy.append([
            (words[i], float(words[i + 1]), None if words[i + 2] == "-" else int(words[i + 2]))
            for i in (0, 3)
        ])  # fmt: skip
    return policy


class AutoAugment(_Policy):
    """One of the policy's pairs of operations, each with its probability."""

    def __init__(
        self,
        policy: AutoAugmentPolicy = AutoAugmentPolicy.IMAGENET,
        interpolation: Any = NEAREST,
        fill: Any = None,
    ) -> None:
        super().__init__(interpolation, fill)
        self.policy = policy
        self._pairs = _parsed(_POLICIES[policy])

    def params(self, image: Any) -> dict[str, Any] | None:
        _, H, W = F.get_dimensions(image)
        space = _magnitudes(10, (H, W)) | {"Invert": 0.0}
        draw = draws()
        steps = [
            _drawn(draw, name, space[name], bin)
            for name, probability, bin in self._pairs[draw.integers(len(self._pairs))]
            if draw.random() <= probability
        ]
        return {"steps": steps}


class AugMix(_Policy):
    """A weighted mean of the image and of chains of operations on it, as bytes."""

    def __init__(
        self,
        severity: int = 3,
        mixture_width: int = 3,
        chain_depth: int = -1,
        alpha: float = 1.0,
        all_ops: bool = True,
        interpolation: Any = InterpolationMode.BILINEAR,
        fill: Any = None,
    ) -> None:
        super().__init__(interpolation, fill)
        if not 1 <= severity <= 10:
            raise ValueError(f"AugMix: severity must be from 1 to 10, got {severity}")
        self.severity, self.mixture_width, self.chain_depth = severity, mixture_width, chain_depth
        self.alpha, self.all_ops = alpha, all_ops

    def params(self, image: Any) -> dict[str, Any] | None:
        _, H, W = F.get_dimensions(image)
        space = _magnitudes(10, (H, W))
        for name in ("Identity", *(() if self.all_ops else _FACTORS)):
            space.pop(name)
        space["TranslateX"] = np.linspace(0.0, W / 3.0, 10)
        space["TranslateY"] = np.linspace(0.0, H / 3.0, 10)
        space["Posterize"] = 4 - np.round(np.arange(10) / (9 / 4))
        names, draw = list(space), draws()
        share = draw.beta(self.alpha, self.alpha)
        weights = draw.dirichlet([self.alpha] * self.mixture_width) * share
        chains = []
        for _ in range(self.mixture_width):
            depth = self.chain_depth if self.chain_depth > 0 else int(draw.integers(1, 4))
            chosen = [names[draw.integers(len(names))] for _ in range(depth)]
            chains.append([
                _drawn(draw, name, space[name], draw.integers(self.severity)) for name in chosen
            ])  # fmt: skip
        return {"steps": (1.0 - share, weights, chains)}

    def transform(self, image: Any, steps: Any) -> Any:
        own, weights, chains = steps
        as_floats = (lambda x: F.pil_to_tensor(x)) if F.is_pil(image) else (lambda x: x)
        mixed = as_floats(image).to(float32) * float(own)
        for weight, chain in zip(weights, chains, strict=True):
            mixed = mixed + as_floats(super().transform(image, chain)).to(float32) * float(weight)
        if F.is_pil(image):
            return F.to_pil_image(mixed.to(uint8), image.mode)
        return mixed.to(image.dtype)
