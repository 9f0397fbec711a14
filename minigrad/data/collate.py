"""Collation: from a list of samples to a batch of tensors."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from ..device import CPU, Device, as_device
from ..dtypes import SUPPORTED, as_dtype, get_default_dtype, int64
from ..engine import Tensor
from ..errors import ShapeError
from ..ops.transfer import host, placed
from ..runtime import memory


def default_collate(samples: Sequence[Any], device: Device | str | None = None) -> Any:
    """Stack samples along a new first axis.

    Arrays and tensors of one shape become a Tensor of the same dtype (other integers become
    int64); Python ints int64, floats float32, bools bool. Tuples, lists and dicts are collated
    field by field; anything else, such as a string, stays a list.
    """
    first = samples[0]
    if isinstance(first, (tuple, list)):
        if any(len(sample) != len(first) for sample in samples):
            raise ShapeError("default_collate: samples must have the same number of fields, got "
                             f"{sorted({len(sample) for sample in samples})}")  # fmt: skip
        fields = [default_collate(field, device) for field in zip(*samples, strict=True)]
        if hasattr(first, "_fields"):
            return type(first)(*fields)
        return type(first)(fields)
    if isinstance(first, Mapping):
        return {key: default_collate([sample[key] for sample in samples], device) for key in first}
    numeric = isinstance(first, (np.ndarray, np.generic, Tensor, bool, int, float))
    if numeric and not isinstance(first, (str, bytes)):  # NumPy has strings of its own
        return _stack([host(s) if isinstance(s, Tensor) else s for s in samples], device)
    return list(samples)


def default_convert(sample: Any) -> Any:
    """Arrays and NumPy numbers in a sample as tensors; all else as it is."""
    if isinstance(sample, (np.ndarray, np.generic)) and sample.dtype in SUPPORTED:
        return Tensor(np.asarray(sample), CPU)
    return _each(default_convert, sample)


def moved(batch: Any, device: Device) -> Any:
    """The batch with its tensors on a device."""
    if isinstance(batch, Tensor):
        return batch.to(device)
    return _each(lambda part: moved(part, device), batch)


def _each(function: Callable[[Any], Any], value: Any) -> Any:
    """A container with the function's results for its parts; anything else itself."""
    if isinstance(value, Mapping):
        return {key: function(part) for key, part in value.items()}
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*map(function, value))
    if isinstance(value, (tuple, list)):
        return type(value)(map(function, value))
    return value


def _stack(values: list[Any], device: Device | str | None) -> Tensor:
    arrays = [np.asarray(value) for value in values]
    shapes = {array.shape for array in arrays}
    if len(shapes) > 1:
        raise ShapeError(
            f"default_collate: samples of one batch must have one shape, got {sorted(shapes)}; "
            "pass a collate_fn that pads them, or group them by size"
        )
    dtype = np.result_type(*{array.dtype for array in arrays})
    if dtype.kind in "iu" and dtype != np.uint8 and not (shapes != {()} and dtype in SUPPORTED):
        dtype = int64
    elif dtype.kind == "f" and not isinstance(values[0], (np.ndarray, np.generic)):
        dtype = get_default_dtype()
    stacked = memory.empty((len(arrays), *arrays[0].shape), as_dtype(dtype))
    for i, array in enumerate(arrays):
        stacked[i] = array
    target = as_device(device)
    return Tensor(placed(stacked, target), target)
