"""Steps for single images as steps for batches, where both come to the same: a DataLoader then has
one kernel make a batch (data/transforms.py), instead of Python each of its images."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ..data import transforms as batches
from ..dtypes import float32, get_default_dtype
from .transforms import classes as single


def batched(transform: Any) -> batches.Compose | None:
    """What makes of a batch of bytes what `transform` makes of each image; None where nothing does.

    The same bits, except for where windows lie and which images are flipped: a batch draws that
    from (seed, epoch, sample), see data/transforms.py, and a single image from the default
    generator's next streams.
    """
    made: list[batches.Transform] = []
    state = "bytes"  # then "image", if it is made a float in two steps, "floats", "normalized"
    for step in _steps(transform):
        kind = type(step)
        if kind is single.RandomHorizontalFlip:
            made.append(batches.RandomHorizontalFlip(step.p))
        elif kind is single.RandomCrop:
            # A second window would show what the first has cut off; behind Normalize, 0 is no
            # black pixel.
            again = any(isinstance(other, batches.RandomCrop) for other in made)
            plain = step.fill == 0 and step.padding_mode == "constant" and not step.pad_if_needed
            if again or not plain or state == "normalized":
                return None
            made.append(batches.RandomCrop(step.size, step.padding))
        elif kind is single.ToTensor and state == "bytes":
            state = "floats"
        elif kind is single.ToImage and state == "bytes":
            state = "image"
        elif kind is single.ToDtype and state == "image" and step.scale and step.dtype == float32:
            state = "floats"
        elif kind is single.Normalize and state in ("floats", "normalized"):
            made.append(batches.Normalize(step.mean, step.std))
            state = "normalized"
        else:
            return None
    floats = state in ("floats", "normalized") and get_default_dtype() == float32
    return batches.Compose(made) if floats else None


def _steps(transform: Any) -> Iterator[Any]:
    if type(transform) is single.Compose:
        for step in transform.transforms:
            yield from _steps(step)
    else:
        yield transform
