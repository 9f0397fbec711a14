"""torchvision.transforms: steps of augmentation, for single images.

A step draws its parameters (`params`) and applies them (`transform`). Given several inputs, or a
tuple, list or dict, it applies the same parameters to all images in it, as torchvision's v2 does:
images of PIL, or, if there is none, the first tensor; all else passes through. Random numbers come
from the default generator.
"""

from __future__ import annotations

import math
import numbers
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ...device import CPU, default_generator
from ...dtypes import as_dtype, float32
from ...engine import Tensor
from ...nn import Module, ModuleList
from ...nn.layer import Layer
from ...ops.transfer import host
from . import functional as F
from .functional import InterpolationMode

BILINEAR, NEAREST = InterpolationMode.BILINEAR, InterpolationMode.NEAREST


def draws() -> np.random.Generator:
    """Random numbers of the default generator's next stream."""
    return np.random.Generator(np.random.Philox(key=list(default_generator.next_stream())))


def _uniform(draw: np.random.Generator, limits: Sequence[float]) -> float:
    low, high = limits
    return float(draw.uniform(low, high))


class Transform(Layer):
    """Base of all steps."""

    def params(self, image: Any) -> dict[str, Any] | None:
        """What is drawn for an image; None leaves it as it is."""
        return {}

    def transform(self, image: Any, *args: Any, **params: Any) -> Any:
        """The step."""
        raise TypeError(f"{type(self).__name__} must define transform")

    def forward(self, *inputs: Any) -> Any:
        sample = inputs[0] if len(inputs) == 1 else inputs
        if self._takes(sample):
            params = self.params(sample)
            return sample if params is None else self.transform(sample, **params)
        if not isinstance(sample, (tuple, list, dict)):
            return self.transform(
                sample, **(self.params(sample) or {})
            )  # which names what is wrong
        images = self._images(sample)
        if not images:
            return sample
        params = self.params(images[0])
        chosen = {id(image) for image in images}
        if params is None:
            return sample
        return self._mapped(sample, lambda v: self.transform(v, **params) if id(v) in chosen else v)

    def _takes(self, value: Any) -> bool:
        return F.is_pil(value) or isinstance(value, Tensor)

    def _images(self, sample: Any) -> list[Any]:
        leaves: list[Any] = []
        self._mapped(sample, lambda value: leaves.append(value) or value)  # type: ignore[func-returns-value]
        pictures = [leaf for leaf in leaves if F.is_pil(leaf)]
        tensors = [leaf for leaf in leaves if isinstance(leaf, Tensor) and leaf.ndim > 1]
        return pictures or tensors[:1]

    def _mapped(self, sample: Any, function: Callable[[Any], Any]) -> Any:
        if isinstance(sample, dict):
            return {key: self._mapped(value, function) for key, value in sample.items()}
        if isinstance(sample, (tuple, list)):
            return type(sample)(self._mapped(value, function) for value in sample)
        return function(sample)

    def extra_repr(self) -> str:
        shown = {
            name: value for name, value in vars(self).items()
            if not name.startswith("_") and name != "training"
        }  # fmt: skip
        return ", ".join(f"{name}={_shown(value)}" for name, value in shown.items())


def _shown(value: Any) -> str:
    return value.value if isinstance(value, InterpolationMode) else str(value)


def _fixed(name: str, function: Callable[..., Any], doc: str, *names: str, **defaults: Any) -> Any:
    """A step that calls a function with its own arguments, and draws nothing."""

    def init(self: Any, *args: Any, **kwargs: Any) -> None:
        Transform.__init__(self)
        values = defaults | dict(zip(names, args, strict=False)) | kwargs
        missing = [n for n in names if n not in values]
        unknown = set(values) - set(names)
        if missing or unknown or len(args) > len(names):
            raise TypeError(f"{name}: takes ({', '.join(names)}), got {args} and {kwargs}")
        for key in names:
            setattr(self, key, values[key])

    def transform(self: Any, image: Any) -> Any:
        return function(image, *(getattr(self, key) for key in names))

    body = {"__init__": init, "transform": transform, "__doc__": doc, "__module__": __name__}
    return type(name, (Transform,), body)


class _Always(Transform):
    """Takes arrays, too."""

    def _takes(self, value: Any) -> bool:
        return True


class ToTensor(_Always):
    """The (C, H, W) tensor of an image; bytes become floats from 0 to 1."""

    def transform(self, image: Any) -> Any:
        return F.to_tensor(image)


class PILToTensor(_Always):
    """The (C, H, W) tensor of an image, of its own dtype."""

    def transform(self, image: Any) -> Any:
        return F.pil_to_tensor(image)


class ToPILImage(_Always):
    """The image of PIL of a tensor or an array."""

    mode: str | None = None

    def transform(self, image: Any) -> Any:
        return F.to_pil_image(image, self.mode)


class ToImage(Transform):
    """v2: the (C, H, W) tensor of an image or an array, of its own dtype."""

    def _takes(self, value: Any) -> bool:
        return super()._takes(value) or isinstance(value, np.ndarray)

    def transform(self, image: Any) -> Any:
        if isinstance(image, Tensor):
            return image
        if isinstance(image, np.ndarray):
            array = image[:, :, None] if image.ndim == 2 else image
            return Tensor(np.array(array.transpose(2, 0, 1), order="C"), CPU)
        return F.pil_to_tensor(image)


class ToDtype(Transform):
    """v2: tensors in another dtype; scale: their values in its range."""

    dtype: Any
    scale: bool = False

    def _start(self, **fields: Any) -> None:
        super()._start(**fields)
        self.dtype = as_dtype(self.dtype)

    def transform(self, image: Any) -> Any:
        if not isinstance(image, Tensor):
            return image
        return F.convert_image_dtype(image, self.dtype) if self.scale else image.to(self.dtype)


ConvertImageDtype = _fixed(
    "ConvertImageDtype", F.convert_image_dtype, "Tensors in another dtype, scaled.", "dtype",
    dtype=float32,
)  # fmt: skip
Normalize = _fixed(
    "Normalize", F.normalize, "(tensor − mean) / std of each channel.", "mean", "std", "inplace",
    inplace=False,
)  # fmt: skip
Resize = _fixed(
    "Resize", F.resize, "To (height, width), or so that the shorter side has `size`.",
    "size", "interpolation", "max_size", "antialias",
    interpolation=BILINEAR, max_size=None, antialias=True,
)  # fmt: skip
CenterCrop = _fixed("CenterCrop", F.center_crop, "The middle of the image.", "size")
Pad = _fixed(
    "Pad", F.pad, "Pixels around the image.", "padding", "fill", "padding_mode",
    fill=0, padding_mode="constant",
)  # fmt: skip
FiveCrop = _fixed("FiveCrop", F.five_crop, "The four corners and the middle.", "size")
TenCrop = _fixed(
    "TenCrop", F.ten_crop, "Five windows of the image and of its mirror image.", "size",
    "vertical_flip", vertical_flip=False,
)  # fmt: skip
Grayscale = _fixed(
    "Grayscale", F.rgb_to_grayscale, "In shades of grey.", "num_output_channels",
    num_output_channels=1,
)  # fmt: skip


class Lambda(_Always):
    """Any function of one value."""

    def __init__(self, lambd: Callable[[Any], Any]) -> None:
        super().__init__()
        if not callable(lambd):
            raise TypeError(f"Lambda: expects a function, got {type(lambd).__name__}")
        self.lambd = lambd

    def transform(self, image: Any) -> Any:
        return self.lambd(image)


class LinearTransformation(Transform):
    """(flattened tensor − mean_vector) · transformation_matrix, in the tensor's shape."""

    def __init__(self, transformation_matrix: Tensor, mean_vector: Tensor) -> None:
        super().__init__()
        size = mean_vector.shape[0]
        if tuple(transformation_matrix.shape) != (size, size):
            raise ValueError(
                f"LinearTransformation: a matrix of {(size, size)} is needed, got "
                f"{tuple(transformation_matrix.shape)}"
            )
        self.transformation_matrix, self.mean_vector = transformation_matrix, mean_vector

    def transform(self, image: Any) -> Any:
        flat = image.reshape(-1, self.mean_vector.shape[0]) - self.mean_vector
        return (flat @ self.transformation_matrix).reshape(image.shape)


# Steps made of steps --------------------------------------------------------------------------


class Compose(Module):
    """Steps one after the other: any functions of what the one before returned."""

    def __init__(self, transforms: Sequence[Callable[..., Any]]) -> None:
        super().__init__()
        self.transforms = list(transforms)

    def forward(self, *inputs: Any) -> Any:
        sample = inputs[0] if len(inputs) == 1 else inputs
        for transform in self.transforms:
            sample = transform(sample)
        return sample

    def __repr__(self) -> str:
        lines = [f"    {transform}" for transform in self.transforms]
        return "\n".join([f"{type(self).__name__}(", *lines, ")"])


class RandomApply(Compose):
    """The steps, with probability p."""

    def __init__(self, transforms: Sequence[Callable[..., Any]], p: float = 0.5) -> None:
        if isinstance(transforms, ModuleList):
            transforms = list(transforms)
        super().__init__(transforms)
        self.p = p

    def forward(self, *inputs: Any) -> Any:
        if draws().random() >= self.p:
            return inputs[0] if len(inputs) == 1 else inputs
        return super().forward(*inputs)


class RandomOrder(Compose):
    """The steps in an order at random."""

    def forward(self, *inputs: Any) -> Any:
        sample = inputs[0] if len(inputs) == 1 else inputs
        for i in draws().permutation(len(self.transforms)):
            sample = self.transforms[i](sample)
        return sample


class RandomChoice(Compose):
    """One of the steps, with the probabilities p."""

    def __init__(self, transforms: Sequence[Callable[..., Any]], p: Any = None) -> None:
        super().__init__(transforms)
        self.p = None if p is None else np.asarray(p, float) / np.sum(p)

    def forward(self, *inputs: Any) -> Any:
        return self.transforms[draws().choice(len(self.transforms), p=self.p)](*inputs)


# Steps with a probability ----------------------------------------------------------------------


def _with_chance(name: str, function: Callable[..., Any], doc: str, p: float, *names: str) -> Any:
    """A step that calls a function with probability p."""

    def init(self: Any, *args: Any, **kwargs: Any) -> None:
        Transform.__init__(self)
        values = {"p": p} | dict(zip((*names, "p"), args, strict=False)) | kwargs
        if set(values) != {*names, "p"} or len(args) > len(names) + 1:
            raise TypeError(f"{name}: takes ({', '.join((*names, 'p'))}), got {args} and {kwargs}")
        if not 0 <= values["p"] <= 1:
            raise ValueError(f"{name}: p must be in [0, 1], got {values['p']}")
        for key in (*names, "p"):
            setattr(self, key, values[key])

    def params(self: Any, image: Any) -> Any:
        return {} if draws().random() < self.p else None

    def transform(self: Any, image: Any) -> Any:
        return function(image, *(getattr(self, key) for key in names))

    body = {
        "__init__": init, "params": params, "transform": transform, "__doc__": doc,
        "__module__": __name__,
    }  # fmt: skip
    return type(name, (Transform,), body)


def _grey_of_same_channels(image: Any) -> Any:
    return F.rgb_to_grayscale(image, F.get_image_num_channels(image))


RandomHorizontalFlip = _with_chance(
    "RandomHorizontalFlip", F.hflip, "Left and right exchanged, with probability p.", 0.5
)
RandomVerticalFlip = _with_chance(
    "RandomVerticalFlip", F.vflip, "Top and bottom exchanged, with probability p.", 0.5
)
RandomGrayscale = _with_chance(
    "RandomGrayscale", _grey_of_same_channels, "In shades of grey, with probability p.", 0.1
)
RandomInvert = _with_chance("RandomInvert", F.invert, "The negative, with probability p.", 0.5)
RandomPosterize = _with_chance(
    "RandomPosterize", F.posterize, "`bits` bits of each byte, with probability p.", 0.5, "bits"
)
RandomSolarize = _with_chance(
    "RandomSolarize", F.solarize, "The negative above a threshold, with probability p.", 0.5,
    "threshold",
)  # fmt: skip
RandomAdjustSharpness = _with_chance(
    "RandomAdjustSharpness", F.adjust_sharpness, "Sharper or blurred, with probability p.", 0.5,
    "sharpness_factor",
)  # fmt: skip
RandomAutocontrast = _with_chance(
    "RandomAutocontrast", F.autocontrast, "Stretched contrast, with probability p.", 0.5
)
RandomEqualize = _with_chance(
    "RandomEqualize", F.equalize, "Values spread evenly, with probability p.", 0.5
)


# Geometry -------------------------------------------------------------------------------------


def _size(owner: str, size: Any) -> tuple[int, int]:
    sides = (size,) if isinstance(size, numbers.Number) else tuple(size)
    if len(sides) not in (1, 2):
        raise ValueError(f"{owner}: size must be one or two numbers, got {size!r}")
    return int(sides[0]), int(sides[-1])


def _range(owner: str, name: str, value: Any, lengths: Sequence[int] = (2,)) -> list[float]:
    """[−value, value] of a number, or the numbers given."""
    if isinstance(value, numbers.Number):
        if value < 0:  # type: ignore[operator]
            raise ValueError(
                f"{owner}: a single number for {name} must not be negative, got {value}"
            )
        return [-float(value), float(value)]  # type: ignore[arg-type]
    values = [float(v) for v in value]
    if len(values) not in lengths:
        raise ValueError(f"{owner}: {name} must be one of {lengths} numbers, got {value!r}")
    return values


class RandomCrop(Transform):
    """A window of `size` somewhere, of the image padded."""

    size: Any
    padding: Any = None
    pad_if_needed: bool = False
    fill: Any = 0
    padding_mode: str = "constant"

    def _start(self, **fields: Any) -> None:
        super()._start(**fields)
        self.size = _size("RandomCrop", self.size)

    @staticmethod
    def get_params(img: Any, output_size: Sequence[int]) -> tuple[int, int, int, int]:
        """(top, left, height, width) of a window somewhere."""
        _, H, W = F.get_dimensions(img)
        h, w = output_size
        if h > H or w > W:
            raise ValueError(
                f"Required crop size {(h, w)} is larger than input image size {(H, W)}"
            )
        draw = draws()
        return int(draw.integers(H - h + 1)), int(draw.integers(W - w + 1)), h, w

    def _padded(self, image: Any) -> Any:
        if self.padding is not None:
            image = F.pad(image, self.padding, self.fill, self.padding_mode)
        if self.pad_if_needed:
            for axis, side in ((2, self.size[1]), (1, self.size[0])):
                lacking = side - F.get_dimensions(image)[axis]
                if lacking > 0:
                    padding = [lacking, 0] if axis == 2 else [0, lacking]
                    image = F.pad(image, padding, self.fill, self.padding_mode)
        return image

    def params(self, image: Any) -> dict[str, Any] | None:
        return {"window": self.get_params(self._padded(image), self.size)}

    def transform(self, image: Any, window: Any) -> Any:
        return F.crop(self._padded(image), *window)


class RandomResizedCrop(Transform):
    """A window of a random share of the area and a random ratio of sides, resized."""

    size: Any
    scale: Sequence[float] = (0.08, 1.0)
    ratio: Sequence[float] = (3.0 / 4.0, 4.0 / 3.0)
    interpolation: Any = BILINEAR
    antialias: bool | None = True

    def _start(self, **fields: Any) -> None:
        super()._start(**fields)
        self.size, scale, ratio = _size("RandomResizedCrop", self.size), self.scale, self.ratio
        if scale[0] > scale[1] or ratio[0] > ratio[1]:
            raise ValueError(
                f"RandomResizedCrop: scale and ratio must be (low, high), got {scale} and {ratio}"
            )

    @staticmethod
    def get_params(
        img: Any, scale: Sequence[float], ratio: Sequence[float]
    ) -> tuple[int, int, int, int]:
        """(top, left, height, width); after ten misses the largest window in the middle."""
        _, H, W = F.get_dimensions(img)
        draw = draws()
        for _ in range(10):
            area = H * W * _uniform(draw, scale)
            aspect = math.exp(draw.uniform(math.log(ratio[0]), math.log(ratio[1])))
            w, h = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
            if 0 < w <= W and 0 < h <= H:
                return int(draw.integers(H - h + 1)), int(draw.integers(W - w + 1)), h, w
        h, w = H, W
        aspect = W / H
        if aspect < min(ratio):
            h = round(W / min(ratio))
        elif aspect > max(ratio):
            w = round(H * max(ratio))
        return (H - h) // 2, (W - w) // 2, h, w

    def params(self, image: Any) -> dict[str, Any] | None:
        return {"window": self.get_params(image, self.scale, self.ratio)}

    def transform(self, image: Any, window: Any) -> Any:
        cut = F.crop(image, *window)
        return F.resize(cut, self.size, self.interpolation, antialias=self.antialias)


class RandomRotation(Transform):
    """Rotated by degrees from [−degrees, degrees] or (low, high), counter-clockwise."""

    degrees: Any
    interpolation: Any = NEAREST
    expand: bool = False
    center: Sequence[float] | None = None
    fill: Any = 0

    def _start(self, **fields: Any) -> None:
        super()._start(**fields)
        self.degrees = _range("RandomRotation", "degrees", self.degrees)

    @staticmethod
    def get_params(degrees: Sequence[float]) -> float:
        return _uniform(draws(), degrees)

    def params(self, image: Any) -> dict[str, Any] | None:
        return {"angle": self.get_params(self.degrees)}

    def transform(self, image: Any, angle: float) -> Any:
        return F.rotate(image, angle, self.interpolation, self.expand, self.center, self.fill)


class RandomAffine(Transform):
    """Rotated clockwise, moved by shares of the sides, scaled and sheared."""

    degrees: Any
    translate: Sequence[float] | None = None
    scale: Sequence[float] | None = None
    shear: Any = None
    interpolation: Any = NEAREST
    fill: Any = 0
    center: Sequence[float] | None = None

    def _start(self, **fields: Any) -> None:
        super()._start(**fields)
        self.degrees = _range("RandomAffine", "degrees", self.degrees)
        if self.translate is not None and not all(0 <= t <= 1 for t in self.translate):
            raise ValueError(f"RandomAffine: translate must be in [0, 1], got {self.translate}")
        if self.scale is not None and not all(s > 0 for s in self.scale):
            raise ValueError(f"RandomAffine: scale must be positive, got {self.scale}")
        if self.shear is not None:
            self.shear = _range("RandomAffine", "shear", self.shear, (2, 4))

    @staticmethod
    def get_params(
        degrees: Sequence[float],
        translate: Sequence[float] | None,
        scale_ranges: Sequence[float] | None,
        shears: Sequence[float] | None,
        img_size: Sequence[int],
    ) -> tuple[float, tuple[int, int], float, tuple[float, float]]:
        """(angle, (x, y), scale, shears) for an image of (width, height)."""
        draw = draws()
        angle = _uniform(draw, degrees)
        limits = [0.0, 0.0] if translate is None else [
            share * side for share, side in zip(translate, img_size, strict=True)
        ]  # fmt: skip
        x, y = (round(draw.uniform(-limit, limit)) for limit in limits)
        scale = 1.0 if scale_ranges is None else _uniform(draw, scale_ranges)
        along_x = 0.0 if shears is None else _uniform(draw, shears[:2])
        along_y = 0.0 if shears is None or len(shears) < 4 else _uniform(draw, shears[2:])
        return angle, (x, y), scale, (along_x, along_y)

    def params(self, image: Any) -> dict[str, Any] | None:
        size = F.get_image_size(image)
        drawn = self.get_params(self.degrees, self.translate, self.scale, self.shear, size)
        return {"drawn": drawn}

    def transform(self, image: Any, drawn: Any) -> Any:
        angle, translate, scale, shear = drawn
        options = self.interpolation, self.fill, self.center
        return F.affine(image, angle, translate, scale, shear, *options)


class RandomPerspective(Transform):
    """The corners moved inwards at random, with probability p."""

    distortion_scale: float = 0.5
    p: float = 0.5
    interpolation: Any = BILINEAR
    fill: Any = 0

    @staticmethod
    def get_params(
        width: int, height: int, distortion_scale: float
    ) -> tuple[list[list[int]], list[list[int]]]:
        """The corners (x, y), and where they go."""
        draw = draws()
        dx = int(distortion_scale * (width // 2)) + 1
        dy = int(distortion_scale * (height // 2)) + 1
        corners = [[0, 0], [width - 1, 0], [width - 1, height - 1], [0, height - 1]]
        moved = [
            [x + int(draw.integers(dx)) * (1 if x == 0 else -1),
             y + int(draw.integers(dy)) * (1 if y == 0 else -1)]
            for x, y in corners
        ]  # fmt: skip
        return corners, moved

    def params(self, image: Any) -> dict[str, Any] | None:
        if draws().random() >= self.p:
            return None
        width, height = F.get_image_size(image)
        return {"corners": self.get_params(width, height, self.distortion_scale)}

    def transform(self, image: Any, corners: Any) -> Any:
        before, after = corners
        return F.perspective(image, before, after, self.interpolation, self.fill)


# Colours and pixels ---------------------------------------------------------------------------


class ColorJitter(Transform):
    """Brightness, contrast, saturation and hue changed at random, in an order at random. A number x
    stands for [1 − x, 1 + x], of the hue [−x, x]."""

    def __init__(
        self, brightness: Any = 0, contrast: Any = 0, saturation: Any = 0, hue: Any = 0
    ) -> None:
        super().__init__()
        self.brightness = self._checked("brightness", brightness)
        self.contrast = self._checked("contrast", contrast)
        self.saturation = self._checked("saturation", saturation)
        self.hue = self._checked("hue", hue, center=0, bound=(-0.5, 0.5))

    @staticmethod
    def _checked(
        name: str, value: Any, center: float = 1, bound: tuple[float, float] = (0, math.inf)
    ) -> tuple[float, float] | None:
        if isinstance(value, numbers.Number):
            if value < 0:  # type: ignore[operator]
                raise ValueError(f"ColorJitter: {name} must not be negative, got {value}")
            low, high = center - value, center + value  # type: ignore[operator]
            low = max(low, 0.0) if center else low
        else:
            low, high = value
        if not bound[0] <= low <= high <= bound[1]:
            raise ValueError(f"ColorJitter: {name} must be within {bound}, got ({low}, {high})")
        return None if low == high == center else (float(low), float(high))

    @staticmethod
    def get_params(
        brightness: Any, contrast: Any, saturation: Any, hue: Any
    ) -> tuple[Any, float | None, float | None, float | None, float | None]:
        """(order, factors)."""
        draw = draws()
        order = draw.permutation(4)
        factors = [
            None if r is None else _uniform(draw, r)
            for r in (brightness, contrast, saturation, hue)
        ]
        return (order, *factors)  # type: ignore[return-value]

    def params(self, image: Any) -> dict[str, Any] | None:
        drawn = self.get_params(self.brightness, self.contrast, self.saturation, self.hue)
        return {"drawn": drawn}

    def transform(self, image: Any, drawn: Any) -> Any:
        order, *factors = drawn
        steps = F.adjust_brightness, F.adjust_contrast, F.adjust_saturation, F.adjust_hue
        for i in order:
            if factors[i] is not None:
                image = steps[i](image, factors[i])
        return image


class GaussianBlur(Transform):
    """Blurred by a Gaussian whose deviation is drawn from sigma."""

    def __init__(self, kernel_size: Any, sigma: Any = (0.1, 2.0)) -> None:
        super().__init__()
        self.kernel_size = _size("GaussianBlur", kernel_size)
        self.sigma = (float(sigma),) * 2 if isinstance(sigma, numbers.Number) else tuple(sigma)  # type: ignore[arg-type]
        if not 0 < self.sigma[0] <= self.sigma[1]:
            raise ValueError(f"GaussianBlur: sigma must be (low, high) above 0, got {sigma}")
        if any(size % 2 == 0 or size < 1 for size in self.kernel_size):
            raise ValueError(f"GaussianBlur: kernel_size must be odd, got {kernel_size}")

    @staticmethod
    def get_params(sigma_min: float, sigma_max: float) -> float:
        return float(draws().uniform(sigma_min, sigma_max))

    def params(self, image: Any) -> dict[str, Any] | None:
        return {"sigma": self.get_params(*self.sigma)}

    def transform(self, image: Any, sigma: float) -> Any:
        return F.gaussian_blur(image, self.kernel_size, [sigma, sigma])


class RandomErasing(Transform):
    """A rectangle of a tensor set to value, a number, one a channel, or "random", with
    probability p."""

    p: float = 0.5
    scale: Sequence[float] = (0.02, 0.33)
    ratio: Sequence[float] = (0.3, 3.3)
    value: Any = 0
    inplace: bool = False

    def _start(self, **fields: Any) -> None:
        super()._start(**fields)
        p, scale, ratio = self.p, self.scale, self.ratio
        if not 0 <= p <= 1 or not 0 <= scale[0] <= scale[1] <= 1 or not 0 < ratio[0] <= ratio[1]:
            raise ValueError(
                "RandomErasing: p and scale must be in [0, 1] and ranges (low, high), got "
                f"{p}, {scale}, {ratio}"
            )

    @staticmethod
    def get_params(
        img: Tensor, scale: Sequence[float], ratio: Sequence[float], value: Any = None
    ) -> tuple[int, int, int, int, Any]:
        """(top, left, height, width, values); the whole image itself if ten draws do not fit."""
        C, H, W = img.shape[-3:]
        draw = draws()
        for _ in range(10):
            area = H * W * _uniform(draw, scale)
            aspect = math.exp(draw.uniform(math.log(ratio[0]), math.log(ratio[1])))
            h, w = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
            if h < H and w < W:
                if value is None:
                    values = draw.standard_normal((C, h, w))
                else:
                    values = np.asarray(value, float).reshape(-1, 1, 1)
                fill = F._like(values.astype(img.dtype), img)
                return int(draw.integers(H - h + 1)), int(draw.integers(W - w + 1)), h, w, fill
        return 0, 0, H, W, img

    def params(self, image: Any) -> dict[str, Any] | None:
        if draws().random() >= self.p:
            return None
        value = None if self.value == "random" else self.value
        return {"window": self.get_params(image, self.scale, self.ratio, value)}

    def transform(self, image: Any, window: Any) -> Any:
        i, j, h, w, values = window
        return F.erase(image, i, j, h, w, values, self.inplace)


# Batches --------------------------------------------------------------------------------------


class _Mixing(Module):
    """v2: of a batch (images (N, C, H, W), labels (N,)), with labels as shares of classes."""

    def __init__(
        self, *, alpha: float = 1.0, num_classes: int | None = None, labels_getter: Any = "default"
    ) -> None:
        super().__init__()
        if alpha <= 0:
            raise ValueError(f"{type(self).__name__}: alpha must be positive, got {alpha}")
        self.alpha, self.num_classes = alpha, num_classes

    def forward(self, *inputs: Any) -> Any:
        images, labels = inputs[0] if len(inputs) == 1 else inputs
        if images.ndim != 4 or labels.shape[0] != images.shape[0]:
            raise ValueError(
                f"{type(self).__name__}: expects images (N, C, H, W) and N labels, got "
                f"{images.shape} and {labels.shape}"
            )
        if labels.ndim == 1:
            if self.num_classes is None:
                raise ValueError(f"{type(self).__name__}: num_classes is needed for numbers")
            shares = np.eye(self.num_classes, dtype=np.float32)[host(labels)]
            labels = F._like(shares, images)
        share = float(draws().beta(self.alpha, self.alpha))
        images, share = self._mix(images, share)
        return images, labels * share + labels.roll(1, 0) * (1.0 - share)

    def _mix(self, images: Tensor, share: float) -> tuple[Tensor, float]:
        raise TypeError(f"{type(self).__name__} must define _mix")


class MixUp(_Mixing):
    """v2: weighted means of each image with its neighbour."""

    def _mix(self, images: Tensor, share: float) -> tuple[Tensor, float]:
        return images * share + images.roll(1, 0) * (1.0 - share), share


class CutMix(_Mixing):
    """v2: a window of its neighbour in each image."""

    def _mix(self, images: Tensor, share: float) -> tuple[Tensor, float]:
        H, W = images.shape[-2:]
        draw = draws()
        x, y = int(draw.integers(W)), int(draw.integers(H))
        half = 0.5 * math.sqrt(1.0 - share)
        half_w, half_h = int(half * W), int(half * H)
        left, top = max(x - half_w, 0), max(y - half_h, 0)
        right, bottom = min(x + half_w, W), min(y + half_h, H)
        mixed = images.clone()
        mixed[..., top:bottom, left:right] = images.roll(1, 0)[..., top:bottom, left:right]
        return mixed, 1.0 - (right - left) * (bottom - top) / (W * H)


__all__ = [
    "CenterCrop", "ColorJitter", "Compose", "ConvertImageDtype", "CutMix", "FiveCrop",
    "GaussianBlur", "Grayscale", "InterpolationMode", "Lambda", "LinearTransformation", "MixUp",
    "Normalize", "PILToTensor", "Pad", "RandomAdjustSharpness", "RandomAffine", "RandomApply",
    "RandomAutocontrast", "RandomChoice", "RandomCrop", "RandomEqualize", "RandomErasing",
    "RandomGrayscale", "RandomHorizontalFlip", "RandomInvert", "RandomOrder", "RandomPerspective",
    "RandomPosterize", "RandomResizedCrop", "RandomRotation", "RandomSolarize",
    "RandomVerticalFlip", "Resize", "TenCrop", "ToDtype", "ToImage", "ToPILImage", "ToTensor",
]  # fmt: skip
