"""torchvision.transforms.functional: images of PIL by Pillow, tensors (…, C, H, W) by the same
formulas as torchvision's.

Colours and blurs of tensors are computed on the host in float32, and in integers are rounded or
cut off where torchvision does that. Source: torchvision 0.29.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from enum import Enum
from typing import Any

import numpy as np

from ...device import CPU
from ...dtypes import as_dtype, float32, get_default_dtype, is_floating
from ...engine import Tensor
from ...nn import functional as NF
from ...ops.transfer import host, placed

__all__ = [
    "InterpolationMode", "adjust_brightness", "adjust_contrast", "adjust_gamma", "adjust_hue",
    "adjust_saturation", "adjust_sharpness", "affine", "autocontrast", "center_crop",
    "convert_image_dtype", "crop", "equalize", "erase", "five_crop", "gaussian_blur",
    "get_dimensions", "get_image_num_channels", "get_image_size", "hflip", "invert", "normalize",
    "pad", "perspective", "pil_to_tensor", "posterize", "resize", "resized_crop",
    "rgb_to_grayscale", "rotate", "solarize", "ten_crop", "to_grayscale", "to_pil_image",
    "to_tensor", "vflip",
]  # fmt: skip

Fill = float | Sequence[float] | None


class InterpolationMode(Enum):
    """How pixels between pixels are found."""

    NEAREST = "nearest"
    NEAREST_EXACT = "nearest-exact"
    BILINEAR = "bilinear"
    BICUBIC = "bicubic"
    BOX = "box"
    HAMMING = "hamming"
    LANCZOS = "lanczos"


_PIL_NUMBERS = {"nearest": 0, "nearest-exact": 0, "lanczos": 1, "bilinear": 2, "bicubic": 3,
                "box": 4, "hamming": 5}  # fmt: skip


def _mode(interpolation: Any) -> str:
    """The name of an InterpolationMode; PIL's numbers are taken as well."""
    if isinstance(interpolation, InterpolationMode):
        return interpolation.value
    for name, number in _PIL_NUMBERS.items():
        if interpolation == number and name != "nearest-exact":
            return name
    raise TypeError(f"interpolation must be an InterpolationMode, got {interpolation!r}")


# Kinds of images ------------------------------------------------------------------------------


def is_pil(image: Any) -> bool:
    from PIL import Image

    return isinstance(image, Image.Image)


def _check(operation: str, image: Any) -> bool:
    """Whether it is an image of PIL; TypeError if it is no tensor either."""
    if isinstance(image, Tensor):
        if image.ndim < 2:
            raise TypeError(f"{operation}: an image has at least 2 axes, got {image.shape}")
        return False
    if is_pil(image):
        return True
    raise TypeError(f"{operation}: img should be PIL Image or Tensor, got {type(image).__name__}")


def get_dimensions(img: Any) -> list[int]:
    """[channels, height, width]."""
    if _check("get_dimensions", img):
        return [len(img.getbands()), img.height, img.width]
    return [img.shape[-3] if img.ndim > 2 else 1, *img.shape[-2:]]


def get_image_size(img: Any) -> list[int]:
    """[width, height]."""
    return get_dimensions(img)[:0:-1]


def get_image_num_channels(img: Any) -> int:
    return get_dimensions(img)[0]


def _like(array: np.ndarray, image: Tensor) -> Tensor:
    """A tensor of these values where the image is."""
    dense = np.ascontiguousarray(array)
    return Tensor(placed(dense, image.device), image.device)


def _largest(dtype: np.dtype) -> float:
    return 1.0 if is_floating(dtype) else float(np.iinfo(dtype).max)


# Conversions ----------------------------------------------------------------------------------

_NUMPY_OF_MODE = {"I": np.int32, "I;16": np.int16, "F": np.float32}


def _pixels(image: Any) -> np.ndarray:
    """(C, H, W)."""
    array = np.array(image, _NUMPY_OF_MODE.get(image.mode, np.uint8))
    if image.mode == "1":
        array *= 255
    if array.ndim == 2:
        array = array[:, :, None]
    return array.transpose(2, 0, 1)


def to_tensor(pic: Any) -> Tensor:
    """(C, H, W) of an image of PIL or an (H, W[, C]) array; bytes become floats from 0 to 1."""
    if isinstance(pic, np.ndarray):
        if pic.ndim not in (2, 3):
            raise ValueError(f"to_tensor: pic should have 2 or 3 axes, got {pic.ndim}")
        array = (pic[:, :, None] if pic.ndim == 2 else pic).transpose(2, 0, 1)
    elif is_pil(pic):
        array = _pixels(pic)
    else:
        raise TypeError(f"to_tensor: pic should be PIL Image or ndarray, got {type(pic).__name__}")
    if array.dtype == np.uint8:
        dtype = get_default_dtype()
        return Tensor(np.ascontiguousarray(array, dtype) / dtype.type(255), CPU)
    return Tensor(np.array(array, as_dtype(array.dtype), order="C"), CPU)


def pil_to_tensor(pic: Any) -> Tensor:
    """(C, H, W) of an image of PIL, of its own dtype."""
    if not is_pil(pic):
        raise TypeError(f"pil_to_tensor: pic should be PIL Image, got {type(pic).__name__}")
    array = np.asarray(pic)
    array = array[:, :, None] if array.ndim == 2 else array
    return Tensor(np.array(array.transpose(2, 0, 1), as_dtype(array.dtype), order="C"), CPU)


_MODES = {1: {"uint8": "L", "int16": "I;16", "int32": "I", "float32": "F"}, 2: {"uint8": "LA"},
          3: {"uint8": "RGB"}, 4: {"uint8": "RGBA"}}  # fmt: skip
_OTHER_MODES = {3: ("RGB", "YCbCr", "HSV"), 4: ("RGBA", "CMYK", "RGBX"), 2: ("LA",)}


def to_pil_image(pic: Any, mode: str | None = None) -> Any:
    """The image of PIL of a (C, H, W) tensor or an (H, W[, C]) array; floats from 0 to 1 become
    bytes."""
    from PIL import Image

    if isinstance(pic, Tensor):
        array = host(pic)
        array = array.transpose(1, 2, 0) if array.ndim == 3 else array
    elif isinstance(pic, np.ndarray):
        array = pic
    else:
        raise TypeError(f"to_pil_image: pic should be Tensor or ndarray, got {type(pic).__name__}")
    array = array[:, :, None] if array.ndim == 2 else array
    if array.ndim != 3 or array.shape[2] > 4:
        raise ValueError(
            f"to_pil_image: pic should have 2 or 3 axes and at most 4 channels, got {pic.shape}"
        )
    if array.dtype.kind == "f" and mode != "F":
        array = (array * 255).astype(np.uint8)
    channels = array.shape[2]
    usual = _MODES[channels].get(array.dtype.name)
    possible = _OTHER_MODES.get(channels, (usual,))
    if mode is not None and mode not in possible:
        raise ValueError(f"to_pil_image: mode should be one of {possible}, got {mode!r}")
    if usual is None and mode is None:
        raise TypeError(f"to_pil_image: {channels} channels of {array.dtype.name} are no image")
    chosen = mode or usual
    array = np.ascontiguousarray(array[:, :, 0] if channels == 1 else array)
    if chosen == usual and array.dtype != np.int16:  # of which Pillow makes "I"
        return Image.fromarray(array)
    return Image.frombytes(str(chosen), (array.shape[1], array.shape[0]), array.tobytes())


def convert_image_dtype(image: Tensor, dtype: Any = float32) -> Tensor:
    """The image in another dtype, its values scaled to that dtype's range."""
    source, target = image.dtype, as_dtype(dtype)
    if source == target:
        return image
    values = host(image)
    if is_floating(source):
        if is_floating(target):
            return image.to(target)
        bits = np.iinfo(target).bits
        if bits == 64 or (bits == 32 and source == float32):
            raise RuntimeError(f"convert_image_dtype: {source} holds no {target} exactly")
        # One ulp below, so that 1.0 is the largest number.
        scaled = values * values.dtype.type(np.iinfo(target).max + 1.0 - 1e-3)
        return _like(scaled.astype(target), image)
    if is_floating(target):
        return _like(values.astype(target) / target.type(_largest(source)), image)
    ratio = (int(_largest(source)) + 1) // (int(_largest(target)) + 1)
    if ratio > 1:
        return _like((values // ratio).astype(target), image)
    factor = (int(_largest(target)) + 1) // (int(_largest(source)) + 1)
    return _like(values.astype(target) * target.type(factor), image)


def normalize(
    tensor: Tensor, mean: Sequence[float], std: Sequence[float], inplace: bool = False
) -> Tensor:
    """(tensor − mean) / std, channel by channel, of a float tensor (…, C, H, W)."""
    if not isinstance(tensor, Tensor) or not is_floating(tensor.dtype):
        kind = tensor.dtype if isinstance(tensor, Tensor) else type(tensor).__name__
        raise TypeError(f"normalize: the image should be a float tensor, got {kind}")
    if tensor.ndim < 3:
        raise ValueError(f"normalize: expected (…, C, H, W), got {tensor.shape}")
    middle, scale = (np.asarray(v, tensor.dtype).reshape(-1, 1, 1) for v in (mean, std))
    if (scale == 0).any():
        raise ValueError(f"normalize: std must not be 0, got {std}")
    if any(len(v) not in (1, tensor.shape[-3]) for v in (middle, scale)):
        raise ValueError(
            f"normalize: {len(middle)} means and {len(scale)} stds for {tensor.shape[-3]} channels"
        )
    if not inplace and not tensor.requires_grad:
        return _like((host(tensor) - middle) / scale, tensor)
    result = tensor if inplace else tensor.clone()
    return result.sub_(_like(middle, tensor)).div_(_like(scale, tensor))


# Geometry -------------------------------------------------------------------------------------


def _resized_size(size: Any, height: int, width: int, max_size: int | None) -> tuple[int, int]:
    sides = [size] if isinstance(size, int) else [] if size is None else list(size)
    if len(sides) == 2:
        if max_size is not None:
            raise ValueError(f"resize: max_size goes with one size, got {tuple(sides)}")
        return int(sides[0]), int(sides[1])
    short, long = min(height, width), max(height, width)
    if not sides:
        if max_size is None:
            raise ValueError("resize: size or max_size is needed")
        new_long, new_short = max_size, int(max_size * short / long)
    else:
        new_short, new_long = sides[0], int(sides[0] * long / short)
        if max_size is not None:
            if max_size <= sides[0]:
                raise ValueError(f"resize: max_size {max_size} must be above size {sides[0]}")
            if new_long > max_size:
                new_short, new_long = int(max_size * new_short / new_long), max_size
    return (new_short, new_long) if height <= width else (new_long, new_short)


def resize(
    img: Any,
    size: Any,
    interpolation: Any = InterpolationMode.BILINEAR,
    max_size: int | None = None,
    antialias: bool | None = True,
) -> Any:
    """To (height, width), or so that the shorter side has `size`. Pillow always smooths where it
    shrinks; of tensors antialias tells."""
    pil, mode = _check("resize", img), _mode(interpolation)
    _, height, width = get_dimensions(img)
    new = _resized_size(size, height, width, max_size)
    if new == (height, width):
        return img
    if pil:
        return img.resize(new[::-1], _PIL_NUMBERS[mode])
    if mode not in ("nearest", "nearest-exact", "bilinear", "bicubic"):
        raise ValueError(f"resize: tensors are not resized by {mode}")
    smooth = bool(antialias) and mode in ("bilinear", "bicubic")
    return _by_floats(
        img, lambda x: NF.interpolate(x, new, mode=mode, antialias=smooth), exact="nearest" in mode
    )


def _by_floats(image: Tensor, function: Callable[[Tensor], Tensor], exact: bool = False) -> Tensor:
    """function of the (N, C, H, W) float image; integers are rounded again."""
    shape, dtype = image.shape, image.dtype
    work = image if is_floating(dtype) else image.to(float32)
    result = function(work.reshape(-1, *shape[-3:]) if image.ndim > 2 else work[None, None])
    result = result.reshape(*shape[:-2], *result.shape[-2:])
    if is_floating(dtype):
        return result
    if not exact:
        result = result.round().clamp(np.iinfo(dtype).min, np.iinfo(dtype).max)
    return result.to(dtype)


def _sides(padding: Any) -> tuple[int, int, int, int]:
    """(left, top, right, bottom)."""
    sides = (padding,) if isinstance(padding, int | np.integer) else tuple(padding)
    if len(sides) not in (1, 2, 4):
        raise ValueError(f"pad: padding must be 1, 2 or 4 numbers, got {padding!r}")
    left, top, right, bottom = (int(side) for side in sides * (4 // len(sides)))
    return left, top, right, bottom


_PAD_MODES = {"edge": "replicate", "reflect": "reflect", "constant": "constant"}


def pad(img: Any, padding: Any, fill: Any = 0, padding_mode: str = "constant") -> Any:
    """padding: one number, (left and right, top and bottom) or (left, top, right, bottom).
    padding_mode: constant, edge, reflect or symmetric."""
    if padding_mode not in (*_PAD_MODES, "symmetric"):
        raise ValueError(
            "pad: padding_mode should be constant, edge, reflect or symmetric, got "
            f"{padding_mode!r}"
        )
    left, top, right, bottom = _sides(padding)
    if _check("pad", img):
        from PIL import Image, ImageOps

        if padding_mode == "constant":
            return ImageOps.expand(img, (left, top, right, bottom), _pil_fill(fill, img))
        cut = [max(0, -side) for side in (left, top, right, bottom)]
        inner = img.crop((cut[0], cut[1], img.width - cut[2], img.height - cut[3]))
        array = np.asarray(inner)
        widths = [(max(0, top), max(0, bottom)), (max(0, left), max(0, right))]
        padded: Any = np.pad(array, widths + [(0, 0)] * (array.ndim - 2), padding_mode)  # type: ignore[call-overload]
        result = Image.fromarray(padded)
        if img.mode == "P":
            result.putpalette(img.getpalette())
        return result
    if padding_mode == "symmetric":
        H, W = img.shape[-2:]
        inner = host(img)[
            ..., max(0, -top) : H - max(0, -bottom), max(0, -left) : W - max(0, -right)
        ]
        widths = [(max(0, top), max(0, bottom)), (max(0, left), max(0, right))]
        return _like(np.pad(inner, [(0, 0)] * (img.ndim - 2) + widths, "symmetric"), img)
    value = fill if padding_mode == "constant" else 0
    if isinstance(value, Sequence):
        if len(value) == 1:
            value = value[0]
        else:
            channels = [pad(img[..., c : c + 1, :, :], padding, v) for c, v in enumerate(value)]
            return _joined(channels)
    sides = (left, right, top, bottom)
    if img.ndim < 3:
        return pad(img[None], padding, fill, padding_mode)[0]
    shape = img.shape
    work = img if padding_mode == "constant" or is_floating(img.dtype) else img.to(float32)
    images = work.reshape(math.prod(shape[:-3]), *shape[-3:])
    padded_tensor = NF.pad(images, sides, _PAD_MODES[padding_mode], value or 0)
    return padded_tensor.reshape(*shape[:-2], *padded_tensor.shape[-2:]).to(img.dtype)


def _joined(parts: list[Tensor]) -> Tensor:
    from ...ops.join import cat

    return cat(parts, dim=-3)


def crop(img: Any, top: int, left: int, height: int, width: int) -> Any:
    """The window of height × width whose corner is at (top, left); zeros outside the image."""
    if _check("crop", img):
        return img.crop((left, top, left + width, top + height))
    H, W = img.shape[-2:]
    bottom, right = top + height, left + width
    inside = img[..., max(top, 0) : max(bottom, 0), max(left, 0) : max(right, 0)]
    if left >= 0 and top >= 0 and right <= W and bottom <= H:
        return inside
    missing = (
        max(min(right, 0) - left, 0), max(min(bottom, 0) - top, 0), max(right - max(left, W), 0),
        max(bottom - max(top, H), 0),
    )  # fmt: skip
    return pad(inside, missing)


def center_crop(img: Any, output_size: Any) -> Any:
    """The middle of the image; zeros beyond it."""
    sides = (output_size,) if isinstance(output_size, int) else tuple(output_size)
    h, w = sides if len(sides) == 2 else sides * 2
    _, H, W = get_dimensions(img)
    if w > W or h > H:
        padding = [
            (w - W) // 2 if w > W else 0, (h - H) // 2 if h > H else 0,
            (w - W + 1) // 2 if w > W else 0, (h - H + 1) // 2 if h > H else 0,
        ]  # fmt: skip
        img = pad(img, padding, 0)
        _, H, W = get_dimensions(img)
        if (h, w) == (H, W):
            return img
    # Halves are rounded to even, as Python rounds.
    return crop(img, round((H - h) / 2.0), round((W - w) / 2.0), h, w)


def resized_crop(
    img: Any,
    top: int,
    left: int,
    height: int,
    width: int,
    size: Any,
    interpolation: Any = InterpolationMode.BILINEAR,
    antialias: bool | None = True,
) -> Any:
    """A window, resized."""
    return resize(crop(img, top, left, height, width), size, interpolation, antialias=antialias)


def hflip(img: Any) -> Any:
    """Left and right exchanged."""
    if _check("hflip", img):
        return img.transpose(0)
    return img.flip(-1)


def vflip(img: Any) -> Any:
    """Top and bottom exchanged."""
    if _check("vflip", img):
        return img.transpose(1)
    return img.flip(-2)


def five_crop(img: Any, size: Any) -> tuple[Any, ...]:
    """Top left, top right, bottom left, bottom right and centre."""
    h, w = (size, size) if isinstance(size, int) else tuple(size) * (3 - len(size))
    _, H, W = get_dimensions(img)
    if w > W or h > H:
        raise ValueError(f"five_crop: windows of {(h, w)} are larger than the image of {(H, W)}")
    corners = [(0, 0), (0, W - w), (H - h, 0), (H - h, W - w)]
    return (*(crop(img, top, left, h, w) for top, left in corners), center_crop(img, (h, w)))


def ten_crop(img: Any, size: Any, vertical_flip: bool = False) -> tuple[Any, ...]:
    """Five windows of the image and of its mirror image."""
    return five_crop(img, size) + five_crop((vflip if vertical_flip else hflip)(img), size)


def _pil_fill(fill: Fill, image: Any) -> Any:
    count = len(image.getbands())
    values = [0] if fill is None else list(fill) if isinstance(fill, Sequence) else [fill]
    if len(values) not in (1, count):
        raise ValueError(f"fill has {len(values)} values for an image of {count} channels")
    values = values * (count // len(values))
    if image.mode != "F":
        values = [int(v) for v in values]
    return values[0] if count == 1 else tuple(values)


def _inverse_matrix(
    center: Sequence[float], angle: float, translate: Sequence[float], scale: float,
    shear: Sequence[float],
) -> list[float]:  # fmt: skip
    """The two rows that map output to input: rotated, scaled, sheared about the centre, moved."""
    rotation, along_x, along_y = (math.radians(v) for v in (angle, *shear))
    a = math.cos(rotation - along_y) / math.cos(along_y)
    # In torchvision's order: an ulp decides whether a pixel at the border is inside.
    tangent = math.tan(along_x)
    b = -math.cos(rotation - along_y) * tangent / math.cos(along_y) - math.sin(rotation)
    c = math.sin(rotation - along_y) / math.cos(along_y)
    d = -math.sin(rotation - along_y) * tangent / math.cos(along_y) + math.cos(rotation)
    (cx, cy), (tx, ty) = center, translate
    rows = [d / scale, -b / scale, 0.0, -c / scale, a / scale, 0.0]
    rows[2] = rows[0] * (-cx - tx) + rows[1] * (-cy - ty) + cx
    rows[5] = rows[3] * (-cx - tx) + rows[4] * (-cy - ty) + cy
    return rows


def affine(
    img: Any,
    angle: float,
    translate: Sequence[float],
    scale: float,
    shear: Any,
    interpolation: Any = InterpolationMode.NEAREST,
    fill: Fill = None,
    center: Sequence[float] | None = None,
) -> Any:
    """Rotate clockwise by degrees, scale and shear about the centre, move.

    shear: degrees along x, or (x, y); a sequence of one is both, as torchvision has it."""
    if scale <= 0:
        raise ValueError(f"affine: scale should be positive, got {scale}")
    shears = [shear, 0.0] if isinstance(shear, int | float) else [*shear]
    if len(shears) not in (1, 2):
        raise ValueError(f"affine: shear must be one number or two, got {shear}")
    shears = [float(degrees) for degrees in (shears[0], shears[-1])]
    _, H, W = get_dimensions(img)
    pil, mode = _check("affine", img), _mode(interpolation)
    if pil:
        middle = (W * 0.5, H * 0.5) if center is None else center
        matrix = _inverse_matrix(middle, angle, translate, scale, shears)
        return img.transform(
            img.size, 0, matrix, _PIL_NUMBERS[mode], fillcolor=_pil_fill(fill, img)
        )
    moved = (0.0, 0.0) if center is None else (center[0] - W * 0.5, center[1] - H * 0.5)
    matrix = _inverse_matrix(moved, angle, translate, scale, shears)
    return _sampled(img, _affine_grid(matrix, (H, W), (H, W), img.dtype), mode, fill)


def rotate(
    img: Any,
    angle: float,
    interpolation: Any = InterpolationMode.NEAREST,
    expand: bool = False,
    center: Sequence[float] | None = None,
    fill: Fill = None,
) -> Any:
    """Counter-clockwise by degrees. expand: make the result large enough for all of the image."""
    pil, mode = _check("rotate", img), _mode(interpolation)
    if pil:
        return img.rotate(angle, _PIL_NUMBERS[mode], expand, center, fillcolor=_pil_fill(fill, img))
    _, H, W = get_dimensions(img)
    moved = (0.0, 0.0) if center is None else (center[0] - W * 0.5, center[1] - H * 0.5)
    # The matrix maps output to input, so the angle is the other way round.
    matrix = _inverse_matrix(moved, -angle, (0.0, 0.0), 1.0, (0.0, 0.0))
    size = _expanded(matrix, H, W) if expand else (H, W)
    return _sampled(img, _affine_grid(matrix, (H, W), size, img.dtype), mode, fill)


def _expanded(matrix: list[float], H: int, W: int) -> tuple[int, int]:
    """The size of what the corners of the image span."""
    x, y = W * 0.5, H * 0.5
    corners = np.array([[-x, -y, 1.0], [-x, y, 1.0], [x, y, 1.0], [x, -y, 1.0]], np.float32)
    placed_corners = corners @ np.array(matrix, np.float32).reshape(2, 3).T
    middle = np.array([x, y], np.float32)
    low, high = placed_corners.min(0) + middle, placed_corners.max(0) + middle
    # Without what rounding left of 0.
    step = np.float32(1e-4)
    low, high = (np.trunc(v / step) * step for v in (low, high))
    width, height = np.ceil(high) - np.floor(low)
    return int(height), int(width)


def _affine_grid(
    matrix: list[float], size: tuple[int, int], out_size: tuple[int, int], dtype: np.dtype
) -> np.ndarray:
    """(H_out, W_out, 2): where each pixel of the result lies in the image, from −1 to 1."""
    (H, W), (oh, ow) = size, out_size
    work = dtype if is_floating(dtype) else np.dtype(np.float32)
    x = np.linspace(-ow * 0.5 + 0.5, ow * 0.5 + 0.5 - 1, ow, dtype=np.float32).astype(work)
    y = np.linspace(-oh * 0.5 + 0.5, oh * 0.5 + 0.5 - 1, oh, dtype=np.float32).astype(work)
    theta = np.array(matrix, work).reshape(2, 3).T / np.array([0.5 * W, 0.5 * H], work)
    return np.stack([_linear(x, y, *row) for row in theta.T], axis=-1)


def _linear(x: np.ndarray, y: np.ndarray, a: float, b: float, c: float) -> np.ndarray:
    """(H, W): a·x + b·y + c, rounded once as by fused multiply-adds."""
    return (x * np.float64(a) + y[:, None] * np.float64(b) + c).astype(x.dtype)


def _sampled(image: Tensor, grid: np.ndarray, mode: str, fill: Fill) -> Tensor:
    """The image at the grid's places; `fill` outside."""
    if mode not in ("nearest", "bilinear"):
        raise ValueError(f"tensors are sampled by nearest or bilinear, not by {mode}")

    def sample(x: Tensor) -> Tensor:
        N = x.shape[0]
        places = _like(np.broadcast_to(grid.astype(x.dtype), (N, *grid.shape)), x)
        result = NF.grid_sample(x, places, mode, "zeros", False)
        if fill is None:
            return result
        inside = NF.grid_sample(_like(np.ones((N, 1, *x.shape[2:]), x.dtype), x), places, mode,
                                "zeros", False)  # fmt: skip
        values = np.asarray(fill, x.dtype).reshape(1, -1, 1, 1)
        if mode == "nearest":
            inside = (inside >= 0.5).to(x.dtype)
        return result * inside + (1.0 - inside) * _like(values, x)

    return _by_floats(image, sample)


def _perspective_coefficients(
    startpoints: Sequence[Sequence[float]], endpoints: Sequence[Sequence[float]]
) -> list[float]:
    """a … h of x' = (a x + b y + c) / (g x + h y + 1), y' = (d x + e y + f) / (…), which takes the
    endpoints to the startpoints."""
    rows, right = [], []
    for (x, y), (u, v) in zip(endpoints, startpoints, strict=True):
        rows += [[x, y, 1, 0, 0, 0, -u * x, -u * y], [0, 0, 0, x, y, 1, -v * x, -v * y]]
        right += [u, v]
    solution = np.linalg.lstsq(np.array(rows, float), np.array(right, float), rcond=None)[0]
    return solution.astype(np.float32).tolist()


def perspective(
    img: Any,
    startpoints: Sequence[Sequence[int]],
    endpoints: Sequence[Sequence[int]],
    interpolation: Any = InterpolationMode.BILINEAR,
    fill: Fill = None,
) -> Any:
    """The corners (x, y) startpoints are moved to endpoints."""
    coefficients = _perspective_coefficients(startpoints, endpoints)
    pil, mode = _check("perspective", img), _mode(interpolation)
    if pil:
        return img.transform(
            img.size, 2, coefficients, _PIL_NUMBERS[mode], fillcolor=_pil_fill(fill, img)
        )
    _, H, W = get_dimensions(img)
    work = img.dtype if is_floating(img.dtype) else np.dtype(np.float32)
    x, y = (np.arange(side, dtype=work) + work.type(0.5) for side in (W, H))
    rows = np.array([*coefficients, 1.0], work).reshape(3, 3)
    scale = np.array([[0.5 * W], [0.5 * H], [1.0]], work)
    across, down, below = (_linear(x, y, *row) for row in rows / scale)
    grid = np.stack([across / below, down / below], -1) - work.type(1)
    return _sampled(img, grid, mode, fill)


def erase(img: Any, i: int, j: int, h: int, w: int, v: Any, inplace: bool = False) -> Any:
    """The tensor with v in the window of h × w at (i, j)."""
    if not isinstance(img, Tensor):
        raise TypeError(f"erase: img should be a tensor, got {type(img).__name__}")
    result = img if inplace else img.clone()
    result[..., i : i + h, j : j + w] = v
    return result


# Colours --------------------------------------------------------------------------------------


def _blend(image: Tensor, values: np.ndarray, other: Any, ratio: float) -> Tensor:
    """ratio · image + (1 − ratio) · other, within the dtype's range."""
    work = np.float32 if not is_floating(image.dtype) else values.dtype
    mixed = np.multiply(values, ratio, dtype=work) + np.multiply(other, 1.0 - ratio, dtype=work)
    return _like(mixed.clip(0, _largest(image.dtype)).astype(image.dtype), image)


def _grey(values: np.ndarray) -> np.ndarray:
    """(…, 1, H, W) of the image's own dtype."""
    if values.shape[-3] not in (1, 3):
        raise TypeError(f"an image of 1 or 3 channels is needed, got {values.shape[-3]}")
    if values.shape[-3] == 1:
        return values
    work = values.dtype if values.dtype.kind == "f" else np.dtype(np.float32)
    r, g, b = (values[..., c : c + 1, :, :].astype(work) for c in range(3))
    weights = (work.type(w) for w in (0.2989, 0.587, 0.114))
    red, green, blue = (c * w for c, w in zip((r, g, b), weights, strict=True))
    return (red + green + blue).astype(values.dtype)


def _enhanced(name: str, image: Any, factor: float) -> Any:
    from PIL import ImageEnhance

    return getattr(ImageEnhance, name)(image).enhance(factor)


def _check_factor(name: str, factor: float) -> None:
    if factor < 0:
        raise ValueError(f"{name}: the factor must not be negative, got {factor}")


def adjust_brightness(img: Any, brightness_factor: float) -> Any:
    """0: black, 1: as it is, 2: twice as bright."""
    _check_factor("adjust_brightness", brightness_factor)
    if _check("adjust_brightness", img):
        return _enhanced("Brightness", img, brightness_factor)
    return _blend(img, host(img), 0.0, brightness_factor)


def adjust_contrast(img: Any, contrast_factor: float) -> Any:
    """0: grey, 1: as it is, 2: twice the contrast."""
    _check_factor("adjust_contrast", contrast_factor)
    if _check("adjust_contrast", img):
        return _enhanced("Contrast", img, contrast_factor)
    values = host(img)
    work = values.dtype if values.dtype.kind == "f" else np.dtype(np.float32)
    mean = _grey(values).astype(work).mean((-3, -2, -1), keepdims=True)
    return _blend(img, values, mean, contrast_factor)


def adjust_saturation(img: Any, saturation_factor: float) -> Any:
    """0: grey, 1: as it is, 2: twice the saturation."""
    _check_factor("adjust_saturation", saturation_factor)
    if _check("adjust_saturation", img):
        return _enhanced("Color", img, saturation_factor)
    values = host(img)
    if values.shape[-3] == 1:
        return img
    return _blend(img, values, _grey(values), saturation_factor)


def adjust_hue(img: Any, hue_factor: float) -> Any:
    """The hue turned by a share from −0.5 to 0.5 of the circle."""
    if not -0.5 <= hue_factor <= 0.5:
        raise ValueError(f"adjust_hue: hue_factor must be in [-0.5, 0.5], got {hue_factor}")
    if _check("adjust_hue", img):
        from PIL import Image

        if img.mode in ("L", "1", "I", "F"):
            return img
        h, s, v = img.convert("HSV").split()
        # Bytes wrap around, as the hue does.
        turned = np.asarray(h) + np.array(int(hue_factor * 255) % 256, np.uint8)
        return Image.merge("HSV", (Image.fromarray(turned), s, v)).convert(img.mode)
    if img.shape[-3] == 1:
        return img
    floats = convert_image_dtype(img, float32) if not is_floating(img.dtype) else img
    h, s, v = _hsv(host(floats))
    turned = _rgb((h + floats.dtype.type(hue_factor)) % 1.0, s, v)
    return convert_image_dtype(_like(turned.astype(floats.dtype), img), img.dtype)


def _hsv(values: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    r, g, b = (values[..., c, :, :] for c in range(3))
    high, low = values.max(-3), values.min(-3)
    span = high - low
    grey = span == 0
    saturation = span / np.where(grey, 1, high)
    rc, gc, bc = ((high - c) / np.where(grey, 1, span) for c in (r, g, b))
    hue = (
        (high == r) * (bc - gc)
        + ((high == g) & (high != r)) * (2.0 + rc - bc)
        + ((high != g) & (high != r)) * (4.0 + gc - rc)
    )
    return np.fmod(hue / 6.0 + 1.0, 1.0).astype(values.dtype), saturation, high


def _rgb(h: np.ndarray, s: np.ndarray, v: np.ndarray) -> np.ndarray:
    sector = np.floor(h * 6.0)
    f = h * 6.0 - sector
    p = np.clip(v * (1.0 - s), 0.0, 1.0)
    q = np.clip(v * (1.0 - s * f), 0.0, 1.0)
    t = np.clip(v * (1.0 - s * (1.0 - f)), 0.0, 1.0)
    number = sector.astype(np.int32) % 6
    return np.stack(
        [
            np.choose(number, [v, q, p, p, t, v]),
            np.choose(number, [t, v, v, q, p, p]),
            np.choose(number, [p, p, t, v, v, q]),
        ],
        axis=-3,
    )


def adjust_gamma(img: Any, gamma: float, gain: float = 1) -> Any:
    """gain · value^gamma, of values from 0 to 1."""
    if gamma < 0:
        raise ValueError(f"adjust_gamma: gamma must not be negative, got {gamma}")
    if _check("adjust_gamma", img):
        table = [int((255 + 1 - 1e-3) * gain * pow(v / 255.0, gamma)) for v in range(256)] * 3
        return img.convert("RGB").point(table).convert(img.mode)
    floats = img if is_floating(img.dtype) else convert_image_dtype(img, float32)
    result = (gain * host(floats) ** floats.dtype.type(gamma)).clip(0, 1).astype(floats.dtype)
    return convert_image_dtype(_like(result, img), img.dtype)


def adjust_sharpness(img: Any, sharpness_factor: float) -> Any:
    """0: blurred, 1: as it is, 2: sharpened."""
    _check_factor("adjust_sharpness", sharpness_factor)
    if _check("adjust_sharpness", img):
        return _enhanced("Sharpness", img, sharpness_factor)
    if min(img.shape[-2:]) <= 2:
        return img
    values = host(img)
    work = values if values.dtype.kind == "f" else values.astype(np.float32)
    H, W = work.shape[-2:]
    weights = np.ones((3, 3), work.dtype)
    weights[1, 1] = 5
    weights /= weights.sum()
    inner = sum(
        weights[i, j] * work[..., i : H - 2 + i, j : W - 2 + j] for i in range(3) for j in range(3)
    )
    blurred = work.copy()
    blurred[..., 1:-1, 1:-1] = inner if values.dtype.kind == "f" else np.round(inner)
    return _blend(img, values, blurred, sharpness_factor)


def rgb_to_grayscale(img: Any, num_output_channels: int = 1) -> Any:
    """In shades of grey, of 1 or 3 channels."""
    if num_output_channels not in (1, 3):
        raise ValueError(
            f"rgb_to_grayscale: num_output_channels must be 1 or 3, got {num_output_channels}"
        )
    if _check("rgb_to_grayscale", img):
        from PIL import Image

        grey = img.convert("L")
        return grey if num_output_channels == 1 else Image.merge("RGB", (grey,) * 3)
    grey = _grey(host(img))
    return _like(np.repeat(grey, num_output_channels, -3), img)


to_grayscale = rgb_to_grayscale


def _pil_operation(name: str, image: Any, *arguments: Any) -> Any:
    from PIL import ImageOps

    return getattr(ImageOps, name)(image, *arguments)


def invert(img: Any) -> Any:
    """The negative."""
    if _check("invert", img):
        return _pil_operation("invert", img)
    bound = img.dtype.type(_largest(img.dtype))
    return _like(bound - host(img), img)


def posterize(img: Any, bits: int) -> Any:
    """The highest `bits` bits of each byte."""
    if _check("posterize", img):
        return _pil_operation("posterize", img, bits)
    if img.dtype != np.uint8:
        raise TypeError(f"posterize: only uint8 images have bits, got {img.dtype}")
    return _like(host(img) & np.uint8(256 - 2 ** (8 - bits)), img)


def solarize(img: Any, threshold: float) -> Any:
    """The negative of what is not below the threshold."""
    if _check("solarize", img):
        return _pil_operation("solarize", img, threshold)
    if threshold > _largest(img.dtype):
        raise TypeError(f"solarize: threshold {threshold} is above all of {img.dtype}")
    values = host(img)
    return _like(np.where(values >= threshold, host(invert(img)), values), img)


def autocontrast(img: Any) -> Any:
    """Each channel stretched from the darkest to the brightest value."""
    if _check("autocontrast", img):
        return _pil_operation("autocontrast", img)
    values = host(img)
    work = values.dtype if values.dtype.kind == "f" else np.dtype(np.float32)
    low, high = (f((-2, -1), keepdims=True).astype(work) for f in (values.min, values.max))
    bound = work.type(_largest(img.dtype))
    flat = low == high
    # By the reciprocal, as torch divides a number by a tensor.
    scale = np.where(flat, 1, bound * (work.type(1) / np.where(flat, 1, high - low))).astype(work)
    stretched = (values.astype(work) - np.where(flat, 0, low)) * scale
    return _like(stretched.clip(0, bound).astype(img.dtype), img)


def equalize(img: Any) -> Any:
    """Each channel's values spread so that all are about as frequent."""
    if _check("equalize", img):
        return _pil_operation("equalize", img)
    if img.dtype != np.uint8:
        raise TypeError(f"equalize: only uint8 images are equalised, got {img.dtype}")
    values = host(img).reshape(-1, *img.shape[-2:])
    result = values.copy()
    for plane, out in zip(values, result, strict=True):
        counts = np.bincount(plane.ravel(), minlength=256)
        step = (counts.sum() - counts[np.flatnonzero(counts)[-1]]) // 255
        if step:
            table = (np.concatenate([[0], np.cumsum(counts)[:-1]]) + step // 2) // step
            out[:] = table.clip(0, 255).astype(np.uint8)[plane]
    return _like(result.reshape(img.shape), img)


def gaussian_blur(img: Any, kernel_size: Any, sigma: Any = None) -> Any:
    """Blurred by a Gaussian of kernel_size (x, y) pixels, odd numbers, and deviations sigma."""
    sizes = [kernel_size] * 2 if isinstance(kernel_size, int) else [*kernel_size]
    if len(sizes) != 2 or any(size % 2 == 0 or size < 1 for size in sizes):
        raise ValueError(f"gaussian_blur: kernel_size must be odd numbers, got {kernel_size}")
    if sigma is None:
        sigmas = [size * 0.15 + 0.35 for size in sizes]
    else:
        sigmas = (
            [float(sigma)] * 2 if isinstance(sigma, int | float) else [*sigma] * (3 - len(sigma))
        )
    if any(s <= 0 for s in sigmas):
        raise ValueError(f"gaussian_blur: sigma must be positive, got {sigma}")
    if _check("gaussian_blur", img):
        return to_pil_image(gaussian_blur(pil_to_tensor(img), sizes, sigmas), img.mode)
    values = host(img)
    if any(size // 2 >= side for size, side in zip(sizes, img.shape[:-3:-1], strict=True)):
        raise ValueError(f"gaussian_blur: kernel_size {sizes} is too large for {img.shape}")
    work = values if values.dtype.kind == "f" else values.astype(np.float32)
    for axis, size, deviation in ((-1, sizes[0], sigmas[0]), (-2, sizes[1], sigmas[1])):
        places = np.linspace(-(size - 1) * 0.5, (size - 1) * 0.5, size, dtype=work.dtype)
        weights = np.exp(-0.5 * (places / work.dtype.type(deviation)) ** 2)
        weights /= weights.sum()
        widths = [(0, 0)] * work.ndim
        widths[axis] = (size // 2, size // 2)
        padded = np.pad(work, widths, "reflect")
        length = work.shape[axis]
        index: list[Any] = [slice(None)] * work.ndim
        parts = []
        for k in range(size):
            index[axis] = slice(k, k + length)
            parts.append(weights[k] * padded[tuple(index)])
        work = sum(parts[1:], parts[0])
    return _like(work if values.dtype.kind == "f" else np.round(work).astype(img.dtype), img)
